"""Waiting for the voucher of an order that is paid: looking at the order page now and then."""

from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings

from automation import errors
from automation.session import BrowserSession
from automation.vouchers import portal
from automation.vouchers.states import Order
from jobs.context import StepContext
from jobs.errors import Becomes, BusinessError
from jobs.models import Step
from jobs.plans import Done, Outcome, Postpone
from payments import recording
from payments.models import Transaction, VoucherCode
from payments.steps.outcomes import voucher_step
from payments.steps.payment import read_now
from payments.steps.redeeming import Issue, decide_issue, decide_issue_delay
from payments.steps.rows import get_transaction, money_of, portal_desk


@voucher_step("wait_for_vouchers", time_limit=timedelta(seconds=180))
def wait_for_vouchers(context: StepContext) -> Outcome:
    row = get_transaction(context)
    if voucher := VoucherCode.objects.filter(transaction=row).first():
        return Done(_describe(voucher))
    age = read_now() - _waiting_since(context, row)
    try:
        order = _read_order(context, row)
    except errors.RateLimited:
        raise
    except errors.SiteTrouble as trouble:
        if age >= settings.VOUCHER_PATIENCE:
            raise
        # It is paid, and a portal that is away will be back.
        return Postpone(decide_issue_delay(age), f"{trouble} Looking again soon.")
    match decide_issue(order, age, settings.VOUCHER_PATIENCE):
        case Issue.TAKE:
            return Done(_describe(_record(row, order)))
        case Issue.LOOK_LATER:
            reason = f"Waiting for the voucher of order {row.order}; looking again soon."
            return Postpone(decide_issue_delay(age), reason)
        case Issue.FAILED:
            sentence = (
                f"Order {row.order} was paid ({money_of(row)}), and the portal says that it has "
                "failed. Ask the portal for the voucher or for the money, then have the job go on."
            )
            recording.record_trouble(row.pk, "order_failed", sentence)
            raise BusinessError("order_failed", sentence, Becomes.MANUAL)
        case Issue.OVERDUE:
            minutes = round(settings.VOUCHER_PATIENCE / timedelta(minutes=1))
            sentence = (
                f"Order {row.order} was paid ({money_of(row)}), and no voucher came within "
                f"{minutes} minutes. Ask the portal for it, then have the job go on: it looks at "
                "the order again."
            )
            recording.record_trouble(row.pk, "voucher_not_issued", sentence)
            raise BusinessError("voucher_not_issued", sentence, Becomes.MANUAL)


def _read_order(context: StepContext, row: Transaction) -> Order | None:
    desk = portal_desk(context, row.purchase)

    async def read(session: BrowserSession) -> tuple[Order, ...]:
        return await portal.read_orders(session, desk.site, wanted=(row.order,))

    return next((each for each in desk.visit(read) if each.order == row.order), None)


def _waiting_since(context: StepContext, row: Transaction) -> datetime:
    """Since it was paid, or since a person has had the step go on."""
    reset_at = Step.objects.values_list("reset_at", flat=True).get(pk=context.claim.id)
    known = [each for each in (row.paid_at, reset_at) if each is not None]
    return max(known, default=read_now())


def _record(row: Transaction, order: Order | None) -> VoucherCode:
    assert order is not None
    assert order.voucher is not None
    return recording.record_voucher(
        row.pk,
        code=order.voucher.code,
        pin=order.voucher.pin,
        amount=Decimal(order.voucher.amount),
        expires_on=order.voucher.expires,
    )


def _describe(voucher: VoucherCode) -> dict[str, str]:
    return {"voucher": str(voucher.pk), "tail": voucher.tail, "amount": str(voucher.amount)}

"""The voucher workflows with toy steps: the plan's names and weights, and nothing that is done."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any

from django.utils import timezone

from jobs.context import StepContext
from jobs.otp.requests import otp
from jobs.plans import Chain, Done, HandlerFunction, Outcome, StepPlan, WaitFor, Workflow
from payments import recording
from payments.following import follow_job
from payments.models import Transaction, VoucherCode, VoucherPurchase
from payments.purchases import VOUCHER_PURCHASE, VOUCHER_REDEEM
from tests.jobs.workflows import BEHAVIOURS


def purchase_workflow() -> Workflow:
    return Workflow(VOUCHER_PURCHASE, 1, plan_purchase, on_change=follow_job)


def redeem_workflow() -> Workflow:
    return Workflow(VOUCHER_REDEEM, 1, lambda params: [[step("redeem_voucher")]])


def plan_purchase(params: Mapping[str, Any]) -> Chain:
    numbers = range(1, params["qty"] + 1)
    return [
        [step("inventory_check")],
        [step("gyftr_login"), step("amazon_login")],
        [step("availability_check")],
        [step(f"generate_payment_link_{n}") for n in numbers],
        *[
            [step(f"{name}_{n}")]
            for n in numbers
            for name in ("process_payment", "wait_for_vouchers", "redeem_amazon_vouchers")
        ],
        [step("summary")],
    ]


def step(name: str) -> StepPlan:
    return StepPlan(name, name.replace("_", " ").capitalize(), "toy.step")


def behave(purchase: VoucherPurchase, **instead: HandlerFunction) -> None:
    """Has the toy steps do what the real ones tell us: each transaction is paid, issued and
    redeemed. `instead`: other behaviours, by step name."""
    for row in purchase.transactions.all():
        BEHAVIOURS.update(
            {
                f"generate_payment_link_{row.index}": telling(make_link, row),
                f"process_payment_{row.index}": telling(pay, row),
                f"wait_for_vouchers_{row.index}": telling(issue, row),
                f"redeem_amazon_vouchers_{row.index}": telling(redeem, row),
            }
        )
    BEHAVIOURS.update(instead)


def telling(tell: Callable[[Transaction], None], row: Transaction) -> HandlerFunction:
    def run(context: StepContext) -> Done:
        tell(row)
        return Done()

    return run


def make_link(row: Transaction) -> None:
    expires_at = timezone.now() + timedelta(minutes=30)
    url = f"https://pay.example/{row.reference}"
    recording.record_link(row.pk, url=url, order=f"GY-104{row.index}", expires_at=expires_at)


def pay(row: Transaction) -> None:
    recording.record_paying(row.pk)
    recording.record_paid(row.pk, payment_reference=f"AX7712{row.index}")


def issue(row: Transaction) -> None:
    code = f"CODE-OF-VOUCHER-{row.index}Q2K"
    recording.record_voucher(
        row.pk, code=code, pin="4821", amount=row.amount, expires_on=date(2027, 11, 30)
    )


def redeem(row: Transaction) -> None:
    recording.record_redeemed(VoucherCode.objects.get(transaction=row).pk)


def awaiting_code(name: str, otp_type: str, then: HandlerFunction, **asked: Any) -> HandlerFunction:
    """Asks for a code, and once it is there does `then`."""

    def run(context: StepContext) -> Outcome:
        if context.find_code(name) is None:
            context.progress(50, "Waiting for the code")
            wait = otp(name, otp_type=otp_type, **asked)
            return WaitFor([wait], "Waits for the code.")
        context.accept_code(name)
        return then(context)

    return run


def failing(error: Exception) -> HandlerFunction:
    def run(context: StepContext) -> Outcome:
        raise error

    return run

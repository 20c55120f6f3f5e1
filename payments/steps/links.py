"""The limit probe: one payment link for each transaction, all of them made side by side.

A portal that refuses one link ends the purchase before anything is paid. Links cost nothing; those
that were made by then stay recorded until they expire.
"""

from datetime import timedelta

from django.utils import timezone

from automation.session import BrowserSession
from automation.vouchers import portal
from automation.vouchers.states import PaymentLink
from jobs.context import StepContext
from jobs.models import Effect
from jobs.plans import Done, Outcome
from payments import recording
from payments.models import Transaction
from payments.steps.outcomes import voucher_step
from payments.steps.payment import find_payment
from payments.steps.rows import PAID, get_transaction, portal_desk


@voucher_step("generate_payment_link", time_limit=timedelta(seconds=180))
def generate_payment_link(context: StepContext) -> Outcome:
    row = get_transaction(context)
    if not _needs_link(row):
        return Done({"order": row.order})
    desk = portal_desk(context, row.purchase)

    async def create(session: BrowserSession) -> PaymentLink:
        return await portal.create_link(session, desk.site, int(row.amount), row.reference)

    # Not broken off when the job ends: a link that a rival's limit has overtaken is recorded too.
    link = desk.visit(create, may_stop=False)
    recording.record_link(row.pk, url=link.url, order=link.order, expires_at=link.expires_at)
    return Done({"order": link.order})


def _needs_link(row: Transaction) -> bool:
    """Not one that is paid, may be paid, or has a link that is still good."""
    payment = find_payment(row)
    if row.status in PAID or (payment and payment.status != Effect.Status.ABSENT):
        return False
    expires_at = row.link_expires_at
    return not row.link or (expires_at is not None and expires_at <= timezone.now())

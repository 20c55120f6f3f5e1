"""The end of a purchase: what became of all of it, in one sentence and in sums."""

from datetime import timedelta

from jobs.context import StepContext
from jobs.plans import Done, Outcome
from payments.steps.outcomes import voucher_step
from payments.steps.rows import get_purchase
from payments.summary import describe_summary, read_summary


@voucher_step("summary", time_limit=timedelta(seconds=30))
def summary(context: StepContext) -> Outcome:
    purchase = get_purchase(context)
    found = read_summary(purchase)
    message = describe_summary(found, purchase.currency)
    return Done({"message": message, "summary": found.to_data()})

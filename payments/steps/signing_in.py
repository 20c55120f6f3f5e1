"""Signing in to the voucher portal and to the redeeming shop, each with its code."""

from datetime import timedelta

from jobs.context import StepContext
from jobs.plans import Done, Outcome
from payments.steps.outcomes import voucher_step
from payments.steps.rows import get_purchase, portal_desk, redeemer_desk


@voucher_step("gyftr_login", time_limit=timedelta(seconds=180))
def gyftr_login(context: StepContext) -> Outcome:
    purchase = get_purchase(context)
    portal_desk(context, purchase).sign_in()
    return Done({"account": purchase.card.portal_account.email})


@voucher_step("amazon_login", time_limit=timedelta(seconds=180))
def amazon_login(context: StepContext) -> Outcome:
    purchase = get_purchase(context)
    redeemer_desk(context, purchase).sign_in()
    return Done({"account": purchase.card.redeemer_account.email})

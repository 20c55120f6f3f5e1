"""The rows that a voucher step works on."""

from jobs.context import StepContext
from payments.models import Transaction, VoucherPurchase
from payments.models.purchases import format_money
from payments.steps.desk import PORTAL, REDEEMER, Desk

Status = Transaction.Status

PAID = frozenset(
    {Status.PAID, Status.ISSUED, Status.REDEEMED, Status.PENDING_REDEMPTION},
)


def get_purchase(context: StepContext) -> VoucherPurchase:
    related = ("card__portal_account__site", "card__redeemer_account__site")
    purchases = VoucherPurchase.objects.select_related(*related)
    return purchases.get(pk=context.job_params["purchase"])


def get_transaction(context: StepContext) -> Transaction:
    related = ("purchase__card__portal_account__site", "purchase__card__redeemer_account__site")
    return Transaction.objects.select_related(*related).get(
        purchase=context.job_params["purchase"], index=context.params["index"]
    )


def portal_desk(context: StepContext, purchase: VoucherPurchase) -> Desk:
    return Desk(context, purchase.card.portal_account, PORTAL)


def redeemer_desk(context: StepContext, purchase: VoucherPurchase) -> Desk:
    return Desk(context, purchase.card.redeemer_account, REDEEMER)


def money_of(transaction: Transaction) -> str:
    return format_money(transaction.amount, transaction.purchase.currency)

"""Purchases as they stand at some moment, without running any of their jobs."""

from decimal import Decimal
from typing import Any

from accounts.models import FIRST_WORKSPACE
from jobs.records import record_job
from payments import recording
from payments.models import Card, PaymentSite, SiteAccount, VoucherCode, VoucherPurchase
from payments.purchases import make_transactions

NUMBER = "374245455400126"  # passes Luhn; American Express, as MRCC and Gold are


def make_account(kind: str, **fields: Any) -> SiteAccount:
    """At a site of this kind, which is `KIND.example`."""
    site, _ = PaymentSite.objects.get_or_create(
        kind=kind, domain=f"{kind}.example", defaults={"name": kind.capitalize()}
    )
    given = {"email": "buyer@team.example", "password": f"{kind}-geheim", **fields}
    return SiteAccount.objects.create(site=site, **given)


def make_card(**fields: Any) -> Card:
    given: dict[str, Any] = {
        "card_type": "MRCC",
        "label": "Membership Rewards",
        "holder": "T Buyer",
        "phone_number": "+919876543210",
        "transaction_limit": 10_000,
        **fields,
    }
    for kind in ("portal", "redeemer"):
        name = f"{kind}_account"
        if name not in given:
            given[name] = SiteAccount.objects.filter(site__kind=kind).first() or make_account(kind)
    card = Card(**given)
    card.write_number(NUMBER)
    card.write_expiry("08/2031")
    card.save()
    return card


def make_purchase(card: Card, qty: int = 1, **fields: Any) -> VoucherPurchase:
    """With a job that has ended, and transactions that nobody has begun."""
    given: dict[str, Any] = {
        "workspace_id": FIRST_WORKSPACE,
        "card_type": card.card_type,
        "amount": Decimal(1500),
        "status": VoucherPurchase.Status.MANUAL,
        **fields,
    }
    job = record_job("voucher_purchase", "job.completed", "Buy", {})
    purchase = VoucherPurchase.objects.create(job=job, card=card, qty=qty, **given)
    make_transactions(purchase)
    return purchase


def issue(purchase: VoucherPurchase, index: int = 1, code: str = "ABCDEFGH7Q2K") -> VoucherCode:
    """The voucher of one of its transactions, paid and issued."""
    row = purchase.transactions.get(index=index)
    return recording.record_voucher(row.pk, code=code, pin="4821", amount=row.amount)


def voucher_rows() -> dict[str, Any]:
    """The ids of one of each, by the path of the API that they stand in."""
    card = make_card()
    purchase = make_purchase(card)
    return {
        "/api/admin/cards": card.pk,
        "/api/admin/payment-sites": card.portal_account.site_id,
        "/api/admin/payment-accounts": card.portal_account_id,
        "/api/purchases": purchase.pk,
        "/api/vouchers": issue(purchase).pk,
    }

"""How purchases are shown: as rows of a live list, and as what a voucher_purchase job is about."""

import uuid
from collections.abc import Iterable
from typing import Any

from django.db.models import Count, QuerySet
from django.urls import reverse

from jobs.listing import Listing, current_step, now_doing
from jobs.subjects import Fact, Subject, register_subject
from payments.advice import decide_advice
from payments.models import VoucherCode, VoucherPurchase
from payments.purchases import VOUCHER_PURCHASE, VOUCHER_REDEEM
from payments.runs import find_progress, purchases_to_show


class PurchaseListing(Listing):
    """Of one workspace; without one, of all, for who tells their rows apart later."""

    name = "purchases"
    statuses = VoucherPurchase.Status.choices

    def __init__(self, workspace_id: uuid.UUID | None = None) -> None:
        self.workspace_id = workspace_id

    def visible_to(self, user: Any) -> QuerySet[VoucherPurchase]:
        return self._ready(VoucherPurchase.objects.visible_to(user))

    def of_jobs(self, job_ids: Iterable[uuid.UUID]) -> QuerySet[VoucherPurchase]:
        return self._ready(VoucherPurchase.objects.filter(job__in=job_ids))

    def _ready(self, purchases: QuerySet[VoucherPurchase]) -> QuerySet[VoucherPurchase]:
        return purchases_to_show(purchases).annotate(step_now=current_step("job"))

    def row(self, instance: Any) -> dict[str, Any]:
        purchase: VoucherPurchase = instance
        return {
            "id": purchase.pk,
            "workspace": purchase.workspace_id,
            "title": str(purchase),
            "total": purchase.total_money,
            "card": str(purchase.card),
            "status": purchase.status,
            "status_label": purchase.get_status_display(),
            "progress": find_progress(purchase),
            "qty": purchase.qty,
            "completed_transactions": purchase.completed_transactions,
            "error_message": purchase.error_message,
            "started_by": purchase.created_by.get_username() if purchase.created_by else "",
            "created_at": purchase.created_at,
            "completed_at": purchase.completed_at,
            **now_doing(instance.step_now),
            "url": reverse("payments:detail", args=[purchase.pk]),
        }

    def stats(self) -> dict[str, int]:
        """All of them: a team makes some purchases a day."""
        purchases = VoucherPurchase.objects.all()
        if self.workspace_id:
            purchases = purchases.filter(workspace=self.workspace_id)
        return dict(purchases.order_by().values_list("status").annotate(Count("pk")))


def describe_purchase(job_id: uuid.UUID) -> Subject | None:
    purchases = purchases_to_show(VoucherPurchase.objects.filter(job=job_id))
    purchase = purchases.select_related("card__portal_account", "card__redeemer_account").first()
    return subject_of(purchase) if purchase else None


def describe_redemption(job_id: uuid.UUID) -> Subject | None:
    vouchers = VoucherCode.objects.filter(job=job_id).defer("code", "pin")
    voucher = vouchers.select_related("transaction").first()
    if voucher is None:
        return None
    purchases = purchases_to_show(VoucherPurchase.objects.all())
    related = purchases.select_related("card__portal_account", "card__redeemer_account")
    subject = subject_of(related.get(pk=voucher.transaction.purchase_id))
    return Subject([Fact("Voucher", str(voucher)), *subject.facts], subject.advice)


def subject_of(purchase: VoucherPurchase) -> Subject:
    card = purchase.card
    by = purchase.created_by.get_username() if purchase.created_by else ""
    facts = [
        Fact("Purchase", str(purchase), reverse("payments:detail", args=[purchase.pk])),
        Fact("Total", purchase.total_money),
        Fact("Card", str(card), reverse("admin:payments_card_change", args=[card.pk])),
        Fact("Bought as", str(card.portal_account)),
        Fact("Redeemed as", str(card.redeemer_account)),
        Fact("Requested by", by),
    ]
    return Subject(
        [fact for fact in facts if fact.text], decide_advice(purchase.status, purchase.error_code)
    )


register_subject(VOUCHER_PURCHASE, describe_purchase)
register_subject(VOUCHER_REDEEM, describe_redemption)

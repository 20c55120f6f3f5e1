"""Purchases and their transactions. `purchases.py` begins them, `recording.py` and `following.py`
write what becomes of them.

Names and statuses are those of the documents voucher-bulk-purchase and payment-automation-realtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from accounts.models import Workspace
from jobs.models import Job
from jobs.models.transitions import only_transitions
from payments.models.cards import Card

if TYPE_CHECKING:
    from payments.models.vouchers import VoucherCode


class VoucherPurchaseQuerySet(models.QuerySet["VoucherPurchase"]):
    def visible_to(self, user: Any) -> VoucherPurchaseQuerySet:
        """Everybody sees the purchases of their own workspace."""
        return self.filter(workspace=user.workspace_id)


class VoucherPurchase(models.Model):
    """So many vouchers of an amount each, bought one by one. Its job carries it out."""

    class Status(models.TextChoices):
        INITIATED = "initiated", "Starting"
        VALIDATING = "validating", "Getting ready"
        PROCESSING = "processing", "Buying"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"
        MANUAL = "manual", "With a person"
        CANCELLED = "cancelled", "Cancelled"

    class Phase(models.TextChoices):
        VALIDATION = "validation", "Validation"
        PAYMENT_PROCESSING = "payment_processing", "Payment processing"
        COMPLETE = "complete", "Complete"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(
        Workspace, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    # Callers know the purchase by its job's id, so that stays when the job is archived.
    job = models.OneToOneField(
        Job,
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="voucher_purchase",
    )
    card = models.ForeignKey(Card, on_delete=models.PROTECT, related_name="purchases")
    card_type = models.CharField(max_length=40, help_text="As it was asked for.")
    qty = models.PositiveSmallIntegerField()
    amount = models.DecimalField(max_digits=12, decimal_places=2, help_text="Of each voucher.")
    currency = models.CharField(max_length=3, default="INR")
    status = models.CharField(max_length=16, choices=Status, default=Status.INITIATED)
    current_phase = models.CharField(max_length=32, choices=Phase, default=Phase.VALIDATION)
    completed_transactions = models.PositiveSmallIntegerField(default=0)
    error_message = models.TextField(null=True)  # noqa: DJ001
    error_code = models.CharField(max_length=50, blank=True)
    # What a caller who asks twice sends twice, and a hash of what was asked with it.
    idempotency_key = models.CharField(max_length=300, null=True, editable=False)  # noqa: DJ001
    request_hash = models.CharField(max_length=64, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    completed_at = models.DateTimeField(null=True)

    objects = VoucherPurchaseQuerySet.as_manager()

    is_replay = False  # on what was begun before by the same idempotency key

    class Meta:
        db_table = "voucher_purchases"
        verbose_name = "voucher purchase"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["workspace", "id"], name="voucher_purchase_workspace"),
            models.Index(fields=["status", "id"], name="voucher_purchase_status"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["created_by", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="voucher_purchase_idempotency_key",
            )
        ]

    def __str__(self) -> str:
        return f"{self.qty} × {self.money} on {self.card_type}"

    @property
    def money(self) -> str:
        """The amount of one voucher, as people write it."""
        return format_money(self.amount, self.currency)

    @property
    def total_money(self) -> str:
        return format_money(self.qty * self.amount, self.currency)

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


ENDED = frozenset(
    {
        VoucherPurchase.Status.COMPLETED,
        VoucherPurchase.Status.FAILED,
        VoucherPurchase.Status.MANUAL,
        VoucherPurchase.Status.CANCELLED,
    }
)


def format_money(amount: Any, currency: str) -> str:
    """₹1,500, and ₹1,500.50 where there are paise."""
    sign = {"INR": "₹", "EUR": "€", "GBP": "£", "USD": "$"}.get(currency, f"{currency} ")
    return f"{sign}{amount:,.2f}".removesuffix(".00")


class Transaction(models.Model):
    """One payment for one voucher. Written through `payments/recording.py`."""

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        LINK_CREATED = "link_created", "Payment link made"
        PAYING = "paying", "Paying"
        PAID = "paid", "Paid"
        ISSUED = "issued", "Voucher issued"
        REDEEMED = "redeemed", "Redeemed"
        PENDING_REDEMPTION = "pending_redemption", "To be redeemed"
        UNKNOWN = "unknown", "Unknown: a person decides"
        FAILED = "failed", "Failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    purchase = models.ForeignKey(
        VoucherPurchase, on_delete=models.CASCADE, related_name="transactions", db_index=False
    )
    index = models.PositiveSmallIntegerField(help_text="From 1.")
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    status = models.CharField(max_length=24, choices=Status, default=Status.PENDING)
    reference = models.CharField(
        max_length=64, unique=True, help_text="Ours: the portal's order bears it."
    )
    link = models.CharField(max_length=1000, blank=True)
    order = models.CharField(max_length=100, blank=True, help_text="The portal's number of it.")
    link_created_at = models.DateTimeField(null=True)
    link_expires_at = models.DateTimeField(null=True)
    payment_reference = models.CharField(max_length=100, blank=True, help_text="The bank's.")
    paid_at = models.DateTimeField(null=True)
    issued_at = models.DateTimeField(null=True)
    redeemed_at = models.DateTimeField(null=True)
    error_message = models.TextField(blank=True)
    error_code = models.CharField(max_length=50, blank=True)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "voucher_transactions"
        ordering = ["purchase", "index"]
        constraints = [
            models.UniqueConstraint(fields=["purchase", "index"], name="voucher_transaction_place")
        ]
        triggers = [
            # What was paid is never again unpaid, and what is redeemed stays so. Unknown is what
            # a person or the site's own page decides, so it may become anything.
            only_transitions(
                "voucher_transaction_status",
                [
                    *[
                        (before, after)
                        for before in ("pending", "link_created", "paying", "failed", "unknown")
                        for after in (
                            "pending",
                            "link_created",
                            "paying",
                            "paid",
                            "issued",
                            "failed",
                            "unknown",
                        )
                        if before != after
                    ],
                    ("paid", "issued"),
                    ("paid", "failed"),  # refunded: the portal says so
                    ("paid", "unknown"),
                    ("issued", "redeemed"),
                    ("issued", "pending_redemption"),
                    ("issued", "unknown"),
                    ("pending_redemption", "redeemed"),
                    ("pending_redemption", "issued"),
                    ("pending_redemption", "unknown"),
                    ("unknown", "redeemed"),
                    ("unknown", "pending_redemption"),
                ],
            )
        ]

    def __str__(self) -> str:
        return f"Transaction {self.index}"

    def find_voucher(self) -> VoucherCode | None:
        return getattr(self, "voucher", None)

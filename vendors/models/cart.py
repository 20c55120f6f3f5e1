"""The cart queue, and what stands in the carts."""

from __future__ import annotations

from typing import Any

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from uuid_utils.compat import uuid7

from jobs.models import Job
from vendors.models.accounts import VendorAccount
from vendors.models.registry import Vendor
from vendors.models.telling import TELL_ERPNEXT


class QueueItemQuerySet(models.QuerySet["QueueItem"]):
    def visible_to(self, user: Any) -> QueueItemQuerySet:
        """Staff see every item, others those they asked for."""
        return self if user.is_staff else self.filter(created_by=user)


class QueueItem(models.Model):
    """A request to put a product into a vendor's cart. Its job carries it out."""

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        PROCESSING = "processing", "Processing"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"
        MANUAL_REQUIRED = "manual_required", "Manual required"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user_id = models.CharField(max_length=64, default="system", help_text="Who asks: a constant.")
    vendor = models.ForeignKey(Vendor, on_delete=models.PROTECT, related_name="queue_items")
    product_url = models.CharField(max_length=1000)
    product_name = models.CharField(max_length=500, null=True, blank=True)  # noqa: DJ001
    product_data = models.JSONField(default=dict, blank=True)
    status = models.CharField(max_length=50, choices=Status, default=Status.PENDING)
    assigned_account = models.ForeignKey(
        VendorAccount, null=True, blank=True, on_delete=models.SET_NULL, related_name="queue_items"
    )
    attempts = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveIntegerField(default=3)
    error_message = models.TextField(null=True, blank=True)  # noqa: DJ001
    error_code = models.CharField(max_length=50, blank=True)
    priority = models.SmallIntegerField(default=0, db_default=0, help_text="Higher goes first.")
    # What a caller who asks twice sends twice, and a hash of what was asked with it.
    idempotency_key = models.CharField(max_length=300, null=True, editable=False)  # noqa: DJ001
    request_hash = models.CharField(max_length=64, blank=True, db_default="", editable=False)
    # Null for what never was automated: it went straight to a person.
    job = models.OneToOneField(
        Job, null=True, blank=True, on_delete=models.SET_NULL, related_name="queue_item"
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    completed_at = models.DateTimeField(null=True, blank=True)

    objects = QueueItemQuerySet.as_manager()

    is_replay = False  # on what was queued before by the same idempotency key

    class Meta:
        db_table = "cart_queue"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["status", "id"], name="idx_cart_queue_status"),
            models.Index(fields=["vendor", "status", "id"], name="idx_cart_queue_vendor"),
            models.Index(fields=["user_id", "id"], name="idx_cart_queue_user"),
            models.Index(fields=["vendor", "id"], name="idx_cart_queue_vendor_id"),
            # A range of dates, of whatever status and vendor, is read from this alone.
            models.Index(
                fields=["created_at", "id"],
                include=["status", "vendor"],
                name="idx_cart_queue_created",
            ),
            # What the figures read: what came of items, by when it did. It has all they need.
            models.Index(
                fields=["updated_at"],
                include=["vendor", "status", "error_code", "created_at", "completed_at"],
                condition=models.Q(status__in=["completed", "failed", "manual_required"]),
                name="idx_cart_queue_outcome",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["created_by", "idempotency_key"],
                condition=models.Q(idempotency_key__isnull=False),
                name="cart_queue_idempotency_key",
            )
        ]
        triggers = [TELL_ERPNEXT]

    def __str__(self) -> str:
        return self.product_name or self.product_url

    @property
    def quantity(self) -> int:
        return int(self.product_data.get("quantity", 1))


# Whatever replaces a line does so in the same transaction, or the item would stand in no cart.
KEEP_ONE_ACTIVE = pgtrigger.Trigger(
    name="keep_one_active",
    when=pgtrigger.After,
    operation=pgtrigger.UpdateOf("replaced_at"),  # type: ignore[no-untyped-call]
    timing=pgtrigger.Deferred,
    condition=pgtrigger.Condition("OLD.replaced_at IS NULL AND NEW.replaced_at IS NOT NULL"),
    func="""
        IF NOT EXISTS (
            SELECT FROM user_cart_items
            WHERE item_id = NEW.item_id AND replaced_at IS NULL
        ) THEN
            RAISE EXCEPTION 'cart_line_active: item % has no active cart line any more',
                NEW.item_id USING ERRCODE = 'check_violation';
        END IF;
        RETURN NULL;
    """,
)


class CartItemQuerySet(models.QuerySet["CartItem"]):
    def active(self) -> CartItemQuerySet:
        """The lines that count: one of each item."""
        return self.filter(replaced_at=None)

    def in_cart(self) -> CartItemQuerySet:
        """Those of them that stand in their carts still, as far as anybody has said."""
        return self.active().filter(gone_at=None)


class CartItem(models.Model):
    """A line that was added to an account's cart and found there. At every moment one of an item's
    lines is active: when it is moved to another account's cart, that one's line replaces it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user_id = models.CharField(max_length=64, default="system")
    vendor_account = models.ForeignKey(
        VendorAccount, on_delete=models.PROTECT, related_name="cart_items"
    )
    # Null once the item is in the archive: what was added is kept for reports.
    queue_item = models.ForeignKey(
        QueueItem, null=True, on_delete=models.SET_NULL, related_name="cart_lines", editable=False
    )
    # The queue item's, though it is in the archive by now.
    item_id = models.UUIDField(default=uuid7, editable=False)
    product_url = models.CharField(max_length=1000)
    product_name = models.CharField(max_length=500, null=True, blank=True)  # noqa: DJ001
    quantity = models.PositiveIntegerField(default=1)
    added_at = models.DateTimeField(default=timezone.now)
    replaced_at = models.DateTimeField(
        null=True, editable=False, help_text="When another line of the item took its place."
    )
    gone_at = models.DateTimeField(
        null=True, editable=False, help_text="When it left the cart: ordered, or taken out."
    )

    objects = CartItemQuerySet.as_manager()

    class Meta:
        db_table = "user_cart_items"
        ordering = ["-added_at"]
        indexes = [
            models.Index(fields=["user_id", "id"], name="idx_user_cart_items_user"),
            models.Index(
                fields=["vendor_account", "id"],
                condition=models.Q(replaced_at__isnull=True, gone_at__isnull=True),
                name="idx_user_cart_items_in_cart",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["item_id"],
                condition=models.Q(replaced_at__isnull=True),
                name="cart_line_active",
            ),
            models.UniqueConstraint(
                fields=["item_id", "vendor_account"],
                condition=models.Q(gone_at__isnull=True),
                name="cart_line_once_an_account",
            ),
        ]
        triggers = [KEEP_ONE_ACTIVE]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.product_name or self.product_url}"

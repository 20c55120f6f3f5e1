"""Alerts: what people must know of before they would look. Written by `vendors/alerts.py` only."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from jobs.models import Job
from vendors.models.accounts import VendorAccount
from vendors.models.cart import QueueItem
from vendors.models.registry import Vendor


class Alert(models.Model):
    """One cause, from when it was found until it is gone. A cause has one open alert at a time."""

    class Kind(models.TextChoices):
        FAILURES = "failures", "Too many failures"
        ACCOUNTS = "accounts", "Too few healthy accounts"
        BLOCK = "block", "Account blocked"
        LATE = "late", "Items past their deadline"
        MOVES = "moves", "Items not moved"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=16, choices=Kind)
    vendor = models.ForeignKey(
        Vendor, on_delete=models.CASCADE, related_name="alerts", db_index=False
    )
    account = models.ForeignKey(
        VendorAccount, null=True, on_delete=models.CASCADE, related_name="alerts"
    )
    # Without a constraint in the database: it would lock the rows of items that are being added.
    item = models.ForeignKey(
        QueueItem,
        null=True,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_constraint=False,
        db_index=False,
        help_text="The oldest one that is late.",
    )
    message = models.CharField(max_length=1000, help_text="What is the matter, and what to do.")
    details = models.JSONField(default=dict, help_text="The numbers that it was opened for.")
    opened_at = models.DateTimeField(db_default=Now(), editable=False)
    closed_at = models.DateTimeField(null=True)
    closed_reason = models.CharField(max_length=300, blank=True)
    told_at = models.DateTimeField(null=True, help_text="When the admins were written to.")
    job = models.OneToOneField(
        Job,
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="Bears its events, which webhooks are made from; archived after its time.",
    )

    class Meta:
        db_table = "vendor_alerts"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "vendor", "account"],
                condition=Q(closed_at__isnull=True),
                nulls_distinct=False,
                name="alert_open_once",
            )
        ]
        indexes = [
            models.Index(fields=["vendor", "kind", "opened_at"], name="alert_history"),
            models.Index(
                fields=["opened_at"],
                condition=Q(told_at__isnull=True),
                name="alert_untold",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.account or self.vendor}"

    @property
    def is_open(self) -> bool:
        return self.closed_at is None

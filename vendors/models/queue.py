"""What is left of queue items after their time. `queue_archive.py` writes it; nothing that adds to
carts reads it."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.functions import Now

from vendors.models.cart import QueueItem


class ArchivedQueueItemQuerySet(models.QuerySet["ArchivedQueueItem"]):
    def visible_to(self, user: Any) -> ArchivedQueueItemQuerySet:
        """As the item was."""
        return self if user.is_staff else self.filter(created_by_id=user.pk)


class ArchivedQueueItem(models.Model):
    """A queue item as it ended. No foreign keys: what they meant may be gone."""

    id = models.UUIDField(primary_key=True, editable=False, help_text="The queue item's.")
    user_id = models.CharField(max_length=64)
    vendor_id = models.UUIDField()
    vendor_name = models.CharField(max_length=255)
    account_email = models.CharField(max_length=255, blank=True)
    product_url = models.CharField(max_length=1000)
    product_name = models.CharField(max_length=500, null=True)  # noqa: DJ001
    product_data = models.JSONField(default=dict)
    status = models.CharField(max_length=50, choices=QueueItem.Status)
    attempts = models.PositiveIntegerField()
    error_message = models.TextField(null=True)  # noqa: DJ001
    error_code = models.CharField(max_length=50, blank=True)
    created_by_id = models.BigIntegerField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True)
    archived_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = ArchivedQueueItemQuerySet.as_manager()

    class Meta:
        db_table = "cart_queue_archive"
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.product_name or self.product_url

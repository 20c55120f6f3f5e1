"""Who is told of what by webhook, and every telling. Written by `jobs/webhooks/`, nobody else.

A delivery is one event for one endpoint. Its row is the whole of its state: when it is due, who is
sending it and until when that holds, and what the receiver last said.
"""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from accounts.audit import Audited
from accounts.fields import SealedTextField
from accounts.models import Workspace
from jobs.models.engine import Job
from jobs.models.sending import SentRow
from jobs.models.transitions import only_transitions


def new_message_id() -> str:
    """Made by us, in the order of time, and without the full stop that a signature separates by."""
    return f"msg_{uuid7().hex}"


class WebhookEndpoint(Audited):
    # Written by verbs, which note what they do.
    NOT_AUDITED = (
        "disabled_at",
        "disabled_reason",
        "disabled_for_failing",
        "admins_told_at",
        "failing_since",
        "old_secret",
        "old_secret_expires_at",
        "created_by",
    )

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    url = models.CharField(max_length=2000)
    description = models.CharField(max_length=200, blank=True)
    events = ArrayField(
        models.CharField(max_length=50),
        help_text="What it is told: job.completed, all of job.*, or * for everything.",
    )
    secret = SealedTextField()
    old_secret = SealedTextField(null=True)
    old_secret_expires_at = models.DateTimeField(
        null=True, help_text="Until then messages are signed with the old secret as well."
    )
    disabled_at = models.DateTimeField(null=True)
    disabled_reason = models.CharField(max_length=500, blank=True)
    disabled_for_failing = models.BooleanField(
        default=False, help_text="By us: what it was sent did not arrive. Else a person did it."
    )
    admins_told_at = models.DateTimeField(
        null=True, help_text="When they were written to that it was disabled for failing."
    )
    failing_since = models.DateTimeField(
        null=True, help_text="Of the first failure since something was last delivered."
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "webhook"
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.description or self.url


class WebhookDelivery(SentRow):
    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Failed"

    # The message id, which is the receiver's idempotency key: the same for every attempt.
    id = models.CharField(primary_key=True, max_length=40, default=new_message_id, editable=False)
    endpoint = models.ForeignKey(
        WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries", db_index=False
    )
    # Without a constraint in the database: it would lock the rows of jobs that are being run.
    job = models.ForeignKey(
        Job, null=True, on_delete=models.CASCADE, related_name="+", db_constraint=False
    )
    event_number = models.PositiveIntegerField(null=True, help_text="None for a test.")
    kind = models.CharField(max_length=40)

    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    attempts_before = models.PositiveIntegerField(
        default=0, help_text="Those before it was last sent anew: the schedule counts from there."
    )

    class Meta:
        verbose_name = "webhook delivery"
        verbose_name_plural = "webhook deliveries"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint", "job", "event_number"], name="webhook_event_once"
            ),
        ]
        indexes = [
            models.Index(fields=["endpoint", "id"], name="webhook_delivery_list"),
            # By endpoint: those of a slow one must not stand before those of the others.
            models.Index(
                fields=["endpoint", "due_at"],
                condition=models.Q(status="pending"),
                name="webhook_delivery_due",
            ),
            models.Index(
                fields=["endpoint"],
                condition=models.Q(status="pending", lease_expires_at__isnull=False),
                name="webhook_delivery_leased",
            ),
        ]
        triggers = [
            only_transitions(
                "webhook_delivery_status",
                [
                    ("pending", "delivered"),
                    ("pending", "failed"),
                    # A person has it sent anew.
                    ("delivered", "pending"),
                    ("failed", "pending"),
                ],
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} ({self.id})"


class WebhookCursor(models.Model):
    """How far the events have been looked through: one row for all endpoints."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    position = models.BigIntegerField(default=0, help_text="The id of the newest event looked at.")
    holes = models.JSONField(
        default=list, help_text="[[first id, last id, transaction id]]: see outbox.py."
    )

    class Meta:
        constraints = [
            models.CheckConstraint(name="webhook_cursor_is_one", condition=models.Q(id=1)),
        ]

    def __str__(self) -> str:
        return f"{self.position}, {len(self.holes)} holes"

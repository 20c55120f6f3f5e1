"""What steps wait for, and the signals that answer them. `waits.py` writes these.

A wait is a row and nothing else: no worker, thread or transaction stays with it.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from accounts.models import Workspace
from jobs.models.engine import Job, Step
from jobs.models.transitions import only_transitions


class Wait(models.Model):
    """One thing that a step waits for. The first of a step's waits to end cancels the others."""

    class Kind(models.TextChoices):
        OTP = "otp", "One-time password"
        SIGNAL = "signal", "Outside event"
        APPROVAL = "approval", "Approval"
        TIMER = "timer", "Timer"

    class Status(models.TextChoices):
        OPEN = "open", "Open"
        ANSWERED = "answered", "Answered"
        EXPIRED = "expired", "Expired"
        CANCELLED = "cancelled", "Cancelled"

    class OnDeadline(models.TextChoices):
        """What becomes of the step when the deadline passes without an answer."""

        RESUME = "resume", "Goes on without an answer"
        FAIL = "fail", "Fails"
        MANUAL = "manual", "Goes to a person"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(
        Workspace, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="waits")
    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="waits")
    name = models.CharField(max_length=100, help_text="The handler finds the answer by it.")
    kind = models.CharField(max_length=16, choices=Kind)
    status = models.CharField(max_length=16, choices=Status, default=Status.OPEN)
    topic = models.CharField(max_length=200, blank=True, help_text="Of the signal that answers.")
    match = models.JSONField(default=dict, help_text="Fields that the signal must have.")
    question = models.CharField(max_length=500, blank=True, help_text="For people.")
    choices = models.JSONField(default=list, help_text="What a person may answer.")
    deadline_at = models.DateTimeField(null=True)
    on_deadline = models.CharField(max_length=16, choices=OnDeadline, default=OnDeadline.RESUME)

    answer = models.JSONField(null=True)
    answered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["step", "name"], condition=Q(status="open"), name="wait_open_once"
            )
        ]
        indexes = [
            models.Index(
                fields=["workspace", "topic", "id"], condition=Q(status="open"), name="wait_open"
            )
        ]
        triggers = [
            only_transitions(
                "wait_status",
                [
                    ("open", "answered"),
                    ("open", "expired"),
                    ("open", "cancelled"),
                ],
            )
        ]

    def __str__(self) -> str:
        return self.question or self.name

    def state(self) -> dict[str, Any]:
        """As clients see it: of an open wait, what is needed to answer it."""
        return {
            "id": str(self.pk),
            "name": self.name,
            "kind": self.kind,
            "question": self.question,
            "choices": self.choices,
            "deadline_at": self.deadline_at.isoformat() if self.deadline_at else None,
        }


class Signal(models.Model):
    """Something that happened outside. It answers one wait; one that came first is kept for it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(
        Workspace, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    topic = models.CharField(max_length=200)
    fields = models.JSONField(default=dict)
    # The sender's own name for it: the same one again changes nothing.
    key = models.CharField(max_length=200, null=True)  # noqa: DJ001
    taken_by = models.OneToOneField(
        Wait, null=True, on_delete=models.SET_NULL, related_name="taken_signal"
    )
    received_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["workspace", "topic", "key"], name="signal_key")
        ]
        indexes = [
            models.Index(
                fields=["workspace", "topic", "id"],
                condition=Q(taken_by=None),
                name="signal_kept",
            )
        ]

    def __str__(self) -> str:
        return self.topic

"""One-time passwords: who asks for one, what has come in, and how messages are read.

Table and field names are those of the documents payment-automation-realtime and
voucher-bulk-purchase.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from accounts.audit import Audited
from accounts.fields import SealedTextField
from accounts.models import FIRST_WORKSPACE, Workspace
from jobs.models.engine import Job, Step
from jobs.models.transitions import only_transitions
from jobs.models.waits import Wait
from jobs.otp.parsing import pattern_problem


class OtpRequest(models.Model):
    """A step needs a code. One row for all the codes that are tried."""

    class Status(models.TextChoices):
        REQUESTED = "requested", "Requested"
        RECEIVED = "received", "Received"
        VERIFIED = "verified", "Verified"
        FAILED = "failed", "Failed"
        EXPIRED = "expired", "Expired"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(
        Workspace, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    job = models.ForeignKey(
        Job, on_delete=models.CASCADE, related_name="otp_requests", db_column="job_run_id"
    )
    step = models.ForeignKey(
        Step,
        on_delete=models.CASCADE,
        related_name="otp_requests",
        db_column="job_step_id",
        db_index=False,
    )
    wait = models.OneToOneField(Wait, null=True, on_delete=models.SET_NULL, related_name="request")
    name = models.CharField(max_length=100, help_text="Of the wait.")
    otp_type = models.CharField(max_length=100)
    service = models.CharField(max_length=100, help_text="Who sends the code.")
    phone_number = models.CharField(max_length=32, blank=True)
    context = models.CharField(
        max_length=100, blank=True, help_text="What the message names: an order, a card's end."
    )
    not_before = models.DateTimeField(help_text="A message from before is for something else.")
    requested_at = models.DateTimeField(db_default=Now())
    received_at = models.DateTimeField(null=True)
    verified_at = models.DateTimeField(null=True)
    timeout_at = models.DateTimeField()
    otp_value = SealedTextField(null=True)
    attempts_count = models.PositiveSmallIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField(default=3)
    status = models.CharField(max_length=16, choices=Status, default=Status.REQUESTED)

    class Meta:
        db_table = "otp_requests"
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["step", "name"], name="otp_request_once")]
        indexes = [
            models.Index(
                fields=["workspace"], condition=Q(status="requested"), name="otp_requested"
            ),
            models.Index(
                fields=["timeout_at"], condition=Q(otp_value__isnull=False), name="otp_to_erase"
            ),
        ]
        triggers = [
            only_transitions(
                "otp_request_status",
                [
                    ("requested", "received"),
                    ("requested", "expired"),
                    ("requested", "failed"),
                    ("received", "verified"),
                    ("received", "requested"),
                    ("received", "failed"),
                    ("received", "expired"),
                    ("verified", "requested"),  # the step runs once more
                    ("failed", "requested"),
                    ("expired", "requested"),
                ],
            )
        ]

    def __str__(self) -> str:
        return f"{self.service} code for {self.otp_type}"


class InboundSource(Audited):
    """A phone, a number or a mailbox whose messages come to us."""

    class Kind(models.TextChoices):
        SMS_FORWARDER = "sms_forwarder", "SMS forwarder (JSON with from and text)"
        SMS_GATEWAY = "sms_gateway", "SMS Gateway for Android"
        TWILIO = "twilio", "Twilio"
        EMAIL = "email", "E-mail"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(
        Workspace, on_delete=models.CASCADE, related_name="+", default=FIRST_WORKSPACE
    )
    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=16, choices=Kind)
    phone_number = models.CharField(
        max_length=32, blank=True, help_text="Where it receives, if its messages do not say."
    )
    secret = SealedTextField(
        null=True, help_text="The signing key of SMS Gateway, or Twilio's auth token."
    )
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class OtpRule(Audited):
    """How a service's messages are read. A service with rules is known by them alone."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(
        Workspace, on_delete=models.CASCADE, related_name="+", default=FIRST_WORKSPACE
    )
    service = models.CharField(max_length=100, help_text="As the steps name it: amex, gyftr.")
    sender = models.CharField(
        max_length=200, blank=True, help_text="Regular expression for who sends; empty: anybody."
    )
    pattern = models.CharField(
        max_length=500,
        blank=True,
        help_text=(
            "Regular expression for the text, with a group (?P<code>...) and perhaps "
            "(?P<context>...); empty: the general rule reads it."
        ),
    )
    origin = models.CharField(
        max_length=200, blank=True, help_text="Host of origin-bound codes, @host #code."
    )

    class Meta:
        ordering = ["service", "id"]

    def __str__(self) -> str:
        return f"{self.service}: {self.sender or self.origin or self.pattern}"

    def clean(self) -> None:
        if not (self.sender or self.pattern or self.origin):
            raise ValidationError("A rule needs a sender, a pattern or an origin to know by.")
        problems: dict[str, Any] = {}
        if problem := pattern_problem(self.sender):
            problems["sender"] = problem
        if problem := pattern_problem(self.pattern, needs_code=bool(self.pattern)):
            problems["pattern"] = problem
        if problems:
            raise ValidationError(problems)


class InboundMessage(models.Model):
    """A message that came in. Its text and code are erased once they have served or are too old."""

    class Status(models.TextChoices):
        GIVEN = "given", "Given to a request"
        KEPT = "kept", "Kept: nobody waits for it"
        UNCLEAR = "unclear", "Unclear: a person decides"
        NO_CODE = "no_code", "No code in it"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    source = models.ForeignKey(InboundSource, null=True, on_delete=models.SET_NULL)
    sender = models.CharField(max_length=200)
    recipient = models.CharField(max_length=32, blank=True)
    # The sender's id for it, or a keyed hash of what it says: the same message again is this one.
    fingerprint = models.CharField(max_length=64)
    status = models.CharField(max_length=16, choices=Status)
    reason = models.CharField(max_length=300, blank=True)
    service = models.CharField(max_length=100, blank=True)
    context = models.CharField(max_length=100, blank=True)
    text = SealedTextField(null=True)
    code = SealedTextField(null=True)
    given_to = models.ForeignKey(
        OtpRequest, null=True, on_delete=models.SET_NULL, related_name="messages"
    )
    sent_at = models.DateTimeField(null=True, help_text="As the sender says.")
    received_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "sms_otps"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["workspace", "fingerprint"], name="inbound_repeated"),
            models.Index(
                fields=["workspace"],
                condition=Q(status__in=["kept", "unclear"], text__isnull=False),
                name="inbound_undecided",
            ),
            models.Index(
                fields=["received_at"], condition=Q(text__isnull=False), name="inbound_to_erase"
            ),
        ]

    def __str__(self) -> str:
        return f"Message from {self.sender}"

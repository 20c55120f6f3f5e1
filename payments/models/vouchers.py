"""Voucher codes: what the money has become until it is in an account's balance."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from accounts.fields import SealedTextField
from jobs.models import Job
from payments.models.purchases import Transaction


class VoucherCode(models.Model):
    """A voucher as it was issued. To read its code is noted in the audit trail."""

    class Status(models.TextChoices):
        ISSUED = "issued", "Issued"
        REDEEMED = "redeemed", "Redeemed"
        REFUSED = "refused", "Refused by the shop"
        UNKNOWN = "unknown", "Unknown: a person decides"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # One voucher for a transaction: the same order that is read twice makes one row.
    transaction = models.OneToOneField(
        Transaction, on_delete=models.PROTECT, related_name="voucher"
    )
    code = SealedTextField()
    pin = SealedTextField(null=True)
    tail = models.CharField(max_length=4, help_text="The code's last four characters.")
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    status = models.CharField(max_length=16, choices=Status, default=Status.ISSUED)
    expires_on = models.DateField(null=True)
    issued_at = models.DateTimeField(db_default=Now(), editable=False)
    redeemed_at = models.DateTimeField(null=True)
    redeemed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="Who marked it as redeemed; empty: we redeemed it.",
    )
    error_message = models.TextField(blank=True)
    job = models.ForeignKey(
        Job,
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="The job that redeems it later, apart from its purchase.",
    )

    class Meta:
        db_table = "voucher_codes"
        verbose_name = "voucher"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"Voucher …{self.tail}"

    @property
    def is_being_redeemed(self) -> bool:
        """By a job of its own."""
        return self.job is not None and not self.job.is_finished

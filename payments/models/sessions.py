"""Sessions at the sites, as payment-automation-realtime has them: which browser holds one, and what
fills a new browser. A person's log-in to us is no business of this table."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from accounts.fields import SealedJSONField
from payments.models.purchases import Transaction
from payments.models.sites import SiteAccount


class AuthSession(models.Model):
    """An account's session at its site, or a transaction's at the card page."""

    class Type(models.TextChoices):
        GYFTR = "gyftr", "Voucher portal"
        AMAZON = "amazon", "Redeeming shop"
        PAYMENT = "payment", "Card page"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    session_type = models.CharField(max_length=16, choices=Type)
    account = models.ForeignKey(
        SiteAccount, null=True, on_delete=models.CASCADE, related_name="sessions", db_index=False
    )
    transaction = models.ForeignKey(
        Transaction, null=True, on_delete=models.CASCADE, related_name="sessions", db_index=False
    )
    browser_context_id = models.CharField(
        max_length=200, blank=True, help_text="The parked browser's key."
    )
    queue = models.CharField(
        max_length=100, blank=True, help_text="Of the machine that has the browser."
    )
    session_data = SealedJSONField(null=True, editable=False)  # the browser's storage state
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)
    is_active = models.BooleanField(default=True)

    class Meta:
        db_table = "auth_sessions"
        verbose_name = "session"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "transaction", "session_type"],
                condition=Q(is_active=True),
                nulls_distinct=False,
                name="auth_session_active_once",
            ),
            models.CheckConstraint(
                name="auth_session_of_one",
                condition=Q(account__isnull=True) ^ Q(transaction__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_session_type_display()}: {self.account or self.transaction}"

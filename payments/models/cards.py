"""Cards: number and expiry are sealed. A CVV has no column, `payments/cvv.py` has it a while."""

from __future__ import annotations

from datetime import date

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now, Upper
from uuid_utils.compat import uuid7

from accounts.audit import Audited
from accounts.fields import SealedTextField
from accounts.models import FIRST_WORKSPACE, Workspace
from payments.card_numbers import Expiry, read_expiry, read_number
from payments.models.sites import PaymentSite, SiteAccount


class Card(Audited):
    """A card of a workspace. Its type is what a purchase names it by, so that one is active."""

    NOT_AUDITED = ("last4",)  # follows from the number

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(
        Workspace, on_delete=models.PROTECT, related_name="+", default=FIRST_WORKSPACE
    )
    card_type = models.CharField(
        max_length=40, help_text="What a purchase calls it, such as MRCC or Gold."
    )
    label = models.CharField(max_length=100, help_text="As people call it.")
    holder = models.CharField(max_length=100, help_text="The name on the card.")
    number = SealedTextField()
    expiry = SealedTextField()
    last4 = models.CharField(max_length=4, editable=False)
    phone_number = models.CharField(
        max_length=32, blank=True, help_text="Where the bank sends its codes to."
    )
    otp_service = models.CharField(
        max_length=100,
        blank=True,
        default="amex",
        help_text="Who sends the codes, as the reading rules name it.",
    )
    portal_account = models.ForeignKey(
        SiteAccount,
        on_delete=models.PROTECT,
        related_name="portal_cards",
        help_text="Where vouchers are bought with this card.",
    )
    redeemer_account = models.ForeignKey(
        SiteAccount,
        on_delete=models.PROTECT,
        related_name="redeemer_cards",
        help_text="Whose balance the vouchers go to.",
    )
    transaction_limit = models.DecimalField(
        max_digits=12,
        decimal_places=2,
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Most that one payment may be; empty: the bank alone decides.",
    )
    currency = models.CharField(max_length=3, default="INR")
    is_active = models.BooleanField(default=True, help_text="Else no purchase is begun with it.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "payment_cards"
        ordering = ["card_type", "label"]
        constraints = [
            models.UniqueConstraint(
                "workspace",
                Upper("card_type"),
                condition=Q(is_active=True),
                name="card_type_active_once",
                violation_error_message="Another active card of this workspace has this type. "
                "Give this one a type of its own, or deactivate the other.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.label} •••• {self.last4}"

    @property
    def flow_key(self) -> str:
        return f"card:{self.pk}"

    def write_number(self, text: str) -> None:
        """Saved with the row. Raises InvalidCard."""
        digits = read_number(text)
        self.number, self.last4 = digits, digits[-4:]

    def write_expiry(self, text: str) -> None:
        """Saved with the row. Raises InvalidCard."""
        self.expiry = str(read_expiry(text))

    def open_expiry(self) -> Expiry:
        """A credential is read: note that first. Raises InvalidCard."""
        return read_expiry(self.expiry)

    def check_printed(self, today: date) -> None:
        """Raises InvalidCard for what no bank would take. The card is read: note that first."""
        read_number(self.number)
        self.open_expiry().refuse_passed(today)

    def clean(self) -> None:
        problems = {}
        for name, kind in (
            ("portal_account", PaymentSite.Kind.PORTAL),
            ("redeemer_account", PaymentSite.Kind.REDEEMER),
        ):
            account = SiteAccount.objects.filter(pk=getattr(self, f"{name}_id")).first()
            if account and account.site.kind != kind:
                problems[name] = f"Choose an account at a {kind.label.lower()}."
            elif account and account.workspace_id != self.workspace_id:
                problems[name] = "Choose an account of the card's own workspace."
        if problems:
            raise ValidationError(problems)

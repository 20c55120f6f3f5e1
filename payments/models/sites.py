"""The sites that vouchers are bought, paid and redeemed at, as data, and our log-ins there."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from accounts.audit import Audited
from accounts.fields import SealedTextField
from accounts.models import FIRST_WORKSPACE, Workspace
from automation.vouchers.sites import CardPageSite, PortalSite, RedeemerSite


class PaymentSiteQuerySet(models.QuerySet["PaymentSite"]):
    def find_card_page(self, url: str) -> PaymentSite | None:
        """The active card page that a payment link leads to."""
        pages = self.filter(kind=PaymentSite.Kind.CARD_PAGE, is_active=True)
        return next((page for page in pages if page.site().contains(url)), None)


class PaymentSite(Audited):
    """A site as data: everything a browser must know of it. Keys as in `automation.vouchers`."""

    class Kind(models.TextChoices):
        PORTAL = "portal", "Voucher portal"
        CARD_PAGE = "card_page", "Card page"
        REDEEMER = "redeemer", "Redeeming shop"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=16, choices=Kind)
    name = models.CharField(max_length=100)
    domain = models.CharField(max_length=255, help_text="Host name, without port.")
    data = models.JSONField(
        default=dict, help_text="Addresses, selectors and texts; see docs/vouchers.md."
    )
    is_active = models.BooleanField(default=True, help_text="Else nothing is begun there.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = PaymentSiteQuerySet.as_manager()

    class Meta:
        db_table = "payment_sites"
        ordering = ["kind", "name"]
        constraints = [
            models.UniqueConstraint(fields=["kind", "domain"], name="payment_site_domain")
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def site_data(self) -> dict[str, Any]:
        """All of it, as `automation.vouchers.sites` reads it."""
        return {**self.data, "name": self.name, "domain": self.domain}

    def site(self) -> PortalSite | CardPageSite | RedeemerSite:
        return self._described.from_data(self.site_data)

    @property
    def _described(self) -> type[PortalSite | CardPageSite | RedeemerSite]:
        match self.kind:
            case self.Kind.PORTAL:
                return PortalSite
            case self.Kind.CARD_PAGE:
                return CardPageSite
        return RedeemerSite

    def clean(self) -> None:
        """Raises ValidationError by field: forms know no paths such as `selectors.pay_button`."""
        if not isinstance(self.data, dict):
            raise ValidationError({"data": "Give one object, as docs/vouchers.md has it."})
        problems: dict[str, list[str]] = {}
        for where, sentences in self._described.problems(self.site_data).items():
            name = where if where in ("name", "domain") else "data"
            told = sentences if where == name else [f"{where}: {each}" for each in sentences]
            problems.setdefault(name, []).extend(told)
        if problems:
            raise ValidationError(problems)


class SiteAccount(Audited):
    """The organisation's own log-in at a portal or a redeeming shop."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(
        Workspace, on_delete=models.PROTECT, related_name="+", default=FIRST_WORKSPACE
    )
    site = models.ForeignKey(PaymentSite, on_delete=models.PROTECT, related_name="accounts")
    email = models.EmailField(max_length=255)
    password = SealedTextField()
    phone_number = models.CharField(
        max_length=32, blank=True, help_text="Where the site sends its codes to."
    )
    is_active = models.BooleanField(default=True, help_text="Else no purchase is begun with it.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "payment_accounts"
        verbose_name = "site account"
        ordering = ["site", "email"]
        constraints = [
            models.UniqueConstraint(fields=["site", "email"], name="payment_account_email")
        ]

    def __str__(self) -> str:
        return self.email

    @property
    def flow_key(self) -> str:
        return f"account:{self.pk}"

    @property
    def is_usable(self) -> bool:
        return self.is_active and self.site.is_active

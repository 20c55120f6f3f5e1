"""Vendors: which shops there are, and how each is used."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from accounts.audit import Audited
from automation.site import Site, site_problems
from vendors.models.versions import VendorVersion, keep_version


class VendorQuerySet(models.QuerySet["Vendor"]):
    def with_account_counts(self) -> VendorQuerySet:
        """Annotates `account_count`, `healthy_accounts` and `blocked_accounts`."""
        is_blocked = Q(accounts__is_blocked=True)
        return self.annotate(  # type: ignore[no-redef]
            account_count=models.Count("accounts"),
            healthy_accounts=models.Count("accounts", filter=~is_blocked),
            blocked_accounts=models.Count("accounts", filter=is_blocked),
        )


class Vendor(Audited):
    """A shop, as data: everything a browser must know of it. Keys as in `automation.site`."""

    class CartScope(models.TextChoices):
        ACCOUNT = "account", "The account's: the same cart after every log-in"
        SESSION = "session", "The browser session's: lost with its cookies"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=255)
    domain = models.CharField(max_length=255, unique=True, help_text="Host name, without port.")
    is_prioritized = models.BooleanField(default=False)
    requires_captcha = models.BooleanField(default=False, help_text="Everything goes to a person.")
    can_automate = models.BooleanField(default=True)
    login_url = models.CharField(max_length=500, null=True, blank=True)  # noqa: DJ001
    cart_url = models.CharField(max_length=500, null=True, blank=True)  # noqa: DJ001
    selectors = models.JSONField(default=dict, blank=True)
    rate_limit_daily = models.PositiveIntegerField(
        default=50,
        validators=[MinValueValidator(1)],
        help_text="Most items an account adds in a day.",
    )
    seconds_between_adds = models.PositiveIntegerField(
        default=0,
        db_default=0,
        validators=[MaxValueValidator(86_400)],
        help_text="For so long an account is left alone after an add.",
    )
    cart_scope = models.CharField(
        max_length=16, choices=CartScope, default=CartScope.ACCOUNT, help_text="Whose the cart is."
    )
    login_required = models.BooleanField(default=True)
    allow_private_network = models.BooleanField(
        default=False,
        help_text="The shop is on our own network. Else private addresses are refused.",
    )
    allowed_domains = ArrayField(
        models.CharField(max_length=255),
        default=list,
        blank=True,
        help_text="Other hosts its pages need, such as a CDN.",
    )
    migrate_on_block = models.BooleanField(
        default=False,
        db_default=False,
        help_text="When an account is blocked, what stands in its cart is added to another "
        "account's by itself. Else a person decides.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = VendorQuerySet.as_manager()

    # Only where `with_account_counts` was asked for.
    account_count: int
    healthy_accounts: int
    blocked_accounts: int

    class Meta:
        db_table = "vendors"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    SITE_FIELDS = (
        "name",
        "domain",
        "login_url",
        "cart_url",
        "selectors",
        "cart_scope",
        "login_required",
        "allow_private_network",
        "allowed_domains",
    )

    # What a version keeps: all that a person sets.
    VERSIONED_FIELDS = (
        *SITE_FIELDS,
        "is_prioritized",
        "requires_captcha",
        "can_automate",
        "rate_limit_daily",
        "seconds_between_adds",
        "migrate_on_block",
    )

    def save(self, *args: Any, **options: Any) -> None:
        wanted = options.get("update_fields")
        if wanted is not None and not set(wanted) & set(self.VERSIONED_FIELDS):
            super().save(*args, **options)
            return
        with transaction.atomic(savepoint=False):
            super().save(*args, **options)
            keep_version(self)

    def versioned_data(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.VERSIONED_FIELDS}

    def restore(self, version: VendorVersion) -> None:
        """Saves the version's data once more. Raises ValidationError for what is refused by now;
        fields that came after the version stay as they are."""
        for name in set(self.VERSIONED_FIELDS) & version.data.keys():
            setattr(self, name, version.data[name])
        self.full_clean()
        self.save()

    def site_data(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.SITE_FIELDS}

    def site(self) -> Site:
        return Site.from_data(self.site_data())

    def clean(self) -> None:
        """Raises ValidationError by field: forms know no paths such as `selectors.add_to_cart`."""
        problems: dict[str, list[str]] = {}
        for where, sentences in site_problems(self.site_data()).items():
            name, _, key = where.partition(".")
            problems.setdefault(name, []).extend(
                f"{key}: {sentence}" if key else sentence for sentence in sentences
            )
        if problems:
            raise ValidationError(problems)

    def why_manual(self) -> str | None:
        """Why this vendor's items go straight to a person; None when they can be automated."""
        if self.requires_captcha:
            return f"{self.name} requires a captcha; a person adds its items."
        if not self.can_automate:
            return f"Automation is turned off for {self.name}."
        return self.site().missing_for_automation()

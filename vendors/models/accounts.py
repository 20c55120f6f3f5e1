"""The pool: accounts at vendors, and what each has done on a day."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from accounts.audit import Audited
from accounts.fields import SealedJSONField, SealedTextField
from jobs.models import FINISHED, Job, Status, Step
from vendors.models.registry import Vendor

VENDORS_DAY = ZoneInfo("Europe/London")  # the vendors are British shops; their days are London's


def vendors_today() -> Any:
    return datetime.now(VENDORS_DAY).date()


class VendorAccountQuerySet(models.QuerySet["VendorAccount"]):
    def with_daily_items(self) -> VendorAccountQuerySet:
        """Annotates `daily_items_added`: what each has added since midnight in London."""
        today = AccountUsage.objects.filter(account=models.OuterRef("pk"), day=vendors_today())
        return self.annotate(  # type: ignore[no-redef]
            daily_items_added=models.functions.Coalesce(
                models.Subquery(today.values("items_added")[:1]), 0
            )
        )

    def free(self) -> VendorAccountQuerySet:
        """Those that no unfinished job holds, nor a step that is still being stopped."""
        return self.filter(_is_free())

    def with_freedom(self) -> VendorAccountQuerySet:
        """Annotates `is_free`."""
        return self.annotate(  # type: ignore[no-redef]
            is_free=models.ExpressionWrapper(_is_free(), output_field=models.BooleanField())
        )

    def rested(self) -> VendorAccountQuerySet:
        """Those that may add again by their vendor's pacing."""
        return self.filter(Q(released_at=None) | Q(released_at__lte=Now() - _rest()))

    def with_rest(self) -> VendorAccountQuerySet:
        """Annotates `rest_left`: for how long not, by the database's clock; negative when it may,
        None for one that was never used."""
        left = models.F("released_at") + _rest() - Now()
        return self.annotate(  # type: ignore[no-redef]
            rest_left=models.ExpressionWrapper(left, output_field=models.DurationField())
        )


def _rest() -> models.ExpressionWrapper[Any]:
    seconds = models.F("vendor__seconds_between_adds") * models.Value(timedelta(seconds=1))
    return models.ExpressionWrapper(seconds, output_field=models.DurationField())


def _is_free() -> Q:
    stopping = Step.objects.filter(job=models.OuterRef("held_by"), status=Status.RUNNING)
    ended = Q(held_by__status__in=FINISHED) & ~Q(models.Exists(stopping))
    return Q(held_by=None) | ended


class VendorAccount(Audited):
    """An account of the organisation's own at a vendor, shared by all of its requests."""

    NOT_AUDITED = ("session_data",)  # each use of it is

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    vendor = models.ForeignKey(Vendor, on_delete=models.CASCADE, related_name="accounts")
    email = models.EmailField(max_length=255)
    password = SealedTextField()
    is_blocked = models.BooleanField(default=False, help_text="Set aside: no job uses it.")
    blocked_at = models.DateTimeField(null=True, blank=True, editable=False)
    blocked_reason = models.CharField(max_length=500, blank=True)
    last_used_at = models.DateTimeField(null=True, editable=False)
    session_data = SealedJSONField(null=True, editable=False)
    total_items_added = models.PositiveIntegerField(default=0, editable=False)
    notes = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    rate_limit_daily = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Most items it adds in a day. Empty: as many as its vendor says.",
    )
    released_at = models.DateTimeField(
        null=True, editable=False, help_text="When a job last gave it back: the pacing's beginning."
    )
    # One session at a time: an account is held by one job, and a job holds one account.
    held_by = models.OneToOneField(
        Job, null=True, on_delete=models.SET_NULL, related_name="held_account", editable=False
    )

    objects = VendorAccountQuerySet.as_manager()

    # Only where `with_daily_items`, `with_freedom` and `with_rest` were asked for.
    daily_items_added: int
    is_free: bool
    rest_left: timedelta | None

    class Meta:
        db_table = "vendor_accounts"
        ordering = ["vendor", "email"]
        constraints = [models.UniqueConstraint(fields=["vendor", "email"], name="account_email")]
        indexes = [
            models.Index(fields=["vendor", "is_blocked", "last_used_at"], name="account_lru")
        ]

    def __str__(self) -> str:
        return self.email

    @property
    def most_daily(self) -> int:
        """Items a day: its own limit, for an account with a higher one, or its vendor's."""
        return self.rate_limit_daily or self.vendor.rate_limit_daily

    @property
    def flow_key(self) -> str:
        return f"account:{self.pk}"


class AccountUsage(models.Model):
    """Items an account added on one London day. A row a day, so there is nothing to reset."""

    account = models.ForeignKey(VendorAccount, on_delete=models.CASCADE, related_name="usage")
    day = models.DateField()
    items_added = models.PositiveIntegerField(default=0)

    class Meta:
        db_table = "account_usage"
        constraints = [models.UniqueConstraint(fields=["account", "day"], name="usage_day")]

    def __str__(self) -> str:
        return f"{self.items_added} on {self.day}"

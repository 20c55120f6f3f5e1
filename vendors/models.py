"""The PRD's tables (section 7), under its names. Columns that it does not have say why."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts.audit import Audited
from accounts.fields import SealedJSONField, SealedTextField
from automation.site import Site, site_problems
from jobs.models import FINISHED, Job, Status, Step

VENDORS_DAY = ZoneInfo("Europe/London")  # the vendors are British shops; their days are London's


def vendors_today() -> Any:
    return datetime.now(VENDORS_DAY).date()


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
    # One session at a time: an account is held by one job, and a job holds one account.
    held_by = models.OneToOneField(
        Job, null=True, on_delete=models.SET_NULL, related_name="held_account", editable=False
    )

    objects = VendorAccountQuerySet.as_manager()

    # Only where `with_daily_items` and `with_freedom` were asked for.
    daily_items_added: int
    is_free: bool

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


class QueueItemQuerySet(models.QuerySet["QueueItem"]):
    def visible_to(self, user: Any) -> QueueItemQuerySet:
        """Staff see every item, others those they asked for."""
        return self if user.is_staff else self.filter(created_by=user)


class QueueItem(models.Model):
    """A request to put a product into a vendor's cart. Its job carries it out."""

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        PROCESSING = "processing", "Processing"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"
        MANUAL_REQUIRED = "manual_required", "Manual required"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user_id = models.CharField(max_length=64, default="system", help_text="Who asks: a constant.")
    vendor = models.ForeignKey(Vendor, on_delete=models.PROTECT, related_name="queue_items")
    product_url = models.CharField(max_length=1000)
    product_name = models.CharField(max_length=500, null=True, blank=True)  # noqa: DJ001
    product_data = models.JSONField(default=dict, blank=True)
    status = models.CharField(max_length=50, choices=Status, default=Status.PENDING)
    assigned_account = models.ForeignKey(
        VendorAccount, null=True, blank=True, on_delete=models.SET_NULL, related_name="queue_items"
    )
    attempts = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveIntegerField(default=3)
    error_message = models.TextField(null=True, blank=True)  # noqa: DJ001
    error_code = models.CharField(max_length=50, blank=True)
    # Null for what never was automated: it went straight to a person.
    job = models.OneToOneField(
        Job, null=True, blank=True, on_delete=models.SET_NULL, related_name="queue_item"
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    completed_at = models.DateTimeField(null=True, blank=True)

    objects = QueueItemQuerySet.as_manager()

    class Meta:
        db_table = "cart_queue"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["status", "id"], name="idx_cart_queue_status"),
            models.Index(fields=["vendor", "status", "id"], name="idx_cart_queue_vendor"),
            models.Index(fields=["user_id", "id"], name="idx_cart_queue_user"),
        ]

    def __str__(self) -> str:
        return self.product_name or self.product_url

    @property
    def quantity(self) -> int:
        return int(self.product_data.get("quantity", 1))


class CartItem(models.Model):
    """A line that was added to an account's cart and found there. One for an item, ever."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user_id = models.CharField(max_length=64, default="system")
    vendor_account = models.ForeignKey(
        VendorAccount, on_delete=models.PROTECT, related_name="cart_items"
    )
    queue_item = models.OneToOneField(
        QueueItem, on_delete=models.PROTECT, related_name="cart_item", editable=False
    )
    product_url = models.CharField(max_length=1000)
    product_name = models.CharField(max_length=500, null=True, blank=True)  # noqa: DJ001
    quantity = models.PositiveIntegerField(default=1)
    added_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "user_cart_items"
        ordering = ["-added_at"]
        indexes = [models.Index(fields=["user_id"], name="idx_user_cart_items_user")]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.product_name or self.product_url}"

"""Vendors and their accounts, to set up; queue items and cart items, to look at."""

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, QuerySet, Subquery, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.timesince import timesince
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminPasswordToggleWidget, UnfoldAdminTextareaWidget

from accounts.models import User
from automation.site import KEYS
from jobs.admin import ReadOnly, badge, shortened, status_badge, time_column
from vendors import check, pool
from vendors.cart_lines import mark_gone, warn_of_moved
from vendors.errors import RequestRefused
from vendors.migration_admin import MigratesAccounts, tell_marked
from vendors.models import (
    AccountUsage,
    CartItem,
    QueueItem,
    Vendor,
    VendorAccount,
    VendorAccountQuerySet,
    VendorQuerySet,
    VendorVersion,
    vendors_today,
)

ITEM_COLOURS = {
    QueueItem.Status.PROCESSING: "info",
    QueueItem.Status.COMPLETED: "success",
    QueueItem.Status.FAILED: "danger",
    QueueItem.Status.MANUAL_REQUIRED: "warning",
}


def link(url: str, text: object) -> str:
    return format_html('<a class="text-link" href="{}">{}</a>', url, text)


class ShowsAccount:
    """An account's state and use, in lists and in its vendor's page."""

    @display(description="Status", ordering="is_blocked")
    def state(self, account: VendorAccount) -> str:
        if account.is_blocked:
            return badge("Blocked", "danger")
        if account.held_by and not account.held_by.is_finished:
            return badge("In use", "info")
        if account.daily_items_added >= account.most_daily:
            return badge("Limit reached", "warning")
        return badge("Active", "success")

    @display(description="Today", ordering="daily_items_added")
    def today(self, account: VendorAccount) -> str:
        return f"{account.daily_items_added} of {account.most_daily}"

    @display(description="Total", ordering="total_items_added")
    def total(self, account: VendorAccount) -> int:
        return account.total_items_added

    @display(description="Last used", ordering="last_used_at")
    def last_used(self, account: VendorAccount) -> str:
        return (
            f"{timesince(account.last_used_at, depth=1)} ago" if account.last_used_at else "Never"
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[VendorAccount]:
        accounts: VendorAccountQuerySet = super().get_queryset(request)  # type: ignore[misc]
        return accounts.with_daily_items().select_related("vendor", "held_by")


class IndentedJSON(json.JSONEncoder):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "indent": 2})


class VendorForm(forms.ModelForm):  # type: ignore[type-arg]
    selectors = forms.JSONField(
        encoder=IndentedJSON,
        required=False,
        widget=UnfoldAdminTextareaWidget(
            {"rows": 28, "spellcheck": "false", "wrap": "off", "style": "font-family: monospace"}
        ),
        help_text="CSS, or XPath when it begins with /. null: the shop has none. {value} stands "
        "for the chosen value of an option.",
    )

    class Meta:
        model = Vendor
        fields = "__all__"  # noqa: DJ007  the admin's fieldsets list them
        widgets = {"allowed_domains": UnfoldAdminTextareaWidget({"rows": 2})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # jsonb forgets the order of keys; this is the order in which a visit meets them.
        order = {key: place for place, key in enumerate(KEYS)}
        selectors: dict[str, Any] = self.instance.selectors
        self.initial["selectors"] = {
            key: selectors[key] for key in sorted(selectors, key=lambda key: order.get(key, 99))
        }

    def clean_selectors(self) -> Any:
        selectors = self.cleaned_data["selectors"]
        return {} if selectors is None else selectors


class AccountHealthFilter(admin.SimpleListFilter):
    title = "account health"
    parameter_name = "health"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("healthy", "All healthy"), ("some", "Some blocked"), ("none", "None usable")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Vendor]) -> QuerySet[Vendor]:
        conditions = {
            "healthy": {"blocked_accounts": 0, "healthy_accounts__gt": 0},
            "some": {"blocked_accounts__gt": 0, "healthy_accounts__gt": 0},
            "none": {"healthy_accounts": 0},
        }
        return queryset.filter(**conditions.get(self.value() or "", {}))


class AccountInline(ReadOnly, ShowsAccount, TabularInline):
    model = VendorAccount
    fields = ["account", "state", "today", "total", "last_used"]
    readonly_fields = fields
    hide_title = True
    extra = 0

    @display(description="Account")
    def account(self, account: VendorAccount) -> str:
        return link(reverse("admin:vendors_vendoraccount_change", args=[account.pk]), account)


@admin.register(Vendor)
class VendorAdmin(ModelAdmin):
    form = VendorForm
    list_display = ["name", "domain", "health", "accounts", "handled_by", "items_today"]
    list_filter = [AccountHealthFilter, "can_automate", "requires_captcha", "is_prioritized"]
    search_fields = ["name", "domain"]
    inlines = [AccountInline]
    actions = ["check_data"]
    actions_detail = ["add_account"]
    compressed_fields = False
    readonly_fields = ["automation", "versions"]
    fieldsets = [
        (
            None,
            {
                "fields": [
                    "automation",
                    ("name", "domain"),
                    ("login_url", "cart_url"),
                    "allowed_domains",
                ]
            },
        ),
        (
            "How it is automated",
            {
                "fields": [
                    ("can_automate", "requires_captcha"),
                    ("login_required", "allow_private_network"),
                    ("rate_limit_daily", "seconds_between_adds"),
                    "cart_scope",
                    ("is_prioritized", "migrate_on_block"),
                ]
            },
        ),
        ("What its pages look like", {"fields": ["selectors", "versions"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Vendor]:
        today = AccountUsage.objects.filter(account__vendor=OuterRef("pk"), day=vendors_today())
        total = today.values("account__vendor").values(total=Sum("items_added"))
        vendors: VendorQuerySet = super().get_queryset(request)
        return vendors.with_account_counts().annotate(items_today=Subquery(total))

    def save_model(self, request: HttpRequest, obj: Vendor, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        pool.wake_waiting_on_commit(obj.pk)  # its accounts may add more items a day now

    @display(description="Health")
    def health(self, vendor: Vendor) -> str:
        """The PRD's green, yellow and red (section 9.3.1)."""
        if not vendor.account_count:
            return badge("No account", "danger")
        if not vendor.blocked_accounts:
            return badge("All healthy", "success")
        if vendor.healthy_accounts:
            return badge("Some blocked", "warning")
        return badge("All blocked", "danger")

    @display(description="Accounts", ordering="account_count")
    def accounts(self, vendor: Vendor) -> str:
        blocked = f" ({vendor.blocked_accounts} blocked)" if vendor.blocked_accounts else ""
        return f"{vendor.account_count}{blocked}"

    @display(description="Added by")
    def handled_by(self, vendor: Vendor) -> str:
        if vendor.requires_captcha:
            return "A person (captcha)"
        return "A person" if vendor.why_manual() else "Automation"

    @display(description="Automation")
    def automation(self, vendor: Vendor) -> str:
        if vendor._state.adding:
            return "-"
        return vendor.why_manual() or "On: what is asked for is added by a browser."

    @display(description="Earlier versions")
    def versions(self, vendor: Vendor) -> str:
        if vendor._state.adding or (newest := vendor.versions.first()) is None:
            return "None yet: each change is kept."
        url = f"{reverse('admin:vendors_vendorversion_changelist')}?vendor__id__exact={vendor.pk}"
        by = f" by {newest.saved_by}" if newest.saved_by else ""
        return link(url, f"Version {newest.number}, saved{by} {timesince(newest.saved_at)} ago")

    @display(description="Items today", ordering="items_today")
    def items_today(self, vendor: Any) -> int:
        return vendor.items_today or 0  # annotated in get_queryset

    @admin.action(description="Check the selected vendors' data", permissions=["change"])
    def check_data(self, request: HttpRequest, queryset: QuerySet[Vendor]) -> None:
        """On the live site, with the product that was asked for last."""
        for vendor in queryset:
            newest = vendor.queue_items.order_by("-pk").values_list("product_url", flat=True)
            url = next((url for url in newest[:1] if vendor.site().contains(url)), None)
            try:
                job = check.submit_vendor_check(vendor, product_url=url, by=_person(request))
            except RequestRefused as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.message_user(request, link(job.get_absolute_url(), job), messages.SUCCESS)

    @action(description="Add account", icon="person_add")
    def add_account(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(f"{reverse('admin:vendors_vendoraccount_add')}?vendor={object_id}")


@admin.register(VendorVersion)
class VendorVersionAdmin(ReadOnly, ModelAdmin):
    list_display = ["version", "vendor", time_column("saved_at"), "saved_by", "changes"]
    list_filter = ["vendor"]
    list_select_related = ["vendor"]
    actions = ["restore"]
    fields = ["vendor", "number", "saved_at", "saved_by", "diff", "diff_to_now"]

    @display(description="Version", ordering="number")
    def version(self, version: VendorVersion) -> str:
        return f"Version {version.number}"

    @display(description="Changed")
    def changes(self, version: VendorVersion) -> str:
        if version.number == 1:
            return "The first one kept"
        return shortened(", ".join(version.changed_keys))

    @display(description="What it changed")
    def diff(self, version: VendorVersion) -> str:
        former = version.find_former()
        return _shown_diff(version.diff_to(former.data) if former else "")

    @display(description="What restoring it would change now")
    def diff_to_now(self, version: VendorVersion) -> str:
        return _shown_diff(version.diff_to(version.vendor.versioned_data()))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only with its vendor: the admin asks this before it deletes that."""
        own = reverse("admin:vendors_vendorversion_changelist")
        is_here = request.path.startswith(own)
        return not is_here and request.user.has_perm("vendors.delete_vendor")

    def has_restore_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vendors.change_vendor")

    @admin.action(description="Restore the selected version", permissions=["restore"])
    def restore(self, request: HttpRequest, queryset: QuerySet[VendorVersion]) -> None:
        versions = list(queryset.select_related("vendor")[:2])
        if len(versions) != 1:
            self.message_user(request, "Select one version to restore.", messages.ERROR)
            return
        (version,) = versions
        try:
            version.vendor.restore(version)
        except ValidationError as error:
            said = " ".join(error.messages)
            self.message_user(request, f"Nothing was changed: {said}", messages.ERROR)
            return
        pool.wake_waiting_on_commit(version.vendor_id)
        self.message_user(request, f"{version} was restored.", messages.SUCCESS)


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the admin lets nobody else in
    return request.user


def _shown_diff(diff: str) -> str:
    return format_html("<pre>{}</pre>", diff) if diff else "Nothing"


class VendorAccountForm(forms.ModelForm):  # type: ignore[type-arg]
    # Not `password`: the admin would take that for the model's field, which no form may show.
    new_password = forms.CharField(
        label="Password",
        strip=False,
        max_length=1000,
        widget=UnfoldAdminPasswordToggleWidget({"autocomplete": "new-password"}),
        help_text="Stored encrypted, never shown. Leave it empty to keep the one that is stored.",
    )

    class Meta:
        model = VendorAccount
        fields = ["vendor", "email", "rate_limit_daily", "is_blocked", "notes"]
        widgets = {"notes": UnfoldAdminTextareaWidget({"rows": 3})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["new_password"].required = self.instance._state.adding

    def clean(self) -> dict[str, Any] | None:
        if password := self.cleaned_data.get("new_password"):
            self.instance.password = password
        return super().clean()


@admin.register(VendorAccount)
class VendorAccountAdmin(MigratesAccounts, ShowsAccount, ModelAdmin):
    form = VendorAccountForm
    list_display = ["email", "vendor", "state", "today", "total", "last_used"]
    list_filter = ["is_blocked", "vendor"]
    search_fields = ["email", "vendor__name", "vendor__domain"]
    actions = ["test_log_in", "unblock", "migrate", "mark_ordered"]
    compressed_fields = False
    fieldsets = [
        (None, {"fields": [("vendor", "email"), "new_password", "notes"]}),
        ("Status", {"fields": ["is_blocked", ("blocked_reason", "blocked_at")]}),
        (
            "Use",
            {
                "fields": [
                    "rate_limit_daily",
                    ("today", "total"),
                    ("last_used", "created_at"),
                    "in_cart",
                ]
            },
        ),
    ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        shown = [
            "blocked_reason",
            "blocked_at",
            "today",
            "total",
            "last_used",
            "created_at",
            "in_cart",
        ]
        return [*shown, "vendor"] if obj else shown

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_fieldsets(request, obj) if obj else self.fieldsets[:1]

    def save_model(self, request: HttpRequest, obj: VendorAccount, form: Any, change: bool) -> None:
        if not change:
            super().save_model(request, obj, form, change)
            pool.wake_waiting_on_commit(obj.vendor_id)
            return
        changed = set(form.changed_data)
        fields = changed & {"email", "notes", "rate_limit_daily"}
        if "new_password" in changed:
            fields.add("password")
        if fields & {"email", "password"}:
            obj.session_data = None  # it is the old log-in's
            fields.add("session_data")
        # Only what the form changed: a worker may be writing the row's other columns.
        obj.save(update_fields=fields)
        if "rate_limit_daily" in changed:
            pool.wake_waiting_on_commit(obj.vendor_id)
        if "is_blocked" in changed and obj.is_blocked:
            pool.set_aside(obj, f"Set aside by {request.user}.")
        elif "is_blocked" in changed:
            pool.unblock(VendorAccount.objects.filter(pk=obj.pk))

    @display(description="In its cart")
    def in_cart(self, account: VendorAccount) -> str:
        count = account.cart_items.in_cart().count()
        lines = reverse("admin:vendors_cartitem_changelist")
        return link(f"{lines}?vendor_account__id__exact={account.pk}&state=in_cart", count)

    @admin.action(description="Test the log-in of the selected accounts", permissions=["change"])
    def test_log_in(self, request: HttpRequest, queryset: QuerySet[VendorAccount]) -> None:
        for account in queryset.select_related("vendor"):
            job = check.submit_account_test(account, by=_person(request))
            self.message_user(request, link(job.get_absolute_url(), job), messages.SUCCESS)

    @admin.action(description="Unblock the selected accounts", permissions=["change"])
    def unblock(self, request: HttpRequest, queryset: QuerySet[VendorAccount]) -> None:
        blocked = list(queryset.filter(is_blocked=True))
        count = pool.unblock(queryset)
        self.message_user(request, f"Accounts unblocked: {count}.", messages.SUCCESS)
        for warning in filter(None, map(warn_of_moved, blocked)):
            self.message_user(request, warning, messages.WARNING)


class ShowsItem:
    @display(description="Product", ordering="product_name")
    def product(self, item: QueueItem | CartItem) -> str:
        return shortened(item.product_name or item.product_url)

    @display(description="Product page")
    def product_page(self, item: QueueItem | CartItem) -> str:
        return link(item.product_url, item.product_url)


@admin.register(QueueItem)
class QueueItemAdmin(ReadOnly, ShowsItem, ModelAdmin):
    list_display = [
        "product",
        "vendor",
        "state",
        "assigned_account",
        "attempts",
        time_column("created_at"),
    ]
    list_filter = ["status", "vendor", "created_at"]
    list_select_related = ["vendor", "assigned_account"]
    search_fields = ["product_name", "product_url", "=id"]
    show_full_result_count = False
    fieldsets = [
        (None, {"fields": ["product_name", "product_page", "vendor", "product_data", "user_id"]}),
        ("Status", {"fields": ["state", "error_message", "error_code", "job_page"]}),
        ("Work", {"fields": ["assigned_account", "attempts", "max_attempts"]}),
        ("Times", {"fields": ["created_at", "updated_at", "completed_at"]}),
    ]

    @display(description="Status", ordering="status")
    def state(self, item: QueueItem) -> str:
        return status_badge(item, ITEM_COLOURS)

    @display(description="Job")
    def job_page(self, item: QueueItem) -> str:
        if item.job is None:
            return "None: it went straight to a person."
        return link(item.job.get_absolute_url(), item.job)


class CartItemStateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("in_cart", "In the cart"), ("gone", "Gone"), ("moved", "Moved")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[CartItem]) -> QuerySet[CartItem]:
        conditions: dict[str, dict[str, Any]] = {
            "in_cart": {"replaced_at": None, "gone_at": None},
            "gone": {"gone_at__isnull": False},
            "moved": {"replaced_at__isnull": False},
        }
        return queryset.filter(**conditions.get(self.value() or "", {}))


@admin.register(CartItem)
class CartItemAdmin(ReadOnly, ShowsItem, ModelAdmin):
    list_display = [
        "product",
        "quantity",
        "vendor",
        "vendor_account",
        "state",
        time_column("added_at"),
    ]
    list_filter = [CartItemStateFilter, "vendor_account__vendor", "added_at"]
    list_select_related = ["vendor_account__vendor"]
    search_fields = ["product_name", "product_url", "vendor_account__email"]
    show_full_result_count = False
    actions = ["mark_gone"]
    fields = [
        "product_name",
        "product_page",
        "quantity",
        "vendor",
        "vendor_account",
        "state",
        "queue_item",
        "user_id",
        "added_at",
        "replaced_at",
        "gone_at",
    ]

    @display(description="Vendor", ordering="vendor_account__vendor__name")
    def vendor(self, item: CartItem) -> Vendor:
        return item.vendor_account.vendor

    @display(description="State")
    def state(self, item: CartItem) -> str:
        if item.gone_at:
            return badge("Gone", None)
        if item.replaced_at:
            return badge("Moved", "warning")
        return badge("In the cart", "success")

    def has_mark_gone_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vendors.change_cartitem")

    @admin.action(
        description="Mark as gone from the cart: ordered, or taken out",
        permissions=["mark_gone"],
    )
    def mark_gone(self, request: HttpRequest, queryset: QuerySet[CartItem]) -> None:
        tell_marked(request, mark_gone(queryset, by=_person(request)))

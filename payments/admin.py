"""Cards, log-ins and sites, to set up; vouchers and purchases, to look at. What is secret is typed
here and never shown: a voucher's code alone can be, by a click that is noted."""

import json
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminPasswordToggleWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from jobs.admin import ReadOnly, badge, status_badge, time_column
from payments.errors import InvalidCard
from payments.models import AuthSession, Card, PaymentSite, SiteAccount, VoucherCode

KEEP = "Stored encrypted, never shown. Leave it empty to keep what is stored."
NO_AUTOCOMPLETE = {"autocomplete": "off", "spellcheck": "false"}


def link(url: str, text: object) -> str:
    return format_html('<a class="text-link" href="{}">{}</a>', url, text)


@display(description="Status", ordering="is_active")
def activity(row: Any) -> str:
    return badge("Active", "success") if row.is_active else badge("Turned off", "warning")


# ---- sites --------------------------------------------------------------------------------------


class IndentedJSON(json.JSONEncoder):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "indent": 2})


class SiteForm(forms.ModelForm):  # type: ignore[type-arg]
    data = forms.JSONField(  # type: ignore[assignment]  # the metaclass takes it away
        label="Description",
        encoder=IndentedJSON,
        widget=UnfoldAdminTextareaWidget(
            {"rows": 30, "spellcheck": "false", "wrap": "off", "style": "font-family: monospace"}
        ),
        help_text="urls, selectors (CSS, or XPath when it begins with /) and texts (regular "
        "expressions); see docs/vouchers.md.",
    )

    class Meta:
        model = PaymentSite
        fields = "__all__"  # noqa: DJ007  the admin's fieldsets list them


@admin.register(PaymentSite)
class PaymentSiteAdmin(ModelAdmin):
    form = SiteForm
    list_display = ["name", "kind", "domain", activity, "log_ins"]
    list_filter = ["kind", "is_active"]
    search_fields = ["name", "domain"]
    compressed_fields = False
    fieldsets = [
        (None, {"fields": [("name", "kind"), ("domain", "is_active")]}),
        ("What its pages look like", {"fields": ["data"]}),
    ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["kind"] if obj else []

    @display(description="Log-ins")
    def log_ins(self, site: PaymentSite) -> str:
        if site.kind == PaymentSite.Kind.CARD_PAGE:
            return "None needed"
        url = f"{reverse('admin:payments_siteaccount_changelist')}?site__id__exact={site.pk}"
        return link(url, site.accounts.count())


# ---- log-ins ------------------------------------------------------------------------------------


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]
    # Not `password`: the admin would take that for the model's field, which no form may show.
    new_password = forms.CharField(
        label="Password",
        strip=False,
        max_length=1000,
        widget=UnfoldAdminPasswordToggleWidget({"autocomplete": "new-password"}),
        help_text=KEEP,
    )

    class Meta:
        model = SiteAccount
        fields = ["workspace", "site", "email", "phone_number", "is_active"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["new_password"].required = self.instance._state.adding
        if "site" in self.fields:
            sites: Any = self.fields["site"]
            sites.queryset = PaymentSite.objects.exclude(kind=PaymentSite.Kind.CARD_PAGE)

    def clean(self) -> dict[str, Any] | None:
        if password := self.cleaned_data.get("new_password"):
            self.instance.password = password
        return super().clean()


@admin.register(SiteAccount)
class SiteAccountAdmin(ModelAdmin):
    form = AccountForm
    list_display = ["email", "site", "phone_number", activity]
    list_filter = ["site", "is_active"]
    list_select_related = ["site"]
    search_fields = ["email", "site__name"]
    compressed_fields = False
    fieldsets = [
        (None, {"fields": [("site", "email"), "new_password", "phone_number"]}),
        ("Use", {"fields": ["is_active", "workspace"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[SiteAccount]:
        accounts: QuerySet[SiteAccount] = super().get_queryset(request)
        return accounts.defer("password")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["site"] if obj else []

    def save_model(self, request: HttpRequest, obj: SiteAccount, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and {"email", "new_password"} & set(form.changed_data):
            # They are the old log-in's.
            obj.sessions.filter(is_active=True).update(is_active=False, session_data=None)


@admin.register(AuthSession)
class AuthSessionAdmin(ReadOnly, ModelAdmin):
    list_display = [
        "session_type",
        "account",
        "queue",
        activity,
        time_column("last_used_at"),
        time_column("expires_at"),
    ]
    list_filter = ["session_type", "is_active"]
    list_select_related = ["account"]
    fields = [
        "session_type",
        "account",
        "transaction",
        "browser_context_id",
        "queue",
        "is_active",
        "created_at",
        "last_used_at",
        "expires_at",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuthSession]:
        sessions: QuerySet[AuthSession] = super().get_queryset(request)
        return sessions.defer("session_data")


# ---- cards --------------------------------------------------------------------------------------


def secret_field(label: str, **attributes: str) -> forms.CharField:
    return forms.CharField(
        label=label,
        max_length=40,
        widget=UnfoldAdminTextInputWidget({**NO_AUTOCOMPLETE, **attributes}),
        help_text=KEEP,
    )


class CardForm(forms.ModelForm):  # type: ignore[type-arg]
    new_number = secret_field("Card number", inputmode="numeric")
    new_expiry = secret_field("Expiry", placeholder="MM/YY")

    class Meta:
        model = Card
        fields = [
            "workspace",
            "card_type",
            "label",
            "holder",
            "phone_number",
            "otp_service",
            "portal_account",
            "redeemer_account",
            "transaction_limit",
            "currency",
            "is_active",
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("new_number", "new_expiry"):
            self.fields[name].required = self.instance._state.adding
        for name, kind in (("portal", "portal"), ("redeemer", "redeemer")):
            accounts: Any = self.fields[f"{name}_account"]
            accounts.queryset = SiteAccount.objects.filter(site__kind=kind).defer("password")

    def clean_new_number(self) -> str:
        return self._written("new_number", self.instance.write_number)

    def clean_new_expiry(self) -> str:
        return self._written("new_expiry", self.instance.write_expiry)

    def _written(self, name: str, write: Callable[[str], None]) -> str:
        typed: str = self.cleaned_data[name]
        if typed:
            try:
                write(typed)
            except InvalidCard as error:
                raise ValidationError(str(error), code=error.code) from error
        return typed


@admin.register(Card)
class CardAdmin(ModelAdmin):
    form = CardForm
    list_display = ["card", "card_type", "holder", "limit", "phone_number", activity]
    list_filter = ["is_active", "card_type"]
    search_fields = ["label", "holder", "card_type", "last4"]
    compressed_fields = False
    fieldsets = [
        (
            None,
            {
                "fields": [
                    ("card_type", "label"),
                    "holder",
                    ("new_number", "new_expiry"),
                    ("transaction_limit", "currency"),
                ]
            },
        ),
        ("Where it is used", {"fields": [("portal_account", "redeemer_account")]}),
        ("The bank's codes", {"fields": [("phone_number", "otp_service")]}),
        ("Use", {"fields": [("is_active", "workspace")]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Card]:
        cards: QuerySet[Card] = super().get_queryset(request)
        return cards.defer("number", "expiry")

    @display(description="Card", ordering="label")
    def card(self, card: Card) -> str:
        return str(card)

    @display(description="Limit of a payment", ordering="transaction_limit")
    def limit(self, card: Card) -> str:
        return "-" if card.transaction_limit is None else f"{card.transaction_limit.normalize():f}"


# ---- vouchers -----------------------------------------------------------------------------------

COLOURS = {
    VoucherCode.Status.ISSUED: "warning",
    VoucherCode.Status.REDEEMED: "success",
    VoucherCode.Status.REFUSED: "danger",
    VoucherCode.Status.UNKNOWN: "danger",
}


@admin.register(VoucherCode)
class VoucherCodeAdmin(ReadOnly, ModelAdmin):
    list_display = [
        "voucher",
        "amount",
        "state",
        "purchase_page",
        time_column("issued_at"),
        time_column("redeemed_at"),
    ]
    list_filter = ["status", "issued_at"]
    list_select_related = ["transaction__purchase"]
    search_fields = ["tail", "transaction__order", "transaction__reference"]
    show_full_result_count = False
    fields = [
        "voucher",
        "amount",
        "state",
        "purchase_page",
        "expires_on",
        "issued_at",
        "redeemed_at",
        "redeemed_by",
        "error_message",
        "job",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[VoucherCode]:
        vouchers: QuerySet[VoucherCode] = super().get_queryset(request)
        return vouchers.defer("code", "pin")

    @display(description="Voucher", ordering="tail")
    def voucher(self, voucher: VoucherCode) -> str:
        return str(voucher)

    @display(description="Status", ordering="status")
    def state(self, voucher: VoucherCode) -> str:
        return status_badge(voucher, COLOURS)

    @display(description="Purchase")
    def purchase_page(self, voucher: VoucherCode) -> str:
        """There the code is shown by a click that is noted, and the voucher redeemed."""
        purchase = voucher.transaction.purchase
        page = reverse("payments:detail", args=[purchase.pk])
        return link(f"{page}#transaction-{voucher.transaction.index}", purchase)

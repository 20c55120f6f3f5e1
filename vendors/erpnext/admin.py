"""ERPNext connections on pages: to set up, with what to copy into ERPNext; and what each site asked
for and was told."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordToggleWidget

from jobs.admin import ReadOnly, badge, shortened, status_badge, time_column
from jobs.webhooks.admin import of_workspace
from vendors.erpnext import updates
from vendors.models import ErpnextConnection, ErpnextLine

WEBHOOK_PATH = "/api/erpnext/webhook"
LINE_COLOURS = {
    ErpnextLine.Status.PENDING: "info",
    ErpnextLine.Status.DELIVERED: "success",
    ErpnextLine.Status.FAILED: "danger",
}
KEEP = "Stored encrypted, never shown. Leave it empty to keep the one that is stored."


def _secret_field(label: str) -> forms.CharField:
    widget = UnfoldAdminPasswordToggleWidget({"autocomplete": "new-password"})
    return forms.CharField(
        label=label, required=False, max_length=200, widget=widget, help_text=KEEP
    )


class ConnectionForm(forms.ModelForm):  # type: ignore[type-arg]
    # Not by the columns' names: no form may show those.
    new_webhook_secret = _secret_field("Webhook secret")
    new_api_key = _secret_field("API key")
    new_api_secret = _secret_field("API secret")

    class Meta:
        model = ErpnextConnection
        fields = [
            "name",
            "user",
            "site_url",
            "is_local",
            "is_active",
            "body_keys",
            "sends_updates",
            "update_target",
            "update_doctype",
            "told_fields",
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["new_webhook_secret"].required = self.instance._state.adding

    def clean(self) -> dict[str, Any] | None:
        data = super().clean() or {}
        for column in ("webhook_secret", "api_key", "api_secret"):
            if secret := data.get(f"new_{column}"):
                setattr(self.instance, column, secret)
        if data.get("sends_updates") and not self._has_keys():
            raise ValidationError(
                {"sends_updates": "Updates need the API key and secret of a user of the site."}
            )
        if user := data.get("user"):
            self.instance.workspace_id = user.workspace_id
        return data

    def _has_keys(self) -> bool:
        """Whether there are some; nothing is opened to see that."""
        columns = vars(self.instance)
        return all(columns.get(name) is not None for name in ("api_key", "api_secret"))


@admin.register(ErpnextConnection)
class ErpnextConnectionAdmin(ModelAdmin):
    form = ConnectionForm
    list_display = ["name", "site_url", "state", "lines", "workspace"]
    search_fields = ["name", "site_url"]
    compressed_fields = False
    readonly_fields = ["request_url"]
    fieldsets = [
        (None, {"fields": ["name", ("site_url", "user"), ("is_active", "is_local")]}),
        (
            "What ERPNext sends us",
            {"fields": ["request_url", "new_webhook_secret", "body_keys"]},
        ),
        (
            "What we tell ERPNext",
            {
                "fields": [
                    "sends_updates",
                    ("new_api_key", "new_api_secret"),
                    ("update_target", "update_doctype"),
                    "told_fields",
                ]
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ErpnextConnection]:
        rows = of_workspace(super().get_queryset(request), request, "workspace")
        failed = Count("lines", filter=Q(lines__status=ErpnextLine.Status.FAILED))
        counted: QuerySet[ErpnextConnection] = rows.annotate(failed=failed)
        return counted

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"user": request.user.pk, **super().get_changeform_initial_data(request)}

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user":
            users = db_field.related_model.objects.filter(is_active=True)
            kwargs["queryset"] = of_workspace(users, request, "workspace")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    @display(description="Request URL")
    def request_url(self, connection: ErpnextConnection) -> str:
        if connection._state.adding:
            return "Save the connection to see it."
        return format_html(
            "<code>{}?connection={}</code> at this server's own address",
            WEBHOOK_PATH,
            connection.pk,
        )

    @display(description="State")
    def state(self, connection: Any) -> str:
        if not connection.is_active:
            return badge("Off", None)
        if connection.failed:  # annotated in get_queryset
            return badge(f"{connection.failed} not told", "danger")
        return badge("Active", "success")

    @display(description="Lines")
    def lines(self, connection: ErpnextConnection) -> str:
        url = reverse("admin:vendors_erpnextline_changelist")
        query = f"connection__id__exact={connection.pk}"
        return format_html(
            '<a class="text-link" href="{0}?{1}">All</a>, '
            '<a class="text-link" href="{0}?{1}&status__exact=failed">not told</a>',
            url,
            query,
        )

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Their lines go with them, uncounted, though nobody may delete one alone."""
        return [str(connection) for connection in objs], {}, set(), []


@admin.register(ErpnextLine)
class ErpnextLineAdmin(ReadOnly, ModelAdmin):
    list_display = [
        "document",
        "row",
        "product",
        "state",
        "attempt",
        "last_error",
        time_column("due_at"),
        time_column("delivered_at"),
    ]
    list_filter = ["status", "connection"]
    list_select_related = ["connection", "queue_item"]
    search_fields = ["document", "row", "=queue_item__id"]
    show_full_result_count = False
    actions = ["send_again"]
    fieldsets = [
        (None, {"fields": ["connection", "document", "row", "queue_item", "asked", "state"]}),
        ("Last answer", {"fields": ["response_status", "error", "response_body"]}),
        (
            "Updates",
            {
                "fields": [
                    "told",
                    "attempt",
                    ("due_at", "lease_expires_at"),
                    "delivered_at",
                    "attempts",
                ]
            },
        ),
    ]
    readonly_fields = ["state", "attempts"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ErpnextLine]:
        return of_workspace(super().get_queryset(request), request, "connection__workspace")

    def has_send_again_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vendors.change_erpnextline")

    @display(description="Product")
    def product(self, line: ErpnextLine) -> str:
        return shortened(line.queue_item or "In the archive")

    @display(description="Told", ordering="status")
    def state(self, line: ErpnextLine) -> str:
        return status_badge(line, LINE_COLOURS)

    @display(description="Last error")
    def last_error(self, line: ErpnextLine) -> str:
        return shortened(line.error)

    @display(description="One by one, the newest first")
    def attempts(self, line: ErpnextLine) -> str:
        rows = [
            {**attempt, "at": datetime.fromisoformat(attempt["at"])}
            for attempt in reversed(line.history)
        ]
        return render_to_string("jobs/delivery_attempts.html", {"attempts": rows})

    @admin.action(description="Send again", permissions=["send_again"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[ErpnextLine]) -> None:
        lines = queryset.select_related("connection")
        sent = [updates.send_again(line) for line in lines]
        if refused := sent.count(False):
            text = f"Not sent: {refused}, for their connection sends no updates. Turn it on first."
            self.message_user(request, text, messages.ERROR)
        self.message_user(request, f"Updates due again: {sent.count(True)}.", messages.SUCCESS)

"""Webhooks on pages: endpoints to set up, deliveries to look at and to send again.

What changes anything is a POST from the list: Unfold's buttons on a page would be plain links.
"""

import json
from datetime import datetime
from typing import Any, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import display

from jobs.admin import ReadOnly, badge, shortened, status_badge, time_column
from jobs.models import WebhookDelivery, WebhookEndpoint
from jobs.webhooks import deliveries, endpoints
from jobs.webhooks.deliveries import NOTHING_LEFT
from jobs.webhooks.errors import EndpointDisabled, InvalidUrl, WebhookRefused
from jobs.webhooks.payload import make_body

DELIVERY_COLOURS = {
    WebhookDelivery.Status.PENDING: "info",
    WebhookDelivery.Status.DELIVERED: "success",
    WebhookDelivery.Status.FAILED: "danger",
}
Row = TypeVar("Row", bound=Model)
COPY_IT_NOW = "{}: {} — copy it now, it is not shown again."


class WebhookForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = WebhookEndpoint
        fields = ["url", "description", "events"]
        help_texts = {
            "events": "With commas between: job.completed, step.failed. job.* is all of jobs, "
            "* is everything."
        }

    def clean(self) -> dict[str, Any] | None:
        data = super().clean() or {}
        if {"url", "events"} <= data.keys():
            try:
                endpoints.check_endpoint(data["url"], data["events"])
            except WebhookRefused as error:
                field = "url" if isinstance(error, InvalidUrl) else "events"
                raise ValidationError({field: str(error)}) from error
        return data


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ModelAdmin):
    form = WebhookForm
    list_display = ["name", "state", "kinds", "sent", "workspace"]
    search_fields = ["url", "description"]
    actions = ["send_test", "rotate_secret", "disable", "enable"]
    readonly_fields = [
        "state",
        "disabled_reason",
        "disabled_at",
        "failing_since",
        "old_secret_expires_at",
        "workspace",
        "created_by",
        "created_at",
    ]
    fieldsets = [
        (None, {"fields": ["url", "description", "events"]}),
        ("State", {"fields": ["state", "disabled_reason", ("disabled_at", "failing_since")]}),
        ("Secret", {"fields": ["old_secret_expires_at"]}),
        ("Whose", {"fields": ["workspace", ("created_by", "created_at")]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookEndpoint]:
        rows = of_workspace(super().get_queryset(request), request, "workspace")
        return rows.defer("secret", "old_secret")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_fieldsets(request, obj) if obj else self.fieldsets[:1]

    def save_model(
        self, request: HttpRequest, obj: WebhookEndpoint, form: Any, change: bool
    ) -> None:
        if change:
            fields = {name: form.cleaned_data[name] for name in form.changed_data}
            endpoints.change_endpoint(obj, **fields)
            return
        assert request.user.is_authenticated  # by the admin
        added = endpoints.add_endpoint(
            request.user.workspace, created_by=request.user, **form.cleaned_data
        )
        obj.__dict__.update(added.__dict__)
        self._show_secret(request, added)

    def _show_secret(self, request: HttpRequest, endpoint: WebhookEndpoint) -> None:
        text = COPY_IT_NOW.format(endpoint, endpoint.secret)
        self.message_user(request, text, messages.WARNING)

    @display(description="Webhook", ordering="url")
    def name(self, endpoint: WebhookEndpoint) -> str:
        return shortened(endpoint)

    @display(description="State")
    def state(self, endpoint: WebhookEndpoint) -> str:
        if endpoint.disabled_at:
            return badge("Disabled", "danger")
        return badge("Failing", "warning") if endpoint.failing_since else badge("Active", "success")

    @display(description="Events")
    def kinds(self, endpoint: WebhookEndpoint) -> str:
        return shortened(", ".join(endpoint.events))

    @display(description="Deliveries")
    def sent(self, endpoint: WebhookEndpoint) -> str:
        url = reverse("admin:jobs_webhookdelivery_changelist")
        query = f"endpoint__id__exact={endpoint.pk}"
        return format_html(
            '<a class="text-link" href="{0}?{1}">All</a>, '
            '<a class="text-link" href="{0}?{1}&status__exact=failed">failed</a>',
            url,
            query,
        )

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Their deliveries go with them, uncounted, though nobody may delete one alone."""
        return [str(endpoint) for endpoint in objs], {}, set(), []

    def delete_model(self, request: HttpRequest, obj: WebhookEndpoint) -> None:
        endpoints.delete_endpoint(obj.pk)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        for endpoint in queryset:
            endpoints.delete_endpoint(endpoint.pk)

    @admin.action(description="Send a test event", permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        for endpoint in queryset:
            try:
                delivery = deliveries.send_test(endpoint)
            except EndpointDisabled as error:
                self.message_user(request, f"{endpoint}: {error}", messages.ERROR)
            else:
                text = format_html("{}: <a href='{}'>sent</a>.", endpoint, _page_of(delivery))
                self.message_user(request, text, messages.SUCCESS)

    @admin.action(
        description="Rotate the secret (the old one holds for 24 hours)", permissions=["change"]
    )
    def rotate_secret(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        for endpoint in queryset:
            rotated = endpoints.rotate_secret(endpoint.pk)
            self.log_change(request, rotated, "Rotated the secret.")
            self._show_secret(request, rotated)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        reason = f"Disabled by {request.user}."
        count = sum(endpoints.disable(endpoint.pk, reason) for endpoint in queryset)
        self.message_user(request, f"Webhooks disabled: {count}.", messages.SUCCESS)

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        count = sum(endpoints.enable(endpoint.pk) for endpoint in queryset)
        self.message_user(request, f"Webhooks enabled: {count}.", messages.SUCCESS)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnly, ModelAdmin):
    list_display = [
        "kind",
        "endpoint_name",
        "state",
        "attempt",
        "response_status",
        time_column("due_at"),
        time_column("delivered_at"),
    ]
    list_filter = ["status", "endpoint", "kind"]
    list_select_related = ["endpoint"]
    search_fields = ["=id", "=job__id", "kind"]
    show_full_result_count = False
    actions = ["redeliver"]
    fieldsets = [
        (None, {"fields": ["id", "kind", "endpoint", "job", "event_number", "state"]}),
        ("Last answer", {"fields": ["response_status", "error", "response_body"]}),
        (
            "Attempts",
            {"fields": ["attempt", ("due_at", "lease_expires_at"), "delivered_at", "attempts"]},
        ),
        ("Message", {"fields": ["body"]}),
    ]
    readonly_fields = ["id", "state", "attempts", "body"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookDelivery]:
        return of_workspace(super().get_queryset(request), request, "endpoint__workspace")

    def has_redeliver_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("jobs.change_webhookdelivery")

    @display(description="Webhook")
    def endpoint_name(self, delivery: WebhookDelivery) -> str:
        return shortened(delivery.endpoint)

    @display(description="Status", ordering="status")
    def state(self, delivery: WebhookDelivery) -> str:
        return status_badge(delivery, DELIVERY_COLOURS)

    @display(description="One by one, the newest first")
    def attempts(self, delivery: WebhookDelivery) -> str:
        rows = [
            {**attempt, "at": datetime.fromisoformat(attempt["at"])}
            for attempt in reversed(delivery.history)
        ]
        return render_to_string("jobs/delivery_attempts.html", {"attempts": rows})

    @display(description="Body")
    def body(self, delivery: WebhookDelivery) -> str:
        body = make_body(delivery)
        if body is None:
            return NOTHING_LEFT.error
        indented = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
        return format_html('<pre class="whitespace-pre-wrap">{}</pre>', indented)

    @admin.action(description="Send again", permissions=["redeliver"])
    def redeliver(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        sent = 0
        for delivery in queryset.select_related("endpoint"):
            try:
                deliveries.redeliver(delivery)
            except EndpointDisabled as error:
                self.message_user(request, f"{delivery}: {error}", messages.ERROR)
            else:
                sent += 1
        self.message_user(request, f"Messages due again: {sent}.", messages.SUCCESS)


def of_workspace(rows: QuerySet[Row], request: HttpRequest, field: str) -> QuerySet[Row]:
    """Those of the workspace of whoever asks; a superuser looks after all of them."""
    assert request.user.is_authenticated  # by the admin
    if request.user.is_superuser:
        return rows
    return rows.filter(**{field: request.user.workspace_id})


def _page_of(delivery: WebhookDelivery) -> str:
    return reverse("admin:jobs_webhookdelivery_change", args=[quote(delivery.pk)])

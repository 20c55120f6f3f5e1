"""What is limited or paused, to see and to change. Only the verbs in `flow.py` write."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from jobs import flow
from jobs.errors import InvalidLimit
from jobs.models import FlowLimit


class FlowLimitForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = FlowLimit
        fields = ["key", "concurrency", "rate", "period_seconds"]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                flow.check(FlowLimit(**{"key": self.instance.key, **cleaned}))
            except InvalidLimit as error:
                raise forms.ValidationError(str(error)) from error
        return cleaned


@admin.register(FlowLimit)
class FlowLimitAdmin(ModelAdmin):
    form = FlowLimitForm
    list_display = ["named", "state", "concurrency", "rate_in_words", "running", "waiting"]
    search_fields = ["key"]
    actions = ["pause_selected", "resume_selected"]
    actions_detail = ["pause_one", "resume_one"]
    fieldsets = [
        (None, {"fields": ["key", "concurrency", "rate", "period_seconds"]}),
        ("Now", {"fields": ["state", "paused_at", "paused_by", "pause_reason"]}),
    ]
    readonly_fields = ["state", "paused_at", "paused_by", "pause_reason"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [*self.readonly_fields, "key"] if obj else list(self.readonly_fields)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fieldsets if obj else self.fieldsets[:1]

    @display(description="Key", ordering="key")
    def named(self, limit: FlowLimit) -> str:
        return flow.describe_key(limit.key)

    @display(description="State", label={"Paused": "warning", "Open": "success"})
    def state(self, limit: FlowLimit) -> str:
        return "Paused" if limit.paused_at else "Open"

    @display(description="Starts")
    def rate_in_words(self, limit: FlowLimit) -> str:
        if limit.rate is None:
            return "-"
        return f"{limit.rate} in {flow.describe_period(limit.period)}"

    @display(description="Running")
    def running(self, limit: FlowLimit) -> int:
        return flow.count_running(limit.key)

    @display(description="Waiting")
    def waiting(self, limit: FlowLimit) -> int:
        return flow.count_held(limit.key)

    def save_model(self, request: HttpRequest, obj: FlowLimit, form: Any, change: bool) -> None:
        numbers = {name: getattr(obj, name) for name in ("concurrency", "rate", "period_seconds")}
        flow.set_limit(obj.key, **numbers, by=request.user.get_username())

    def delete_model(self, request: HttpRequest, obj: FlowLimit) -> None:
        _take_away(obj.key, by=request.user.get_username())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[FlowLimit]) -> None:
        for limit in queryset:
            _take_away(limit.key, by=request.user.get_username())

    @admin.action(description="Pause", permissions=["change"])
    def pause_selected(self, request: HttpRequest, limits: QuerySet[FlowLimit]) -> None:
        for limit in limits:
            flow.pause(limit.key, by=request.user.get_username())
        messages.success(request, f"Paused: {len(limits)}. What runs goes on.")

    @admin.action(description="Resume", permissions=["change"])
    def resume_selected(self, request: HttpRequest, limits: QuerySet[FlowLimit]) -> None:
        keys = [limit.key for limit in limits]
        count = sum(flow.resume(key, by=request.user.get_username()) for key in keys)
        messages.success(request, f"Resumed: {count}.")

    @action(description="Pause", permissions=["change"])
    def pause_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.pause_selected(request, FlowLimit.objects.filter(pk=object_id))
        return redirect("admin:jobs_flowlimit_change", object_id)

    @action(description="Resume", permissions=["change"])
    def resume_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.resume_selected(request, FlowLimit.objects.filter(pk=object_id))
        # Without a limit of its own the key has no row any more.
        return redirect(reverse("admin:jobs_flowlimit_changelist"))


def _take_away(key: str, *, by: str) -> None:
    flow.set_limit(key, by=by)
    flow.resume(key, by=by)

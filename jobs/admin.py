"""The engine's rows, to look at. Nothing here writes: only the engine changes a job."""

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.text import Truncator, capfirst
from django.utils.timezone import localtime
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display

from jobs.models import Event, Job, Status, Step

STATUS_COLOURS = {
    Status.RUNNING: "info",
    Status.WAITING: "warning",
    Status.MANUAL: "warning",
    Status.COMPLETED: "success",
    Status.FAILED: "danger",
}


def badge(text: str, colour: str | None) -> str:
    """Unfold's label. Its own decorator makes one in lists only, not in pages and inlines."""
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": colour})


def status_badge(row: Any, colours: Mapping[Any, str]) -> str:
    return badge(row.get_status_display(), colours.get(row.status))


def time_column(name: str) -> Callable[[Model], str]:
    """A list's column of a time, short enough to stand in one line."""

    def column(row: Model) -> str:
        time = getattr(row, name)
        shown = date_format(localtime(time), "j M, H:i:s") if time else "-"
        return format_html('<span class="whitespace-nowrap">{}</span>', shown)

    column.__name__ = name
    described = display(description=capfirst(name.replace("_", " ")), ordering=name)
    shown_column: Callable[[Model], str] = described(column)
    return shown_column


def shortened(text: Any) -> str:
    """Fits into a row on a phone, too."""
    return Truncator(str(text)).chars(56)


class ReadOnly:
    """Mixed into the admin of rows that people may see and never write."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ShowsStatus:
    @display(description="Status", ordering="status")
    def state(self, row: Job | Step) -> str:
        return status_badge(row, STATUS_COLOURS)


class StepInline(ReadOnly, ShowsStatus, TabularInline):
    model = Step
    fields = ["title", "state", "attempt", "phase", "worker", "started_at", "finished_at"]
    readonly_fields = fields
    hide_title = True
    extra = 0


@admin.register(Job)
class JobAdmin(ReadOnly, ShowsStatus, ModelAdmin):
    list_display = [
        "short_title",
        "workflow",
        "state",
        "percent",
        time_column("created_at"),
        time_column("finished_at"),
    ]
    list_filter = ["status", "workflow", "created_at"]
    search_fields = ["title", "=id"]
    show_full_result_count = False
    inlines = [StepInline]
    fieldsets = [
        (None, {"fields": ["title", "workflow", "state", "percent", "error", "result"]}),
        ("Asked for", {"fields": ["params", "priority", "idempotency_key", "created_by"]}),
        ("Times", {"fields": ["created_at", "started_at", "finished_at"]}),
    ]

    @display(description="Job", ordering="title")
    def short_title(self, job: Job) -> str:
        return shortened(job)

    @display(description="Progress", ordering="progress")
    def percent(self, job: Job) -> str:
        return f"{job.progress} %"


@admin.register(Step)
class StepAdmin(ReadOnly, ShowsStatus, ModelAdmin):
    list_display = [
        "title",
        "job_title",
        "state",
        "attempt",
        time_column("started_at"),
        time_column("finished_at"),
    ]
    list_filter = ["status", "handler", "queue"]
    list_select_related = ["job"]
    search_fields = ["job__title", "=job__id", "=id"]
    ordering = ["-id"]
    show_full_result_count = False
    fieldsets = [
        (None, {"fields": ["job", "title", "state", "attempt", "max_attempts", "error"]}),
        ("Plan", {"fields": ["stage", "position", "name", "handler", "queue", "weight", "params"]}),
        ("Claim", {"fields": ["worker", "fence", "lease_expires_at", "phase", "progress"]}),
        ("Outcome", {"fields": ["checkpoint", "output"]}),
        ("Times", {"fields": ["due_at", "started_at", "finished_at"]}),
    ]

    @display(description="Job")
    def job_title(self, step: Step) -> str:
        return shortened(step.job)


@admin.register(Event)
class EventAdmin(ReadOnly, ModelAdmin):
    list_display = ["message", "kind", "job_title", "number", time_column("at")]
    list_filter = ["kind", "at"]
    list_select_related = ["job"]
    search_fields = ["message", "=job__id"]
    ordering = ["-id"]
    show_full_result_count = False
    fields = ["job", "number", "kind", "step_id", "message", "data", "at"]

    @display(description="Job")
    def job_title(self, event: Event) -> str:
        return shortened(event.job)

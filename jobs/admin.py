"""The engine's rows, to look at. Only the engine changes a job: actions call its verbs."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.text import Truncator, capfirst
from django.utils.timezone import localtime
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display

from jobs import bulk
from jobs.bulk import Action
from jobs.models import ArchivedJob, Event, Job, Status, Step

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
    def state(self, row: Job | Step | ArchivedJob) -> str:
        return status_badge(row, STATUS_COLOURS)


class StepInline(ReadOnly, ShowsStatus, TabularInline):
    model = Step
    fields = ["title", "state", "attempt", "phase", "worker", "started_at", "finished_at"]
    readonly_fields = fields
    hide_title = True
    extra = 0


class ControlsJobs:
    """Actions on the selected jobs: first how many it comes to, then, if confirmed, one by one."""

    actions = ["cancel_selected", "run_selected_again"]

    def has_control_permission(self, request: HttpRequest) -> bool:
        return request.user.is_active and request.user.is_staff  # the PRD's admin role

    @admin.action(description="Cancel", permissions=["control"])
    def cancel_selected(self, request: HttpRequest, jobs: QuerySet[Job]) -> HttpResponse | None:
        able = bulk.POSSIBLE[Action.CANCEL]
        return self._control(request, jobs, Action.CANCEL, able, "Cancel", "Cancelled")

    @admin.action(description="Run again", permissions=["control"])
    def run_selected_again(self, request: HttpRequest, jobs: QuerySet[Job]) -> HttpResponse | None:
        able = bulk.MEANT[Action.RERUN]
        return self._control(request, jobs, Action.RERUN, able, "Run again", "Run again")

    def _control(
        self,
        request: HttpRequest,
        jobs: QuerySet[Job],
        action: Action,
        able: Collection[Status],
        label: str,
        done: str,
    ) -> HttpResponse | None:
        possible = Job.objects.filter(pk__in=jobs.values("pk"), status__in=able)
        if "confirmed" not in request.POST:
            return self._confirm(request, possible, others=jobs.count(), label=label)
        applied = bulk.apply(action, possible, by=request.user.get_username())
        messages.success(request, f"{done}: {applied.done}.")
        for skipped in applied.examples:
            messages.warning(request, f"Skipped: {skipped.sentence}")
        return None

    def _confirm(
        self, request: HttpRequest, possible: QuerySet[Job], *, others: int, label: str
    ) -> HttpResponse:
        count = possible.count()
        context = {
            **admin.site.each_context(request),
            "title": f"{label}: {count}",
            "label": label,
            "count": count,
            "others": others - count,
            "first": possible.order_by("pk")[:10],
            "more": max(count - 10, 0),
            # What the list posted, to be posted once more.
            "posted": [
                (name, value)
                for name in ("action", "select_across", helpers.ACTION_CHECKBOX_NAME)
                for value in request.POST.getlist(name)
            ],
        }
        return render(request, "jobs/confirm_action.html", context)


@admin.register(Job)
class JobAdmin(ControlsJobs, ReadOnly, ShowsStatus, ModelAdmin):
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


# Their pages are in a module of their own, which takes its parts from this one.
import jobs.webhooks.admin  # noqa: E402, F401


@admin.register(ArchivedJob)
class ArchivedJobAdmin(ReadOnly, ShowsStatus, ModelAdmin):
    list_display = [
        "short_title",
        "workflow",
        "state",
        time_column("created_at"),
        time_column("finished_at"),
    ]
    list_filter = ["status", "workflow", "created_at"]
    search_fields = ["=id"]
    search_help_text = "The id of a job, whole."
    show_full_result_count = False
    fieldsets = [
        (None, {"fields": ["title", "id", "workflow", "state", "created_by"]}),
        ("Times", {"fields": ["created_at", "finished_at", "archived_at"]}),
        ("What it was", {"fields": ["snapshot", "timeline"]}),
    ]

    @display(description="Job", ordering="title")
    def short_title(self, job: ArchivedJob) -> str:
        return shortened(job)

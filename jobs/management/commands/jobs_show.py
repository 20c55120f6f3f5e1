import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import reverse
from django.utils import timezone
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from jobs.events import with_open_waits
from jobs.models import ArchivedJob, Event, Job, Status, Step
from jobs.why import why_of_job

Reasons = Mapping[str, Mapping[str, Any]]
STYLES = {
    Status.RUNNING: "blue",
    Status.WAITING: "yellow",
    Status.MANUAL: "yellow",
    Status.COMPLETED: "green",
    Status.FAILED: "red",
}
FAINT = "bright_black"


class Command(BaseCommand):
    help = "Show one job: where it stands, its steps and why they do not start, and what happened."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("job", type=uuid.UUID, help="The id of the job.")
        parser.add_argument(
            "--events", type=int, default=100, metavar="N", help="The newest N events (100)."
        )

    def handle(self, *args: Any, job: uuid.UUID, events: int, **options: Any) -> None:
        found = Job.objects.filter(pk=job).first()
        if found is None:
            raise CommandError(_not_found(job))
        now = timezone.now()
        steps = list(with_open_waits(found.steps.all()))
        reasons = {each["step"]: each for each in why_of_job(found, visible=Job.objects.all())}
        newest = list(found.events.order_by("-number")[: max(events, 0)])
        console = Console(
            force_terminal=self.stdout.isatty(), highlight=False, markup=False, emoji=False
        )
        with console.capture() as capture:
            console.print(_head(found, now))
            console.print(_tree(steps, {} if found.is_finished else reasons, now))
            console.print(_timeline(found, {step.pk: step for step in steps}, newest[::-1]))
        self.stdout.write(capture.get())


def _not_found(job_id: uuid.UUID) -> str:
    if ArchivedJob.objects.filter(pk=job_id).exists():
        page = reverse("admin:jobs_archivedjob_change", args=[job_id])
        return f"The job {job_id} is archived; {page} shows its timeline."
    return f"No job has the id {job_id}. The job's page has it in its address."


def _head(job: Job, now: datetime) -> RenderableType:
    status = Text(job.get_status_display(), STYLES.get(Status(job.status), ""))
    facts = [f"{job.workflow} v{job.workflow_version}", f"{job.progress} %", f"id {job.pk}"]
    times = [f"created {_ago(job.created_at, now)}"]
    if job.started_at:
        times.append(f"started {_ago(job.started_at, now)}")
    if job.finished_at:
        times.append(f"ended {_ago(job.finished_at, now)}")
    lines = [
        Text(job.title, "bold"),
        Text(" · ").join([status, *map(Text, facts)]),
        Text(", ".join(times), FAINT),
    ]
    if job.error:
        lines.append(Text(f"{job.error['code']}: {job.error['message']}", "red"))
    return Group(*lines)


def _tree(steps: Iterable[Step], reasons: Reasons, now: datetime) -> RenderableType:
    tree = Tree("Steps")
    for _, group in groupby(steps, key=lambda step: step.stage):
        members = list(group)
        branch = tree if len(members) == 1 else tree.add(Text("side by side", FAINT))
        for step in members:
            branch.add(_step(step, reasons.get(str(step.pk)), now))
    return Padding(tree, (1, 0))


def _step(step: Step, reason: Mapping[str, Any] | None, now: datetime) -> RenderableType:
    style = STYLES.get(Status(step.status), FAINT)
    line = Text.assemble((step.get_status_display(), style), f"  {step.title} ", (step.name, FAINT))
    if step.attempt > 1 or (step.attempt and step.error):
        line.append(f"  attempt {step.attempt} of {step.max_attempts}", "yellow")
    if step.started_at and (step.finished_at or step.status == Status.RUNNING):
        line.append(f"  {_duration((step.finished_at or now) - step.started_at)}", FAINT)
    lines = [line, *(Text(words, "yellow") for words in _stands_at(step, reason, now))]
    if step.error:
        lines.append(Text(f"{step.error['code']}: {step.error['message']}", "red"))
    return Group(*lines)


def _stands_at(step: Step, reason: Mapping[str, Any] | None, now: datetime) -> Iterable[str]:
    """What a step that runs is at, why one that has not started does not; else nothing."""
    if step.status == Status.RUNNING:
        yield f"on {step.worker}" + (f": {step.phase}" if step.phase else "")
    # What comes later waits for what stands above it.
    if reason is None or reason["code"] == "earlier_steps":
        return
    yield reason["sentence"]
    yield from _particulars(reason["data"])
    for wait in step.open_waits:  # type: ignore[attr-defined]  # annotated
        until = f", until {_ago(wait.deadline_at, now)}" if wait.deadline_at else ""
        yield f"waits for {wait.get_kind_display().lower()}: {wait}{until}"
    if not step.open_waits and (due_at := reason["data"].get("due_at")):  # type: ignore[attr-defined]
        yield f"goes on {_ago(due_at, now)}"


def _particulars(data: Mapping[str, Any]) -> Iterable[str]:
    """What a limit's reason knows beyond its sentence."""
    for job in data.get("jobs", ()):
        yield f"  runs: {job['title']} ({job['id']})"
    if data.get("ahead") and "key" in data:
        yield f"  before it, for the same limit: {data['ahead']}"


def _timeline(job: Job, steps: dict[uuid.UUID, Step], events: Iterable[Event]) -> RenderableType:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right", style=FAINT)
    table.add_column(no_wrap=True)
    table.add_column()
    for event in events:
        step = steps.get(event.step_id) if event.step_id else None
        about = step.name if step else ""
        words = "" if step and event.message == step.title else event.message
        table.add_row(
            Text(f"+{_duration(event.at - job.created_at)}"),
            Text(event.kind),
            Text(": ".join(part for part in (about, words) if part)),
        )
    return Group(Text("Events, after the job was created"), table)


def _ago(time: datetime, now: datetime) -> str:
    return f"{_duration(now - time)} ago" if time <= now else f"in {_duration(time - now)}"


def _duration(length: timedelta) -> str:
    seconds = max(length.total_seconds(), 0.0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{hours} h {minutes % 60} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"

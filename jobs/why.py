"""Why a step does not start: the scheduler's own reason, in a sentence and as data.

Read from the rows that the claim reads, and decided by the function that it decides with. Times are
in the data alone: only the reader's page knows the reader's clock.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db.models import Q, QuerySet

from jobs import flow
from jobs.flow import Cause, Hold
from jobs.models import FINISHED, Event, Job, Status, Step, Wait
from jobs.processes import HOST, find_serving, is_host_queue
from jobs.statements import Candidate

FindReason = Callable[[Step], str | None]
_find_reason_of: dict[str, FindReason] = {}

MOST_NAMED = 10  # jobs or steps in one reason
MOST_STEPS = 50  # of one job; those of a larger group wait for the same

NOT_STARTED = (Status.PENDING, Status.READY, Status.WAITING)


@dataclass(frozen=True)
class Why:
    """`code` is for programs, `sentence` for people; what is in `data` depends on the code."""

    step: str
    name: str
    code: str
    sentence: str
    data: dict[str, Any] = field(default_factory=dict)


def register_reason(handler: str, find_reason: FindReason) -> None:
    """Has `find_reason` say why a step of this handler that was postponed still waits: as it is
    now, not as it was when the handler put it off. None: what the handler said then stands."""
    _find_reason_of[handler] = find_reason


def why(step_id: Any, *, visible: QuerySet[Job]) -> Why:
    """Names no job outside `visible`. Raises Step.DoesNotExist."""
    return _explain(Step.objects.select_related("job").get(pk=step_id), visible)


def why_of_job(job: Job, *, visible: QuerySet[Job]) -> list[dict[str, Any]]:
    """A reason for each of its steps that has not started, in the plan's order."""
    steps = Step.objects.filter(job=job, status__in=NOT_STARTED).select_related("job")
    return [asdict(_explain(step, visible)) for step in steps[:MOST_STEPS]]


def _explain(step: Step, visible: QuerySet[Job]) -> Why:
    code, sentence, data = _find_reason(step, visible)
    return Why(str(step.pk), step.name, code, sentence, data)


Reason = tuple[str, str, dict[str, Any]]


def _find_reason(step: Step, visible: QuerySet[Job]) -> Reason:
    if step.status not in NOT_STARTED:
        status = step.get_status_display().lower()
        return "has_started", f"Nothing holds it back: it is {status}.", {"status": step.status}
    if step.job.status in FINISHED:
        status = step.job.get_status_display().lower()
        return "job_ended", f"The job has ended: {status}.", {"status": step.job.status}
    match step.status:
        case Status.PENDING:
            return _explain_pending(step)
        case Status.WAITING:
            return _explain_waiting(step, visible)
    return _explain_held(step, visible) or _explain_ready(step)


def _explain_pending(step: Step) -> Reason:
    before = Step.objects.filter(job=step.job_id, stage__lt=step.stage)
    open_ = before.exclude(status=Status.COMPLETED)
    named = [
        {"step": str(each.pk), "name": each.name, "title": each.title, "status": each.status}
        for each in open_[:MOST_NAMED]
    ]
    titles = ", ".join(f"“{each['title']}”" for each in named[:3])
    count = open_.count()
    more = f" and {count - 3} more" if count > 3 else ""
    return "earlier_steps", f"Earlier steps are not done: {titles}{more}.", {"steps": named}


def _explain_waiting(step: Step, visible: QuerySet[Job]) -> Reason:
    if waits := list(Wait.objects.filter(step=step, status=Wait.Status.OPEN)):
        sentence = f"Waits for an answer: {step.phase or ', '.join(map(str, waits))}"
        return "answer", sentence, {"waits": [wait.state() for wait in waits]}
    if step.limited_by:
        return _explain_held(step, visible) or (
            "next",
            "There is a place for it now; it becomes ready in a moment.",
            {"key": step.limited_by},
        )
    due = {"due_at": step.due_at}
    if step.error:
        sentence = f"It is tried again after: {step.error['message']}"
        return "retry", sentence, {**due, "error": step.error, "attempt": step.attempt}
    postponed = Event.objects.filter(job=step.job_id, step_id=step.pk, kind="step.postponed")
    if event := postponed.order_by("-number").first():
        find_now = _find_reason_of.get(step.handler)
        return "postponed", (find_now and find_now(step)) or event.message, due
    return "waiting", "It waits for its time.", due


def _explain_held(step: Step, visible: QuerySet[Job]) -> Reason | None:
    """By the claim's own decision; None when no limit holds it back."""
    candidate = Candidate(step.pk, step.job_id, step.queue, step.priority, step.flow_keys)
    hold = flow.decide_hold(flow.read_limits(step.flow_keys), candidate)
    if hold is None:
        return None
    return str(hold.cause), hold.sentence, _describe_hold(hold, step, visible)


def _describe_hold(hold: Hold, step: Step, visible: QuerySet[Job]) -> dict[str, Any]:
    limit = hold.limit
    ahead = _better_than(step).filter(limited_by=limit.key, status=Status.WAITING).count()
    match hold.cause:
        case Cause.PAUSED:
            return {
                "key": limit.key,
                "paused_at": limit.paused_at,
                "paused_by": limit.paused_by,
                "reason": limit.pause_reason,
            }
        case Cause.CONCURRENCY:
            running = Step.objects.filter(status=Status.RUNNING, flow_keys__contains=[limit.key])
            jobs = visible.filter(pk__in=running.values("job")).order_by("pk")[:MOST_NAMED]
            return {
                "key": limit.key,
                "running": limit.running,
                "limit": limit.concurrency,
                "jobs": [{"id": str(job.pk), "title": job.title} for job in jobs],
                "ahead": ahead,
            }
        case Cause.RATE:
            is_held_by_it = step.status == Status.WAITING and step.limited_by == limit.key
            due_at = step.due_at if is_held_by_it else None
            return {
                "key": limit.key,
                "rate": limit.rate,
                "period_seconds": limit.period.total_seconds(),
                "due_at": due_at or flow.decide_slots(limit)[0],
                "ahead": ahead,
            }
    return {"key": limit.key, "ahead": ahead}


def _explain_ready(step: Step) -> Reason:
    data: dict[str, Any] = {"queue": step.queue}
    running = Step.objects.filter(status=Status.RUNNING, queue=step.queue).count()
    workers = find_serving(step.queue).count()
    if not workers and is_host_queue(step.queue):
        sentence = (
            f"It waits for the machine “{step.queue.removeprefix(HOST)}”, which has no worker now; "
            "if none comes back within a minute, another machine goes on."
        )
        return "no_worker", sentence, data
    if not workers and not running:
        sentence = f"No worker serves the queue “{step.queue}”; start one."
        return "no_worker", sentence, data
    ahead = _better_than(step).filter(status=Status.READY, queue=step.queue).count()
    data |= {"workers": workers, "running": running, "ahead": ahead}
    if ahead or running:
        first = "It is the next" if ahead == 0 else f"{_steps(ahead)} before it"
        busy = f"the workers are busy with {_steps(running)}"
        return "workers_busy", f"{first} in the queue; {busy}.", data
    return "next", "It is the next in the queue, and a worker has been called.", data


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def _better_than(step: Step) -> QuerySet[Step]:
    """What goes before it where both wait for the same."""
    return Step.objects.filter(
        Q(priority__gt=step.priority) | Q(priority=step.priority, pk__lt=step.pk)
    )

"""Appending events to a job and reading them back. Numbers have no gaps: they are given under the
lock on the job's row, in the transaction that causes them."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Prefetch, QuerySet

from jobs.models import Event, Job, Step, Wait

MESSAGE_LENGTH = 1000  # the column's


@dataclass(frozen=True)
class NewEvent:
    """`job` and `step` are the changed fields, as a client merges them into what it knows."""

    kind: str
    message: str
    step_id: uuid.UUID | None = None
    job: Mapping[str, Any] = field(default_factory=dict)
    step: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, Any]:
        changed = {"job": dict(self.job), "step": dict(self.step)}
        return {what: fields for what, fields in changed.items() if fields}


def append_events(job: Job, events: Sequence[NewEvent]) -> None:
    """Needs the lock on the job's row, and the transaction that causes the events."""
    Event.objects.bulk_create(
        Event(
            job=job,
            number=job.last_event + place,
            kind=event.kind,
            step_id=event.step_id,
            message=event.message[:MESSAGE_LENGTH],
            data=event.data,
        )
        for place, event in enumerate(events, start=1)
    )
    job.last_event += len(events)
    job.save(update_fields=["last_event"])


JOB_FIELDS = (
    "id",
    "workflow",
    "title",
    "status",
    "progress",
    "result",
    "error",
    "created_at",
    "started_at",
    "finished_at",
)
STEP_FIELDS = (
    "id",
    "stage",
    "position",
    "name",
    "title",
    "status",
    "attempt",
    "max_attempts",
    "progress",
    "phase",
    "error",
    "due_at",
    "started_at",
    "finished_at",
)


def job_state(job: Job) -> dict[str, Any]:
    """The job as clients see it: the fields that events change, and a few that never change."""
    return {name: getattr(job, name) for name in JOB_FIELDS}


def step_state(step: Step) -> dict[str, Any]:
    """The same for a step; `open_waits` must have been prefetched (`with_open_waits`)."""
    waits = [wait.state() for wait in step.open_waits]  # type: ignore[attr-defined]
    return {name: getattr(step, name) for name in STEP_FIELDS} | {"waits": waits}


def with_open_waits(steps: QuerySet[Step]) -> QuerySet[Step]:
    open_waits = Wait.objects.filter(status=Wait.Status.OPEN)
    return steps.prefetch_related(Prefetch("waits", open_waits, to_attr="open_waits"))


def event_state(event: Event) -> dict[str, Any]:
    return {
        "number": event.number,
        "kind": event.kind,
        "at": event.at,
        "step": event.step_id,
        "message": event.message,
        "data": event.data,
    }


def read_events(job_id: uuid.UUID, *, after: int, limit: int = 500) -> list[dict[str, Any]]:
    rows = Event.objects.filter(job_id=job_id, number__gt=after).order_by("number")[:limit]
    return [event_state(event) for event in rows]

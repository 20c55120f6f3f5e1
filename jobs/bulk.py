"""The same for many jobs: which ones a filter means, how many, and then one after another.

Each job is its own transaction, by the verbs of `control.py`: whoever stops in the middle has done
what was done, and doing it again goes on with the rest.
"""

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db.models import QuerySet

from jobs import control
from jobs.errors import InvalidFilter, NotPossible
from jobs.models import FINISHED, Job, Status

BATCH = 200
MOST_NAMED = 20  # of those that were skipped; the rest is a number


class Action(StrEnum):
    CANCEL = "cancel"
    RERUN = "rerun"
    RESUME = "resume"


# Which jobs an action is for when the filter names no status, and which it may name.
MEANT: Mapping[Action, frozenset[Status]] = {
    Action.CANCEL: frozenset({Status.PENDING, Status.RUNNING, Status.WAITING}),
    Action.RERUN: frozenset({Status.FAILED, Status.MANUAL, Status.CANCELLED}),
    Action.RESUME: frozenset({Status.MANUAL}),
}
# What a person works on is cancelled only where somebody asks for just that.
POSSIBLE = {
    **MEANT,
    Action.CANCEL: MEANT[Action.CANCEL] | {Status.MANUAL},
    Action.RERUN: FINISHED,
}


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are meant: those for which all of it holds. Empty, it means none."""

    ids: Collection[uuid.UUID] = ()
    workflow: str = ""
    status: Collection[Status] = ()
    error_code: str = ""
    created_after: datetime | None = None
    created_before: datetime | None = None
    params: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not any(getattr(self, each.name) for each in fields(self))

    def jobs(self, action: Action, visible: QuerySet[Job]) -> QuerySet[Job]:
        """The jobs among `visible` that the action is for. Raises InvalidFilter."""
        if self.is_empty:
            raise InvalidFilter("Say which jobs: an empty filter means none.")
        if wrong := set(self.status) - POSSIBLE[action]:
            able = ", ".join(sorted(POSSIBLE[action]))
            raise InvalidFilter(
                f"Jobs that are {', '.join(sorted(wrong))} cannot be named here: "
                f"{action} is for jobs that are {able}."
            )
        jobs = visible.filter(status__in=self.status or MEANT[action])
        conditions: dict[str, Any] = {
            "pk__in": self.ids,
            "workflow": self.workflow,
            "error__code": self.error_code,
            "created_at__gte": self.created_after,
            "created_at__lt": self.created_before,
            "params__contains": dict(self.params),
        }
        return jobs.filter(**{name: value for name, value in conditions.items() if value})


@dataclass(frozen=True)
class Skipped:
    job_id: uuid.UUID
    title: str
    sentence: str


@dataclass
class Applied:
    """What became of it. `last`: the job it came to; None once there is none left."""

    done: int = 0
    skipped: int = 0
    examples: list[Skipped] = field(default_factory=list)
    last: uuid.UUID | None = None


def apply(
    action: Action,
    jobs: QuerySet[Job],
    *,
    by: str,
    reason: str = "",
    from_step: str | None = None,
    after: uuid.UUID | None = None,
    most: int | None = None,
) -> Applied:
    """Does it to each of the `jobs`, oldest first, from the one after `after` and to `most`.

    What cannot be done with a job, which may have changed since it was looked up, is skipped and
    said. Jobs that come meanwhile are left alone. Safe to repeat.
    """
    applied = Applied()
    verb = _verb(action, by, reason, from_step)
    for job_id, title in _one_by_one(jobs, after):
        if applied.done + applied.skipped == most:
            return applied
        applied.last = job_id
        try:
            verb(job_id)
            applied.done += 1
        except Job.DoesNotExist:
            _skip(applied, job_id, title, "It has been deleted.")
        except NotPossible as error:
            _skip(applied, job_id, title, str(error))
    applied.last = None
    return applied


def _verb(
    action: Action, by: str, reason: str, from_step: str | None
) -> Callable[[uuid.UUID], Job]:
    match action:
        case Action.CANCEL:
            return lambda job_id: control.cancel_job(job_id, by=by, reason=reason)
        case Action.RERUN:
            return lambda job_id: control.rerun_job(job_id, from_step, by=by)
        case Action.RESUME:
            return lambda job_id: control.resume_job(job_id, by=by)


def _one_by_one(jobs: QuerySet[Job], after: uuid.UUID | None) -> Iterator[tuple[uuid.UUID, str]]:
    """Each job once, though it may fit the filter again as soon as it was dealt with."""
    newest = jobs.order_by("-pk").values_list("pk", flat=True).first()
    while newest is not None:
        rows = jobs.filter(pk__lte=newest).order_by("pk")
        page = rows.filter(pk__gt=after) if after else rows
        batch = list(page.values_list("pk", "title")[:BATCH])
        yield from batch
        if len(batch) < BATCH:
            return
        after = batch[-1][0]


def _skip(applied: Applied, job_id: uuid.UUID, title: str, sentence: str) -> None:
    applied.skipped += 1
    if len(applied.examples) < MOST_NAMED:
        applied.examples.append(Skipped(job_id, title, sentence))

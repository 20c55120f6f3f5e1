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


# ---- any rows -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Skipped:
    id: uuid.UUID
    title: str
    sentence: str


@dataclass
class Applied:
    """What became of it. `last`: the row it came to; None once there is none left."""

    done: int = 0
    skipped: int = 0
    examples: list[Skipped] = field(default_factory=list)
    last: uuid.UUID | None = None

    def skip(self, pk: uuid.UUID, title: str, sentence: str) -> None:
        self.skipped += 1
        if len(self.examples) < MOST_NAMED:
            self.examples.append(Skipped(pk, title, sentence))


def apply_each(
    rows: QuerySet[Any],
    verb: Callable[[uuid.UUID], object],
    *,
    title: str,
    gone: str,
    after: uuid.UUID | None = None,
    most: int | None = None,
) -> Applied:
    """Does it to each of the rows by its id, oldest first: those after `after`, at most `most`.

    What cannot be done with one (NotPossible), which may have changed since it was looked up, is
    skipped and said. Rows that come meanwhile are left alone. Safe to repeat. `title` is the column
    that names a row, `gone` what is said of one that is not there any more.
    """
    applied = Applied()
    for pk, name in _one_by_one(rows, title, after):
        if applied.done + applied.skipped == most:
            return applied
        applied.last = pk
        try:
            verb(pk)
            applied.done += 1
        except rows.model.DoesNotExist:
            applied.skip(pk, name, gone)
        except NotPossible as error:
            applied.skip(pk, name, str(error))
    applied.last = None
    return applied


def _one_by_one(
    rows: QuerySet[Any], title: str, after: uuid.UUID | None
) -> Iterator[tuple[uuid.UUID, str]]:
    """Each once, though it may fit the filter again as soon as it was dealt with."""
    newest = rows.order_by("-pk").values_list("pk", flat=True).first()
    while newest is not None:
        page = rows.filter(pk__lte=newest).order_by("pk")
        if after:
            page = page.filter(pk__gt=after)
        batch = list(page.values_list("pk", title)[:BATCH])
        yield from batch
        if len(batch) < BATCH:
            return
        after = batch[-1][0]


def check_status(
    action: str, named: Collection[str], possible: Collection[str], *, noun: str
) -> None:
    """Raises InvalidFilter for a status whose rows the action is not for."""
    if wrong := set(named) - set(possible):
        raise InvalidFilter(
            f"{noun.capitalize()}s that are {', '.join(sorted(wrong))} cannot be named here: "
            f"{action} is for {noun}s that are {', '.join(sorted(possible))}."
        )


# ---- jobs ---------------------------------------------------------------------------------------


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
        check_status(action, self.status, POSSIBLE[action], noun="job")
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
    """As `apply_each`."""
    verb = _verb(action, by, reason, from_step)
    return apply_each(
        jobs, verb, title="title", gone="It has been deleted.", after=after, most=most
    )


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

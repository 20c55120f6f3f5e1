"""Putting away finished jobs after their time, so that the hot tables stay small.

A batch is one short transaction that waits for nobody: what others have locked is passed over until
tomorrow. Files go first and rows after them, so a crash leaves rows to be found again, never files
that nobody knows of. Any number of processes may do this at once.
"""

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from time import monotonic
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import (
    Count,
    Exists,
    F,
    OuterRef,
    ProtectedError,
    Q,
    QuerySet,
    RestrictedError,
    Sum,
)
from django.db.models.functions import Coalesce, Now

from accounts import audit
from jobs.events import event_state, job_state, step_state, with_open_waits
from jobs.models import (
    FINISHED,
    ArchivedJob,
    ArchiveRun,
    Artifact,
    Effect,
    Event,
    InboundMessage,
    Job,
    Signal,
    Status,
    Step,
)
from jobs.subjects import find_subject

log = structlog.get_logger(__name__)

# Jobs of 5 steps and 14 events each take a transaction of 0.15 to 0.4 s, measured on two busy cores
# with 60,000 such jobs in the tables (200 take 0.3 to 0.8 s: larger is no faster). It comes between
# two sweeps, so a step that falls due meanwhile waits for that long.
BATCH = 100
SETTLED = FINISHED | {Status.CANCELLED}
LOOK_SECONDS = 600.0  # how soon a new day is noticed


@dataclass(frozen=True)
class Archived:
    """What a batch did. `reached`: when the last job that it looked at had finished; None when
    there was none left to look at."""

    jobs: int = 0
    artifacts: int = 0
    reached: datetime | None = None
    others: int = 0  # rows of other apps

    @property
    def is_last(self) -> bool:
        return self.reached is None and self.artifacts < BATCH and not self.others


@dataclass(frozen=True)
class Plan:
    """What there is to put away."""

    jobs: Mapping[str, int]  # by status
    steps: int
    events: int
    artifacts: int


# Puts up to a batch of an app's own rows away that ended longer ago than this; how many.
PutAway = Callable[[timedelta], int]
_others: list[PutAway] = []


def register_archive(put_away: PutAway) -> None:
    """Called with every batch, after its jobs are in the archive."""
    _others.append(put_away)


def retention() -> timedelta:
    return timedelta(days=settings.RETENTION_DAYS)


def old_jobs(age: timedelta) -> QuerySet[Job]:
    """Those that nobody needs any more; a job whose act is not settled still waits for a person."""
    unsettled = Effect.objects.for_people().filter(job=OuterRef("pk"))
    old = Job.objects.filter(status__in=FINISHED, finished_at__lt=Now() - age)
    return old.exclude(Exists(unsettled))


def plan_archive(age: timedelta) -> Plan:
    jobs = old_jobs(age)
    gone = Q(expires_at__lt=Now()) | Q(job__in=jobs)
    return Plan(
        jobs=dict(jobs.order_by().values_list("status").annotate(Count("pk"))),
        steps=Step.objects.filter(job__in=jobs).count(),
        events=jobs.aggregate(count=Coalesce(Sum("last_event"), 0))["count"],
        artifacts=Artifact.objects.filter(gone).count(),
    )


# --- A batch ---------------------------------------------------------------------------------


def archive_batch(
    age: timedelta, *, after: datetime | None = None, note: Callable[[Archived], None] | None = None
) -> Archived:
    """Archives up to BATCH jobs that finished longer ago than `age`, and after `after`, and deletes
    up to BATCH artifacts whose time is over. `note` is called in the transaction of the jobs."""
    artifacts = delete_artifacts(Artifact.objects.filter(expires_at__lt=Now()))
    delete_old(Signal.objects.filter(expires_at__lt=Now() - age))
    delete_old(InboundMessage.objects.filter(received_at__lt=Now() - age))
    audit.delete_old_entries(audit.retention())
    old = old_jobs(age)
    if after:
        old = old.filter(finished_at__gt=after)
    found = dict(old.order_by("finished_at", "pk").values_list("pk", "finished_at")[:BATCH])
    ids = list(found)
    while deleted := delete_artifacts(Artifact.objects.filter(job__in=ids)):
        artifacts += deleted
    subjects = {job.pk: find_subject(job.workflow, job.pk) for job in old.filter(pk__in=ids)}
    with transaction.atomic():
        records = _lock_records(ids, age, subjects)
        archived = _replace_jobs(records) if records else 0
        others = sum(put_away(age) for put_away in _others)
        done = Archived(archived, artifacts, found[ids[-1]] if ids else None, others)
        if note:
            note(done)
    return done


def delete_old(rows: QuerySet[Any]) -> None:
    """Deletes these, BATCH by BATCH: each is a transaction of its own."""
    while ids := list(rows.values_list("pk", flat=True)[:BATCH]):
        rows.model._default_manager.filter(pk__in=ids).delete()


def delete_artifacts(artifacts: QuerySet[Artifact]) -> int:
    """Deletes up to BATCH of these, their files first; how many."""
    found = list(artifacts.order_by("pk")[:BATCH])
    for artifact in found:
        artifact.file.delete(save=False)
    Artifact.objects.filter(pk__in=[artifact.pk for artifact in found]).delete()
    return len(found)


def _lock_records(
    ids: Sequence[uuid.UUID], age: timedelta, subjects: Mapping[uuid.UUID, Any]
) -> list[ArchivedJob]:
    """The records of those jobs that are still finished and that nobody else holds a row of."""
    # Jobs before their steps, against the order of locks: who waits for nobody cannot deadlock, and
    # two who do this at once share the jobs instead of each locking what the other needs.
    rows = old_jobs(age).filter(pk__in=ids).select_for_update(skip_locked=True, of=("self",))
    locked = list(rows.order_by("pk"))
    steps: dict[uuid.UUID, list[Step]] = defaultdict(list)
    of_jobs = Step.objects.filter(job__in=locked).order_by("stage", "position")
    for step in with_open_waits(of_jobs.select_for_update(skip_locked=True, of=("self",))):
        steps[step.job_id].append(step)
    jobs = [job for job in locked if _is_settled(job, steps[job.pk])]
    events: dict[uuid.UUID, list[dict[str, Any]]] = defaultdict(list)
    for event in Event.objects.filter(job__in=jobs).order_by("job", "number"):
        events[event.job_id].append(event_state(event))
    names = dict(
        Job.objects.filter(pk__in=[job.pk for job in jobs], created_by__isnull=False).values_list(
            "pk", "created_by__username"
        )
    )
    return [
        _record(job, steps[job.pk], events[job.pk], subjects.get(job.pk), names.get(job.pk, ""))
        for job in jobs
    ]


def _record(
    job: Job, steps: Sequence[Step], timeline: Sequence[Any], subject: Any, created_by: str
) -> ArchivedJob:
    assert job.finished_at
    described_job = {"params": job.params, "idempotency_key": job.idempotency_key}
    described_steps = [
        step_state(step) | {"output": step.output, "worker": step.worker} for step in steps
    ]
    return ArchivedJob(
        id=job.pk,
        workspace_id=job.workspace_id,
        workflow=job.workflow,
        title=job.title,
        status=job.status,
        created_by=created_by,
        created_at=job.created_at,
        finished_at=job.finished_at,
        snapshot={
            "job": job_state(job) | described_job,
            "steps": described_steps,
            "subject": subject,
        },
        timeline=timeline,
    )


def _is_settled(job: Job, steps: Sequence[Step]) -> bool:
    """Whether all of its steps are ours to take, and none of them runs on after its job."""
    return len(steps) == sum(job.stage_sizes) and all(step.status in SETTLED for step in steps)


def _replace_jobs(records: Sequence[ArchivedJob]) -> int:
    """Deletes the jobs, as the foreign keys to them say, and stores their records; how many. What
    refuses to let go of its job keeps it, and only it."""
    try:
        _replace(records)
    except (ProtectedError, RestrictedError) as error:
        if len(records) == 1:
            log.warning("job_not_archived", job=str(records[0].pk), error=str(error.args[0]))
            return 0
        return sum(_replace_jobs([record]) for record in records)
    return len(records)


def _replace(records: Sequence[ArchivedJob]) -> None:
    with transaction.atomic():
        Job.objects.filter(pk__in=[record.pk for record in records]).delete()
        ArchivedJob.objects.bulk_create(records, ignore_conflicts=True)


# --- A whole run -----------------------------------------------------------------------------


def archive_all(age: timedelta) -> Iterable[Archived]:
    """Batch after batch, until all that is old has been looked at once."""
    after: datetime | None = None
    while True:
        batch = archive_batch(age, after=after)
        yield batch
        if batch.is_last:
            return
        after = batch.reached or after


class DailyArchive:
    """The scheduler's share: a batch between two sweeps, until the day's work is done."""

    def __init__(self) -> None:
        self._next_look = float("-inf")

    def work(self) -> bool:
        """Does one batch if today's run is not finished; whether there may be more."""
        if monotonic() < self._next_look:
            return False
        run, _ = ArchiveRun.objects.get_or_create(day=_today())
        if run.finished_at is None and self._work(run):
            return True
        self._next_look = monotonic() + LOOK_SECONDS
        return False

    def _work(self, run: ArchiveRun) -> bool:
        def note(batch: Archived) -> None:
            ArchiveRun.objects.filter(pk=run.pk).update(
                jobs=F("jobs") + batch.jobs,
                artifacts=F("artifacts") + batch.artifacts,
                reached_at=batch.reached or F("reached_at"),
                finished_at=Now() if batch.is_last else None,
            )

        batch = archive_batch(retention(), after=run.reached_at, note=note)
        if batch.jobs or batch.artifacts:
            log.info("archived", jobs=batch.jobs, artifacts=batch.artifacts)
        return not batch.is_last


def _today() -> date:
    with connection.cursor() as cursor:
        cursor.execute("SELECT (now() AT TIME ZONE 'UTC')::date")
        today: date = cursor.fetchone()[0]
    return today

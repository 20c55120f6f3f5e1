"""Lists that stay live: rows newest first, a page of them, and how many there are of each status.

A page and a socket show the same rows, so both read them here.
"""

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.db import connection
from django.db.models import Model, OuterRef, QuerySet, Subquery
from django.db.models.functions import JSONObject
from django.urls import reverse
from django.utils import timezone
from psycopg import sql

from jobs.events import job_state
from jobs.models import JOB_STATUSES, Job, Status, Step
from jobs.snapshots import jobs_visible_to

PAGE_SIZE = 50
# Counting stops here: a page says "999+", and counting costs the same however long the list is.
MOST_COUNTED = 1000


class Listing(ABC):
    """One kind of rows. Their ids are UUIDv7, so that the newest is the greatest."""

    name: ClassVar[str]  # what messages call the rows
    statuses: ClassVar[list[tuple[str, str]]]

    @abstractmethod
    def visible_to(self, user: Any) -> QuerySet[Any]:
        """The rows that `user` may see, ready for `row`: no query a row."""

    @abstractmethod
    def of_jobs(self, job_ids: Iterable[uuid.UUID]) -> QuerySet[Any]:
        """The rows that a change of these jobs may have changed, whoever may see them."""

    @abstractmethod
    def row(self, instance: Any) -> dict[str, Any]: ...

    @abstractmethod
    def stats(self) -> dict[str, int]:
        """How many there are of each status, up to MOST_COUNTED."""


@dataclass(frozen=True)
class Page:
    rows: list[dict[str, Any]]
    older: bool  # there are older rows than these
    newer: bool


def read_page(
    listing: Listing,
    user: Any,
    *,
    status: str = "",
    before: uuid.UUID | None = None,
    after: uuid.UUID | None = None,
) -> Page:
    """The newest rows, or those next to a row: pages by number would move under the reader."""
    queryset = listing.visible_to(user)
    if status:
        queryset = queryset.filter(status=status)
    if after:
        found = list(queryset.filter(pk__gt=after).order_by("pk")[: PAGE_SIZE + 1])
        if len(found) > PAGE_SIZE:
            rows = [listing.row(instance) for instance in reversed(found[:PAGE_SIZE])]
            return Page(rows, older=True, newer=True)
        before = None  # as good as at the top: the newest page, which is live
    if before:
        queryset = queryset.filter(pk__lt=before)
    found = list(queryset.order_by("-pk")[: PAGE_SIZE + 1])
    rows = [listing.row(instance) for instance in found[:PAGE_SIZE]]
    return Page(rows, older=len(found) > PAGE_SIZE, newer=before is not None)


@dataclass(frozen=True)
class Counted:
    total: int
    recent: int  # those that changed at or after `since`


# The status is a literal, not a parameter: for a rare one the planner has to choose the index by
# status and not walk back through all rows by id.
COUNT = sql.SQL(
    """
    SELECT {status}, count(*), count(*) FILTER (WHERE changed_at >= %(since)s)
    FROM (
        SELECT {changed_at} AS changed_at FROM {table} WHERE status = {status}
        ORDER BY id DESC LIMIT %(most)s
    ) AS newest
    """
)


def count_by_status(
    model: type[Model], statuses: Iterable[str], *, changed_at: str, since: datetime
) -> dict[str, Counted]:
    """Counts the newest MOST_COUNTED rows of each status, with one query."""
    table, column = sql.Identifier(model._meta.db_table), sql.Identifier(changed_at)
    counts = [
        COUNT.format(status=sql.Literal(status), table=table, changed_at=column)
        for status in statuses
    ]
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(" UNION ALL ").join(counts), {"since": since, "most": MOST_COUNTED})
        return {status: Counted(total, recent) for status, total, recent in cursor.fetchall()}


def current_step(job: str) -> Subquery:
    """The step that runs or waits, of the job that the outer query's column `job` names."""
    steps = Step.objects.filter(job=OuterRef(job), status__in=[Status.RUNNING, Status.WAITING])
    described = JSONObject(status="status", title="title", phase="phase", due_at="due_at")
    return Subquery(steps.order_by("stage", "position").values(described=described)[:1])


def now_doing(step: dict[str, Any] | None) -> dict[str, Any]:
    """What a row says of its job's current step."""
    if step is None:
        return {"phase": "", "due_at": None}
    return {"phase": step["phase"] or step["title"], "due_at": step["due_at"]}


class JobListing(Listing):
    name = "jobs"
    statuses = JOB_STATUSES

    def visible_to(self, user: Any) -> QuerySet[Job]:
        jobs: QuerySet[Job] = jobs_visible_to(user)
        return jobs.annotate(step_now=current_step("pk"))

    def of_jobs(self, job_ids: Iterable[uuid.UUID]) -> QuerySet[Job]:
        return Job.objects.filter(pk__in=job_ids).annotate(step_now=current_step("pk"))

    def row(self, instance: Any) -> dict[str, Any]:
        url = reverse("jobs:detail", args=[instance.pk])
        return {**job_state(instance), **now_doing(instance.step_now), "url": url}

    def stats(self) -> dict[str, int]:
        counted = count_by_status(
            Job,
            [status for status, _ in self.statuses],
            changed_at="finished_at",
            since=timezone.now() - timedelta(days=1),
        )
        return {status: count.total for status, count in counted.items()}

"""Reading the queue for programs: a page of it, and its statistics. Both cost the same however long
the queue has become.

The statistics are counted when they are asked for, from indexes alone: what is open, and what ended
today. A table of counters would be written by every change of every item, and all changes of a
vendor would wait for each other at its row.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any

from django.db import connection
from django.db.models import Avg, Count, F, Q, QuerySet

from vendors.models import VENDORS_DAY, QueueItem, vendors_today

# Counting stops here: up to it a total is exact, beyond it is what the planner expects.
MOST_COUNTED = 10_000
# What a page does not show; the account's saved session alone is tens of kilobytes.
DEFERRED = (
    "product_data",
    "vendor__selectors",
    "assigned_account__password",
    "assigned_account__session_data",
)


@dataclass(frozen=True)
class Query:
    status: str = ""
    vendor_id: uuid.UUID | None = None
    date_from: datetime | None = None
    date_to: datetime | None = None

    @property
    def order(self) -> tuple[str, ...]:
        """Newest first, by the index that serves the conditions: ids rise with time as well."""
        return ("-created_at", "-id") if self.date_from or self.date_to else ("-id",)

    def items(self) -> QuerySet[QueueItem]:
        conditions = {
            "status": self.status,
            "vendor": self.vendor_id,
            "created_at__gte": self.date_from,
            "created_at__lt": self.date_to,
        }
        items = QueueItem.objects.filter(
            **{key: value for key, value in conditions.items() if value}
        )
        return items.order_by(*self.order)


@dataclass(frozen=True)
class Page:
    items: list[QueueItem]
    total: int
    is_exact: bool
    next: uuid.UUID | None  # there are more: those after this one


def read_page(query: Query, *, limit: int, offset: int = 0, after: uuid.UUID | None = None) -> Page:
    """`limit` items after the one called `after`, or from the place `offset`. Raises
    QueueItem.DoesNotExist for an `after` that is in the queue no more."""
    ids = page_ids(query, limit=limit + 1, offset=offset, after=after)
    found = list(ids)
    items = QueueItem.objects.select_related("vendor", "assigned_account")
    rows = items.defer(*DEFERRED).in_bulk(found[:limit])
    total, is_exact = count(query)
    more = found[limit - 1] if len(found) > limit else None
    return Page([rows[pk] for pk in found[:limit] if pk in rows], total, is_exact, more)


def page_ids(
    query: Query, *, limit: int, offset: int = 0, after: uuid.UUID | None = None
) -> QuerySet[Any]:
    """The ids alone: what is passed over on the way is read from the index, not from the table."""
    items = query.items()
    if after and query.order == ("-id",):
        items = items.filter(pk__lt=after)
    elif after:
        at = QueueItem.objects.values_list("created_at", flat=True).get(pk=after)
        # The first condition is what the index is entered by.
        items = items.filter(Q(created_at__lt=at) | Q(pk__lt=after), created_at__lte=at)
    return items.values_list("pk", flat=True)[offset : offset + limit]


def count(query: Query) -> tuple[int, bool]:
    """How many items there are, and whether that is exact."""
    items = query.items()
    counted = items.values("pk")[: MOST_COUNTED + 1].count()
    if counted <= MOST_COUNTED:
        return counted, True
    return max(counted, _expected(items)), False


def _expected(items: QuerySet[QueueItem]) -> int:
    """As many rows as the planner expects, from the statistics that autovacuum keeps."""
    statement, params = items.order_by().values("pk").query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", params)
        (plan,) = cursor.fetchone()
    read = plan if isinstance(plan, list) else json.loads(plan)
    return int(read[0]["Plan"]["Plan Rows"])


def read_statistics() -> Mapping[str, Any]:
    """The PRD's numbers; a day begins at midnight in London."""
    midnight = datetime.combine(vendors_today(), time.min, VENDORS_DAY)
    status = QueueItem.Status
    open_now = dict(open_counts())
    ended = {name: (count, took) for name, count, took in ended_counts(midnight)}
    completed, took = ended.get(status.COMPLETED, (0, None))
    return {
        "pending": open_now.get(status.PENDING, 0),
        "processing": open_now.get(status.PROCESSING, 0),
        "completed_today": completed,
        "failed_today": ended.get(status.FAILED, (0, None))[0],
        "manual_required": open_now.get(status.MANUAL_REQUIRED, 0),
        "average_completion_time_seconds": round(took.total_seconds(), 1) if took else None,
    }


def open_counts() -> QuerySet[Any]:
    status = QueueItem.Status
    open_items = QueueItem.objects.filter(
        status__in=[status.PENDING, status.PROCESSING, status.MANUAL_REQUIRED]
    )
    return open_items.order_by().values_list("status").annotate(Count("pk"))


def ended_counts(moment: datetime) -> QuerySet[Any]:
    """How many came to each end since then, and how long they took. An ended item changes no more,
    so its last change is its end."""
    status = QueueItem.Status
    items = QueueItem.objects.filter(
        status__in=[status.COMPLETED, status.FAILED], updated_at__gte=moment
    )
    took = Avg(F("completed_at") - F("created_at"))
    return items.order_by().values_list("status").annotate(count=Count("pk"), took=took)

"""The figures of the PRD's section 11, from the rows. Each query is served by an index, most of
them by `idx_cart_queue_outcome` alone: a period costs what happened in it, not what the table has.

An item that a person cancelled is no failure and is left out. Success is as the PRD says: completed
of completed and failed; whether failures are the vendor's fault is a question for alerts only.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, Q
from django.db.models.functions import Now
from django.utils import timezone

from vendors.models import Alert, QueueItem, Vendor, VendorAccount

# The shop's answer to what was asked for: its automation works.
ANSWERS = ["out_of_stock", "option_unavailable", "quantity_refused", "product_not_found"]
CANCELLED = "cancelled"
MOST_LATE = 1000  # more are not counted
MOST_ERRORS = 12
RATE_WINDOW = timedelta(hours=1)
BLOCKS_OF = timedelta(days=30)  # the PRD's block rate is one of a month

# The statuses are literals, so that the planner can use the partial index.
OUTCOMES = """
FROM cart_queue
WHERE status IN ('completed', 'failed', 'manual_required') AND updated_at > %(since)s
    AND error_code <> 'cancelled'
"""
BY_VENDOR = f"""
SELECT vendor_id,
    count(*) FILTER (WHERE status = 'completed'),
    count(*) FILTER (WHERE status = 'failed'),
    count(*) FILTER (WHERE status = 'manual_required'),
    extract(epoch FROM avg(completed_at - created_at) FILTER (WHERE status = 'completed')),
    extract(epoch FROM percentile_disc(0.95) WITHIN GROUP (ORDER BY completed_at - created_at)
        FILTER (WHERE status = 'completed'))
{OUTCOMES}
GROUP BY vendor_id
"""  # noqa: S608  of constants
BY_DAY = f"""
SELECT vendor_id, (updated_at AT TIME ZONE 'Europe/London')::date AS day,
    count(*) FILTER (WHERE status = 'completed'),
    count(*) FILTER (WHERE status = 'failed'),
    count(*) FILTER (WHERE status = 'manual_required'),
    extract(epoch FROM avg(completed_at - created_at) FILTER (WHERE status = 'completed'))
{OUTCOMES}
GROUP BY vendor_id, day
ORDER BY day
"""  # noqa: S608
ERRORS = f"""
SELECT error_code, count(*)
{OUTCOMES} AND status IN ('failed', 'manual_required')
GROUP BY error_code
ORDER BY count(*) DESC, error_code
LIMIT {MOST_ERRORS}
"""
ENDED = f"SELECT count(*) {OUTCOMES}"
DEPTH = """
SELECT vendor_id, status, count(*) FROM cart_queue WHERE status IN ('pending', 'processing')
GROUP BY vendor_id, status
"""
# What came before a person turned the vendor on again counts no more.
RECENT = """
SELECT q.vendor_id, count(*), count(*) FILTER (WHERE q.status = 'failed')
FROM cart_queue q
LEFT JOIN (
    SELECT vendor_id, max(closed_at) AS at FROM vendor_alerts
    WHERE kind = 'failures' AND closed_at > %(since)s
    GROUP BY vendor_id
) resumed ON resumed.vendor_id = q.vendor_id
WHERE q.status IN ('completed', 'failed', 'manual_required') AND q.updated_at > %(since)s
    AND q.status <> 'manual_required'
    AND q.error_code <> ALL(%(answers)s)
    AND (resumed.at IS NULL OR q.updated_at > resumed.at)
GROUP BY q.vendor_id
"""
# The first of each vendor by the index: a long queue costs no more than a short one.
LATE = """
SELECT v.id, oldest.id, (
    SELECT count(*) FROM (
        SELECT FROM cart_queue q
        WHERE q.vendor_id = v.id AND q.status IN ('pending', 'processing')
            AND q.created_at < %(before)s
        LIMIT %(most)s
    ) late
)
FROM vendors v CROSS JOIN LATERAL (
    SELECT first.id, first.created_at FROM (
        (SELECT id, created_at FROM cart_queue
         WHERE vendor_id = v.id AND status = 'pending' ORDER BY id LIMIT 1)
        UNION ALL
        (SELECT id, created_at FROM cart_queue
         WHERE vendor_id = v.id AND status = 'processing' ORDER BY id LIMIT 1)
    ) first
    ORDER BY first.id
    LIMIT 1
) oldest
WHERE oldest.created_at < %(before)s
"""


@dataclass(frozen=True)
class Outcomes:
    """What became of items. Times to cart in seconds; None where nothing was completed."""

    completed: int = 0
    failed: int = 0
    manual: int = 0
    average_seconds: float | None = None
    p95_seconds: float | None = None

    @property
    def ended(self) -> int:
        return self.completed + self.failed + self.manual

    @property
    def success_rate(self) -> float | None:
        """Per cent."""
        return share(self.completed, self.completed + self.failed)

    @property
    def manual_share(self) -> float | None:
        """Per cent."""
        return share(self.manual, self.ended)


@dataclass(frozen=True)
class Day:
    day: date
    outcomes: Outcomes


@dataclass(frozen=True)
class VendorFigures:
    id: uuid.UUID
    name: str
    is_prioritized: bool
    is_automated: bool
    outcomes: Outcomes
    pending: int
    processing: int
    healthy_accounts: int
    blocked_accounts: int
    days: Sequence[Day] = ()


@dataclass(frozen=True)
class Figures:
    since: datetime
    total: Outcomes
    pending: int
    processing: int
    manual_waiting: int
    ended_per_minute: float  # in the last hour
    block_rate: float | None  # per cent, of a month
    coverage: float | None  # per cent of the prioritised vendors
    errors: Mapping[str, int] = field(default_factory=dict)
    vendors: Sequence[VendorFigures] = ()


@dataclass(frozen=True)
class Recent:
    vendor_id: uuid.UUID
    ended: int
    failed: int


@dataclass(frozen=True)
class Late:
    vendor_id: uuid.UUID
    oldest: uuid.UUID
    count: int


def share(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 1) if whole else None


def read_figures(days: int) -> Figures:
    """Of the last `days` times 24 hours."""
    now = timezone.now()
    since = now - timedelta(days=days)
    outcomes = read_by_vendor(since)
    by_day = _read_by_day(since)
    depth = read_depth()
    vendors = [
        VendorFigures(
            id=vendor.pk,
            name=vendor.name,
            is_prioritized=vendor.is_prioritized,
            is_automated=vendor.why_manual() is None,
            outcomes=outcomes.get(vendor.pk, Outcomes()),
            pending=depth.get((vendor.pk, "pending"), 0),
            processing=depth.get((vendor.pk, "processing"), 0),
            healthy_accounts=vendor.healthy_accounts,
            blocked_accounts=vendor.blocked_accounts,
            days=by_day.get(vendor.pk, []),
        )
        for vendor in Vendor.objects.with_account_counts().order_by("name", "pk")
    ]
    prioritised = [vendor for vendor in vendors if vendor.is_prioritized]
    [(ended,)] = run(ENDED, {"since": now - RATE_WINDOW})
    manual = QueueItem.objects.filter(status=QueueItem.Status.MANUAL_REQUIRED)
    return Figures(
        since=since,
        total=add_up(list(outcomes.values())),
        pending=sum(vendor.pending for vendor in vendors),
        processing=sum(vendor.processing for vendor in vendors),
        manual_waiting=manual.count(),
        ended_per_minute=round(ended / (RATE_WINDOW.total_seconds() / 60), 2),
        block_rate=read_block_rate(),
        coverage=share(sum(vendor.is_automated for vendor in prioritised), len(prioritised)),
        errors=read_errors(since),
        vendors=vendors,
    )


def add_up(parts: Sequence[Outcomes]) -> Outcomes:
    """Without a p95, which cannot be added up."""
    completed = sum(part.completed for part in parts)
    seconds = sum(part.completed * (part.average_seconds or 0) for part in parts)
    return Outcomes(
        completed,
        sum(part.failed for part in parts),
        sum(part.manual for part in parts),
        round(seconds / completed, 1) if completed else None,
    )


def read_block_rate() -> float | None:
    """Accounts that are blocked or were within a month, of all accounts; per cent."""
    recent = Alert.objects.filter(kind=Alert.Kind.BLOCK, opened_at__gt=Now() - BLOCKS_OF)
    blocked = Q(is_blocked=True) | Q(pk__in=recent.values("account"))
    counts = VendorAccount.objects.aggregate(all=Count("pk"), blocked=Count("pk", filter=blocked))
    return share(counts["blocked"], counts["all"])


def read_recent(window: timedelta) -> list[Recent]:
    """What the automation of each vendor came to; what the shop just said no to is left out."""
    values = {"since": timezone.now() - window, "answers": [*ANSWERS, CANCELLED]}
    return [Recent(*row) for row in run(RECENT, values)]


def read_late(deadline: timedelta) -> list[Late]:
    """Vendors that have unfinished items older than that."""
    values = {"before": timezone.now() - deadline, "most": MOST_LATE}
    return [Late(*row) for row in run(LATE, values)]


def read_by_vendor(since: datetime) -> dict[uuid.UUID, Outcomes]:
    return {
        vendor: Outcomes(completed, failed, manual, _seconds(average), _seconds(p95))
        for vendor, completed, failed, manual, average, p95 in run(BY_VENDOR, {"since": since})
    }


def read_depth() -> dict[tuple[uuid.UUID, str], int]:
    """By vendor and status."""
    return {(vendor, status): count for vendor, status, count in run(DEPTH, {})}


def read_errors(since: datetime) -> dict[str, int]:
    """The commonest codes, and how many items ended with each."""
    return dict(run(ERRORS, {"since": since}))


def _read_by_day(since: datetime) -> dict[uuid.UUID, list[Day]]:
    found: dict[uuid.UUID, list[Day]] = {}
    for vendor, day, completed, failed, manual, average in run(BY_DAY, {"since": since}):
        outcomes = Outcomes(completed, failed, manual, _seconds(average))
        found.setdefault(vendor, []).append(Day(day, outcomes))
    return found


def _seconds(value: Any) -> float | None:
    return None if value is None else round(float(value), 1)


def run(statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())

"""Makes deliveries out of events. The events' writers know nothing of it and pay nothing for it.

Events have ascending ids, but they do not become visible in that order: a transaction that took id
5 may commit after the one that took id 6. A cursor that has gone on to 6 would never see 5. So the
ids that are missing below the cursor, its *holes*, are kept and looked at again until it is sure
that nothing comes there any more: once every transaction that ran when the hole was seen has ended.
(Who writes an event has a transaction id before the event has one, since the job's row is locked
first. So a missing event's transaction is below the `xmax` of the snapshot that missed it, and has
ended when a later snapshot's `xmin` has reached that.) A transaction that runs for hours thus
delays nothing; it only keeps its own hole open.

The other way would be to compare each job's `last_event` with the number that has been told. It
needs no transaction ids, but a column of every job that changes with each of its events, or a scan.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from jobs.models import WebhookCursor, WebhookDelivery

BATCH = 1000

# All in one statement, so that all of it is of one snapshot: what it does not see now, endpoints
# included, it sees the next time.
LOOK = """
WITH fresh AS MATERIALIZED (
    SELECT id, job_id, number, kind FROM jobs_event
    WHERE id > %(position)s::bigint
    ORDER BY id
    LIMIT %(most)s
), late AS MATERIALIZED (
    SELECT e.id, e.job_id, e.number, e.kind
    FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) AS hole (first, last)
    JOIN jobs_event e ON e.id BETWEEN hole.first AND hole.last
), new_holes AS (
    SELECT before + 1 AS first, id - 1 AS last
    FROM (SELECT id, lag(id, 1, %(position)s::bigint) OVER (ORDER BY id) AS before FROM fresh) pair
    WHERE id > before + 1
), matching AS (
    SELECT w.id AS endpoint_id, e.id, e.job_id, e.number, e.kind
    FROM (SELECT * FROM fresh UNION ALL SELECT * FROM late) e
    JOIN jobs_webhookendpoint w ON w.disabled_at IS NULL
        AND w.events && ARRAY['*', e.kind, split_part(e.kind, '.', 1) || '.*']::varchar[]
        -- No join: a planner without statistics would read all of the workspace's jobs.
        AND w.workspace_id = (SELECT j.workspace_id FROM jobs_job j WHERE j.id = e.job_id)
)
SELECT
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
    (SELECT max(id) FROM fresh),
    (SELECT count(*) FROM fresh),
    (SELECT coalesce(jsonb_agg(id), '[]') FROM late),
    (SELECT coalesce(jsonb_agg(jsonb_build_array(first, last)), '[]') FROM new_holes),
    (
        SELECT coalesce(
            jsonb_agg(jsonb_build_array(endpoint_id, job_id, number, kind) ORDER BY id), '[]')
        FROM matching
    )
"""


@dataclass(frozen=True)
class Hole:
    """Ids that were not there, and the transaction id below which whoever took them is."""

    first: int
    last: int
    below: int

    def is_filled(self, late: set[int]) -> bool:
        return self.last - self.first < len(late) and late.issuperset(
            range(self.first, self.last + 1)
        )

    def is_settled(self, xmin: int, xmax: int) -> bool:
        """Nothing can come any more. Transaction ids that are still to come are another server's,
        from which this database was moved here."""
        return self.below <= xmin or self.below > xmax


def fan_out() -> int:
    """Makes the deliveries of events that are new; how many events that were. One process does so
    at a time: 0 also when another one is at it."""
    with transaction.atomic():
        cursors = WebhookCursor.objects.select_for_update(no_key=True, skip_locked=True)
        if cursor := cursors.filter(pk=1).first():
            return _look(cursor)
        WebhookCursor.objects.get_or_create(pk=1)  # or another one has it
        return 0


def catch_up() -> None:
    """Deals with every event that is visible now. Needs a transaction, and keeps the cursor locked
    to its end: an endpoint that becomes active in it is told exactly of what comes after."""
    cursor = lock_cursor()
    while _look(cursor) == BATCH:
        pass


def lock_cursor() -> WebhookCursor:
    """Nobody else makes deliveries until the transaction ends."""
    WebhookCursor.objects.get_or_create(pk=1)
    return WebhookCursor.objects.select_for_update(no_key=True).get(pk=1)


def _look(cursor: WebhookCursor) -> int:
    holes = [Hole(*hole) for hole in cursor.holes]
    xmin, xmax, newest, count, late, new_holes, matching = _run(cursor.position, holes)
    _make_deliveries(matching)
    seen = set(late)
    open_ = [hole for hole in holes if not hole.is_filled(seen) and not hole.is_settled(xmin, xmax)]
    open_ += [Hole(first, last, xmax) for first, last in new_holes]
    position, kept = newest or cursor.position, [[h.first, h.last, h.below] for h in open_]
    if (position, kept) != (cursor.position, cursor.holes):
        cursor.position, cursor.holes = position, kept
        cursor.save(update_fields=["position", "holes"])
    return int(count)


def _run(position: int, holes: Sequence[Hole]) -> tuple[Any, ...]:
    values: dict[str, Any] = {
        "position": position,
        "most": BATCH,
        "firsts": [hole.first for hole in holes],
        "lasts": [hole.last for hole in holes],
    }
    with connection.cursor() as cursor:
        cursor.execute(LOOK, values)
        (*numbers, late, new_holes, matching) = cursor.fetchone()
    return (*numbers, json.loads(late), json.loads(new_holes), json.loads(matching))


def _make_deliveries(matching: Sequence[tuple[str, str, int, str]]) -> None:
    """The constraint sees to it that there is one for an event, however often it is looked at."""
    WebhookDelivery.objects.bulk_create(
        [
            WebhookDelivery(
                endpoint_id=uuid.UUID(endpoint_id),
                job_id=uuid.UUID(job_id),
                event_number=number,
                kind=kind,
            )
            for endpoint_id, job_id, number, kind in matching
        ],
        ignore_conflicts=True,
    )

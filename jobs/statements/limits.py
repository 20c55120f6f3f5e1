"""What limits hold back: how they stand, who waits for them, and in which order."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from jobs.statements.base import run
from jobs.statements.claiming import Candidate

LOCK_LIMITS = """
SELECT FROM jobs_flowlimit WHERE key = ANY(%(keys)s) ORDER BY key FOR NO KEY UPDATE
"""


# A place counts as taken by who was woken for it, for as long as a worker should need to come.
READ_LIMITS = """
SELECT l.key, l.concurrency, l.rate, l.period_seconds, l.starts, l.paused_at, l.paused_by,
    l.pause_reason, statement_timestamp(),
    (
        SELECT count(*) FROM jobs_step s
        WHERE s.status = 'running' AND s.flow_keys @> ARRAY[l.key]
    ), (
        SELECT count(*) FROM jobs_step s
        WHERE s.status = 'ready' AND s.limited_by = l.key AND s.limited_by <> ''
            AND s.due_at > statement_timestamp() - %(expected)s
    ), first.priority, first.id
FROM jobs_flowlimit l LEFT JOIN LATERAL (
    SELECT s.priority, s.id FROM jobs_step s
    WHERE s.status = 'waiting' AND s.limited_by = l.key AND s.limited_by <> ''
    ORDER BY s.priority DESC, s.id
    LIMIT 1
) first ON true
WHERE l.key = ANY(%(keys)s)
ORDER BY l.key
"""


# When a step held back by a rate is due, by how many of its limit are before it: `slots` are the
# times of the next starts, one period's worth, null being now. Without slots nobody can say.
DUE = """
    CASE WHEN cardinality(%(slots)s::timestamptz[]) > 0 THEN
        coalesce(
            (%(slots)s::timestamptz[])[1 + (rank %% cardinality(%(slots)s::timestamptz[]))::int],
            statement_timestamp()
        ) + (rank / cardinality(%(slots)s::timestamptz[])) * %(period)s::interval
    END
"""


# Holds the step back, and others of the first ready ones with its key: each would have to be passed
# over by every claim. The step and its job are locked already, so that it at least is held back.
HOLD_BACK = f"""
WITH chosen AS (
    SELECT id FROM (
        SELECT id, flow_keys FROM jobs_step WHERE status = 'ready' AND queue = %(queue)s
        ORDER BY priority DESC, id
        LIMIT %(most)s
    ) first
    WHERE flow_keys @> ARRAY[%(key)s::varchar]
    UNION SELECT %(step)s::uuid
), held AS (
    SELECT s.id, s.priority FROM jobs_step s JOIN jobs_job j ON j.id = s.job_id
    WHERE s.id = ANY(ARRAY(SELECT id FROM chosen)) AND s.status = 'ready'
        AND j.status IN ('pending', 'running', 'waiting')
    FOR NO KEY UPDATE OF s, j SKIP LOCKED
), ranked AS (
    SELECT id, row_number() OVER (ORDER BY priority DESC, id) - 1 + (
        SELECT count(*) FROM jobs_step
        WHERE status IN ('ready', 'waiting') AND limited_by = %(key)s AND limited_by <> ''
            AND (priority > %(priority)s OR priority = %(priority)s AND id < %(step)s)
    ) AS rank
    FROM held
), s AS (
    UPDATE jobs_step SET
        status = 'waiting', limited_by = %(key)s, due_at = {DUE},
        ages_from = coalesce(ages_from, due_at)
    FROM ranked WHERE jobs_step.id = ranked.id
    RETURNING jobs_step.*
), j AS (
    UPDATE jobs_job SET last_event = last_event + counted.steps
    FROM (SELECT job_id, count(*) AS steps FROM s GROUP BY job_id) counted
    WHERE jobs_job.id = counted.job_id
    RETURNING jobs_job.id, jobs_job.last_event, counted.steps
), e AS (
    INSERT INTO jobs_event (job_id, number, kind, step_id, message, data)
    SELECT j.id, j.last_event - j.steps + row_number() OVER (PARTITION BY j.id ORDER BY s.id),
        'step.limited', s.id, %(message)s,
        jsonb_build_object('step', jsonb_build_object('status', 'waiting', 'due_at', s.due_at))
    FROM s JOIN j ON j.id = s.job_id
)
SELECT job_id FROM s
"""


# After a change of the limit. Rows that others have locked are left to the sweep. The ranks are of
# the locked rows: joined to the table once more, a crowd that the planner knows nothing of would be
# compared with itself row by row.
SET_DUE_OF_HELD = f"""
WITH held AS (
    SELECT id, priority FROM jobs_step
    WHERE status = 'waiting' AND limited_by = %(key)s AND limited_by <> ''
    FOR NO KEY UPDATE SKIP LOCKED
), ranked AS (
    SELECT id, row_number() OVER (ORDER BY priority DESC, id) - 1 AS rank FROM held
)
UPDATE jobs_step SET due_at = {DUE} FROM ranked WHERE jobs_step.id = ranked.id
RETURNING jobs_step.id
"""


# Queue by queue through the index, and of each only so many: a long backlog is not read through.
COUNT_UNANSWERED = """
WITH RECURSIVE queues (queue) AS (
    (SELECT queue FROM jobs_step WHERE status = 'ready' ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (
        SELECT s.queue FROM jobs_step s
        WHERE s.status = 'ready' AND s.queue > queues.queue ORDER BY s.queue LIMIT 1
    )
    FROM queues WHERE queues.queue IS NOT NULL
)
SELECT queue, (
    SELECT count(*) FROM (
        SELECT FROM jobs_step s
        WHERE s.status = 'ready' AND s.queue = queues.queue
            AND s.due_at < statement_timestamp() - %(since)s
        LIMIT %(most)s
    ) unanswered
)
FROM queues WHERE queue IS NOT NULL
"""

# A step that waits for long rises by a level for each while, as far as the highest of those that it
# competes with: beyond, it would gain nothing, for among equals the older goes first.
AGE = """
WITH tops AS (
    SELECT {among} AS among, max(priority) AS priority FROM jobs_step WHERE {which} GROUP BY 1
), old AS (
    SELECT s.id, least(
        tops.priority - s.priority,
        floor(
            extract(epoch FROM statement_timestamp() - coalesce(s.ages_from, s.due_at))
            / extract(epoch FROM %(level)s::interval)
        )
    )::int AS levels
    FROM jobs_step s JOIN tops ON tops.among = s.{among}
    WHERE s.{which} AND s.priority < tops.priority
        AND coalesce(s.ages_from, s.due_at) <= statement_timestamp() - %(level)s::interval
    LIMIT %(most)s
    FOR NO KEY UPDATE OF s SKIP LOCKED
)
UPDATE jobs_step SET
    priority = priority + old.levels,
    ages_from = coalesce(ages_from, due_at) + old.levels * %(level)s::interval
FROM old WHERE jobs_step.id = old.id
RETURNING jobs_step.id
"""


AGE_READY = AGE.format(among="queue", which="status = 'ready'")


AGE_HELD = AGE.format(among="limited_by", which="limited_by <> '' AND status = 'waiting'")


FIND_HELD_KEYS = """
SELECT DISTINCT limited_by FROM jobs_step WHERE status = 'waiting' AND limited_by <> ''
"""


@dataclass(frozen=True)
class Limit:
    """A flow key's limit and how it stood at `now`."""

    key: str
    concurrency: int | None
    rate: int | None
    period: timedelta
    starts: Sequence[datetime]  # the newest, oldest first
    paused_at: datetime | None
    paused_by: str
    pause_reason: str
    now: datetime
    running: int
    woken: int  # ready steps that it held back before, and that a worker should claim any moment
    first_held: tuple[int, uuid.UUID] | None  # whose turn it is: a step's priority and id


def lock_limits(keys: Sequence[str]) -> None:
    run(LOCK_LIMITS, keys=list(keys))


def read_limits(keys: Sequence[str], *, expected: timedelta) -> list[Limit]:
    """How the limits of these keys stand, by key; none for a key without one. A step that was woken
    longer ago than `expected` takes no place any more: its queue may have no worker."""
    rows = run(READ_LIMITS, keys=list(keys), expected=expected)
    return [
        Limit(
            key=key,
            concurrency=concurrency,
            rate=rate,
            period=timedelta(seconds=period_seconds),
            starts=starts,
            paused_at=paused_at,
            paused_by=paused_by,
            pause_reason=pause_reason,
            now=now,
            running=running,
            woken=woken,
            first_held=None if first_id is None else (first_priority, first_id),
        )
        for (
            key,
            concurrency,
            rate,
            period_seconds,
            starts,
            paused_at,
            paused_by,
            pause_reason,
            now,
            running,
            woken,
            first_priority,
            first_id,
        ) in rows
    ]


def hold_back(
    candidate: Candidate,
    key: str,
    message: str,
    *,
    slots: Sequence[datetime],
    period: timedelta,
    most: int,
) -> list[uuid.UUID]:
    """The candidate waits for `key`, and so do the others with the key among the first `most` ready
    steps of its queue; their jobs. Needs the locks on the limit and on the candidate's job."""
    rows = run(
        HOLD_BACK,
        step=candidate.id,
        priority=candidate.priority,
        queue=candidate.queue,
        key=key,
        message=message,
        slots=list(slots),
        period=period,
        most=most,
    )
    return [job_id for (job_id,) in rows]


def set_due_of_held(key: str, *, slots: Sequence[datetime | None], period: timedelta) -> None:
    """When the steps that `key` holds back are due; never by themselves without slots."""
    run(SET_DUE_OF_HELD, key=key, slots=list(slots), period=period)


def find_held_keys() -> list[str]:
    return [key for (key,) in run(FIND_HELD_KEYS)]


def count_unanswered(since: timedelta, most: int) -> dict[str, int]:
    """By queue: how many steps have been ready for longer than `since`, counted up to `most`."""
    return {queue: count for queue, count in run(COUNT_UNANSWERED, since=since, most=most) if count}


def age_steps(level: timedelta, most: int) -> int:
    """Raises the priority of steps that could have started a `level` ago or earlier; how many."""
    ready = run(AGE_READY, level=level, most=most)
    held = run(AGE_HELD, level=level, most=most)
    return len(ready) + len(held)

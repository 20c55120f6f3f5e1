"""The hot path, in SQL: claim a step, complete it and open what follows, keep leases.

One statement each, so that each is one round trip and one commit: it is what makes a step cost
about a millisecond. Everything colder goes through the ORM in `steps.py`. Locks are taken in one
order everywhere: a step, then the limits of its flow keys by key, then its job, then the steps of
the next stage. Whoever holds a limit or a job takes further steps only with SKIP LOCKED, so that
nobody waits against the order. The time is the statement's, as Django's Now() is.
"""

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from jobs.models import Job, Status, Step


@dataclass(frozen=True)
class ClaimedStep:
    """A step that is ours to run for as long as `fence` is its fencing token."""

    id: uuid.UUID
    fence: int
    job_id: uuid.UUID
    workflow: str
    job_params: Mapping[str, Any]
    name: str
    title: str
    handler: str
    params: Mapping[str, Any]
    checkpoint: Mapping[str, Any] | None
    attempt: int
    max_attempts: int
    weight: int
    handler_version: int
    retry: Mapping[str, Any] | None  # the step's own policy; without one its handler's holds
    limits: Sequence[str] = ()  # flow keys whose limits count it while it runs

    @classmethod
    def of(cls, step: Step) -> "ClaimedStep":
        """The claim that stands in a running step's row, whoever made it."""
        return cls(
            id=step.pk,
            fence=step.fence,
            job_id=step.job_id,
            workflow=step.job.workflow,
            job_params=step.job.params,
            name=step.name,
            title=step.title,
            handler=step.handler,
            params=step.params,
            checkpoint=step.checkpoint,
            attempt=step.attempt,
            max_attempts=step.max_attempts,
            weight=step.weight,
            handler_version=step.handler_version,
            retry=step.retry,
            limits=tuple(step.flow_keys),
        )


@dataclass(frozen=True)
class Completion:
    """What completing a step led to."""

    job_status: Status
    ready_queues: Sequence[str]  # a queue for each step that is ready now and not ours
    claimed: ClaimedStep | None  # the one step that follows, claimed in the same statement


# The columns that a new job and its steps are written with; the rest is as it is at the beginning.
JOB_COLUMNS = {
    "id": "uuid",
    "workflow": "varchar",
    "workflow_version": "smallint",
    "title": "varchar",
    "params": "jsonb",
    "priority": "smallint",
    "idempotency_key": "varchar",
    "workspace_id": "uuid",
    "created_by_id": "bigint",
    "stage_sizes": "smallint[]",
    "stage_open": "smallint",
    "weight_total": "integer",
    "last_event": "integer",
}
STEP_COLUMNS = {
    "id": "uuid",
    "job_id": "uuid",
    "stage": "smallint",
    "position": "smallint",
    "priority": "smallint",
    "flow_keys": "varchar[]",
    "status": "varchar",
    "name": "varchar",
    "title": "varchar",
    "handler": "varchar",
    "handler_version": "smallint",
    "queue": "varchar",
    "weight": "smallint",
    "params": "jsonb",
    "max_attempts": "smallint",
    "retry": "jsonb",
}


def _names(columns: Mapping[str, str], of: str = "") -> str:
    return ", ".join(f"{of}{name}" for name in columns)


def _record(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())


CREATE_JOBS = f"""
WITH j AS (
    INSERT INTO jobs_job ({_names(JOB_COLUMNS)}, status, stage, weight_done, progress)
    SELECT {_names(JOB_COLUMNS)}, 'pending', 0, 0, 0
    FROM jsonb_to_recordset(%(jobs)s::jsonb) AS new ({_record(JOB_COLUMNS)})
    ON CONFLICT (workspace_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id, title, created_at
), s AS (
    INSERT INTO jobs_step ({_names(STEP_COLUMNS)}, due_at, limited_by, attempt, fence, worker,
        progress, phase)
    SELECT {_names(STEP_COLUMNS, "new.")},
        CASE WHEN new.status = 'ready' THEN statement_timestamp() END, '', 0, 0, '', 0, ''
    FROM jsonb_to_recordset(%(steps)s::jsonb) AS new ({_record(STEP_COLUMNS)})
        JOIN j ON j.id = new.job_id
), e AS (
    INSERT INTO jobs_event (job_id, number, kind, message, data)
    SELECT id, 1, 'job.created', title, '{{}}' FROM j
)
SELECT id, created_at FROM j
"""

# The columns of ClaimedStep, from a step `s` and its job `j`.
CLAIMED = """s.id, s.fence, j.id, j.workflow, j.params, s.name, s.title, s.handler, s.params,
    s.checkpoint, s.attempt, s.max_attempts, s.weight, s.handler_version, s.retry"""

# Whether any limit or pause may hold back a step `n`. The table has a row only for what is limited.
MAY_BE_LIMITED = "EXISTS (SELECT FROM jobs_flowlimit l WHERE l.key = ANY(n.flow_keys))"

STARTED_DATA = """jsonb_build_object(
            'step', jsonb_build_object('status', 'running', 'attempt', s.attempt,
                                       'started_at', s.started_at, 'error', null, 'due_at', null),
            'job', jsonb_build_object('status', 'running', 'started_at', j.started_at))"""

# Claims the candidates that are not to be claimed apart. A job's first claim starts the job. A step
# whose job has ended this very moment is left for its finder to cancel: ending a job skips the
# steps that others have locked, since waiting for them could deadlock with this.
CLAIM = f"""
), job AS (
    SELECT id FROM jobs_job
    WHERE id = ANY(ARRAY(SELECT job_id FROM candidate WHERE NOT apart))
        AND status IN ('pending', 'running', 'waiting')
    ORDER BY id
    FOR NO KEY UPDATE
), s AS (
    UPDATE jobs_step SET
        status = 'running', fence = fence + 1, attempt = attempt + 1, worker = %(worker)s,
        started_at = statement_timestamp(), lease_expires_at = statement_timestamp() + %(lease)s,
        due_at = NULL, error = NULL, limited_by = '', ages_from = NULL
    WHERE id = ANY(ARRAY(
        SELECT candidate.id FROM candidate JOIN job ON job.id = job_id WHERE NOT apart))
    RETURNING *
), j AS (
    UPDATE jobs_job SET
        status = 'running', started_at = coalesce(jobs_job.started_at, statement_timestamp()),
        last_event = last_event + counted.steps
    FROM (SELECT job_id, count(*) AS steps FROM s GROUP BY job_id) counted
    WHERE jobs_job.id = counted.job_id
    RETURNING jobs_job.*, counted.steps
), e AS (
    INSERT INTO jobs_event (job_id, number, kind, step_id, message, data)
    SELECT j.id, j.last_event - j.steps + row_number() OVER (PARTITION BY j.id ORDER BY s.id),
        'step.started', s.id, s.title, {STARTED_DATA}
    FROM s JOIN j ON j.id = s.job_id
)
"""

# A step that a limit may hold back is only locked here: how its limits stand must be read by a
# statement that begins when they are locked, or two claims would both see the last place free.
CLAIM_NEXT = f"""
WITH candidate AS (
    SELECT n.id, n.job_id, n.priority, n.flow_keys,
        n.flow_keys && %(apart)s::varchar[] OR {MAY_BE_LIMITED} AS apart
    FROM jobs_step n
    WHERE n.status = 'ready' AND n.queue = %(queue)s
    ORDER BY n.priority DESC, n.id
    LIMIT %(most)s
    FOR NO KEY UPDATE SKIP LOCKED
{CLAIM}
SELECT candidate.apart, candidate.id, candidate.job_id, candidate.priority, candidate.flow_keys,
    {CLAIMED}
FROM candidate LEFT JOIN s ON s.id = candidate.id LEFT JOIN j ON j.id = s.job_id
"""

# Of a step whose limits are locked and have a place for it. A limit remembers as many starts as its
# rate allows in a period.
CLAIM_LIMITED = f"""
WITH candidate AS (
    SELECT %(step)s::uuid AS id, %(job)s::uuid AS job_id, false AS apart
{CLAIM}
, l AS (
    UPDATE jobs_flowlimit SET
        starts = (starts || statement_timestamp())[greatest(1, cardinality(starts) + 2 - rate):]
    FROM s WHERE jobs_flowlimit.key = ANY(s.flow_keys) AND rate IS NOT NULL
)
SELECT {CLAIMED} FROM s JOIN j ON j.id = s.job_id
"""

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

# Of a job's row in COMPLETE: what completing `counted.steps` of its steps is. A job that has ended
# meanwhile keeps its stage; that its steps are completed is recorded all the same.
LAST_OF_GROUP = "status = 'running' AND stage_open = counted.steps"
NEXT_SIZE = "stage_sizes[jobs_job.stage + 2]"
LAST_OF_JOB = f"{LAST_OF_GROUP} AND {NEXT_SIZE} IS NULL"

# `stage_open` counts the group down; who takes it to zero opens the next stage. The row lock on the
# job serialises the finishers of a group, and PostgreSQL computes the SET list anew from the row
# as the other one left it. A step that alone follows, whose queue we serve and that no limit may
# hold back is claimed at once, for the last of the job's steps that are completed here.
COMPLETE = f"""
WITH held AS (
    SELECT s.id, given.output
    FROM unnest(%(steps)s::uuid[], %(fences)s::bigint[], %(outputs)s::jsonb[])
            AS given (id, fence, output)
        JOIN jobs_step s ON s.id = given.id
    WHERE s.fence = given.fence AND s.status = 'running'
    ORDER BY s.id
    FOR NO KEY UPDATE OF s
), done AS (
    UPDATE jobs_step SET
        status = 'completed', output = held.output, progress = 100, phase = '',
        finished_at = statement_timestamp(), lease_expires_at = NULL
    FROM held WHERE jobs_step.id = held.id
    RETURNING jobs_step.*
), counted AS (
    SELECT job_id, stage, count(*)::int AS steps, sum(weight)::int AS weight,
        (array_agg(id ORDER BY position DESC))[1] AS last,
        (array_agg(output ORDER BY position DESC))[1] AS output
    FROM done GROUP BY job_id, stage
), locked AS (
    SELECT id FROM jobs_job WHERE id = ANY(ARRAY(SELECT job_id FROM counted))
    ORDER BY id
    FOR NO KEY UPDATE
), j AS (
    UPDATE jobs_job SET
        weight_done = weight_done + counted.weight,
        progress = greatest(progress, 100 * (weight_done + counted.weight) / weight_total),
        stage = jobs_job.stage + ({LAST_OF_GROUP})::int,
        stage_open = CASE
            WHEN {LAST_OF_GROUP} THEN coalesce({NEXT_SIZE}, 0)
            WHEN status = 'running' THEN stage_open - counted.steps
            ELSE stage_open
        END,
        status = CASE WHEN {LAST_OF_JOB} THEN 'completed' ELSE status END,
        finished_at = CASE
            WHEN {LAST_OF_JOB} THEN statement_timestamp() ELSE jobs_job.finished_at
        END,
        result = CASE WHEN {LAST_OF_JOB} THEN counted.output END,
        last_event = last_event + counted.steps + CASE
            WHEN {LAST_OF_JOB} THEN 1
            WHEN {LAST_OF_GROUP} THEN {NEXT_SIZE}
            ELSE 0
        END
    FROM counted JOIN locked ON locked.id = counted.job_id
    WHERE jobs_job.id = counted.job_id
    RETURNING jobs_job.*, counted.steps, counted.last, jobs_job.stage <> counted.stage AS opened,
        CASE
            WHEN jobs_job.stage = counted.stage THEN 0
            WHEN status = 'completed' THEN 1
            ELSE stage_open
        END AS following
), next AS (
    SELECT n.id,
        j.stage_open = 1 AND n.queue = ANY(%(queues)s) AND NOT {MAY_BE_LIMITED} AS is_ours
    FROM j JOIN jobs_step n ON n.job_id = j.id AND n.stage = j.stage
    WHERE j.opened AND n.status = 'pending'
), s AS (
    UPDATE jobs_step SET
        status = CASE WHEN is_ours THEN 'running' ELSE 'ready' END,
        due_at = CASE WHEN is_ours THEN NULL ELSE statement_timestamp() END,
        fence = fence + is_ours::int,
        attempt = attempt + is_ours::int,
        worker = CASE WHEN is_ours THEN %(worker)s ELSE '' END,
        lease_expires_at = CASE WHEN is_ours THEN statement_timestamp() + %(lease)s END,
        started_at = CASE WHEN is_ours THEN statement_timestamp() END
    FROM next WHERE jobs_step.id = next.id
    RETURNING jobs_step.*, next.is_ours
), e AS (
    INSERT INTO jobs_event (job_id, number, kind, step_id, message, data)
    SELECT j.id,
        j.last_event - j.following - j.steps
            + row_number() OVER (PARTITION BY j.id ORDER BY done.position),
        'step.completed', done.id, done.title,
        jsonb_build_object(
            'step', jsonb_build_object('status', 'completed', 'progress', 100, 'phase', '',
                                       'finished_at', done.finished_at),
            'job', jsonb_build_object('progress', j.progress))
    FROM done JOIN j ON j.id = done.job_id
    UNION ALL
    SELECT j.id,
        j.last_event - j.following + row_number() OVER (PARTITION BY j.id ORDER BY s.position),
        CASE WHEN s.is_ours THEN 'step.started' ELSE 'step.ready' END, s.id, s.title,
        CASE WHEN s.is_ours THEN {STARTED_DATA} ELSE
            jsonb_build_object('step', jsonb_build_object('status', 'ready', 'due_at', s.due_at))
        END
    FROM s JOIN j ON j.id = s.job_id
    UNION ALL
    SELECT j.id, j.last_event, 'job.completed', NULL, j.title,
        jsonb_build_object('job', jsonb_build_object(
            'status', 'completed', 'progress', 100, 'finished_at', j.finished_at,
            'result', j.result))
    FROM j WHERE j.opened AND j.status = 'completed'
)
SELECT done.id, j.status,
    CASE WHEN done.id = j.last THEN ARRAY(
        SELECT queue FROM s WHERE s.job_id = j.id AND NOT s.is_ours ORDER BY position) END,
    {CLAIMED}
FROM done
    JOIN j ON j.id = done.job_id
    LEFT JOIN s ON s.job_id = j.id AND s.is_ours AND done.id = j.last
"""

# Rows that others have locked are left for the next time: waiting for several jobs in some order is
# how deadlocks are made.
MAKE_READY = """
WITH due AS (
    SELECT s.id FROM jobs_step s JOIN jobs_job j ON j.id = s.job_id
    WHERE s.status = 'waiting' AND {which}
    ORDER BY s.due_at
    LIMIT %(most)s
    FOR NO KEY UPDATE OF s, j SKIP LOCKED
), s AS (
    UPDATE jobs_step SET status = 'ready', due_at = statement_timestamp(), phase = ''
    FROM due WHERE jobs_step.id = due.id
    RETURNING jobs_step.*
), w AS (
    UPDATE jobs_wait SET
        status = CASE
            WHEN jobs_wait.id <> coalesce((
                SELECT f.id FROM jobs_wait f
                WHERE f.step_id = s.id AND f.status = 'open'
                    AND f.deadline_at <= statement_timestamp()
                ORDER BY f.deadline_at, f.id LIMIT 1
            ), s.id) THEN 'cancelled'
            WHEN kind = 'timer' THEN 'answered'
            ELSE 'expired'
        END,
        ended_at = statement_timestamp()
    FROM s WHERE jobs_wait.step_id = s.id AND jobs_wait.status = 'open'
), j AS (
    UPDATE jobs_job SET last_event = last_event + counted.steps
    FROM (SELECT job_id, count(*) AS steps FROM s GROUP BY job_id) counted
    WHERE jobs_job.id = counted.job_id
    RETURNING jobs_job.id, jobs_job.last_event, counted.steps
), e AS (
    INSERT INTO jobs_event (job_id, number, kind, step_id, message, data)
    SELECT j.id, j.last_event - j.steps + row_number() OVER (PARTITION BY j.id ORDER BY s.id),
        'step.ready', s.id, s.title,
        jsonb_build_object('step', jsonb_build_object(
            'status', 'ready', 'due_at', s.due_at, 'phase', '', 'waits', '[]'::jsonb))
    FROM s JOIN j ON j.id = s.job_id
)
SELECT job_id, queue FROM s
"""
MAKE_DUE_READY = MAKE_READY.format(which="s.due_at <= statement_timestamp()")
MAKE_HELD_READY = MAKE_READY.format(
    which="""s.id = ANY(ARRAY(
        SELECT id FROM jobs_step
        WHERE status = 'waiting' AND limited_by = %(key)s AND limited_by <> ''
        ORDER BY priority DESC, id
        LIMIT %(room)s))"""
)
# What waits for an answer is not ready before it comes.
MAKE_JOB_READY = MAKE_READY.format(
    which="""s.job_id = %(job)s AND NOT EXISTS (
        SELECT FROM jobs_wait w WHERE w.step_id = s.id AND w.status = 'open')"""
)

# The oldest open wait that each signal fits. Two signals may find the same one.
FIND_WAITS = """
SELECT given.place, found.id
FROM unnest(%(topics)s::varchar[], %(fields)s::jsonb[]) WITH ORDINALITY
    AS given (topic, fields, place)
CROSS JOIN LATERAL (
    SELECT w.id FROM jobs_wait w
    WHERE w.workspace_id = %(workspace)s AND w.topic = given.topic AND w.status = 'open'
        AND w.kind = 'signal' AND w.match <@ given.fields
    ORDER BY w.id
    LIMIT 1
) found
"""

# A step's lock decides between rivals. It is taken by a statement of its own, so that who comes
# second sees what the first has done. Of several answers to one step the first given counts, and
# its other waits are cancelled.
LOCK_WAITING = """
SELECT FROM jobs_step
WHERE status = 'waiting'
    AND id = ANY(ARRAY(SELECT step_id FROM jobs_wait WHERE id = ANY(%(waits)s::uuid[])))
ORDER BY id
FOR NO KEY UPDATE
"""
ANSWER = """
WITH given AS (
    SELECT DISTINCT ON (w.step_id) w.step_id, w.id AS wait_id, given.answer, given.message
    FROM unnest(%(waits)s::uuid[], %(answers)s::jsonb[], %(messages)s::varchar[])
            WITH ORDINALITY AS given (id, answer, message, place)
        JOIN jobs_wait w ON w.id = given.id
    WHERE w.status = 'open'
    ORDER BY w.step_id, given.place
), s AS (
    UPDATE jobs_step SET status = 'ready', due_at = statement_timestamp(), phase = ''
    FROM given WHERE jobs_step.id = given.step_id AND status = 'waiting'
    RETURNING jobs_step.*, given.wait_id, given.answer, given.message
), w AS (
    UPDATE jobs_wait SET
        status = CASE WHEN jobs_wait.id = s.wait_id THEN 'answered' ELSE 'cancelled' END,
        answer = CASE WHEN jobs_wait.id = s.wait_id THEN s.answer END,
        answered_by_id = CASE WHEN jobs_wait.id = s.wait_id THEN %(by)s::bigint END,
        ended_at = statement_timestamp()
    FROM s WHERE jobs_wait.step_id = s.id AND jobs_wait.status = 'open'
), locked AS (
    SELECT id FROM jobs_job WHERE id = ANY(ARRAY(SELECT job_id FROM s))
    ORDER BY id
    FOR NO KEY UPDATE
), j AS (
    UPDATE jobs_job SET last_event = last_event + counted.steps
    FROM locked JOIN (SELECT job_id, count(*) AS steps FROM s GROUP BY job_id) counted
        ON counted.job_id = locked.id
    WHERE jobs_job.id = locked.id
    RETURNING jobs_job.id, jobs_job.last_event, counted.steps
), e AS (
    INSERT INTO jobs_event (job_id, number, kind, step_id, message, data)
    SELECT j.id, j.last_event - j.steps + row_number() OVER (PARTITION BY j.id ORDER BY s.id),
        'step.answered', s.id, s.message,
        jsonb_build_object('step', jsonb_build_object(
            'status', 'ready', 'due_at', s.due_at, 'phase', '', 'waits', '[]'::jsonb))
    FROM s JOIN j ON j.id = s.job_id
)
SELECT wait_id, job_id, queue FROM s
"""

# An answer to a former run is none to this one: a person has had the step run again since.
FIND_ANSWER = """
SELECT w.name, w.kind, w.status, w.on_deadline, w.question, w.answer, w.answered_by_id
FROM jobs_wait w JOIN jobs_step s ON s.id = w.step_id
WHERE w.step_id = %(step)s AND w.name = ANY(%(names)s) AND w.status IN ('answered', 'expired')
    AND (s.reset_at IS NULL OR w.created_at > s.reset_at)
ORDER BY w.id DESC
LIMIT 1
"""

# A job's progress never goes back, and is whole only once the job is. What a crash of the database
# server may lose of it is no loss: the commit does not wait for the disk.
REPORT_PROGRESS = """
WITH s AS (
    UPDATE jobs_step SET progress = %(percent)s, phase = %(phase)s
    WHERE id = %(step)s AND fence = %(fence)s AND status = 'running'
    RETURNING id, job_id, weight
), j AS (
    UPDATE jobs_job SET
        progress = greatest(
            progress, least(99, (100 * weight_done + s.weight * %(percent)s) / weight_total)
        ),
        last_event = last_event + 1
    FROM s WHERE jobs_job.id = s.job_id
    RETURNING jobs_job.id, last_event, progress
)
INSERT INTO jobs_event (job_id, number, kind, step_id, message, data)
SELECT j.id, j.last_event, 'step.progress', s.id, %(phase)s,
    jsonb_build_object(
        'step', jsonb_build_object('progress', %(percent)s::int, 'phase', %(phase)s::text),
        'job', jsonb_build_object('progress', j.progress))
FROM s, j, set_config('synchronous_commit', 'off', true)
RETURNING number
"""

# A lease is renewed only while its job runs: cancelling a job reaches its steps by this.
RENEW_LEASES = """
UPDATE jobs_step SET lease_expires_at = statement_timestamp() + %(lease)s
FROM unnest(%(steps)s::uuid[], %(fences)s::bigint[]) AS held (id, fence)
WHERE jobs_step.id = held.id AND jobs_step.fence = held.fence AND jobs_step.status = 'running'
    AND EXISTS (SELECT FROM jobs_job WHERE id = jobs_step.job_id AND status = 'running')
RETURNING jobs_step.id, jobs_step.fence
"""

Claim = tuple[uuid.UUID, int]  # a step and the fencing token of one claim to it


@dataclass(frozen=True)
class Orphan:
    """A ready step whose job has ended in the moment in which it was to be claimed."""

    id: uuid.UUID
    job_id: uuid.UUID


@dataclass(frozen=True)
class Candidate:
    """A ready step, locked until the transaction ends, that is not to be claimed just so."""

    id: uuid.UUID
    job_id: uuid.UUID
    queue: str
    priority: int
    flow_keys: Sequence[str]


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


def create_jobs(
    jobs: Sequence[Job], steps: Sequence[Mapping[str, Any]]
) -> dict[uuid.UUID, datetime]:
    """Writes jobs with all of their steps; when each was created. A job whose idempotency key is
    taken in its workspace is left out, and so are its steps."""
    rows = _run(
        CREATE_JOBS,
        jobs=_dumps([{name: getattr(job, name) for name in JOB_COLUMNS} for job in jobs]),
        steps=_dumps(steps),
    )
    return dict(rows)


def claim_next(
    queue: str, most: int, *, worker: str, lease: timedelta, apart: Sequence[str] = ()
) -> list[ClaimedStep | Candidate | Orphan]:
    """The ready steps of `queue` that are next in turn, each of them claimed; or locked as a
    candidate, where a limit may hold it back or one of its flow keys is in `apart`."""
    rows = _run(CLAIM_NEXT, queue=queue, most=most, apart=list(apart), worker=worker, lease=lease)
    return [_found(queue, *row) for row in rows]


def _found(
    queue: str,
    is_apart: bool,
    step_id: uuid.UUID,
    job_id: uuid.UUID,
    priority: int,
    flow_keys: Sequence[str],
    *claimed: Any,
) -> ClaimedStep | Candidate | Orphan:
    if is_apart:
        return Candidate(step_id, job_id, queue, priority, tuple(flow_keys))
    if claimed[0] is None:
        return Orphan(step_id, job_id)
    return _claimed(claimed)


def claim_limited(
    candidate: Candidate, limits: Sequence[str], *, worker: str, lease: timedelta
) -> ClaimedStep | Orphan:
    """The candidate, claimed. Needs the locks on its limits, in which there is a place for it."""
    rows = _run(CLAIM_LIMITED, step=candidate.id, job=candidate.job_id, worker=worker, lease=lease)
    if not rows:
        return Orphan(candidate.id, candidate.job_id)
    return replace(_claimed(rows[0]), limits=tuple(limits))


def lock_limits(keys: Sequence[str]) -> None:
    _run(LOCK_LIMITS, keys=list(keys))


def read_limits(keys: Sequence[str], *, expected: timedelta) -> list[Limit]:
    """How the limits of these keys stand, by key; none for a key without one. A step that was woken
    longer ago than `expected` takes no place any more: its queue may have no worker."""
    rows = _run(READ_LIMITS, keys=list(keys), expected=expected)
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
    rows = _run(
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
    _run(SET_DUE_OF_HELD, key=key, slots=list(slots), period=period)


def make_held_ready(key: str, room: int) -> list[tuple[uuid.UUID, str]]:
    """The first `room` steps that `key` holds back are ready; the job and the queue of each."""
    rows = _run(MAKE_HELD_READY, key=key, room=room, most=None)
    return [(job_id, queue) for job_id, queue in rows]


def find_held_keys() -> list[str]:
    return [key for (key,) in _run(FIND_HELD_KEYS)]


def age_steps(level: timedelta, most: int) -> int:
    """Raises the priority of steps that could have started a `level` ago or earlier; how many."""
    ready = _run(AGE_READY, level=level, most=most)
    held = _run(AGE_HELD, level=level, most=most)
    return len(ready) + len(held)


def complete_steps(
    done: Sequence[tuple[ClaimedStep, Mapping[str, Any]]],
    *,
    queues: Sequence[str],
    worker: str,
    lease: timedelta,
) -> dict[uuid.UUID, Completion]:
    """Completes steps, each with its output, and opens what follows; by the steps' ids. Those that
    are not returned had a fencing token that is no longer good.

    `queues`: which the caller may go on with itself; empty to have everything sent to others.
    """
    rows = _run(
        COMPLETE,
        steps=[step.id for step, _ in done],
        fences=[step.fence for step, _ in done],
        outputs=[json.dumps(output) for _, output in done],
        queues=list(queues),
        worker=worker,
        lease=lease,
    )
    return {
        step_id: Completion(
            job_status=Status(job_status),
            ready_queues=ready_queues or [],
            claimed=None if following[0] is None else _claimed(following),
        )
        for step_id, job_status, ready_queues, *following in rows
    }


def make_due_ready(most: int) -> list[tuple[uuid.UUID, str]]:
    """Waiting steps whose time has come are ready; the job and the queue of each."""
    return [(job_id, queue) for job_id, queue in _run(MAKE_DUE_READY, most=most)]


def make_job_ready(job_id: uuid.UUID) -> list[tuple[uuid.UUID, str]]:
    """The same for the waiting steps of one job, due or not."""
    rows = _run(MAKE_JOB_READY, job=job_id, most=None)
    return [(job_id, queue) for job_id, queue in rows]


def report_progress(step: ClaimedStep, percent: int, phase: str) -> bool:
    """False when our fencing token is no longer good."""
    return bool(_run(REPORT_PROGRESS, step=step.id, fence=step.fence, percent=percent, phase=phase))


@dataclass(frozen=True)
class WaitAnswer:
    wait_id: uuid.UUID
    data: Mapping[str, Any]
    message: str  # of the event


def answer_waits(
    answers: Sequence[WaitAnswer], *, by: int | None = None
) -> dict[uuid.UUID, tuple[uuid.UUID, str]]:
    """The job and the queue of the step that goes on, by its wait. Those that are not returned had
    ended already, or an earlier answer was to the same step. Needs a transaction."""
    waits = [each.wait_id for each in answers]
    _run(LOCK_WAITING, waits=waits)
    rows = _run(
        ANSWER,
        waits=waits,
        answers=[json.dumps(each.data) for each in answers],
        messages=[each.message for each in answers],
        by=by,
    )
    return {wait_id: (job_id, queue) for wait_id, job_id, queue in rows}


def find_waits(
    signals: Sequence[tuple[str, Mapping[str, Any]]], *, workspace_id: uuid.UUID
) -> dict[int, uuid.UUID]:
    """The wait that each signal (topic, fields) would answer, by its place; two may have the
    same."""
    rows = _run(
        FIND_WAITS,
        topics=[topic for topic, _ in signals],
        fields=[json.dumps(fields) for _, fields in signals],
        workspace=workspace_id,
    )
    return {place - 1: wait_id for place, wait_id in rows}


@dataclass(frozen=True)
class EndedWait:
    """A wait that was answered, or whose deadline has passed."""

    name: str
    kind: str
    status: str
    on_deadline: str
    question: str
    answer: Mapping[str, Any] | None
    answered_by: int | None


def find_answer(step_id: uuid.UUID, names: Collection[str]) -> EndedWait | None:
    """The newest of the step's waits with these names that has ended by itself."""
    rows = _run(FIND_ANSWER, step=step_id, names=list(names))
    if not rows:
        return None
    *columns, answer, by = rows[0]
    return EndedWait(*columns, answer=_json(answer), answered_by=by)


def renew_leases(held: Collection[Claim], *, lease: timedelta) -> set[Claim]:
    """Renews the leases of these claims; those that are not returned are lost."""
    rows = _run(
        RENEW_LEASES,
        steps=[step_id for step_id, _ in held],
        fences=[fence for _, fence in held],
        lease=lease,
    )
    return {(step_id, fence) for step_id, fence in rows}


def _run(statement: str, **values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def _claimed(row: Sequence[Any]) -> ClaimedStep:
    (
        id_,
        fence,
        job_id,
        workflow,
        job_params,
        name,
        title,
        handler,
        params,
        checkpoint,
        *counts,
    ) = row
    attempt, max_attempts, weight, handler_version, retry = counts
    return ClaimedStep(
        id=id_,
        fence=fence,
        job_id=job_id,
        workflow=workflow,
        job_params=_json(job_params) or {},
        name=name,
        title=title,
        handler=handler,
        params=_json(params) or {},
        checkpoint=_json(checkpoint),
        attempt=attempt,
        max_attempts=max_attempts,
        weight=weight,
        handler_version=handler_version,
        retry=_json(retry),
    )


def _dumps(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(rows, default=_uuid_as_text)


def _uuid_as_text(value: Any) -> str:
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is nothing that JSON knows.")


def _json(value: Any) -> Any:
    # Django turns off psycopg's own JSON loading, as its JSONField does that itself.
    return json.loads(value) if isinstance(value, str) else value

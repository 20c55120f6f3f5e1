"""The hot path, in SQL: claim a step, complete it and open what follows, keep leases.

One statement each, so that each is one round trip and one commit: it is what makes a step cost
about a millisecond. Everything colder goes through the ORM in `steps.py`. Locks are taken in one
order everywhere: a step, then its job, then the steps of the next stage. The time is the
statement's, as Django's Now() is.
"""

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection

from jobs.models import Status, Step


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
        )


@dataclass(frozen=True)
class Completion:
    """What completing a step led to."""

    job_status: Status
    ready_queues: list[str]  # a queue for each step that is ready now and not ours
    claimed: ClaimedStep | None  # the one step that follows, claimed in the same statement


# The columns of ClaimedStep, from a step `s` and its job `j`.
CLAIMED = """s.id, s.fence, j.id, j.workflow, j.params, s.name, s.title, s.handler, s.params,
    s.checkpoint, s.attempt, s.max_attempts, s.weight"""

STEP_STARTED = """'step.started', s.id, s.title,
    jsonb_build_object(
        'step', jsonb_build_object('status', 'running', 'attempt', s.attempt,
                                   'started_at', s.started_at, 'error', null, 'due_at', null),
        'job', jsonb_build_object('status', 'running', 'started_at', j.started_at))"""

# A job's first claim starts the job. Should the job have ended in this very moment, the step comes
# back without one, to be cancelled: ending a job skips the steps that others have locked, since
# waiting for them could deadlock with this.
CLAIM_NEXT = f"""
WITH candidate AS (
    SELECT id FROM jobs_step
    WHERE status = 'ready' AND queue = %(queue)s
    ORDER BY priority DESC, id
    LIMIT 1
    FOR NO KEY UPDATE SKIP LOCKED
), s AS (
    UPDATE jobs_step SET
        status = 'running', fence = fence + 1, attempt = attempt + 1, worker = %(worker)s,
        started_at = statement_timestamp(), lease_expires_at = statement_timestamp() + %(lease)s,
        due_at = NULL, error = NULL
    WHERE id = (SELECT id FROM candidate)
    RETURNING *
), j AS (
    UPDATE jobs_job SET
        status = 'running', started_at = coalesce(jobs_job.started_at, statement_timestamp()),
        last_event = last_event + 1
    FROM s WHERE jobs_job.id = s.job_id AND jobs_job.status IN ('pending', 'running', 'waiting')
    RETURNING jobs_job.*
), e AS (
    INSERT INTO jobs_event (job_id, number, kind, step_id, message, data)
    SELECT j.id, j.last_event, {STEP_STARTED} FROM s, j
)
SELECT j.id IS NULL, s.job_id, {CLAIMED} FROM s LEFT JOIN j ON true
"""

# Of a job's row in COMPLETE: what this step's completion is. A job that has ended meanwhile keeps
# its stage; the step's completion is recorded all the same.
LAST_OF_GROUP = "status = 'running' AND stage_open = 1"
LAST_OF_JOB = f"{LAST_OF_GROUP} AND next_size IS NULL"

# `stage_open` counts the group down; who takes it to zero opens the next stage. The row lock on the
# job serialises the finishers of a group, and PostgreSQL computes the SET list anew from the row
# as the other one left it. A step that alone follows and whose queue we serve is claimed at once.
COMPLETE = f"""
WITH done AS (
    UPDATE jobs_step SET
        status = 'completed', output = %(output)s, progress = 100, phase = '',
        finished_at = statement_timestamp(), lease_expires_at = NULL
    WHERE id = %(step)s AND fence = %(fence)s AND status = 'running'
    RETURNING id, job_id, stage, title, weight, finished_at,
        (SELECT stage_sizes[jobs_step.stage + 2] FROM jobs_job WHERE id = job_id) AS next_size, (
            SELECT n.queue FROM jobs_step n
            WHERE n.job_id = jobs_step.job_id AND n.stage = jobs_step.stage + 1
            ORDER BY n.position LIMIT 1
        ) = ANY(%(queues)s) AS serves_next
), j AS (
    UPDATE jobs_job SET
        weight_done = weight_done + done.weight,
        progress = greatest(progress, 100 * (weight_done + done.weight) / weight_total),
        stage = jobs_job.stage + ({LAST_OF_GROUP})::int,
        stage_open = CASE
            WHEN {LAST_OF_GROUP} THEN coalesce(next_size, 0)
            WHEN status = 'running' THEN stage_open - 1
            ELSE stage_open
        END,
        status = CASE WHEN {LAST_OF_JOB} THEN 'completed' ELSE status END,
        finished_at = CASE
            WHEN {LAST_OF_JOB} THEN statement_timestamp() ELSE jobs_job.finished_at
        END,
        result = CASE WHEN {LAST_OF_JOB} THEN %(output)s::jsonb END,
        last_event = last_event + CASE
            WHEN {LAST_OF_JOB} THEN 2
            WHEN {LAST_OF_GROUP} THEN 1 + next_size
            ELSE 1
        END
    FROM done WHERE jobs_job.id = done.job_id
    RETURNING jobs_job.*, jobs_job.stage <> done.stage AS opened,
        (jobs_job.stage <> done.stage AND stage_open = 1 AND done.serves_next) AS inline
), s AS (
    UPDATE jobs_step SET
        status = CASE WHEN j.inline THEN 'running' ELSE 'ready' END,
        due_at = CASE WHEN j.inline THEN NULL ELSE statement_timestamp() END,
        fence = fence + j.inline::int,
        attempt = attempt + j.inline::int,
        worker = CASE WHEN j.inline THEN %(worker)s ELSE '' END,
        lease_expires_at = CASE WHEN j.inline THEN statement_timestamp() + %(lease)s END,
        started_at = CASE WHEN j.inline THEN statement_timestamp() END
    FROM j
    WHERE j.opened AND jobs_step.job_id = j.id AND jobs_step.stage = j.stage
        AND jobs_step.status = 'pending'
    RETURNING jobs_step.*
), e AS (
    INSERT INTO jobs_event (job_id, number, kind, step_id, message, data)
    SELECT j.id,
        j.last_event - CASE
            WHEN j.status = 'completed' THEN 1
            WHEN j.opened THEN j.stage_open
            ELSE 0
        END,
        'step.completed', done.id, done.title,
        jsonb_build_object(
            'step', jsonb_build_object('status', 'completed', 'progress', 100, 'phase', '',
                                       'finished_at', done.finished_at),
            'job', jsonb_build_object('progress', j.progress))
    FROM done, j
    UNION ALL
    SELECT j.id, j.last_event, {STEP_STARTED} FROM s, j WHERE j.inline
    UNION ALL
    SELECT j.id, j.last_event - j.stage_open + row_number() OVER (ORDER BY s.position),
        'step.ready', s.id, s.title,
        jsonb_build_object('step', jsonb_build_object('status', 'ready', 'due_at', s.due_at))
    FROM s, j WHERE NOT j.inline
    UNION ALL
    SELECT j.id, j.last_event, 'job.completed', NULL, j.title,
        jsonb_build_object('job', jsonb_build_object(
            'status', 'completed', 'progress', 100, 'finished_at', j.finished_at,
            'result', j.result))
    FROM j WHERE j.status = 'completed'
)
SELECT j.status, s.queue, j.inline, {CLAIMED}
FROM j LEFT JOIN s ON true
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
# What waits for an answer is not ready before it comes.
MAKE_JOB_READY = MAKE_READY.format(
    which="""s.job_id = %(job)s AND NOT EXISTS (
        SELECT FROM jobs_wait w WHERE w.step_id = s.id AND w.status = 'open')"""
)

# The step's lock decides between rivals. It is taken by a statement of its own, so that who comes
# second sees what the first has done. The step's other waits are cancelled.
LOCK_WAITING = """
SELECT FROM jobs_step WHERE status = 'waiting'
    AND id = (SELECT step_id FROM jobs_wait WHERE id = %(wait)s)
FOR NO KEY UPDATE
"""
ANSWER = """
WITH s AS (
    UPDATE jobs_step SET status = 'ready', due_at = statement_timestamp(), phase = ''
    WHERE status = 'waiting' AND id = (
        SELECT step_id FROM jobs_wait WHERE id = %(wait)s AND status = 'open')
    RETURNING *
), w AS (
    UPDATE jobs_wait SET
        status = CASE WHEN jobs_wait.id = %(wait)s THEN 'answered' ELSE 'cancelled' END,
        answer = CASE WHEN jobs_wait.id = %(wait)s THEN %(answer)s::jsonb END,
        answered_by_id = CASE WHEN jobs_wait.id = %(wait)s THEN %(by)s::bigint END,
        ended_at = statement_timestamp()
    FROM s WHERE jobs_wait.step_id = s.id AND jobs_wait.status = 'open'
), j AS (
    UPDATE jobs_job SET last_event = last_event + 1 FROM s WHERE jobs_job.id = s.job_id
    RETURNING jobs_job.id, jobs_job.last_event
), e AS (
    INSERT INTO jobs_event (job_id, number, kind, step_id, message, data)
    SELECT j.id, j.last_event, 'step.answered', s.id, %(message)s,
        jsonb_build_object('step', jsonb_build_object(
            'status', 'ready', 'due_at', s.due_at, 'phase', '', 'waits', '[]'::jsonb))
    FROM s, j
)
SELECT job_id, queue FROM s
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
    """A step that was claimed in the moment in which its job ended."""

    id: uuid.UUID
    job_id: uuid.UUID


def claim_next(queue: str, *, worker: str, lease: timedelta) -> ClaimedStep | Orphan | None:
    """The ready step of `queue` that is next in turn, claimed; None when there is none."""
    rows = _run(CLAIM_NEXT, queue=queue, worker=worker, lease=lease)
    if not rows:
        return None
    is_orphan, job_id, *claimed = rows[0]
    return Orphan(claimed[0], job_id) if is_orphan else _claimed(claimed)


def complete_step(
    step: ClaimedStep,
    output: Mapping[str, Any],
    *,
    queues: Sequence[str],
    worker: str,
    lease: timedelta,
) -> Completion | None:
    """Completes `step` and opens what follows; None when our fencing token is no longer good.

    `queues`: which the caller may go on with itself; empty to have everything sent to others.
    """
    rows = _run(
        COMPLETE,
        step=step.id,
        fence=step.fence,
        output=json.dumps(output),
        queues=list(queues),
        worker=worker,
        lease=lease,
    )
    if not rows:
        return None
    job_status, _, inline, *following = rows[0]
    return Completion(
        job_status=Status(job_status),
        ready_queues=[] if inline else [queue for _, queue, *_ in rows if queue],
        claimed=_claimed(following) if inline else None,
    )


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


def answer_wait(
    wait_id: uuid.UUID, answer: Mapping[str, Any], *, by: int | None, message: str
) -> tuple[uuid.UUID, str] | None:
    """The job and the queue of the step that goes on; None when the wait had ended already.

    Needs a transaction.
    """
    _run(LOCK_WAITING, wait=wait_id)
    rows = _run(ANSWER, wait=wait_id, answer=json.dumps(answer), by=by, message=message)
    return (rows[0][0], rows[0][1]) if rows else None


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
    attempt, max_attempts, weight = counts
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
    )


def _json(value: Any) -> Any:
    # Django turns off psycopg's own JSON loading, as its JSONField does that itself.
    return json.loads(value) if isinstance(value, str) else value

"""Steps that wait: their time comes, or their answer."""

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.statements.base import json_value, run

URGENT = 1000  # a priority that nobody gives a job

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


# A one-time password is good for minutes: what has one goes before all that could run at any time.
ANSWER = """
WITH given AS (
    SELECT DISTINCT ON (w.step_id) w.step_id, w.id AS wait_id, w.kind, given.answer, given.message
    FROM unnest(%(waits)s::uuid[], %(answers)s::jsonb[], %(messages)s::varchar[])
            WITH ORDINALITY AS given (id, answer, message, place)
        JOIN jobs_wait w ON w.id = given.id
    WHERE w.status = 'open'
    ORDER BY w.step_id, given.place
), s AS (
    UPDATE jobs_step SET
        status = 'ready', due_at = statement_timestamp(), phase = '',
        priority = greatest(priority, CASE WHEN given.kind = 'otp' THEN %(urgent)s::smallint END)
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


def make_due_ready(most: int) -> list[tuple[uuid.UUID, str]]:
    """Waiting steps whose time has come are ready; the job and the queue of each."""
    return [(job_id, queue) for job_id, queue in run(MAKE_DUE_READY, most=most)]


def make_held_ready(key: str, room: int) -> list[tuple[uuid.UUID, str]]:
    """The first `room` steps that `key` holds back are ready; the job and the queue of each."""
    rows = run(MAKE_HELD_READY, key=key, room=room, most=None)
    return [(job_id, queue) for job_id, queue in rows]


def make_job_ready(job_id: uuid.UUID) -> list[tuple[uuid.UUID, str]]:
    """The same for the waiting steps of one job, due or not."""
    rows = run(MAKE_JOB_READY, job=job_id, most=None)
    return [(job_id, queue) for job_id, queue in rows]


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
    run(LOCK_WAITING, waits=waits)
    rows = run(
        ANSWER,
        waits=waits,
        answers=[json.dumps(each.data) for each in answers],
        messages=[each.message for each in answers],
        by=by,
        urgent=URGENT,
    )
    return {wait_id: (job_id, queue) for wait_id, job_id, queue in rows}


def find_waits(
    signals: Sequence[tuple[str, Mapping[str, Any]]], *, workspace_id: uuid.UUID
) -> dict[int, uuid.UUID]:
    """The wait that each signal (topic, fields) would answer, by its place; two may have the
    same."""
    rows = run(
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
    rows = run(FIND_ANSWER, step=step_id, names=list(names))
    if not rows:
        return None
    name, kind, status, on_deadline, question, answer, by = rows[0]
    return EndedWait(name, kind, status, on_deadline, question, json_value(answer), by)

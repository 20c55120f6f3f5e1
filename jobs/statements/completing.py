"""Completing steps, and opening what follows."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from jobs.models import Status
from jobs.statements.base import (
    CLAIMED,
    MAY_BE_LIMITED,
    START,
    STARTED_DATA,
    ClaimedStep,
    claimed_step,
    run,
)


@dataclass(frozen=True)
class Completion:
    """What completing a step led to."""

    job_status: Status
    ready_queues: Sequence[str]  # a queue for each step that is ready now and not ours
    claimed: ClaimedStep | None  # the step to go on with, claimed in the same statement


# For each caller who `wants` to go on, a ready step of the queue, unless it is to be claimed apart
# (see CLAIM_NEXT) or its job is locked by others; after the locks on the jobs that are waited for.
CLAIM_OTHERS = f"""
candidate AS (
    SELECT n.id, n.job_id, n.flow_keys && %(apart)s::varchar[] OR {MAY_BE_LIMITED} AS apart
    FROM (
        SELECT id, job_id, flow_keys FROM jobs_step
        WHERE status = 'ready' AND queue = %(queue)s
        ORDER BY priority DESC, id
        LIMIT (SELECT count(*) FROM held WHERE wants)
        FOR NO KEY UPDATE SKIP LOCKED
    ) n
    LIMIT %(count)s
), taken AS (
    SELECT jobs_job.id FROM (SELECT DISTINCT job_id FROM candidate WHERE NOT apart) wanted
        JOIN jobs_job ON jobs_job.id = wanted.job_id
    WHERE status IN ('pending', 'running', 'waiting') AND (SELECT count(*) FROM locked) > 0
    FOR NO KEY UPDATE OF jobs_job SKIP LOCKED
), begun AS (
    UPDATE jobs_step SET {START}
    FROM candidate JOIN taken ON taken.id = candidate.job_id
    WHERE jobs_step.id = candidate.id AND NOT apart
    RETURNING jobs_step.*
), touched AS (
    SELECT job_id, last, wants, output, next_size, coalesce(steps, 0) AS steps,
        coalesce(starts, 0) AS starts, coalesce(weight, 0) AS weight,
        coalesce(ends_stage, false) AS ends_stage
    FROM locked
        FULL JOIN (SELECT job_id, count(*)::int AS starts FROM begun GROUP BY job_id) others
        USING (job_id)
)"""
CLAIM_NONE = """
begun AS (
    SELECT * FROM jobs_step WHERE false
), touched AS (
    SELECT *, 0 AS starts FROM locked
)"""


def _complete(claims: str) -> str:
    """`stage_open` counts the group down; who takes it to zero opens the next stage. The row lock
    on the job serialises the finishers of a group, and what is decided is decided by the row as it
    is then. A job that has ended meanwhile keeps its stage; that its steps are completed is
    recorded all the same. A step that alone follows, whose queue we serve and that no limit may
    hold back is claimed at once, for the last of the job's steps that are completed here.
    """
    statement = f"""
WITH held AS (
    SELECT s.id, given.output, given.wants
    FROM (
        SELECT * FROM unnest(
            %(steps)s::uuid[], %(fences)s::bigint[], %(outputs)s::jsonb[], %(wants)s::bool[]
        ) AS given (id, fence, output, wants)
        LIMIT %(count)s
    ) given JOIN jobs_step s ON s.id = given.id
    WHERE s.fence = given.fence AND s.status = 'running'
    ORDER BY s.id
    FOR NO KEY UPDATE OF s
), done AS (
    UPDATE jobs_step SET
        status = 'completed', output = held.output, progress = 100, phase = '',
        finished_at = statement_timestamp(), lease_expires_at = NULL
    FROM held WHERE jobs_step.id = held.id
    RETURNING jobs_step.*, held.wants
), counted AS (
    SELECT job_id, count(*)::int AS steps, sum(weight)::int AS weight,
        (array_agg(id ORDER BY position DESC))[1] AS last,
        (array_agg(output ORDER BY position DESC))[1] AS output,
        (array_agg(wants ORDER BY position DESC))[1] AS wants
    FROM done GROUP BY job_id
), locked AS (
    SELECT counted.*, status = 'running' AND stage_open = steps AS ends_stage,
        stage_sizes[stage + 2] AS next_size
    FROM counted JOIN jobs_job ON jobs_job.id = counted.job_id
    ORDER BY jobs_job.id
    FOR NO KEY UPDATE OF jobs_job
), {claims}, j AS (
    UPDATE jobs_job SET
        weight_done = weight_done + weight,
        progress = greatest(progress, 100 * (weight_done + weight) / weight_total),
        stage = stage + ends_stage::int,
        stage_open = CASE
            WHEN ends_stage THEN coalesce(next_size, 0)
            WHEN status = 'running' THEN stage_open - steps
            ELSE stage_open
        END,
        status = CASE
            WHEN ends_stage AND next_size IS NULL THEN 'completed'
            WHEN starts > 0 THEN 'running'
            ELSE status
        END,
        started_at = CASE
            WHEN starts > 0 THEN coalesce(started_at, statement_timestamp()) ELSE started_at
        END,
        finished_at = CASE
            WHEN ends_stage AND next_size IS NULL THEN statement_timestamp() ELSE finished_at
        END,
        result = CASE WHEN ends_stage AND next_size IS NULL THEN output ELSE result END,
        last_event = last_event + steps + starts
            + CASE WHEN ends_stage THEN coalesce(next_size, 1) ELSE 0 END
    FROM touched WHERE jobs_job.id = touched.job_id
    RETURNING jobs_job.*, steps, starts, last, wants, ends_stage,
        CASE WHEN ends_stage THEN coalesce(next_size, 1) ELSE 0 END AS following
), next AS MATERIALIZED (
    SELECT n.id,
        j.stage_open = 1 AND n.queue = ANY(%(queues)s) AND NOT {MAY_BE_LIMITED}
            AND (NOT j.wants OR NOT EXISTS (SELECT FROM begun)) AS is_ours
    FROM j JOIN jobs_step n ON n.job_id = j.id AND n.stage = j.stage
    WHERE j.ends_stage AND n.status = 'pending'
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
    RETURNING jobs_step.*, is_ours
), e AS (
    INSERT INTO jobs_event (job_id, number, kind, step_id, message, data)
    SELECT j.id,
        last_event - starts - following - steps
            + row_number() OVER (PARTITION BY j.id ORDER BY position),
        'step.completed', done.id, done.title,
        jsonb_build_object(
            'step', jsonb_build_object('status', 'completed', 'progress', 100, 'phase', '',
                                       'finished_at', done.finished_at),
            'job', jsonb_build_object('progress', j.progress))
    FROM done JOIN j ON j.id = done.job_id
    UNION ALL
    SELECT j.id,
        last_event - starts - following + row_number() OVER (PARTITION BY j.id ORDER BY position),
        CASE WHEN is_ours THEN 'step.started' ELSE 'step.ready' END, s.id, s.title,
        CASE WHEN is_ours THEN {STARTED_DATA} ELSE
            jsonb_build_object('step', jsonb_build_object('status', 'ready', 'due_at', s.due_at))
        END
    FROM s JOIN j ON j.id = s.job_id
    UNION ALL
    SELECT id, last_event, 'job.completed', NULL, title,
        jsonb_build_object('job', jsonb_build_object(
            'status', 'completed', 'progress', 100, 'finished_at', finished_at, 'result', result))
    FROM j WHERE ends_stage AND status = 'completed'
    UNION ALL
    SELECT j.id, last_event - starts + row_number() OVER (PARTITION BY j.id ORDER BY s.id),
        'step.started', s.id, s.title, {STARTED_DATA}
    FROM begun s JOIN j ON j.id = s.job_id
)
SELECT done.id, j.status,
    CASE WHEN done.id = last THEN ARRAY(
        SELECT queue FROM s WHERE s.job_id = j.id AND NOT is_ours ORDER BY position) END,
    {CLAIMED}
FROM done
    JOIN j ON j.id = done.job_id
    LEFT JOIN s ON s.job_id = j.id AND is_ours AND done.id = last
UNION ALL
SELECT NULL, NULL, NULL, {CLAIMED} FROM begun s JOIN j ON j.id = s.job_id
"""
    # Without indentation: psycopg prepares texts below 4 KiB once, longer ones each time.
    return " ".join(statement.split())


COMPLETE = _complete(CLAIM_NONE)  # when none of the callers wants another step
COMPLETE_AND_CLAIM = _complete(CLAIM_OTHERS)


def complete_steps(
    done: Sequence[tuple[ClaimedStep, Mapping[str, Any]]],
    *,
    queues: Sequence[str],
    worker: str,
    lease: timedelta,
    apart: Sequence[str] | None = None,
) -> dict[uuid.UUID, Completion]:
    """Completes steps, each with its output, and opens what follows; by the steps' ids. Those that
    are not returned had a fencing token that is no longer good.

    `queues`: which the caller may go on with itself, those that all workers serve last, from where
    it may get another step; empty to have everything sent to others.
    `apart`: flow keys of steps that are not to be claimed here. None for no claims but of the step
    that alone follows.
    """
    may_claim = apart is not None and bool(queues)
    wanting = [step for step, _ in done if may_claim and not step.leads_on]
    rows = run(
        COMPLETE_AND_CLAIM if wanting else COMPLETE,
        count=len(done),
        steps=[step.id for step, _ in done],
        fences=[step.fence for step, _ in done],
        outputs=[json.dumps(output) for _, output in done],
        wants=[step in wanting for step, _ in done],
        queue=queues[-1] if queues else "",
        queues=list(queues),
        apart=list(apart or []),
        worker=worker,
        lease=lease,
    )
    claims = [claimed_step(claim) for step_id, _, _, *claim in rows if step_id is None]
    completions = {
        step_id: Completion(
            job_status=Status(job_status),
            ready_queues=ready_queues or [],
            claimed=None if following[0] is None else claimed_step(following),
        )
        for step_id, job_status, ready_queues, *following in rows
        if step_id is not None
    }
    for step in wanting:
        if claims and step.id in completions:
            completions[step.id] = replace(completions[step.id], claimed=claims.pop())
    return completions

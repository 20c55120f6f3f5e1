"""Claiming ready steps, and keeping the leases of those that run."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from jobs.statements.base import (
    CLAIMED,
    MAY_BE_LIMITED,
    START,
    STARTED_DATA,
    ClaimedStep,
    claimed_step,
    run,
)

# Claims the candidates that are not to be claimed apart. A job's first claim starts the job. A step
# whose job has ended this very moment is left for its finder to cancel: ending a job skips the
# steps that others have locked, since waiting for them could deadlock with this.
CLAIM = f"""
), job AS (
    SELECT jobs_job.id FROM (SELECT DISTINCT job_id FROM candidate WHERE NOT apart) wanted
        JOIN jobs_job ON jobs_job.id = wanted.job_id
    WHERE status IN ('pending', 'running', 'waiting')
    ORDER BY jobs_job.id
    FOR NO KEY UPDATE OF jobs_job
), s AS (
    UPDATE jobs_step SET {START}
    FROM candidate JOIN job ON job.id = candidate.job_id
    WHERE jobs_step.id = candidate.id AND NOT apart
    RETURNING jobs_step.*
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
    FROM (
        SELECT id, job_id, priority, flow_keys FROM jobs_step
        WHERE status = 'ready' AND queue = %(queue)s
        ORDER BY priority DESC, id
        LIMIT %(most)s
        FOR NO KEY UPDATE SKIP LOCKED
    ) n
    LIMIT %(most)s
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


def claim_next(
    queue: str, most: int, *, worker: str, lease: timedelta, apart: Sequence[str] = ()
) -> list[ClaimedStep | Candidate | Orphan]:
    """The ready steps of `queue` that are next in turn, each of them claimed; or locked as a
    candidate, where a limit may hold it back or one of its flow keys is in `apart`."""
    rows = run(CLAIM_NEXT, queue=queue, most=most, apart=list(apart), worker=worker, lease=lease)
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
    return claimed_step(claimed)


def claim_limited(
    candidate: Candidate, limits: Sequence[str], *, worker: str, lease: timedelta
) -> ClaimedStep | Orphan:
    """The candidate, claimed. Needs the locks on its limits, in which there is a place for it."""
    rows = run(CLAIM_LIMITED, step=candidate.id, job=candidate.job_id, worker=worker, lease=lease)
    if not rows:
        return Orphan(candidate.id, candidate.job_id)
    return replace(claimed_step(rows[0]), limits=tuple(limits))


def report_progress(step: ClaimedStep, percent: int, phase: str) -> bool:
    """False when our fencing token is no longer good."""
    return bool(run(REPORT_PROGRESS, step=step.id, fence=step.fence, percent=percent, phase=phase))


def renew_leases(held: Collection[Claim], *, lease: timedelta) -> set[Claim]:
    """Renews the leases of these claims; those that are not returned are lost."""
    rows = run(
        RENEW_LEASES,
        steps=[step_id for step_id, _ in held],
        fences=[fence for _, fence in held],
        lease=lease,
    )
    return {(step_id, fence) for step_id, fence in rows}

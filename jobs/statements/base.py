"""What the hot statements share: how they are run, and a claimed step as they return it."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

from jobs.models import Step


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
    leads_on: bool  # it is alone in its group, and so is the step that follows
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
            leads_on=step.job.stage_sizes[step.stage : step.stage + 2] == [1, 1],
            limits=tuple(step.flow_keys),
        )


# The columns of ClaimedStep, from a step `s` and its job `j`.
CLAIMED = """s.id, s.fence, j.id, j.workflow, j.params, s.name, s.title, s.handler, s.params,
    s.checkpoint, s.attempt, s.max_attempts, s.weight, s.handler_version, s.retry,
    j.stage_sizes[s.stage + 1 : s.stage + 2] = ARRAY[1, 1]::smallint[]"""


# Whether any limit or pause may hold back a step `n`. The table has a row only for what is limited.
MAY_BE_LIMITED = "EXISTS (SELECT FROM jobs_flowlimit l WHERE l.key = ANY(n.flow_keys))"


# What claiming sets in a step's row, and its event's data, from a step `s` and its job `j`.
START = """
        status = 'running', fence = fence + 1, attempt = attempt + 1, worker = %(worker)s,
        started_at = statement_timestamp(), lease_expires_at = statement_timestamp() + %(lease)s,
        due_at = NULL, error = NULL, limited_by = '', ages_from = NULL"""
STARTED_DATA = """jsonb_build_object(
            'step', jsonb_build_object('status', 'running', 'attempt', s.attempt,
                                       'started_at', s.started_at, 'error', null, 'due_at', null),
            'job', jsonb_build_object('status', 'running', 'started_at', j.started_at))"""


# The locks that a claimed step's writes need, in their order.
HELD = """
WITH s AS (
    SELECT id, job_id FROM jobs_step
    WHERE id = %(step)s AND fence = %(fence)s AND status = 'running'
    FOR NO KEY UPDATE
), held AS (
    SELECT jobs_job.id, jobs_job.workspace_id FROM jobs_job JOIN s ON s.job_id = jobs_job.id
    FOR NO KEY UPDATE OF jobs_job
)"""


def run(statement: str, **values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def claimed_step(row: Sequence[Any]) -> ClaimedStep:
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
    attempt, max_attempts, weight, handler_version, retry, leads_on = counts
    return ClaimedStep(
        id=id_,
        fence=fence,
        job_id=job_id,
        workflow=workflow,
        job_params=json_value(job_params) or {},
        name=name,
        title=title,
        handler=handler,
        params=json_value(params) or {},
        checkpoint=json_value(checkpoint),
        attempt=attempt,
        max_attempts=max_attempts,
        weight=weight,
        handler_version=handler_version,
        retry=json_value(retry),
        leads_on=bool(leads_on),
    )


def json_value(value: Any) -> Any:
    # Django turns off psycopg's own JSON loading, as its JSONField does that itself.
    return json.loads(value) if isinstance(value, str) else value

"""Creating jobs with all of their steps."""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jobs.models import Job
from jobs.statements.base import run

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


def creating(only: str = "true") -> str:
    """Parts of a statement's WITH: `j`, `s` and `e` write those jobs of `job_values`, with all of
    their steps and the first event, for which `only` says so of the row `new`."""
    return f"""j AS (
    INSERT INTO jobs_job ({_names(JOB_COLUMNS)}, status, stage, weight_done, progress)
    SELECT {_names(JOB_COLUMNS)}, 'pending', 0, 0, 0
    FROM jsonb_to_recordset(%(jobs)s::jsonb) AS new ({_record(JOB_COLUMNS)})
    WHERE {only}
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
)"""


CREATE_JOBS = f"WITH {creating()} SELECT id, created_at FROM j"


def create_jobs(
    jobs: Sequence[Job], steps: Sequence[Mapping[str, Any]]
) -> dict[uuid.UUID, datetime]:
    """Writes jobs with all of their steps; when each was created. A job whose idempotency key is
    taken in its workspace is left out, and so are its steps."""
    return dict(run(CREATE_JOBS, **job_values(jobs, steps)))


def job_values(jobs: Sequence[Job], steps: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What a statement with the parts of `creating` is run with."""
    rows = [{name: getattr(job, name) for name in JOB_COLUMNS} for job in jobs]
    return {"jobs": as_json(rows), "steps": as_json(steps)}


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(rows, default=_uuid_as_text)


def _uuid_as_text(value: Any) -> str:
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is nothing that JSON knows.")

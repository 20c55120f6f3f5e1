"""Queueing in SQL: items with their jobs, however many, in one statement."""

import uuid
from collections.abc import Sequence
from datetime import datetime

from jobs.statements import as_json, creating, job_values
from jobs.statements.base import run
from jobs.submit import PlannedJobs
from vendors.models import QueueItem

# The columns that a new item is written with; the rest is as it is at the beginning.
ITEM_COLUMNS = {
    "id": "uuid",
    "user_id": "varchar",
    "vendor_id": "uuid",
    "product_url": "varchar",
    "product_name": "varchar",
    "product_data": "jsonb",
    "status": "varchar",
    "attempts": "integer",
    "max_attempts": "integer",
    "error_message": "text",
    "error_code": "varchar",
    "priority": "smallint",
    "idempotency_key": "varchar",
    "request_hash": "varchar",
    "job_id": "uuid",
    "created_by_id": "bigint",
}
_NAMES = ", ".join(ITEM_COLUMNS)
_RECORD = ", ".join(f"{name} {kind}" for name, kind in ITEM_COLUMNS.items())

# An item refers to its job: the foreign key is looked at when the statement is over.
QUEUE_ITEMS = f"""
WITH q AS (
    INSERT INTO cart_queue ({_NAMES})
    SELECT {_NAMES} FROM jsonb_to_recordset(%(items)s::jsonb) AS new ({_RECORD})
    ON CONFLICT (created_by_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id, job_id, created_at
), {creating("new.id IN (SELECT job_id FROM q)")}
SELECT id, created_at FROM q
"""  # noqa: S608  our own names


def queue_items(items: Sequence[QueueItem], planned: PlannedJobs) -> dict[uuid.UUID, datetime]:
    """Writes the items, and the jobs that they name; when each was queued. An item whose
    idempotency key its caller has used already is left out, and so is its job."""
    rows = [{name: getattr(item, name) for name in ITEM_COLUMNS} for item in items]
    return dict(run(QUEUE_ITEMS, items=as_json(rows), **job_values(planned.jobs, planned.steps)))

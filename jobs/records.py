"""Jobs with nothing to carry out: they bear what happened outside of any job.

Events are a job's, and timeline, websocket, webhooks and archive read nothing else. So what must
reach those who follow events, and belongs to no job, gets one: ended from its start, without steps.
"""

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from accounts.models import FIRST_WORKSPACE
from jobs import live
from jobs.events import NewEvent, append_events
from jobs.models import Job, Status


def record_job(
    workflow: str,
    kind: str,
    message: str,
    result: Mapping[str, Any],
    *,
    workspace: uuid.UUID = FIRST_WORKSPACE,
) -> Job:
    """A completed job whose first event is of this kind. Its `result` is what webhooks are told.
    Part of the transaction that causes it."""
    with transaction.atomic():
        job = Job(
            workflow=workflow,
            workflow_version=1,
            title=message[:300],
            workspace_id=workspace,
            status=Status.COMPLETED,
            progress=100,
            stage_sizes=[],
            stage_open=0,
            weight_total=0,
            result=dict(result),
            started_at=Now(),
            finished_at=Now(),
        )
        job.save(force_insert=True)
        append_events(job, [_event(kind, message, result)])
    live.job_changed(job.pk)
    return job


def record_more(job_id: uuid.UUID, kind: str, message: str, result: Mapping[str, Any]) -> bool:
    """One more event of such a job; False when it is in the archive by now."""
    with transaction.atomic():
        rows = Job.objects.select_for_update(no_key=True, of=("self",))
        job = rows.filter(pk=job_id).first()
        if job is None:
            return False
        job.result = dict(result)
        job.save(update_fields=["result"])
        append_events(job, [_event(kind, message, result)])
    live.job_changed(job_id)
    return True


def _event(kind: str, message: str, result: Mapping[str, Any]) -> NewEvent:
    told = {"status": Status.COMPLETED, "progress": 100, "result": dict(result)}
    return NewEvent(kind, message, job=told)

"""A message's body: the event, and the job and the step as they were right after it.

Made when it is sent, from rows that never change (the events), so every attempt has the same body
and none has to be stored.
"""

import json
from datetime import datetime
from typing import Any

from django.db import connection

from jobs.models import Event, Job, Step, WebhookDelivery

TEST_KIND = "webhook.test"
LARGEST_BODY = 20_000  # bytes; what Standard Webhooks advises

# As a job and its steps are before their first event says otherwise.
NEW_JOB: dict[str, Any] = {
    "status": "pending",
    "progress": 0,
    "result": None,
    "error": None,
    "started_at": None,
    "finished_at": None,
}
NEW_STEP: dict[str, Any] = {
    "status": "pending",
    "attempt": 0,
    "progress": 0,
    "phase": "",
    "error": None,
    "due_at": None,
    "started_at": None,
    "finished_at": None,
}

# What the events up to one have changed, of each field the last change. A job may have thousands.
STATE_AFTER = """
SELECT DISTINCT ON (field.key) field.key, field.value
FROM jobs_event e, jsonb_each(e.data -> %(part)s::text) field
WHERE e.job_id = %(job)s AND e.number <= %(number)s
    AND (%(step)s::uuid IS NULL OR e.step_id = %(step)s::uuid)
    AND field.key = ANY(%(names)s::text[])
ORDER BY field.key, e.number DESC
"""


def make_body(delivery: WebhookDelivery) -> str | None:
    """The JSON to send; None when the event, with its job, has been deleted meanwhile."""
    if delivery.job_id is None or delivery.event_number is None:
        data = {"message": "Your endpoint can receive what Cartwright sends."}
        return _dump(_envelope(delivery.kind, delivery.created_at, data))
    events = Event.objects.filter(job_id=delivery.job_id, number=delivery.event_number)
    event = events.select_related("job").first()
    if event is None:
        return None
    return _fitting(_envelope(event.kind, event.at, _describe(event.job, event)))


def _describe(job: Job, event: Event) -> dict[str, Any]:
    step = Step.objects.filter(pk=event.step_id).first() if event.step_id else None
    return {
        "job": {
            "id": str(job.pk),
            "workflow": job.workflow,
            "title": job.title,
            "created_at": job.created_at.isoformat(),
            **_after(event, "job", NEW_JOB),
        },
        "step": step
        and {
            "id": str(step.pk),
            "name": step.name,
            "title": step.title,
            **_after(event, "step", NEW_STEP),
        },
        "event": {"number": event.number, "message": event.message},
    }


def _after(event: Event, part: str, new: dict[str, Any]) -> dict[str, Any]:
    """Only of what `new` names: what else an event holds is not for everybody."""
    values: dict[str, Any] = {
        "job": event.job_id,
        "number": event.number,
        "part": part,
        "step": event.step_id if part == "step" else None,
        "names": list(new),
    }
    with connection.cursor() as cursor:
        cursor.execute(STATE_AFTER, values)
        return new | {name: json.loads(value) for name, value in cursor.fetchall()}


def _envelope(kind: str, at: datetime, data: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "timestamp": at.isoformat(), "data": data}


def _fitting(message: dict[str, Any]) -> str:
    body = _dump(message)
    if len(body.encode()) > LARGEST_BODY:
        message["data"]["job"] |= {"result": None, "result_omitted": True}
        body = _dump(message)
    return body


def _dump(message: dict[str, Any]) -> str:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))

"""What an open page of a job is told: a snapshot, then everything after the snapshot's number.

The messages are documented in docs/live-protocol.md.
"""

import uuid
from typing import Any

from django.urls import reverse
from django.utils import timezone

from jobs.events import event_state, job_state, read_events, step_state, with_open_waits
from jobs.models import Artifact, Event, Job
from jobs.subjects import find_subject

SNAPSHOT_EVENTS = 200  # the newest, for the timeline; a page needs none of them for its state
MOST_MISSED = 500  # a client that missed more gets a snapshot: it is smaller


def jobs_visible_to(user: Any) -> Any:
    """Staff see every job, others those they asked for."""
    return Job.objects.all() if user.is_staff else Job.objects.filter(created_by=user)


def read_snapshot(job_id: uuid.UUID) -> dict[str, Any]:
    """Raises Job.DoesNotExist.

    The job's row is read first. What is read after it may be newer than `number`; the events that
    follow then say again what is there already, which changes nothing.
    """
    job = Job.objects.get(pk=job_id)
    events = Event.objects.filter(job=job, number__lte=job.last_event).order_by("-number")
    return {
        "type": "snapshot",
        "at": timezone.now(),
        "number": job.last_event,
        "job": job_state(job),
        "steps": [step_state(step) for step in with_open_waits(job.steps.all())],
        "events": [event_state(event) for event in reversed(events[:SNAPSHOT_EVENTS])],
        "artifacts": read_artifacts(job_id),
        "subject": find_subject(job.workflow, job_id),
    }


def read_changes(job_id: uuid.UUID, after: int | None) -> dict[str, Any]:
    """What came after event `after`; a snapshot without one, or when it cannot be honoured."""
    job = Job.objects.get(pk=job_id)
    if after is None or not 0 <= job.last_event - after <= MOST_MISSED:
        return read_snapshot(job_id)
    return {
        "type": "events",
        "events": read_events(job_id, after=after, limit=MOST_MISSED),
        "artifacts": read_artifacts(job_id),
        "subject": find_subject(job.workflow, job_id),
    }


def read_artifacts(job_id: uuid.UUID) -> list[dict[str, Any]]:
    return [
        {
            "id": artifact.pk,
            "step": artifact.step_id,
            "attempt": artifact.attempt,
            "kind": artifact.kind,
            "title": artifact.get_kind_display(),
            "url": reverse("jobs:artifact", args=[job_id, artifact.pk]),
            "created_at": artifact.created_at,
        }
        for artifact in Artifact.objects.filter(job_id=job_id)
    ]

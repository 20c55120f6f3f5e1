"""What the database says, for tests to compare."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from jobs.models import Event, Job, Status, Step

LONG_AGO = timedelta(hours=1)


def all_rows() -> dict[str, list[Mapping[str, Any]]]:
    """Every column of every job, step and event: equal before and after when nothing changed."""
    return {
        "jobs": list(Job.objects.order_by("id").values()),
        "steps": list(Step.objects.order_by("id").values()),
        "events": list(Event.objects.order_by("id").values()),
    }


def get_step(job: Job, name: str) -> Step:
    return Step.objects.get(job=job, name=name)


def get_job(job: Job) -> Job:
    return Job.objects.get(pk=job.pk)


def statuses(job: Job) -> dict[str, str]:
    return dict(job.steps.values_list("name", "status"))


def event_kinds(job: Job) -> list[str]:
    return list(job.events.order_by("number").values_list("kind", flat=True))


def event_numbers(job: Job) -> list[int]:
    return list(job.events.order_by("number").values_list("number", flat=True))


def let_leases_expire(*names: str) -> None:
    """As if the leases' time had passed, for the running steps called `names` or for all."""
    running = Step.objects.filter(status=Status.RUNNING)
    if names:
        running = running.filter(name__in=names)
    with transaction.atomic():
        # In one order: two of us at once would otherwise wait for each other's rows.
        ordered = running.select_for_update(no_key=True).order_by("pk")
        expired = list(ordered.values_list("pk", flat=True))
        running.filter(pk__in=expired).update(lease_expires_at=Now() - LONG_AGO)


def let_waits_end() -> None:
    """As if the time had passed for which steps wait."""
    Step.objects.filter(status=Status.WAITING).update(due_at=Now() - LONG_AGO)

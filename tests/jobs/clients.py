"""A client of the events, as a page is one: it starts from a snapshot and merges what follows."""

import json
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from jobs.events import job_state, read_events, step_state, with_open_waits
from jobs.models import Job
from tests.jobs.rows import get_job

TIMES = ("created_at", "started_at", "finished_at", "due_at")


class Client:
    """What a page knows: a snapshot, and what every later event merges into it."""

    def __init__(self, job: Job) -> None:
        self.state = snapshot(job)
        self.number = get_job(job).last_event

    def follow(self, job: Job) -> None:
        for event in read_events(job.pk, after=self.number):
            assert event["number"] == self.number + 1
            self.number = event["number"]
            changed = times_parsed(json.loads(json.dumps(event["data"], cls=DjangoJSONEncoder)))
            self.state["job"] |= changed.get("job", {})
            if event["step"]:
                self.state["steps"][str(event["step"])] |= changed.get("step", {})


def snapshot(job: Job) -> dict[str, Any]:
    steps = {str(step.pk): step_state(step) for step in with_open_waits(job.steps.all())}
    state = {"job": job_state(get_job(job)), "steps": steps}
    return times_parsed(json.loads(json.dumps(state, cls=PreciseEncoder)))


class PreciseEncoder(DjangoJSONEncoder):
    """Django's cuts microseconds, which the events have."""

    def default(self, o: Any) -> Any:
        return o.isoformat() if isinstance(o, datetime) else super().default(o)


def times_parsed(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: times_parsed(part, key) for key, part in value.items()}
    return datetime.fromisoformat(value) if value and name in TIMES else value


def differences(client: dict[str, Any], database: dict[str, Any]) -> list[str]:
    """Each field that the client has wrong, in words."""
    parts = [("job", client["job"], database["job"])]
    for pk, step in database["steps"].items():
        parts.append((f"step {step['name']} ({step['status']})", client["steps"][pk], step))
    return [
        f"{part}: {name} is {true[name]!r}, the client has {known[name]!r}"
        for part, known, true in parts
        for name in true
        if known[name] != true[name]
    ]

"""What a person does to a job: cancel it, run it again from a step, let it go on.

Verbs, one transaction each. What cannot be done with the job as it stands raises NotPossible, and
then nothing was written. Many jobs at once are `bulk.py`'s.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from accounts import audit
from accounts.audit import Act
from jobs import live, steps
from jobs.errors import NotPossible
from jobs.events import NewEvent, append_events
from jobs.models import FINISHED, Effect, Job, Status, Step
from jobs.plans import Change, find_handler, find_on_change

DONE = (Status.COMPLETED,)
CANCELLED = "cancelled"  # the error's code


@dataclass(frozen=True)
class Rerun:
    """What running again from a step comes to."""

    start: Step
    ready: Sequence[Step]  # the start, and what of its group is not done
    pending: Sequence[Step]  # everything after it
    weight_done: int  # of the steps that keep their outputs


def cancel_job(job_id: uuid.UUID, *, by: str, reason: str = "") -> Job:
    """Cancels the job at once; a running step of it is told to stop, and ends within seconds. One
    that is with a person is not needed any more.

    Safe to repeat. Raises NotPossible for a job that has ended otherwise, or Job.DoesNotExist.
    """
    sentence = f"Cancelled by {by}: {reason}" if reason else f"Cancelled by {by}."
    error = {"code": CANCELLED, "message": sentence}
    with transaction.atomic():
        job = steps.end_job(job_id, Status.CANCELLED, error) or _take_from_person(job_id, error)
        if job is not None:
            stood_at = job.steps.exclude(status__in=DONE).first()
            assert stood_at is not None  # else the job would be completed
            _tell_workflow(job, stood_at, Status(stood_at.status), error)
            audit.note(job, Act.CANCELLED, by=by, reason=reason)
            return job
    ended = Job.objects.get(pk=job_id)
    if ended.status != Status.CANCELLED:
        raise NotPossible(
            "job_has_ended",
            f"“{ended}” has ended already ({ended.get_status_display().lower()}); "
            "there is nothing left to cancel.",
        )
    return ended


def _take_from_person(job_id: uuid.UUID, error: dict[str, str]) -> Job | None:
    """Cancels a job that is with a person; None for any other. Raises NotPossible while nobody
    knows what an act of it did: cancelled, nobody would look any more."""
    job, now = steps.lock_job(job_id)
    if job.status != Status.MANUAL:
        return None
    # What settles an effect locks its job as well.
    if effect := Effect.objects.filter(job=job, status=Effect.Status.UNKNOWN).first():
        raise NotPossible(
            "outcome_is_unknown",
            f"Nobody knows yet whether this happened: “{effect.title}”. Look at the site and say "
            f"so in the inbox; “{job}” can be cancelled after that.",
        )
    patch = {"status": Status.CANCELLED, "error": error, "finished_at": now}
    for name, value in patch.items():
        setattr(job, name, value)
    job.save(update_fields=list(patch))
    told = patch | {"finished_at": now.isoformat()}
    append_events(job, [NewEvent("job.cancelled", error["message"], job=told)])
    live.job_changed(job.pk)
    return job


def rerun_job(job_id: uuid.UUID, from_step: str | None = None, *, by: str) -> Job:
    """Has an ended job go on from the step called `from_step`, or from the first that is not done.

    Steps before it keep their outputs; it, what is not done of its group, and everything after it
    begin anew. Checkpoints stay: they say what may have happened already in the world outside.
    Raises NotPossible or Job.DoesNotExist.
    """
    return _go_on(job_id, from_step, by, kind="job.rerun", words="had it run again from")


def resume_job(job_id: uuid.UUID, *, by: str) -> Job:
    """A person has seen to a job that was handed over: it goes on where it stood.

    Raises NotPossible or Job.DoesNotExist.
    """
    return _go_on(
        job_id, None, by, kind="job.resumed", words="had it go on from", only=Status.MANUAL
    )


def decide_rerun(job: Job, plan: Sequence[Step], from_step: str | None) -> Rerun:
    """What running `job` again comes to; `plan` are its steps in order. Raises NotPossible."""
    if job.status not in FINISHED:
        raise NotPossible(
            "job_has_not_ended",
            f"“{job}” is {job.get_status_display().lower()}; cancel it first, or let it end.",
        )
    if still := [step for step in plan if step.status == Status.RUNNING]:
        raise NotPossible(
            "step_still_stopping",
            f"“{still[0]}” is still being stopped; try again in a few seconds.",
        )
    start = _find_start(job, plan, from_step)
    before = [step for step in plan if step.stage < start.stage]
    if missing := [step for step in before if step.status not in DONE]:
        raise NotPossible(
            "earlier_step_not_done",
            f"“{missing[0]}” comes before “{start}” and was never completed; run the job again "
            f"from {missing[0].name!r}.",
        )
    group = [step for step in plan if step.stage == start.stage]
    ready = [step for step in group if step is start or step.status not in DONE]
    keep = [*before, *(step for step in group if step not in ready)]
    return Rerun(
        start=start,
        ready=ready,
        pending=[step for step in plan if step.stage > start.stage],
        weight_done=sum(step.weight for step in keep),
    )


def _find_start(job: Job, plan: Sequence[Step], from_step: str | None) -> Step:
    if from_step is None:
        start = next((step for step in plan if step.status not in DONE), None)
        if start is None:
            raise NotPossible(
                "nothing_left_to_do",
                f"Every step of “{job}” is done; name the step to run it again from.",
            )
        return start
    for step in plan:
        if step.name == from_step:
            return step
    names = ", ".join(step.name for step in plan)
    raise NotPossible("unknown_step", f"“{job}” has no step {from_step!r}; it has: {names}.")


def _go_on(
    job_id: uuid.UUID,
    from_step: str | None,
    by: str,
    *,
    kind: str,
    words: str,
    only: Status | None = None,
) -> Job:
    with transaction.atomic():
        # All steps before their job, and in the plan's order: whoever completes a step locks in
        # this order too. No worker of an earlier run can write any more: its steps have ended.
        rows = Step.objects.filter(job_id=job_id).order_by("stage", "position")
        plan = list(rows.select_for_update(no_key=True, of=("self",)))
        job, now = steps.lock_job(job_id)
        if only and job.status != only:
            raise NotPossible(
                "job_is_not_with_a_person",
                f"“{job}” is {job.get_status_display().lower()}, not with a person; run it again "
                "from a step instead.",
            )
        rerun = decide_rerun(job, plan, from_step)
        steps.cancel_unfinished(job, [*rerun.ready, *rerun.pending], now)
        first = NewEvent(kind, f"{by} {words} “{rerun.start}”.", job=_restart(job, rerun))
        append_events(job, [first, *_reset(job, rerun, now)])
        rerun.start.attempt = 0
        _tell_workflow(job, rerun.start, Status.READY)
        audit.note(job, Act.RESUMED if only else Act.RERUN, by=by, step=rerun.start.name)
        live.wake(step.queue for step in rerun.ready)
        live.job_changed(job.pk)
    return job


def _restart(job: Job, rerun: Rerun) -> dict[str, Any]:
    """Writes the job as it stands before `rerun.start`; what clients are told of it."""
    patch: dict[str, Any] = {
        "status": Status.PENDING,
        "progress": 100 * rerun.weight_done // job.weight_total,
        "result": None,
        "error": None,
        "started_at": None,
        "finished_at": None,
    }
    counters = {
        "stage": rerun.start.stage,
        "stage_open": len(rerun.ready),
        "weight_done": rerun.weight_done,
    }
    for name, value in (patch | counters).items():
        setattr(job, name, value)
    job.save(update_fields=[*patch, *counters])
    return patch


def _reset(job: Job, rerun: Rerun, now: datetime) -> list[NewEvent]:
    """Writes the steps that begin anew; what is told of them. Checkpoints and fencing tokens
    stay."""
    patch: dict[str, Any] = {
        "attempt": 0,
        "progress": 0,
        "phase": "",
        "error": None,
        "started_at": None,
        "finished_at": None,
    }
    ready = {**patch, "status": Status.READY, "due_at": now}
    pending = {**patch, "status": Status.PENDING, "due_at": None}
    for group, fields in ((rerun.ready, ready), (rerun.pending, pending)):
        Step.objects.filter(pk__in=[step.pk for step in group]).update(
            **fields,
            output=None,
            worker="",
            lease_expires_at=None,
            reset_at=Now(),
            priority=job.priority,  # what it had gained by waiting is spent
            limited_by="",
            ages_from=None,
        )
    _use_present_handlers([*rerun.ready, *rerun.pending])
    ready["due_at"] = now.isoformat()
    return [
        *(_reset_event("step.ready", step, ready) for step in rerun.ready),
        *(_reset_event("step.reset", step, pending) for step in rerun.pending),
    ]


def _reset_event(kind: str, step: Step, patch: Mapping[str, Any]) -> NewEvent:
    return NewEvent(kind, step.title, step.pk, step={**patch, "waits": []})


def _use_present_handlers(again: Sequence[Step]) -> None:
    """A person has looked and says go: what runs again does so with its handler as it is now."""
    for name in {step.handler for step in again}:
        if handler := find_handler(name):
            steps_of_it = [step.pk for step in again if step.handler == name]
            Step.objects.filter(pk__in=steps_of_it).update(handler_version=handler.version)


def _tell_workflow(
    job: Job, step: Step, step_status: Status, error: dict[str, str] | None = None
) -> None:
    if on_change := find_on_change(job.workflow):
        on_change(
            Change(
                job_id=job.pk,
                params=job.params,
                job_status=Status(job.status),
                step_name=step.name,
                step_status=step_status,
                attempt=step.attempt,
                error=error,
            )
        )

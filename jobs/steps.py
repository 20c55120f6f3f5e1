"""The verbs that write a claimed step's outcome. One transaction each, all fenced.

Each takes a ClaimedStep and raises LeaseLost when its fencing token is no longer good; then
nothing was written. What follows outside the database (waking workers, telling pages) is only ever
a hint and is sent after the commit.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.postgres.functions import TransactionNow
from django.db import transaction

from jobs import flow, live, statements, waits
from jobs.combining import Combiner
from jobs.errors import LeaseLost, StepError
from jobs.events import NewEvent, append_events
from jobs.flow import HeldBack
from jobs.models import Job, Status, Step, Wait
from jobs.otp import messages
from jobs.otp import requests as otp_requests
from jobs.plans import STEPS, Change, WaitFor, find_on_change, find_told_keys
from jobs.statements import Candidate, ClaimedStep, Completion, Orphan

# Long enough for a busy machine to miss two renewals, short enough that a killed worker's step is
# taken up again while somebody is still watching.
LEASE = timedelta(seconds=settings.LEASE_SECONDS)
PHASE_LENGTH = 200  # the column's
MOST_AT_ONCE = 32  # claims or completions in one statement
UNFINISHED = (Status.PENDING, Status.READY, Status.WAITING)


def claim_next(queues: Sequence[str], *, worker: str) -> ClaimedStep | None:
    """The ready step that is next in turn, claimed; of the first queue that has one."""
    for queue in queues:
        while found := _claims(queue, worker).call(None):
            claimed = claim_apart(queue, worker) if isinstance(found, Candidate) else found
            if isinstance(claimed, ClaimedStep):
                return claimed
            if isinstance(claimed, Orphan):
                _cancel_orphan(claimed)
    return None


Found = ClaimedStep | Candidate | Orphan | None


@cache
def _claims(queue: str, worker: str) -> Combiner[None, Found]:
    def claim(callers: Sequence[None]) -> list[Found]:
        found: list[Found] = []
        found += statements.claim_next(
            queue, len(callers), worker=worker, lease=LEASE, apart=find_told_keys()
        )
        for each in found:
            if isinstance(each, ClaimedStep):
                live.job_changed(each.job_id)
        return found + [None] * (len(callers) - len(found))

    return Combiner(claim, MOST_AT_ONCE)


def claim_apart(queue: str, worker: str) -> ClaimedStep | Orphan | HeldBack | None:
    """The step that is next in turn, whose limits must be locked first, or whose workflow is told
    in the same transaction."""
    claimed: ClaimedStep | Orphan | HeldBack
    with transaction.atomic():
        candidates = statements.claim_next(queue, 1, worker=worker, lease=LEASE)
        if not candidates:
            return None
        (found,) = candidates
        claimed = (
            flow.claim_limited(found, worker=worker, lease=LEASE)
            if isinstance(found, Candidate)
            else found
        )
        if isinstance(claimed, ClaimedStep):
            _tell_workflow(claimed, Status.RUNNING, Status.RUNNING)
            live.job_changed(claimed.job_id)
    if isinstance(claimed, HeldBack):
        flow.wake([claimed.key])  # a place may have become free meanwhile
    return claimed


def _cancel_orphan(orphan: Orphan) -> None:
    with transaction.atomic():
        job, now = lock_job(orphan.job_id)
        _cancel_idle(job, now)


def complete(
    step: ClaimedStep, output: Mapping[str, Any], *, queues: Sequence[str], worker: str
) -> ClaimedStep | None:
    """Completes the step; returns the one to go on with, if one was claimed for us at once: what
    follows it, or else one that is ready."""
    if find_on_change(step.workflow):
        completion = _complete_and_tell(step, output, queues, worker)
    else:
        completion = _completions(tuple(queues), worker).call((step, output))
    if completion is None:
        raise LeaseLost(step.title)
    live.job_changed(step.job_id)
    if completion.claimed and completion.claimed.job_id != step.job_id:
        live.job_changed(completion.claimed.job_id)
    live.wake(completion.ready_queues)
    return completion.claimed


@cache
def _completions(
    queues: tuple[str, ...], worker: str
) -> Combiner[tuple[ClaimedStep, Mapping[str, Any]], Completion | None]:
    def complete_all(
        done: Sequence[tuple[ClaimedStep, Mapping[str, Any]]],
    ) -> list[Completion | None]:
        found = statements.complete_steps(
            done, queues=queues, worker=worker, lease=LEASE, apart=find_told_keys()
        )
        return [found.get(step.id) for step, _ in done]

    return Combiner(complete_all, MOST_AT_ONCE)


def _complete_and_tell(
    step: ClaimedStep, output: Mapping[str, Any], queues: Sequence[str], worker: str
) -> Completion | None:
    """In one transaction with what the workflow keeps in step with the job."""
    with transaction.atomic():
        done = [(step, output)]
        found = statements.complete_steps(done, queues=queues, worker=worker, lease=LEASE)
        completion = found.get(step.id)
        if completion:
            _tell_workflow(step, completion.job_status, Status.COMPLETED, output=output)
            if completion.claimed:
                _tell_workflow(completion.claimed, Status.RUNNING, Status.RUNNING)
    return completion


def retry(step: ClaimedStep, error: StepError, *, delay: timedelta) -> None:
    """The attempt failed; the step is due again in `delay`."""
    _put_off(step, "step.retrying", error.sentence, delay=delay, error=_described(error))


def postpone(step: ClaimedStep, *, delay: timedelta, reason: str, queue: str = "") -> None:
    """The step could not be done now, which is nobody's failure: it gets its attempt back, and goes
    on in `queue` if one is named."""
    _put_off(step, "step.postponed", reason, delay=delay, attempts_back=1, queue=queue)


def release(step: ClaimedStep) -> None:
    """The worker stops before the step is done; another may have it at once, with its attempt."""
    _put_off(
        step,
        "step.released",
        "The worker shut down; another one goes on.",
        delay=timedelta(0),
        attempts_back=1,
    )


def suspend(step: ClaimedStep, wait_for: WaitFor) -> None:
    """The step waits, and has its attempt back. A signal that came first wakes it at once."""
    step = replace(step, attempt=step.attempt - 1)
    with transaction.atomic():
        waits.lock_topics(_topics(step, wait_for))
        lock_step(step)
        job, now = lock_job(step.job_id)
        if job.is_finished:
            _cancel(job, [step.id], now)
            return
        opened = waits.open_waits(step, job, wait_for.waits, now)
        due_at = min((wait.deadline_at for wait in opened if wait.deadline_at), default=None)
        patch: dict[str, Any] = {
            "status": Status.WAITING,
            "attempt": step.attempt,
            "error": None,
            "phase": wait_for.reason[:PHASE_LENGTH],
        }
        _write(step, **patch, **_moved(wait_for.queue), due_at=due_at, lease_expires_at=None)
        patch |= {
            "due_at": due_at.isoformat() if due_at else None,
            "waits": [wait.state() for wait in opened],
        }
        append_events(job, [NewEvent("step.waiting", wait_for.reason, step.id, step=patch)])
        _tell_workflow(step, Status.RUNNING, Status.WAITING)
        requests = otp_requests.open_requests(opened, now)
        if not waits.take_kept_signal(opened):
            messages.take_kept_message(requests)
    live.job_changed(step.job_id)


def _topics(step: ClaimedStep, wait_for: WaitFor) -> set[str]:
    topics = {each.topic for each in wait_for.waits if each.topic}
    if any(each.kind == Wait.Kind.OTP for each in wait_for.waits):
        workspaces = Job.objects.values_list("workspace_id", flat=True)
        topics.add(otp_requests.topic(workspaces.get(pk=step.job_id)))
    return topics


def recover(step: ClaimedStep) -> None:
    """The worker was lost with the step; it is ready again, one attempt poorer."""
    message = "The worker stopped answering; the step starts again."
    _put_off(step, "step.recovered", message, delay=timedelta(0))


def return_stranded(step_id: uuid.UUID, queue: str) -> bool:
    """A step that nobody takes, as the machine that it was moved to has no worker any more, goes to
    all workers; False when somebody has it after all."""
    with transaction.atomic():
        ready = Step.objects.filter(pk=step_id, status=Status.READY, queue=queue)
        step = ready.select_for_update(skip_locked=True, no_key=True, of=("self",)).first()
        if step is None:
            return False
        job, _ = lock_job(step.job_id)
        Step.objects.filter(pk=step_id).update(queue=STEPS)
        message = "The machine that it was to go on on has no worker any more; another goes on."
        append_events(job, [NewEvent("step.recovered", message, step_id)])
        tell_ready([(step.job_id, STEPS)])
    return True


def fail(step: ClaimedStep, error: StepError, *, becomes: Status = Status.FAILED) -> None:
    """The step failed for good, and its job with it: FAILED, or MANUAL for a person to take over.
    The first of several failures decides what becomes of the job."""
    described = _described(error)
    with transaction.atomic():
        _write(
            step,
            status=Status.FAILED,
            error=described,
            phase="",
            finished_at=TransactionNow(),
            lease_expires_at=None,
        )
        job, now = lock_job(step.job_id)
        patch = {
            "status": Status.FAILED,
            "error": described,
            "phase": "",
            "finished_at": now.isoformat(),
        }
        append_events(job, [NewEvent("step.failed", error.sentence, step.id, step=patch)])
        if not job.is_finished:
            _end(job, becomes, described, now)
            _tell_workflow(step, becomes, Status.FAILED, error=described)
    live.job_changed(step.job_id)


def stop(step: ClaimedStep) -> None:
    """The step's job has ended, and the handler heeded it. Raises LeaseLost if the job goes on."""
    with transaction.atomic():
        lock_step(step)
        job, now = lock_job(step.job_id)
        if not job.is_finished:
            raise LeaseLost(step.title)
        patch = {"status": Status.CANCELLED, "phase": ""}
        _write(step, **patch, finished_at=TransactionNow(), lease_expires_at=None)
        patch["finished_at"] = now.isoformat()
        append_events(job, [NewEvent("step.stopped", step.title, step.id, step=patch)])
        _tell_workflow(step, Status(job.status), Status.CANCELLED)
    live.job_changed(step.job_id)


def end_job(job_id: uuid.UUID, status: Status, error: Mapping[str, str]) -> Job | None:
    """Ends a job short of its plan; its running steps are told to stop by their leases. None when
    it has ended already. Needs a transaction; raises Job.DoesNotExist."""
    job, now = lock_job(job_id)
    if job.is_finished:
        return None
    _end(job, status, error, now)
    live.job_changed(job.pk)
    return job


def _end(job: Job, status: Status, error: Mapping[str, str], now: datetime) -> None:
    """Ends a job short of its plan: what has not run yet never will."""
    _cancel_idle(job, now)
    job.status, job.error, job.finished_at = status, dict(error), now
    job.save(update_fields=["status", "error", "finished_at"])
    patch = {"status": status, "error": dict(error), "finished_at": now.isoformat()}
    append_events(job, [NewEvent(f"job.{status}", error["message"], job=patch)])


def _cancel_idle(job: Job, now: datetime) -> None:
    idle = Step.objects.filter(job=job, status__in=UNFINISHED)
    # A step that is being claimed this moment is skipped: its claim finds that the job has ended.
    idle = idle.select_for_update(skip_locked=True, no_key=True)
    _cancel(job, list(idle.values_list("pk", flat=True)), now)


def cancel_unfinished(job: Job, steps: Iterable[Step], now: datetime) -> None:
    """Cancels what the end of the job passed over, its row being locked then. Needs the locks."""
    if ids := [step.pk for step in steps if step.status in UNFINISHED]:
        _cancel(job, ids, now)


def _cancel(job: Job, step_ids: Sequence[uuid.UUID], now: datetime) -> None:
    Step.objects.filter(pk__in=step_ids).update(
        status=Status.CANCELLED,
        finished_at=TransactionNow(),
        lease_expires_at=None,
        phase="",
        limited_by="",
        ages_from=None,
    )
    open_waits = Wait.objects.filter(step__in=step_ids, status=Wait.Status.OPEN)
    open_waits.update(status=Wait.Status.CANCELLED, ended_at=TransactionNow())
    patch = {"status": Status.CANCELLED, "finished_at": now.isoformat(), "phase": "", "waits": []}
    message = "Not needed any more."
    append_events(job, [NewEvent("step.cancelled", message, pk, step=patch) for pk in step_ids])
    live.job_changed(job.pk)


def make_ready(job_id: uuid.UUID) -> None:
    """What the job's waiting steps wait for is there before their time."""
    with transaction.atomic():
        tell_ready(statements.make_job_ready(job_id))


def tell_ready(steps: Iterable[tuple[uuid.UUID, str]]) -> None:
    """Sends the hints for steps that have just become ready: the job and the queue of each."""
    for job_id, queue in steps:
        live.job_changed(job_id)
        live.wake([queue])


def report_progress(step: ClaimedStep, percent: int, phase: str) -> None:
    """How far the step is (0-100) and what it is doing, in words for people."""
    percent, phase = min(max(percent, 0), 99), phase[:PHASE_LENGTH]
    if not statements.report_progress(step, percent, phase):
        raise LeaseLost(step.title)
    live.job_changed(step.job_id)


def save_checkpoint(step: ClaimedStep, checkpoint: Mapping[str, Any]) -> None:
    """What the handler must know should it run a second time; committed when this returns."""
    with transaction.atomic(durable=True):
        _write(step, checkpoint=dict(checkpoint))


def _put_off(
    step: ClaimedStep,
    kind: str,
    message: str,
    *,
    delay: timedelta,
    attempts_back: int = 0,
    error: Mapping[str, str] | None = None,
    queue: str = "",
) -> None:
    status = Status.WAITING if delay else Status.READY
    step = replace(step, attempt=step.attempt - attempts_back)
    patch: dict[str, Any] = {
        "status": status,
        "attempt": step.attempt,
        "error": error,
        "phase": "",
        "progress": 0,
    }
    with transaction.atomic():
        row = lock_step(step)
        job, now = lock_job(step.job_id)
        if job.is_finished:
            _cancel(job, [step.id], now)
            return
        _write(step, **patch, **_moved(queue), due_at=now + delay, lease_expires_at=None)
        patch["due_at"] = (now + delay).isoformat()
        append_events(job, [NewEvent(kind, message, step.id, step=patch)])
        _tell_workflow(step, Status.RUNNING, status, error=error)
        if status == Status.READY:
            live.wake([queue or row.queue])
    live.job_changed(step.job_id)


def _moved(queue: str) -> dict[str, str]:
    return {"queue": queue} if queue else {}


def lock_step(step: ClaimedStep) -> Step:
    rows = Step.objects.select_for_update(no_key=True, of=("self",))
    row = rows.filter(pk=step.id, fence=step.fence, status=Status.RUNNING).first()
    if row is None:
        raise LeaseLost(step.title)
    return row


def lock_job(job_id: uuid.UUID) -> tuple[Job, datetime]:
    """The job, its row locked, and the time of this transaction. Always after the step's row, never
    before it."""
    rows = Job.objects.select_for_update(no_key=True, of=("self",))
    job = rows.annotate(transaction_time=TransactionNow()).get(pk=job_id)
    return job, job.transaction_time


def _write(step: ClaimedStep, **fields: Any) -> None:
    """The fenced write: it changes the row only while the claim holds."""
    claim = Step.objects.filter(pk=step.id, fence=step.fence, status=Status.RUNNING)
    if not claim.update(**fields):
        raise LeaseLost(step.title)


def _described(error: StepError) -> dict[str, str]:
    return {"code": error.code, "message": error.sentence}


def _tell_workflow(
    step: ClaimedStep,
    job_status: Status,
    step_status: Status,
    *,
    output: Mapping[str, Any] | None = None,
    error: Mapping[str, str] | None = None,
) -> None:
    if on_change := find_on_change(step.workflow):
        on_change(
            Change(
                job_id=step.job_id,
                params=step.job_params,
                job_status=job_status,
                step_name=step.name,
                step_status=step_status,
                attempt=step.attempt,
                output=output,
                error=error,
            )
        )

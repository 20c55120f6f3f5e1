"""The sweep: finds what is due and makes it ready again. It runs no work itself.

Whatever was lost (a Celery message, a worker, the broker's whole memory) is found here from the
rows alone. Several sweeps may run at once; each row is taken by one of them.
"""

import uuid
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Min
from django.db.models.functions import Now

from jobs import flow, live, statements, steps
from jobs.errors import TransientError
from jobs.models import Status, Step
from jobs.otp.messages import erase_old_codes
from jobs.processes import STALE, is_host_queue, is_served
from jobs.statements import ClaimedStep

log = structlog.get_logger(__name__)

BATCH = 500
# A step that has been ready this long was missed by its message, or the workers are all busy.
UNANSWERED = timedelta(seconds=1)
# As long as a worker that was killed is believed to be alive.
STRANDED = STALE


@dataclass(frozen=True)
class Swept:
    """What one sweep found."""

    due: int = 0
    recovered: int = 0
    woken: int = 0


def sweep() -> Swept:
    erase_old_codes()
    due, recovered = make_due_ready(), recover_expired()
    return Swept(due=due + wake_held(), recovered=recovered, woken=wake_for_unanswered())


def make_due_ready() -> int:
    """Waiting steps whose time has come become ready."""
    with transaction.atomic():
        due = statements.make_due_ready(BATCH)
        steps.tell_ready(due)
    return len(due)


def wake_held() -> int:
    """Steps that a limit holds back become ready as far as there are places now, or when the limit
    is no more. Whoever made the place has woken them as a rule, and may have died before."""
    return flow.wake(statements.find_held_keys())


def age_steps() -> int:
    """Steps that could have started long ago rise in priority, so that none is passed over for
    ever."""
    return statements.age_steps(timedelta(minutes=settings.AGEING_MINUTES), BATCH)


def recover_expired() -> int:
    """Steps whose worker has stopped renewing its lease are ready again, or failed for good when
    that was their last attempt: a step that kills its worker must not do so for ever."""
    expired = Step.objects.filter(status=Status.RUNNING, lease_expires_at__lt=Now())
    return sum(_recover_alone(pk) for pk in list(expired.values_list("pk", flat=True)[:BATCH]))


def _recover_alone(pk: uuid.UUID) -> bool:
    try:
        return _recover(pk)
    except Exception:
        log.exception("step_not_recovered", step_id=str(pk))
        return False


def _recover(pk: uuid.UUID) -> bool:
    with transaction.atomic():
        expired = Step.objects.filter(pk=pk, status=Status.RUNNING, lease_expires_at__lt=Now())
        step = expired.select_for_update(skip_locked=True, no_key=True, of=("self",)).first()
        if step is None:
            return False  # its worker came back, or another sweep has it
        log.warning("lease_expired", job=str(step.job_id), step=step.name, worker=step.worker)
        claim = ClaimedStep.of(step)
        if step.attempt < step.max_attempts:
            steps.recover(claim)
        else:
            sentence = f"{step.title}: the worker was lost in each of {step.attempt} attempts."
            steps.fail(claim, TransientError("worker_lost", sentence))
    return True


def wake_for_unanswered() -> int:
    """Wakes workers for steps that have been ready for a while, as far as the broker does not hold
    calls for them already. What waits for a machine that has no worker is there for all then."""
    woken = 0
    for queue, count in statements.count_unanswered(UNANSWERED, live.MOST_WAKES).items():
        if is_host_queue(queue) and not is_served(queue):
            woken += return_stranded(queue)
            continue
        calls = count - live.count_waiting_calls(queue)
        if calls > 0:
            live.send_wakes(queue, calls)
            woken += calls
    return woken


def return_stranded(queue: str) -> int:
    """Steps that have been ready for so long in a queue which nobody serves go to all workers. Not
    at once: a worker that is being restarted comes back, and has their browsers."""
    stranded = Step.objects.filter(
        status=Status.READY, queue=queue, due_at__lt=Now() - STRANDED
    ).values_list("pk", flat=True)[:BATCH]
    return sum(steps.return_stranded(pk, queue) for pk in list(stranded))


def seconds_until_due() -> float | None:
    """How long until the next waiting step is due; None when none waits for a time."""
    wait = Step.objects.filter(status=Status.WAITING).aggregate(wait=Min("due_at") - Now())["wait"]
    return None if wait is None else max(wait.total_seconds(), 0.0)

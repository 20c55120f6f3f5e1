"""Effects: acts that must not happen twice (pay, redeem, add to a cart).

The intent is committed before the act, under a key that is unique in the workspace; the outcome is
committed after it. A later attempt that finds an intent without an outcome *reconciles*: it looks
at the site. Confirmed, absent, or unknown; what is unknown goes to a person, and nothing
irreversible is ever repeated blind.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.postgres.functions import TransactionNow
from django.db import transaction

from accounts import audit
from accounts.audit import Act
from accounts.models import User
from jobs import control, live, statements, steps
from jobs.errors import Becomes, BusinessError, LeaseLost, NotPossible, TransientError
from jobs.events import MESSAGE_LENGTH, NewEvent, append_events
from jobs.models import Effect, Job, Step
from jobs.models import Status as JobStatus
from jobs.statements import ClaimedStep

Status = Effect.Status


@dataclass(frozen=True)
class Happened:
    """The site shows that the act took effect."""

    result: Mapping[str, Any]


@dataclass(frozen=True)
class DidNotHappen:
    """The site shows that it did not, and no longer will."""


@dataclass(frozen=True)
class CannotTell:
    """Neither can be said. `reason` is for the person who decides."""

    reason: str


Finding = Happened | DidNotHappen | CannotTell


class UnknownOutcome(BusinessError):
    """Raised by `perform`: a person has to say whether the act took effect."""

    def __init__(self, sentence: str) -> None:
        super().__init__("unknown_outcome", sentence, Becomes.MANUAL)


class EffectTaken(BusinessError):
    """Raised by `begin`: the act is another job's, which has done it or may have."""

    def __init__(self, sentence: str) -> None:
        super().__init__("effect_taken", sentence, Becomes.MANUAL)


class NotDone(TransientError):
    """Raised by an act that failed before it could have taken effect: it may simply be repeated."""


def perform(
    step: ClaimedStep,
    key: str,
    *,
    title: str,
    intent: Mapping[str, Any],
    act: Callable[[], Mapping[str, Any]],
    reconcile: Callable[[Effect], Finding],
) -> Mapping[str, Any]:
    """The result of the act, which is carried out at most once whoever asks and how often.

    `act` is called with the intent committed. What it raises leaves the outcome open, to be
    reconciled by the next attempt; except NotDone. `reconcile` looks at the site, changes nothing,
    and may itself raise. Raises UnknownOutcome, EffectTaken or LeaseLost.
    """
    effect, is_new = begin(step, key, title=title, intent=intent)
    if not is_new:
        if effect.status in (Status.INTENDED, Status.UNKNOWN):
            settle(step, effect, reconcile(effect))
        if effect.status == Status.UNKNOWN:
            raise UnknownOutcome(
                f"{effect.title}: {effect.reason} Look there, and say in the inbox whether it "
                "happened."
            )
        if effect.status == Status.CONFIRMED:
            return dict(effect.result or {})
        begin_again(step, effect)
    try:
        result = act()
    except NotDone:
        settle(step, effect, DidNotHappen())
        raise
    settle(step, effect, Happened(result))
    return result


# ---- the parts of it, for acts in the middle of a flow ------------------------------------------


def begin(
    step: ClaimedStep, key: str, *, title: str, intent: Mapping[str, Any]
) -> tuple[Effect, bool]:
    """The effect of this key and whether it is new. A new one's intent is committed on return.

    Raises EffectTaken if another job has it: then it is not ours to do.
    """
    title = title[:300]
    effect = Effect(job_id=step.job_id, step_id=step.id, key=key, title=title, intent=dict(intent))
    with transaction.atomic(durable=True):
        intended = statements.intend(
            step,
            effect.pk,
            key,
            title=title,
            intent=intent,
            message=_message(effect, "about to be done"),
        )
        if intended is None:
            raise LeaseLost(step.title)
        if not intended.is_new:
            effect = _take(step, intended.workspace_id, key)
    live.job_changed(step.job_id)
    if effect.step_id != step.id:
        raise EffectTaken(
            f"“{effect.title}” was begun by another job already "
            f"({effect.job_id or 'which is archived'}); it is not done twice. Look there."
        )
    return effect, intended.is_new


def _take(step: ClaimedStep, workspace_id: uuid.UUID, key: str) -> Effect:
    """The effect that has the key; ours from now on, if whoever tried it has not done it. Needs the
    locks that a claimed step's writes need."""
    rows = Effect.objects.select_for_update(no_key=True, of=("self",))
    known = rows.get(workspace=workspace_id, key=key)
    if known.status == Status.ABSENT:
        known.job_id, known.step_id = step.job_id, step.id
        known.save(update_fields=["job", "step"])
    return known


def begin_again(step: ClaimedStep, effect: Effect, intent: Mapping[str, Any] | None = None) -> None:
    """The effect is absent: the act may be tried once more. Committed on return, with `intent`
    where what to look for has changed since."""
    _change(step, effect, Status.INTENDED, "about to be done again", intent=intent, again=True)
    effect.result, effect.settled_at = None, None
    effect.tries += 1
    effect.intent = effect.intent if intent is None else dict(intent)


def settle(step: ClaimedStep, effect: Effect, finding: Finding) -> None:
    """Writes what is known of the act now."""
    match finding:
        case Happened(result):
            _change(step, effect, Status.CONFIRMED, "done", result=result)
            effect.result = dict(result)
        case DidNotHappen():
            _change(step, effect, Status.ABSENT, "did not take effect", result=effect.result)
        case CannotTell(reason):
            reason = reason[:500]
            _change(step, effect, Status.UNKNOWN, reason, result=effect.result, reason=reason)
            effect.reason = reason


def _change(
    step: ClaimedStep, effect: Effect, status: Effect.Status, told: str, **written: Any
) -> None:
    """Raises LeaseLost."""
    with transaction.atomic(durable=True):
        message = _message(effect, told)
        if not statements.change_effect(step, effect.pk, status, message=message, **written):
            raise LeaseLost(step.title)
    effect.status = status
    live.job_changed(step.job_id)


def _message(effect: Effect, told: str) -> str:
    return f"{effect.title}: {told}"[:MESSAGE_LENGTH]


def _tell(job: Job, effect: Effect, told: str) -> None:
    message = _message(effect, told)
    append_events(job, [NewEvent(f"effect.{effect.status}", message, effect.step_id)])
    live.job_changed(job.pk)


# ---- a person's decision ------------------------------------------------------------------------


def decide(effect_id: uuid.UUID, *, happened: bool, by: User, cancel: bool = False) -> Job:
    """A person says whether an act took effect that nobody can tell of, or whose job has ended; a
    job that waited for that goes on, or is cancelled, once no other act of it is unknown.

    Raises NotPossible when it is settled already, or its job at work; then nothing changed.
    """
    with transaction.atomic():
        effect = Effect.objects.get(pk=effect_id)
        assert effect.job_id  # a job is archived only once its effects are settled
        rows = Step.objects.filter(job_id=effect.job_id).order_by("stage", "position")
        list(rows.select_for_update(no_key=True, of=("self",)))
        job, _ = steps.lock_job(effect.job_id)
        effect.refresh_from_db()
        if not Effect.objects.for_people().filter(pk=effect_id).exists():
            if effect.status == Status.INTENDED:
                raise NotPossible(
                    "effect_is_under_way",
                    f"“{effect.title}” is being done or looked at right now, by “{job}”. Wait for "
                    "what comes of it.",
                )
            raise NotPossible(
                "effect_is_settled",
                f"“{effect.title}” is settled already: {effect.get_status_display().lower()}. "
                "Look at its job for how it went on.",
            )
        effect.status = Status.CONFIRMED if happened else Status.ABSENT
        effect.result = {"settled_by_hand": True} if happened else None
        effect.settled_by, effect.settled_at = by, TransactionNow()
        effect.save(update_fields=["status", "result", "settled_by", "settled_at"])
        said = "it happened" if happened else "it did not happen"
        _tell(job, effect, f"{said}, says {by.get_username()}")
        audit.note(effect, Act.SETTLED, by=by, decision=said, key=effect.key, job=job.pk)
        if job.status == JobStatus.MANUAL and not cancel:
            job = control.resume_job(job.pk, by=by.get_username())
        elif job.status == JobStatus.MANUAL and not job.effects.filter(status=Status.UNKNOWN):
            job = control.cancel_job(job.pk, by=by.get_username())
    return job


def confirm_left_open(job_id: uuid.UUID, *, by: str) -> None:
    """A person has found that what an ended job began took effect. Part of the transaction in which
    that is said; needs no locks."""
    job, _ = steps.lock_job(job_id)
    for effect in Effect.objects.filter(job=job, status=Status.INTENDED).order_by("id"):
        effect.status, effect.result = Status.CONFIRMED, {"settled_by_hand": True}
        effect.settled_at = TransactionNow()
        effect.save(update_fields=["status", "result", "settled_at"])
        _tell(job, effect, f"it happened, says {by}")

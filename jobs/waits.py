"""Waits: a step asks for something, its worker goes on with other work, and the answer wakes it.

A handler returns `WaitFor(...)` and is run again when the first of the waits has ended; then it
finds the answer by name (`context.find_answer`). A signal that comes first is kept for its wait.

Signals of one topic and the waits for them are serialised by an advisory lock: without it a signal
and its wait, written in the same moment, could miss each other. Locks are taken in this order:
topic, step, job.
"""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now

from accounts import audit
from accounts.audit import Act
from accounts.models import User
from jobs import live, statements
from jobs.errors import Becomes, BusinessError, InvalidAnswer, WaitClosed
from jobs.models import Job, Signal, Wait
from jobs.plans import Awaited
from jobs.statements import ClaimedStep, WaitAnswer

KEEP_SIGNALS = timedelta(hours=24)
"""How long a signal that nobody waits for is kept."""

LOCK_TOPICS = (
    "SELECT pg_advisory_xact_lock(hashtextextended(topic, 0)) FROM unnest(%s::text[]) topic"
)


# ---- what a handler asks for, and what it gets --------------------------------------------------


def signal(
    name: str,
    topic: str,
    match: Mapping[str, Any],
    *,
    deadline: timedelta | None = None,
    on_deadline: Wait.OnDeadline = Wait.OnDeadline.RESUME,
) -> Awaited:
    """Something that happens outside: a signal of `topic` with these fields, whatever else it
    has."""
    return Awaited(name, Wait.Kind.SIGNAL, deadline, on_deadline, topic=topic, match=dict(match))


def approval(
    name: str,
    question: str,
    choices: Sequence[str] = ("approve", "reject"),
    *,
    deadline: timedelta | None = None,
    on_deadline: Wait.OnDeadline = Wait.OnDeadline.MANUAL,
) -> Awaited:
    """A person presses one of the buttons."""
    return Awaited(
        name, Wait.Kind.APPROVAL, deadline, on_deadline, question=question, choices=tuple(choices)
    )


def timer(name: str, after: timedelta) -> Awaited:
    return Awaited(name, Wait.Kind.TIMER, after, Wait.OnDeadline.RESUME)


@dataclass(frozen=True)
class Answer:
    """How a wait has ended. `data`: a signal's fields, or the `choice` of an approval."""

    name: str
    kind: Wait.Kind
    data: Mapping[str, Any]
    is_expired: bool
    by: int | None  # the user who answered


def find_answer(step: ClaimedStep, names: Collection[str]) -> Answer | None:
    """The newest answer that the step has to one of these waits; None if it has none yet.

    Raises BusinessError after a deadline that was to end the step.
    """
    wait = statements.find_answer(step.id, names)
    if wait is None:
        return None
    is_expired = wait.status == Wait.Status.EXPIRED
    if is_expired and wait.on_deadline != Wait.OnDeadline.RESUME:
        becomes = Becomes.MANUAL if wait.on_deadline == Wait.OnDeadline.MANUAL else Becomes.FAILED
        sentence = f"{step.title}: nothing came in time. ({wait.question or wait.name})"
        raise BusinessError("deadline_passed", sentence, becomes)
    kind = Wait.Kind(wait.kind)
    return Answer(wait.name, kind, wait.answer or {}, is_expired, wait.answered_by)


# ---- waiting ------------------------------------------------------------------------------------


def lock_topics(topics: Iterable[str]) -> None:
    """Until the transaction ends nobody else writes a signal of these topics, or a wait for one."""
    with connection.cursor() as cursor:
        cursor.execute(LOCK_TOPICS, [sorted(set(topics))])


def open_waits(
    step: ClaimedStep, job: Job, awaited: Sequence[Awaited], now: datetime
) -> list[Wait]:
    """Part of the transaction in which the step begins to wait; needs the locks on the topics."""
    return Wait.objects.bulk_create(
        Wait(
            workspace_id=job.workspace_id,
            job=job,
            step_id=step.id,
            name=each.name,
            kind=each.kind,
            topic=each.topic,
            match=dict(each.match),
            question=each.question,
            choices=list(each.choices),
            deadline_at=None if each.deadline is None else now + each.deadline,
            on_deadline=each.on_deadline,
        )
        for each in awaited
    )


def take_kept_signal(waits: Sequence[Wait]) -> bool:
    """Answers the first of the waits whose signal came before it; tells whether there was one."""
    for wait in waits:
        kept = Signal.objects.filter(
            workspace_id=wait.workspace_id,
            topic=wait.topic,
            taken_by=None,
            expires_at__gt=Now(),
            fields__contains=wait.match,
        )
        found = kept.order_by("id").first() if wait.kind == Wait.Kind.SIGNAL else None
        if found is not None and answer(wait.pk, found.fields, message=_arrived(wait.topic)):
            Signal.objects.filter(pk=found.pk).update(taken_by=wait)
            return True
    return False


# ---- answering ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class NewSignal:
    """With a `key` it is safe to repeat: the same topic and key is the same signal."""

    topic: str
    fields: Mapping[str, Any]
    key: str | None = None


def send_signal(
    topic: str, fields: Mapping[str, Any], *, workspace_id: uuid.UUID, key: str | None = None
) -> Signal:
    """Something has happened outside. The wait that is oldest and fits takes it; without one it is
    kept for a day."""
    (signal,) = send_signals([NewSignal(topic, fields, key)], workspace_id=workspace_id)
    return signal


def send_signals(new: Sequence[NewSignal], *, workspace_id: uuid.UUID) -> list[Signal]:
    """The same for many at once: all of them, or none."""
    with transaction.atomic():
        lock_topics(each.topic for each in new)
        names = [_name(each, place) for place, each in enumerate(new)]
        signals = _find_known(new, workspace_id)
        unsent: dict[Any, NewSignal] = {}
        for name, each in zip(names, new, strict=True):
            if name not in signals:
                unsent.setdefault(name, each)
        takers = _answer_oldest(list(unsent.values()), workspace_id)
        sent = Signal.objects.bulk_create(
            Signal(
                workspace_id=workspace_id,
                topic=each.topic,
                fields=dict(each.fields),
                key=each.key,
                taken_by_id=taker,
                expires_at=Now() + KEEP_SIGNALS,
            )
            for each, taker in zip(unsent.values(), takers, strict=True)
        )
        signals |= dict(zip(unsent, sent, strict=True))
    return [signals[name] for name in names]


def _name(signal: NewSignal, place: int) -> Any:
    """What tells it from the others; without a key there is only one of each."""
    return place if signal.key is None else (signal.topic, signal.key)


def _find_known(new: Sequence[NewSignal], workspace_id: uuid.UUID) -> dict[Any, Signal]:
    keys = {each.key for each in new if each.key is not None}
    if not keys:
        return {}
    topics = {each.topic for each in new}
    known = Signal.objects.filter(workspace_id=workspace_id, topic__in=topics, key__in=keys)
    return {(signal.topic, signal.key): signal for signal in known}


def _answer_oldest(new: Sequence[NewSignal], workspace_id: uuid.UUID) -> list[uuid.UUID | None]:
    """The wait that has taken each signal."""
    takers: list[uuid.UUID | None] = [None] * len(new)
    places = list(range(len(new)))
    while places:
        signals = [(new[place].topic, new[place].fields) for place in places]
        found = statements.find_waits(signals, workspace_id=workspace_id)
        chosen: dict[uuid.UUID, int] = {}
        for index, wait_id in sorted(found.items()):
            chosen.setdefault(wait_id, places[index])
        answers = [
            WaitAnswer(wait_id, new[place].fields, _arrived(new[place].topic))
            for wait_id, place in chosen.items()
        ]
        for wait_id in _answer(answers):
            takers[chosen[wait_id]] = wait_id
        # Those left: another signal took their wait, or its step goes on with another answer.
        places = [places[index] for index in found if takers[places[index]] is None]
    return takers


def choose(wait: Wait, choice: str, by: User) -> None:
    """A person answers an approval. Raises InvalidAnswer or WaitClosed; then nothing changed."""
    if wait.kind != Wait.Kind.APPROVAL:
        raise InvalidAnswer("This is not waiting for a person's choice.")
    if choice not in wait.choices:
        raise InvalidAnswer(f"{choice!r} is none of: {', '.join(wait.choices)}.")
    message = f"{by.get_username()}: {choice}"
    with transaction.atomic():
        if not answer(wait.pk, {"choice": choice}, by=by, message=message):
            raise WaitClosed("This was answered already, or is not needed any more. Look again.")
        audit.note(wait, Act.CHOSEN, by=by, choice=choice, job=wait.job_id)


def answer(
    wait_id: uuid.UUID, data: Mapping[str, Any], *, message: str, by: User | None = None
) -> bool:
    """Answers the wait and wakes its step; False when the wait has ended already."""
    with transaction.atomic():
        return bool(_answer([WaitAnswer(wait_id, data, message[:1000])], by=by))


def _answer(answers: Sequence[WaitAnswer], by: User | None = None) -> Collection[uuid.UUID]:
    woken = statements.answer_waits(answers, by=by.pk if by else None) if answers else {}
    for job_id, _ in woken.values():
        live.job_changed(job_id)
    live.wake(queue for _, queue in woken.values())
    return woken


def _arrived(topic: str) -> str:
    return f"What it waited for has come ({topic})."

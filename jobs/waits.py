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
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts import audit
from accounts.audit import Act
from accounts.models import User
from jobs import live, statements
from jobs.errors import Becomes, BusinessError, InvalidAnswer, WaitClosed
from jobs.models import Job, Signal, Wait
from jobs.plans import Awaited
from jobs.statements import ClaimedStep

KEEP_SIGNALS = timedelta(hours=24)
"""How long a signal that nobody waits for is kept."""

ENDED_BY_ITSELF = (Wait.Status.ANSWERED, Wait.Status.EXPIRED)


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
    ended = Wait.objects.filter(step_id=step.id, name__in=names, status__in=ENDED_BY_ITSELF)
    # An answer to a former run is none to this one: a person has had the step run again since.
    ended = ended.filter(Q(step__reset_at=None) | Q(created_at__gt=F("step__reset_at")))
    wait = ended.order_by("-id").first()
    if wait is None:
        return None
    is_expired = wait.status == Wait.Status.EXPIRED
    if is_expired and wait.on_deadline != Wait.OnDeadline.RESUME:
        becomes = Becomes.MANUAL if wait.on_deadline == Wait.OnDeadline.MANUAL else Becomes.FAILED
        sentence = f"{step.title}: nothing came in time. ({wait})"
        raise BusinessError("deadline_passed", sentence, becomes)
    kind = Wait.Kind(wait.kind)
    return Answer(wait.name, kind, wait.answer or {}, is_expired, wait.answered_by_id)


# ---- waiting ------------------------------------------------------------------------------------


def lock_topics(topics: Iterable[str]) -> None:
    """Until the transaction ends nobody else writes a signal of these topics, or a wait for one."""
    with connection.cursor() as cursor:
        for topic in sorted(set(topics)):
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [topic])


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


def send_signal(
    topic: str, fields: Mapping[str, Any], *, workspace_id: uuid.UUID, key: str | None = None
) -> Signal:
    """Something has happened outside. The wait that is oldest and fits takes it; without one it is
    kept for a day.

    With a `key` it is safe to repeat: the same topic and key is the same signal.
    """
    with transaction.atomic():
        lock_topics([topic])
        known = Signal.objects.filter(workspace_id=workspace_id, topic=topic, key=key)
        if key is not None and (signal := known.first()):
            return signal
        return Signal.objects.create(
            workspace_id=workspace_id,
            topic=topic,
            fields=dict(fields),
            key=key,
            taken_by_id=_answer_oldest(topic, fields, workspace_id),
            expires_at=Now() + KEEP_SIGNALS,
        )


def _answer_oldest(
    topic: str, fields: Mapping[str, Any], workspace_id: uuid.UUID
) -> uuid.UUID | None:
    fitting = Wait.objects.filter(
        workspace_id=workspace_id,
        kind=Wait.Kind.SIGNAL,
        topic=topic,
        status=Wait.Status.OPEN,
        match__contained_by=dict(fields),
    )
    while wait_id := fitting.order_by("id").values_list("pk", flat=True).first():
        if answer(wait_id, fields, message=_arrived(topic)):
            return wait_id
        # Its step went on with another answer in this moment: now the wait is closed.
    return None


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
        woken = statements.answer_wait(
            wait_id, data, by=by.pk if by else None, message=message[:1000]
        )
        if woken is None:
            return False
        job_id, queue = woken
        live.job_changed(job_id)
        live.wake([queue])
    return True


def _arrived(topic: str) -> str:
    return f"What it waited for has come ({topic})."

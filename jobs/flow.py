"""Flow control: how many steps of a flow key may run or start, and whether any may.

A limit is a row per key; the claim reads it each time, so a change holds from the next claim on. A
step that a limit holds back waits outside the queue (`limited_by`), where it is in nobody's way,
and is ready again when there is a place. Waking is only ever a hint: that a limit holds is decided
by the claim alone, under the lock on the limit's row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

import structlog
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from accounts import audit
from accounts.audit import Act
from jobs import live, statements
from jobs.errors import InvalidLimit, UnknownWorkflow
from jobs.models import FlowLimit, Job, Status, Step
from jobs.plans import get_workflow
from jobs.statements import Candidate, ClaimedStep, Limit, Orphan

log = structlog.get_logger(__name__)

BATCH = 500  # steps that are held back or woken by one statement
# How soon a woken worker claims; after that the place is somebody else's.
EXPECTED = timedelta(seconds=2)
REASON_LENGTH = 300  # the column's
BY_LENGTH = 150


class Cause(StrEnum):
    PAUSED = "paused"
    CONCURRENCY = "concurrency"
    RATE = "rate"
    TURN = "turn"  # there is a place, and somebody who waits longer for it


@dataclass(frozen=True)
class Hold:
    """Why a limit lets a step not start now."""

    limit: Limit
    cause: Cause

    @property
    def sentence(self) -> str:
        limit, name = self.limit, describe_key(self.limit.key)
        match self.cause:
            case Cause.PAUSED:
                why = f": {limit.pause_reason}" if limit.pause_reason else "."
                return f"The {name} is paused by {limit.paused_by}{why}"
            case Cause.CONCURRENCY:
                return f"{limit.running} of {limit.concurrency} steps of the {name} are running."
            case Cause.RATE:
                steps = "1 step" if limit.rate == 1 else f"{limit.rate} steps"
                return f"The {name} starts at most {steps} in {describe_period(limit.period)}."
            case Cause.TURN:
                return f"Others wait longer for a place at the {name}."


@dataclass(frozen=True)
class HeldBack:
    """The claim found a step, and that it may not start; it waits for this key now."""

    key: str


# ---- decisions ----------------------------------------------------------------------------------


def decide_hold(limits: Sequence[Limit], candidate: Candidate | None) -> Hold | None:
    """The first reason not to start; None when there is a place. Without a candidate: whoever
    comes."""
    for limit in limits:
        if limit.paused_at is not None:
            return Hold(limit, Cause.PAUSED)
        if limit.concurrency is not None and limit.running >= limit.concurrency:
            return Hold(limit, Cause.CONCURRENCY)
        if limit.rate is not None and count_free_starts(limit) == 0:
            return Hold(limit, Cause.RATE)
        if candidate is not None and _is_behind(candidate, limit.first_held):
            return Hold(limit, Cause.TURN)
    return None


def _is_behind(candidate: Candidate, first: tuple[int, Any] | None) -> bool:
    if first is None:
        return False
    priority, step_id = first
    return (-priority, step_id) < (-candidate.priority, candidate.id)


def count_free_starts(limit: Limit) -> int:
    """How many may start now by the rate."""
    assert limit.rate is not None
    return limit.rate - len(_recent_starts(limit))


def decide_slots(limit: Limit) -> list[datetime]:
    """The times of the next starts that the rate allows, one period's worth; the same again a
    period later, and so on."""
    if limit.rate is None or limit.paused_at is not None:
        return []
    recent = _recent_starts(limit)
    free = [limit.now] * (limit.rate - len(recent))
    return [*free, *(start + limit.period for start in recent)]


def _recent_starts(limit: Limit) -> Sequence[datetime]:
    assert limit.rate is not None
    recent = [start for start in limit.starts if start > limit.now - limit.period]
    return recent[-limit.rate :]


def decide_room(limit: Limit | None) -> int:
    """How many of those that are held back to wake now."""
    if limit is None:
        return BATCH
    if limit.paused_at is not None or limit.first_held is None:
        return 0
    rooms = [BATCH]
    if limit.concurrency is not None:
        rooms.append(limit.concurrency - limit.running - limit.woken)
    if limit.rate is not None:
        rooms.append(count_free_starts(limit) - limit.woken)
    return max(min(rooms), 0)


# ---- the claim ----------------------------------------------------------------------------------


def claim_limited(
    candidate: Candidate, *, worker: str, lease: timedelta
) -> ClaimedStep | Orphan | HeldBack:
    """The candidate, claimed if its limits allow, else held back. Part of the transaction that
    locked it."""
    statements.lock_limits(candidate.flow_keys)
    limits = read_limits(candidate.flow_keys)
    hold = decide_hold(limits, candidate)
    if hold is None:
        keys = [limit.key for limit in limits]
        return statements.claim_limited(candidate, keys, worker=worker, lease=lease)
    rows = Job.objects.select_for_update(no_key=True, of=("self",))
    if rows.get(pk=candidate.job_id).is_finished:
        return Orphan(candidate.id, candidate.job_id)
    changed = statements.hold_back(
        candidate,
        hold.limit.key,
        hold.sentence,
        slots=decide_slots(hold.limit) if hold.cause == Cause.RATE else [],
        period=hold.limit.period,
        # It may be the turn of others in the queue; else there is no place for any of them.
        most=0 if hold.cause == Cause.TURN else BATCH,
    )
    for job_id in changed:
        live.job_changed(job_id)
    return HeldBack(hold.limit.key)


def wake(keys: Sequence[str]) -> int:
    """Makes ready what these keys hold back and have a place for now; how many.

    After the commit of what made the place, or of what waits for one: of the two that cross, the
    later then sees both. Safe to repeat.
    """
    if not keys:
        return 0
    limits = {limit.key: limit for limit in read_limits(keys)}
    woken = 0
    for key in keys:
        if room := decide_room(limits.get(key)):
            ready = statements.make_held_ready(key, room)
            for job_id, queue in ready:
                live.job_changed(job_id)
                live.wake([queue])
            woken += len(ready)
        _tell_waker(key)
    return woken


def read_limits(keys: Sequence[str]) -> list[Limit]:
    return statements.read_limits(keys, expected=EXPECTED)


def count_held(key: str) -> int:
    """How many steps are ready but for this key's limit."""
    return Step.objects.filter(status=Status.WAITING, limited_by=key).count()


def count_running(key: str) -> int:
    return Step.objects.filter(status=Status.RUNNING, flow_keys__contains=[key]).count()


def find_holds(keys: Sequence[str]) -> dict[str, Hold]:
    """Those of the keys that let nothing start now, and why: for who chooses among several what a
    step is to be limited by. That it may start is decided by its claim alone."""
    holds = {limit.key: decide_hold([limit], None) for limit in read_limits(keys)}
    return {key: hold for key, hold in holds.items() if hold}


def describe_limit(key: str) -> dict[str, Any]:
    """The key's limit and how much of it is used; without one, nulls."""
    limit = FlowLimit.objects.filter(key=key).first() or FlowLimit(key=key)
    return {
        "key": key,
        "concurrency": limit.concurrency,
        "rate": limit.rate,
        "period_seconds": limit.period_seconds,
        "paused": limit.paused_at is not None,
        "paused_at": limit.paused_at,
        "paused_by": limit.paused_by,
        "pause_reason": limit.pause_reason,
        "running": count_running(key),
        "waiting": count_held(key),
    }


# ---- what people do -----------------------------------------------------------------------------


def pause(key: str, *, by: str, reason: str = "") -> FlowLimit:
    """Nothing of the key starts from now on; what runs goes on. Safe to repeat: the latest reason
    stands. Raises InvalidLimit."""
    fields = {
        "paused_at": Now(),
        "paused_by": by[:BY_LENGTH],
        "pause_reason": reason[:REASON_LENGTH],
        "changed_at": Now(),
    }
    check(FlowLimit(key=key))
    with transaction.atomic():
        limit, _ = FlowLimit.objects.update_or_create(key=key, defaults=fields)
        audit.note(limit, Act.PAUSED, by=by, called=describe_key(key), reason=reason)
        _apply_on_commit(key)
    log.info("flow_paused", key=key, by=by, reason=reason)
    limit.refresh_from_db()
    return limit


def resume(key: str, *, by: str) -> bool:
    """What the pause held back may start, as far as limits allow. False when it is not paused."""
    with transaction.atomic():
        rows = FlowLimit.objects.select_for_update(no_key=True)
        limit = rows.filter(key=key, paused_at__isnull=False).first()
        if limit is None:
            return False
        limit.paused_at, limit.paused_by, limit.pause_reason = None, "", ""
        audit.note(limit, Act.RESUMED, by=by, called=describe_key(key))
        _save_or_delete(limit)
        _apply_on_commit(key)
    log.info("flow_resumed", key=key, by=by)
    return True


def set_limit(
    key: str,
    *,
    concurrency: int | None = None,
    rate: int | None = None,
    period_seconds: int = 60,
    by: str,
) -> None:
    """From now on at most `concurrency` steps of the key run at once, and at most `rate` start in
    any `period_seconds`; None is no limit. What runs above a lower limit goes on.

    Raises InvalidLimit.
    """
    numbers = {"concurrency": concurrency, "rate": rate, "period_seconds": period_seconds}
    check(FlowLimit(key=key, **numbers))
    with transaction.atomic():
        FlowLimit.objects.bulk_create([FlowLimit(key=key)], ignore_conflicts=True)
        limit = FlowLimit.objects.select_for_update(no_key=True).get(key=key)
        changes = {
            name: (getattr(limit, name), value)
            for name, value in numbers.items()
            if getattr(limit, name) != value
        }
        if changes:
            audit.note(limit, Act.LIMITED, by=by, called=describe_key(key), changes=changes)
        for name, value in numbers.items():
            setattr(limit, name, value)
        if rate is None:
            limit.starts = []
        _save_or_delete(limit)
        _apply_on_commit(key)
    log.info("flow_limit_set", key=key, by=by, **numbers)


def _save_or_delete(limit: FlowLimit) -> None:
    """A row that limits nothing would only cost every claim of its steps."""
    if limit.concurrency is None and limit.rate is None and limit.paused_at is None:
        limit.delete()
    else:
        limit.changed_at = Now()
        limit.save()


def check(limit: FlowLimit) -> None:
    """Raises InvalidLimit for a key or numbers that make no sense."""
    try:
        limit.clean_fields()
        kind, _, name = limit.key.partition(":")
        if kind == "workflow":
            get_workflow(name)
    except ValidationError as error:
        first = next(iter(error.message_dict.items()))
        raise InvalidLimit(f"{first[0]}: {first[1][0]}") from error
    except UnknownWorkflow as error:
        raise InvalidLimit(f"{error} Its steps would never be limited; check the name.") from error


def _apply_on_commit(key: str) -> None:
    transaction.on_commit(partial(apply_change, key))


def apply_change(key: str) -> None:
    """After a change of its limit: what the key holds back gets its new time, and wakes if that is
    now. Safe to repeat; what is lost of it in a crash, the sweep makes up for."""
    limit = next(iter(read_limits([key])), None)
    if limit is None:
        statements.set_due_of_held(key, slots=[None], period=timedelta(0))
    else:
        statements.set_due_of_held(key, slots=decide_slots(limit), period=limit.period)
    wake([key])


# ---- who else waits for a key -------------------------------------------------------------------


Waker = Callable[[str], None]
_wakers: dict[str, Waker] = {}


def register_waker(kind: str, waker: Waker) -> None:
    """Has `waker` called with a key's name whenever there may be a place at a key of this kind: by
    the app whose steps choose one of several such keys, and wait while none has a place. After a
    commit, and safe to repeat, as `wake` is."""
    _wakers[kind] = waker


def bring_forward(jobs: QuerySet[Job], due_at: datetime) -> None:
    """Steps of these jobs that were postponed for longer come again at `due_at`. Those that others
    have locked keep their time."""
    waiting = Step.objects.filter(
        job__in=jobs, status=Status.WAITING, limited_by="", due_at__gt=due_at
    )
    with transaction.atomic():
        locked = waiting.select_for_update(skip_locked=True, no_key=True, of=("self",))
        Step.objects.filter(pk__in=list(locked.values_list("pk", flat=True))).update(due_at=due_at)


def _tell_waker(key: str) -> None:
    kind, _, name = key.partition(":")
    if waker := _wakers.get(kind):
        waker(name)


# ---- words --------------------------------------------------------------------------------------


FindName = Callable[[str], str | None]
_find_name: dict[str, FindName] = {}


def register_names(kind: str, find_name: FindName) -> None:
    """What keys of this kind are called; only the app that makes them knows."""
    _find_name[kind] = find_name


def describe_key(key: str) -> str:
    """ "vendor Vendor Co", "workflow cart_add"."""
    kind, _, name = key.partition(":")
    find_name = _find_name.get(kind)
    return f"{kind} {(find_name and find_name(name)) or name}"


def describe_period(period: timedelta) -> str:
    seconds = round(period.total_seconds())
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds % size == 0:
            count = seconds // size
            article = "an" if unit == "hour" else "a"
            return f"{article} {unit}" if count == 1 else f"{count} {unit}s"
    raise AssertionError

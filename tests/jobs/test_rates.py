"""At most so many steps of a flow key start in any period of its rate, and each knows when."""

from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic

import pytest
from django.db import transaction

from jobs import flow, steps
from jobs.models import FlowLimit, Status, Step
from jobs.runner import runner
from jobs.statements import Limit
from jobs.sweep import make_due_ready, seconds_until_due, wake_held
from tests.jobs.rivals import elsewhere
from tests.jobs.rows import get_step, statuses
from tests.jobs.workflows import submit_toy

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SHOP = "vendor:shop"


def claim(worker="alice"):
    return steps.claim_next(["steps"], worker=worker)


def submit_at_shop(count=1, **submission):
    options = {"a": {"keys": [SHOP]}}
    return [submit_toy([["a"]], options=options, **submission) for _ in range(count)]


def set_rate(rate, period=60, **numbers):
    flow.set_limit(SHOP, rate=rate, period_seconds=period, by="olga", **numbers)


def let_starts_be_over(key=SHOP):
    """As if the last period had passed without a start."""
    limit = FlowLimit.objects.get(key=key)
    limit.starts = [start - timedelta(days=1) for start in limit.starts]
    limit.save()


def due_times():
    held = Step.objects.filter(limited_by=SHOP, status=Status.WAITING)
    return list(held.order_by("-priority", "id").values_list("due_at", flat=True))


# --- Decisions -------------------------------------------------------------------------------


def limit(rate, *seconds_ago, **others):
    """A limit of `rate` a minute, with starts so many seconds ago."""
    fields = {
        "key": SHOP,
        "concurrency": None,
        "rate": rate,
        "period": MINUTE,
        "starts": [NOON - timedelta(seconds=seconds) for seconds in seconds_ago],
        "paused_at": None,
        "paused_by": "",
        "pause_reason": "",
        "now": NOON,
        "running": 0,
        "woken": 0,
        "first_held": (0, Step().pk),
    }
    return Limit(**fields | others)


@pytest.mark.parametrize(
    ("it", "free"),
    [
        (limit(2), 2),
        (limit(2, 59), 1),
        (limit(2, 59, 1), 0),
        (limit(2, 60, 59, 1), 0),
        (limit(2, 60, 1), 1),
        (limit(2, 90, 60), 2),
        (limit(2, 3, 2, 1), 0),  # the rate was higher before
    ],
)
def test_starts_of_the_last_period_count(it, free):
    assert flow.count_free_starts(it) == free


def test_next_starts_are_a_period_after_the_last_ones():
    times = [round((time - NOON).total_seconds()) for time in flow.decide_slots(limit(4, 50, 20))]

    assert times == [0, 0, 10, 40]


def test_paused_limit_has_no_times_at_all():
    assert flow.decide_slots(limit(4, 50, 20, paused_at=NOON)) == []


@pytest.mark.parametrize(
    ("it", "room"),
    [
        (limit(5, 50, 20), 3),
        (limit(5, 50, 20, woken=2), 1),
        (limit(5, 50, 20, woken=4), 0),
        (limit(5, 50, 20, concurrency=4, running=2), 2),
        (limit(5, 50, 20, paused_at=NOON), 0),
        (limit(5, first_held=None), 0),
        (limit(None, concurrency=4, running=6), 0),
        (limit(None), flow.BATCH),
        (None, flow.BATCH),
    ],
)
def test_as_many_are_woken_as_there_are_places(it, room):
    assert flow.decide_room(it) == room


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(60, "a minute"), (1, "a second"), (90, "90 seconds"), (7200, "2 hours"), (86400, "a day")],
)
def test_period_is_said_in_words(seconds, words):
    assert flow.describe_period(timedelta(seconds=seconds)) == words


# --- Rows ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_no_more_steps_start_than_the_rate_allows_however_soon_they_end():
    set_rate(2)
    submit_at_shop(4)

    for _ in range(2):
        steps.complete(claim(), {}, queues=["steps"], worker="alice")

    assert claim() is None
    assert Step.objects.filter(status="waiting").count() == 2


@pytest.mark.django_db(transaction=True)
def test_limit_remembers_its_newest_starts_and_no_more():
    set_rate(2)
    submit_at_shop(3)
    claimed = [claim(), claim()]
    let_starts_be_over()
    claimed.append(claim())

    started = [Step.objects.get(pk=step.id).started_at for step in claimed]
    assert FlowLimit.objects.get().starts == [started[1] - timedelta(days=1), started[2]]


@pytest.mark.django_db(transaction=True)
def test_each_step_that_waits_for_a_rate_has_its_exact_time():
    set_rate(2)
    jobs = submit_at_shop(7)
    first, second = (Step.objects.get(pk=claim().id).started_at for _ in range(2))

    claim()

    assert due_times() == [
        first + MINUTE,
        second + MINUTE,
        first + 2 * MINUTE,
        second + 2 * MINUTE,
        first + 3 * MINUTE,
    ]
    event = jobs[2].events.last()
    assert (event.kind, event.message) == (
        "step.limited",
        "The vendor shop starts at most 2 steps in a minute.",
    )
    assert event.data["step"]["due_at"] is not None
    assert 59 < seconds_until_due() <= 60


@pytest.mark.django_db(transaction=True)
def test_later_one_is_due_after_those_that_wait_already():
    set_rate(1)
    submit_at_shop(3)
    start = Step.objects.get(pk=claim().id).started_at
    claim()
    (later,) = submit_at_shop(1)

    claim()

    assert get_step(later, "a").due_at == start + 3 * MINUTE


@pytest.mark.django_db(transaction=True)
def test_urgent_one_is_due_before_those_that_wait_already():
    set_rate(1)
    submit_at_shop(3)
    start = Step.objects.get(pk=claim().id).started_at
    claim()
    (urgent,) = submit_at_shop(1, priority=1)

    claim()

    assert get_step(urgent, "a").due_at == start + MINUTE


@pytest.mark.django_db(transaction=True)
def test_step_whose_time_has_come_starts_and_the_others_wait_on():
    set_rate(1)
    jobs = submit_at_shop(3)
    claim()
    claim()
    let_starts_be_over()
    Step.objects.filter(job=jobs[1]).update(due_at=NOON - timedelta(days=9999))

    assert make_due_ready() == 1

    assert claim().job_id == jobs[1].pk
    assert claim() is None
    assert statuses(jobs[2]) == {"a": "waiting"}


@pytest.mark.django_db(transaction=True)
def test_newcomer_does_not_overtake_who_waits_when_the_time_has_come():
    set_rate(1)
    _, second = submit_at_shop(2)
    claim()
    claim()
    let_starts_be_over()
    (newcomer,) = submit_at_shop(1)

    assert claim().job_id == second.pk
    assert claim() is None
    assert get_step(newcomer, "a").limited_by == SHOP


@pytest.mark.django_db(transaction=True)
def test_sweep_wakes_for_starts_that_nobody_uses():
    """Such as those of jobs that were cancelled while they waited for their time."""
    set_rate(2)
    submit_at_shop(5)
    claim()
    claim()
    claim()
    let_starts_be_over()

    assert wake_held() == 2


@pytest.mark.django_db(transaction=True)
def test_new_rate_gives_those_who_wait_their_new_times():
    set_rate(1)
    submit_at_shop(4)
    start = Step.objects.get(pk=claim().id).started_at
    claim()

    set_rate(2)

    assert Step.objects.filter(status="ready").count() == 1
    # One start is free now, and one a minute after the first: the two that wait have these, less
    # what was woken just now.
    assert due_times()[0] == start + MINUTE
    assert timedelta(0) < due_times()[1] - start - MINUTE < timedelta(seconds=10)


@pytest.mark.django_db(transaction=True)
def test_rate_that_is_taken_away_lets_all_start():
    set_rate(1)
    submit_at_shop(4)
    claim()
    claim()

    set_rate(None, concurrency=50)

    assert Step.objects.filter(status="ready").count() == 3
    assert FlowLimit.objects.get().starts == []


# --- At once ---------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_eight_workers_at_once_start_no_more_than_the_rate():
    set_rate(3)
    submit_at_shop(20)

    claimed = elsewhere(*[claim] * 8)

    assert len([step for step in claimed if step]) == 3
    assert len(FlowLimit.objects.get().starts) == 3


@pytest.mark.django_db(transaction=True)
def test_without_the_lock_on_the_limit_two_workers_would_both_have_the_last_start(monkeypatch):
    """The harm: each reads the starts before the other's is committed."""
    set_rate(1)
    submit_at_shop(2)
    monkeypatch.setattr(flow.statements, "lock_limits", lambda keys: None)
    real = flow.statements.claim_limited

    def after_a_rival(*args, **kwargs):
        monkeypatch.setattr(flow.statements, "claim_limited", real)
        (theirs,) = elsewhere(claim)
        assert theirs is not None
        return real(*args, **kwargs)

    monkeypatch.setattr(flow.statements, "claim_limited", after_a_rival)

    assert claim() is not None
    assert Step.objects.filter(status="running").count() == 2


@pytest.mark.django_db(transaction=True)
def test_rolled_back_claim_uses_no_start():
    set_rate(1)
    submit_at_shop(1)

    with transaction.atomic():
        claim()
        transaction.set_rollback(True)

    assert FlowLimit.objects.get().starts == []
    assert claim() is not None


@pytest.mark.django_db(transaction=True)
def test_storm_never_starts_more_in_any_period_and_all_start_in_the_end():
    """Against the clock of the database, with real periods of a second."""
    set_rate(20, period=1)
    submit_at_shop(70)
    end = monotonic() + 30

    def until_all_is_over(act):
        while Step.objects.exclude(status=Status.COMPLETED).exists():
            assert monotonic() < end, list(Step.objects.values_list("status", "due_at"))
            act()

    def sweep():
        make_due_ready()
        wake_held()

    def work():
        runner.run_ready_steps(["steps"])

    began = monotonic()
    elsewhere(*[partial(until_all_is_over, act) for act in [work] * 4 + [sweep]])

    starts = list(Step.objects.order_by("started_at").values_list("started_at", flat=True))
    too_soon = [
        (earlier, later)
        for earlier, later in zip(starts, starts[20:], strict=False)
        if later - earlier < timedelta(seconds=1)
    ]
    assert too_soon == []
    assert monotonic() - began < 10  # three periods, and no start was wasted for long

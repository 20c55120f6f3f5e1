"""Rule 8: at most so many steps of a flow key run at once, whoever claims at the same moment."""

from collections import Counter
from datetime import timedelta
from functools import partial
from threading import Lock
from time import monotonic

import pytest
from django.db import IntegrityError, connection, transaction

from jobs import flow, steps
from jobs.errors import BusinessError, InvalidLimit, InvalidPlan
from jobs.models import Event, FlowLimit, Job, Status, Step
from jobs.plans import Done
from jobs.runner import runner
from jobs.sweep import make_due_ready, recover_expired, sweep, wake_held
from tests.jobs.clients import Client, differences, snapshot
from tests.jobs.crashing import crash
from tests.jobs.rivals import elsewhere
from tests.jobs.rows import (
    all_rows,
    event_kinds,
    event_numbers,
    get_job,
    get_step,
    let_leases_expire,
    statuses,
)
from tests.jobs.workflows import BEHAVIOURS, submit_toy

pytestmark = pytest.mark.django_db(transaction=True)

SHOP = "vendor:shop"


def claim(*queues, worker="alice"):
    return steps.claim_next(queues or ("steps",), worker=worker)


def complete(step, *, queues=("steps",)):
    return steps.complete(step, {}, queues=queues, worker="alice")


def submit_at_shop(count=1, chain=(("a",),), **submission):
    options = {name: {"keys": [SHOP]} for group in chain for name in group}
    return [submit_toy(chain, options=options, **submission) for _ in range(count)]


def set_limit(key=SHOP, **numbers):
    flow.set_limit(key, **numbers, by="olga")


def count(status, **fields):
    return Step.objects.filter(status=status, **fields).count()


# --- Keys ------------------------------------------------------------------------------------


def test_step_has_the_keys_of_its_plan_and_of_its_workflow():
    (job,) = submit_at_shop()

    assert get_step(job, "a").flow_keys == ["vendor:shop", "workflow:toy"]


def test_plan_with_a_key_that_is_none_is_refused_and_nothing_is_written():
    with pytest.raises(InvalidPlan, match="'shop'"):
        submit_toy([["a"]], options={"a": {"keys": ["shop"]}})

    assert not Job.objects.exists()


# --- The limit -------------------------------------------------------------------------------


def test_no_more_steps_of_a_key_run_at_once_than_its_limit():
    set_limit(concurrency=2)
    jobs = submit_at_shop(4)

    claimed = [claim() for _ in range(2)]

    assert claim() is None
    assert [step.job_id for step in claimed] == [job.pk for job in jobs[:2]]
    assert (count("running"), count("waiting", limited_by=SHOP)) == (2, 2)


def test_steps_of_other_keys_are_not_held_up_behind_a_full_limit():
    set_limit(concurrency=1)
    submit_at_shop(3)
    other = submit_toy([["b"]])

    assert [claim().name for _ in range(2)] == ["a", "b"]
    assert claim() is None
    assert get_step(other, "b").limited_by == ""


def test_step_held_back_waits_outside_the_queue_and_says_so_in_an_event():
    set_limit(concurrency=1)
    _, second = submit_at_shop(2)
    client = Client(second)
    claim()

    claim()

    step = get_step(second, "a")
    assert (step.status, step.limited_by, step.due_at) == (Status.WAITING, SHOP, None)
    assert (step.attempt, step.fence) == (0, 0)
    event = second.events.last()
    assert (event.kind, event.message) == (
        "step.limited",
        "1 of 1 steps of the vendor shop are running.",
    )
    client.follow(second)
    assert differences(client.state, snapshot(second)) == []


def test_claim_holds_back_a_crowd_at_once_and_reads_it_never_again(django_assert_num_queries):
    set_limit(concurrency=1)
    submit_at_shop(60)
    claim()

    claim()

    assert (count("ready"), count("waiting")) == (0, 59)
    with django_assert_num_queries(1):
        assert claim() is None


def test_place_that_a_completed_step_leaves_wakes_the_next_in_turn(hints):
    set_limit(concurrency=1)
    first, lazy, urgent = submit_at_shop(1) + submit_at_shop(1) + submit_at_shop(1, priority=5)
    running = claim()
    assert running.job_id == urgent.pk
    claim()
    hints.clear()

    complete(running)
    assert flow.wake(running.limits) == 1

    assert statuses(first) == {"a": "ready"}
    assert statuses(lazy) == {"a": "waiting"}
    assert hints.wakes == {"steps": 1}
    assert claim().job_id == first.pk


def test_runner_gives_its_place_on_whatever_becomes_of_the_step():
    set_limit(concurrency=1)
    jobs = submit_at_shop(4)
    outcomes = iter([BusinessError("no", "No."), ValueError("a bug"), None, None])

    def behave(context):
        if outcome := next(outcomes):
            raise outcome
        return Done()

    BEHAVIOURS["a"] = behave
    claim_and_hold = claim()
    assert claim() is None  # all others are held back
    steps.release(claim_and_hold)
    flow.wake(claim_and_hold.limits)

    assert runner.run_ready_steps(["steps"]) == 4
    assert [statuses(job)["a"] for job in jobs] == ["failed", "waiting", "completed", "completed"]


def test_step_claimed_after_it_was_held_back_is_held_back_no_more():
    set_limit(concurrency=1)
    submit_at_shop(2)
    running = claim()
    claim()
    complete(running)
    flow.wake([SHOP])

    step = Step.objects.get(pk=claim().id)

    assert (step.status, step.limited_by, step.ages_from) == (Status.RUNNING, "", None)


def test_step_with_several_limits_needs_a_place_in_each():
    set_limit(concurrency=5)
    set_limit("workflow:toy", concurrency=1)
    submit_at_shop(2)

    assert claim().limits == ("vendor:shop", "workflow:toy")
    assert claim() is None
    assert count("waiting", limited_by="workflow:toy") == 1


def test_following_step_without_a_place_is_left_to_others():
    """The continuation in the worker at hand respects a limit as the queue does."""
    (job,) = submit_at_shop(chain=[["a"], ["b"]])
    a = claim()
    set_limit(concurrency=1)
    submit_at_shop(1)

    assert complete(a) is None

    assert statuses(job) == {"a": "completed", "b": "ready"}
    assert claim().job_id == job.pk
    assert claim() is None


def test_completing_with_no_limit_on_what_follows_is_still_one_statement(django_assert_num_queries):
    set_limit(concurrency=1)
    submit_toy([["a"], ["b"]])
    a = claim()

    with django_assert_num_queries(1):
        assert complete(a).name == "b"


def test_newcomer_does_not_overtake_who_waits_for_the_place():
    set_limit(concurrency=1)
    _, second = submit_at_shop(2)
    running = claim()
    claim()
    complete(running)  # and the worker dies before it wakes the second
    (newcomer,) = submit_at_shop(1)

    assert claim().job_id == second.pk
    assert claim() is None
    assert get_step(newcomer, "a").limited_by == SHOP


def test_newcomer_of_higher_priority_does():
    set_limit(concurrency=1)
    submit_at_shop(2)
    running = claim()
    claim()
    complete(running)
    (urgent,) = submit_at_shop(1, priority=1)

    assert claim().job_id == urgent.pk


# --- Changes ---------------------------------------------------------------------------------


def test_higher_limit_lets_more_start_at_once():
    set_limit(concurrency=1)
    submit_at_shop(4)
    claim()
    claim()

    set_limit(concurrency=3)

    assert (count("ready"), count("waiting")) == (2, 1)


def test_lower_limit_leaves_what_runs_alone():
    set_limit(concurrency=3)
    submit_at_shop(4)
    running = [claim() for _ in range(3)]

    set_limit(concurrency=1)

    assert count("running") == 3
    for step in running[:2]:
        complete(step)
        flow.wake([SHOP])
        assert claim() is None
    complete(running[2])
    flow.wake([SHOP])
    assert claim() is not None


def test_limit_that_is_taken_away_leaves_no_row_and_nobody_waiting():
    set_limit(concurrency=1)
    submit_at_shop(3)
    claim()
    claim()

    set_limit()

    assert not FlowLimit.objects.exists()
    assert (count("ready"), count("waiting")) == (2, 0)


@pytest.mark.parametrize(
    ("key", "numbers", "words"),
    [
        ("shop", {"concurrency": 1}, "kind and a name"),
        ("vendor:a b", {"concurrency": 1}, "kind and a name"),
        (SHOP, {"concurrency": 0}, "concurrency"),
        (SHOP, {"rate": 0}, "rate"),
        (SHOP, {"rate": 1001}, "rate"),
        (SHOP, {"rate": 1, "period_seconds": 0}, "period_seconds"),
        ("workflow:cart_ad", {"concurrency": 1}, "No workflow is called 'cart_ad'"),
    ],
)
def test_limit_that_makes_no_sense_is_refused_and_changes_nothing(key, numbers, words):
    with pytest.raises(InvalidLimit, match=words):
        set_limit(key, **numbers)

    assert not FlowLimit.objects.exists()


def test_database_refuses_a_limit_of_nothing():
    with pytest.raises(IntegrityError, match="flow_limit_numbers"):
        FlowLimit.objects.create(key=SHOP, concurrency=0)


# --- Crashes ---------------------------------------------------------------------------------


def test_place_of_a_lost_worker_is_free_once_its_step_is_recovered():
    set_limit(concurrency=1)
    lost, _ = submit_at_shop(2)
    claim()
    claim()

    let_leases_expire()
    assert recover_expired() == 1

    assert claim().job_id == lost.pk
    assert claim() is None


def test_sweep_wakes_who_waits_for_a_place_whose_worker_died_before_it_did(broker):
    set_limit(concurrency=1)
    submit_at_shop(2)
    running = claim()
    claim()
    complete(running)

    assert sweep().due == 1
    assert claim() is not None


def test_sweep_wakes_who_waits_for_a_limit_that_is_no_more():
    set_limit(concurrency=1)
    submit_at_shop(3)
    claim()
    claim()
    FlowLimit.objects.all().delete()

    assert wake_held() == 2


def test_sweep_leaves_alone_who_has_no_place():
    set_limit(concurrency=1)
    submit_at_shop(3)
    claim()
    claim()
    rows = all_rows()

    assert wake_held() == 0
    assert all_rows() == rows


def test_woken_step_that_nobody_claims_keeps_the_place_for_a_moment_only(monkeypatch):
    """Its queue may have no worker."""
    set_limit(concurrency=1)
    options = {"a": {"keys": [SHOP], "queue": "host-7"}}
    submit_at_shop(1)
    gone, here = submit_toy([["a"]], options=options), submit_at_shop(1)[0]
    running = claim()
    claim("host-7")
    claim()
    complete(running)
    assert flow.wake([SHOP]) == 1
    assert statuses(gone) == {"a": "ready"}

    assert flow.wake([SHOP]) == 0
    monkeypatch.setattr(flow, "EXPECTED", timedelta(0))
    assert flow.wake([SHOP]) == 1
    assert claim().job_id == here.pk


@pytest.mark.parametrize(("moment", "running"), [("before", 0), ("after", 1)])
def test_process_killed_at_the_commit_of_a_limited_claim_holds_a_place_or_none(moment, running):
    set_limit(concurrency=1)
    lost, _ = submit_at_shop(2)

    crash(moment, "claim apart", "steps", "victim")

    assert count("running") == running
    assert (claim() is None) == bool(running)
    let_leases_expire()
    recover_expired()
    assert claim().job_id == lost.pk
    assert claim() is None


@pytest.mark.parametrize(("moment", "held"), [("before", 0), ("after", 2)])
def test_process_killed_at_the_commit_of_holding_back_leaves_all_of_it_or_nothing(moment, held):
    set_limit(concurrency=1)
    first, *others = submit_at_shop(3)
    running = claim()

    crash(moment, "claim apart", "steps", "victim")

    assert count("waiting", limited_by=SHOP) == held
    for job in others:
        assert event_numbers(job) == list(range(1, get_job(job).last_event + 1))
    complete(running)
    while wake_held() or runner.run_ready_steps(["steps"]):
        pass
    assert {get_job(job).status for job in (first, *others)} == {Status.COMPLETED}


def test_step_of_a_job_that_ended_meanwhile_is_cancelled_and_takes_no_place():
    set_limit(concurrency=1)
    ending = submit_toy([["a", "b"]], options={"b": {"keys": [SHOP]}})
    a = claim()
    (next_,) = submit_at_shop(1)

    with transaction.atomic():
        # The claim of b has the lock on its row, so that the end of its job passes it over.
        Step.objects.select_for_update().get(job=ending, name="b")
        elsewhere(lambda: steps.fail(a, BusinessError("no", "No.")))
        claimed = claim()

    assert statuses(ending) == {"a": "failed", "b": "cancelled"}
    assert claimed.job_id == next_.pk


def test_job_that_ends_takes_along_what_a_limit_holds_back():
    set_limit(concurrency=1)
    submit_at_shop(1)
    claim()
    ending = submit_toy([["b", "c"]], options={"c": {"keys": [SHOP]}})
    b = claim()
    assert claim() is None

    steps.fail(b, BusinessError("no", "No."))

    assert statuses(ending) == {"b": "failed", "c": "cancelled"}
    assert get_step(ending, "c").limited_by == ""


# --- At once ---------------------------------------------------------------------------------


def test_eight_workers_at_once_do_not_exceed_a_limit():
    for _ in range(10):
        Job.objects.all().delete()
        set_limit(concurrency=3)
        submit_at_shop(20)

        claimed = elsewhere(*[claim] * 8)

        assert len([step for step in claimed if step]) == 3
        assert (count("running"), count("waiting")) == (3, 17)


def test_without_the_lock_on_the_limit_two_workers_would_both_take_the_last_place(monkeypatch):
    """The harm: each counts before the other's claim is committed."""
    set_limit(concurrency=1)
    submit_at_shop(2)
    monkeypatch.setattr(flow.statements, "lock_limits", lambda keys: None)

    with transaction.atomic():
        ours = claim()
        (theirs,) = elsewhere(claim)

    assert (ours is not None, theirs is not None) == (True, True)
    assert count("running") == 2


def test_with_it_the_second_waits_and_finds_the_place_taken():
    set_limit(concurrency=1)
    submit_at_shop(2)

    def claim_and_go_on(seconds):
        with transaction.atomic():
            claimed = claim()
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(%s)", [seconds])
        return claimed

    claimed = elsewhere(*[partial(claim_and_go_on, 0.05)] * 2)

    assert len([step for step in claimed if step]) == 1


class Attendance:
    """How many handlers of each key are at work, and the most there ever were."""

    def __init__(self):
        self.lock, self.now, self.most = Lock(), Counter(), Counter()

    def enter(self, keys):
        with self.lock:
            self.now.update(keys)
            for key in keys:
                self.most[key] = max(self.most[key], self.now[key])

    def leave(self, keys):
        with self.lock:
            self.now.subtract(keys)


def test_storm_exceeds_no_limit_at_any_moment_and_every_job_ends(monkeypatch):
    """Many workers, limits that change, completions, sweeps: no deadlock, no place lost."""
    most = {"vendor:one": 2, "vendor:two": 3, "workflow:toy": 4}
    for key, concurrency in most.items():
        set_limit(key, concurrency=concurrency)
    counter = Attendance()

    def behave(context):
        keys = Step.objects.get(pk=context.claim.id).flow_keys
        counter.enter(keys)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.03)")
        counter.leave(keys)
        return Done()

    names = ["a", "b", "c", "d"]
    BEHAVIOURS.update(dict.fromkeys(names, behave))
    options = {
        "a": {"keys": ["vendor:one"]},
        "b": {"keys": ["vendor:two"]},
        "c": {"keys": ["vendor:one", "vendor:two"]},
    }
    jobs = [submit_toy([["a", "b"], ["c"], ["d"]], options=options) for _ in range(15)]
    end = monotonic() + 40

    def until_all_is_over(act):
        while Step.objects.exclude(status=Status.COMPLETED).exists():
            assert monotonic() < end, Counter(Step.objects.values_list("status", "limited_by"))
            act()

    def work():
        runner.run_ready_steps(["steps"])

    def change():
        flow.pause("vendor:one", by="olga")
        set_limit("vendor:two", concurrency=3, rate=1000, period_seconds=1)
        flow.resume("vendor:one", by="olga")
        set_limit("vendor:two", concurrency=3)

    def mend():
        make_due_ready()
        wake_held()

    elsewhere(*[partial(until_all_is_over, act) for act in [work] * 9 + [mend, change]])

    passed = {key: counter.most[key] for key in most if counter.most[key] > most[key]}
    assert passed == {}
    assert Event.objects.filter(kind="step.limited").count() > len(jobs)
    for job in jobs:
        assert get_job(job).status == Status.COMPLETED
        assert event_numbers(job) == list(range(1, get_job(job).last_event + 1))
        assert event_kinds(job).count("step.completed") == len(names)

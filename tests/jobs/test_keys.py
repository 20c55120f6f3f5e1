"""Flow keys that a step gets once its job runs, and hints to who waits for one of several."""

from datetime import timedelta

import pytest

from jobs import flow, steps
from jobs.errors import LeaseLost
from jobs.keys import set_key
from jobs.models import FlowLimit, Job, Status
from jobs.statements import ClaimedStep
from tests.jobs.rows import get_step
from tests.jobs.workflows import submit_toy

ALICE, BOB = "account:alice", "account:bob"


def claim() -> ClaimedStep | None:
    return steps.claim_next(["steps"], worker="alice")


def complete(step: ClaimedStep) -> ClaimedStep | None:
    return steps.complete(step, {}, queues=["steps"], worker="alice")


def keys_of(job: Job, name: str) -> list[str]:
    return get_step(job, name).flow_keys


def test_step_that_follows_is_claimed_by_the_limit_of_the_key_it_was_given(db):
    flow.set_limit(ALICE, rate=1, period_seconds=3600, by="olga")
    first, second = (submit_toy([["a"], ["b"]]) for _ in range(2))
    for step in [claim(), claim()]:
        assert set_key(step, "account", "alice", of="b")
        assert complete(step) is None  # it may be limited, so it is not claimed inline

    assert claim().job_id == first.pk
    assert claim() is None
    held = get_step(second, "b")
    assert (held.status, held.limited_by) == (Status.WAITING, ALICE)
    assert len(FlowLimit.objects.get().starts) == 1


def test_key_takes_the_place_of_another_of_its_kind(db):
    job = submit_toy([["a"], ["b"]], options={"b": {"keys": [ALICE, "vendor:shop"]}})
    step = claim()

    assert set_key(step, "account", "bob", of="b")
    assert keys_of(job, "b") == [BOB, "vendor:shop", "workflow:toy"]
    assert not set_key(step, "account", "bob", of="b")
    assert set_key(step, "account", None, of="b")
    assert keys_of(job, "b") == ["vendor:shop", "workflow:toy"]
    assert keys_of(job, "a") == ["workflow:toy"]


def test_late_worker_gives_no_key(db):
    job = submit_toy([["a"], ["b"]])
    late = claim()
    steps.release(late)
    claim()

    with pytest.raises(LeaseLost):
        set_key(late, "account", "alice", of="b")

    assert keys_of(job, "b") == ["workflow:toy"]


def test_who_chooses_among_keys_is_told_of_every_place(
    db, monkeypatch, django_capture_on_commit_callbacks
):
    told: list[str] = []
    monkeypatch.setattr(flow, "_wakers", {})
    flow.register_waker("account", told.append)
    submit_toy([["a"]], options={"a": {"keys": [ALICE]}})

    with django_capture_on_commit_callbacks(execute=True):
        flow.set_limit(ALICE, concurrency=1, by="olga")
        flow.set_limit("vendor:shop", concurrency=1, by="olga")
    assert told == ["alice"]

    step = claim()
    assert step.limits == (ALICE,)
    complete(step)
    flow.wake(step.limits)  # as the runner does after each step
    assert told == ["alice", "alice"]


def test_keys_without_a_place_are_told_from_those_with_one(db):
    flow.pause(ALICE, by="olga")
    flow.set_limit(BOB, concurrency=1, by="olga")

    holds = flow.find_holds([ALICE, BOB, "account:carol"])

    assert {key: hold.cause for key, hold in holds.items()} == {ALICE: flow.Cause.PAUSED}


def test_postponed_step_is_brought_forward_and_never_put_off(db):
    late, soon = (submit_toy([["a"]]) for _ in range(2))
    steps.postpone(claim(), delay=timedelta(hours=1), reason="Later.")
    steps.postpone(claim(), delay=timedelta(seconds=5), reason="Soon.")
    before = get_step(soon, "a").due_at
    due_at = before + timedelta(minutes=1)

    flow.bring_forward(Job.objects.filter(pk__in=[late.pk, soon.pk]), due_at)

    assert (get_step(late, "a").due_at, get_step(soon, "a").due_at) == (due_at, before)


def test_step_that_a_limit_holds_back_keeps_its_time(db):
    flow.set_limit("workflow:toy", rate=1, period_seconds=3600, by="olga")
    submit_toy([["a"]])
    held = submit_toy([["a"]])
    claim()
    assert claim() is None
    due_at = get_step(held, "a").due_at
    assert due_at is not None

    flow.bring_forward(Job.objects.filter(pk=held.pk), due_at - timedelta(minutes=1))

    assert get_step(held, "a").due_at == due_at

"""A job keeps the plan that it was started with, and says so where that can no longer be done."""

from dataclasses import replace
from datetime import timedelta

import pytest

from jobs import plans, steps
from jobs.control import rerun_job, resume_job
from jobs.errors import BusinessError, InvalidPlan, TransientError, UnknownOutcome
from jobs.models import Status
from jobs.plans import Done, RetryPolicy, StepPlan, Workflow, check_chain, step_handler
from jobs.runner import runner
from jobs.submit import submit_job
from jobs.sweep import make_due_ready, recover_expired
from tests.jobs.rows import (
    event_kinds,
    get_job,
    get_step,
    let_leases_expire,
    let_waits_end,
    statuses,
)
from tests.jobs.workflows import BEHAVIOURS, submit_toy

pytestmark = pytest.mark.django_db


def run_all() -> int:
    return runner.run_ready_steps(["steps"])


@pytest.fixture
def change(monkeypatch):
    """Has the toy step's handler be another version from now on."""

    def change(version, accepts=()):
        handler = replace(
            plans.get_handler("toy.step"), version=version, accepts=frozenset(accepts)
        )
        monkeypatch.setitem(plans._handlers, "toy.step", handler)

    return change


# --- Handlers --------------------------------------------------------------------------------


def test_step_keeps_the_version_of_the_handler_that_it_was_planned_for(change):
    change(4)
    job = submit_toy([["a"], ["b"]])
    change(5)

    assert set(job.steps.values_list("handler_version", flat=True)) == {4}


def test_step_of_a_changed_handler_goes_to_a_person_and_others_go_on(change):
    job = submit_toy([["a"], ["b"]])
    change(2)
    other = submit_toy([["a"]])
    ran = []
    BEHAVIOURS["a"] = lambda context: ran.append(context.job_id) or Done()

    run_all()

    assert ran == [other.pk]
    assert (get_job(job).status, get_job(other).status) == (Status.MANUAL, Status.COMPLETED)
    assert statuses(job) == {"a": "failed", "b": "cancelled"}
    assert get_job(job).error == {
        "code": "handler_changed",
        "message": "The step was planned for version 1 of its handler 'toy.step', which is version "
        "2 now. See that the change suits this job, then run it again from this step: it uses "
        "version 2 then.",
    }
    assert event_kinds(job)[-1] == "job.manual"


def test_older_worker_does_not_run_what_was_planned_for_a_newer_handler(change):
    change(2)
    job = submit_toy([["a"]])
    change(1, accepts={0})

    run_all()

    assert get_job(job).status == Status.MANUAL


def test_handler_that_accepts_the_older_version_runs_the_step(change):
    job = submit_toy([["a"]])
    change(3, accepts={1, 2})

    run_all()

    assert get_job(job).status == Status.COMPLETED


@pytest.mark.parametrize("go_on", [rerun_job, resume_job])
def test_step_that_a_person_runs_again_uses_the_new_version(go_on, change):
    job = submit_toy([["a"], ["b"]])
    change(2)
    run_all()

    go_on(job.pk, by="alice")

    assert run_all() == 2
    assert get_job(job).status == Status.COMPLETED
    assert set(job.steps.values_list("handler_version", flat=True)) == {2}


def test_handler_that_is_gone_comes_back_and_the_job_goes_on(monkeypatch):
    job = submit_toy([["a"]])
    with monkeypatch.context() as patch:
        patch.delitem(plans._handlers, "toy.step")
        run_all()
        resume_job(job.pk, by="alice")  # too early
        run_all()
    assert (get_job(job).status, get_job(job).error["code"]) == ("manual", "unknown_handler")

    resume_job(job.pk, by="alice")
    run_all()

    assert get_job(job).status == Status.COMPLETED


def test_handler_says_its_version_where_it_is_registered(monkeypatch):
    monkeypatch.setattr(plans, "_handlers", {})

    step_handler("plain", time_limit=timedelta(seconds=1))(lambda context: Done())
    step_handler("newer", time_limit=timedelta(seconds=1), version=3, accepts={2})(
        lambda context: Done()
    )

    plain, newer = plans.get_handler("plain"), plans.get_handler("newer")
    assert (plain.version, plain.accepts) == (1, frozenset())
    assert [version for version in range(5) if newer.fits(version)] == [2, 3]


# --- Retry policies --------------------------------------------------------------------------


def submit(monkeypatch, retry):
    chain = [[StepPlan("a", "Step a", "toy.step", retry=retry)]]
    monkeypatch.setitem(plans._workflows, "own", Workflow("own", 1, lambda params: chain))
    return submit_job("own", {}, title="Own")


def fail_with(error):
    def behave(context):
        raise error

    return behave


TIMED_OUT = TransientError("site_timeout", "No answer.")


def test_policy_of_a_step_goes_before_its_handlers(monkeypatch):
    policy = RetryPolicy(max_attempts=2, first_delay=timedelta(seconds=100), spread=0)
    job = submit(monkeypatch, policy)
    BEHAVIOURS["a"] = fail_with(TIMED_OUT)

    run_all()

    step = get_step(job, "a")
    assert (step.status, step.attempt, step.max_attempts) == (Status.WAITING, 1, 2)
    failed_at = job.events.get(kind="step.retrying").at
    assert abs(step.due_at - failed_at - timedelta(seconds=100)) < timedelta(seconds=5)
    let_waits_end()
    make_due_ready()
    run_all()
    assert get_job(job).status == Status.FAILED
    assert event_kinds(job).count("step.started") == 2


def test_policy_of_a_step_stays_though_its_handlers_changes(monkeypatch):
    policy = RetryPolicy(
        max_attempts=7,
        first_delay=timedelta(milliseconds=1500),
        factor=1.5,
        longest_delay=timedelta(hours=2),
        spread=0.1,
    )
    job = submit(monkeypatch, policy)

    assert RetryPolicy.from_data(get_step(job, "a").retry) == policy


def test_step_without_a_policy_has_its_handlers(monkeypatch):
    job = submit(monkeypatch, None)

    step = get_step(job, "a")
    assert (step.retry, step.max_attempts) == (None, 3)


@pytest.mark.parametrize(
    "error", [TIMED_OUT, ValueError("a bug")], ids=["application", "unexpected"]
)
def test_step_that_is_never_retried_fails_at_its_first_error(error, monkeypatch):
    job = submit(monkeypatch, RetryPolicy.never())
    BEHAVIOURS["a"] = fail_with(error)

    run_all()

    assert get_job(job).status == Status.FAILED
    assert event_kinds(job).count("step.started") == 1


def test_step_that_is_never_retried_is_not_begun_again_when_its_worker_is_lost(monkeypatch):
    job = submit(monkeypatch, RetryPolicy.never())
    steps.claim_next(["steps"], worker="victim")
    let_leases_expire()

    assert recover_expired() == 1

    assert (get_job(job).status, get_job(job).error["code"]) == ("failed", "worker_lost")


def test_step_that_is_never_retried_runs_again_when_a_person_says_so(monkeypatch):
    job = submit(monkeypatch, RetryPolicy.never())
    BEHAVIOURS["a"] = fail_with(TIMED_OUT)
    run_all()
    BEHAVIOURS.clear()

    rerun_job(job.pk, by="alice")
    run_all()

    assert get_job(job).status == Status.COMPLETED


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BusinessError("out_of_stock", "It is sold out."), Status.FAILED),
        (UnknownOutcome("pay_unknown", "It may have been paid."), Status.MANUAL),
    ],
    ids=["business", "unknown"],
)
def test_what_another_attempt_cannot_change_or_must_not_is_not_retried(error, status):
    job = submit_toy([["a"]])
    BEHAVIOURS["a"] = fail_with(error)

    run_all()

    assert get_job(job).status == status
    assert event_kinds(job).count("step.started") == 1


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (RetryPolicy(max_attempts=0), "needs at least 1"),
        (RetryPolicy(first_delay=timedelta(seconds=-1)), "below zero"),
        (RetryPolicy(spread=2), "from 0 to 1"),
    ],
    ids=["attempts", "delay", "spread"],
)
def test_plan_with_a_policy_that_makes_no_sense_is_refused(policy, sentence):
    with pytest.raises(InvalidPlan, match=sentence):
        check_chain([[StepPlan("a", "A", "toy.step", retry=policy)]])

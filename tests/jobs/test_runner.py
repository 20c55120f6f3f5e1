from datetime import timedelta

import pytest

from jobs import leases, plans, steps
from jobs.errors import BusinessError, LeaseLost, Stopped, TransientError
from jobs.leases import LeaseKeeper
from jobs.models import Event, Status, Step
from jobs.plans import Done
from jobs.runner import Runner, runner
from jobs.sweep import recover_expired
from tests.jobs.rows import (
    all_rows,
    event_kinds,
    get_job,
    get_step,
    let_leases_expire,
    statuses,
)
from tests.jobs.workflows import BEHAVIOURS, submit_toy

pytestmark = pytest.mark.django_db


def run_all(runner: Runner = runner) -> int:
    return runner.run_ready_steps(["steps"])


@pytest.fixture
def ran():
    """The steps that were run, in order, with what the handler was given."""
    contexts = []

    def behave(context):
        contexts.append(context)
        return Done({"ran": context.claim.name})

    BEHAVIOURS.update(dict.fromkeys("abcdef", behave))
    return contexts


def names(contexts):
    return [context.claim.name for context in contexts]


# --- Running a chain -------------------------------------------------------------------------


def test_chain_is_run_to_its_end_by_one_call(ran):
    job = submit_toy([["a"], ["b", "c"], ["d"]])

    assert run_all() == 4

    assert names(ran) == ["a", "b", "c", "d"]
    assert get_job(job).status == Status.COMPLETED
    assert get_job(job).result == {"ran": "d"}


def test_following_steps_go_before_other_jobs(ran):
    first, second = submit_toy([["a"], ["b"]]), submit_toy([["a"], ["b"]])

    run_all()

    assert [context.job_id for context in ran] == [first.pk] * 2 + [second.pk] * 2


def test_handler_is_given_its_parameters_and_earlier_outputs(ran):
    job = submit_toy([["a"], ["b"]], options={"b": {"params": {"n": 1}}})

    run_all()

    b = ran[1]
    assert (b.job_id, b.attempt, b.checkpoint) == (job.pk, 1, None)
    assert b.params == {"n": 1}
    assert b.job_params["chain"] == [["a"], ["b"]]
    assert b.output_of("a") == {"ran": "a"}
    assert b.time_limit == timedelta(seconds=60)


def test_steps_of_other_queues_are_not_run(ran):
    job = submit_toy([["a"], ["b"], ["c"]], options={"b": {"queue": "host-7"}})

    assert run_all() == 1
    assert runner.run_ready_steps(["host-7"]) == 1
    assert run_all() == 1
    assert get_job(job).status == Status.COMPLETED


def test_progress_is_written_as_the_handler_reports_it():
    job = submit_toy([["a"]])

    def behave(context):
        context.progress(40, "Opening the product page")
        step = get_step(job, "a")
        assert (step.progress, step.phase) == (40, "Opening the product page")
        return Done()

    BEHAVIOURS["a"] = behave
    run_all()

    event = Event.objects.get(job=job, kind="step.progress")
    assert event.message == "Opening the product page"
    assert event.data == {
        "job": {"progress": 40},
        "step": {"progress": 40, "phase": "Opening the product page"},
    }
    assert (get_step(job, "a").progress, get_step(job, "a").phase) == (100, "")


def test_step_of_an_unknown_handler_goes_to_a_person(monkeypatch):
    job = submit_toy([["a"]])
    monkeypatch.delitem(plans._handlers, "toy.step")

    run_all()

    assert get_job(job).status == Status.MANUAL
    assert get_job(job).error == {
        "code": "unknown_handler",
        "message": "No step handler is called 'toy.step'.",
    }


# --- Being told to stop ----------------------------------------------------------------------


def stop_for(runner: Runner, why: str):
    """A handler that is told to stop while it runs, and heeds it."""

    def behave(context):
        if why == "shutdown":
            runner.stop()
        runner.keeper.stop_all(why)
        assert context.stop.is_set()
        raise Stopped

    return behave


@pytest.mark.django_db(transaction=True)
def test_step_stopped_by_a_shutdown_is_released_with_its_attempt(hints):
    job = submit_toy([["a"], ["b"]])
    leaving = Runner(LeaseKeeper())
    BEHAVIOURS["a"] = stop_for(leaving, "shutdown")
    hints.clear()

    assert run_all(leaving) == 1

    step = get_step(job, "a")
    assert (step.status, step.attempt, step.error) == (Status.READY, 0, None)
    assert event_kinds(job)[-1] == "step.released"
    assert hints.wakes == {"steps": 1}
    BEHAVIOURS.clear()
    assert run_all() == 2
    assert get_step(job, "a").attempt == 1


def test_step_stopped_by_its_time_limit_is_retried():
    job = submit_toy([["a"]])
    BEHAVIOURS["a"] = stop_for(runner, "time_limit")

    run_all()

    step = get_step(job, "a")
    assert (step.status, step.attempt) == (Status.WAITING, 1)
    assert step.error == {"code": "time_limit", "message": "Step a took longer than 60 s."}


def test_step_stopped_for_a_lost_lease_writes_nothing():
    submit_toy([["a"]])
    rows = {}

    def behave(context):
        rows["while it ran"] = all_rows()
        return stop_for(runner, "lease_lost")(context)

    BEHAVIOURS["a"] = behave

    assert run_all() == 1
    assert all_rows() == rows["while it ran"]


@pytest.mark.parametrize(
    "end",
    [
        Done({"n": 1}),
        BusinessError("captcha", "A captcha."),
        TransientError("site_timeout", "No answer."),
        ValueError("a bug"),
        LeaseLost("Step a"),
    ],
    ids=lambda end: type(end).__name__,
)
def test_whatever_a_late_handler_ends_with_is_not_written(end):
    """Its worker was paused past its lease; another has the step, and the worker goes on."""
    job, other = submit_toy([["a"]]), submit_toy([["other"]])
    rows = {}

    def behave(context):
        let_leases_expire("a")
        recover_expired()
        steps.claim_next(["steps"], worker="bob")
        rows["of bob"] = Step.objects.values().get(job=job)
        if isinstance(end, Exception):
            raise end
        return end

    BEHAVIOURS["a"] = behave

    assert run_all() == 2

    assert rows["of bob"]["worker"] == "bob"
    assert Step.objects.values().get(job=job) == rows["of bob"]
    assert get_job(other).status == Status.COMPLETED


def test_stopping_runner_finishes_its_step_and_claims_no_other():
    job = submit_toy([["a"], ["b"]])
    submit_toy([["other"]])
    leaving = Runner(LeaseKeeper())

    def behave(context):
        leaving.stop()
        return Done()

    BEHAVIOURS["a"] = behave

    assert run_all(leaving) == 1
    assert run_all(leaving) == 0

    assert statuses(job) == {"a": "completed", "b": "ready"}


def test_lease_is_held_while_the_handler_runs_and_not_longer():
    submit_toy([["a"]])
    held = []

    def behave(context):
        held.append(runner.keeper.running)
        return Done()

    BEHAVIOURS["a"] = behave

    run_all()

    assert held == [1]
    assert runner.keeper.running == 0


def test_worker_that_dies_at_every_attempt_fails_the_step():
    job = submit_toy([["a"], ["b"]])
    for attempt in (1, 2):
        steps.claim_next(["steps"], worker=f"victim-{attempt}")
        let_leases_expire()
        assert recover_expired() == 1
        step = get_step(job, "a")
        assert (step.status, step.attempt) == (Status.READY, attempt)
    steps.claim_next(["steps"], worker="victim-3")
    let_leases_expire()

    assert recover_expired() == 1

    error = {
        "code": "worker_lost",
        "message": "Step a: the worker was lost in each of 3 attempts.",
    }
    assert (get_job(job).status, get_job(job).error) == (Status.FAILED, error)
    assert statuses(job) == {"a": "failed", "b": "cancelled"}
    assert run_all() == 0


# --- Handlers that do what they should not -----------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "outcome",
    [None, Done({"at": object()}), Done({"n": float("nan")}), Done({"text": "\0"})],
    ids=["nothing", "not JSON", "not a number", "zero byte"],
)
def test_handler_that_returns_nonsense_is_retried_like_one_that_raises(outcome):
    job, other = submit_toy([["a"]]), submit_toy([["other"]])
    BEHAVIOURS["a"] = lambda context: outcome

    run_all()

    step = get_step(job, "a")
    assert (step.status, step.error["code"]) == (Status.WAITING, "unexpected")
    assert get_job(other).status == Status.COMPLETED


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error_type", [BusinessError, TransientError])
def test_long_sentence_of_an_error_is_cut(error_type):
    job = submit_toy([["a"]])

    def behave(context):
        raise error_type("page_changed", "The page says: " + "x" * 5000)

    BEHAVIOURS["a"] = behave

    run_all()

    assert get_step(job, "a").error["code"] == "page_changed"
    assert Event.objects.get(job=job, kind__in=["step.failed", "step.retrying"]).message


def test_long_phase_is_cut():
    job = submit_toy([["a"]])

    def behave(context):
        context.progress(10, "x" * 5000)
        return Done()

    BEHAVIOURS["a"] = behave

    run_all()

    assert get_job(job).status == Status.COMPLETED


# --- The keeper's thread ----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_lease_is_renewed_while_the_handler_is_busy(monkeypatch):
    monkeypatch.setattr(leases, "RENEWAL", timedelta(milliseconds=5))
    job = submit_toy([["a"]])
    expiries = []

    def behave(context):
        first = get_step(job, "a").lease_expires_at
        while (now := get_step(job, "a").lease_expires_at) == first:
            assert not context.stop.wait(0.001)
        expiries.extend([first, now])
        return Done()

    BEHAVIOURS["a"] = behave

    run_all(Runner(LeaseKeeper()))

    assert expiries[0] < expiries[1]
    assert get_job(job).status == Status.COMPLETED

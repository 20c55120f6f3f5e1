"""Rule 6: business errors are never retried, application errors a few times, as rows."""

from datetime import timedelta

import pytest

from jobs import steps
from jobs.errors import BusinessError, TransientError
from jobs.models import Event, Status, Step
from jobs.plans import Done, Postpone
from jobs.runner import runner
from jobs.sweep import make_due_ready
from tests.jobs.rows import all_rows, event_kinds, get_job, get_step, let_waits_end, statuses
from tests.jobs.workflows import BEHAVIOURS, submit_toy

pytestmark = pytest.mark.django_db

SECRET = "correct-horse-1"


def run_all() -> int:
    return runner.run_ready_steps(["steps"])


def raising(error: Exception):
    def behave(context):
        raise error

    return behave


def timed_out(context):
    raise TransientError("site_timeout", f"No answer to attempt {context.attempt}.")


def test_retry_is_a_row_with_the_time_it_is_due():
    job = submit_toy([["a"], ["b"]])
    BEHAVIOURS["a"] = timed_out

    assert run_all() == 1

    step = get_step(job, "a")
    assert (step.status, step.attempt) == (Status.WAITING, 1)
    assert step.error == {"code": "site_timeout", "message": "No answer to attempt 1."}
    assert round((step.due_at - step.started_at).total_seconds()) == 10
    assert step.lease_expires_at is None
    assert get_job(job).status == Status.RUNNING
    assert event_kinds(job) == ["job.created", "step.started", "step.retrying"]


def test_retry_before_its_time_is_left_alone():
    submit_toy([["a"]])
    BEHAVIOURS["a"] = timed_out
    run_all()
    rows = all_rows()

    assert make_due_ready() == 0
    assert run_all() == 0
    assert all_rows() == rows


def test_delays_grow_with_the_attempts():
    job = submit_toy([["a"]])
    BEHAVIOURS["a"] = timed_out
    delays = []

    for _ in range(2):
        run_all()
        events = Event.objects.filter(job=job, kind="step.retrying").order_by("-number")
        step = get_step(job, "a")
        delays.append(round((step.due_at - events[0].at).total_seconds()))
        let_waits_end()
        make_due_ready()

    assert delays == [10, 30]


def test_step_succeeds_at_its_last_attempt():
    job = submit_toy([["a"], ["b"]])
    BEHAVIOURS["a"] = lambda context: Done() if context.attempt == 3 else timed_out(context)

    for _ in range(3):
        run_all()
        let_waits_end()
        make_due_ready()

    step = get_step(job, "a")
    assert (step.status, step.attempt, step.error) == (Status.COMPLETED, 3, None)
    assert get_job(job).status == Status.COMPLETED


def test_step_fails_with_the_error_of_its_last_attempt():
    job = submit_toy([["a"], ["b"]])
    BEHAVIOURS["a"] = timed_out

    for _ in range(5):
        run_all()
        let_waits_end()
        make_due_ready()

    error = {"code": "site_timeout", "message": "No answer to attempt 3."}
    step, job = get_step(job, "a"), get_job(job)
    assert (step.status, step.attempt, step.error) == (Status.FAILED, 3, error)
    assert (job.status, job.error) == (Status.FAILED, error)
    assert event_kinds(job)[-4:] == [
        "step.started",
        "step.failed",
        "step.cancelled",
        "job.failed",
    ]


@pytest.mark.parametrize(
    ("becomes", "status"), [("failed", Status.FAILED), ("manual", Status.MANUAL)]
)
def test_business_error_is_never_retried(becomes, status):
    job = submit_toy([["a", "b"], ["c"]])
    BEHAVIOURS["a"] = raising(BusinessError("captcha", "The shop shows a captcha.", becomes))

    assert run_all() == 1

    error = {"code": "captcha", "message": "The shop shows a captcha."}
    step, job = get_step(job, "a"), get_job(job)
    assert (step.status, step.attempt, step.error) == (Status.FAILED, 1, error)
    assert (job.status, job.error, job.result) == (status, error, None)
    assert statuses(job) == {"a": "failed", "b": "cancelled", "c": "cancelled"}
    assert run_all() == 0


def test_unexpected_error_is_retried_without_saying_what_may_be_secret():
    job = submit_toy([["a"]])
    BEHAVIOURS["a"] = raising(KeyError(f"password={SECRET}"))

    run_all()

    step = get_step(job, "a")
    assert step.status == Status.WAITING
    assert step.error == {
        "code": "unexpected",
        "message": "Step a failed unexpectedly (KeyError); see the worker's log.",
    }
    assert SECRET not in repr(all_rows())


def test_postponed_step_gets_its_attempt_back():
    job = submit_toy([["a"]])
    a = steps.claim_next(["steps"], worker="alice")

    steps.postpone(a, delay=timedelta(minutes=1), reason="No account is free.")

    step = get_step(job, "a")
    assert (step.status, step.attempt, step.error) == (Status.WAITING, 0, None)
    event = Event.objects.get(job=job, kind="step.postponed")
    assert event.message == "No account is free."
    assert round((step.due_at - event.at).total_seconds()) == 60


def test_step_may_be_postponed_more_often_than_it_may_fail():
    job = submit_toy([["a"]])
    BEHAVIOURS["a"] = lambda context: Postpone(timedelta(seconds=1), "No account is free.")

    for _ in range(7):
        assert run_all() == 1
        let_waits_end()
        make_due_ready()

    step = get_step(job, "a")
    assert (step.status, step.attempt, step.fence) == (Status.READY, 0, 7)


def test_postponed_step_keeps_the_attempts_that_failed():
    job = submit_toy([["a"]])
    BEHAVIOURS["a"] = timed_out
    run_all()
    let_waits_end()
    make_due_ready()
    second = steps.claim_next(["steps"], worker="alice")
    assert second.attempt == 2

    steps.postpone(second, delay=timedelta(seconds=1), reason="No account is free.")

    assert get_step(job, "a").attempt == 1


def test_error_of_a_former_attempt_is_gone_when_the_step_runs_again():
    job = submit_toy([["a"]])
    BEHAVIOURS["a"] = timed_out
    run_all()
    let_waits_end()
    make_due_ready()

    steps.claim_next(["steps"], worker="alice")

    assert get_step(job, "a").error is None


def test_one_failing_step_leaves_other_jobs_alone():
    failing, other = submit_toy([["a"], ["b"]]), submit_toy([["x"], ["y"]])
    BEHAVIOURS["a"] = raising(BusinessError("out_of_stock", "It is sold out."))

    run_all()

    assert get_job(failing).status == Status.FAILED
    assert get_job(other).status == Status.COMPLETED


# --- Two siblings, two ends -------------------------------------------------------------------


@pytest.mark.parametrize("first", ["failed", "manual"])
@pytest.mark.parametrize("second", ["failed", "manual"])
def test_first_of_two_failing_siblings_decides_what_becomes_of_the_job(first, second):
    job = submit_toy([["a", "b"]])
    a = steps.claim_next(["steps"], worker="alice")
    b = steps.claim_next(["steps"], worker="alice")
    steps.fail(a, BusinessError("first", "The first."), becomes=Status(first))
    finished_at = get_job(job).finished_at

    steps.fail(b, BusinessError("second", "The second."), becomes=Status(second))

    job = get_job(job)
    assert (job.status, job.finished_at) == (first, finished_at)
    assert job.error == {"code": "first", "message": "The first."}
    assert get_step(job, "b").error == {"code": "second", "message": "The second."}
    assert event_kinds(job)[-3:] == ["step.failed", f"job.{first}", "step.failed"]


@pytest.mark.parametrize(
    "put_off",
    [
        lambda step: steps.retry(step, TransientError("t", "T."), delay=timedelta(seconds=1)),
        lambda step: steps.postpone(step, delay=timedelta(seconds=1), reason="Not now."),
        steps.release,
        steps.recover,
    ],
    ids=["retry", "postpone", "release", "recover"],
)
def test_step_put_off_after_its_job_has_ended_is_cancelled(put_off):
    job = submit_toy([["a", "b"]])
    a = steps.claim_next(["steps"], worker="alice")
    b = steps.claim_next(["steps"], worker="alice")
    steps.fail(a, BusinessError("first", "The first."))

    put_off(b)

    assert get_step(job, "b").status == Status.CANCELLED
    assert event_kinds(job)[-1] == "step.cancelled"
    assert not Step.objects.filter(job=job, status__in=["ready", "waiting"]).exists()

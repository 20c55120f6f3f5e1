"""Rule 9: what a person does to a job: cancel, run again, let go on."""

from contextlib import suppress
from datetime import timedelta
from functools import partial

import pytest
from django.db import transaction

from accounts.models import User
from jobs import control, steps, waits
from jobs.control import cancel_job, rerun_job, resume_job
from jobs.errors import BusinessError, LeaseLost, NotPossible, TransientError
from jobs.leases import LeaseKeeper
from jobs.models import Effect, Job, Status, Step
from jobs.plans import Done, WaitFor
from jobs.runner import Runner, runner
from jobs.sweep import make_due_ready, recover_expired
from tests.jobs import workflows
from tests.jobs.clients import Client, differences, snapshot
from tests.jobs.rivals import elsewhere, just_before
from tests.jobs.rows import (
    all_rows,
    event_kinds,
    event_numbers,
    get_job,
    get_step,
    let_leases_expire,
    let_waits_end,
    statuses,
)
from tests.jobs.workflows import BEHAVIOURS, submit_toy

OUT_OF_STOCK = BusinessError("out_of_stock", "It is sold out.")
CAPTCHA = BusinessError("captcha", "A captcha.")
SOON = timedelta(seconds=10)
MINE = {"queues": ["steps"], "worker": "alice"}


def claim(worker: str = "alice"):
    return steps.claim_next(["steps"], worker=worker)


def complete(step, output=None):
    return steps.complete(step, output or {"ran": step.name}, queues=(), worker="alice")


def run_all() -> int:
    return runner.run_ready_steps(["steps"])


def failing(error):
    def behave(context):
        raise error

    return behave


def failed_job(*, becomes=Status.FAILED, **submission) -> Job:
    """Of four steps in three stages: the first is done, the second failed beside a third."""
    job = submit_toy([["a"], ["b", "c"], ["d"]], **submission)
    complete(claim())
    steps.fail(claim(), OUT_OF_STOCK, becomes=becomes)
    assert statuses(job) == {"a": "completed", "b": "failed", "c": "cancelled", "d": "cancelled"}
    return job


def assert_refused(code, act):
    """The act is refused for this reason, and changes nothing."""
    rows, told = all_rows(), list(workflows.TOLD)
    with pytest.raises(NotPossible) as refusal:
        act()
    assert refusal.value.code == code
    assert all_rows() == rows
    assert told == workflows.TOLD


def assert_clients_follow(client: Client, job: Job) -> None:
    client.follow(job)
    assert differences(client.state, snapshot(job)) == []
    assert event_numbers(job) == list(range(1, get_job(job).last_event + 1))


# --- Cancelling ------------------------------------------------------------------------------


@pytest.mark.django_db
def test_cancelled_job_ends_at_once_with_all_that_has_not_begun():
    job = submit_toy([["a", "b", "c"], ["d"]])
    a, b = claim(), claim()
    complete(a)
    steps.retry(b, TransientError("site_timeout", "No answer."), delay=SOON)
    client = Client(job)

    cancel_job(job.pk, by="alice", reason="Ordered by hand")

    job = get_job(job)
    assert job.status == Status.CANCELLED
    assert job.finished_at is not None
    assert job.error == {
        "code": "cancelled",
        "message": "Cancelled by alice: Ordered by hand",
    }
    assert statuses(job) == {
        "a": "completed",
        "b": "cancelled",
        "c": "cancelled",
        "d": "cancelled",
    }
    assert event_kinds(job)[-1] == "job.cancelled"
    assert_clients_follow(client, job)
    let_waits_end()
    assert (make_due_ready(), run_all()) == (0, 0)


@pytest.mark.django_db
def test_job_that_was_never_started_is_cancelled():
    job = submit_toy([["a"]])

    cancel_job(job.pk, by="alice")

    assert (get_job(job).status, statuses(job)) == (Status.CANCELLED, {"a": "cancelled"})
    assert get_job(job).error["message"] == "Cancelled by alice."
    assert run_all() == 0


@pytest.mark.django_db
def test_cancelling_twice_changes_nothing_more():
    job = submit_toy([["a"]])
    cancel_job(job.pk, by="alice")
    rows = all_rows()

    assert cancel_job(job.pk, by="bob").pk == job.pk

    assert all_rows() == rows


@pytest.mark.django_db
def test_job_that_has_ended_is_not_cancelled():
    job = failed_job()

    assert_refused("job_has_ended", partial(cancel_job, job.pk, by="alice"))


@pytest.mark.django_db
def test_job_with_a_person_is_cancelled_when_it_is_not_needed_any_more():
    job = failed_job(becomes=Status.MANUAL, workflow="toy.with_rows")
    client = Client(job)
    workflows.TOLD.clear()

    cancelled = cancel_job(job.pk, by="alice", reason="Bought by hand")

    job = get_job(job)
    error = {"code": "cancelled", "message": "Cancelled by alice: Bought by hand"}
    assert (cancelled.status, job.status, job.error) == (
        Status.CANCELLED,
        Status.CANCELLED,
        error,
    )
    assert statuses(job) == {"a": "completed", "b": "failed", "c": "cancelled", "d": "cancelled"}
    assert event_kinds(job)[-1] == "job.cancelled"
    assert_clients_follow(client, job)
    told = [(c.job_status, c.step_name, c.step_status, c.error) for c in workflows.TOLD]
    assert told == [("cancelled", "b", "failed", error)]
    rows = all_rows()
    cancel_job(job.pk, by="bob")
    assert all_rows() == rows
    rerun_job(job.pk, by="alice")
    assert run_all() == 3


@pytest.mark.django_db
def test_job_whose_act_nobody_knows_of_is_not_cancelled_until_somebody_says():
    job = failed_job(becomes=Status.MANUAL)
    effect = Effect.objects.create(
        workspace=job.workspace, job=job, key="pay:5", title="Pay ₹6,000", status="unknown"
    )

    assert_refused("outcome_is_unknown", partial(cancel_job, job.pk, by="alice"))
    with pytest.raises(NotPossible, match=r"“Pay ₹6,000”.*say so in the inbox"):
        cancel_job(job.pk, by="alice")

    Effect.objects.filter(pk=effect.pk).update(status="absent")
    assert cancel_job(job.pk, by="alice").status == Status.CANCELLED


@pytest.mark.django_db(transaction=True)
def test_of_cancel_and_resume_at_once_the_later_finds_what_the_earlier_did():
    jobs = [failed_job(becomes=Status.MANUAL) for _ in range(10)]

    def cancel_all():
        return [cancel_job(job.pk, by="bob").status for job in jobs]

    def resume_all():
        done = 0
        for job in jobs:
            with suppress(NotPossible):
                resume_job(job.pk, by="alice")
                done += 1
        return done

    elsewhere(cancel_all, resume_all)

    for job in jobs:
        assert get_job(job).status == Status.CANCELLED
        assert set(statuses(job).values()) <= {"completed", "failed", "cancelled"}
        assert event_numbers(job) == list(range(1, get_job(job).last_event + 1))


@pytest.mark.django_db
def test_cancelling_what_does_not_exist_is_an_error():
    with pytest.raises(Job.DoesNotExist):
        cancel_job(submit_toy([["a"]]).steps.first().pk, by="alice")


@pytest.mark.django_db
def test_running_step_is_told_stops_and_ends_cancelled():
    job = submit_toy([["a"], ["b"]])
    client = Client(job)
    keeper = LeaseKeeper()

    def behave(context):
        cancel_job(job.pk, by="alice")
        assert statuses(job) == {"a": "running", "b": "cancelled"}
        keeper.stop_ended()
        assert context.stop.is_set()
        raise workflows.Stopped

    BEHAVIOURS["a"] = behave

    assert Runner(keeper).run_ready_steps(["steps"]) == 1

    step = get_step(job, "a")
    assert (step.status, step.lease_expires_at, step.error) == (Status.CANCELLED, None, None)
    assert get_job(job).status == Status.CANCELLED
    assert event_kinds(job)[-2:] == ["job.cancelled", "step.stopped"]
    assert_clients_follow(client, job)


LATE_ENDS = {
    "completes": (complete, "completed"),
    "fails": (lambda step: steps.fail(step, OUT_OF_STOCK), "failed"),
    "retries": (lambda step: steps.retry(step, OUT_OF_STOCK, delay=SOON), "cancelled"),
    "postpones": (lambda step: steps.postpone(step, delay=SOON, reason="No"), "cancelled"),
    "shuts down": (steps.release, "cancelled"),
    "stops": (steps.stop, "cancelled"),
    "is lost": (steps.recover, "cancelled"),
}


@pytest.mark.django_db
@pytest.mark.parametrize(("end", "status"), LATE_ENDS.values(), ids=LATE_ENDS.keys())
def test_however_a_step_of_a_cancelled_job_ends_the_job_stays_cancelled(end, status):
    job = submit_toy([["a"], ["b"]])
    client = Client(job)
    a = claim()
    cancel_job(job.pk, by="alice")
    error = get_job(job).error

    end(a)

    assert (get_job(job).status, get_job(job).error) == (Status.CANCELLED, error)
    assert statuses(job) == {"a": status, "b": "cancelled"}
    assert_clients_follow(client, job)
    assert run_all() == 0


@pytest.mark.django_db
def test_step_of_a_job_that_goes_on_is_not_stopped():
    submit_toy([["a"]])
    a = claim()
    rows = all_rows()

    with pytest.raises(LeaseLost):
        steps.stop(a)

    assert all_rows() == rows


@pytest.mark.django_db(transaction=True)
def test_cancel_between_claim_and_completion_opens_nothing(monkeypatch):
    job = submit_toy([["a"], ["b"]])
    a = claim()
    just_before(
        monkeypatch,
        steps.statements,
        "complete_steps",
        lambda: cancel_job(job.pk, by="bob"),
    )

    assert steps.complete(a, {}, **MINE) is None

    assert get_job(job).status == Status.CANCELLED
    assert statuses(job) == {"a": "completed", "b": "cancelled"}


@pytest.mark.django_db(transaction=True)
def test_completion_that_commits_first_leaves_nothing_to_cancel(monkeypatch):
    job = submit_toy([["a"]])
    a = claim()
    just_before(monkeypatch, steps, "end_job", lambda: complete(a))

    with pytest.raises(NotPossible, match="completed"):
        cancel_job(job.pk, by="bob")

    assert get_job(job).status == Status.COMPLETED


@pytest.mark.django_db(transaction=True)
def test_cancel_and_completion_at_once_end_in_one_of_the_two():
    jobs = [submit_toy([["a"], ["b"]], workflow="toy.with_rows") for _ in range(10)]
    clients = [Client(job) for job in jobs]
    claims = [claim() for _ in jobs]

    def complete_all():
        return [steps.complete(each, {}, **MINE) for each in claims]

    def cancel_all():
        return [cancel_job(job.pk, by="bob").status for job in jobs]

    elsewhere(complete_all, cancel_all)

    for job, client in zip(jobs, clients, strict=True):
        assert get_job(job).status == Status.CANCELLED
        assert statuses(job)["a"] == "completed"
        assert statuses(job)["b"] in ("running", "cancelled")
        assert_clients_follow(client, job)


@pytest.mark.django_db(transaction=True)
def test_step_that_is_claimed_during_the_cancel_does_not_run():
    job = submit_toy([["a"]])

    with transaction.atomic():
        # The claim of a has the lock on its row, so that the cancel passes it over.
        Step.objects.select_for_update().get(job=job)
        elsewhere(lambda: cancel_job(job.pk, by="bob"))
        assert claim() is None

    assert (get_job(job).status, statuses(job)) == (Status.CANCELLED, {"a": "cancelled"})


@pytest.mark.django_db(transaction=True)
def test_pages_are_told_of_a_cancel(hints):
    job = submit_toy([["a"]])
    hints.clear()

    cancel_job(job.pk, by="alice")

    assert set(hints.changed) == {str(job.pk)}
    assert not hints.wakes


@pytest.mark.django_db
def test_workflow_is_told_of_the_cancel_and_of_the_end_of_what_still_ran():
    job = submit_toy([["a"], ["b"]], workflow="toy.with_rows")
    a = claim()
    workflows.TOLD.clear()

    cancel_job(job.pk, by="alice")
    steps.stop(a)

    told = [(c.job_status, c.step_name, c.step_status, c.attempt) for c in workflows.TOLD]
    assert told == [("cancelled", "a", "running", 1), ("cancelled", "a", "cancelled", 1)]
    assert workflows.TOLD[0].error == {"code": "cancelled", "message": "Cancelled by alice."}


# --- Running again ---------------------------------------------------------------------------


@pytest.mark.django_db
def test_failed_job_goes_on_from_its_failed_step_and_keeps_what_was_done():
    job = failed_job()
    client = Client(job)

    rerun_job(job.pk, by="alice")

    job = get_job(job)
    assert (job.status, job.error, job.started_at, job.finished_at) == ("pending", None, None, None)
    assert (job.stage, job.stage_open, job.weight_done, job.progress) == (1, 2, 1, 25)
    assert statuses(job) == {"a": "completed", "b": "ready", "c": "ready", "d": "pending"}
    assert get_step(job, "a").output == {"ran": "a"}
    assert event_kinds(job)[-4:] == ["job.rerun", "step.ready", "step.ready", "step.reset"]
    assert job.events.get(kind="job.rerun").message == "alice had it run again from “Step b”."
    assert_clients_follow(client, job)

    assert run_all() == 3

    assert get_job(job).status == Status.COMPLETED
    assert (get_job(job).weight_done, get_job(job).progress) == (4, 100)
    assert set(statuses(job).values()) == {"completed"}
    assert_clients_follow(client, job)


@pytest.mark.django_db
def test_step_that_runs_again_begins_anew_but_for_its_checkpoint_and_its_token():
    job = submit_toy([["a"], ["b"]])
    a = claim()
    steps.save_checkpoint(a, {"clicked": True})
    steps.report_progress(a, 50, "Half way")
    steps.fail(a, OUT_OF_STOCK)

    rerun_job(job.pk, "a", by="alice")

    step = get_step(job, "a")
    assert step.checkpoint == {"clicked": True}
    assert step.fence == 1
    assert (step.attempt, step.progress, step.phase, step.error) == (0, 0, "", None)
    assert (step.output, step.worker, step.started_at, step.finished_at) == (None, "", None, None)
    assert step.due_at is not None
    again = claim("bob")
    assert (again.checkpoint, again.fence, again.attempt) == ({"clicked": True}, 2, 1)


@pytest.mark.django_db
def test_completed_job_runs_again_from_a_step_and_drops_the_later_outputs():
    job = submit_toy([["a"], ["b"], ["c"]])
    run_all()
    client = Client(job)

    rerun_job(job.pk, "b", by="alice")

    job = get_job(job)
    assert (job.status, job.result, job.progress, job.stage) == ("pending", None, 33, 1)
    assert {step.name: step.output for step in job.steps.all()} == {
        "a": {"ran": "a"},
        "b": None,
        "c": None,
    }
    assert_clients_follow(client, job)
    assert run_all() == 2
    assert (get_job(job).status, get_job(job).result) == ("completed", {"ran": "c"})


@pytest.mark.django_db
def test_done_sibling_is_run_again_only_where_it_is_the_step_that_was_named():
    job = submit_toy([["a", "b"], ["c"]])
    complete(claim())
    steps.fail(claim(), OUT_OF_STOCK)

    rerun_job(job.pk, "b", by="alice")
    assert statuses(job) == {"a": "completed", "b": "ready", "c": "pending"}
    assert (get_job(job).stage_open, get_job(job).weight_done) == (1, 1)

    steps.fail(claim(), OUT_OF_STOCK)
    rerun_job(job.pk, "a", by="alice")
    assert statuses(job) == {"a": "ready", "b": "ready", "c": "pending"}
    assert (get_job(job).stage_open, get_job(job).weight_done) == (2, 0)
    assert run_all() == 3
    assert get_job(job).status == Status.COMPLETED


@pytest.mark.django_db
def test_cancelled_job_runs_again():
    job = submit_toy([["a"], ["b"]])
    cancel_job(job.pk, by="alice")

    rerun_job(job.pk, by="alice")

    assert run_all() == 2
    assert get_job(job).status == Status.COMPLETED


@pytest.mark.django_db
@pytest.mark.parametrize("start", [None, "a"])
def test_job_under_way_is_not_run_again(start):
    job = submit_toy([["a"], ["b"]])
    claim()

    assert_refused("job_has_not_ended", partial(rerun_job, job.pk, start, by="alice"))


@pytest.mark.django_db
def test_completed_job_is_run_again_only_from_a_step_that_is_named():
    job = submit_toy([["a"]])
    run_all()

    assert_refused("nothing_left_to_do", partial(rerun_job, job.pk, by="alice"))


@pytest.mark.django_db
def test_job_is_not_run_again_from_a_step_that_it_does_not_have():
    job = failed_job()

    assert_refused("unknown_step", partial(rerun_job, job.pk, "z", by="alice"))


@pytest.mark.django_db
def test_job_is_not_run_again_from_behind_a_step_that_was_never_done():
    job = failed_job()

    assert_refused("earlier_step_not_done", partial(rerun_job, job.pk, "d", by="alice"))


@pytest.mark.django_db
def test_job_is_not_run_again_while_a_step_of_it_is_still_being_stopped():
    job = submit_toy([["a"]])
    a = claim()
    cancel_job(job.pk, by="alice")

    assert_refused("step_still_stopping", partial(rerun_job, job.pk, by="alice"))

    steps.stop(a)
    rerun_job(job.pk, by="alice")
    assert statuses(job) == {"a": "ready"}


@pytest.mark.django_db
def test_worker_that_died_with_a_step_of_a_cancelled_job_blocks_no_rerun():
    job = submit_toy([["a"]])
    claim()
    cancel_job(job.pk, by="alice")
    let_leases_expire()
    recover_expired()

    rerun_job(job.pk, by="alice")

    assert run_all() == 1
    assert get_job(job).status == Status.COMPLETED


LATE_WRITES = {
    "complete": complete,
    "retry": lambda step: steps.retry(step, OUT_OF_STOCK, delay=SOON),
    "postpone": lambda step: steps.postpone(step, delay=SOON, reason="Not now."),
    "suspend": lambda step: steps.suspend(step, WaitFor([waits.timer("t", SOON)], "Later")),
    "release": steps.release,
    "recover": steps.recover,
    "fail": lambda step: steps.fail(step, OUT_OF_STOCK),
    "stop": steps.stop,
    "report progress": lambda step: steps.report_progress(step, 50, "Half way"),
    "save checkpoint": lambda step: steps.save_checkpoint(step, {"n": 1}),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_claimed_again", [False, True], ids=["ready", "claimed again"])
@pytest.mark.parametrize("write", LATE_WRITES.values(), ids=LATE_WRITES.keys())
def test_late_worker_of_the_former_run_can_change_nothing_of_the_next(write, is_claimed_again):
    """It did not heed that it should stop; its lease ended, and the job was run again."""
    job = submit_toy([["a"], ["b"]], workflow="toy.with_rows")
    late = claim()
    cancel_job(job.pk, by="alice")
    let_leases_expire()
    recover_expired()
    rerun_job(job.pk, by="alice")
    if is_claimed_again:
        claim("bob")
    rows, told = all_rows(), list(workflows.TOLD)

    with pytest.raises(LeaseLost):
        write(late)

    assert all_rows() == rows
    assert told == workflows.TOLD


@pytest.mark.django_db(transaction=True)
def test_late_step_that_ends_just_before_the_rerun_keeps_its_output(monkeypatch):
    job = submit_toy([["a", "b"], ["c"]])
    a, b = claim(), claim()
    steps.fail(a, OUT_OF_STOCK)
    just_before(monkeypatch, control.Step.objects, "filter", lambda: complete(b))

    rerun_job(job.pk, by="bob")

    assert statuses(job) == {"a": "ready", "b": "completed", "c": "pending"}
    assert (get_job(job).stage_open, get_job(job).weight_done) == (1, 1)
    assert run_all() == 2
    assert (get_job(job).status, get_job(job).weight_done) == ("completed", 3)


@pytest.mark.django_db(transaction=True)
def test_late_workers_and_reruns_at_once_neither_block_nor_spoil_each_other():
    jobs = [submit_toy([["a", "b"], ["c"]], workflow="toy.with_rows") for _ in range(10)]
    clients = [Client(job) for job in jobs]
    late = []
    for _ in jobs:
        first, second = claim(), claim()
        steps.fail(first, OUT_OF_STOCK)
        late.append(second)

    def finish():
        return [complete(step) for step in late]

    def run_again():
        for job in jobs:
            with suppress(NotPossible):  # still stopping, or run again by the other
                rerun_job(job.pk, by="bob")

    elsewhere(finish, run_again, run_again)
    for job in jobs:
        if get_job(job).status == Status.FAILED:
            rerun_job(job.pk, by="bob")
    run_all()

    for job, client in zip(jobs, clients, strict=True):
        assert (get_job(job).status, get_job(job).weight_done) == ("completed", 3)
        assert event_kinds(job).count("job.rerun") == 1
        assert_clients_follow(client, job)


@pytest.mark.django_db(transaction=True)
def test_eight_reruns_at_once_are_one():
    job = failed_job()

    def run_again():
        try:
            return rerun_job(job.pk, by="bob").pk
        except NotPossible as refusal:
            return refusal.code

    outcomes = elsewhere(*[run_again] * 8)

    assert sorted(map(str, outcomes)) == sorted([str(job.pk), *["job_has_not_ended"] * 7])
    assert event_kinds(job).count("job.rerun") == 1


@pytest.mark.django_db(transaction=True)
def test_workers_are_woken_for_what_runs_again(hints):
    job = failed_job()
    hints.clear()

    rerun_job(job.pk, by="alice")

    assert hints.wakes == {"steps": 2}
    assert set(hints.changed) == {str(job.pk)}


@pytest.mark.django_db
def test_workflow_is_told_from_where_the_job_goes_on():
    job = failed_job(workflow="toy.with_rows")
    workflows.TOLD.clear()

    rerun_job(job.pk, by="alice")

    (told,) = workflows.TOLD
    assert (told.job_status, told.step_name, told.step_status) == ("pending", "b", "ready")
    assert (told.attempt, told.error, told.params) == (0, None, get_job(job).params)


@pytest.mark.django_db
def test_answer_to_a_former_run_is_none_to_the_next():
    job = submit_toy([["a"]])
    asked = WaitFor([waits.approval("buy", "Buy it?")], "Asking")
    found = []

    def behave(context):
        answer = context.find_answer("buy")
        found.append(answer and answer.data)
        if answer is None:
            return asked
        raise CAPTCHA if answer.data["choice"] == "reject" else ValueError

    BEHAVIOURS["a"] = behave
    run_all()
    waits.choose(job.waits.get(), "reject", by=User.objects.create_user("alice"))
    run_all()
    assert get_job(job).status == Status.FAILED

    rerun_job(job.pk, by="alice")
    run_all()

    assert found == [None, {"choice": "reject"}, None]
    assert get_step(job, "a").status == Status.WAITING
    assert [wait.status for wait in job.waits.order_by("id")] == ["answered", "open"]


# --- Letting go on ----------------------------------------------------------------------------


@pytest.mark.django_db
def test_job_with_a_person_goes_on_where_it_stood():
    job = failed_job(becomes=Status.MANUAL)
    client = Client(job)

    resume_job(job.pk, by="alice")

    assert statuses(job) == {"a": "completed", "b": "ready", "c": "ready", "d": "pending"}
    assert job.events.get(kind="job.resumed").message == "alice had it go on from “Step b”."
    assert_clients_follow(client, job)
    assert run_all() == 3
    assert get_job(job).status == Status.COMPLETED


@pytest.mark.django_db
def test_only_a_job_that_is_with_a_person_is_let_go_on():
    job = failed_job()

    assert_refused("job_is_not_with_a_person", partial(resume_job, job.pk, by="alice"))


@pytest.mark.django_db
def test_job_can_be_run_again_time_after_time():
    job = submit_toy([["a"], ["b"]])
    BEHAVIOURS["b"] = failing(CAPTCHA)
    run_all()
    client = Client(job)
    for _ in range(3):
        rerun_job(job.pk, by="alice")
        run_all()
        assert statuses(job) == {"a": "completed", "b": "failed"}

    BEHAVIOURS["b"] = lambda context: Done({"n": context.attempt})
    rerun_job(job.pk, by="alice")
    run_all()

    assert (get_job(job).status, get_job(job).result) == ("completed", {"n": 1})
    assert get_step(job, "b").fence == 5
    assert_clients_follow(client, job)

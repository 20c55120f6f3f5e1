"""Rule 4: an outcome, what it opens, progress and events are one transaction."""

import pytest
from django.db import IntegrityError, transaction
from django.db.models import Max

from jobs import steps
from jobs.errors import BusinessError, LeaseLost
from jobs.models import Event, Job, Status, Step
from tests.jobs import workflows
from tests.jobs.rivals import elsewhere
from tests.jobs.rows import (
    all_rows,
    event_kinds,
    event_numbers,
    get_job,
    get_step,
    statuses,
)
from tests.jobs.workflows import submit_toy


def claim(worker: str = "alice"):
    return steps.claim_next(["steps"], worker=worker)


def complete(step, output=None, *, queues=("steps",), worker="alice"):
    return steps.complete(step, output or {}, queues=queues, worker=worker)


# --- What follows ----------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_one_step_that_follows_is_claimed_with_the_completion():
    job = submit_toy([["a"], ["b"], ["c"]])

    following = complete(claim(), {"n": 1})

    a, b = get_step(job, "a"), get_step(job, "b")
    assert (a.status, a.output, a.progress) == (Status.COMPLETED, {"n": 1}, 100)
    assert a.lease_expires_at is None
    assert (following.id, following.fence, following.attempt) == (b.pk, 1, 1)
    assert (b.status, b.worker, b.fence, b.attempt) == (Status.RUNNING, "alice", 1, 1)
    assert b.lease_expires_at - b.started_at == steps.LEASE
    assert get_step(job, "c").status == Status.PENDING


@pytest.mark.django_db
def test_completing_and_claiming_what_follows_is_one_statement(django_assert_num_queries):
    submit_toy([["a"], ["b"]])
    a = claim()

    with django_assert_num_queries(1):
        complete(a)


@pytest.mark.django_db(transaction=True)
def test_following_step_of_another_queue_is_made_ready_for_its_workers(hints):
    job = submit_toy([["a"], ["b"]], options={"b": {"queue": "host-7"}})
    a = claim()
    hints.clear()

    following = complete(a)

    b = get_step(job, "b")
    assert following is None
    assert (b.status, b.fence, b.attempt, b.worker) == (Status.READY, 0, 0, "")
    assert b.due_at == get_step(job, "a").finished_at
    assert hints.wakes == {"host-7": 1}


@pytest.mark.django_db(transaction=True)
def test_worker_that_serves_no_queue_any_more_leaves_what_follows_to_others(hints):
    job = submit_toy([["a"], ["b"]])
    a = claim()
    hints.clear()

    assert complete(a, queues=()) is None
    assert get_step(job, "b").status == Status.READY
    assert hints.wakes == {"steps": 1}


@pytest.mark.django_db(transaction=True)
def test_group_that_follows_is_made_ready_with_a_wake_up_call_for_each_step(hints):
    job = submit_toy([["a"], ["b", "c", "d"]], options={"c": {"queue": "host-7"}})
    a = claim()
    hints.clear()

    following = complete(a)

    assert following is None
    assert statuses(job) == {"a": "completed", "b": "ready", "c": "ready", "d": "ready"}
    assert hints.wakes == {"steps": 2, "host-7": 1}
    assert get_job(job).stage_open == 3


@pytest.mark.django_db
def test_next_group_waits_for_the_last_of_its_predecessors():
    job = submit_toy([["a", "b", "c"], ["d"]])
    a, b, c = claim(), claim(), claim()

    assert complete(b) is None
    assert complete(a) is None
    assert get_step(job, "d").status == Status.PENDING
    assert complete(c).name == "d"


@pytest.mark.django_db
def test_last_step_completes_the_job_with_its_output():
    job = submit_toy([["a"], ["b"]])

    assert complete(complete(claim(), {"n": 1}), {"n": 2}) is None

    job = get_job(job)
    assert (job.status, job.progress, job.result) == (Status.COMPLETED, 100, {"n": 2})
    assert job.finished_at == get_step(job, "b").finished_at
    assert event_kinds(job) == [
        "job.created",
        "step.started",
        "step.completed",
        "step.started",
        "step.completed",
        "job.completed",
    ]


@pytest.mark.django_db
def test_events_of_a_chain_of_groups_have_their_numbers_in_order():
    job = submit_toy([["a", "b"], ["c", "d", "e"], ["f"]])

    for _ in range(5):
        complete(claim(), queues=())
    complete(claim())

    assert event_numbers(job) == list(range(1, get_job(job).last_event + 1))
    assert event_kinds(job) == [
        "job.created",
        *["step.started", "step.completed"],
        *["step.started", "step.completed", "step.ready", "step.ready", "step.ready"],
        *["step.started", "step.completed"] * 2,
        *["step.started", "step.completed", "step.ready"],
        *["step.started", "step.completed", "job.completed"],
    ]


# --- Progress --------------------------------------------------------------------------------


@pytest.mark.django_db
def test_progress_of_a_job_is_the_weight_of_what_is_done():
    job = submit_toy([["a"], ["b"]], options={"a": {"weight": 1}, "b": {"weight": 9}})

    b = complete(claim())
    assert get_job(job).progress == 10
    steps.report_progress(b, 50, "Half way")
    assert get_job(job).progress == 55
    complete(b)
    assert get_job(job).progress == 100


@pytest.mark.django_db
def test_progress_stays_below_100_until_the_end():
    job = submit_toy([["a"]])

    steps.report_progress(claim(), 100, "All but done")

    assert (get_step(job, "a").progress, get_job(job).progress) == (99, 99)


@pytest.mark.django_db
def test_progress_does_not_go_back_when_a_step_starts_again():
    job = submit_toy([["a"]])
    a = claim()
    steps.report_progress(a, 80, "Nearly")
    steps.release(a)

    steps.report_progress(claim(), 10, "Once more")

    assert (get_step(job, "a").progress, get_job(job).progress) == (10, 80)


@pytest.mark.django_db
def test_progress_does_not_go_back_when_a_small_step_completes_beside_a_large_one():
    job = submit_toy([["large", "small"]], options={"large": {"weight": 9}})
    large, small = claim(), claim()
    steps.report_progress(large, 90, "Nearly")
    assert get_job(job).progress == 81

    complete(small)

    assert get_job(job).progress == 81


# --- Finishers at once -----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_concurrent_finishers_open_the_next_stage_exactly_once():
    for _ in range(25):
        job = submit_toy([["a", "b", "c", "d"], ["e"], ["f", "g"]])
        group = [claim() for _ in range(4)]

        following = elsewhere(*[lambda step=step: complete(step) for step in group])

        (e,) = [step for step in following if step]
        assert e.name == "e"
        assert get_step(job, "e").fence == 1
        complete(e)
        pair = [claim(), claim()]
        assert elsewhere(*[lambda step=step: complete(step) for step in pair]) == [None, None]
        assert get_job(job).status == Status.COMPLETED
        assert event_numbers(job) == list(range(1, get_job(job).last_event + 1))
        assert event_kinds(job).count("job.completed") == 1


@pytest.mark.django_db(transaction=True)
def test_without_the_count_on_the_job_two_finishers_would_both_leave_the_next_stage_closed():
    """The harm: each looks for unfinished siblings and sees the other's, not committed yet."""
    job = submit_toy([["a", "b"], ["c"]])
    a, b = claim(), claim()

    def finish_by_looking(step):
        Step.objects.filter(pk=step.id).update(status=Status.COMPLETED)
        siblings = Step.objects.filter(job=job, stage=0).exclude(status=Status.COMPLETED)
        if not siblings.exists():
            Step.objects.filter(job=job, stage=1).update(status=Status.READY)

    with transaction.atomic():
        finish_by_looking(a)
        elsewhere(lambda: finish_by_looking(b))

    assert statuses(job) == {"a": "completed", "b": "completed", "c": "pending"}


@pytest.mark.django_db(transaction=True)
def test_without_the_lock_on_the_job_two_events_would_have_one_number():
    """The harm: the newest number is read, not counted up under a lock."""
    job = submit_toy([["a"]])

    def next_number():
        return 1 + Event.objects.filter(job=job).aggregate(Max("number"))["number__max"]

    def append_by_looking():
        Event.objects.create(job=job, number=next_number(), kind="test")

    number = next_number()
    elsewhere(append_by_looking)
    with pytest.raises(IntegrityError, match="event_number"):
        Event.objects.create(job=job, number=number, kind="test")


# --- Workflows with rows of their own ---------------------------------------------------------


@pytest.mark.django_db
def test_workflow_is_told_of_each_change_in_its_transaction():
    submit_toy([["a"], ["b"]], workflow="toy.with_rows")

    complete(complete(claim(), {"n": 1}), {"n": 2})

    assert [
        (told.job_status, told.step_name, told.step_status, told.output) for told in workflows.TOLD
    ] == [
        ("running", "a", "running", None),
        ("running", "a", "completed", {"n": 1}),
        ("running", "b", "running", None),
        ("completed", "b", "completed", {"n": 2}),
    ]


@pytest.mark.django_db(transaction=True)
def test_completion_that_the_workflow_cannot_follow_is_not_written(hints, monkeypatch):
    submit_toy([["a"], ["b"]], workflow="toy.with_rows")
    a = claim()
    rows = all_rows()
    hints.clear()

    def refuse(change):
        raise IntegrityError("a row of the workflow's own")

    monkeypatch.setattr(steps, "find_on_change", lambda workflow: refuse)
    with pytest.raises(IntegrityError):
        complete(a)

    assert all_rows() == rows
    assert not hints.wakes
    assert not hints.changed


# --- After the job has ended ------------------------------------------------------------------


@pytest.fixture
def beside_a_failed_step():
    """A running step of a job that a sibling has just ended."""
    submit_toy([["failed", "running"], ["next"]], workflow="toy.with_rows")
    failed, running = claim(), claim()
    steps.fail(failed, BusinessError("captcha", "A captcha."), becomes=Status.MANUAL)
    return running


@pytest.mark.django_db
def test_completion_after_the_job_has_ended_opens_nothing(beside_a_failed_step):
    assert complete(beside_a_failed_step) is None

    job = Job.objects.get()
    assert job.status == Status.MANUAL
    assert statuses(job) == {"failed": "failed", "running": "completed", "next": "cancelled"}


@pytest.mark.django_db
def test_completion_after_the_job_has_ended_is_an_event_too(beside_a_failed_step):
    complete(beside_a_failed_step)

    assert event_kinds(Job.objects.get())[-1] == "step.completed"


@pytest.mark.django_db
def test_workflow_is_told_the_true_status_of_an_ended_job(beside_a_failed_step):
    complete(beside_a_failed_step)

    assert workflows.TOLD[-1].job_status == Status.MANUAL


@pytest.mark.django_db
def test_completing_a_second_time_changes_nothing():
    submit_toy([["a"]])
    a = claim()
    complete(a, {"n": 1})
    rows = all_rows()

    with pytest.raises(LeaseLost):
        complete(a, {"n": 2})

    assert all_rows() == rows

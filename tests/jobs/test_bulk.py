"""Rule 9: many jobs at once, by a filter."""

import pytest

from jobs import bulk, control, steps
from jobs.bulk import Action, JobFilter, apply
from jobs.errors import BusinessError, InvalidFilter
from jobs.models import Job, Status
from jobs.runner import runner
from tests.jobs.rivals import just_before
from tests.jobs.rows import all_rows, event_kinds, get_job
from tests.jobs.workflows import submit_toy


def end(job, *, code="out_of_stock", becomes=Status.FAILED):
    step = steps.claim_next(["steps"], worker="w")
    assert step.job_id == job.pk
    steps.fail(step, BusinessError(code, "No."), becomes=becomes)
    return job


def found(action, **conditions):
    return set(JobFilter(**conditions).jobs(action, Job.objects.all()))


@pytest.mark.django_db
def test_filter_means_the_jobs_for_which_all_of_it_holds():
    sold_out = end(submit_toy([["a"]], options={"vendor": "v"}))
    refused = end(submit_toy([["a"]]), code="captcha", becomes=Status.MANUAL)
    completed = submit_toy([["a"]])
    runner.run_ready_steps(["steps"])
    pending, other = submit_toy([["a"]]), submit_toy([["a"]], workflow="toy.with_rows")

    assert found(Action.CANCEL, workflow="toy") == {pending}
    assert found(Action.CANCEL, workflow="toy.with_rows") == {other}
    assert found(Action.RERUN, workflow="toy") == {sold_out, refused}
    assert found(Action.RERUN, status=[Status.COMPLETED]) == {completed}
    assert found(Action.RESUME, workflow="toy") == {refused}
    assert found(Action.RERUN, error_code="captcha") == {refused}
    assert found(Action.RERUN, error_code="captcha", status=[Status.FAILED]) == set()
    assert found(Action.RERUN, ids=[sold_out.pk, pending.pk]) == {sold_out}
    assert found(Action.RERUN, created_after=get_job(refused).created_at) == {refused}
    assert found(Action.RERUN, created_before=get_job(refused).created_at) == {sold_out}
    assert found(Action.RERUN, params={"options": {"vendor": "v"}}) == {sold_out}


@pytest.mark.django_db
def test_parameters_are_compared_by_value_and_type():
    for n in (1, "1", None, True):
        submit_toy([["a"]], ledger=None)
        Job.objects.filter(pk=Job.objects.first().pk).update(params={"n": n, "other": 1})

    def count(**params):
        return len(found(Action.CANCEL, params=params))

    assert [count(n=1), count(n="1"), count(n=None), count(n=True)] == [1, 1, 1, 1]
    assert [count(other=1), count(n=1, other=1), count(n=2), count(m=1)] == [4, 1, 0, 0]


@pytest.mark.django_db
def test_empty_filter_means_nothing():
    with pytest.raises(InvalidFilter, match="empty"):
        found(Action.CANCEL)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("action", "status"),
    [
        (Action.CANCEL, Status.COMPLETED),
        (Action.RERUN, Status.RUNNING),
        (Action.RESUME, Status.FAILED),
    ],
)
def test_status_that_an_action_is_not_for_is_refused(action, status):
    with pytest.raises(InvalidFilter, match=f"{status} cannot be named"):
        found(action, status=[status])


@pytest.mark.django_db
def test_manual_work_is_cancelled_only_where_it_is_named():
    manual = [end(submit_toy([["a"]]), becomes=Status.MANUAL) for _ in range(2)]
    pending = submit_toy([["a"]])

    assert found(Action.CANCEL, workflow="toy") == {pending}
    named = JobFilter(status=[Status.MANUAL]).jobs(Action.CANCEL, Job.objects.all())
    applied = apply(Action.CANCEL, named, by="alice", reason="Bought by hand")

    assert (applied.done, applied.skipped) == (2, 0)
    assert [get_job(job).status for job in [*manual, pending]] == [
        "cancelled",
        "cancelled",
        "pending",
    ]


@pytest.mark.django_db
def test_each_job_is_done_once_and_a_second_time_there_is_nothing_left(monkeypatch):
    monkeypatch.setattr(bulk, "BATCH", 2)
    jobs = [submit_toy([["a"]]) for _ in range(5)]

    def cancel():
        pending = JobFilter(workflow="toy").jobs(Action.CANCEL, Job.objects.all())
        return apply(Action.CANCEL, pending, by="alice", reason="Stocktaking")

    first = cancel()
    rows = all_rows()
    second = cancel()

    assert (first.done, first.skipped, first.last) == (5, 0, None)
    assert (second.done, second.skipped) == (0, 0)
    assert all_rows() == rows
    for job in jobs:
        assert get_job(job).error["message"] == "Cancelled by alice: Stocktaking"
        assert event_kinds(job).count("job.cancelled") == 1


@pytest.mark.django_db
def test_job_that_fails_again_at_once_is_not_run_a_third_time(monkeypatch):
    monkeypatch.setattr(bulk, "BATCH", 1)
    jobs = [end(submit_toy([["a"]])) for _ in range(3)]
    rerun_job = control.rerun_job

    def rerun_and_fail(job_id, from_step, *, by):
        return end(rerun_job(job_id, from_step, by=by))

    monkeypatch.setattr(control, "rerun_job", rerun_and_fail)

    failed = JobFilter(error_code="out_of_stock").jobs(Action.RERUN, Job.objects.all())
    applied = apply(Action.RERUN, failed, by="alice")

    assert applied.done == 3
    assert [event_kinds(job).count("job.rerun") for job in jobs] == [1, 1, 1]


@pytest.mark.django_db
def test_job_that_comes_meanwhile_is_left_alone(monkeypatch):
    monkeypatch.setattr(bulk, "BATCH", 1)
    submit_toy([["a"]])
    new = []
    cancel_job = control.cancel_job

    def cancel_and_submit(job_id, **why):
        new.append(submit_toy([["a"]]))
        return cancel_job(job_id, **why)

    monkeypatch.setattr(control, "cancel_job", cancel_and_submit)

    jobs = JobFilter(workflow="toy").jobs(Action.CANCEL, Job.objects.all())
    assert apply(Action.CANCEL, jobs, by="alice").done == 1

    assert [get_job(job).status for job in new] == [Status.PENDING]


@pytest.mark.django_db(transaction=True)
def test_job_that_changed_meanwhile_is_skipped_and_said(monkeypatch):
    first, second = submit_toy([["a"]]), submit_toy([["a"]])
    just_before(monkeypatch, control, "cancel_job", lambda: runner.run_ready_steps(["steps"]))

    jobs = JobFilter(workflow="toy").jobs(Action.CANCEL, Job.objects.all())
    applied = apply(Action.CANCEL, jobs, by="alice")

    assert (applied.done, applied.skipped) == (0, 2)
    assert [skipped.id for skipped in applied.examples] == [first.pk, second.pk]
    assert "has ended already (completed)" in applied.examples[0].sentence


@pytest.mark.django_db
def test_what_is_too_much_for_one_call_goes_on_in_the_next():
    for _ in range(5):
        submit_toy([["a"]])
    jobs = JobFilter(workflow="toy").jobs(Action.CANCEL, Job.objects.all())
    order = list(jobs.order_by("pk").values_list("pk", flat=True))

    first = apply(Action.CANCEL, jobs, by="alice", most=2)
    second = apply(Action.CANCEL, jobs, by="alice", most=2, after=first.last)
    third = apply(Action.CANCEL, jobs, by="alice", most=2, after=second.last)

    assert [each.done for each in (first, second, third)] == [2, 2, 1]
    assert [each.last for each in (first, second, third)] == [order[1], order[3], None]


@pytest.mark.django_db
def test_many_are_skipped_but_only_the_first_are_named(monkeypatch):
    monkeypatch.setattr(bulk, "MOST_NAMED", 2)
    for _ in range(3):
        end(submit_toy([["a"]]))

    failed = JobFilter(workflow="toy").jobs(Action.RERUN, Job.objects.all())
    applied = apply(Action.RERUN, failed, by="alice", from_step="z")

    assert (applied.done, applied.skipped, len(applied.examples)) == (0, 3, 2)

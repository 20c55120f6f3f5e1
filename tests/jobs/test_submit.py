"""Rule 2: the plan is made once, and every step of it is a row from the start."""

import pytest
from django.db import transaction

from accounts.models import User, Workspace
from jobs import plans, submit
from jobs.errors import InvalidPlan, UnknownHandler, UnknownWorkflow
from jobs.models import Job, Status, Step
from jobs.plans import StepPlan, Workflow
from jobs.submit import NewJob, submit_job, submit_jobs
from tests.jobs.rivals import elsewhere, just_before
from tests.jobs.rows import all_rows, event_kinds, get_job, statuses
from tests.jobs.workflows import submit_toy


@pytest.mark.django_db
def test_every_step_of_the_plan_is_a_row_from_the_start():
    job = submit_toy(
        [["a"], ["b", "c"], ["d"]],
        options={"c": {"queue": "other", "weight": 5, "params": {"n": 1}}},
        priority=7,
    )

    job = get_job(job)
    assert (job.status, job.progress, job.workflow_version) == (Status.PENDING, 0, 1)
    assert (job.stage, job.stage_open, job.stage_sizes) == (0, 1, [1, 2, 1])
    assert job.weight_total == 8
    assert [
        (step.name, step.stage, step.position, step.status, step.queue, step.weight, step.params)
        for step in job.steps.all()
    ] == [
        ("a", 0, 0, "ready", "steps", 1, {}),
        ("b", 1, 0, "pending", "steps", 1, {}),
        ("c", 1, 1, "pending", "other", 5, {"n": 1}),
        ("d", 2, 0, "pending", "steps", 1, {}),
    ]
    assert {(step.priority, step.max_attempts, step.attempt) for step in job.steps.all()} == {
        (7, 3, 0)
    }
    assert event_kinds(job) == ["job.created"]
    assert job.last_event == 1


@pytest.mark.django_db
def test_plan_of_a_submitted_job_stays_when_its_workflow_changes(monkeypatch):
    job = submit_toy([["a"], ["b"]])

    def changed_plan(params):
        raise AssertionError("a plan is made once")

    monkeypatch.setitem(plans._workflows, "toy", Workflow("toy", 2, changed_plan))

    assert statuses(job) == {"a": "ready", "b": "pending"}
    assert get_job(job).workflow_version == 1


@pytest.mark.django_db(transaction=True)
def test_a_worker_is_woken_for_each_step_that_is_ready(hints):
    job = submit_toy([["a", "b", "c"], ["d"]], options={"c": {"queue": "other"}})

    assert hints.wakes == {"steps": 2, "other": 1}
    assert hints.changed == [str(job.pk)]


@pytest.mark.django_db(transaction=True)
def test_job_of_a_rolled_back_transaction_leaves_nothing_and_wakes_nobody(hints):
    with transaction.atomic():
        submit_toy([["a"]])
        transaction.set_rollback(True)

    assert all_rows() == {"jobs": [], "steps": [], "events": []}
    assert not hints.wakes
    assert not hints.changed


@pytest.mark.django_db(transaction=True)
def test_nobody_is_woken_before_the_commit(hints):
    with transaction.atomic():
        submit_toy([["a"]])
        assert not hints.wakes

    assert hints.wakes == {"steps": 1}


def refuse_to_plan(params):
    raise InvalidPlan("Nothing can be done with these parameters.")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("make_plan", "params", "error"),
    [
        (lambda params: [], {}, InvalidPlan),
        (lambda params: [[StepPlan("a", "A", "toy.step")] * 2], {}, InvalidPlan),
        (lambda params: [[StepPlan("a", "A", "nobody")]], {}, UnknownHandler),
        (refuse_to_plan, {}, InvalidPlan),
        (lambda params: [[StepPlan("a", "A", "toy.step")]], {"n": object()}, TypeError),
    ],
    ids=["empty", "same name twice", "unknown handler", "refused by its workflow", "not JSON"],
)
def test_bad_plan_is_refused_with_nothing_written(make_plan, params, error, hints, monkeypatch):
    monkeypatch.setitem(plans._workflows, "bad", Workflow("bad", 1, make_plan))

    with pytest.raises(error):
        submit_job("bad", params, title="Bad")

    assert all_rows() == {"jobs": [], "steps": [], "events": []}
    assert not hints.wakes


@pytest.mark.django_db
def test_unknown_workflow_is_refused_with_nothing_written():
    with pytest.raises(UnknownWorkflow):
        submit_job("nobody", {}, title="Nobody's")

    assert not Job.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_same_idempotency_key_gives_the_same_job_and_writes_nothing(hints):
    first = submit_toy([["a"]], idempotency_key="order-1")
    rows = all_rows()
    hints.clear()

    second = submit_toy([["x"], ["y"]], idempotency_key="order-1")

    assert second.pk == first.pk
    assert all_rows() == rows
    assert not hints.wakes


@pytest.mark.django_db
def test_same_idempotency_key_does_not_spoil_the_transaction_around_it():
    first = submit_toy([["a"]], idempotency_key="order-1")

    with transaction.atomic():
        submit_toy([["a"]], idempotency_key="order-1")
        other = submit_toy([["a"]], idempotency_key="order-2")

    assert set(Job.objects.values_list("pk", flat=True)) == {first.pk, other.pk}


@pytest.mark.django_db
def test_same_idempotency_key_in_another_workspace_is_another_job():
    others = Workspace.objects.create(name="Others")
    alice = User.objects.create_user("alice")
    bob = User.objects.create_user("bob", workspace=others)

    ours = submit_toy([["a"]], idempotency_key="order-1", created_by=alice)
    theirs = submit_toy([["a"]], idempotency_key="order-1", created_by=bob)

    assert ours.pk != theirs.pk
    assert submit_toy([["a"]], idempotency_key="order-1", created_by=bob).pk == theirs.pk
    assert submit_toy([["a"]], idempotency_key="order-1").pk == ours.pk
    assert Job.objects.count() == 2


@pytest.mark.django_db
def test_jobs_without_idempotency_key_are_different_jobs():
    assert submit_toy([["a"]]).pk != submit_toy([["a"]]).pk


@pytest.mark.django_db(transaction=True)
def test_rival_with_the_same_key_that_commits_first_wins(monkeypatch):
    rivals = []
    just_before(
        monkeypatch,
        submit,
        "check_chain",
        lambda: rivals.append(submit_toy([["a"]], idempotency_key="order-1")),
    )

    job = submit_toy([["a"]], idempotency_key="order-1")

    assert [rival.pk for rival in rivals] == [job.pk]
    assert Job.objects.count() == Step.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_eight_submissions_at_once_with_one_key_make_one_job():
    jobs = elsewhere(*[lambda: submit_toy([["a"]], idempotency_key="order-1")] * 8)

    assert len({job.pk for job in jobs}) == 1
    assert Job.objects.count() == Step.objects.count() == 1


@pytest.mark.django_db
def test_long_title_is_cut_to_its_column():
    job = submit_job("toy", {"chain": [["a"]]}, title="x" * 5000)

    assert get_job(job).title == "x" * 300


# --- Many at once ----------------------------------------------------------------------------


def new_job(*names, **more):
    return NewJob({"chain": [[name] for name in names]}, title=names[0], **more)


@pytest.mark.django_db(transaction=True)
def test_many_jobs_are_submitted_by_one_statement(hints, django_assert_num_queries):
    with django_assert_num_queries(1):
        jobs = submit_jobs("toy", [new_job("a", "b"), new_job("c", priority=3)])

    assert [(job.title, job.priority) for job in jobs] == [("a", 0), ("c", 3)]
    assert [statuses(job) for job in jobs] == [{"a": "ready", "b": "pending"}, {"c": "ready"}]
    assert [event_kinds(job) for job in jobs] == [["job.created"]] * 2
    assert hints.wakes == {"steps": 2}


@pytest.mark.django_db(transaction=True)
def test_one_bad_job_of_many_leaves_none(hints):
    with pytest.raises(InvalidPlan):
        submit_jobs("toy", [new_job("a"), NewJob({"chain": [[]]}, title="empty")])

    assert not Job.objects.exists()
    assert not hints.wakes


@pytest.mark.django_db
def test_jobs_that_are_known_by_their_keys_are_not_made_again():
    known = submit_job("toy", {"chain": [["a"]]}, title="a", idempotency_key="one")

    first, second, again = submit_jobs(
        "toy",
        [
            new_job("x", idempotency_key="one"),
            new_job("b", idempotency_key="two"),
            new_job("c", idempotency_key="two"),
        ],
    )

    assert (first.pk, again.pk) == (known.pk, second.pk)
    assert statuses(second) == {"b": "ready"}
    assert Job.objects.count() == Step.objects.count() == 2


@pytest.mark.django_db
def test_submitted_job_is_as_the_database_has_it():
    alice = User.objects.create_user("alice")
    chain = {"chain": [["a"], ["b", "c"]], "options": {"b": {"weight": 3, "keys": ["vendor:x"]}}}

    job = submit_job("toy", chain, title="Toy", created_by=alice, priority=2, idempotency_key="k")

    fields = [field.attname for field in Job._meta.concrete_fields]
    kept = get_job(job)
    assert {name: getattr(job, name) for name in fields} == {
        name: getattr(kept, name) for name in fields
    }
    assert [step.flow_keys for step in job.steps.all()] == [
        ["workflow:toy"],
        ["vendor:x", "workflow:toy"],
        ["workflow:toy"],
    ]


@pytest.mark.django_db
def test_parameters_that_are_no_json_are_refused():
    with pytest.raises(TypeError, match="object is nothing that JSON knows"):
        submit_job("toy", {"chain": [["a"]], "other": object()}, title="Toy")

    assert not Job.objects.exists()

"""Rule 11: what the database refuses by itself, whoever writes."""

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from accounts.models import FIRST_WORKSPACE
from jobs.models import Event, Job, Status, Step
from tests.jobs.rows import get_job, get_step
from tests.jobs.workflows import submit_toy

pytestmark = pytest.mark.django_db

JOB_MAY_BECOME = {
    "pending": {"running", "cancelled"},
    "running": {"waiting", "completed", "failed", "manual", "cancelled"},
    "waiting": {"running", "cancelled"},
    "completed": {"pending"},
    "failed": {"pending"},
    "manual": {"pending", "cancelled"},
    "cancelled": {"pending"},
}
STEP_MAY_BECOME = {
    "pending": {"ready", "running", "cancelled"},
    "ready": {"running", "waiting", "cancelled"},
    "running": {"completed", "failed", "waiting", "ready", "cancelled"},
    "waiting": {"ready", "cancelled"},
    "completed": {"ready", "pending"},
    "failed": {"ready", "pending"},
    "cancelled": {"ready", "pending"},
}


def pairs(may_become):
    return [(old, new) for old in may_become for new in may_become if old != new]


def update(table, pk, status):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET status = %s WHERE id = %s", [status, pk])


@pytest.mark.parametrize(("old", "new"), pairs(JOB_MAY_BECOME))
def test_job_changes_state_only_where_that_makes_sense(old, new):
    job = Job.objects.create(
        workflow="toy", workflow_version=1, title="Toy", status=old,
        stage_sizes=[1], stage_open=1, weight_total=1, workspace_id=FIRST_WORKSPACE,
    )  # fmt: skip

    if new in JOB_MAY_BECOME[old]:
        update("jobs_job", job.pk, new)
        assert get_job(job).status == new
    else:
        with pytest.raises(DatabaseError, match=f'from "{old}" to "{new}"'):
            update("jobs_job", job.pk, new)
        assert get_job(job).status == old


@pytest.mark.parametrize(("old", "new"), pairs(STEP_MAY_BECOME))
def test_step_changes_state_only_where_that_makes_sense(old, new):
    job = submit_toy([["a"]])
    step = Step.objects.create(
        job=job, stage=1, name="b", title="B", handler="toy.step", queue="steps",
        status=old, lease_expires_at=get_step(job, "a").due_at,
    )  # fmt: skip

    if new in STEP_MAY_BECOME[old]:
        update("jobs_step", step.pk, new)
        assert get_step(job, "b").status == new
    else:
        with pytest.raises(DatabaseError, match=f'from "{old}" to "{new}"'):
            update("jobs_step", step.pk, new)
        assert get_step(job, "b").status == old


def test_running_step_without_a_lease_is_refused():
    job = submit_toy([["a"]])

    with pytest.raises(IntegrityError, match="step_running_has_lease"):
        update("jobs_step", get_step(job, "a").pk, Status.RUNNING)

    assert get_step(job, "a").status == Status.READY


def test_two_steps_in_one_place_of_the_plan_are_refused():
    job = submit_toy([["a"], ["b"]])

    with pytest.raises(IntegrityError, match="step_place_in_plan"), transaction.atomic():
        Step.objects.filter(job=job, name="b").update(stage=0)

    assert get_step(job, "b").stage == 1


def test_two_events_of_a_job_with_one_number_are_refused():
    job = submit_toy([["a"]])

    with pytest.raises(IntegrityError, match="event_number"), transaction.atomic():
        Event.objects.create(job=job, number=1, kind="test")

    assert job.events.count() == 1

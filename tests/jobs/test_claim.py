"""Rule 3: a claim takes a lease with a new fencing token, and each step has one taker."""

from datetime import timedelta

import pytest
from django.db import connection, transaction

from jobs import steps
from jobs.errors import BusinessError
from jobs.models import Job, Status, Step
from jobs.statements.claiming import CLAIM_NEXT
from tests.jobs.clients import Client, differences, snapshot
from tests.jobs.rivals import elsewhere
from tests.jobs.rows import event_kinds, get_job, get_step, statuses
from tests.jobs.workflows import submit_toy

OUT_OF_STOCK = BusinessError("out_of_stock", "It is sold out.")


def claim(*queues: str, worker: str = "alice"):
    return steps.claim_next(queues or ("steps",), worker=worker)


@pytest.mark.django_db
def test_claim_takes_a_lease_with_a_new_fencing_token():
    job = submit_toy([["a"], ["b"]])

    claimed = claim()

    step = get_step(job, "a")
    assert (claimed.id, claimed.name, claimed.fence, claimed.attempt) == (step.pk, "a", 1, 1)
    assert (step.status, step.fence, step.attempt, step.worker) == ("running", 1, 1, "alice")
    assert step.lease_expires_at - step.started_at == steps.LEASE
    assert step.due_at is None
    assert statuses(job) == {"a": "running", "b": "pending"}


@pytest.mark.django_db
def test_first_claim_starts_the_job_and_the_second_does_not_start_it_again():
    job = submit_toy([["a", "b"]])

    claim()
    started_at = get_job(job).started_at
    claim()

    assert get_job(job).status == Status.RUNNING
    assert get_job(job).started_at == started_at
    assert event_kinds(job) == ["job.created", "step.started", "step.started"]


@pytest.mark.django_db
def test_higher_priority_goes_first_then_the_older_job():
    older = submit_toy([["a"]])
    newer = submit_toy([["a"]])
    urgent = submit_toy([["a"]], priority=5)
    lazy = submit_toy([["a"]], priority=-5)

    claimed = [claim().job_id for _ in range(4)]

    assert claimed == [urgent.pk, older.pk, newer.pk, lazy.pk]
    assert claim() is None


@pytest.mark.django_db
def test_steps_of_other_queues_are_left_alone():
    job = submit_toy([["a", "b"]], options={"a": {"queue": "host-7"}})

    assert claim("steps").name == "b"
    assert claim("steps") is None
    assert get_step(job, "a").status == Status.READY
    assert claim("host-7").name == "a"


@pytest.mark.django_db
def test_queues_are_served_in_the_order_in_which_they_are_named():
    submit_toy([["first"]], options={"first": {"queue": "host-7"}})
    submit_toy([["second"]], priority=1)

    assert [claim("host-7", "steps").name for _ in range(2)] == ["first", "second"]


@pytest.mark.django_db
def test_only_ready_steps_are_claimed():
    job = submit_toy([["waiting", "running", "completed"], ["pending"]])
    by_name = {step.name: step for step in (claim(), claim(), claim())}
    steps.postpone(by_name["waiting"], delay=timedelta(minutes=1), reason="Not now.")
    steps.complete(by_name["completed"], {}, queues=["steps"], worker="alice")

    assert claim() is None
    assert statuses(job) == {
        "waiting": "waiting",
        "running": "running",
        "completed": "completed",
        "pending": "pending",
    }


@pytest.mark.django_db(transaction=True)
def test_step_that_another_is_claiming_this_moment_is_passed_over():
    submit_toy([["a"]])
    submit_toy([["b"]])

    with transaction.atomic():
        ours = claim()
        (theirs,) = elsewhere(lambda: claim(worker="bob"))

    assert (ours.name, theirs.name) == ("a", "b")


@pytest.mark.django_db(transaction=True)
def test_every_step_is_claimed_once_by_eight_workers_at_once():
    for _ in range(12):
        submit_toy([["a", "b"]])

    def claim_all():
        return list(iter(claim, None))

    claimed = [step for batch in elsewhere(*[claim_all] * 8) for step in batch]

    assert len(claimed) == len({step.id for step in claimed}) == 24
    assert {step.fence for step in claimed} == {1}
    assert claim() is None


@pytest.mark.django_db(transaction=True)
def test_without_a_row_lock_two_workers_would_have_the_same_step():
    """The harm that FOR UPDATE SKIP LOCKED prevents: read, then write, is not a claim."""
    submit_toy([["a"]])

    def claim_by_reading():
        return Step.objects.filter(status=Status.READY).first()

    with transaction.atomic():
        ours = claim_by_reading()
        Step.objects.filter(pk=ours.pk).update(worker="alice")
        (theirs,) = elsewhere(claim_by_reading)

    assert ours == theirs


@pytest.mark.django_db(transaction=True)
def test_rolled_back_claim_leaves_the_step_ready():
    job = submit_toy([["a"]])

    with transaction.atomic():
        claim()
        transaction.set_rollback(True)

    step = get_step(job, "a")
    assert (step.status, step.fence, step.attempt) == (Status.READY, 0, 0)
    assert event_kinds(job) == ["job.created"]


@pytest.mark.django_db(transaction=True)
def test_step_whose_job_ends_during_the_claim_is_cancelled_and_the_next_one_claimed():
    ending = submit_toy([["a", "b"]])
    submit_toy([["next"]])
    client = Client(ending)
    a = claim()

    with transaction.atomic():
        # The claim of b has the lock on its row, so that the end of its job passes it over.
        Step.objects.select_for_update().get(job=ending, name="b")
        elsewhere(lambda: steps.fail(a, OUT_OF_STOCK))
        claimed = claim()

    assert claimed.name == "next"
    assert statuses(ending) == {"a": "failed", "b": "cancelled"}
    assert event_kinds(ending)[-1] == "step.cancelled"
    client.follow(ending)
    assert differences(client.state, snapshot(ending)) == []


@pytest.mark.django_db
def test_claim_reads_one_row_however_long_the_backlog():
    job = submit_toy([["a"]])
    template = get_step(job, "a")
    Step.objects.bulk_create((
        Step(
            job=job, stage=1, position=n, name=f"n{n}", title="n", handler="toy.step",
            queue=template.queue, status=Status.READY, due_at=template.due_at,
        )
        for n in range(5000)
    ), batch_size=1000)  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE jobs_step")
        cursor.execute(
            "EXPLAIN (ANALYZE, FORMAT JSON) " + CLAIM_NEXT,
            {"queue": "steps", "most": 1, "apart": [], "worker": "alice", "lease": steps.LEASE},
        )
        plan = cursor.fetchone()[0]

    assert most_rows(plan[0]["Plan"]) <= 2


def most_rows(node):
    """The most rows that any part of a query plan has read."""
    below = [most_rows(part) for part in node.get("Plans", [])]
    return max([node["Actual Rows"] * node["Actual Loops"], *below])


@pytest.mark.django_db
def test_claim_of_nothing_writes_nothing():
    assert claim() is None
    assert not Job.objects.exists()

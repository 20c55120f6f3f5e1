"""Rule 8: a step of low priority that waits for long rises until it is next; none is starved."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from jobs import flow, steps
from jobs.models import Status, Step
from jobs.statements.claiming import CLAIM_NEXT
from jobs.sweep import age_steps
from tests.jobs.rivals import elsewhere
from tests.jobs.rows import all_rows, get_step
from tests.jobs.workflows import submit_toy

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def level_every_five_minutes(settings):
    settings.AGEING_MINUTES = 5


def claim():
    return steps.claim_next(["steps"], worker="alice")


def let_pass(job, minutes):
    """As if the job's step had been ready for so long already."""
    Step.objects.filter(job=job).update(due_at=Now() - minutes * MINUTE)


def priority(job):
    return get_step(job, "a").priority


@pytest.mark.parametrize(("minutes", "level"), [(4.9, 0), (5, 1), (14, 2), (25, 5), (9999, 10)])
def test_step_rises_a_level_every_five_minutes_as_far_as_the_highest(minutes, level):
    submit_toy([["a"]], priority=10)
    lazy = submit_toy([["a"]])
    let_pass(lazy, minutes)

    age_steps()

    assert priority(lazy) == level


def test_step_that_has_risen_goes_first_for_it_is_the_older():
    lazy = submit_toy([["a"]], priority=-1)
    let_pass(lazy, 5)
    submit_toy([["a"]])

    assert age_steps() == 1

    assert claim().job_id == lazy.pk


def test_the_same_minutes_do_not_count_twice():
    submit_toy([["a"]], priority=10)
    lazy = submit_toy([["a"]])
    let_pass(lazy, 7)

    assert [age_steps() for _ in range(3)] == [1, 0, 0]
    assert priority(lazy) == 1

    Step.objects.filter(job=lazy).update(ages_from=F("ages_from") - 3 * MINUTE)
    age_steps()
    assert priority(lazy) == 2


def test_steps_of_one_priority_are_left_alone_however_old():
    """Among them the older is first anyway: raising all would only write."""
    for _ in range(3):
        let_pass(submit_toy([["a"]]), 9999)
    rows = all_rows()

    assert age_steps() == 0
    assert all_rows() == rows


def test_step_is_measured_against_its_own_queue_alone():
    submit_toy([["a"]], priority=10, options={"a": {"queue": "host-7"}})
    lazy = submit_toy([["a"]])
    let_pass(lazy, 60)

    assert age_steps() == 0


def test_step_that_a_limit_holds_back_rises_as_well():
    flow.set_limit("workflow:toy", concurrency=1, by="olga")
    submit_toy([["a"]], priority=9)
    lazy, urgent = submit_toy([["a"]], priority=0), submit_toy([["a"]], priority=2)
    let_pass(lazy, 12)
    running = claim()
    claim()
    assert get_step(lazy, "a").status == Status.WAITING

    assert age_steps() == 1

    assert priority(lazy) == 2
    steps.complete(running, {}, queues=[], worker="alice")
    flow.wake(running.limits)
    assert claim().job_id == lazy.pk
    assert get_step(urgent, "a").status == Status.WAITING


def test_time_at_a_limit_and_time_in_the_queue_count_together():
    flow.pause("workflow:toy", by="olga")
    lazy = submit_toy([["a"]])
    let_pass(lazy, 3)
    claim()
    Step.objects.filter(job=lazy).update(ages_from=F("ages_from") - 3 * MINUTE)
    flow.resume("workflow:toy", by="olga")
    submit_toy([["a"]], priority=5)

    age_steps()

    assert priority(lazy) == 1


def test_claimed_step_that_is_retried_begins_to_age_anew():
    submit_toy([["a"]], priority=10, options={"a": {"queue": "host-7"}})
    lazy = submit_toy([["a"]])
    let_pass(lazy, 60)
    steps.release(claim())
    Step.objects.filter(queue="host-7").update(queue="steps")

    assert age_steps() == 0


def test_steady_stream_of_urgent_steps_does_not_starve_the_lazy_one():
    lazy = submit_toy([["a"]])
    submit_toy([["a"]], priority=3)

    for minute in range(1, 60):
        submit_toy([["a"]], priority=3)
        let_pass(lazy, minute)
        Step.objects.filter(job=lazy).update(priority=0, ages_from=None)
        age_steps()
        claimed = claim()
        if claimed.job_id == lazy.pk:
            break

    assert minute == 15


def test_sweep_ages(broker):
    submit_toy([["a"]], priority=10)
    lazy = submit_toy([["a"]])
    let_pass(lazy, 10)

    call_command("jobs_sweep", stdout=StringIO())

    assert priority(lazy) == 2


def test_step_that_is_being_claimed_is_passed_over():
    submit_toy([["a"]], priority=10, options={"a": {"queue": "host-7"}})
    lazy = submit_toy([["a"]])
    let_pass(lazy, 60)

    with transaction.atomic():
        claim()
        Step.objects.filter(queue="host-7").update(queue="steps")
        assert elsewhere(age_steps) == [0]


def test_two_sweeps_at_once_do_not_raise_a_step_twice():
    submit_toy([["a"]], priority=10)
    lazy = submit_toy([["a"]])
    let_pass(lazy, 10)

    assert sum(elsewhere(age_steps, age_steps)) == 1
    assert priority(lazy) == 2


def test_claim_still_reads_one_row_of_its_index_among_many_that_have_aged():
    submit_toy([["a"]], priority=10)
    for _ in range(300):
        submit_toy([["a"]])
    Step.objects.update(due_at=Now() - 12 * MINUTE)
    assert age_steps() == 300

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE jobs_step")
        cursor.execute(
            "EXPLAIN (FORMAT TEXT) " + CLAIM_NEXT,
            {"queue": "steps", "most": 1, "apart": [], "worker": "alice", "lease": steps.LEASE},
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert "Index Scan using step_ready" in plan

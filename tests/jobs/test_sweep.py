"""Rule 1: what is lost of messages and workers is found from the rows alone, and made due again."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import OperationalError, transaction
from django.db.models.functions import Now

from jobs import live, steps, sweep
from jobs.errors import BusinessError, TransientError
from jobs.management.commands import jobs_sweep
from jobs.models import Job, Status, Step
from jobs.plans import Done
from jobs.runner import runner
from jobs.sweep import (
    Swept,
    make_due_ready,
    recover_expired,
    seconds_until_due,
    wake_for_unanswered,
)
from tests.jobs.rivals import elsewhere, just_before
from tests.jobs.rows import (
    all_rows,
    event_kinds,
    get_job,
    get_step,
    let_leases_expire,
    let_waits_end,
    statuses,
)
from tests.jobs.workflows import BEHAVIOURS, submit_toy

TIMED_OUT = TransientError("site_timeout", "The shop did not answer.")
MINUTE = timedelta(minutes=1)


def claim(worker: str = "alice"):
    return steps.claim_next(["steps"], worker=worker)


def submit_waiting(count: int = 1) -> list[Job]:
    """Jobs whose only step waits for its retry."""
    jobs = [submit_toy([["a"]]) for _ in range(count)]
    for _ in jobs:
        steps.retry(claim(), TIMED_OUT, delay=MINUTE)
    return jobs


def let_steps_go_unanswered() -> None:
    """As if the steps that are ready had been so for longer than any message takes."""
    ready = Step.objects.filter(status=Status.READY)
    ready.update(due_at=Now() - 2 * sweep.UNANSWERED)


def count_calls(broker, queue: str = "steps") -> int:
    return broker.llen(f"cartwright:{queue}")


# --- Waits that are over ----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_waiting_step_becomes_ready_when_it_is_due(hints):
    (job,) = submit_waiting()
    let_waits_end()
    hints.clear()

    assert make_due_ready() == 1

    step = get_step(job, "a")
    assert (step.status, step.attempt, step.fence) == (Status.READY, 1, 1)
    assert hints.wakes == {"steps": 1}
    assert claim().attempt == 2


@pytest.mark.django_db(transaction=True)
def test_waiting_step_that_becomes_ready_is_an_event(hints):
    (job,) = submit_waiting()
    let_waits_end()
    hints.clear()

    make_due_ready()

    assert event_kinds(job)[-1] == "step.ready"
    assert hints.changed == [str(job.pk)]


@pytest.mark.django_db
def test_waiting_step_is_left_alone_before_it_is_due():
    submit_waiting()
    rows = all_rows()

    assert make_due_ready() == 0
    assert all_rows() == rows


@pytest.mark.django_db(transaction=True)
def test_two_sweeps_at_once_take_each_due_step_once():
    submit_waiting(3)
    let_waits_end()

    with transaction.atomic():
        first = make_due_ready()
        (second,) = elsewhere(make_due_ready)

    assert (first, second) == (3, 0)
    assert Step.objects.filter(status=Status.READY).count() == 3


@pytest.mark.django_db(transaction=True)
def test_four_sweeps_at_once_share_a_crowd_of_due_steps():
    submit_waiting(40)
    let_waits_end()

    assert sum(elsewhere(*[make_due_ready] * 4)) == 40
    assert make_due_ready() == 0


@pytest.mark.django_db
def test_next_due_time_is_known():
    assert seconds_until_due() is None
    submit_waiting()

    assert 59 < seconds_until_due() <= 60

    let_waits_end()
    assert seconds_until_due() == 0


# --- Workers that are lost --------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_step_of_a_lost_worker_is_ready_again_one_attempt_poorer(hints):
    job = submit_toy([["a"]])
    claim()
    let_leases_expire()
    hints.clear()

    assert recover_expired() == 1

    step = get_step(job, "a")
    assert (step.status, step.attempt, step.fence) == (Status.READY, 1, 1)
    assert step.lease_expires_at is None
    assert event_kinds(job)[-1] == "step.recovered"
    assert hints.wakes == {"steps": 1}
    current = claim("bob")
    assert (current.attempt, current.fence) == (2, 2)


@pytest.mark.django_db
def test_step_with_a_live_lease_is_left_alone():
    submit_toy([["a"]])
    claim()
    rows = all_rows()

    assert recover_expired() == 0
    assert all_rows() == rows


@pytest.mark.django_db(transaction=True)
def test_step_whose_worker_renews_just_before_the_sweep_takes_it_is_left_alone(monkeypatch):
    job = submit_toy([["a"]])
    claim()
    let_leases_expire()
    just_before(
        monkeypatch,
        sweep,
        "_recover",
        lambda: Step.objects.update(lease_expires_at=Now() + steps.LEASE),
    )

    assert recover_expired() == 0
    assert get_step(job, "a").status == Status.RUNNING


@pytest.mark.django_db(transaction=True)
def test_two_sweeps_at_once_recover_each_step_once(monkeypatch):
    job = submit_toy([["a"]])
    claim()
    let_leases_expire()
    just_before(monkeypatch, sweep, "_recover", recover_expired)

    assert recover_expired() == 0
    assert event_kinds(job).count("step.recovered") == 1


@pytest.mark.django_db(transaction=True)
def test_sweep_passes_over_a_step_that_another_sweep_has_locked():
    job = submit_toy([["a"]])
    claim()
    let_leases_expire()

    with transaction.atomic():
        assert recover_expired() == 1
        assert elsewhere(recover_expired) == [0]

    assert event_kinds(job).count("step.recovered") == 1


@pytest.mark.django_db(transaction=True)
def test_four_sweeps_at_once_recover_a_crowd_of_steps_once_each():
    jobs = [submit_toy([["a"]]) for _ in range(20)]
    for _ in jobs:
        claim()
    let_leases_expire()

    assert sum(elsewhere(*[recover_expired] * 4)) == 20
    assert [event_kinds(job).count("step.recovered") for job in jobs] == [1] * 20


@pytest.mark.django_db
def test_step_left_running_by_a_lost_worker_is_cancelled_when_its_job_has_ended():
    job = submit_toy([["a", "b"]])
    a, _ = claim(), claim()
    steps.fail(a, BusinessError("captcha", "A captcha."))
    let_leases_expire()

    assert recover_expired() == 1

    assert statuses(job) == {"a": "failed", "b": "cancelled"}
    assert recover_expired() == 0


@pytest.mark.django_db
def test_step_cancelled_by_the_sweep_is_an_event():
    job = submit_toy([["a", "b"]])
    a, _ = claim(), claim()
    steps.fail(a, BusinessError("captcha", "A captcha."))
    let_leases_expire()

    recover_expired()

    assert event_kinds(job)[-1] == "step.cancelled"
    assert get_step(job, "b").finished_at is not None


@pytest.mark.django_db(transaction=True)
def test_row_that_cannot_be_recovered_does_not_hold_up_the_others(monkeypatch):
    """Such as one whose workflow refuses: every sweep will meet it again."""
    poisoned = submit_toy([["a"]], workflow="toy.with_rows")
    claim()
    healthy = submit_toy([["a"]])
    claim()
    let_leases_expire()

    def refuse(change):
        raise ValueError("a bug in the workflow")

    real = steps.find_on_change
    monkeypatch.setattr(
        steps, "find_on_change", lambda name: refuse if name == "toy.with_rows" else real(name)
    )

    assert recover_expired() == 1

    assert get_step(healthy, "a").status == Status.READY
    assert get_step(poisoned, "a").status == Status.RUNNING


# --- Messages that are lost --------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_job_whose_message_was_never_sent_wakes_a_worker(broker):
    job = submit_toy([["a"]])
    let_steps_go_unanswered()

    assert wake_for_unanswered() == 1

    assert count_calls(broker) == 1
    assert event_kinds(job) == ["job.created"]


@pytest.mark.django_db(transaction=True)
def test_step_that_has_only_just_become_ready_is_left_to_its_own_message(broker):
    submit_toy([["a"]])

    assert wake_for_unanswered() == 0
    assert count_calls(broker) == 0


@pytest.mark.django_db(transaction=True)
def test_each_queue_has_its_own_calls(broker):
    submit_toy([["a", "b", "c"]], options={"c": {"queue": "host-7"}})
    let_steps_go_unanswered()

    assert wake_for_unanswered() == 3
    assert (count_calls(broker), count_calls(broker, "host-7")) == (2, 1)


@pytest.mark.django_db(transaction=True)
def test_calls_that_the_broker_holds_already_are_not_repeated(broker):
    submit_toy([["a", "b", "c"]])
    let_steps_go_unanswered()
    live.send_wakes("steps", 2)

    woken = [wake_for_unanswered() for _ in range(5)]

    assert woken == [1, 0, 0, 0, 0]
    assert count_calls(broker) == 3


@pytest.mark.django_db(transaction=True)
def test_backlog_is_not_turned_into_a_flood_of_calls(broker):
    submit_toy([[f"s{number}" for number in range(100)]])
    let_steps_go_unanswered()
    live.send_wakes("steps", 1)

    woken = [wake_for_unanswered() for _ in range(3)]

    assert woken == [live.MOST_WAKES - 1, 0, 0]
    assert count_calls(broker) == live.MOST_WAKES


@pytest.mark.django_db(transaction=True)
def test_calls_are_sent_anew_after_the_broker_has_lost_its_memory(broker):
    submit_toy([["a", "b"]])
    live.send_wakes("steps", 2)
    broker.flushdb()
    let_steps_go_unanswered()

    assert wake_for_unanswered() == 2
    assert count_calls(broker) == 2


# --- All of it --------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_everything_finishes_without_any_message():
    retried, plain = submit_toy([["a"], ["b", "c"]]), submit_toy([["d"]])

    def fail_once(context):
        if context.attempt == 1:
            raise TIMED_OUT
        return Done()

    BEHAVIOURS["b"] = fail_once
    lost = claim("victim")
    let_leases_expire()

    for _ in range(4):
        make_due_ready()
        recover_expired()
        runner.run_ready_steps(["steps"])
        let_waits_end()

    assert lost.job_id == retried.pk
    assert {get_job(job).status for job in (retried, plain)} == {Status.COMPLETED}


@pytest.mark.django_db(transaction=True)
def test_one_sweep_says_what_it_found(broker, capsys):
    submit_waiting(2)
    let_waits_end()
    submit_toy([["lost"]])
    claim()
    let_leases_expire()
    live.send_wakes("steps", 1)

    call_command("jobs_sweep")

    assert capsys.readouterr().out == "2 due, 1 recovered, 0 workers woken\n"


@pytest.mark.parametrize(
    ("next_due", "pause"),
    [(None, 1.0), (0.0, 0.05), (0.2, 0.2), (3600.0, 1.0)],
    ids=["nothing waits", "due", "due soon", "due later"],
)
def test_scheduler_pauses_until_the_next_step_is_due(next_due, pause, monkeypatch):
    monkeypatch.setattr(jobs_sweep, "sweep", Swept)
    monkeypatch.setattr(jobs_sweep, "seconds_until_due", lambda: next_due)

    assert jobs_sweep._sweep_and_pause() == pause


def test_scheduler_goes_on_while_the_database_is_away(monkeypatch):
    def fail():
        raise OperationalError("the server is restarting")

    monkeypatch.setattr(jobs_sweep, "sweep", fail)

    assert jobs_sweep._sweep_and_pause() == 1.0


@pytest.mark.django_db(transaction=True)
def test_waiting_steps_become_ready_while_the_broker_is_away(monkeypatch):
    (job,) = submit_waiting()
    let_waits_end()
    unanswered = submit_toy([["b"]])
    let_steps_go_unanswered()

    def refuse(queue):
        raise ConnectionRefusedError

    monkeypatch.setattr(live, "count_waiting_calls", refuse)

    assert jobs_sweep._sweep_and_pause() == 1.0
    assert get_step(job, "a").status == get_step(unanswered, "b").status == Status.READY

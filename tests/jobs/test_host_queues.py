"""Steps that go on on the machine which has their browser, and what becomes of them without it."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from jobs import live, steps, sweep, waits
from jobs.health import Check, read_health
from jobs.models import Job, Process, Status, Step
from jobs.plans import STEPS, Done, Postpone, WaitFor
from jobs.processes import STALE, host_queue, is_served
from jobs.runner import runner
from jobs.why import why_of_job
from tests.jobs.rows import all_rows, event_kinds, get_job, get_step, let_waits_end
from tests.jobs.workers import running_worker
from tests.jobs.workflows import BEHAVIOURS, submit_toy
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

ELSEWHERE = "host.elsewhere"


def move_when_it_has_run(outcome):
    """The step `a` asks for this the first time and is done the second."""

    def behave(context):
        del BEHAVIOURS["a"]
        return outcome

    BEHAVIOURS["a"] = behave


def beat(queue: str, age: timedelta = timedelta(0)) -> None:
    Process.objects.create(
        kind=Process.Kind.WORKER, name="alice:1", queues=[STEPS, queue], beat_at=Now() - age
    )


def let_it_be_ready_for_long() -> None:
    Step.objects.filter(status=Status.READY).update(due_at=Now() - 2 * sweep.STRANDED)


def strand() -> Job:
    """A job whose step is ready on a machine that has no worker, for long."""
    move_when_it_has_run(Postpone(timedelta(0), "Its browser is there.", queue=ELSEWHERE))
    job = submit_toy([["a"]])
    runner.run_ready_steps([STEPS])
    let_it_be_ready_for_long()
    return job


def test_step_that_waits_goes_on_in_the_queue_it_named(hints):
    answer = waits.signal("code", "codes", {"phone": "1"})
    move_when_it_has_run(WaitFor([answer], "The code", queue=ELSEWHERE))
    job = submit_toy([["a"]])
    assert runner.run_ready_steps([STEPS]) == 1
    hints.clear()

    waits.send_signal("codes", {"phone": "1"}, workspace_id=get_job(job).workspace_id)

    assert get_step(job, "a").queue == ELSEWHERE
    assert dict(hints.wakes) == {ELSEWHERE: 1}
    assert runner.run_ready_steps([STEPS]) == 0
    assert runner.run_ready_steps([ELSEWHERE]) == 1
    assert get_job(job).status == Status.COMPLETED


def test_answer_that_came_first_wakes_the_queue_that_the_wait_named(hints):
    job = submit_toy([["a"]])
    waits.send_signal("codes", {"phone": "1"}, workspace_id=get_job(job).workspace_id)
    answer = waits.signal("code", "codes", {"phone": "1"})
    move_when_it_has_run(WaitFor([answer], "The code", queue=ELSEWHERE))
    hints.clear()

    runner.run_ready_steps([STEPS])

    assert (get_step(job, "a").status, get_step(job, "a").queue) == (Status.READY, ELSEWHERE)
    assert dict(hints.wakes) == {ELSEWHERE: 1}


@pytest.mark.parametrize("delay", [timedelta(0), timedelta(minutes=1)])
def test_postponed_step_goes_on_in_the_queue_it_named_and_later_steps_do_not(hints, delay):
    move_when_it_has_run(Postpone(delay, "Its browser is there.", queue=ELSEWHERE))
    job = submit_toy([["a"], ["b"]])

    runner.run_ready_steps([STEPS])
    let_waits_end()
    sweep.make_due_ready()

    assert hints.wakes[ELSEWHERE] == 1
    assert runner.run_ready_steps([STEPS]) == 0
    assert runner.run_ready_steps([ELSEWHERE, STEPS]) == 2
    assert get_job(job).status == Status.COMPLETED


def test_step_without_a_named_queue_stays_where_it_is():
    outcomes = [
        Postpone(timedelta(0), "There.", queue=ELSEWHERE),
        Postpone(timedelta(0), "Not yet."),
        WaitFor([waits.timer("pause", timedelta(seconds=1))], "A pause"),
    ]
    BEHAVIOURS["a"] = lambda context: outcomes.pop(0) if outcomes else Done({})
    job = submit_toy([["a"]])

    runner.run_ready_steps([STEPS])
    runner.run_ready_steps([ELSEWHERE])

    assert outcomes == []
    assert (get_step(job, "a").status, get_step(job, "a").queue) == (Status.WAITING, ELSEWHERE)


def test_stranded_step_goes_to_all_workers(hints):
    job = strand()
    beat(ELSEWHERE, age=STALE)
    hints.clear()

    assert sweep.wake_for_unanswered() == 1

    assert get_step(job, "a").queue == STEPS
    assert event_kinds(job)[-1] == "step.recovered"
    assert dict(hints.wakes) == {STEPS: 1}
    assert runner.run_ready_steps([STEPS]) == 1
    assert get_job(job).status == Status.COMPLETED


def test_step_of_a_machine_that_is_served_stays_there(broker):
    strand()
    beat(ELSEWHERE)
    before = all_rows()

    sweep.wake_for_unanswered()

    assert all_rows() == before
    assert broker.llen(f"cartwright:{ELSEWHERE}") == 1


def test_step_waits_a_while_for_a_worker_that_restarts():
    strand()
    Step.objects.filter(status=Status.READY).update(due_at=Now() - sweep.STRANDED / 2)
    before = all_rows()

    assert sweep.wake_for_unanswered() == 0

    assert all_rows() == before


def test_stranded_step_that_somebody_has_claimed_is_left_alone():
    job = strand()
    claimed = steps.claim_next([ELSEWHERE], worker="alice")
    before = all_rows()

    assert steps.return_stranded(claimed.id, ELSEWHERE) is False

    assert all_rows() == before
    assert get_step(job, "a").queue == ELSEWHERE


def test_queue_is_served_while_a_worker_of_it_is_alive():
    beat(ELSEWHERE, age=STALE)
    assert is_served(ELSEWHERE) is False

    beat(ELSEWHERE)

    assert is_served(ELSEWHERE) is True
    assert is_served("host.else") is False


def test_why_names_the_machine_that_has_no_worker():
    job = strand()

    (reason,) = why_of_job(job, visible=Job.objects.all())

    assert reason["code"] == "no_worker"
    assert "“elsewhere”" in reason["sentence"]


def test_health_does_not_ask_for_a_worker_of_a_machine_that_is_gone(broker):
    strand()
    beat("host.other")

    assert read_health().checks["workers"] == Check(True, "1 alive.")


def test_worker_serves_the_queue_of_its_machine_too(tmp_path, broker):
    with running_worker(tmp_path, "one"):
        wait_until(lambda: is_served(host_queue()))
        job = submit_toy([["a"], ["b"]], options={"a": {"queue": host_queue()}})
        live.send_wakes(host_queue(), 1)
        wait_until(lambda: get_job(job).status == Status.COMPLETED)

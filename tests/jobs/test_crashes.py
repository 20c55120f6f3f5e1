"""A process is killed at every commit of the engine, and another finishes what it had begun.

What must hold: the write is there as a whole or not at all; no hint of it needs to have been sent;
each step is completed once, and a step whose completion was committed is not run again.
"""

from datetime import timedelta
from pathlib import Path

import pytest

from jobs import steps
from jobs.control import cancel_job, rerun_job
from jobs.errors import BusinessError
from jobs.models import Event, Job, Status
from jobs.runner import runner
from jobs.sweep import make_due_ready, recover_expired
from tests.jobs.crashing import crash
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
from tests.jobs.workflows import submit_toy

pytestmark = pytest.mark.django_db(transaction=True)

SOON = timedelta(seconds=10)
MINE = {"queues": ["steps"], "worker": "victim"}


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger"
    path.touch()
    return path


def runs(ledger: Path) -> list[str]:
    """The names of the steps that were run, in order, whatever became of it."""
    return [line.split()[1] for line in ledger.read_text().splitlines()]


def claim():
    return steps.claim_next(["steps"], worker="victim")


def finish_elsewhere() -> None:
    """What the sweep and another worker make of it, once all leases and waits are over."""
    for _ in range(5):
        let_leases_expire()
        recover_expired()
        let_waits_end()
        make_due_ready()
        runner.run_ready_steps(["steps"])


def assert_completed_once(job: Job) -> None:
    assert get_job(job).status == Status.COMPLETED
    assert set(statuses(job).values()) == {Status.COMPLETED}
    assert event_numbers(job) == list(range(1, get_job(job).last_event + 1))
    completions = Event.objects.filter(job=job, kind="step.completed")
    assert sorted(completions.values_list("step_id", flat=True)) == sorted(
        job.steps.values_list("pk", flat=True)
    )
    assert event_kinds(job).count("job.completed") == 1


def test_submission_killed_before_its_commit_leaves_nothing():
    crash("before", "submit", [["a"], ["b"]])

    assert all_rows() == {"jobs": [], "steps": [], "events": []}


def test_submission_killed_after_its_commit_is_carried_out():
    crash("after", "submit", [["a"], ["b"]])

    finish_elsewhere()
    assert_completed_once(Job.objects.get())


def test_claim_killed_before_its_commit_leaves_the_step_ready(ledger):
    job = submit_toy([["a"]], ledger=ledger)
    rows = all_rows()

    crash("before", "claim", ["steps"], worker="victim")

    assert all_rows() == rows
    finish_elsewhere()
    assert_completed_once(job)
    assert runs(ledger) == ["a"]


def test_claim_killed_after_its_commit_is_taken_over_when_its_lease_ends(ledger):
    job = submit_toy([["a"]], ledger=ledger)

    crash("after", "claim", ["steps"], worker="victim")

    assert get_step(job, "a").status == Status.RUNNING
    assert runner.run_ready_steps(["steps"]) == recover_expired() == 0
    finish_elsewhere()
    assert_completed_once(job)
    assert (get_step(job, "a").attempt, get_step(job, "a").fence) == (2, 2)
    assert runs(ledger) == ["a"]


CHAINS = {
    "before one step": [["a"], ["b"]],
    "before a group": [["a"], ["b", "c"]],
    "at the end": [["a"]],
}


@pytest.mark.parametrize("workflow", ["toy", "toy.with_rows"])
@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS.keys())
def test_completion_killed_before_its_commit_is_done_again(chain, workflow, ledger):
    job = submit_toy(chain, workflow=workflow, ledger=ledger)
    a = claim()
    rows = all_rows()

    crash("before", "complete", a, {"n": 1}, **MINE)

    assert all_rows() == rows
    finish_elsewhere()
    assert_completed_once(job)
    assert sorted(runs(ledger)) == [name for group in chain for name in group]


@pytest.mark.parametrize("workflow", ["toy", "toy.with_rows"])
@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS.keys())
def test_completion_killed_after_its_commit_is_not_done_again(chain, workflow, ledger):
    job = submit_toy(chain, workflow=workflow, ledger=ledger)

    crash("after", "complete", claim(), {"n": 1}, **MINE)

    assert get_step(job, "a").output == {"n": 1}
    finish_elsewhere()
    assert_completed_once(job)
    assert sorted(runs(ledger)) == [name for group in chain[1:] for name in group]


def test_join_killed_after_its_commit_has_opened_the_next_stage(ledger):
    job = submit_toy([["a", "b"], ["c"]], ledger=ledger)
    a, b = claim(), claim()
    steps.complete(a, {}, **MINE)

    crash("after", "complete", b, {}, **MINE)

    assert get_step(job, "c").status == Status.RUNNING  # claimed by the dead in the same commit
    finish_elsewhere()
    assert_completed_once(job)
    assert runs(ledger) == ["c"]


PUT_OFF = {
    "retry": {"delay": SOON},
    "postpone": {"delay": SOON, "reason": "Not now."},
    "release": {},
}


@pytest.mark.parametrize("verb", PUT_OFF)
def test_putting_off_killed_before_its_commit_leaves_the_claim_standing(verb, ledger):
    job = submit_toy([["a"], ["b"]], ledger=ledger)
    a = claim()
    rows = all_rows()

    crash("before", verb, a, **PUT_OFF[verb])

    assert all_rows() == rows
    finish_elsewhere()
    assert_completed_once(job)
    assert runs(ledger) == ["a", "b"]


@pytest.mark.parametrize(
    ("verb", "status", "attempt"),
    [("retry", "waiting", 1), ("postpone", "waiting", 0), ("release", "ready", 0)],
)
def test_putting_off_killed_after_its_commit_holds(verb, status, attempt, ledger):
    job = submit_toy([["a"], ["b"]], ledger=ledger)

    crash("after", verb, claim(), **PUT_OFF[verb])

    assert (get_step(job, "a").status, get_step(job, "a").attempt) == (status, attempt)
    finish_elsewhere()
    assert_completed_once(job)
    assert runs(ledger) == ["a", "b"]


def test_failure_killed_before_its_commit_leaves_the_job_running(ledger):
    job = submit_toy([["a", "b"]], ledger=ledger)
    a = claim()
    rows = all_rows()

    crash("before", "fail", a)

    assert all_rows() == rows
    finish_elsewhere()
    assert_completed_once(job)


def test_failure_killed_after_its_commit_ends_the_job(ledger):
    job = submit_toy([["a", "b"], ["c"]], ledger=ledger)

    crash("after", "fail", claim())

    finish_elsewhere()
    assert get_job(job).status == Status.FAILED
    assert statuses(job) == {"a": "failed", "b": "cancelled", "c": "cancelled"}
    assert runs(ledger) == []


def test_checkpoint_is_there_only_if_it_was_committed():
    submit_toy([["a"]])
    a = claim()

    crash("before", "save checkpoint", a, {"clicked": True})
    assert get_step(Job.objects.get(), "a").checkpoint is None

    crash("after", "save checkpoint", a, {"clicked": True})
    let_leases_expire()
    recover_expired()
    assert claim().checkpoint == {"clicked": True}


def test_progress_killed_at_its_commit_is_there_as_a_whole_or_not_at_all():
    job = submit_toy([["a"]])
    a = claim()
    rows = all_rows()

    crash("before", "report progress", a, 50, "Half way")
    assert all_rows() == rows

    crash("after", "report progress", a, 50, "Half way")
    assert (get_step(job, "a").progress, get_job(job).progress) == (50, 50)
    assert event_kinds(job)[-1] == "step.progress"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_sweep_of_waits_killed_at_its_commit_loses_none(moment, ledger):
    jobs = [submit_toy([["a"]], ledger=ledger) for _ in range(3)]
    for _ in jobs:
        steps.postpone(claim(), delay=SOON, reason="Not now.")
    let_waits_end()

    crash(moment, "make due ready")

    finish_elsewhere()
    for job in jobs:
        assert_completed_once(job)
    assert runs(ledger) == ["a"] * 3


@pytest.mark.parametrize("moment", ["before", "after"])
def test_sweep_of_leases_killed_at_its_commit_loses_none(moment, ledger):
    jobs = [submit_toy([["a"]], ledger=ledger) for _ in range(3)]
    for _ in jobs:
        claim()
    let_leases_expire()

    crash(moment, "recover expired")

    finish_elsewhere()
    for job in jobs:
        assert_completed_once(job)
        assert get_step(job, "a").attempt == 2
    assert runs(ledger) == ["a"] * 3


@pytest.mark.parametrize("moment", ["before", "after"])
def test_cancel_killed_at_its_commit_is_whole_or_can_be_said_again(moment):
    job = submit_toy([["a", "b"], ["c"]])
    a = claim()
    rows = all_rows()

    crash(moment, "cancel", job.pk, by="alice")

    if moment == "before":
        assert all_rows() == rows
        cancel_job(job.pk, by="alice")
    assert get_job(job).status == Status.CANCELLED
    assert statuses(job) == {"a": "running", "b": "cancelled", "c": "cancelled"}
    crash(moment, "stop", a)
    finish_elsewhere()
    assert set(statuses(job).values()) == {"cancelled"}
    assert event_kinds(job).count("job.cancelled") == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_rerun_killed_at_its_commit_is_whole_or_can_be_said_again(moment, ledger):
    job = submit_toy([["a"], ["b", "c"]], ledger=ledger)
    steps.complete(claim(), {}, queues=(), worker="victim")
    steps.fail(claim(), BusinessError("captcha", "A captcha."))
    rows = all_rows()

    crash(moment, "rerun", job.pk, by="alice")

    if moment == "before":
        assert all_rows() == rows
        rerun_job(job.pk, by="alice")
    finish_elsewhere()
    assert_completed_once(job)
    assert event_kinds(job).count("job.rerun") == 1
    assert runs(ledger) == ["b", "c"]

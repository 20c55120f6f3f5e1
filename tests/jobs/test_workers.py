"""Real workers, real messages: what the other tests show by calls, seen from outside."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now

from jobs import live
from jobs.control import cancel_job, rerun_job
from jobs.models import Event, Job, Status, Step
from jobs.sweep import sweep
from tests.jobs.rows import event_kinds, event_numbers, get_job, get_step
from tests.jobs.workers import running_scheduler, running_worker
from tests.jobs.workflows import submit_toy
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

CHAIN = [["a"], ["b", "c"], ["d"]]
NAMES = ["a", "b", "c", "d"]


@pytest.fixture(autouse=True)
def hints(broker):
    """Here hints are sent, in place of being noted, to a broker that is empty."""


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger"
    path.touch()
    return path


def submit_many(count: int, ledger: Path, seconds: float) -> list[Job]:
    options = {name: {"params": {"seconds": seconds}} for name in NAMES}
    return [submit_toy(CHAIN, options=options, ledger=ledger) for _ in range(count)]


def runs(ledger: Path) -> Counter[tuple[str, str]]:
    """How often each step was run, by its job's id and its name."""
    return Counter(tuple(line.split()[:2]) for line in ledger.read_text().splitlines())


def count_completed() -> int:
    return Job.objects.filter(status=Status.COMPLETED).count()


def assert_completed_once(job: Job) -> None:
    assert get_job(job).status == Status.COMPLETED
    assert event_numbers(job) == list(range(1, get_job(job).last_event + 1))
    kinds = Counter(event_kinds(job))
    assert (kinds["step.completed"], kinds["job.completed"]) == (4, 1)


def test_fifty_jobs_finish_though_one_of_two_workers_is_killed(tmp_path, ledger):
    key = tmp_path / "key"
    until_key = {"held": {"params": {"until": str(key)}}}
    with running_worker(tmp_path, "one") as one, running_worker(tmp_path, "two") as two:
        held = submit_toy([["held"]], options=until_key, ledger=ledger)
        jobs = submit_many(50, ledger, seconds=0.01)
        wait_until(lambda: count_completed() >= 10)
        assert one.steps.filter(status=Status.COMPLETED).exists()
        assert two.steps.filter(status=Status.COMPLETED).exists()

        victim = one if one.steps.filter(name="held").exists() else two
        victim.kill()
        key.touch()

        def all_completed() -> bool:
            lost = victim.steps.filter(status=Status.RUNNING)
            lost.update(lease_expires_at=Now() - timedelta(hours=1))
            sweep()
            return count_completed() == 51

        wait_until(all_completed, every=0.2)

    for job in jobs:
        assert_completed_once(job)
    recovered = Event.objects.filter(kind="step.recovered").values_list("step_id", flat=True)
    assert get_step(held, "held").pk in recovered
    assert runs(ledger)[str(held.pk), "held"] == 2
    for step in Step.objects.exclude(name="held"):
        most = 2 if step.pk in recovered else 1  # its worker may have died before it began
        assert 1 <= runs(ledger)[str(step.job_id), step.name] <= most


def test_worker_that_is_told_to_end_finishes_what_it_can_and_releases_the_rest(tmp_path, ledger):
    key = tmp_path / "key"
    short = submit_toy([["a"], ["b"]], options={"a": {"params": {"until": str(key)}}})
    long = submit_toy([["a"], ["b"]], options={"a": {"params": {"until": "/nowhere"}}})
    # Half a second more than steps get to give their leases back.
    with running_worker(tmp_path, "leaving", WORKER_SHUTDOWN_SECONDS="8.5") as worker:
        wait_until(lambda: worker.steps.filter(status=Status.RUNNING).count() == 2)
        waiting = submit_toy([["a"]])

        worker.process.terminate()
        wait_until(lambda: "shutdown" in worker.log.read_text())
        key.touch()

        assert worker.process.wait(10) == 0

    assert get_step(short, "a").status == Status.COMPLETED
    assert get_step(short, "b").status == Status.READY
    released = get_step(long, "a")
    assert (released.status, released.attempt) == (Status.READY, 0)
    assert event_kinds(long)[-1] == "step.released"
    assert get_step(waiting, "a").status in {Status.READY, Status.COMPLETED}
    with running_worker(tmp_path, "next"):
        wait_until(lambda: get_job(short).status == Status.COMPLETED)
        wait_until(lambda: get_step(long, "a").status == Status.RUNNING)
    assert get_step(long, "a").attempt == 1


def test_running_step_of_a_cancelled_job_is_told_within_five_seconds(tmp_path, ledger):
    options = {"a": {"params": {"until": "/nowhere"}}}
    with running_worker(tmp_path, "worker", threads=2) as worker:
        job = submit_toy([["a"], ["b"]], options=options, ledger=ledger)
        kept = submit_toy([["a"]], options=options, ledger=ledger)
        wait_until(lambda: len(runs(ledger)) == 2)  # both handlers are at work

        cancel_job(job.pk, by="alice")

        wait_until(lambda: get_step(job, "a").status == Status.CANCELLED, seconds=5)
        assert event_kinds(job)[-2:] == ["job.cancelled", "step.stopped"]
        assert get_step(kept, "a").status == Status.RUNNING
        rerun_job(job.pk, "a", by="alice")
        wait_until(lambda: runs(ledger)[str(job.pk), "a"] == 2)  # its thread is free again
        assert worker.process.poll() is None


def test_everything_finishes_though_the_broker_loses_its_memory(
    tmp_path, ledger, broker, monkeypatch
):
    jobs = submit_many(10, ledger, seconds=0.01)
    wait_until(lambda: broker.llen("cartwright:steps"))
    broker.flushdb()
    with running_worker(tmp_path, "worker"), running_scheduler(tmp_path):
        wait_until(lambda: count_completed() >= 2, seconds=15)
        broker.flushdb()
        monkeypatch.setattr(live.messenger, "post", lambda **hints: None)
        jobs += submit_many(10, ledger, seconds=0)

        wait_until(lambda: count_completed() == 20)

    for job in jobs:
        assert_completed_once(job)
    assert runs(ledger).total() == 80

"""Cartwright's engine as a contender: two workers as `./run` starts them, on a queue of their own.

Importing this needs Django set up with `_engine_settings`.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from django.db import connection

from accounts.models import FIRST_WORKSPACE
from config.launch import WORKER_THREADS
from jobs.submit import NewJob, submit_jobs
from jobs.waits import NewSignal, send_signals
from tests.bench._engine_ledger import PATIENCE_SECONDS, Ledger, WorkDiffers
from tests.bench._engine_programs import Program, running_all
from tests.bench._toys import FAN, JOIN, PIPELINE, QUEUE, TOPIC

POLL_SECONDS = 0.0005
BATCH = 100

COUNT_JOBS = "SELECT count(*) FROM jobs_job WHERE id = ANY(%s) AND status = 'completed'"
COUNT_WAITING = "SELECT count(*) FROM jobs_wait WHERE job_id = ANY(%s) AND status = 'open'"
COUNT_RUNNING = "SELECT count(*) FROM jobs_step WHERE status = 'running'"
COUNT_COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


class Cartwright:
    name = "cartwright"

    def __init__(self, workers: Sequence[Program], ledger: Ledger) -> None:
        self._workers = workers
        self._ledger = ledger
        self._waiting: list[Any] = []

    @classmethod
    @contextmanager
    def start(cls, ledger: Ledger) -> Iterator[Self]:
        programs = {
            f"bench-{number}": (
                *("celery", "-A", "config", "worker", "-Q", QUEUE),
                *("--pool", "threads", "--concurrency", WORKER_THREADS),
                *("--hostname", f"bench-{number}@%h", "--loglevel", "INFO"),
                *("--without-gossip", "--without-mingle"),
            )
            for number in (1, 2)
        }
        with running_all(programs, ready=" ready.") as workers:
            yield cls(workers, ledger)

    def run_pipelines(self, jobs: Sequence[str]) -> None:
        ids = _submit("bench.pipeline", jobs)
        self._ledger.wait_for(len(jobs) * len(PIPELINE))
        _wait_for(COUNT_JOBS, ids)

    def run_one(self, job: str) -> float:
        started = time.perf_counter()
        self.run_pipelines([job])
        return time.perf_counter() - started

    def fan_out(self, job: str) -> float:
        started = time.perf_counter()
        ids = _submit("bench.fan_out", [job])
        self._ledger.wait_for(len([*FAN, JOIN]))
        _wait_for(COUNT_JOBS, ids)
        return time.perf_counter() - started

    def start_waiting(self, jobs: Sequence[str]) -> None:
        """Returns when all of them wait."""
        self._waiting = _submit("bench.wait", jobs)
        self._ledger.wait_for(len(jobs))
        _wait_for(COUNT_WAITING, self._waiting)

    def answer(self, jobs: Sequence[str]) -> None:
        """Returns when all of them are done."""
        for batch in _in_batches(jobs):
            signals = [NewSignal(TOPIC, {"job": job}) for job in batch]
            send_signals(signals, workspace_id=FIRST_WORKSPACE)
        self._ledger.wait_for(2 * len(jobs))
        _wait_for(COUNT_JOBS, self._waiting)

    def held(self) -> dict[str, float]:
        memory = sum(worker.memory_kib() for worker in self._workers)
        return {"memory_kib": memory, "running_steps": int(_ask(COUNT_RUNNING))}

    def count_commits(self) -> int:
        """In the database so far. An idle connection reports its own after ten seconds."""
        return int(_ask(COUNT_COMMITS))


def _submit(workflow: str, jobs: Sequence[str]) -> list[Any]:
    return [
        job.pk
        for batch in _in_batches(jobs)
        for job in submit_jobs(workflow, [NewJob({"job": job}, title=job) for job in batch])
    ]


def _in_batches(jobs: Sequence[str]) -> Iterator[Sequence[str]]:
    """As who has many sends them."""
    return (jobs[first : first + BATCH] for first in range(0, len(jobs), BATCH))


def _wait_for(query: str, ids: Sequence[Any]) -> None:
    """Until the query counts all of them."""
    end = time.monotonic() + PATIENCE_SECONDS
    while (count := _ask(query, list(ids))) < len(ids):
        if time.monotonic() > end:
            raise WorkDiffers(f"{len(ids) - count} of {len(ids)} jobs do not get on.")
        time.sleep(POLL_SECONDS)


def _ask(query: str, *values: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchone()[0]

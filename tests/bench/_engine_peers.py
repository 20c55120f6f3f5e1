"""What the engine is measured against: a raw Celery chain and chord, and DBOS Transact.

Celery keeps nothing: it shows what the messages alone cost. DBOS records every step in the same
PostgreSQL. Each does the work in the way that is its fastest here; heats decide which that is.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import SplitResult, unquote, urlsplit

import psycopg
import sqlalchemy
from celery import chain, chord
from dbos import DBOSClient, SendMessage

from config.launch import WORKER_THREADS
from tests.bench import _engine_celery as raw
from tests.bench._engine_dbos import QUEUE as DBOS_QUEUE
from tests.bench._engine_dbos import TOPIC
from tests.bench._engine_ledger import PATIENCE_SECONDS, Ledger, WorkDiffers
from tests.bench._engine_programs import Program, running_all
from tests.bench._engine_work import FAN, JOIN, PIPELINE

DATABASE = "cartwright_bench_dbos"
POLL_SECONDS = 0.0005

COUNT_DONE = """
SELECT count(*) FROM dbos.workflow_status WHERE workflow_uuid = ANY(%s) AND status = 'SUCCESS'
"""


class RawCelery:
    name = "celery"
    POOLS: Mapping[str, Sequence[object]] = {
        "prefork": ("--pool", "prefork", "--concurrency", 1),
        "threads": ("--pool", "threads", "--concurrency", WORKER_THREADS),
    }

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @classmethod
    @contextmanager
    def start(cls, ledger: Ledger, pool: str) -> Iterator[Self]:
        programs = {
            f"celery-{number}": (
                *("celery", "-A", "tests.bench._engine_celery", "worker", *cls.POOLS[pool]),
                *("--hostname", f"raw-{number}@%h", "--loglevel", "INFO"),
                *("--without-gossip", "--without-mingle"),
            )
            for number in (1, 2)
        }
        with running_all(programs, ready=" ready."):
            yield cls(ledger)

    def run_pipelines(self, jobs: Sequence[str]) -> None:
        for job in jobs:
            chain(raw.step.si(job, name) for name in PIPELINE).apply_async()
        self._ledger.wait_for(len(jobs) * len(PIPELINE))

    def run_one(self, job: str) -> float:
        started = time.perf_counter()
        self.run_pipelines([job])
        return time.perf_counter() - started

    def fan_out(self, job: str) -> float:
        started = time.perf_counter()
        header = [raw.counted_step.si(job, name) for name in FAN]
        chord(header, raw.join.s(job)).apply_async()
        self._ledger.wait_for(len([*FAN, JOIN]))
        return time.perf_counter() - started


class Dbos:
    name = "dbos"
    # Which of them is the fastest differs by machine.
    WAYS: Mapping[str, Sequence[str]] = {
        "pipeline": ("queue", "direct"),
        "latency": ("start_one", "call_one"),
        "fanout": ("fan_out_steps", "fan_out_children"),
        "wait": ("single", "bulk"),
    }

    def __init__(
        self,
        workers: Sequence[Program],
        client: DBOSClient,
        database: psycopg.Connection[Any],
        ledger: Ledger,
    ) -> None:
        self.way: dict[str, str] = {work: ways[0] for work, ways in self.WAYS.items()}
        self._workers = workers
        self._client = client
        self._database = database
        self._ledger = ledger

    @classmethod
    @contextmanager
    def start(cls, ledger: Ledger) -> Iterator[Self]:
        """In a database of its own on the engine's server, made anew."""
        server = urlsplit(os.environ["DATABASE_URL"])
        with psycopg.connect(server.geturl(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {DATABASE}")
        url = _sqlalchemy_url(server)
        programs = {
            f"dbos-{number}": ("tests.bench._engine_dbos", url, f"dbos-{number}")
            for number in (1, 2)
        }
        own = server._replace(path=f"/{DATABASE}").geturl()
        with running_all(programs) as workers:
            client = DBOSClient(system_database_url=url)
            with psycopg.connect(own, autocommit=True) as database:
                yield cls(workers, client, database, ledger)
            client.destroy()

    def run_pipelines(self, jobs: Sequence[str]) -> None:
        if self.way["pipeline"] == "queue":
            for job in jobs:
                self._client.enqueue(
                    {"queue_name": DBOS_QUEUE, "workflow_name": "pipeline", "workflow_id": job}, job
                )
        else:
            self._tell_all("start", jobs, workflow="pipeline")
        self._ledger.wait_for(len(jobs) * len(PIPELINE))
        self._wait_for(jobs)

    def run_one(self, job: str) -> float:
        way = self.way["latency"]
        return float(self._workers[0].ask(way, job=job, workflow="pipeline"))

    def fan_out(self, job: str) -> float:
        way = self.way["fanout"]
        command = "start_one" if way == "fan_out_children" else "await_one"
        return float(self._workers[0].ask(command, job=job, workflow=way))

    def start_waiting(self, jobs: Sequence[str]) -> None:
        self._tell_all("start_waiting", jobs)
        self._ledger.wait_for(len(jobs))
        time.sleep(1)  # that they wait is in no table: they ask right after they say so

    def answer(self, jobs: Sequence[str]) -> None:
        if self.way["wait"] == "bulk":
            self._client.send_bulk([SendMessage(job, "yes", TOPIC, None, None) for job in jobs])
        else:
            for job in jobs:
                self._client.send(job, "yes", TOPIC)
        self._ledger.wait_for(2 * len(jobs))
        self._wait_for(jobs)

    def held(self) -> dict[str, float]:
        return {
            "memory_kib": sum(worker.memory_kib() for worker in self._workers),
            "threads": sum(worker.threads() for worker in self._workers),
        }

    def _tell_all(self, command: str, jobs: Sequence[str], **arguments: Any) -> None:
        """Each worker does its share."""
        for number, worker in enumerate(self._workers):
            share = list(jobs[number :: len(self._workers)])
            worker.tell(command, jobs=share, **arguments)
        for worker in self._workers:
            worker.hear()

    def _wait_for(self, jobs: Sequence[str]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while (count := self._count_done(jobs)) < len(jobs):
            if time.monotonic() > end:
                raise WorkDiffers(f"{len(jobs) - count} of {len(jobs)} workflows do not end.")
            time.sleep(POLL_SECONDS)

    def _count_done(self, jobs: Sequence[str]) -> int:
        row = self._database.execute(COUNT_DONE, [list(jobs)]).fetchone()
        assert row is not None
        return int(row[0])


def _sqlalchemy_url(server: SplitResult) -> str:
    """For DBOS; a socket's folder is no host to SQLAlchemy."""
    host = unquote(server.hostname or "")
    place: dict[str, Any] = {"query": {"host": host}} if "/" in host else {"host": host}
    url = sqlalchemy.URL.create(
        "postgresql+psycopg",
        username=unquote(server.username or "") or None,
        password=unquote(server.password or "") or None,
        port=server.port,
        database=DATABASE,
        **place,
    )
    return url.render_as_string(hide_password=False)

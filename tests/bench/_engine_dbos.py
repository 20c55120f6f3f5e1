"""A process that runs DBOS workflows, on command or from its queue; the same work as `_toys`.

Run with `python -m`. Each process has its own executor id, as DBOS asks of those that share a
database.
"""

import asyncio
import sys
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from dbos import DBOS, DBOSConfig, SetWorkflowID

from tests.bench._engine_ledger import note
from tests.bench._engine_programs import serve_commands
from tests.bench._engine_work import ANSWERED, ASKED, FAN, JOIN, PIPELINE

T = TypeVar("T")

QUEUE = "bench"
# The default, a second, would be most of a short run.
POLL_SECONDS = 0.1
# Workflows at a time in a process. Without a limit a thousand would be a thousand threads.
THREADS = 16
TOPIC = "answers"
PATIENCE_SECONDS = 600


@DBOS.step()
def step(job: str, name: str) -> None:
    note(job, name)


@DBOS.step()
async def async_step(job: str, name: str) -> None:
    note(job, name)


@DBOS.workflow()
def pipeline(job: str) -> None:
    for name in PIPELINE:
        step(job, name)


@DBOS.workflow()
async def fan_out_steps(job: str) -> None:
    await asyncio.gather(*(async_step(job, name) for name in FAN))
    await async_step(job, JOIN)


@DBOS.workflow()
def child(job: str, name: str) -> None:
    step(job, name)


@DBOS.workflow()
def fan_out_children(job: str) -> None:
    for handle in [DBOS.start_workflow(child, job, name) for name in FAN]:
        handle.get_result()
    step(job, JOIN)


@DBOS.workflow()
async def wait(job: str) -> None:
    note(job, ASKED)
    if await DBOS.recv_async(TOPIC, PATIENCE_SECONDS):
        note(job, ANSWERED)


WORKFLOWS = {each.__name__: each for each in (pipeline, fan_out_steps, fan_out_children, wait)}


class Commands:
    """What the benchmark may ask; called in a thread beside the event loop that DBOS runs on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def start(self, workflow: str, jobs: Sequence[str]) -> int:
        """Starts a workflow for each job, in this process."""
        for job in jobs:
            with SetWorkflowID(job):
                DBOS.start_workflow(WORKFLOWS[workflow], job)
        return len(jobs)

    def start_waiting(self, jobs: Sequence[str]) -> int:
        """As coroutines: as threads, a thousand that wait would be a thousand threads."""
        return self._run(self._start_waiting(jobs))

    def start_one(self, workflow: str, job: str) -> float:
        """Seconds from the call to the result."""
        started = time.perf_counter()
        with SetWorkflowID(job):
            DBOS.start_workflow(WORKFLOWS[workflow], job).get_result()
        return time.perf_counter() - started

    def call_one(self, workflow: str, job: str) -> float:
        started = time.perf_counter()
        with SetWorkflowID(job):
            WORKFLOWS[workflow](job)
        return time.perf_counter() - started

    def await_one(self, workflow: str, job: str) -> float:
        return self._run(self._await_one(workflow, job))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _start_waiting(self, jobs: Sequence[str]) -> int:
        for job in jobs:
            with SetWorkflowID(job):
                await DBOS.start_workflow_async(wait, job)
        return len(jobs)

    async def _await_one(self, workflow: str, job: str) -> float:
        started = time.perf_counter()
        with SetWorkflowID(job):
            await WORKFLOWS[workflow](job)
        return time.perf_counter() - started


async def serve(database_url: str, name: str) -> None:
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": database_url,
        "executor_id": name,
        "application_version": "1",
        "max_executor_threads": THREADS,
        "console_log_level": "WARNING",
    }
    DBOS(config=config)
    DBOS.launch()
    await DBOS.register_queue_async(
        QUEUE, polling_interval_sec=POLL_SECONDS, worker_concurrency=THREADS
    )
    commands = Commands(asyncio.get_running_loop())
    names = ("start", "start_waiting", "start_one", "call_one", "await_one")
    serving = {each: getattr(commands, each) for each in names}
    await asyncio.get_running_loop().run_in_executor(
        ThreadPoolExecutor(1), partial(serve_commands, serving)
    )


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))

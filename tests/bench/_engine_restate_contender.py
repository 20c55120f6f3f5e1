"""Restate as a contender: its server, and two processes that serve what the server sends them.

Restate keeps its own journal, not PostgreSQL's, and syncs it before it answers as PostgreSQL does:
its defaults (`bifrost.local.rocksdb-disable-wal-fsync` is false) are left as they are.
"""

import asyncio
import json
import os
import re
import resource
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from config.bootstrap import say
from config.services import find_free_port
from tests.bench import _engine_restate_server as server
from tests.bench._engine_ledger import PATIENCE_SECONDS, Ledger, WorkDiffers
from tests.bench._engine_programs import Program, running_all
from tests.bench._engine_restate import KEYS, SERVICES
from tests.bench._report import versions_of

T = TypeVar("T")

ANSWERERS = 32  # requests at a time that give answers
OPEN_FILES = 4096  # a connection each for a thousand jobs is more than many systems begin with
ACCEPTED = re.compile(rb"HTTP/1\.1 20\d ")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Restate:
    name = "restate"
    WAYS: Mapping[str, Sequence[str]] = {
        "pipeline": ("call",),
        "latency": ("call",),
        "fanout": ("fan_out_steps", "fan_out_calls"),
        "wait": ("awakeable",),
    }

    def __init__(
        self,
        workers: Sequence[Program],
        runner: asyncio.Runner,
        ingress: "Ingress",
        keys: Path,
        ledger: Ledger,
    ) -> None:
        self.way: dict[str, str] = {work: ways[0] for work, ways in self.WAYS.items()}
        self._workers = workers
        self._runner = runner
        self._ingress = ingress
        self._keys = keys
        self._ledger = ledger
        self._waiting: list[asyncio.Task[None]] = []

    @classmethod
    @contextmanager
    def start(cls, ledger: Ledger) -> Iterator[list[Self]]:
        """None, and a line that says why, where its server does not install."""
        try:
            program = server.install()
        except server.NotInstalled as error:
            say(f"Restate is left out: {error}")
            yield []
            return
        folder = Path(os.environ["DATA_DIR"]) / "bench-restate"
        keys = Path(os.environ["DATA_DIR"]) / "bench-restate-keys"
        keys.touch()
        _allow_open_files()
        with _serving(program, folder, keys) as (workers, port), asyncio.Runner() as runner:
            ingress = Ingress(port)
            yield [cls(workers, runner, ingress, keys, ledger)]
            runner.run(ingress.close())

    @staticmethod
    def versions() -> dict[str, str]:
        return {
            "restate_sdk": versions_of("restate-sdk")["restate-sdk"],
            "restate_server": server.VERSION,
        }

    def run_pipelines(self, jobs: Sequence[str]) -> None:
        """Each job is a request, which is answered when the job is done."""
        self._run(self._call_all("pipeline", jobs))

    def run_one(self, job: str) -> float:
        return self._time("pipeline", job)

    def fan_out(self, job: str) -> float:
        return self._time(self.way["fanout"], job)

    def start_waiting(self, jobs: Sequence[str]) -> None:
        """Returns when all of them wait."""
        self._keys.write_text("")
        self._run(self._start_waiting(jobs))

    def answer(self, jobs: Sequence[str]) -> None:
        """Returns when all of them are done."""
        keys = dict(line.split() for line in self._keys.read_text().splitlines())
        self._run(self._answer([keys[job] for job in jobs]))

    def held(self) -> dict[str, float]:
        return {
            "memory_kib": sum(worker.memory_kib() for worker in self._workers),
            "threads": sum(worker.threads() for worker in self._workers),
        }

    def _time(self, handler: str, job: str) -> float:
        started = time.perf_counter()
        self._run(self._call_all(handler, [job]))
        return time.perf_counter() - started

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            return self._runner.run(asyncio.wait_for(coroutine, PATIENCE_SECONDS))
        except TimeoutError as error:
            raise WorkDiffers("Restate's jobs do not end.") from error

    async def _call_all(self, handler: str, jobs: Sequence[str]) -> None:
        await asyncio.gather(*self._calls(handler, jobs))

    async def _start_waiting(self, jobs: Sequence[str]) -> None:
        self._waiting = [asyncio.ensure_future(call) for call in self._calls("wait", jobs)]
        # In a thread: the requests go out from here meanwhile.
        await asyncio.to_thread(self._ledger.wait_for, len(jobs))

    async def _answer(self, keys: Sequence[str]) -> None:
        remaining = iter(keys)
        await asyncio.gather(*(self._answer_some(remaining) for _ in range(ANSWERERS)))
        await asyncio.gather(*self._waiting)

    async def _answer_some(self, remaining: Iterator[str]) -> None:
        for key in remaining:
            await self._ingress.post(f"/restate/awakeables/{key}/resolve", "yes")

    def _calls(self, handler: str, jobs: Sequence[str]) -> list[Coroutine[Any, Any, None]]:
        """Every other job is the other process's."""
        return [
            self._ingress.post(f"/{service}/{handler}", job)
            for service, job in zip(cycle(SERVICES), jobs, strict=False)
        ]


class Ingress:
    """Requests to Restate's server, each on a connection of its own; these stay open for others.

    Plain streams: with a thousand requests at once, HTTPX needs ten times as long as Restate does.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, path: str, body: str) -> None:
        """Returns when it is answered. Raises WorkDiffers if the answer is an error."""
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        content = json.dumps(body)
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            f"{content}".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        answer = await reader.readexactly(int(length[1]) if length else 0)
        if not ACCEPTED.match(head):
            raise WorkDiffers(f"Restate does not take {path}: {head.decode()}{answer.decode()}")
        self._idle.append((reader, writer))

    async def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


@contextmanager
def _serving(program: Path, folder: Path, keys: Path) -> Iterator[tuple[list[Program], int]]:
    """The processes that run steps, and the port at which their jobs are submitted."""
    ingress, admin = find_free_port(), find_free_port()
    environment = {
        "RESTATE_BASE_DIR": str(folder),
        "RESTATE_NODE_NAME": "bench",
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BIND_PORT": str(find_free_port()),
        "RESTATE_INGRESS__BIND_PORT": str(ingress),
        "RESTATE_ADMIN__BIND_PORT": str(admin),
        "RESTATE_DISABLE_TELEMETRY": "true",
    }
    ports = {service: find_free_port() for service in SERVICES}
    services = {
        service: ("tests.bench._engine_restate", service, port) for service, port in ports.items()
    }
    with (
        # The server last, to end first: a service waits for its connections to end.
        running_all(services, ready="Running on", **{KEYS: str(keys)}) as workers,
        running_all(
            {"restate-server": ("tests.bench._engine_restate_server", program)},
            ready="Admin API starting",
            **environment,
        ),
        httpx.Client(
            base_url=f"http://127.0.0.1:{admin}",
            transport=httpx.HTTPTransport(retries=5),
            timeout=PATIENCE_SECONDS,
        ) as client,
    ):
        for port in ports.values():
            client.post("/deployments", json={"uri": f"http://127.0.0.1:{port}"}).raise_for_status()
        yield workers, ingress


def _allow_open_files() -> None:
    """To this process, and to those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES and soft != resource.RLIM_INFINITY:
        most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))

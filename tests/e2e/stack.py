"""The whole product as processes of its own: web, worker, scheduler, on a database of its own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg import sql

from tests.parallel import WORKER, valkey_database
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
CELERY = "-m celery -A config worker --pool threads --concurrency 8 -Q steps --loglevel INFO"
FINISHED = {"completed", "failed", "manual_required"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Stack:
    environment: dict[str, str]
    logs: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def web_url(self) -> str:
        return self.environment["PUBLIC_URL"]

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def start_web(self) -> None:
        port = self.web_url.rpartition(":")[2]
        self.start("web", *f"-m uvicorn config.asgi:application --port {port}".split())
        wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.web_url}/api/schema/").is_success
        except httpx.TransportError:
            return False

    def start_worker(self, name: str = "worker") -> None:
        self.start(name, *CELERY.split(), "-n", f"{name}@%h")

    def start_scheduler(self) -> None:
        self.start("scheduler", "manage.py", "jobs_sweep", "--forever")

    def kill(self, name: str) -> None:
        """SIGKILL to that process alone, as the kernel's out-of-memory killer would."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(10)

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for name, process in self.processes.items():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise AssertionError(f"{name} did not end within 15 s of SIGTERM") from None

    def client(self, *options: str) -> httpx.Client:
        """An HTTP client with an API key of its own, made by the management command."""
        key = self.manage("create_api_key", f"e2e{'-'.join(options)}", "--quiet", *options).strip()
        headers = {"Authorization": f"token {key}"}
        return httpx.Client(base_url=self.web_url, headers=headers, timeout=30)

    def wait_for_item(self, client: httpx.Client, queue_id: str, seconds: float = 90) -> Any:
        """The item's status, once it has ended."""

        def ended() -> Any:
            status = client.get(f"/api/cart/status/{queue_id}").json()
            return status if status["status"] in FINISHED else None

        return wait_until(ended, seconds, every=0.2)


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    """A stack on a new database beside the one in DATABASE_URL, and on one of Valkey's own."""
    database = f"cartwright_e2e_{WORKER}"
    server = os.environ["DATABASE_URL"]
    name = sql.Identifier(database)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
    environment = {
        **os.environ,
        "DATABASE_URL": _with_database(server, database),
        "REDIS_URL": valkey_database(15 - WORKER),
        "PUBLIC_URL": f"http://127.0.0.1:{free_port()}",
        "DATA_DIR": str(folder),
        "WORKER_SHUTDOWN_SECONDS": "10",
        "CART_REQUESTS_PER_MINUTE": "0",  # all tests are one user
    }
    stack = Stack(environment, folder)
    stack.manage("migrate", "--verbosity", "0")
    try:
        stack.start_web()
        stack.start_scheduler()
        stack.start_worker()
        yield stack
    finally:
        stack.stop()
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


def _with_database(url: str, database: str) -> str:
    address, _, options = url.partition("?")
    base = address.rpartition("/")[0]
    return f"{base}/{database}" + (f"?{options}" if options else "")

"""Real processes on the tests' database and broker: Celery workers, and the scheduler.

None of them outlives the test that started it, nor the process of the tests.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection
from django.db.models import QuerySet

from config.supervisor import dying_with_parent
from jobs.models import Step
from tests.waiting import wait_until

CELERY = "-m celery -A config worker --pool threads -Q steps --without-gossip --without-mingle"


class Worker:
    """`celery worker` with threads. It is ready to work when this is made."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        wait_until(lambda: " ready." in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()

    @property
    def steps(self) -> QuerySet[Step]:
        """The steps that it was the last to run, or runs."""
        return Step.objects.filter(worker__endswith=f":{self.process.pid}")

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait(10) == -signal.SIGKILL


@contextmanager
def running_worker(
    folder: Path, name: str, *, threads: int = 4, **environment: str
) -> Iterator[Worker]:
    options = ["--concurrency", str(threads), "--hostname", f"{name}@%h", "--loglevel", "INFO"]
    with _running([*CELERY.split(), *options], folder / f"{name}.log", environment) as process:
        yield Worker(process, folder / f"{name}.log")


@contextmanager
def running_scheduler(folder: Path) -> Iterator[None]:
    with _running(["manage.py", "jobs_sweep", "--forever"], folder / "scheduler.log", {}):
        yield


@contextmanager
def _running(
    arguments: list[str], log: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            dying_with_parent("KILL", [sys.executable, *arguments]),
            cwd=settings.BASE_DIR,
            env=process_environment() | environment,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def process_environment() -> dict[str, str]:
    """For a process that works on the tests' database and broker."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.jobs.settings",
        "DATABASE_URL": _database_url(),
    }


def _database_url() -> str:
    """DATABASE_URL but for the name: pytest-django has made a database of the tests' own."""
    url = urlsplit(os.environ["DATABASE_URL"])
    return url._replace(path=f"/{connection.settings_dict['NAME']}").geturl()

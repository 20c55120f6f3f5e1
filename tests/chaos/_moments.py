"""The moments at which a worker can be killed, counted job by job, inside the worker.

A moment is before or after a commit of a step, before a browser is told to do something, or when it
was told but has not answered. The kill is real: SIGKILL to the process, at that very line. Which
moment of which job it is to be stands in a file (`Doom`), written by who watches from outside.
"""

import os
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from django.db.backends.signals import connection_created
from playwright._impl.connection import Connection

FOLDER = "CHAOS_FOLDER"
WRITES = re.compile(r"\b(INSERT INTO|DELETE FROM|UPDATE \"?[a-z]+_)")

BEFORE_COMMIT = "before a commit"
AFTER_COMMIT = "after a commit"
BEFORE_ACTION = "before a browser action"
AMID_ACTION = "amid a browser action"


@dataclass(frozen=True)
class Doom:
    """The files by which watcher and worker speak of one job: the number of the moment to be killed
    at, a byte for each moment there was, and what the moment was that killed."""

    folder: Path
    job: str

    @property
    def _nth(self) -> Path:
        return self.folder / f"{self.job}.doom"

    @property
    def _count(self) -> Path:
        return self.folder / f"{self.job}.moments"

    @property
    def _death(self) -> Path:
        return self.folder / f"{self.job}.death"

    def set(self, nth: int) -> None:
        self._nth.write_text(str(nth))

    def find_death(self) -> str | None:
        """At what the worker was killed; None: it lives."""
        return self._death.read_text() if self._death.exists() else None

    @property
    def died_at(self) -> datetime | None:
        if not self._death.exists():
            return None
        return datetime.fromtimestamp(self._death.stat().st_mtime, UTC)

    @property
    def moments(self) -> int:
        """How many there have been."""
        return self._count.stat().st_size if self._count.exists() else 0

    def reach(self, kind: str) -> None:
        """In the worker. Appending tells each process a number of its own."""
        file = os.open(self._count, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, b".")
            number = os.lseek(file, 0, os.SEEK_CUR)
        finally:
            os.close(file)
        with suppress(FileNotFoundError, ValueError):
            if number == int(self._nth.read_text()):
                step = structlog.contextvars.get_contextvars().get("step", "")
                self._death.write_text(f"{step}: {kind}")
                os.kill(os.getpid(), signal.SIGKILL)


def reach(kind: str) -> None:
    """Counts for the job whose step is running in this thread, or in the flow that it started."""
    job = structlog.contextvars.get_contextvars().get("job")
    if job:
        Doom(Path(os.environ[FOLDER]), job).reach(kind)


def watch() -> None:
    """Has all of this process's commits and browser actions pass here."""
    connection_created.connect(_watch_connection, weak=False)
    send = Connection.send_message_to_server

    def send_watched(*args: Any, **kwargs: Any) -> Any:
        reach(BEFORE_ACTION)
        answer = send(*args, **kwargs)
        reach(AMID_ACTION)
        return answer

    Connection.send_message_to_server = send_watched  # type: ignore[method-assign]


def _watch_connection(connection: Any, **_: Any) -> None:
    if getattr(connection, "is_watched", False):
        return
    connection.is_watched, connection.has_written = True, False
    commit = connection._commit

    def commit_watched() -> None:
        has_written, connection.has_written = connection.has_written, False
        if has_written:
            reach(BEFORE_COMMIT)
        commit()
        if has_written:
            reach(AFTER_COMMIT)

    def execute_watched(
        execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        is_write = bool(WRITES.search(sql))
        if connection.in_atomic_block:
            connection.has_written |= is_write
            return execute(sql, params, many, context)
        if not is_write:
            return execute(sql, params, many, context)
        reach(BEFORE_COMMIT)  # outside of any transaction a statement is its own commit
        result = execute(sql, params, many, context)
        reach(AFTER_COMMIT)
        return result

    connection._commit = commit_watched
    connection.execute_wrappers.append(execute_watched)

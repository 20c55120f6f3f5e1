"""Sending what rows say to places that may be slow, in a thread of the scheduler's process.

It needs the database and nothing else: no broker, no worker. All sending of a kind is one event
loop's, so that a slow receiver costs a waiting coroutine and neither a thread nor the sweep's time.
Any number of these loops may run at once, on as many machines: who may send a row is said by its
lease. Which rows, where to and what is written down afterwards is their subclasses' business.
"""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ClassVar, Generic, TypeVar

import structlog
from django.db import Error as DatabaseTrouble
from django.db import close_old_connections

log = structlog.get_logger(__name__)

T = TypeVar("T")
R = TypeVar("R")

LOOK_SECONDS = 0.5  # how often for rows whose time has come
STOP_SECONDS = 5.0


class RowSender(ABC, Generic[T]):
    """Claims, sends and records, until it is cancelled. A database that is away for a while is
    waited for."""

    name: ClassVar[str]
    most_at_once: ClassVar[int]
    database_threads: ClassVar[int]

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(self.database_threads, f"{self.name}-rows")
        self._sending: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()

    @abstractmethod
    def claim(self, most: int) -> Sequence[T]:
        """Rows whose time has come, claimed for this process. Called in a thread, outside of a
        transaction."""

    @abstractmethod
    async def send(self, claimed: T) -> None:
        """Sends it and writes down what came of it. After an error its lease ends, and it is sent
        again."""

    async def look(self) -> None:
        """Called before each claim, for what else there is to do."""

    def look_again(self) -> None:
        """There is more to do: not after the usual pause, but now."""
        self._news.set()

    async def in_thread(self, work: Callable[[], R]) -> R:
        """Work that uses the database: threads, since nothing may block the loop."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, _with_connection, work
        )

    async def run(self) -> None:
        try:
            while True:
                self._news.clear()
                try:
                    await self.look()
                    await self._start_due()
                except DatabaseTrouble as error:
                    log.warning("sending_waits_for_database", what=self.name, error=repr(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._news.wait()
        finally:
            if self._sending:
                await asyncio.wait(self._sending, timeout=STOP_SECONDS)
            self._threads.shutdown(wait=False)

    async def _start_due(self) -> None:
        free = self.most_at_once - len(self._sending)
        for claimed in await self.in_thread(partial(self.claim, free)) if free else []:
            task = asyncio.create_task(self._send(claimed))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, claimed: T) -> None:
        try:
            await self.send(claimed)
        except Exception:
            log.exception("sending_not_recorded", what=self.name)
        finally:
            self.look_again()  # its receiver may have another one


def _with_connection(work: Callable[[], R]) -> R:
    try:
        return work()
    finally:
        close_old_connections()


class BackgroundLoop(ABC):
    """An event loop in a daemon thread of its own."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None

    @abstractmethod
    async def run(self) -> None:
        """Until it is cancelled. Begun anew after an error."""

    def keep_running(self) -> None:
        """Starts the thread where there is none, or it has died. Safe to repeat."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Claims nothing more; what is being sent has a few seconds. What is not done by then is
        sent again when its lease is over, as after a kill."""
        self._stopped.set()
        if self._running:
            loop, task = self._running
            with suppress(RuntimeError):  # it has ended already
                loop.call_soon_threadsafe(task.cancel)
        if self._thread:
            self._thread.join(2 * STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                asyncio.run(self._run_as_a_task())
            except asyncio.CancelledError:
                return
            except Exception:
                if not threading.main_thread().is_alive():  # the process is ending
                    return
                log.exception("sending_interrupted", what=self.name)
            self._stopped.wait(LOOK_SECONDS)

    async def _run_as_a_task(self) -> None:
        task = asyncio.create_task(self.run())
        self._running = asyncio.get_running_loop(), task
        await task

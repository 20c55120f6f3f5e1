"""The loop that makes deliveries and sends them, in a thread of the scheduler's process.

It needs the database and nothing else: no broker, no worker. All sending is one event loop's, so
that a slow receiver costs a waiting coroutine and neither a thread nor the sweep's time. Any number
of these loops may run at once, on as many machines.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TypeVar

import structlog
from django.db import Error as DatabaseTrouble
from django.db import close_old_connections

from jobs.webhooks.deliveries import Message, claim_due, forget_old, record
from jobs.webhooks.endpoints import forget_old_secrets
from jobs.webhooks.notices import tell_admins
from jobs.webhooks.outbox import BATCH, fan_out
from jobs.webhooks.posting import Poster

log = structlog.get_logger(__name__)

T = TypeVar("T")

LOOK_SECONDS = 0.5  # how often for new events, and for deliveries whose time has come
MOST_AT_ONCE = 100  # of all endpoints; of one deliveries.MOST_OF_ONE
DATABASE_THREADS = 4
FORGET_SECONDS = 60.0
STOP_SECONDS = 5.0


class BackgroundSender:
    """The loop in a daemon thread of its own."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._stopped = threading.Event()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        self._thread = threading.Thread(target=self._run_until_stopped, name="webhooks")
        self._thread.daemon = True
        self._thread.start()

    def stop(self) -> None:
        """Claims nothing more; what is being sent has a few seconds. What is not done by then is
        sent again when its lease is over, as after a kill."""
        self._stopped.set()
        if self._running:
            loop, task = self._running
            with suppress(RuntimeError):  # it has ended already
                loop.call_soon_threadsafe(task.cancel)
        self._thread.join(2 * STOP_SECONDS)

    def _run_until_stopped(self) -> None:
        while not self._stopped.is_set():
            try:
                asyncio.run(self._run())
            except asyncio.CancelledError:
                return
            except Exception:
                log.exception("webhooks_interrupted")
            self._stopped.wait(LOOK_SECONDS)

    async def _run(self) -> None:
        async with Poster(allow_private=self._allow_private) as poster:
            task = asyncio.create_task(Sender(poster).run())
            self._running = asyncio.get_running_loop(), task
            await task


class Sender:
    def __init__(self, poster: Poster) -> None:
        self._poster = poster
        self._threads = ThreadPoolExecutor(DATABASE_THREADS, "webhook-rows")
        self._sending: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._next_look = self._next_forgetting = 0.0

    async def run(self) -> None:
        """Until it is cancelled. A database that is away for a while is waited for."""
        try:
            await self._run()
        finally:
            if self._sending:
                await asyncio.wait(self._sending, timeout=STOP_SECONDS)
            self._threads.shutdown(wait=False)

    async def _run(self) -> None:
        while True:
            self._news.clear()
            try:
                await self._look_for_events()
                await self._start_due()
            except DatabaseTrouble as error:
                log.warning("webhooks_wait_for_database", error=repr(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()

    async def _look_for_events(self) -> None:
        if monotonic() >= self._next_forgetting:
            self._next_forgetting = monotonic() + FORGET_SECONDS
            await self._in_thread(forget_old_secrets)
            await self._in_thread(forget_old)
            await self._in_thread(tell_admins)  # what was not told when it happened
        if monotonic() >= self._next_look:
            read = await self._in_thread(fan_out)
            if read == BATCH:
                self._news.set()  # there is more
            else:
                self._next_look = monotonic() + LOOK_SECONDS

    async def _start_due(self) -> None:
        free = MOST_AT_ONCE - len(self._sending)
        for message in await self._in_thread(partial(claim_due, free)) if free else []:
            task = asyncio.create_task(self._send(message))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, message: Message) -> None:
        try:
            answer = message.problem or await self._poster.post(message)
            if not await self._in_thread(partial(record, message, answer)):
                log.warning("webhook_claim_lost", message=message.id, attempt=message.attempt)
        except Exception:
            # Its lease ends, and it is sent again.
            log.exception("webhook_not_recorded", message=message.id)
        finally:
            self._news.set()  # its endpoint may have another one

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Work that uses the database: threads, since nothing may block the loop."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, _with_connection, work
        )


def _with_connection(work: Callable[[], T]) -> T:
    try:
        return work()
    finally:
        close_old_connections()

"""The loop that tells the sites, in a thread of the scheduler's process. Any number of them may run
at once, and a slow site costs a waiting coroutine, as with webhooks.

What is sent is a PUT of Frappe's REST API, to an address that was checked, as with webhooks.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TypeVar

import httpx
import structlog
from django.db import Error as DatabaseTrouble
from django.db import close_old_connections

from jobs.duties import register_duty
from jobs.webhooks.deliveries import Answer, Message
from jobs.webhooks.errors import AddressRefused
from jobs.webhooks.posting import Poster
from vendors.erpnext.updates import Update, claim_due, record, record_known

log = structlog.get_logger(__name__)

T = TypeVar("T")

LOOK_SECONDS = 0.5
MOST_AT_ONCE = 20  # sites; of one there is one update at a time
DATABASE_THREADS = 2
STOP_SECONDS = 5.0
RESTART_AFTER = timedelta(seconds=10)  # should its thread have died


class Putter(Poster):
    """Writes fields of a document, as the user of the API key that is the message's secret."""

    async def _post(self, message: Message) -> Answer:
        try:
            return await super()._post(message)
        except AddressRefused as error:
            host = httpx.URL(message.url).host
            raise AddressRefused(
                f"{host} is no public address. Mark the connection as local if the site is on your "
                "own network."
            ) from error

    def _method_and_headers(self, message: Message) -> tuple[str, dict[str, str]]:
        (authorization,) = message.secrets
        # Else Frappe answers some errors with a page.
        return "PUT", {"Authorization": authorization, "Accept": "application/json"}


async def tell(update: Update, local: Putter, public: Putter) -> Answer:
    """What came of it; every failure is an Answer too."""
    message = update.message
    return message.problem or await (local if update.is_local else public).post(message)


class Teller:
    """Claims, tells and records, until it is cancelled. A database that is away is waited for."""

    def __init__(self, local: Putter, public: Putter) -> None:
        self._local, self._public = local, public
        self._threads = ThreadPoolExecutor(DATABASE_THREADS, "erpnext-rows")
        self._telling: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()

    async def run(self) -> None:
        try:
            while True:
                self._news.clear()
                await self._start_due()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._news.wait()
        finally:
            if self._telling:
                await asyncio.wait(self._telling, timeout=STOP_SECONDS)
            self._threads.shutdown(wait=False)

    async def _start_due(self) -> None:
        free = MOST_AT_ONCE - len(self._telling)
        try:
            updates = await self._in_thread(partial(claim_due, free)) if free else []
        except DatabaseTrouble as error:
            log.warning("erpnext_waits_for_database", error=repr(error))
            return
        for update in updates:
            task = asyncio.create_task(self._tell(update))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, update: Update) -> None:
        try:
            if update.is_known:
                await self._in_thread(partial(record_known, update))
                return
            answer = await tell(update, self._local, self._public)
            if not await self._in_thread(partial(record, update, answer)):
                log.warning("erpnext_claim_lost", line=str(update.line))
        except Exception:
            # Its lease ends, and it is told again.
            log.exception("erpnext_not_recorded", line=str(update.line))
        finally:
            self._news.set()  # its site may have another one

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, _with_connection, work
        )


def _with_connection(work: Callable[[], T]) -> T:
    try:
        return work()
    finally:
        close_old_connections()


class BackgroundTeller:
    """The loop in a daemon thread of its own: no other duty waits for a slow site."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None

    def keep_running(self) -> None:
        """Starts the thread where there is none, or it has died. Safe to repeat."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="erpnext", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """What is being sent has a few seconds; what is not done by then is sent again."""
        if self._running:
            loop, task = self._running
            with suppress(RuntimeError):  # it has ended already
                loop.call_soon_threadsafe(task.cancel)
        if self._thread:
            self._thread.join(2 * STOP_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._tell())
        except asyncio.CancelledError:
            return
        except Exception:
            if threading.main_thread().is_alive():  # else the process is ending
                log.exception("erpnext_interrupted")

    async def _tell(self) -> None:
        async with Putter(allow_private=True) as local, Putter(allow_private=False) as public:
            task = asyncio.create_task(Teller(local, public).run())
            self._running = asyncio.get_running_loop(), task
            await task


register_duty("erpnext_updates", BackgroundTeller().keep_running, every=RESTART_AFTER)

"""Hints that leave the process: Celery messages that wake workers, and news for open pages.

Both only ever hasten what the database already says: the sweep wakes workers that no message
reached, and a page asks again by event number. So they are sent by a thread of their own, after
the commit, off the write path, and a broker that is down or slow holds nobody up.
"""

import atexit
import threading
import uuid
from asyncio import Runner
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import structlog
from celery import current_app, group
from channels.layers import get_channel_layer
from django.db import transaction

log = structlog.get_logger(__name__)

MOST_WAKES = (
    32  # one woken thread goes on claiming while there is work, so more would only be noise
)
PAGES_PAUSE = 0.1  # seconds; the changes to a job within them are one message to its pages
JOBS_GROUP = "jobs"


def job_group(job_id: uuid.UUID | str) -> str:
    return f"job.{job_id}"


class Messenger:
    """Collects hints and sends them from one daemon thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._wakes: Counter[str] = Counter()
        self._changed: dict[str, None] = {}  # ordered, each once
        self._thread: threading.Thread | None = None

    def post(self, wakes: Iterable[str] = (), changed: Iterable[str] = ()) -> None:
        with self._lock:
            self._wakes.update(wakes)
            self._changed.update(dict.fromkeys(changed))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="messenger", daemon=True)
                self._thread.start()
        self._news.set()

    def flush(self) -> None:
        """Sends what is left, from the calling thread: a process that ends has no later."""
        self._wake_workers()
        if self._changed:
            with Runner() as loop:
                self._tell_pages(loop)

    def _run(self) -> None:
        next_telling = 0.0
        with Runner() as loop:
            while True:
                pause = max(next_telling - monotonic(), 0.0)
                self._news.wait(pause if self._changed else None)
                self._news.clear()
                self._wake_workers()
                if self._changed and monotonic() >= next_telling:
                    self._tell_pages(loop)
                    next_telling = monotonic() + PAGES_PAUSE

    def _wake_workers(self) -> None:
        with self._lock:
            wakes, self._wakes = self._wakes, Counter()
        with _only_hints():
            for queue, count in wakes.items():
                send_wakes(queue, count)

    def _tell_pages(self, loop: Runner) -> None:
        with self._lock:
            changed, self._changed = self._changed, {}
        with _only_hints():
            loop.run(_tell_pages(list(changed)))


@contextmanager
def _only_hints() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  the broker's clients raise a dozen kinds
        log.warning("hint_not_sent", error=repr(error))


messenger = Messenger()
atexit.register(messenger.flush)


def wake(queues: Iterable[str]) -> None:
    """Wakes a worker for each step that has become ready; `queues` names each one's queue."""
    if queues := list(queues):
        transaction.on_commit(lambda: messenger.post(wakes=queues))


def job_changed(job_id: uuid.UUID) -> None:
    transaction.on_commit(lambda: messenger.post(changed=[str(job_id)]))


def send_wakes(queue: str, count: int) -> None:
    """Raises the broker's error when it cannot be reached."""
    from jobs.tasks import run_ready_steps  # tasks run the steps, which post the hints

    calls = group(run_ready_steps.si(queue) for _ in range(min(count, MOST_WAKES)))
    calls.apply_async(queue=queue, retry=False)


def count_waiting_calls(queue: str) -> int:
    """How many wake-up calls for `queue` no worker has taken yet."""
    with current_app.connection_for_write() as connection:
        # Not passive: kombu looks for the key without its prefix then, and finds no queue.
        channel: Any = connection.default_channel
        return int(channel.queue_declare(queue=queue, durable=True).message_count)


async def _tell_pages(job_ids: list[str]) -> None:
    layer: Any = get_channel_layer()
    for job_id in job_ids:
        await layer.group_send(job_group(job_id), {"type": "job.changed", "job": job_id})
    await layer.group_send(JOBS_GROUP, {"type": "jobs.changed", "jobs": job_ids})

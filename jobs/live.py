"""Hints that leave the process: Celery messages that wake workers, and news for open pages.

Both only ever hasten what the database already says: the sweep wakes workers that no message
reached, and a page asks again by event number. So each kind is sent by a thread of its own, after
the commit, off the write path, and a broker that is down or slow holds nobody up.
"""

import atexit
import threading
import uuid
from abc import ABC, abstractmethod
from asyncio import Runner
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

import structlog
from celery import current_app
from channels.layers import get_channel_layer
from django.db import transaction

log = structlog.get_logger(__name__)

# A woken thread goes on claiming while there is work, so that more calls would only be noise. A few
# suffice for short steps; for what they leave, others are called when it turns out to be long.
MOST_WAKES = 32  # of a queue; the sweep sees to what they do not reach
MOST_WAITING = 8  # that no worker has taken yet
WAKES_PAUSE = 0.01  # seconds
REST_PAUSE = 0.05  # seconds
PAGES_DELAY = 0.1  # seconds; the changes within them are one message
JOBS_GROUP = "jobs"


class Courier(ABC):
    """Collects hints of one kind and sends them from a daemon thread."""

    name: str
    delay = 0.0  # seconds before the first of them is sent, with what comes meanwhile
    pause = 0.0  # seconds between two sendings

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._collected: Counter[str] = Counter()
        self._thread: threading.Thread | None = None

    def post(self, hints: Iterable[str]) -> None:
        with self._lock:
            self._collected.update(hints)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()
        self._news.set()

    def flush(self) -> None:
        """Sends what is left, from the calling thread: a process that ends has no later."""
        with Runner() as loop:
            self._send_all(Counter(), loop)

    def _run(self) -> None:
        rest: Counter[str] = Counter()
        with Runner() as loop:
            while True:
                self._news.wait(REST_PAUSE if rest else None)
                sleep(self.delay)
                self._news.clear()
                rest = self._send_all(rest, loop)
                sleep(self.pause)

    def _send_all(self, rest: Counter[str], loop: Runner) -> Counter[str]:
        with self._lock:
            hints, self._collected = self._collected, Counter()
        if hints or rest:
            with _only_hints():
                return self.send(hints + rest, loop)
        return Counter()

    @abstractmethod
    def send(self, hints: Counter[str], loop: Runner) -> Counter[str]:
        """Returns the rest, for later. `loop` is the sending thread's own. When this raises, it is
        logged and the hints are lost."""


class WakeCourier(Courier):
    """Calls workers; the hints are queues, once for each step that has become ready."""

    name = "wakes"
    pause = WAKES_PAUSE

    def __init__(self) -> None:
        super().__init__()
        self._woken_at: dict[str, float] = {}

    def send(self, hints: Counter[str], loop: Runner) -> Counter[str]:
        left: Counter[str] = Counter()
        for queue, count in hints.items():
            room = self._room(queue)
            send_wakes(queue, min(count, room))
            self._woken_at[queue] = monotonic()
            left[queue] = max(min(count, MOST_WAKES) - room, 0)
        return +left

    def _room(self, queue: str) -> int:
        """How many calls to send now: no more than workers take. An idle queue is not asked, as it
        would be a trip to the broker before the first call."""
        if monotonic() > self._woken_at.get(queue, float("-inf")) + 2 * WAKES_PAUSE:
            return MOST_WAITING
        return max(MOST_WAITING - count_waiting_calls(queue), 0)


class PageCourier(Courier):
    """Tells open pages which jobs have changed; the hints are their ids."""

    name = "pages"
    delay = PAGES_DELAY  # a job of milliseconds is not slowed down by telling of its beginning

    def send(self, hints: Counter[str], loop: Runner) -> Counter[str]:
        loop.run(_tell_pages(list(hints)))
        return Counter()


class Messenger:
    def __init__(self) -> None:
        self.wakes = WakeCourier()
        self.pages = PageCourier()

    def post(self, wakes: Iterable[str] = (), changed: Iterable[str] = ()) -> None:
        if wakes:
            self.wakes.post(wakes)
        if changed:
            self.pages.post(changed)

    def flush(self) -> None:
        self.wakes.flush()
        self.pages.flush()


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

    with current_app.amqp.producer_pool.acquire(block=True) as producer:
        for _ in range(min(count, MOST_WAKES)):
            run_ready_steps.apply_async((queue,), queue=queue, retry=False, producer=producer)


def count_waiting_calls(queue: str) -> int:
    """How many wake-up calls for `queue` no worker has taken yet."""
    with current_app.amqp.producer_pool.acquire(block=True) as producer:
        # Not passive: kombu looks for the key without its prefix then, and finds no queue.
        channel: Any = producer.channel
        return int(channel.queue_declare(queue=queue, durable=True).message_count)


async def _tell_pages(job_ids: list[str]) -> None:
    layer: Any = get_channel_layer()
    await layer.group_send(JOBS_GROUP, {"type": "jobs.changed", "jobs": job_ids})

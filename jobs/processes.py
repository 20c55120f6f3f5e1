"""Beats: a worker and a scheduler say in the database, every 10 s, that they are alive.

In the database, since the broker may be gone when one wants to know. With each beat goes what the
process has counted since the last (`tally.py`).
"""

import os
import socket
import threading
from collections.abc import Collection
from datetime import timedelta
from time import monotonic

import structlog
from django.db import Error as DatabaseTrouble
from django.db import close_old_connections
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from jobs.leases import keeper
from jobs.models import Process
from jobs.tally import tally

log = structlog.get_logger(__name__)

BEAT = timedelta(seconds=10)
STALE = 3 * BEAT  # no longer believed to be alive
FORGOTTEN = timedelta(hours=1)  # until then a page can say that it vanished


HOST = "host."
"""Queues of one machine each, for steps that go on where their browser is."""


def host_queue() -> str:
    """The queue of this machine: whoever serves `steps` here serves it as well."""
    return f"{HOST}{socket.gethostname()}"


def is_host_queue(queue: str) -> bool:
    return queue.startswith(HOST)


def find_serving(queue: str) -> QuerySet[Process]:
    """The workers that are alive and serve this queue."""
    serving = Process.objects.filter(kind=Process.Kind.WORKER, queues__contains=[queue])
    return serving.filter(beat_at__gt=Now() - STALE)


def is_served(queue: str) -> bool:
    """Whether a step that is sent there is run soon."""
    return find_serving(queue).exists()


def find_processes() -> QuerySet[Process]:
    """Those that are alive, and those that vanished not long ago; `is_alive` tells them apart."""
    found = Process.objects.filter(beat_at__gt=Now() - FORGOTTEN)
    return found.annotate(is_alive=Q(beat_at__gt=Now() - STALE))


class Heart:
    """Beats for this process: by itself, from a thread, or when it is told to."""

    def __init__(self, kind: Process.Kind, queues: Collection[str] = ()) -> None:
        self.kind, self.queues = kind, sorted(queues)
        self.id = uuid7()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._ending = threading.Event()
        self._last = float("-inf")

    def start(self) -> None:
        threading.Thread(target=self._run, name="heart", daemon=True).start()

    def _run(self) -> None:
        while not self._ending.is_set():
            self.beat()
            close_old_connections()
            self._ending.wait(BEAT.total_seconds())

    def beat_if_due(self) -> None:
        if monotonic() - self._last >= BEAT.total_seconds():
            self.beat()

    def beat(self) -> None:
        self._last = monotonic()
        try:
            self._beat()
            tally.save()
        except DatabaseTrouble as error:
            log.warning("beat_failed", error=repr(error))

    def _beat(self) -> None:
        row = Process.objects.filter(pk=self.id)
        if row.update(beat_at=Now(), running=keeper.running):
            return
        Process.objects.filter(beat_at__lt=Now() - FORGOTTEN).delete()
        Process.objects.create(
            id=self.id,
            kind=self.kind,
            name=self.name,
            queues=self.queues,
            running=keeper.running,
            beat_at=Now(),
        )

    def end(self) -> None:
        """The process ends in good order: nobody need wonder where it is."""
        self._ending.set()
        try:
            Process.objects.filter(pk=self.id).delete()
            tally.save()
        except DatabaseTrouble as error:
            log.warning("end_not_noted", error=repr(error))

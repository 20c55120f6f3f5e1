"""Keeping the leases of running steps alive, and telling steps to stop.

One thread a worker process renews all leases with one statement. A step whose lease is not renewed
(another worker has it, or its job has ended), or whose time is over, gets its `stop` event set.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic

import structlog
from django.db import Error as DatabaseTrouble
from django.db import close_old_connections

from jobs.statements import Claim, ClaimedStep, renew_leases
from jobs.steps import LEASE

log = structlog.get_logger(__name__)

RENEWAL = LEASE / 3


@dataclass
class HeldStep:
    """A step that this process is running."""

    ends_at: float  # monotonic seconds
    stop: threading.Event = field(default_factory=threading.Event)
    why: str | None = None  # "lease_lost", "time_limit" or "shutdown" once stop is set


class LeaseKeeper:
    def __init__(self) -> None:
        # By claim, not by step: a late thread and a newer claim to its step may both be here.
        self._held: dict[Claim, HeldStep] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def hold(self, step: ClaimedStep, time_limit: timedelta) -> Iterator[HeldStep]:
        claim, held = (step.id, step.fence), HeldStep(monotonic() + time_limit.total_seconds())
        with self._lock:
            self._held[claim] = held
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()
        try:
            yield held
        finally:
            with self._lock:
                self._held.pop(claim, None)

    def stop_all(self, why: str) -> None:
        with self._lock:
            for held in self._held.values():
                _stop(held, why)

    @property
    def running(self) -> int:
        return len(self._held)

    def _run(self) -> None:
        while True:
            threading.Event().wait(RENEWAL.total_seconds())
            try:
                self.renew()
            except DatabaseTrouble as error:
                # The lease outlives two missed renewals; the database is the judge, not we.
                log.warning("lease_renewal_failed", error=repr(error))
            finally:
                close_old_connections()

    def renew(self) -> None:
        with self._lock:
            held = dict(self._held)
        for step in held.values():
            if monotonic() > step.ends_at:
                _stop(step, "time_limit")
        # A step that does not heed its time limit loses its lease as well, and another goes on.
        grace = LEASE.total_seconds()
        current = {claim for claim, step in held.items() if monotonic() < step.ends_at + grace}
        if current:
            for lost in current - renew_leases(current, lease=LEASE):
                _stop(held[lost], "lease_lost")


def _stop(held: HeldStep, why: str) -> None:
    if not held.stop.is_set():
        held.why = why
        held.stop.set()


keeper = LeaseKeeper()

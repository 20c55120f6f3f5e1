"""Keeping the leases of running steps alive, and telling steps to stop.

One thread a worker process renews all leases with one statement, and in between looks whether the
jobs still run. A step whose job has ended, whose lease is not renewed (another worker has it), or
whose time is over, gets its `stop` event set.
"""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic

import structlog
from django.db import Error as DatabaseTrouble
from django.db import close_old_connections

from jobs.models import FINISHED, Status, Step
from jobs.statements import Claim, ClaimedStep, renew_leases
from jobs.steps import LEASE

log = structlog.get_logger(__name__)

RENEWAL = LEASE / 3
# How soon a running step learns that its job was cancelled: a second, of the five in which people
# are promised that it stops. One cheap read a process, only while it holds steps.
LOOK = timedelta(seconds=1)


@dataclass
class HeldStep:
    """A step that this process is running."""

    ends_at: float  # monotonic seconds
    stop: threading.Event = field(default_factory=threading.Event)
    why: str | None = None  # "job_ended", "lease_lost", "time_limit", "shutdown" once stop is set


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
        pause = min(LOOK, RENEWAL).total_seconds()
        renew_at = monotonic() + RENEWAL.total_seconds()
        while True:
            threading.Event().wait(pause)
            try:
                if monotonic() < renew_at:
                    self.stop_ended()
                else:
                    self.renew()
                    renew_at = monotonic() + RENEWAL.total_seconds()
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
        lost = current - renew_leases(current, lease=LEASE) if current else set()
        ended = _of_ended_jobs(lost)
        for claim in lost:
            _stop(held[claim], "job_ended" if claim in ended else "lease_lost")

    def stop_ended(self) -> None:
        """Tells the steps whose job has ended, by a cancel or by another step's failure."""
        with self._lock:
            held = dict(self._held)
        for claim in _of_ended_jobs(held):
            _stop(held[claim], "job_ended")


def _of_ended_jobs(claims: Collection[Claim]) -> set[Claim]:
    """Those that are still ours, and whose job has ended."""
    if not claims:
        return set()
    running = Step.objects.filter(
        pk__in=[step_id for step_id, _ in claims],
        status=Status.RUNNING,
        job__status__in=FINISHED,
    )
    return set(claims) & set(running.values_list("pk", "fence"))


def _stop(held: HeldStep, why: str) -> None:
    if not held.stop.is_set():
        held.why = why
        held.stop.set()


keeper = LeaseKeeper()

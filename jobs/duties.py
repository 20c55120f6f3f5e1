"""What other rooms have the scheduler do from time to time, beside the sweep.

In a thread of its own: a duty may write mails, and no step that is due waits for a mail server.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

import structlog
from django.db import close_old_connections

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
STOP_SECONDS = 5.0  # for the duty that is being done


@dataclass
class Duty:
    """`work` is safe to repeat, and to do at the same time in several schedulers."""

    name: str
    work: Callable[[], object]
    every: timedelta
    next_at: float = 0.0


_duties: dict[str, Duty] = {}


def register_duty(name: str, work: Callable[[], object], *, every: timedelta) -> None:
    _duties[name] = Duty(name, work, every)


class BackgroundDuties:
    """A daemon thread that does each duty at once and then from time to time."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="duties", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopped.is_set():
            do_due_duties(monotonic())
            self._stopped.wait(LOOK_SECONDS)


def do_due_duties(now: float) -> None:
    """One that fails is logged and done again when it is due; it keeps no other from its turn."""
    for duty in _duties.values():
        if now < duty.next_at:
            continue
        duty.next_at = now + duty.every.total_seconds()
        try:
            duty.work()
        except Exception:
            log.exception("duty_failed", duty=duty.name)
        finally:
            close_old_connections()

import signal
import sys
import time
from contextlib import suppress
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError, close_old_connections
from kombu.exceptions import OperationalError as BrokerError

from jobs.archive import DailyArchive
from jobs.duties import BackgroundDuties
from jobs.models import Process
from jobs.processes import Heart
from jobs.sweep import Swept, age_steps, seconds_until_due, sweep
from jobs.tally import tally
from jobs.webhooks.sending import BackgroundSender

log = structlog.get_logger(__name__)

LONGEST_PAUSE_SECONDS = 1.0
SHORTEST_PAUSE_SECONDS = 0.05
# It reads every ready step, and what it decides takes minutes.
AGEING_SECONDS = 15.0


class Command(BaseCommand):
    help = "Makes due and orphaned steps ready again. With --forever it is the scheduler."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--forever", action="store_true", help="Sweep until stopped.")

    def handle(self, *args: Any, forever: bool, **options: Any) -> None:
        if not forever:
            age_steps()
            self.stdout.write(_summary(sweep()))
            return
        log.info("scheduler_started")
        webhooks = BackgroundSender(allow_private=settings.WEBHOOKS_ALLOW_PRIVATE)
        duties = BackgroundDuties()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        heart, archive = Heart(Process.Kind.SCHEDULER), DailyArchive()
        next_ageing = time.monotonic()
        try:
            while True:
                heart.beat_if_due()
                if is_ageing := time.monotonic() >= next_ageing:
                    next_ageing = time.monotonic() + AGEING_SECONDS
                time.sleep(min(_sweep_and_pause(is_ageing), _archive_and_pause(archive)))
        finally:
            webhooks.stop()
            duties.stop()
            heart.end()

    def run_from_argv(self, argv: list[str]) -> None:
        with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
            super().run_from_argv(argv)


def _sweep_and_pause(is_ageing: bool = False) -> float:
    """One sweep; how long to pause until the next. A database or a broker that is away for a while
    is waited for: the sweep is what mends their absence."""
    try:
        if is_ageing:
            age_steps()
        swept = sweep()
        _count(swept)
        if swept != Swept():
            log.info("swept", due=swept.due, recovered=swept.recovered, woken=swept.woken)
        next_due = seconds_until_due()
    except (OperationalError, OSError, BrokerError) as error:
        log.warning("sweep_failed", error=repr(error))
        return LONGEST_PAUSE_SECONDS
    finally:
        close_old_connections()
    if next_due is None:
        return LONGEST_PAUSE_SECONDS
    return min(max(next_due, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)


def _archive_and_pause(archive: DailyArchive) -> float:
    """A batch of the day's archiving, between two sweeps: a due step waits for one at most."""
    try:
        return SHORTEST_PAUSE_SECONDS if archive.work() else LONGEST_PAUSE_SECONDS
    except (OperationalError, OSError) as error:
        log.warning("archiving_failed", error=repr(error))
        return LONGEST_PAUSE_SECONDS
    finally:
        close_old_connections()


def _count(swept: Swept) -> None:
    tally.count("sweeps")
    tally.count("steps_made_due", swept.due)
    tally.count("steps_recovered", swept.recovered)
    tally.count("workers_woken", swept.woken)


def _summary(swept: Swept) -> str:
    return f"{swept.due} due, {swept.recovered} recovered, {swept.woken} workers woken"

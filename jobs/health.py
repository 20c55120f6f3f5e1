"""What is wrong with the engine, if anything: the database, the broker, workers, sweep, late steps.

Asked often and most of all when something is down, so each question has a short time limit, uses
nothing that the work needs too, and is not asked more than once a second.
"""

import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

import psycopg
import redis
import structlog
from django.conf import settings
from django.db import connection

from jobs.processes import HOST, STALE

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 3  # a server that takes longer is as good as down
FRESH_SECONDS = 1.0
LATE_SECONDS = 300  # in turn for so long: more than a busy hour explains
OVERDUE_SECONDS = 30  # past its time for so long: nobody sweeps

# The statuses are literals, so that the planner can use the partial indexes of these rows. What
# waits for a machine that has no worker any more, the sweep gives to the others.
STATE = """
SELECT
    (SELECT count(*) FROM jobs_process WHERE kind = 'worker' AND beat_at > now() - %(stale)s),
    (SELECT extract(epoch FROM now() - max(beat_at)) FROM jobs_process WHERE kind = 'scheduler'),
    (SELECT extract(epoch FROM now() - min(due_at)) FROM jobs_step WHERE status = 'ready'),
    (SELECT extract(epoch FROM now() - min(due_at)) FROM jobs_step
     WHERE status = 'waiting' AND due_at < now()),
    (SELECT array_agg(DISTINCT s.queue) FROM jobs_step s WHERE s.status = 'ready'
     AND NOT starts_with(s.queue, %(host)s) AND NOT EXISTS (
         SELECT FROM jobs_process p
         WHERE p.kind = 'worker' AND p.beat_at > now() - %(stale)s AND s.queue = ANY(p.queues)))
"""


@dataclass(frozen=True)
class Check:
    """One thing that must be right; `ok` is None when it cannot be known."""

    ok: bool | None
    message: str  # what is the matter, and what to do


@dataclass(frozen=True)
class Health:
    checks: Mapping[str, Check]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks.values())

    def described(self) -> dict[str, Any]:
        checks = {name: asdict(check) for name, check in self.checks.items()}
        return {"status": "ok" if self.ok else "trouble", "checks": checks}


class HealthReader:
    """Callers at the same time share one answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._health: Health

    def read(self) -> Health:
        with self._lock:
            if monotonic() - self._read_at > FRESH_SECONDS:
                self._health = read_health()
                self._read_at = monotonic()
            return self._health


reader = HealthReader()


@dataclass(frozen=True)
class State:
    """What the database says. Ages in seconds; None where there is nothing of the kind."""

    workers: int
    sweep_age: float | None
    oldest_ready: float | None
    oldest_overdue: float | None
    unserved_queues: list[str]


def read_health() -> Health:
    try:
        state = _read_state()
    except psycopg.Error as error:
        log.warning("database_not_healthy", error=repr(error))
        state = None
    return Health(
        {
            "database": decide_database(state),
            "broker": decide_broker(answers=_broker_answers()),
            "workers": decide_workers(state),
            "sweep": decide_sweep(state),
            "oldest_due_step": decide_oldest_due(state),
        }
    )


def _read_state() -> State:
    """Over a connection of its own: those of the pool may all be busy, and the pool waits half a
    minute for a server that is gone."""
    parameters: dict[str, Any] = connection.get_connection_params()
    milliseconds = ANSWER_SECONDS * 1000
    parameters["options"] = f"-c statement_timeout={milliseconds}"
    parameters["connect_timeout"] = ANSWER_SECONDS
    with closing(psycopg.connect(**parameters, autocommit=True)) as own:
        row = own.execute(STATE, {"stale": STALE, "host": HOST}).fetchone()
    assert row is not None
    workers, *ages, unserved = row
    sweep, ready, overdue = (None if age is None else float(age) for age in ages)
    return State(workers, sweep, ready, overdue, unserved or [])


def _broker_answers() -> bool:
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=None,
        ) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError) as error:
        log.warning("broker_not_healthy", error=repr(error))
        return False


# --- Decisions -------------------------------------------------------------------------------

UNKNOWN = Check(None, "Not known: the database does not answer. See there.")


def decide_database(state: State | None) -> Check:
    if state is None:
        return Check(
            False,
            f"PostgreSQL did not answer within {ANSWER_SECONDS} s. Check that it runs and that "
            "DATABASE_URL is right; this process's log has the error. Jobs go on when it is back.",
        )
    return Check(True, "Answers.")


def decide_broker(*, answers: bool) -> Check:
    if not answers:
        return Check(
            False,
            f"Valkey did not answer within {ANSWER_SECONDS} s. Check that it runs and that "
            "REDIS_URL is right. Nothing is lost: jobs wait, and pages are up to 20 s late.",
        )
    return Check(True, "Answers.")


def decide_workers(state: State | None) -> Check:
    if state is None:
        return UNKNOWN
    if not state.workers:
        return Check(
            False,
            f"No worker has said that it is alive for {STALE.total_seconds():.0f} s, so no step "
            "is run. Start one (celery -A config worker --pool threads), or look into its log.",
        )
    if state.unserved_queues:
        names = ", ".join(state.unserved_queues)
        return Check(
            False,
            f"Steps are ready for which there is no worker. Start one with: -Q {names}",
        )
    return Check(True, f"{state.workers} alive.")


def decide_sweep(state: State | None) -> Check:
    if state is None:
        return UNKNOWN
    if state.sweep_age is None:
        return Check(
            False,
            "No scheduler runs, so nothing that waits goes on and no lost step is found. Start "
            "one: manage.py jobs_sweep --forever",
        )
    if state.sweep_age > STALE.total_seconds():
        return Check(
            False,
            f"The scheduler was last alive {state.sweep_age:.0f} s ago. Look into its log and "
            "start it again: manage.py jobs_sweep --forever",
        )
    return Check(True, "Runs.")


def decide_oldest_due(state: State | None) -> Check:
    if state is None:
        return UNKNOWN
    if (state.oldest_overdue or 0) > OVERDUE_SECONDS:
        return Check(
            False,
            f"A step that waits was due {state.oldest_overdue:.0f} s ago and was not made ready. "
            "Look into the scheduler's log.",
        )
    if (state.oldest_ready or 0) > LATE_SECONDS:
        return Check(
            False,
            f"A step has been ready for {state.oldest_ready:.0f} s. The workers are too few or "
            "stuck: start more of them, or look into their logs.",
        )
    return Check(True, f"Ready for {state.oldest_ready or 0:.0f} s.")

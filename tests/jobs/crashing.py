"""A process that is killed at the moment of its commit.

Preloaded by multiprocessing's fork server, which has no threads and no connections: each crash is a
fork of it, and costs milliseconds.
"""

import os
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from typing import Any, Literal

import django

django.setup()

from django.db import connection  # noqa: E402

from jobs import control, effects, flow, steps, sweep, waits  # noqa: E402
from jobs.errors import BusinessError, TransientError  # noqa: E402
from jobs.webhooks import deliveries, endpoints  # noqa: E402
from tests.jobs import workflows  # noqa: E402

forks = get_context("forkserver")
forks.set_forkserver_preload([__name__])

Moment = Literal["before", "after"]

VERBS: dict[str, Callable[..., Any]] = {
    "submit": workflows.submit_toy,
    "claim": steps.claim_next,
    "claim apart": steps.claim_apart,
    "complete": steps.complete,
    "retry": partial(steps.retry, error=TransientError("site_timeout", "No answer.")),
    "postpone": steps.postpone,
    "release": steps.release,
    "suspend": steps.suspend,
    "begin effect": effects.begin,
    "settle effect": effects.settle,
    "send signal": waits.send_signal,
    "fail": partial(steps.fail, error=BusinessError("captcha", "A captcha.")),
    "report progress": steps.report_progress,
    "save checkpoint": steps.save_checkpoint,
    "make due ready": sweep.make_due_ready,
    "recover expired": sweep.recover_expired,
    "stop": steps.stop,
    "cancel": control.cancel_job,
    "rerun": control.rerun_job,
    "resume": control.resume_job,
    "decide": effects.decide,
    "choose": waits.choose,
    "pause": flow.pause,
    "resume key": flow.resume,
    "set limit": flow.set_limit,
    "enable webhook": endpoints.enable,
    "rotate secret": endpoints.rotate_secret,
    "send again": deliveries.redeliver,
    "save": lambda row: row.save(),
}


def crash(moment: Moment, verb: str, *args: Any, **kwargs: Any) -> None:
    """Carries the verb out in a new process, which is killed right before or after its commit."""
    database = connection.settings_dict["NAME"]
    process = forks.Process(target=_crash, args=(database, moment, verb, args, kwargs))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL, f"{verb} ended with {process.exitcode}"


def _crash(database: str, moment: Moment, verb: str, args: Any, kwargs: Any) -> None:
    connection.settings_dict["NAME"] = database
    connection.ensure_connection()  # now: Django asks the server things when it connects
    commit = connection._commit

    def die_at_commit() -> None:
        if moment == "after":
            commit()
        _die()

    def die_at_statement(execute: Callable[..., Any], *statement: Any) -> Any:
        """A statement outside of any transaction is its own commit."""
        if connection.in_atomic_block:
            return execute(*statement)
        if moment == "after":
            execute(*statement)
        _die()
        return None

    connection._commit = die_at_commit
    with connection.execute_wrapper(die_at_statement):
        VERBS[verb](*args, **kwargs)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)

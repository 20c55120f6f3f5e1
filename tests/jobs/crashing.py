"""A process that is killed at the moment of one of its commits, and the names of these moments.

Preloaded by multiprocessing's fork server, which has no threads and no connections: each crash is a
fork of it, and costs milliseconds.
"""

import os
import re
import signal
import sys
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event
from typing import Any, Literal

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.core.files.storage import FileSystemStorage  # noqa: E402
from django.db import connection  # noqa: E402
from django.utils import timezone  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402

from accounts.models import User  # noqa: E402
from jobs import (  # noqa: E402
    archive,
    bulk,
    control,
    effects,
    flow,
    keys,
    live,
    statements,
    steps,
    sweep,
    tally,
    waits,
)
from jobs.context import StepContext  # noqa: E402
from jobs.errors import BusinessError, TransientError  # noqa: E402
from jobs.models import Artifact, Effect, Job, Process  # noqa: E402
from jobs.otp import messages, requests  # noqa: E402
from jobs.plans import Done  # noqa: E402
from jobs.processes import Heart  # noqa: E402
from jobs.runner import runner  # noqa: E402
from jobs.webhooks import deliveries, endpoints, notices, outbox  # noqa: E402
from tests.jobs import workflows  # noqa: E402
from tests.waiting import wait_until  # noqa: E402

forks = get_context("forkserver")
forks.set_forkserver_preload([__name__])

Moment = Literal["before", "after"]
VICTIM = "victim"

# What tells a statement that writes from one that reads or locks.
WRITES = re.compile(r"\b(INSERT INTO|DELETE FROM|UPDATE \"?[a-z]+_)")


def keep_files_in(folder: Path) -> None:
    Artifact._meta.get_field("file").storage = FileSystemStorage(folder)  # type: ignore[attr-defined]


def keep_artifact(claim: statements.ClaimedStep, folder: Path) -> None:
    keep_files_in(folder)
    context = StepContext(claim, Event(), steps.LEASE)
    context.keep_artifact(Artifact.Kind.PAGE, "page.html", b"<p>")


def archive_batch(folder: Path) -> None:
    keep_files_in(folder)
    archive.archive_batch(archive.retention())


def archive_daily(folder: Path) -> None:
    keep_files_in(folder)
    daily = archive.DailyArchive()
    while daily.work():
        pass


def bring_forward() -> None:
    flow.bring_forward(Job.objects.all(), timezone.now())


def cancel_all() -> None:
    bulk.apply(bulk.Action.CANCEL, Job.objects.all(), by="alice")


def rerun_all() -> None:
    bulk.apply(bulk.Action.RERUN, Job.objects.all(), by="alice")


def live_and_end() -> None:
    heart = Heart(Process.Kind.WORKER, ["steps"])
    for _ in range(2):
        tally.tally.count("step_retries", handler="toy.victim")
        heart.beat()
    heart.end()


def run_steps(queues: list[str]) -> None:
    workflows.BEHAVIOURS["pay"] = pay
    runner.run_ready_steps(queues)


def pay(context: StepContext) -> Done:
    """Pays at a site that is a file beside the job's ledger: a line is a payment."""
    site = Path(context.job_params["ledger"]).with_name("site")

    def act() -> dict[str, int]:
        with site.open("a") as payments:
            payments.write("paid\n")
        return {"receipt": 1}

    def look(effect: Effect) -> effects.Finding:
        return effects.Happened({"receipt": 1}) if site.exists() else effects.DidNotHappen()

    context.progress(10, "Paying")
    receipt = context.perform("pay:5", title="Pay ₹6,000", intent={}, act=act, reconcile=look)
    context.save_checkpoint({"paid": True})
    return Done(receipt)


def tell_admins(folder: Path) -> int:
    """By mail, and each mail is a file."""
    settings.MAIL_FROM = "cartwright@example.com"
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = str(folder)
    return notices.tell_admins()


def patch_webhook(user: User, pk: uuid.UUID, changes: Mapping[str, Any]) -> None:
    client = APIClient()
    client.force_authenticate(user)
    response = client.patch(f"/api/webhooks/{pk}", changes, format="json", HTTP_HOST="localhost")
    assert response.status_code == 200, response.content


VERBS: dict[str, Callable[..., Any]] = {
    "submit": workflows.submit_toy,
    "claim": steps.claim_next,
    "claim apart": steps.claim_apart,
    "complete": steps.complete,
    "retry": partial(steps.retry, error=TransientError("site_timeout", "No answer.")),
    "postpone": steps.postpone,
    "release": steps.release,
    "suspend": steps.suspend,
    "fail": partial(steps.fail, error=BusinessError("captcha", "A captcha.")),
    "stop": steps.stop,
    "make ready": steps.make_ready,
    "report progress": steps.report_progress,
    "save checkpoint": steps.save_checkpoint,
    "renew leases": statements.renew_leases,
    "set key": keys.set_key,
    "keep artifact": keep_artifact,
    "run steps": run_steps,
    "begin effect": effects.begin,
    "begin effect again": effects.begin_again,
    "settle effect": effects.settle,
    "decide": effects.decide,
    "send signal": waits.send_signal,
    "send signals": waits.send_signals,
    "choose": waits.choose,
    "receive message": messages.receive,
    "assign message": messages.assign,
    "erase old codes": messages.erase_old_codes,
    "enter code": requests.enter_code,
    "accept code": requests.accept_code,
    "reject code": requests.reject_code,
    "make due ready": sweep.make_due_ready,
    "recover expired": sweep.recover_expired,
    "return stranded": sweep.return_stranded,
    "age steps": sweep.age_steps,
    "sweep": sweep.sweep,
    "cancel": control.cancel_job,
    "rerun": control.rerun_job,
    "resume": control.resume_job,
    "cancel all": cancel_all,
    "rerun all": rerun_all,
    "pause": flow.pause,
    "resume key": flow.resume,
    "set limit": flow.set_limit,
    "wake": flow.wake,
    "bring forward": bring_forward,
    "add webhook": endpoints.add_endpoint,
    "change webhook": endpoints.change_endpoint,
    "enable webhook": endpoints.enable,
    "disable webhook": endpoints.disable,
    "delete webhook": endpoints.delete_endpoint,
    "patch webhook": patch_webhook,
    "tell admins": tell_admins,
    "rotate secret": endpoints.rotate_secret,
    "forget old secrets": endpoints.forget_old_secrets,
    "fan out": outbox.fan_out,
    "claim deliveries": deliveries.claim_due,
    "record delivery": deliveries.record,
    "send test": deliveries.send_test,
    "send again": deliveries.redeliver,
    "forget old deliveries": deliveries.forget_old,
    "archive": archive_batch,
    "archive daily": archive_daily,
    "live and end": live_and_end,
    "save": lambda row: row.save(),
}


def crash(moment: Moment, verb: str, *args: Any, nth: int = 1, **kwargs: Any) -> str:
    """Carries the verb out in a new process, which is killed right before or after its `nth`
    commit. Returns the function that commits there, as in `steps.fail`."""
    database = connection.settings_dict["NAME"]
    told, tell = forks.Pipe(duplex=False)
    process = forks.Process(target=_crash, args=(database, moment, nth, tell, verb, args, kwargs))
    process.start()
    tell.close()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL, f"{verb} ended with {process.exitcode}"
    wait_until(lambda: not count_victims())  # the server frees its locks when it notices
    with told:
        return str(told.recv())


def count_victims() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
            " AND datname = current_database()",
            [VICTIM],
        )
        return int(cursor.fetchone()[0])


def _crash(
    database: str, moment: Moment, nth: int, tell: Connection, verb: str, args: Any, kwargs: Any
) -> None:
    connection.settings_dict["NAME"] = database
    connection.ensure_connection()  # now: Django asks the server things when it connects
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('application_name', %s, false)", [VICTIM])
    live.messenger.post = lambda **hints: None  # type: ignore[method-assign]  # as if it was lost
    live.send_wakes = lambda queue, calls: None  # the same
    live.count_waiting_calls = lambda queue: 0
    fault = Fault(moment, nth, tell)
    connection._commit = partial(fault.commit, connection._commit)
    with connection.execute_wrapper(fault.execute):
        VERBS[verb](*args, **kwargs)


class Fault:
    """Counts the commits of what was written; what only read has nothing to lose."""

    def __init__(self, moment: Moment, nth: int, tell: Connection) -> None:
        self.moment, self.left, self.tell = moment, nth, tell
        self.has_written = False

    def commit(self, commit: Callable[[], None]) -> None:
        if self.has_written:
            self.has_written = False
            self._reach(commit)
        else:
            commit()

    def execute(self, execute: Callable[..., Any], sql: str, *statement: Any) -> Any:
        is_write = bool(WRITES.search(str(sql)))
        if connection.in_atomic_block:
            self.has_written |= is_write
        elif is_write:  # outside of any transaction a statement is its own commit
            return self._reach(partial(execute, sql, *statement))
        return execute(sql, *statement)

    def _reach(self, commit: Callable[[], Any]) -> Any:
        self.left -= 1
        if self.left:
            return commit()
        if self.moment == "after":
            commit()
        self.tell.send(_find_committer())
        os.kill(os.getpid(), signal.SIGKILL)
        return None


def _find_committer() -> str:
    """The function of `jobs` that is being carried out, the innermost."""
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        module = frame.f_globals.get("__name__", "")
        if module.startswith("jobs.") and module != "jobs.statements.base":
            name = f"{module.removeprefix('jobs.')}.{frame.f_code.co_qualname}"
            return name.replace(".<locals>", "")
    return "not of jobs"

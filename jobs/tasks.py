"""Celery's side of the engine: one task, which is only a wake-up call, and a graceful end.

The task names a queue, not a step: which step is next in turn is the database's decision at the
moment of the claim, so messages may be lost, doubled, late or out of order.
"""

import threading
from time import sleep
from typing import Any

from celery import shared_task
from celery.signals import celeryd_after_setup, worker_ready, worker_shutdown, worker_shutting_down
from django.conf import settings

from jobs.models import Process
from jobs.plans import STEPS
from jobs.processes import Heart, host_queue, is_host_queue
from jobs.runner import runner

# What a stopped step gets to close its browser and to give its lease back.
RELEASE_SECONDS = 8.0


@shared_task(name="jobs.run_ready_steps", ignore_result=True)
def run_ready_steps(queue: str) -> None:
    """Runs ready steps of `queue` until there are none."""
    if queue == STEPS or is_host_queue(queue):
        # Those first that are bound to this machine: the page that they go on with does not wait.
        runner.run_ready_steps([host_queue(), STEPS])
    else:
        runner.run_ready_steps([queue])


@celeryd_after_setup.connect
def serve_this_host(instance: Any, **_: Any) -> None:
    """However it was started: who runs steps runs those too whose browser is on this machine."""
    queues = instance.app.amqp.queues
    if STEPS in queues.consume_from:
        queues.select_add(host_queue())


@worker_ready.connect
def begin_to_beat(sender: Any, **_: Any) -> None:
    heart = Heart(Process.Kind.WORKER, sender.app.amqp.queues.consume_from)
    heart.start()
    worker_shutdown.connect(lambda **_: heart.end(), weak=False)


@worker_shutting_down.connect
def end_gracefully(**_: Any) -> None:
    """Claims nothing more. Running steps may finish in the time that is given, less what they need
    to stop; those that do not are released, so that another worker has them at once and not when
    their leases end.

    SIGTERM is the signal to send. On SIGQUIT Celery's threads pool first goes on working for the
    whole soft-shutdown time and then cannot end its threads."""
    runner.stop()
    threading.Thread(target=_stop_what_still_runs, name="shutdown", daemon=True).start()


def _stop_what_still_runs() -> None:
    sleep(max(settings.WORKER_SHUTDOWN_SECONDS - RELEASE_SECONDS, 0.0))
    runner.keeper.stop_all("shutdown")

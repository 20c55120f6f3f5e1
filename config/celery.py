"""The Celery application. What a task may do, and why messages are only hints: `jobs/tasks.py`."""

import gc
import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("cartwright")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_ready.connect
def spare_the_garbage_collector(**_: Any) -> None:
    """What is loaded by now stays until the end: no collection need look at it again."""
    gc.freeze()
    gc.set_threshold(20_000)

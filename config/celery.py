"""The Celery application. What a task may do, and why messages are only hints: `jobs/tasks.py`."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("cartwright")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

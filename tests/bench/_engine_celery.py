"""The raw Celery application that the engine is measured against: chains and chords, no database.

Its messages are acknowledged late, as the engine's are; only the chord stores results, since it
counts them.
"""

import os

from celery import Celery

from tests.bench._engine_ledger import note
from tests.bench._engine_work import JOIN

QUEUE = "bench-raw"
PREFIX = {"global_keyprefix": "bench-raw:"}

app = Celery(
    "bench-raw",
    broker=os.environ["REDIS_URL"],
    backend=os.environ["REDIS_URL"],
    set_as_current=False,
)
app.conf.update(
    task_default_queue=QUEUE,
    task_acks_late=True,
    broker_transport_options=PREFIX,
    result_backend_transport_options=PREFIX,
    broker_connection_retry_on_startup=True,
)


@app.task(ignore_result=True)
def step(job: str, name: str) -> None:
    note(job, name)


@app.task
def counted_step(job: str, name: str) -> None:
    note(job, name)


@app.task(ignore_result=True)
def join(_results: list[None], job: str) -> None:
    note(job, JOIN)

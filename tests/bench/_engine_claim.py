"""What claiming and completing steps costs on a database that holds many finished jobs, or few.

Run with `python -m`, with DATABASE_URL naming a migrated database of its own: fills its tables and
then measures on command, so that two of these can take turns.
"""

import sys
from collections.abc import Mapping
from time import perf_counter

import django
from django.db import connection, models, transaction

django.setup()

from jobs import live, steps  # noqa: E402  models need Django set up
from jobs.models import Event, Job, Step  # noqa: E402
from jobs.submit import submit_job  # noqa: E402
from tests.bench._engine_programs import serve_commands  # noqa: E402
from tests.bench._toys import QUEUE  # noqa: E402

WORKER = "bench"


def fill(count: int) -> None:
    """Finished jobs like one that the engine has finished: its rows, so many times over."""
    submit_job("bench.single", {"job": "single"}, title="Finished")
    step = steps.claim_next([QUEUE], worker=WORKER)
    assert step is not None
    steps.complete(step, {}, queues=[QUEUE], worker=WORKER)
    with transaction.atomic(), connection.cursor() as cursor:
        # No triggers, no foreign keys: the copies are as right as what they are copies of.
        cursor.execute("SET LOCAL session_replication_role = replica")
        for copy in (
            _copy(Job, "id", {"id": _copied(1)}),
            _copy(Step, "job_id", {"id": _copied(2), "job_id": _copied(1)}),
            _copy(Event, "job_id", {"id": None, "job_id": _copied(1), "step_id": _copied(2)}),
        ):
            cursor.execute(copy, {"job": step.job_id, "count": count})
    with connection.cursor() as cursor:
        for model in (Job, Step, Event):
            cursor.execute(f"VACUUM (ANALYZE) {model._meta.db_table}")
        cursor.execute("CHECKPOINT")
    assert Job.objects.filter(status="completed").count() == count + 1


def _copied(kind: int) -> str:
    """The id of copy `n`: older than all that the engine makes, as finished jobs are."""
    return f"('00000000-0000-7000-800{kind}-' || lpad(to_hex(n), 12, '0'))::uuid"


def _copy(model: type[models.Model], key: str, own: Mapping[str, str | None]) -> str:
    table = model._meta.db_table
    columns = [field.column for field in model._meta.concrete_fields]
    values = {column: own.get(column, f"t.{column}") for column in columns}
    kept = {column: value for column, value in values.items() if value is not None}
    return (
        f"INSERT INTO {table} ({', '.join(kept)}) SELECT {', '.join(kept.values())} "
        f"FROM {table} t, generate_series(1, %(count)s) n WHERE t.{key} = %(job)s"
    )


def measure(jobs: int) -> list[float]:
    """Seconds for each of so many jobs of five steps: five completions, with what they claim."""
    for number in range(jobs):
        submit_job("bench.pipeline", {"job": str(number)}, title="Claimed")
    took = []
    step = steps.claim_next([QUEUE], worker=WORKER)
    while step is not None:
        job_id, started = step.job_id, perf_counter()
        while step is not None and step.job_id == job_id:
            step = steps.complete(step, {}, queues=[QUEUE], worker=WORKER)
        took.append(perf_counter() - started)
    assert len(took) == jobs
    return took


if __name__ == "__main__":
    live.messenger.post = lambda **_hints: None  # there is nobody to wake or tell
    fill(int(sys.argv[1]))
    serve_commands({"measure": measure})

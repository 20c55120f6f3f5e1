"""What `/metrics` tells Prometheus, read from the database by whichever web server is asked.

What is a fact there (queues, jobs, waits, processes) is counted at the scrape, by partial indexes.
What only happens in some process is in the rows to which all of them add (`tally.py`). One more
fact: a function below, and a line in READERS.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

from django.db import connection
from django.db.models import Count
from django.db.models.functions import Now
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from jobs import models
from jobs.models import Process, Wait
from jobs.processes import STALE
from jobs.tally import BUCKET_NAMES

PREFIX = "cartwright_"

# The statuses are literals, so that the planner can use the partial indexes of these rows.
COUNT_STEPS = """
SELECT queue, 'ready', count(*), extract(epoch FROM now() - min(due_at))
FROM jobs_step WHERE status = 'ready' GROUP BY queue
UNION ALL
SELECT queue, 'waiting', count(*), NULL FROM jobs_step WHERE status = 'waiting' GROUP BY queue
UNION ALL
SELECT queue, 'running', count(*), NULL FROM jobs_step WHERE status = 'running' GROUP BY queue
"""
COUNT_JOBS = """
SELECT status, count(*) FROM jobs_job WHERE status IN ('pending', 'running', 'waiting')
GROUP BY status
"""

# What processes count: the name, what it is, and by what it is told apart.
COUNTERS = (
    ("step_retries", "Attempts that failed and will be repeated.", ("handler",)),
    ("leases_lost", "Steps that a worker lost while it ran them.", ("handler",)),
    ("sweeps", "Sweeps of the scheduler.", ()),
    ("steps_made_due", "Waiting steps that a sweep made ready.", ()),
    ("steps_recovered", "Steps that a sweep took from workers that were lost.", ()),
    ("workers_woken", "Wake-up calls that a sweep sent for steps that nobody had taken.", ()),
)


def read_steps() -> Iterator[Metric]:
    depth = gauge("steps", "Unfinished steps that are or were in a queue.", "queue", "status")
    oldest = gauge("oldest_due_step_seconds", "How long the oldest has been ready.", "queue")
    with connection.cursor() as cursor:
        cursor.execute(COUNT_STEPS)
        for queue, status, count, age in cursor.fetchall():
            depth.add_metric([queue, status], count)
            if age is not None:
                oldest.add_metric([queue], float(age))
    yield depth
    yield oldest


def read_jobs() -> Iterator[Metric]:
    jobs = gauge("jobs", "Unfinished jobs.", "status")
    with connection.cursor() as cursor:
        cursor.execute(COUNT_JOBS)
        for status, count in cursor.fetchall():
            jobs.add_metric([status], count)
    yield jobs


def read_waits() -> Iterator[Metric]:
    waits = gauge("open_waits", "What steps wait for: codes, people, events, timers.", "kind")
    found = Wait.objects.filter(status=Wait.Status.OPEN).values_list("kind")
    for kind, count in found.annotate(count=Count("pk")).order_by():
        waits.add_metric([kind], count)
    yield waits


def read_processes() -> Iterator[Metric]:
    alive = gauge("processes", "Workers and schedulers that are alive.", "kind")
    counts = Process.objects.filter(beat_at__gt=Now() - STALE).values_list("kind")
    found = dict(counts.annotate(count=Count("pk")).order_by())
    for kind in Process.Kind.values:  # none is a number too: the one to be alarmed by
        alive.add_metric([kind], found.get(kind, 0))
    yield alive


def read_counted() -> Iterator[Metric]:
    series: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
    for row in models.Metric.objects.all():
        series[row.name].append((row.labels, row.value))
    for name, documentation, labels in COUNTERS:
        counter = CounterMetricFamily(PREFIX + name, documentation, labels=labels)
        if not labels and name not in series:
            counter.add_metric([], 0)
        for values, value in series[name]:
            counter.add_metric([values[label] for label in labels], value)
        yield counter
    yield _histogram("step_seconds", "How long attempts at steps took.", "handler", series)


def _histogram(
    name: str,
    documentation: str,
    label: str,
    series: dict[str, list[tuple[dict[str, str], float]]],
) -> Metric:
    histogram = HistogramMetricFamily(PREFIX + name, documentation, labels=[label])
    buckets: dict[str, dict[str, float]] = defaultdict(dict)
    for values, value in series[f"{name}_bucket"]:
        buckets[values[label]][values["le"]] = value
    for values, total in series[f"{name}_sum"]:
        counts = accumulate(buckets[values[label]].get(le, 0) for le in BUCKET_NAMES)
        histogram.add_metric([values[label]], list(zip(BUCKET_NAMES, counts, strict=True)), total)
    return histogram


def gauge(name: str, documentation: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, documentation, labels=labels)


READERS: list[Callable[[], Iterator[Metric]]] = [
    read_steps,
    read_jobs,
    read_waits,
    read_processes,
    read_counted,
]


def register_reader(reader: Callable[[], Iterator[Metric]]) -> None:
    """One more fact, of another room."""
    READERS.append(reader)


class Facts(Collector):
    def collect(self) -> Iterator[Metric]:
        for reader in READERS:
            yield from reader()


def write_metrics(accept: str) -> tuple[bytes, str]:
    """The metrics and their content type, in the format that the scraper accepts."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Facts())
    encode: Callable[[Any], bytes]
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type

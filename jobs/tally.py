"""What this process counts for `/metrics`: kept in memory, added to the rows with each beat.

The rows are one sum for all processes on all machines, and outlive each of them. So a scrape asks
one web server, a worker that is killed takes no more than its last seconds of counts with it, and
nothing needs a directory that all processes share, as prometheus_client's multiprocess mode does.
"""

import json
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from django.db import connection

# Seconds. A step without a browser takes milliseconds, one with a slow shop minutes.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
BUCKET_NAMES = (*map(str, BUCKETS), "+Inf")

# In one order, so that two processes that add at once never wait for each other's rows.
ADD = """
INSERT INTO jobs_metric AS total (name, labels, value)
SELECT * FROM unnest(%(names)s::text[], %(labels)s::jsonb[], %(values)s::float8[])
ON CONFLICT (name, labels) DO UPDATE SET value = total.value + excluded.value
"""

Series = tuple[str, tuple[tuple[str, str], ...]]


class Tally:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Series] = Counter()

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        with self._lock:
            self._counts[name, tuple(sorted(labels.items()))] += amount  # type: ignore[assignment]

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Into the one bucket that it falls; they are added up when they are shown."""
        bucket = BUCKET_NAMES[bisect_left(BUCKETS, seconds)]
        self.count(f"{name}_bucket", 1, le=bucket, **labels)
        self.count(f"{name}_sum", seconds, **labels)

    def save(self) -> None:
        """Adds what was counted since to the rows. What could not be saved is kept for next time;
        raises the database's error then."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return
        series = sorted(counts)
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    ADD,
                    {
                        "names": [name for name, _ in series],
                        "labels": [json.dumps(dict(labels)) for _, labels in series],
                        "values": [float(counts[one]) for one in series],
                    },
                )
        except Exception:
            with self._lock:
                self._counts.update(counts)
            raise


tally = Tally()


@contextmanager
def timed_step(handler: str) -> Iterator[None]:
    started = perf_counter()
    try:
        yield
    finally:
        tally.observe("step_seconds", perf_counter() - started, handler=handler)

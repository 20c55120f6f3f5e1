"""What reading the queue and claiming from it cost, on a database with many items, or few.

Run with `python -m`, with DATABASE_URL naming a migrated database of its own: fills its tables and
then measures on command, so that two of these can take turns. What is waiting and what ended today
is the same in both; the rest is history.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from time import perf_counter
from typing import Any

import django
from django.db import connection, models, transaction
from django.utils import timezone

django.setup()

from jobs import live, steps  # noqa: E402  models need Django set up
from jobs.models import Job, Step  # noqa: E402
from tests.bench._engine_programs import serve_commands  # noqa: E402
from vendors import cart_queue, queue_reading  # noqa: E402
from vendors.cart_queue import CartRequest  # noqa: E402
from vendors.models import QueueItem, Vendor, VendorAccount  # noqa: E402
from vendors.queue_reading import Query  # noqa: E402

WORKER = "bench"
OPEN, TODAY = 1_000, 300
DAYS = 30  # after which items are archived
SELECTORS = {
    "email_input": "#email",
    "password_input": "#password",
    "add_to_cart": "#add",
    "cart_row": ".row",
}


def fill(count: int) -> None:
    """So many ended items of the last month, with their jobs, and those that are still open."""
    vendor = Vendor.objects.create(
        name="Corner Shop",
        domain="corner.example",
        login_url="https://corner.example/login",
        cart_url="https://corner.example/cart",
        selectors=SELECTORS,
    )
    account = VendorAccount.objects.create(vendor=vendor, email="buyer@corner.example")
    requests = [
        CartRequest(vendor, f"https://corner.example/{number}") for number in range(OPEN + TODAY)
    ]
    items = cart_queue.enqueue_all(requests)
    _end(items[:TODAY], account)
    _copy_to_the_past(items[0], count)
    with connection.cursor() as cursor:
        for model in (Job, Step, QueueItem):
            cursor.execute(f"VACUUM (ANALYZE) {model._meta.db_table}")
        cursor.execute("CHECKPOINT")
    assert QueueItem.objects.count() == count + OPEN + TODAY


def _end(items: Sequence[QueueItem], account: VendorAccount) -> None:
    now = timezone.now()
    jobs = [item.job_id for item in items]
    with _as_a_copy_is_made():
        Step.objects.filter(job__in=jobs).update(status="completed")
        Job.objects.filter(pk__in=jobs).update(status="completed", finished_at=now)
        QueueItem.objects.filter(job__in=jobs).update(
            status="completed", assigned_account=account, updated_at=now, completed_at=now
        )


def _copy_to_the_past(item: QueueItem, count: int) -> None:
    """One in twenty has failed. Evenly over the days before today, as ids and times."""
    created = f"now() - interval '1 day' - ({count} - n) * interval '{DAYS - 1} days' / {count}"
    ended = f"{created} + interval '20 seconds'"
    times = {"created_at": created, "updated_at": ended, "completed_at": ended}
    status = "CASE WHEN n %% 20 = 0 THEN 'failed' ELSE 'completed' END"
    job = {"id": _copied(1), "created_at": created, "finished_at": ended}
    with _as_a_copy_is_made() as cursor:
        for copy in (
            _copy(Job, "id", job),
            _copy(Step, "job_id", {"id": _copied_step(), "job_id": _copied(1)}),
            _copy(
                QueueItem,
                "job_id",
                {**times, "id": _copied(4), "job_id": _copied(1), "status": status},
            ),
        ):
            cursor.execute(copy, {"job": item.job_id, "count": count})


@contextmanager
def _as_a_copy_is_made() -> Iterator[Any]:
    """No triggers, no foreign keys: the copies are as right as what they are copies of."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        yield cursor


def _copied(kind: int) -> str:
    """The id of copy `n`: older than all that was made since, as ended ones are."""
    return f"('00000000-0000-7000-800{kind}-' || lpad(to_hex(n), 12, '0'))::uuid"


def _copied_step() -> str:
    return "('00000000-0000-7000-80' || 20 + t.stage || '-' || lpad(to_hex(n), 12, '0'))::uuid"


def _copy(model: type[models.Model], key: str, own: Mapping[str, str]) -> str:
    table = model._meta.db_table
    names = [field.column for field in model._meta.concrete_fields]
    columns = {name: own.get(name, f"t.{name}") for name in names}
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns.values())} "
        f"FROM {table} t, generate_series(1, %(count)s) n WHERE t.{key} = %(job)s"
    )


def list_queue() -> None:
    """Its first pages as people filter them, and one further down."""
    (vendor,) = Vendor.objects.values_list("pk", flat=True)
    week = timezone.now() - timedelta(days=7)
    for query in (Query(), Query("failed"), Query("pending", vendor), Query(date_from=week)):
        page = queue_reading.read_page(query, limit=50)
        assert len(page.items) == 50
        assert page.next
        queue_reading.read_page(query, limit=50, after=page.next)


def read_statistics() -> None:
    found = queue_reading.read_statistics()
    assert found["completed_today"] == TODAY


def claim() -> None:
    assert steps.claim_next(["steps"], worker=WORKER) is not None


WORKS: Mapping[str, Callable[[], None]] = {
    "list": list_queue,
    "stats": read_statistics,
    "claim": claim,
}


def measure(work: str, times: int) -> list[float]:
    """Seconds that it took, each time."""
    took = []
    for _ in range(times):
        started = perf_counter()
        WORKS[work]()
        took.append(perf_counter() - started)
    return took


if __name__ == "__main__":
    live.messenger.post = lambda **_hints: None  # there is nobody to wake or tell
    fill(int(sys.argv[1]))
    serve_commands({"measure": measure})

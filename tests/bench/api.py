"""`./run bench api`: purchase requests over REST, and what a long queue costs.

Fifty clients at once post to the product's own web process, and in turns to a bare Django REST
framework create on the same table, which uvicorn serves in the same way. Each request must have
left its row, and ours its job. Workers and scheduler stand still meanwhile: what they do with the
queue is another benchmark's. Then: reading the queue and claiming from it, with a million items and
with ten thousand.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psutil
import psycopg

from config.bootstrap import say
from config.demo import service_key
from config.launch import app_programs, migrate
from config.services import find_free_port
from tests.bench._api_load import Load, RequestFailed, send_all
from tests.bench._engine_programs import NotStarted, Program, running_all
from tests.bench._report import Report, versions_of
from tests.bench._shop import CornerShop

CLIENTS = 50
ROUNDS = 5
REQUESTS, HEAT = 3_000, 300  # of a contender's turn
BARE_SETTINGS = "tests.bench._api_bare_settings"

ITEMS = {"10k": 10_000, "1m": 1_000_000}
FILL_SECONDS = 900
QUEUE_ROUNDS = 5
TIMES = {"list": 20, "stats": 50, "claim": 60}  # a round; as many claims as there are open items

TARGETS = {
    "enqueue_vs_bare_drf": "at least 0.5",
    "enqueue_p95_ms": "under 100",
    "list_1m_vs_10k": "at least 0.5",
    "stats_1m_vs_10k": "at least 0.5",
    "claim_1m_vs_10k": "at least 0.5",
}


class RowsDiffer(Exception):
    """A contender lost a request, or queued one twice."""


def main(arguments: Sequence[str]) -> int:
    """Measures on what is up; 0 only if each request of each contender left just its row."""
    if set(arguments) - {"--json"}:
        say("./run bench api takes --json and nothing else.")
        return 2
    try:
        report = measure()
    except (NotStarted, RequestFailed, RowsDiffer) as error:
        say(f"The benchmark does not count: {error}")
        return 1
    if "--json" in arguments:
        report.print_json()
    else:
        report.print_table(TARGETS)
    return 0


@dataclass(frozen=True)
class Contender:
    name: str
    url: str
    headers: Mapping[str, str]
    vendor_key: str  # what its create calls the vendor
    vendor_id: str
    makes_jobs: bool

    def send(self, run: str, count: int) -> Load:
        """So many requests as ERPNext sends them, by all clients. Raises RowsDiffer."""
        bodies = [self._body(run, number) for number in range(count)]
        load = asyncio.run(send_all(self.url, self.headers, bodies, clients=CLIENTS))
        with psycopg.connect(os.environ["DATABASE_URL"]) as database:
            written = database.execute(
                "SELECT count(*), count(DISTINCT product_url), count(job_id) FROM cart_queue "
                "WHERE product_data ->> 'run' = %s",
                [run],
            ).fetchone()
        if written != (count, count, count if self.makes_jobs else 0):
            raise RowsDiffer(f"{self.name} answered {count} requests and wrote {written} rows.")
        return load

    def _body(self, run: str, number: int) -> dict[str, Any]:
        return {
            "user_id": "system",
            self.vendor_key: self.vendor_id,
            "product_url": f"http://corner.localhost/p/{run}/{number}",
            "product_name": "Desktop stapler",
            "product_data": {
                "price": 29.99,
                "quantity": 1,
                "variant": "Large",
                "erpnext_item_id": f"{run}-{number}",
                "run": run,
            },
        }


def measure() -> Report:
    runs: list[dict[str, Any]] = []
    with ExitStack() as stack:
        contenders = stack.enter_context(started())
        stack.enter_context(standing_still())
        loads = run_rounds(contenders, runs)
    times = measure_queue(runs)
    ours, bare = loads["cartwright"], loads["bare DRF"]
    measurements = {
        "enqueue_vs_bare_drf": median(
            our.per_second / their.per_second for our, their in zip(ours, bare, strict=True)
        ),
        "enqueue_p95_ms": median(1000 * p95(load.took) for load in ours),
        **{
            f"{work}_1m_vs_10k": median(
                few / many for few, many in zip(found["10k"], found["1m"], strict=True)
            )
            for work, found in times.items()
        },
        "enqueue_per_s": median(load.per_second for load in ours),
        "bare_drf_per_s": median(load.per_second for load in bare),
        "bare_drf_p95_ms": median(1000 * p95(load.took) for load in bare),
        **{
            f"{work}_{size}_ms": 1000 * median(found)
            for work, of in times.items()
            for size, found in of.items()
        },
    }
    versions = versions_of("django", "djangorestframework", "uvicorn", "psycopg")
    return Report("api", versions, measurements, runs)


def p95(values: Sequence[float]) -> float:
    return quantiles(values, n=20)[-1]


# ---- requests over REST -------------------------------------------------------------------------


@contextmanager
def started() -> Iterator[list[Contender]]:
    """The product that is up, with the sandbox shop as a vendor, and the bare create beside it."""
    headers = service_key("bench", "--admin")
    ours = os.environ["PUBLIC_URL"]
    with httpx.Client(base_url=ours, headers=headers) as http:
        vendor = http.post("/api/admin/vendors", json=CornerShop().get("vendor"))
    vendor_id: str = vendor.raise_for_status().json()["id"]
    port = find_free_port()
    web = app_programs("127.0.0.1", port, "1", "celery")[0].command[2:]
    served = ["tests.bench._api_bare:application" if ":" in part else part for part in web]
    with running_all(
        {"bare": served}, ready="Uvicorn running on", DJANGO_SETTINGS_MODULE=BARE_SETTINGS
    ):
        yield [
            Contender("cartwright", f"{ours}/api/cart/add", headers, "vendor_id", vendor_id, True),
            Contender(
                "bare DRF",
                f"http://127.0.0.1:{port}/api/bare/add",
                headers,
                "vendor",
                vendor_id,
                False,
            ),
        ]


@contextmanager
def standing_still() -> Iterator[None]:
    """The product runs below us: its workers and its scheduler are stopped for a while."""
    stopped = [
        child
        for child in psutil.Process().children(recursive=True)
        if {"celery", "jobs_sweep"} & set(child.cmdline())
    ]
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            process.resume()


def run_rounds(
    contenders: Sequence[Contender], runs: list[dict[str, Any]]
) -> Mapping[str, Sequence[Load]]:
    """Each contender's turn, one after the other; who begins changes from round to round."""
    loads: dict[str, list[Load]] = {contender.name: [] for contender in contenders}
    for contender in contenders:
        contender.send(str(uuid4()), HEAT)
    for number in range(ROUNDS):
        first = number % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            load = contender.send(str(uuid4()), REQUESTS)
            loads[contender.name].append(load)
            found = {
                "per_s": round(load.per_second, 1),
                "p50_ms": round(1000 * median(load.took), 1),
                "p95_ms": round(1000 * p95(load.took), 1),
            }
            say(f"Round {number + 1}: {contender.name} {found['per_s']:.0f} requests/s")
            runs.append({"work": "enqueue", "contender": contender.name, **found})
    return loads


# ---- a long queue -------------------------------------------------------------------------------


def measure_queue(runs: list[dict[str, Any]]) -> Mapping[str, Mapping[str, list[float]]]:
    """Seconds for each work, the median of each round, by how many items the queue has."""
    found: dict[str, dict[str, list[float]]] = {
        work: {size: [] for size in ITEMS} for work in TIMES
    }
    with ExitStack() as stack:
        say("Filling a queue with a million items ...")
        programs = {size: stack.enter_context(filled(size, count)) for size, count in ITEMS.items()}
        for _ in range(QUEUE_ROUNDS):
            for work, times in TIMES.items():
                for size, program in programs.items():
                    took = median(program.ask("measure", work=work, times=times))
                    found[work][size].append(took)
                    runs.append({"work": work, "items": size, "ms": round(1000 * took, 3)})
    return found


@contextmanager
def filled(size: str, items: int) -> Iterator[Program]:
    """A program that measures in a database of its own, whose queue has so many items."""
    server = urlsplit(os.environ["DATABASE_URL"])
    name = f"cartwright_bench_api_{size}"
    url = server._replace(path=f"/{name}").geturl()
    with psycopg.connect(server.geturl(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
    migrate({**os.environ, "DATABASE_URL": url})
    arguments = {f"queue-{size}": ("tests.bench._api_queue", items)}
    with running_all(arguments, seconds=FILL_SECONDS, DATABASE_URL=url) as (program,):
        yield program

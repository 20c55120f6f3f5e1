"""`./run bench cart`: adds to carts, against hand-written scripts that do the same work.

All buy the same things at the sandbox's corner shop, in turns and never at the same time, with
accounts of their own. Cartwright and the warm script make eight adds at a time and are logged in
before the clock runs. The shop's ledger must hold every add that a contender claims, once.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median, quantiles
from time import time
from typing import Any, Protocol

import psutil

from config.bootstrap import say
from config.launch import WORKER_THREADS
from tests.bench._peers import Added, CartDiffers, Item, Naive, Warm
from tests.bench._product import AddFailed, Cartwright, Served
from tests.bench._report import Report, versions_of
from tests.bench._shop import CornerShop, LedgerDiffers

LATENCIES_MS = (0, 300)
ROUNDS = 3
ADDS_A_RUN = {"cartwright": 96, "warm": 96, "naive": 4}
IDLE_ADDS = 40
MEMORY_ADDS = 24
MEMORY_SAMPLE_SECONDS = 0.2

TARGETS = {
    "adds_vs_warm_0ms": "at least 0.8",
    "adds_vs_naive_0ms": "at least 4",
    "adds_vs_warm_300ms": "at least 0.8",
    "adds_vs_naive_300ms": "at least 4",
    "start_p95_ms": "under 150",
}

# Any four in a row are alike: two plain products, one with a list, one with two choices.
GOODS: Sequence[tuple[str, int, Mapping[str, str]]] = (
    ("desktop-stapler", 1, {}),
    ("gel-pens", 2, {"Colour": "Blue"}),
    ("highlighters", 3, {}),
    ("linen-notebook", 1, {"Ruling": "Dotted", "Cover": "Ink"}),
    ("archive-box", 1, {}),
    ("sticky-notes", 2, {"Colour": "Mint"}),
    ("blue-black-ink", 1, {}),
    ("linen-notebook", 2, {"Ruling": "Lined", "Cover": "Sand"}),
)


def main(arguments: Sequence[str]) -> int:
    """Measures the product that is up; 0 only if no contender lost or doubled an add."""
    if set(arguments) - {"--json"}:
        say("./run bench cart takes --json and nothing else.")
        return 2
    try:
        report = asyncio.run(measure())
    except (AddFailed, CartDiffers, LedgerDiffers) as error:
        say(f"The benchmark does not count: {error}")
        return 1
    if "--json" in arguments:
        report.print_json()
    else:
        report.print_table(TARGETS)
    return 0


class Contender(Protocol):
    @property
    def name(self) -> str: ...

    async def add_all(self, items: Sequence[Item]) -> Sequence[Added]:
        """Adds every item to the cart of some account of its own, as fast as it can."""


@dataclass(frozen=True)
class Run:
    """One turn of a contender."""

    contender: str
    latency_ms: int
    added: Sequence[Added]
    seconds: float
    log_ins: int

    @property
    def adds_per_min(self) -> float:
        return 60 * len(self.added) / self.seconds

    def to_data(self) -> dict[str, Any]:
        return {
            "contender": self.contender,
            "latency_ms": self.latency_ms,
            "adds": len(self.added),
            "seconds": round(self.seconds, 3),
            "adds_per_min": round(self.adds_per_min, 1),
            "log_ins": self.log_ins,
        }


class Course:
    """What all contenders are sent through, and their runs so far."""

    def __init__(self, shop: CornerShop) -> None:
        self.runs: list[Run] = []
        self._shop = shop
        self._latency_ms = 0

    def set_latency(self, milliseconds: int) -> None:
        self._shop.set_latency(milliseconds)
        self._latency_ms = milliseconds

    async def run(self, contender: Contender, adds: int) -> Run:
        """The contender's turn. Raises LedgerDiffers unless the shop agrees with it."""
        items = [
            Item(slug, f"{self._shop.url}/p/{slug}", quantity, variant)
            for slug, quantity, variant in islice(cycle(GOODS), adds)
        ]
        started_at = time()
        added = await contender.add_all(items)
        seconds = max(each.seen_at for each in added) - started_at
        log_ins = self._shop.settle(added)
        run = Run(contender.name, self._latency_ms, added, seconds, log_ins)
        self.runs.append(run)
        return run


async def measure() -> Report:
    shop = CornerShop()
    course = Course(shop)
    async with (
        Warm.start(shop.url, shop.new_accounts("warm", WORKER_THREADS)) as warm,
        Cartwright.start(shop, shop.new_accounts("cartwright", WORKER_THREADS)) as ours,
    ):
        naive = Naive(shop.url, *shop.new_accounts("naive", 1))
        shop.settle([])  # the warm script has logged in

        say("Logging in ...")
        # The account that was idle longest is taken: each of ours has its turn.
        for contender in (ours, warm):
            await course.run(contender, WORKER_THREADS)
        say(f"{IDLE_ADDS} adds, each on an idle system ...")
        idle = [await course.run(ours, 1) for _ in range(IDLE_ADDS)]
        rounds = [
            await run_round(course, latency_ms, number, (ours, warm, naive))
            for latency_ms in LATENCIES_MS
            for number in range(ROUNDS)
        ]
        say("Memory ...")
        peak_mb = await peak_memory_mb(asyncio.create_task(course.run(ours, MEMORY_ADDS)))

    own = [run for run in course.runs if run.contender == ours.name]
    slow = [each[ours.name] for each in rounds if each[ours.name].latency_ms == LATENCIES_MS[-1]]
    measurements = {
        **compare(rounds, ours.name, (warm.name, naive.name)),
        "start_p95_ms": p95(1000 * (each.started_at - each.asked_at) for each in served(idle)),
        "time_to_cart_p95_s": p95(each.seen_at - each.asked_at for each in served(slow)),
        "login_share": sum(run.log_ins for run in own) / len(served(own)),
        "worker_peak_mb": peak_mb,
    }
    versions = versions_of("playwright", "django", "celery") | {"chromium": warm.chromium_version}
    return Report("cart", versions, measurements, [run.to_data() for run in course.runs])


async def run_round(
    course: Course, latency_ms: int, number: int, contenders: Sequence[Contender]
) -> Mapping[str, Run]:
    """Each contender's turn, one after the other; who begins changes from round to round."""
    course.set_latency(latency_ms)
    first = number % len(contenders)
    runs = {}
    for contender in (*contenders[first:], *contenders[:first]):
        run = await course.run(contender, ADDS_A_RUN[contender.name])
        say(f"{latency_ms} ms, round {number + 1}: {run.contender} {run.adds_per_min:.0f} adds/min")
        runs[contender.name] = run
    return runs


def compare(
    rounds: Sequence[Mapping[str, Run]], ours: str, others: Sequence[str]
) -> dict[str, float]:
    """Ratios from the same round, and rates; medians of the rounds."""
    found = {}
    for latency_ms in LATENCIES_MS:
        same = [each for each in rounds if each[ours].latency_ms == latency_ms]
        for other in others:
            found[f"adds_vs_{other}_{latency_ms}ms"] = median(
                each[ours].adds_per_min / each[other].adds_per_min for each in same
            )
        for name in (ours, *others):
            rates = [each[name].adds_per_min for each in same]
            found[f"adds_per_min_{name}_{latency_ms}ms"] = median(rates)
    return found


def served(runs: Iterable[Run]) -> list[Served]:
    return [each for run in runs for each in run.added if isinstance(each, Served)]


def p95(values: Iterable[float]) -> float:
    return quantiles(values, n=20)[-1]


async def peak_memory_mb(adding: asyncio.Task[Run]) -> float:
    """The most that the worker and its Chromium took while it lasted."""
    worker = find_worker()
    peak = 0.0
    while not adding.done():
        peak = max(peak, sum(map(memory_mb, [worker, *worker.children(recursive=True)])))
        await asyncio.wait({adding}, timeout=MEMORY_SAMPLE_SECONDS)
    await adding
    return peak


def find_worker() -> psutil.Process:
    """The product runs below us, with one worker."""
    children = psutil.Process().children(recursive=True)
    (worker,) = (child for child in children if {"celery", "worker"} <= set(child.cmdline()))
    return worker


def memory_mb(process: psutil.Process) -> float:
    """What shared pages take counted by share (PSS) where the system tells it: on Linux."""
    try:
        if psutil.LINUX:
            return process.memory_full_info().pss / 2**20
        return process.memory_info().rss / 2**20
    except psutil.NoSuchProcess:
        return 0.0

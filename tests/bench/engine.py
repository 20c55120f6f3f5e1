"""`./run bench engine`: the durable engine, against a raw Celery chain, DBOS Transact and Restate.

All do the same work (steps that only say that they ran) on the same PostgreSQL and Valkey (Restate
on its own server, where npm has it), with two worker processes each, in turns and never at the same
time. Every contender must have run each step once. Then: what claiming costs beside a million
finished jobs, and how often the engine commits.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import django
import psycopg

from config.bootstrap import say
from config.launch import migrate
from tests.bench._engine_course import HEAT, PIPELINES, Course
from tests.bench._engine_ledger import LEDGER, Ledger, WorkDiffers
from tests.bench._engine_programs import NotStarted, Program, running_all
from tests.bench._engine_work import PIPELINE
from tests.bench._report import Report, versions_of

SETTINGS = "tests.bench._engine_settings"
ROUNDS = 3
FINISHED = {"1k": 1_000, "1m": 1_000_000}
CLAIM_ROUNDS, CLAIM_JOBS = 5, 60
FILL_SECONDS = 300
# After so long, an idle connection of PostgreSQL adds its commits to the statistics.
STATISTICS_SECONDS = 11

TARGETS = {
    "pipeline_vs_dbos": "at least 2.5",
    "pipeline_vs_celery": "at least 1.5",
    "pipeline_vs_restate": "1 or more is the aim",
    "latency_vs_dbos": "at least 2",
    "latency_vs_celery": "at least 1",
    "fanout_vs_dbos": "at least 2",
    "fanout_vs_celery": "at least 1",
    "wait_vs_dbos": "more than 1",
    "wait_running_steps": "0",
    "claim_1m_vs_1k": "at least 0.83",
    "commits_per_step": "at most 2",
}


class NotDurable(Exception):
    """The server may lose commits: its numbers would say nothing."""


def main(arguments: Sequence[str]) -> int:
    """Measures on the servers that are up; 0 only if no contender lost or doubled work."""
    if set(arguments) - {"--json"}:
        say("./run bench engine takes --json and nothing else.")
        return 2
    ledger = Path(os.environ["DATA_DIR"]) / "bench-ledger"
    os.environ.update({LEDGER: str(ledger), "DJANGO_SETTINGS_MODULE": SETTINGS})
    django.setup()
    try:
        report = measure(Ledger(ledger))
    except (NotDurable, NotStarted, WorkDiffers) as error:
        say(f"The benchmark does not count: {error}")
        return 1
    if "--json" in arguments:
        report.print_json()
    else:
        report.print_table(TARGETS)
    return 0


def measure(ledger: Ledger) -> Report:
    # They need Django, which needs the settings that `main` has chosen.
    from tests.bench._engine_ours import Cartwright
    from tests.bench._engine_peers import Dbos, RawCelery
    from tests.bench._engine_restate_contender import Restate

    check_durability()
    course = Course(ledger)
    with (
        Cartwright.start(ledger) as ours,
        Dbos.start(ledger) as dbos,
        Restate.start(ledger) as restate,  # a list: it has none where its server does not install
    ):
        say("Heats ...")
        course.pipelines(ours, HEAT)
        course.singles(ours)
        course.fans(ours)
        course.waits(ours, HEAT)
        for peer in (dbos, *restate):
            choose_ways(course, peer)
        pool = choose_pool(course, RawCelery)
        commits = count_commits(course, ours)
        with RawCelery.start(ledger, pool) as celery:
            for run in (course.pipelines, course.singles, course.fans):
                run_rounds(run, (ours, dbos, celery, *restate))
        run_rounds(course.waits, (ours, dbos, *restate))
    claims = measure_claims()

    measurements = {
        **compare(course),
        "claim_1m_vs_1k": median(
            few / many for few, many in zip(claims["1k"], claims["1m"], strict=True)
        ),
        "commits_per_step": commits,
        **{f"claim_{size}_ms_a_job": 1000 * median(found) for size, found in claims.items()},
    }
    versions = versions_of("django", "celery", "psycopg", "dbos")
    for peer in restate:
        versions |= peer.versions()
    return Report("engine", versions, measurements, course.runs)


def check_durability() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            row = connection.execute(f"SHOW {setting}").fetchone()
            if row != ("on",):
                raise NotDurable(f"PostgreSQL's {setting} must be on for this.")


def choose_ways(course: Course, peer: Any) -> None:
    """The peer does each work in the way in which it is fastest here."""
    runs: dict[str, Callable[..., float]] = {
        "pipeline": partial(course.pipelines, peer, HEAT),
        "latency": partial(course.singles, peer),
        "fanout": partial(course.fans, peer),
        "wait": partial(course.waits, peer, HEAT),
    }
    for work, run in runs.items():
        best = {way: float("inf") for way in peer.WAYS[work]}
        for heat, way in product((1, 2), best):
            peer.way[work] = way
            best[way] = min(best[way], run(way=way, heat=heat))
        peer.way[work] = min(best, key=lambda way: best[way])


def choose_pool(course: Course, celery: Any) -> str:
    """The pool in which a raw chain is fastest here."""
    best = {}
    for pool in celery.POOLS:
        with celery.start(course.ledger, pool) as started:
            best[pool] = min(
                course.pipelines(started, HEAT, way=pool, heat=heat) for heat in (1, 2)
            )
    return min(best, key=lambda pool: best[pool])


def run_rounds(run: Callable[..., float], contenders: Sequence[Any]) -> None:
    """Each contender's turn, one after the other; who begins changes from round to round."""
    for number in range(ROUNDS):
        first = number % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            run(contender, round=number + 1)


def count_commits(course: Course, ours: Any) -> float:
    """Commits for each step of a thousand pipelines, less what an idle engine makes meanwhile.

    Those of the submissions, of the claims and of connections that are looked at are among them.
    """
    time.sleep(STATISTICS_SECONDS)
    since, before = time.perf_counter(), ours.count_commits()
    time.sleep(STATISTICS_SECONDS)
    idle_rate = (ours.count_commits() - before) / (time.perf_counter() - since)
    since, before = time.perf_counter(), ours.count_commits()
    course.pipelines(ours, way="commits")
    time.sleep(STATISTICS_SECONDS)
    idle = idle_rate * (time.perf_counter() - since)
    return float(ours.count_commits() - before - idle) / (PIPELINES * len(PIPELINE))


def measure_claims() -> dict[str, list[float]]:
    """Seconds for a job of five steps, a round each, by how many finished jobs there are."""
    found: dict[str, list[float]] = {size: [] for size in FINISHED}
    with ExitStack() as stack:
        say("Filling a database with a million finished jobs ...")
        programs = {
            size: stack.enter_context(filled(size, finished)) for size, finished in FINISHED.items()
        }
        for _ in range(CLAIM_ROUNDS):
            for size, program in programs.items():
                found[size].append(median(program.ask("measure", jobs=CLAIM_JOBS)))
    return found


@contextmanager
def filled(size: str, finished: int) -> Iterator[Program]:
    """A program that claims in a database of its own, which holds so many finished jobs."""
    server = urlsplit(os.environ["DATABASE_URL"])
    name = f"cartwright_bench_{size}"
    url = server._replace(path=f"/{name}").geturl()
    with psycopg.connect(server.geturl(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
    migrate({**os.environ, "DATABASE_URL": url})
    arguments = {f"claims-{size}": ("tests.bench._engine_claim", finished)}
    with running_all(arguments, seconds=FILL_SECONDS, DATABASE_URL=url) as (program,):
        yield program


def compare(course: Course) -> dict[str, float]:
    """Ratios from the same round, and absolute numbers; medians of the rounds."""
    found = {}
    for work in ("pipeline", "latency", "fanout", "wait"):
        ours = course.of("cartwright", work)
        for peer in ("dbos", "celery", "restate"):
            if theirs := course.of(peer, work):
                found[f"{work}_vs_{peer}"] = median(
                    their / our for their, our in zip(theirs, ours, strict=True)
                )
    for name in ("cartwright", "dbos", "celery", "restate"):
        if not course.of(name, "pipeline"):
            continue
        found[f"pipelines_per_s_{name}"] = PIPELINES / median(course.of(name, "pipeline"))
        found[f"latency_ms_{name}"] = 1000 * median(course.of(name, "latency"))
        found[f"fanout_ms_{name}"] = 1000 * median(course.of(name, "fanout"))
    for name in ("cartwright", "dbos", "restate"):
        if waits := course.of(name, "wait"):
            found[f"wait_s_{name}"] = median(waits)
    # Not of Restate: its processes still have the memory of a thousand jobs at once, and use that.
    for name in ("cartwright", "dbos"):
        found[f"wait_kib_a_job_{name}"] = (
            median(course.of(name, "wait", "held_memory_kib")) / PIPELINES
        )
    found["wait_running_steps"] = max(course.of("cartwright", "wait", "held_running_steps"))
    return found

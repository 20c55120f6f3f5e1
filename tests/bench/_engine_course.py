"""What the contenders of the engine's benchmark are sent through, and how they did."""

import time
from collections.abc import Callable, Sequence
from itertools import count
from statistics import median
from typing import Any, Protocol

from config.bootstrap import say
from tests.bench._engine_ledger import Ledger
from tests.bench._engine_work import ANSWERED, ASKED, FAN, JOIN, PIPELINE

PIPELINES = 1000  # jobs at once; as many wait
HEAT = 200  # the same in a heat
SINGLES = 17  # jobs one after another
FANS = 5


class Contender(Protocol):
    @property
    def name(self) -> str: ...

    def run_pipelines(self, jobs: Sequence[str]) -> None:
        """Submits the jobs, all at once; returns when the last is done."""

    def run_one(self, job: str) -> float:
        """Seconds from the call until the job is done."""

    def fan_out(self, job: str) -> float: ...


class Waiting(Protocol):
    """A contender whose jobs can wait; a raw chain cannot."""

    @property
    def name(self) -> str: ...

    def start_waiting(self, jobs: Sequence[str]) -> None: ...

    def answer(self, jobs: Sequence[str]) -> None:
        """Gives each job its answer; returns when the last is done."""

    def held(self) -> dict[str, float]:
        """What its workers hold at the moment, by name."""


class Course:
    """What the contenders are sent through, and how they did. Times are in seconds."""

    def __init__(self, ledger: Ledger) -> None:
        self.runs: list[dict[str, Any]] = []
        self.ledger = ledger
        self._numbers = count(1)

    def pipelines(self, contender: Contender, jobs: int = PIPELINES, **note: Any) -> float:
        names = self._new_jobs(contender.name, jobs)
        started = time.perf_counter()
        contender.run_pipelines(names)
        seconds = time.perf_counter() - started
        self.ledger.settle(names, PIPELINE)
        return self._record(contender.name, "pipeline", seconds, jobs=jobs, **note)

    def singles(self, contender: Contender, jobs: int = SINGLES, **note: Any) -> float:
        names = self._new_jobs(contender.name, jobs)
        seconds = self._one_by_one(contender.run_one, names, PIPELINE)
        return self._record(contender.name, "latency", seconds, jobs=jobs, **note)

    def fans(self, contender: Contender, jobs: int = FANS, **note: Any) -> float:
        names = self._new_jobs(contender.name, jobs)
        seconds = self._one_by_one(contender.fan_out, names, [*FAN, JOIN])
        return self._record(contender.name, "fanout", seconds, jobs=jobs, **note)

    def waits(self, contender: Waiting, jobs: int = PIPELINES, **note: Any) -> float:
        names = self._new_jobs(contender.name, jobs)
        before = contender.held()
        contender.start_waiting(names)
        held = {f"held_{what}": each - before[what] for what, each in contender.held().items()}
        started = time.perf_counter()
        contender.answer(names)
        seconds = time.perf_counter() - started
        self.ledger.settle(names, [ASKED, ANSWERED])
        return self._record(contender.name, "wait", seconds, jobs=jobs, **held, **note)

    def of(self, contender: str, work: str, what: str = "seconds") -> list[float]:
        """What the contender's rounds of this work have recorded, in their order."""
        return [
            run[what]
            for run in self.runs
            if (run["contender"], run["work"]) == (contender, work) and "round" in run
        ]

    def _one_by_one(
        self, run: Callable[[str], float], names: Sequence[str], steps: Sequence[str]
    ) -> float:
        found = []
        for name in names:
            found.append(run(name))
            self.ledger.settle([name], steps)
        return median(found)

    def _new_jobs(self, owner: str, jobs: int) -> list[str]:
        prefix = f"{owner}-{next(self._numbers)}"
        return [f"{prefix}-{number}" for number in range(jobs)]

    def _record(self, contender: str, work: str, seconds: float, **note: Any) -> float:
        rounded = {
            key: round(each, 1) if isinstance(each, float) else each for key, each in note.items()
        }
        run = {"contender": contender, "work": work, "seconds": round(seconds, 5), **rounded}
        self.runs.append(run)
        say(", ".join(f"{key} {value}" for key, value in run.items()))
        return seconds

"""What really ran: a file to which every step of every contender adds a line, outside any database.

A line costs a step a few microseconds, the same for all. It tells the benchmark when the work is
done without asking a database meanwhile, and shows afterwards whether any was lost or done twice.
"""

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

LEDGER = "BENCH_LEDGER"  # the environment variable that names the file
LINE = "{job:<40}{step:<10}{at:.6f}\n"
LINE_LENGTH = len(LINE.format(job="", step="", at=time.time()))
LOOK_SECONDS = 0.0005
PATIENCE_SECONDS = 120


class WorkDiffers(Exception):
    """A contender lost work, or did some of it twice."""


def note(job: str, step: str) -> None:
    """The step runs, now and here. Called by the steps themselves."""
    os.write(_opened(), LINE.format(job=job, step=step, at=time.time()).encode())


@cache
def _opened() -> int:
    return os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND)


class Ledger:
    """The benchmark's view of the file: what was added since it was last settled."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path
        self._settled = 0

    def wait_for(self, lines: int) -> None:
        """Returns when so many steps have run; raises WorkDiffers when they never do."""
        end = time.monotonic() + PATIENCE_SECONDS
        while (found := self._path.stat().st_size // LINE_LENGTH - self._settled) < lines:
            if time.monotonic() > end:
                raise WorkDiffers(f"Only {found} of {lines} steps have run.")
            time.sleep(LOOK_SECONDS)

    def settle(self, jobs: Iterable[str], steps: Sequence[str]) -> float:
        """When the last step ran. Raises WorkDiffers unless each step of each job ran once."""
        with self._path.open() as ledger:
            ledger.seek(self._settled * LINE_LENGTH)
            rows = [line.split() for line in ledger]
        self._settled += len(rows)
        found = Counter((job, step) for job, step, _ in rows)
        wanted = Counter((job, step) for job in jobs for step in steps)
        if found != wanted:
            raise WorkDiffers(
                f"Never ran: {_some(wanted - found)}. Ran more often than they should: "
                f"{_some(found - wanted)}."
            )
        return max(float(at) for _, _, at in rows)


def _some(steps: Counter[tuple[str, str]]) -> str:
    shown = ", ".join(f"{job} {step}" for job, step in list(steps)[:5])
    return f"{steps.total()} ({shown})" if steps else "none"

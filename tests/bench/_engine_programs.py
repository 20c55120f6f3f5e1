"""Worker processes of a benchmark, and talking with those that take commands on their stdin.

None of them outlives the benchmark.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from config.bootstrap import ROOT
from config.supervisor import dying_with_parent

READY = "ready for commands"
READY_SECONDS = 60


class NotStarted(Exception):
    """A program of the benchmark did not start; the message has the end of its log."""


@dataclass(frozen=True)
class Program:
    """A process that runs `python -m ARGUMENTS`; it may take a command a line, and answers each."""

    process: subprocess.Popen[str]
    log: Path

    def ask(self, command: str, **arguments: Any) -> Any:
        self.tell(command, **arguments)
        return self.hear()

    def tell(self, command: str, **arguments: Any) -> None:
        """Sends a command; its answer is to be heard later."""
        assert self.process.stdin is not None
        print(json.dumps([command, arguments]), file=self.process.stdin, flush=True)

    def hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise NotStarted(f"{self.log.read_text()[-2000:]}\nIt ended amid a command.")
        return json.loads(line)

    def memory_kib(self) -> float:
        """Of the process and its children; shared pages by share where the system tells it."""
        root = psutil.Process(self.process.pid)
        return sum(map(_memory_kib, [root, *root.children(recursive=True)]))

    def threads(self) -> int:
        return psutil.Process(self.process.pid).num_threads()

    def wait_until_ready(self, mark: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while mark not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > end:
                raise NotStarted(f"{self.log.read_text()[-2000:]}\n{self.log.stem} did not start.")
            time.sleep(0.02)


@contextmanager
def running_all(
    programs: Mapping[str, Sequence[object]],
    *,
    ready: str = READY,
    seconds: float = READY_SECONDS,
    **environment: str,
) -> Iterator[list[Program]]:
    """Programs by name, each with the arguments of `python -m`; all have `ready` in their log."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(_running(name, arguments, environment))
            for name, arguments in programs.items()
        ]
        for program in started:
            program.wait_until_ready(ready, seconds)
        yield started


@contextmanager
def _running(
    name: str, arguments: Sequence[object], environment: dict[str, str]
) -> Iterator[Program]:
    log = Path(os.environ["DATA_DIR"]) / "log" / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            dying_with_parent("KILL", [sys.executable, "-m", *map(str, arguments)]),
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    try:
        yield Program(process, log)
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """With its children, which a pool may have, and whose parent cannot end them any more."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    for child in children:
        if child.is_running():
            child.kill()


def serve_commands(commands: dict[str, Any]) -> None:
    """Answers what `Program.ask` asks, until there is nobody left to ask."""
    print(READY, file=sys.stderr, flush=True)
    for line in sys.stdin:
        command, arguments = json.loads(line)
        print(json.dumps(commands[command](**arguments)), flush=True)


def _memory_kib(process: psutil.Process) -> float:
    if psutil.LINUX:
        return process.memory_full_info().pss / 1024
    return process.memory_info().rss / 1024

"""The processes of a browser host under test, told apart from those of other hosts."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil


class Family:
    """What this process has started since this object was made."""

    def __init__(self) -> None:
        self._others = set(psutil.Process().children())

    def processes(self) -> list[psutil.Process]:
        """Parents before children. Zombies, which nothing can end any more, are left out."""
        own = [child for child in psutil.Process().children() if child not in self._others]
        found = [*own, *(process for child in own for process in _descendants(child))]
        return [process for process in found if _command_line(process)]

    def drivers(self) -> list[psutil.Process]:
        return [p for p in self.processes() if "run-driver" in _command_line(p)]

    def browsers(self) -> list[psutil.Process]:
        """Every process of every Chromium."""
        return [p for p in self.processes() if "run-driver" not in _command_line(p)]

    def profiles(self) -> set[Path]:
        """The profile folder of each running Chromium: as many as there are browsers."""
        return {
            Path(argument.partition("=")[2])
            for process in self.browsers()
            for argument in _command_line(process)
            if argument.startswith("--user-data-dir=")
        }

    def wait_until(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.05)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []

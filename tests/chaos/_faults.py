"""What else can go wrong on this machine, done to the processes of a running product.

Nothing is pretended: processes get SIGKILL or SIGSTOP. supervisord starts again what has died, as
it does in production.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from urllib.parse import urlsplit

import psutil

from config.supervisor import RUN_MARK

CHROMIUM = ("chrom", "headless_shell", "headless-shell")
STOPPED_SECONDS = 8.0  # twice a lease of a chaos run
CLIENTS = ("[local]", "127.0.0.1")  # in the titles of PostgreSQL's backends


class World:
    """The processes of one run, found by the mark that all of them have in their environment."""

    def __init__(self, mark: str, chance: Random) -> None:
        self._mark = mark
        self.chance = chance

    def find(self, is_wanted: Callable[[list[str]], bool]) -> list[psutil.Process]:
        return sorted(self._find(is_wanted), key=lambda process: process.pid)

    def _find(self, is_wanted: Callable[[list[str]], bool]) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid == os.getpid() or not is_wanted(process.cmdline()):
                    continue
                if process.environ().get(RUN_MARK) == self._mark:
                    yield process

    def workers(self) -> list[psutil.Process]:
        return self.find(lambda line: "tests.chaos._worker" in line)

    def one(self, processes: list[psutil.Process]) -> psutil.Process | None:
        return self.chance.choice(processes) if processes else None


def _kill(process: psutil.Process | None) -> bool:
    if process is None:
        return False
    with suppress(psutil.NoSuchProcess):
        process.kill()
        return True
    return False


def kill_worker(world: World) -> bool:
    return _kill(world.one(world.workers()))


def kill_browser(world: World) -> bool:
    """A whole browser, a parked one as likely as a worker's own."""
    browsers = world.find(
        lambda line: (
            bool(line)
            and any(name in os.path.basename(line[0]) for name in CHROMIUM)
            and not any(part.startswith("--type=") for part in line)
        )
    )
    return _kill(world.one(browsers))


def kill_warden(world: World) -> bool:
    """What keeps a parked browser."""
    return _kill(world.one(world.find(lambda line: any("automation.parking" in p for p in line))))


def kill_broker(world: World) -> bool:
    """Ours alone: who brings a server of their own keeps it. Its title has covered its mark."""
    address = urlsplit(os.environ["REDIS_URL"])
    title = f"valkey-server {address.hostname}:{address.port}"
    return _kill(next((each for each in psutil.process_iter() if _title(each, title)), None))


def kill_database(world: World) -> bool:
    """One of PostgreSQL's own processes: it ends all connections and recovers from its log."""
    servers = world.find(lambda line: bool(line) and line[0].endswith("/postgres"))
    backends = [child for server in servers for child in server.children()]
    serving = [each for each in backends if any(_title(each, client) for client in CLIENTS)]
    return _kill(world.one(serving))


def _title(process: psutil.Process, part: str) -> bool:
    with suppress(psutil.Error):
        line = process.cmdline()
        return bool(line) and part in line[0]
    return False


def kill_scheduler(world: World) -> bool:
    return _kill(world.one(world.find(lambda line: "jobs_sweep" in line)))


def stop_worker(seconds: float) -> Callable[[World], bool]:
    """A worker that sleeps past its leases and then goes on as if nothing had been."""

    def stop(world: World) -> bool:
        process = world.one(world.workers())
        if process is None:
            return False
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            process.send_signal(signal.SIGCONT)
            return True
        return False

    return stop


@dataclass(frozen=True)
class Fault:
    name: str
    strike: Callable[[World], bool]  # False: there was nothing to strike
    weight: int


FAULTS = (
    Fault("worker killed", kill_worker, 6),
    Fault("worker stopped past its leases", stop_worker(STOPPED_SECONDS), 3),
    Fault("browser killed", kill_browser, 5),
    Fault("browser's keeper killed", kill_warden, 3),
    Fault("Valkey killed", kill_broker, 2),
    Fault("PostgreSQL's backend killed", kill_database, 2),
    Fault("scheduler killed", kill_scheduler, 1),
)

"""Cartwright's long-running processes under supervisord: started, restarted, ended together.

A program that dies is started again. When the launcher or supervisord itself is killed, the kernel
ends the rest on Linux; elsewhere the next `./run` from the same folder does. What the programs are
is decided in `launch.py` and `services.py`.
"""

import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from config.bootstrap import ROOT, say

# Every process of a run has this in its environment, however it came to be: a Chromium too.
RUN_MARK = "CARTWRIGHT_RUN"


CALL_ERRORS = (OSError, HTTPException, xmlrpc.client.Error)

# A program that was started twice in vain by then will not do better the third time.
START_PATIENCE_SECONDS = 3


class LaunchError(Exception):
    """Cartwright cannot start or stay up; the message says why and what a person can do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Program:
    """One process to keep alive. Programs of the group `services` start first and stop last."""

    name: str
    command: tuple[str, ...]
    group: str = "app"
    user: str | None = None
    stop_signal: str = "TERM"
    stop_seconds: float = 10
    # False where the program ends its own children, as a worker does with its Chromium once the
    # running steps are done.
    signals_children: bool = True


class Supervisor:
    """A running supervisord and the programs under it."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        transport: Callable[[], SupervisorTransport],
        logs: Path,
    ) -> None:
        self._process = process
        self._transport = transport
        self._logs = logs

    def start_app(self) -> None:
        """Starts the programs of the group `app`, without waiting for them."""
        self._call("supervisor.startProcessGroup", "app", False)

    def check(self) -> None:
        """Raises LaunchError if supervisord has ended; programs that die it starts again."""
        if self._process.poll() is not None:
            log = self._logs / "supervisord.log"
            raise LaunchError("supervisor_ended", f"{_tail(log)}supervisord ended; see {log}.")

    def wait_for(self, what: str, is_ready: Callable[[], bool], seconds: float = 60) -> None:
        """Returns once `is_ready()`; raises LaunchError if time is up or a program keeps dying."""
        deadline = time.monotonic() + seconds
        dying_since: dict[str, float] = {}
        while not is_ready():
            self.check()
            for name in self._names_between_two_starts():
                since = dying_since.setdefault(name, time.monotonic())
                if time.monotonic() - since > START_PATIENCE_SECONDS:
                    log = self._logs / f"{name}.log"
                    raise LaunchError(
                        "program_failed", f"{_tail(log)}{name} does not stay up; see {log}."
                    )
            if time.monotonic() > deadline:
                message = f"{what} is not ready after {seconds:.0f} s; see {self._logs}."
                raise LaunchError("start_timeout", message)
            time.sleep(0.05)

    def _names_between_two_starts(self) -> list[str]:
        try:
            programs = self._call("supervisor.getAllProcessInfo")
        except CALL_ERRORS:  # not listening yet, or about to end
            return []
        return [program["name"] for program in programs if program["statename"] == "BACKOFF"]

    def show_logs(self, names: Sequence[str]) -> None:
        """Prints what the programs log, each line with its program's name, until one fails."""
        followers = [LogFollower(self._logs / f"{name}.log") for name in names]
        colours = [f"\033[{code}m" for code in (36, 33, 32, 35, 34, 31)]
        width = max(map(len, names), default=0)
        while True:
            for index, (name, follower) in enumerate(zip(names, followers, strict=True)):
                prefix = f"{name:<{width}} |"
                if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
                    prefix = f"{colours[index % len(colours)]}{prefix}\033[0m"
                for line in follower.new_lines():
                    print(prefix, line, flush=True)
            self.check()
            time.sleep(0.25)

    def stop(self, seconds: float) -> None:
        """Ends all programs, the app first; at once after `seconds`, or on another Ctrl-C."""
        self._process.terminate()
        deadline = time.monotonic() + seconds
        try:
            while self._process.poll() is None:
                if time.monotonic() > deadline:
                    raise TimeoutError
                # It looks at signals and children once a second, and whenever it is asked.
                with suppress(*CALL_ERRORS):
                    self._call("supervisor.getState")
                time.sleep(0.05)
        except (TimeoutError, KeyboardInterrupt):
            say("Ending everything at once.")
            self._process.kill()
            self._process.wait()

    def _call(self, method: str, *arguments: Any) -> Any:
        with xmlrpc.client.ServerProxy("http://localhost", self._transport()) as server:
            return getattr(server, method)(*arguments)


class LogFollower:
    """The whole lines added to a log file from now on, and to the one after its rotation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode, self._position = 0, 0
        with suppress(FileNotFoundError):
            found = path.stat()
            self._inode, self._position = found.st_ino, found.st_size

    def new_lines(self) -> Iterator[str]:
        with suppress(FileNotFoundError), self._path.open("rb") as handle:
            inode = os.fstat(handle.fileno()).st_ino
            if inode != self._inode:
                self._inode, self._position = inode, 0
            handle.seek(self._position)
            for line in handle:
                if not line.endswith(b"\n"):
                    break
                self._position += len(line)
                yield line.decode(errors="replace").rstrip()


@contextmanager
def supervised(
    programs: Sequence[Program], data: Path, sockets: Path, environment: Mapping[str, str]
) -> Iterator[Supervisor]:
    """Runs supervisord: the services at once, the app when told. Nothing is left at the end.

    `environment` has RUN_MARK set to the data folder; the programs inherit it.
    """
    logs = data / "log"
    logs.mkdir(0o700, exist_ok=True)
    password = secrets.token_hex(16)
    socket = sockets / "supervisor.sock"
    configuration = data / "supervisord.conf"
    configuration.touch(0o600)
    configuration.write_text(_configuration(programs, logs, socket, password))

    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(configuration)]
    with (logs / "supervisord.log").open("ab") as log:
        process = subprocess.Popen(
            dying_with_parent("TERM", command),
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # The terminal's Ctrl-C and hang-up are for us: supervisord restarts on the latter.
            start_new_session=True,
        )

    def transport() -> SupervisorTransport:
        return SupervisorTransport("cartwright", password, f"unix://{socket}")

    supervisor = Supervisor(process, transport, logs)
    try:
        yield supervisor
    finally:
        supervisor.stop(seconds=2 * max(program.stop_seconds for program in programs) + 5)
        end_processes_of(data, seconds=2)


def dying_with_parent(signal_name: str, command: Sequence[str]) -> list[str]:
    """The command, made to get a signal when its parent dies, where there is a tool for it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", signal_name, "--", *command] if setpriv else list(command)


def end_processes_of(data: Path, *, seconds: float) -> int:
    """Ends every process of a run with this data folder; says how many there were."""
    found = _processes_of(data)
    deadline = time.monotonic() + seconds
    for process in found:
        with suppress(psutil.Error):
            process.terminate()
    # Looked for again and again, not waited for: what nobody reaps would be waited for in vain.
    while (remaining := _processes_of(data)) and time.monotonic() < deadline + 5:
        if time.monotonic() > deadline:
            for process in remaining:
                with suppress(psutil.Error):
                    process.kill()
        time.sleep(0.02)
    return len(found)


def _processes_of(data: Path) -> list[psutil.Process]:
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(RUN_MARK) == str(data) and process.pid not in own:
                found.append(process)
    return found


def _tail(log: Path, lines: int = 20) -> str:
    if not log.exists():
        return ""
    return "".join(f"  {line}\n" for line in log.read_text(errors="replace").splitlines()[-lines:])


def _configuration(programs: Sequence[Program], logs: Path, socket: Path, password: str) -> str:
    sections: dict[str, dict[str, object]] = {
        "unix_http_server": {"file": socket, "username": "cartwright", "password": password},
        "supervisord": {
            "logfile": logs / "supervisord.log",
            "loglevel": "warn",
            "pidfile": logs.parent / "supervisord.pid",
            "silent": "true",
        },
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
        "supervisorctl": {
            "serverurl": f"unix://{socket}",
            "username": "cartwright",
            "password": password,
        },
    }
    if os.geteuid() == 0:
        sections["supervisord"]["user"] = "root"  # as intended; without it a warning each start
    for priority, group in enumerate(("services", "app"), start=1):
        members = [program.name for program in programs if program.group == group]
        if members:
            sections[f"group:{group}"] = {"programs": ",".join(members), "priority": priority}
    for program in programs:
        is_service = program.group == "services"
        death_signal = program.stop_signal if is_service else "KILL"
        sections[f"program:{program.name}"] = {
            "command": shlex.join(dying_with_parent(death_signal, program.command)),
            "directory": ROOT,
            "autostart": str(is_service).lower(),
            "autorestart": "true",
            "startsecs": 1,
            "startretries": 1_000_000,  # each a second later than the one before
            "stopsignal": program.stop_signal,
            "stopwaitsecs": int(program.stop_seconds),
            "stopasgroup": str(program.signals_children).lower(),
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": logs / f"{program.name}.log",
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": 2,
            **({"user": program.user} if program.user else {}),
        }
    return "\n".join(
        f"[{title}]\n"
        + "".join(f"{key}={str(value).replace('%', '%%')}\n" for key, value in section.items())
        for title, section in sections.items()
    )

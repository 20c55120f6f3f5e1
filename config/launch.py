"""The commands of `./run`, once everything is installed: what is up while each of them runs.

Each makes one environment for all of its processes: secrets, servers, addresses. What the
processes then do is not decided here.
"""

import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from types import FrameType
from typing import Any

from config.bootstrap import ROOT, SetUpError, apt_install, run_quietly, say
from config.data_folder import (
    claim,
    data_folder,
    find_running,
    kept_secret,
    new_credential_keys,
    new_secret_key,
    temporary_data_folder,
)
from config.services import find_free_port, prepare_services
from config.supervisor import (
    RUN_MARK,
    LaunchError,
    Program,
    Supervisor,
    dying_with_parent,
    supervised,
)

PORTS = range(8000, 8020)
WORKER_THREADS = 8  # of a worker process: so many steps, and browser contexts, at a time
# How long a worker may finish its running steps; one cut off is due again when its lease ends.
WORKER_STOP_SECONDS = 20
BENCHES = ROOT / "tests" / "bench"
CHAOS = ROOT / "tests" / "chaos"

Environment = dict[str, str]


class Terminated(KeyboardInterrupt):
    """We alone were told to stop; a Ctrl-C reaches the children at the terminal by itself."""


def main(arguments: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGHUP, _hang_up)
    commands = {
        "demo": demo,
        "serve": serve,
        "test": test,
        "check": check,
        "bench": bench,
        "chaos": chaos,
        "manage": manage,
    }
    try:
        return commands[arguments[0]](arguments[1:])
    except (LaunchError, SetUpError) as error:
        say(str(error))
        return 1
    except Terminated:
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


# --- Commands --------------------------------------------------------------------------------


def demo(arguments: Sequence[str]) -> int:
    with product(data_folder(), "demo", has_sandbox=True) as up:
        os.environ.update(up.environment)
        stays = "--once" not in arguments and sys.stdin.isatty()
        status: int = importlib.import_module("config.demo").main(stays=stays)
        if stays:
            say(f"Still up; Ctrl-C stops. Logs: {up.logs}")
            stay_up(up, shown=())
        return status


def serve(arguments: Sequence[str]) -> int:
    refuse(arguments)
    # Whoever brings a database has vendors of their own.
    with product(data_folder(), "serve", has_sandbox="DATABASE_URL" not in os.environ) as up:
        say(f"Cartwright is up: {up.environment['PUBLIC_URL']}  (Ctrl-C stops)")
        shown = [program.name for program in up.programs if program.group == "app"]
        stay_up(up, [*shown, "supervisord"])
    return 0


def test(arguments: Sequence[str]) -> int:
    ensure_browser()
    with temporary_data_folder() as data, servers(data, durable=False) as environment:
        # Most tests wait for a browser or a process: a worker a core halves the time.
        spread = [] if arguments else ["-n", "logical", "--dist", "loadfile"]
        return call([sys.executable, "-m", "pytest", *spread, *arguments], environment)


def check(arguments: Sequence[str]) -> int:
    refuse(arguments)
    python = sys.executable
    lint_imports = "from importlinter.cli import lint_imports_command as main; main()"
    checks = {
        "lint": [python, "-m", "ruff", "check"],
        "format": [python, "-m", "ruff", "format", "--check"],
        "types": [python, "-m", "mypy"],
        "imports": [python, "-c", lint_imports, "--no-logo"],
        "migrations": [python, "manage.py", "makemigrations", "--check", "--dry-run"],
        "deployment": [python, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
    }
    deployed = {"PUBLIC_URL": "https://cartwright.example", "DEBUG": "false"}
    failed = False
    with temporary_data_folder() as data, servers(data, durable=False) as environment:
        for name, command in checks.items():
            started = time.monotonic()
            done = subprocess.run(
                command,
                check=False,
                env=environment | deployed,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            verdict = "failed" if done.returncode else "ok"
            print(f"{name:<12}{verdict:<8}{time.monotonic() - started:5.1f} s", flush=True)
            if done.returncode:
                failed = True
                print(done.stdout, flush=True)
    return int(failed)


def bench(arguments: Sequence[str]) -> int:
    names = sorted(path.stem for path in BENCHES.glob("[!_]*.py"))
    if not arguments or arguments[0] not in names:
        say(f"./run bench NAME [--json]. Names: {', '.join(names) or 'none yet'}.")
        return 2 if arguments else 0
    os.environ["CART_REQUESTS_PER_MINUTE"] = "0"  # what can be done, not what one user may ask for
    with (
        temporary_data_folder() as data,
        product(data, "bench", has_sandbox=True, port=find_free_port()) as up,
    ):
        os.environ.update(up.environment)
        module = importlib.import_module(f"tests.bench.{arguments[0]}")
        status: int = module.main(arguments[1:])
        return status


def chaos(arguments: Sequence[str]) -> int:
    names = sorted(path.stem for path in CHAOS.glob("[!_]*.py"))
    if not arguments or arguments[0] not in names:
        say(f"./run chaos NAME [--kills N] [--seed S] [--json]. Names: {', '.join(names)}.")
        return 2 if arguments else 0
    module = importlib.import_module(f"tests.chaos.{arguments[0]}")
    options = module.read_options(arguments[1:])
    with temporary_data_folder() as data:
        # For these workers only: what they were doing when they were killed is taken up sooner.
        os.environ |= {"LEASE_SECONDS": "4", "WORKERS": "2", "CHAOS_FOLDER": str(data)}
        with product(
            data, "chaos", has_sandbox=True, port=find_free_port(), worker="tests.chaos._worker"
        ) as up:
            os.environ.update(up.environment)
            status: int = module.main(options)
            return status


def manage(arguments: Sequence[str]) -> int:
    command = [sys.executable, "manage.py", *arguments]
    data = data_folder()
    if run := find_running(data):
        if not run["addresses"]:
            raise LaunchError("still_starting", "Cartwright is still starting. Try again then.")
        return call(command, run["addresses"] | base_environment(data))
    with claim(data, "manage") as publish, servers(data) as environment:
        publish(addresses_in(environment))
        return call(command, environment)


def refuse(arguments: Sequence[str]) -> None:
    if arguments:
        raise LaunchError("bad_arguments", f"Unknown: {' '.join(arguments)}. See ./run --help.")


# --- What is up ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """Everything that `serve` starts, up and answering."""

    environment: Environment
    programs: tuple[Program, ...]
    supervisor: Supervisor
    logs: Path


@contextmanager
def product(
    data: Path,
    command: str,
    *,
    has_sandbox: bool,
    port: int | None = None,
    worker: str = "celery",
) -> Iterator[Product]:
    """Servers, web, workers and scheduler, from nothing to answering; all gone at the end. `worker`
    is the module that its workers run."""
    with claim(data, command) as publish:
        ensure_browser()
        environment = base_environment(data) | {RUN_MARK: str(data)}
        host = environment.get("HOST", "127.0.0.1")
        port = port or choose_port(host, environment.get("PORT"))
        # A number, not `localhost`: a bare system may not know that name.
        address = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 (only compared)
        environment.setdefault("PUBLIC_URL", f"http://{address}:{port}")
        awaited = {"The web server": (address, port)}
        programs = app_programs(host, port, environment.get("WORKERS", "1"), worker)
        if has_sandbox:
            sandbox_port = find_free_port()
            awaited["The sandbox shop"] = ("127.0.0.1", sandbox_port)
            environment["SANDBOX_URL"] = f"http://127.0.0.1:{sandbox_port}"
            programs.append(
                python_program(
                    *("sandbox", "automation.sandbox", "--port", sandbox_port),
                    *("--ledger", data / "sandbox.sqlite3"),
                )
            )
        embedded = prepare_services(data, environment)
        environment |= embedded.environment
        programs += embedded.programs

        say("Starting ...")
        with supervised(programs, data, embedded.sockets, environment) as supervisor:
            embedded.wait_until_ready(supervisor)
            migrate(environment)
            supervisor.start_app()
            for what, where in awaited.items():
                supervisor.wait_for(what, partial(is_listening, where))
            publish(addresses_in(environment))
            yield Product(environment, tuple(programs), supervisor, data / "log")


@contextmanager
def servers(data: Path, *, durable: bool = True) -> Iterator[Environment]:
    """The environment of a command that needs PostgreSQL and Valkey only, while they are up."""
    environment = base_environment(data) | {RUN_MARK: str(data)}
    embedded = prepare_services(data, environment, durable=durable)
    environment |= embedded.environment
    if not embedded.programs:
        yield environment
        return
    with supervised(embedded.programs, data, embedded.sockets, environment) as supervisor:
        embedded.wait_until_ready(supervisor)
        yield environment


def base_environment(data: Path) -> Environment:
    """Our own environment, with what every process of Cartwright is told besides."""
    environment = dict(os.environ)
    environment.setdefault("SECRET_KEY", kept_secret(data / "secret_key", new_secret_key))
    environment.setdefault(
        "CREDENTIAL_KEYS", kept_secret(data / "credential_keys", new_credential_keys)
    )
    # The processes write to files; who shows those at a terminal wants to read them.
    environment.setdefault("LOG_FORMAT", "text" if sys.stderr.isatty() else "json")
    return environment | {
        "DATA_DIR": str(data),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "PYTHONUNBUFFERED": "1",
    }


def addresses_in(environment: Environment) -> Environment:
    names = ("DATABASE_URL", "REDIS_URL", "PUBLIC_URL", "SANDBOX_URL")
    return {name: environment[name] for name in names if name in environment}


def app_programs(host: str, port: int, workers: str, worker: str = "celery") -> list[Program]:
    if not workers.isdecimal() or int(workers) < 1:
        raise LaunchError("bad_workers", f"WORKERS must be a number from 1, not {workers!r}.")
    web = python_program(
        *("web", "uvicorn", "config.asgi:application", "--host", host, "--port", port),
        *("--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio"),
        *("--lifespan", "off", "--timeout-graceful-shutdown", 3, "--no-access-log"),
    )
    celery = [
        python_program(
            *(f"worker-{number}", worker, "-A", "config", "worker"),
            *("--pool", "threads", "--concurrency", WORKER_THREADS),
            *("--hostname", f"worker-{number}@%h", "--loglevel", "INFO"),
            *("--without-gossip", "--without-mingle"),
            stop_seconds=WORKER_STOP_SECONDS,
            signals_children=False,
        )
        for number in range(1, int(workers) + 1)
    ]
    scheduler = Program("scheduler", (sys.executable, "manage.py", "jobs_sweep", "--forever"))
    return [web, *celery, scheduler]


def python_program(name: str, module: str, *arguments: object, **options: Any) -> Program:
    return Program(name, (sys.executable, "-m", module, *map(str, arguments)), **options)


def migrate(environment: Environment) -> None:
    command = [sys.executable, "manage.py", "migrate", "--no-input", "--verbosity", "0"]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise LaunchError("migration_failed", f"{done.stderr}The database was not migrated.")


# --- Addresses -------------------------------------------------------------------------------


def is_listening(where: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(where) == 0


def choose_port(host: str, wanted: str | None) -> int:
    """The port that PORT names, or the first free one of ours."""
    if wanted is None:
        for port in PORTS:
            if is_free(host, port):
                return port
        message = f"Ports {PORTS[0]} to {PORTS[-1]} are all taken. Name a free one in PORT."
        raise LaunchError("port_taken", message)
    if not wanted.isdecimal() or not 0 < int(wanted) < 65536:
        raise LaunchError("bad_port", f"PORT must be a number from 1 to 65535, not {wanted!r}.")
    if not is_free(host, int(wanted)):
        raise LaunchError("port_taken", f"Port {wanted} is taken. Name another in PORT.")
    return int(wanted)


def is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


# --- Browser ---------------------------------------------------------------------------------


def ensure_browser() -> None:
    """Gets what a browser needs here if it is missing: Playwright's driver and a Chromium start.

    Debian's packages before Playwright's download where they can be had: they bring the libraries
    that a bare machine lacks and without which the download does not start.
    """
    from automation.chromium import find_chromium  # with Playwright: slow, and not for each command

    driver = distribution("playwright").locate_file("playwright/driver/node")
    node = os.environ.get("PLAYWRIGHT_NODEJS_PATH", str(driver))
    if not starts(node):
        apt_install("libatomic1", label="Installing a library for Playwright")
        if not starts(node):
            raise LaunchError(
                "no_playwright",
                f"Playwright's driver does not start; try {node} --version. "
                "On Debian and Ubuntu it needs: sudo apt-get install libatomic1",
            )
    if starts(find_chromium()):
        return
    apt_install("chromium-headless-shell", label="Installing Chromium")
    if starts(find_chromium()):
        return
    try:
        download = [sys.executable, "-m", "playwright", "install", "--only-shell", "chromium"]
        run_quietly("Downloading Chromium", download)
    except SetUpError as error:
        say(str(error))
    if not starts(find_chromium()):
        raise LaunchError(
            "no_chromium",
            "There is no Chromium that starts, and none could be installed. Install one (Debian: "
            "sudo apt-get install chromium-headless-shell; Ubuntu: sudo .venv/bin/playwright "
            "install-deps chromium; macOS: Google Chrome), or name one in CHROMIUM_PATH.",
        )


def starts(program: str | Path | None) -> bool:
    """Whether the program is there with all the libraries it needs."""
    if program is None:
        return False
    try:
        subprocess.run([program, "--version"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


# --- Children and signals --------------------------------------------------------------------


def call(command: Sequence[str], environment: Environment) -> int:
    """Runs a command at our terminal. A Ctrl-C there is the command's; it decides when to end."""
    previous = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with subprocess.Popen(dying_with_parent("INT", command), env=environment) as child:
            try:
                status = child.wait()
            except Terminated:
                child.send_signal(signal.SIGINT)
                raise
    finally:
        signal.signal(signal.SIGINT, previous)
    return status if status >= 0 else 128 - status


def stay_up(up: Product, shown: Sequence[str]) -> None:
    """Shows the programs' logs until somebody stops us; raises LaunchError if one fails."""
    try:
        up.supervisor.show_logs(shown)
    except KeyboardInterrupt:
        say("\nStopping ...")


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def _hang_up(_signal: int, _frame: FrameType | None) -> None:
    # The terminal is gone: a line printed while stopping would fail, and the stopping with it.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    raise Terminated


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

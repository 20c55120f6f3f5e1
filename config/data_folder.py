"""The folder that holds a run's data: who may use it now, and the secrets kept in it."""

import base64
import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config.bootstrap import ROOT, say
from config.supervisor import LaunchError, end_processes_of


def data_folder() -> Path:
    folder = Path(os.environ.get("DATA_DIR") or ROOT / ".data").resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def temporary_data_folder() -> Iterator[Path]:
    # Not in $TMPDIR: on macOS its path is too long for a socket.
    with tempfile.TemporaryDirectory(prefix="cartwright-", dir="/tmp") as name:
        yield Path(name).resolve()


@contextmanager
def claim(data: Path, command: str) -> Iterator[Callable[[dict[str, str]], None]]:
    """Makes this the only run on its data folder, and ends what a killed one has left there.

    Gives a function that publishes the run's addresses for `find_running`. The claim is a lock
    that the kernel drops with our process: a kill leaves nothing stale.
    """
    with open(data / "running.json", "a", opener=_open_private) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaunchError("already_running", _already_running(data)) from None

        def publish(addresses: dict[str, str]) -> None:
            handle.truncate(0)
            run = {"command": command, "pid": os.getpid(), "addresses": addresses}
            handle.write(json.dumps(run))
            handle.flush()

        publish({})
        if end_processes_of(data, seconds=10):
            say("Ended what an earlier run had left behind.")
        try:
            yield publish
        finally:
            handle.truncate(0)


def find_running(data: Path) -> dict[str, Any] | None:
    """The command, pid and addresses of the run that has claimed the folder, if one has."""
    try:
        with (data / "running.json").open() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                run: dict[str, Any] = json.load(handle)
                return run
    except FileNotFoundError:
        pass
    return None


def _already_running(data: Path) -> str:
    run = find_running(data) or {"command": "", "pid": "unknown", "addresses": {}}
    address = run["addresses"].get("PUBLIC_URL", "")
    return (
        f"Cartwright already runs on {data}: ./run {run['command']}, process {run['pid']} "
        f"{address}\nStop it first, or set DATA_DIR to another folder."
    )


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """The secret in a file that only its owner can read; made when there is none."""
    if not path.exists():
        descriptor, name = tempfile.mkstemp(dir=path.parent)  # mode 0600
        with os.fdopen(descriptor, "w") as handle:
            handle.write(make())
        os.rename(name, path)
    return path.read_text()


def new_secret_key() -> str:
    return secrets.token_urlsafe(48)


def new_credential_keys() -> str:
    """A key ring of one key, in the form of CREDENTIAL_KEYS: `id:base64 of 32 bytes`."""
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    return f"{secrets.token_hex(4)}:{key}"


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

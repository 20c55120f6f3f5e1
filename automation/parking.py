"""Parked sessions: browsers of their own that outlive the worker which started them.

A payment page that waits for a code must stay as it is while no worker, thread or step stays with
it. So each parked session is a process of its own, the warden (`parking_warden.py`), with one
Chromium and one profile; here is how it is started, found, verified and ended. How a flow visits
one is in `parking_visit.py`.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import structlog

from automation.chromium import LAUNCH_ARGUMENTS, POINTER, WITHOUT_IMAGES
from automation.errors import BrowserDied
from automation.parking_warden import LAUNCH_SECONDS, Order
from automation.session import SessionSpec

log = structlog.get_logger(__name__)

WARDEN = "automation.parking_warden"
# Sessions that share a lock start one after another: a start takes half a second.
LOCKS = 16
LOCK_SECONDS = 45.0  # longer than a start that fails
END_SECONDS = 5.0  # for a warden to end its Chromium and its folder
POLL_SECONDS = 0.01
LEFTOVER_SECONDS = 120.0  # no folder is without its warden for so long while it starts

# What Chromium needs to be like the one that Playwright starts: quiet, without questions to
# anybody, and awake while nobody looks at its page.
ARGUMENTS = (
    "--headless",
    "--remote-debugging-pipe",
    "--remote-debugging-port=0",
    "--proxy-server={proxy}",
    # Without it Chromium connects to loopback addresses by itself.
    "--proxy-bypass-list=<-loopback>",
    "--window-size=1280,720",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-back-forward-cache",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-features=HttpsUpgrades,MediaRouter,OptimizationHints,PaintHolding,"
    "ThirdPartyStoragePartitioning,Translate",
    "--disable-field-trial-config",
    "--disable-hang-monitor",
    "--disable-popup-blocking",
    "--disable-prompt-on-repost",
    "--disable-renderer-backgrounding",
    "--disable-search-engine-choice-screen",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--metrics-recording-only",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--password-store=basic",
    "--use-mock-keychain",
)
SECRET_VARIABLE = re.compile(r"KEY|SECRET|PASSW|TOKEN|DATABASE_URL|REDIS_URL", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Parking:
    """A session that stays when its flow has ended.

    The session's key names it: one browser a key on a machine. A new browser is filled with its
    `storage_state`. It ends by itself when nobody has come for `keep_for`.
    """

    session: SessionSpec
    keep_for: timedelta


@dataclass(frozen=True, slots=True)
class ParkedInfo:
    """A parked browser that is alive on this machine."""

    key: str
    pid: int  # of its warden
    started_at: datetime
    ends_at: datetime  # unless somebody comes before


@dataclass(frozen=True, slots=True)
class Warden:
    """A warden as its state file names it, and how to speak to it."""

    key: str
    pid: int
    browser: int  # the process that Chromium was started as, and its process group
    folder: str
    port: int
    token: str
    started_at: float
    ends_at: float

    @property
    def alive(self) -> bool:
        """Its own process, not another one by its number: only it names the folder."""
        return self.folder in _command_line(self.pid)


def find_parked(folder: Path, key: str) -> ParkedInfo | None:
    """The parked browser of this key, if there is one that lives."""
    warden = find_warden(folder, key)
    if warden is None:
        return None
    return ParkedInfo(
        warden.key,
        warden.pid,
        datetime.fromtimestamp(warden.started_at, UTC),
        datetime.fromtimestamp(warden.ends_at, UTC),
    )


def find_warden(folder: Path, key: str) -> Warden | None:
    warden = _read_state(_state(folder, key))
    return warden if warden is not None and warden.key == key and warden.alive else None


def start_warden(
    folder: Path, parking: Parking, executable: Path | None, given_up: Callable[[], bool]
) -> Warden:
    """The warden of this session; a new one where there is none, which takes half a second.

    Blocks: it belongs in a thread. Raises BrowserDied.
    """
    key = parking.session.key
    _reap()
    with _locked(folder, key, given_up):
        warden = find_warden(folder, key)
        if warden is not None:
            return warden
        _end_all(folder, key)
        if executable is None:
            raise BrowserDied(
                "No Chromium was found on this machine. Install one (on Debian: the package "
                "chromium-headless-shell; elsewhere: `playwright install chromium`) or set "
                "CHROMIUM_PATH to its executable."
            )
        return _start(folder, parking, executable)


def end_parked(folder: Path, key: str, *, only: Warden | None = None) -> None:
    """Ends the parked browser of this key, or `only` this one, and removes its profile."""
    if not folder.exists():
        return
    with _locked(folder, key, lambda: False):
        warden = _read_state(_state(folder, key))
        if only is None or (warden is not None and warden.folder == only.folder):
            _end_all(folder, key)


def remove_leftovers(folder: Path) -> list[Path]:
    """Ends browsers whose warden was killed, and deletes the folders that nobody uses. The folders
    that are gone."""
    removed = []
    for path in sorted(folder.glob("*-*")) if folder.exists() else ():
        processes = _find_processes(path)
        if any(WARDEN in _command_line(each.pid) for each in processes):
            continue
        try:
            if not processes and time.time() - path.stat().st_mtime < LEFTOVER_SECONDS:
                continue
        except OSError:
            continue  # another worker was faster
        _kill(processes)
        shutil.rmtree(path, ignore_errors=True)
        removed.append(path)
    for state in folder.glob("*.json") if removed else ():
        found = _read_state(state)
        if found is not None and Path(found.folder) in removed:
            state.unlink(missing_ok=True)
    return removed


# --- Starting --------------------------------------------------------------------------------


def _start(folder: Path, parking: Parking, executable: Path) -> Warden:
    spec = parking.session
    home = folder / f"{_digest(spec.key)}-{secrets.token_hex(8)}"
    home.mkdir(0o700)
    order = Order(
        key=spec.key,
        token=secrets.token_urlsafe(32),
        folder=str(home),
        state=str(_state(folder, spec.key)),
        commands=_commands(executable, home / "profile", images=spec.images),
        domains=spec.network.domains,
        allow_private=spec.network.allow_private,
    )
    process = _spawn(order)
    deadline = time.monotonic() + LAUNCH_SECONDS * len(order.commands) + 1
    while time.monotonic() < deadline and process.poll() is None:
        found = _read_state(Path(order.state))
        if found is not None and found.folder == order.folder:
            log.info("parked_browser_started", warden=process.pid, images=spec.images)
            return found
        time.sleep(POLL_SECONDS)
    failure = home / "failure"
    why = failure.read_text() if failure.exists() else "it took too long"
    _end_all(folder, spec.key)
    raise BrowserDied(
        f"Chromium at {executable} did not start: {why}. Start it by hand to see why, or name "
        "another one in CHROMIUM_PATH."
    )


def _commands(executable: Path, profile: Path, *, images: bool) -> list[list[str]]:
    """With Chromium's sandbox where it can be had: not for root, nor on every machine."""
    command = [
        str(executable),
        f"--user-data-dir={profile}",
        *ARGUMENTS,
        *LAUNCH_ARGUMENTS,
        *((f"--blink-settings={POINTER}",) if images else WITHOUT_IMAGES),
    ]
    without = [*command, "--no-sandbox", "about:blank"]
    return [without] if os.getuid() == 0 else [[*command, "about:blank"], without]


# Ours until they end, or they would stay as zombies for as long as this worker runs.
_started: list[subprocess.Popen[bytes]] = []
_reaping = threading.Lock()


def _spawn(order: Order) -> "subprocess.Popen[bytes]":
    root = Path(__file__).parent.parent
    environment = {
        name: value for name, value in os.environ.items() if not SECRET_VARIABLE.search(name)
    }
    with Path(order.folder, "warden.log").open("wb") as output:
        process = subprocess.Popen(
            # The folder is there to tell this process by.
            [sys.executable, "-P", "-m", WARDEN, order.folder],
            cwd=order.folder,
            env=environment | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,  # what ends the worker's group or terminal does not end it
        )
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(json.dumps(asdict(order)).encode())
    with _reaping:
        _started.append(process)
    return process


def _reap() -> None:
    with _reaping:
        _started[:] = [each for each in _started if each.poll() is None]


# --- Ending ----------------------------------------------------------------------------------


def _end_all(folder: Path, key: str) -> None:
    """Everything that there is of this key; a warden that starts or hangs too. Needs the lock."""
    warden = _read_state(_state(folder, key))
    if warden is not None and warden.alive:
        with suppress(ProcessLookupError):
            os.kill(warden.pid, signal.SIGTERM)
        _wait_while(lambda: warden.alive)
    _state(folder, key).unlink(missing_ok=True)
    # A warden that has ended well has left nothing.
    for home in folder.glob(f"{_digest(key)}-*"):
        _kill(_find_processes(home))
        shutil.rmtree(home, ignore_errors=True)
    _reap()


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    # A zombie has no command line.
    _wait_while(lambda: any(_command_line(process.pid) for process in processes))


def _wait_while(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + END_SECONDS
    while holds() and time.monotonic() < deadline:
        _reap()
        time.sleep(POLL_SECONDS)


def _find_processes(home: Path) -> list[psutil.Process]:
    """The warden of this folder, its Chromium and all of Chromium's processes."""
    found = []
    for process in psutil.process_iter():
        if str(home) in _command_line(process.pid):
            with suppress(psutil.Error):
                found += [process, *process.children(recursive=True)]
    return list(dict.fromkeys(found))


def _command_line(pid: int) -> str:
    try:
        return "\0".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


# --- Files -----------------------------------------------------------------------------------


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:24]


def _state(folder: Path, key: str) -> Path:
    return folder / f"{_digest(key)}.json"


def _read_state(path: Path) -> Warden | None:
    try:
        return Warden(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def _locked(folder: Path, key: str, given_up: Callable[[], bool]) -> Iterator[None]:
    """One at a time starts or ends the browser of a key, of all processes of this machine. The
    kernel gives the lock back for one that is killed."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        raise RuntimeError(f"{folder} must be ours alone (mode 700): sessions are kept there.")
    lock = folder / f"{int(_digest(key), 16) % LOCKS}.lock"
    deadline = time.monotonic() + LOCK_SECONDS
    with lock.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if given_up() or time.monotonic() > deadline:
                    raise BrowserDied(
                        "Another worker is starting or ending this browser and does not come to "
                        "an end. Try again."
                    ) from None
            time.sleep(POLL_SECONDS)
        yield

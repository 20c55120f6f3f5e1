"""Finding Chromium, and that none outlives its worker."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from automation import chromium
from automation.chromium import find_chromium, remove_leftovers
from automation.errors import BrowserDied
from automation.guard import NetworkPolicy
from automation.host import BrowserHost
from automation.session import BrowserSession, SessionSpec

ROOT = Path(__file__).parents[2]


def program(path: Path, text: str = "#!/bin/sh\nexit 0\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty PATH and no downloads."""
    (tmp_path / "bin").mkdir()
    monkeypatch.delenv("CHROMIUM_PATH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "downloads"))
    monkeypatch.setattr(sys, "platform", "linux")
    return tmp_path


def test_nothing_installed_is_none(machine: Path) -> None:
    assert find_chromium() is None


def test_chosen_path_wins_and_a_wrong_one_is_not_replaced_by_another(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(machine / "bin/chromium")
    chosen = program(machine / "own/chrome")

    monkeypatch.setenv("CHROMIUM_PATH", str(chosen))
    assert find_chromium() == chosen
    monkeypatch.setenv("CHROMIUM_PATH", str(machine / "missing"))
    assert find_chromium() is None


def test_headless_shell_is_preferred_to_a_whole_browser(machine: Path) -> None:
    program(machine / "bin/google-chrome")
    shell = program(machine / "bin/chromium-headless-shell")

    assert find_chromium() == shell


def test_snap_is_passed_over(machine: Path) -> None:
    program(machine / "bin/chromium-browser", "#!/bin/sh\nexec /snap/bin/chromium\n")
    snap = program(machine / "usr/bin/snap")
    (machine / "bin/chromium").symlink_to(snap)

    assert find_chromium() is None


def test_newest_download_of_playwright_is_the_last_resort(machine: Path) -> None:
    shells = machine / "downloads"
    program(shells / "chromium_headless_shell-1100/chrome-linux/headless_shell")
    newest = program(
        shells / "chromium_headless_shell-1200/chrome-headless-shell-linux64/chrome-headless-shell"
    )
    program(shells / "chromium-1200/chrome-linux/chrome")

    assert find_chromium() == newest


def test_missing_chromium_says_what_to_install(machine: Path) -> None:
    async def flow(session: BrowserSession) -> None:
        pass

    spec = SessionSpec("alice", NetworkPolicy(()))
    with BrowserHost() as host, pytest.raises(BrowserDied, match="chromium-headless-shell"):
        host.run(flow, spec, timeout=timedelta(seconds=30))


@pytest.mark.browser
def test_program_that_is_no_chromium_is_a_typed_error(tmp_path: Path) -> None:
    async def flow(session: BrowserSession) -> None:
        pass

    impostor = program(tmp_path / "chromium")
    spec = SessionSpec("alice", NetworkPolicy(()))
    with (
        BrowserHost(executable_path=impostor) as host,
        pytest.raises(BrowserDied, match="did not start"),
    ):
        host.run(flow, spec, timeout=timedelta(seconds=30))


@pytest.mark.browser
@pytest.mark.skipif(os.getuid() != 0, reason="only root is refused the sandbox for sure")
def test_browser_starts_where_the_sandbox_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    async def flow(session: BrowserSession) -> str:
        return session.page.url

    monkeypatch.setattr(os, "getuid", lambda: 1000)  # so that it is tried at all
    with BrowserHost() as host:
        spec = SessionSpec("alice", NetworkPolicy(()))
        assert host.run(flow, spec, timeout=timedelta(seconds=30)) == "about:blank"


WORKER = """
import sys, time
from datetime import timedelta
from automation.guard import NetworkPolicy
from automation.host import BrowserHost
from automation.session import SessionSpec

async def flow(session):
    await session.call(print, "running", flush=True)
    await session.page.wait_for_selector("#never", timeout=60_000)

BrowserHost().run(flow, SessionSpec("alice", NetworkPolicy(())), timeout=timedelta(seconds=60))
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own, for the worker and for us."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def worker(temporary: Path) -> subprocess.Popen[str]:
    """A process with a browser in the middle of a flow."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as lines:
        assert any(line == "running\n" for line in lines)
    return process


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def gone(processes: list[psutil.Process], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        # A zombie has ended; only a parent that we cannot be could take it away.
        if all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in processes):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.browser
def test_killed_worker_leaves_no_process_and_no_folder(
    worker: subprocess.Popen[str], temporary: Path
) -> None:
    children = family(worker)
    assert any("chrom" in child.name() for child in children)
    assert list(temporary.iterdir()) != []

    worker.kill()
    worker.wait()

    assert gone(children)
    assert list(temporary.iterdir()) == []


@pytest.mark.browser
def test_worker_killed_together_with_its_driver_leaves_no_process(
    worker: subprocess.Popen[str], temporary: Path
) -> None:
    children = family(worker)
    driver = next(child for child in children if "run-driver" in child.cmdline())

    worker.send_signal(signal.SIGSTOP)  # so that it cannot react to its driver's death
    driver.kill()
    worker.kill()
    worker.wait()

    assert gone(children)
    # Nobody was left to tidy up: the next worker does.
    assert len(list(temporary.glob(chromium.PROFILES))) == 1
    assert remove_leftovers() == []  # too young: it could be a browser that is just starting
    assert len(remove_leftovers(older_than_seconds=0)) == 1
    assert list(temporary.glob(chromium.PROFILES)) == []


@pytest.mark.browser
def test_profile_of_a_running_browser_is_no_leftover(
    worker: subprocess.Popen[str], temporary: Path
) -> None:
    children = family(worker)

    assert remove_leftovers(older_than_seconds=0) == []

    worker.terminate()
    worker.wait()
    assert gone(children)

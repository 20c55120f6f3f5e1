"""Finding, launching and ending Chromium.

One `Chromium` is a browser process and the Playwright driver that owns it: closed, killed and
replaced together. Which sessions run on it is decided in `host.py`.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil
import structlog
from playwright.async_api import Browser, Playwright, async_playwright
from playwright.async_api import Error as PlaywrightError

from automation.errors import BrowserDied
from automation.waiting import look_away, settle_within

log = structlog.get_logger(__name__)

# A cold start on a busy two-core machine takes a few seconds; beyond this nothing comes any more.
LAUNCH_SECONDS = 30
CLOSE_SECONDS = 3  # a browser that needs longer hangs, and is killed

EXECUTABLES = (
    "chromium-headless-shell",
    "chrome-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
MACOS_APPLICATIONS = (
    "Chromium.app/Contents/MacOS/Chromium",
    "Google Chrome.app/Contents/MacOS/Google Chrome",
)
# What Playwright's own download contains, by platform; the first is the smaller headless shell.
DOWNLOADS = (
    "chromium_headless_shell-*/*/*headless*shell",
    "chromium-*/*/chrome",
    "chromium-*/*/*.app/Contents/MacOS/*",
)

LAUNCH_ARGUMENTS = (
    # WebRTC sends UDP around a SOCKS proxy, to private addresses too; with this it sends none.
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    # Names are resolved by the guard alone: no DNS look-up tells where a page wants to go, and a
    # connection that would not use the guard finds no address.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
# What Playwright passes in headless mode: Chromium knows only the last --blink-settings.
POINTER = "primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4"
WITHOUT_IMAGES = (f"--blink-settings={POINTER},imagesEnabled=false", "--disable-remote-fonts")

PROFILES = "playwright_chromiumdev_profile-*"
# Longer than any launch takes, so that a folder whose Chromium is just starting is not taken.
LEFTOVER_SECONDS = 120


def find_chromium() -> Path | None:
    """The Chromium to launch: CHROMIUM_PATH, an installed one, or Playwright's own download."""
    chosen = os.environ.get("CHROMIUM_PATH")
    if chosen:
        return Path(chosen) if _is_executable(Path(chosen)) else None
    return next((path for path in _candidates() if _is_executable(path)), None)


def _candidates() -> Iterator[Path]:
    for name in EXECUTABLES:
        found = shutil.which(name)
        if found and not _is_snap(Path(found)):
            yield Path(found)
    if sys.platform == "darwin":
        for folder in (Path("/Applications"), Path.home() / "Applications"):
            for application in MACOS_APPLICATIONS:
                yield folder / application
    for pattern in DOWNLOADS:
        # Newest revision first; a revision is a number of fixed width.
        yield from sorted(_downloads_folder().glob(pattern), reverse=True)


def _downloads_folder() -> Path:
    chosen = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    if chosen and chosen != "0":
        return Path(chosen)
    caches = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return caches / "ms-playwright"


def _is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _is_snap(path: Path) -> bool:
    """Whether this is Ubuntu's snap, or the script that only tells to install it.

    A snap sees neither our temporary folder nor the pipe that Playwright talks through.
    """
    if path.resolve().name == "snap":
        return True
    with path.open("rb") as file:
        start = file.read(4096)
    return start.startswith(b"#!") and b"/snap/" in start


class Driver:
    """A running Playwright. Use `await Driver.start()`."""

    def __init__(self, playwright: Playwright, process: psutil.Process) -> None:
        self.playwright = playwright
        self.process = process

    @classmethod
    async def start(cls) -> Self:
        """Raises BrowserDied. Two starts at the same time would mix their processes up."""
        others = _find_drivers()
        try:
            playwright = await settle_within(LAUNCH_SECONDS, async_playwright().start())
        except (PlaywrightError, OSError) as error:
            for process in _find_drivers() - others:
                _kill(process)
            raise BrowserDied(f"Playwright's driver did not start: {_first_line(error)}") from error
        return cls(playwright, (_find_drivers() - others).pop())

    @property
    def alive(self) -> bool:
        return self.process.is_running()

    def kill(self) -> None:
        """Ends it, and the browser that it launched, by force, so that every call that waits for
        them fails."""
        _kill(self.process)

    async def end(self) -> None:
        stopping = asyncio.ensure_future(self.playwright.stop())
        await asyncio.wait({stopping}, timeout=CLOSE_SECONDS)
        if not stopping.done():
            _kill(self.process)
            await asyncio.wait({stopping}, timeout=CLOSE_SECONDS)
        stopping.add_done_callback(look_away)


class Chromium:
    """A running browser with its driver. Use `await Chromium.launch(...)`."""

    def __init__(self, driver: Driver, browser: Browser, *, images: bool) -> None:
        self.browser = browser
        self.images = images
        self.launched_at = time.monotonic()
        self.contexts = 0  # open now
        self.flows = 0  # ever
        self.retired = False
        self._driver = driver
        self._profiles = _find_profiles(driver.process)

    @classmethod
    async def launch(cls, executable: Path | None, *, images: bool) -> Self:
        """Raises BrowserDied. Two launches at the same time would mix their drivers up."""
        if executable is None:
            raise BrowserDied(
                "No Chromium was found on this machine. Install one (on Debian: the package "
                "chromium-headless-shell; elsewhere: `playwright install chromium`) or set "
                "CHROMIUM_PATH to its executable."
            )
        driver = await Driver.start()
        try:
            browser = await _launch(driver.playwright, executable, images=images)
        except (PlaywrightError, OSError) as error:
            await driver.end()
            raise BrowserDied(
                f"Chromium at {executable} did not start: {_first_line(error)}. Start it by hand "
                "to see why, or name another one in CHROMIUM_PATH."
            ) from error
        log.info(
            "browser_launched", driver=driver.process.pid, version=browser.version, images=images
        )
        return cls(driver, browser, images=images)

    @property
    def alive(self) -> bool:
        # A driver that died takes its browser along, but says so to nobody.
        return self.browser.is_connected() and self._driver.alive

    def kill(self) -> None:
        """Ends browser and driver by force, so that every call that waits for them fails.

        The driver must go too: one that hangs would leave those calls waiting for ever. May be
        repeated; `close` tidies up after it.
        """
        log.warning("browser_killed", driver=self._driver.process.pid, flows=self.flows)
        self._driver.kill()

    async def close(self) -> None:
        """Ends browser and driver, by force if they do not end by themselves."""
        with suppress(PlaywrightError, TimeoutError):
            await settle_within(CLOSE_SECONDS, self.browser.close())
        await self._driver.end()
        # Playwright does it too, unless something died in the wrong order.
        for profile in self._profiles:
            await asyncio.to_thread(shutil.rmtree, profile, ignore_errors=True)
        log.info("browser_closed", driver=self._driver.process.pid, flows=self.flows)


def remove_leftovers(older_than_seconds: float = LEFTOVER_SECONDS) -> list[Path]:
    """Deletes what browsers left in the temporary folder when they were killed with their worker.

    Only our own user's folders, and none that a running process names. (Containers that share a
    temporary folder do not see each other's processes: give each its own.)
    """
    folder = Path(tempfile.gettempdir())
    oldest = time.time() - older_than_seconds
    found = list(folder.glob(PROFILES))
    if not found:
        return []
    in_use = {
        profile.resolve()
        for process in psutil.process_iter(["cmdline"])
        for profile in _profiles(process.info["cmdline"])
    }
    removed = []
    for path in found:
        try:
            status = path.stat()
            ours = status.st_uid == os.getuid()
            if ours and status.st_mtime < oldest and path.resolve() not in in_use:
                shutil.rmtree(path)
                removed.append(path)
        except OSError:
            continue  # another worker was faster
    return removed


def _find_drivers() -> set[psutil.Process]:
    """The Playwright drivers of this process. Playwright itself does not tell its driver's pid."""
    return {child for child in psutil.Process().children() if "run-driver" in _command_line(child)}


async def _launch(playwright: Playwright, executable: Path, *, images: bool) -> Browser:
    """A browser with Chromium's sandbox where it can be had: not for root, nor on every machine."""
    if os.getuid() != 0:
        try:
            return await _launch_with(playwright, executable, images=images, sandbox=True)
        except (PlaywrightError, OSError):
            log.warning("browser_without_sandbox", executable=str(executable))
    return await _launch_with(playwright, executable, images=images, sandbox=False)


async def _launch_with(
    playwright: Playwright, executable: Path, *, images: bool, sandbox: bool
) -> Browser:
    return await settle_within(
        LAUNCH_SECONDS,
        playwright.chromium.launch(
            executable_path=executable,
            args=[*LAUNCH_ARGUMENTS, *(() if images else WITHOUT_IMAGES)],
            chromium_sandbox=sandbox,
            # Ctrl-C reaches the driver too; the worker decides when its browser ends.
            handle_sigint=False,
            # Downloads, traces and videos would go here. We make none, and so need no folder.
            artifacts_dir=tempfile.gettempdir(),
        ),
    )


def _kill(driver: psutil.Process) -> None:
    for process in (driver, *_descendants(driver)):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _find_profiles(driver: psutil.Process) -> set[Path]:
    return {path for process in _descendants(driver) for path in _profiles(_command_line(process))}


def _descendants(driver: psutil.Process) -> list[psutil.Process]:
    try:
        return driver.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _profiles(command_line: list[str] | None) -> Iterator[Path]:
    for argument in command_line or ():
        if argument.startswith("--user-data-dir="):
            yield Path(argument.partition("=")[2])


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")

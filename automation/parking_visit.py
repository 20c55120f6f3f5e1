"""Visiting a parked session: the talk with its warden, and what a flow's context is there.

A visit lasts from `open` to `close`, or until its warden cuts it off because this process has been
silent for too long. Starting and ending wardens is in `parking.py`.
"""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Self
from uuid import uuid4

from playwright.async_api import Browser, BrowserContext, Page, StorageState
from playwright.async_api import Error as PlaywrightError

from automation.chromium import Driver
from automation.errors import SessionBusy
from automation.guard import GuardLog, Refusal
from automation.parking import Parking, Warden
from automation.parking_warden import BEAT_SECONDS, TOKEN_HEADER, VISIT_HEADER
from automation.session import OpenContext

# A worker that lost its lease leaves within five seconds; one that is silent is cut off by then.
BUSY_SECONDS = 8.0
TALK_SECONDS = 8.0  # a warden answers in milliseconds; a new tab takes ten more
ASK_AGAIN_SECONDS = 0.02
MAX_MESSAGE_BYTES = 1 << 20

# Playwright's own switch for this is there only for contexts that it makes.
WITHOUT_SERVICE_WORKERS = """
if (navigator.serviceWorker)
  ServiceWorkerContainer.prototype.register =
    () => Promise.reject(new DOMException("not here", "SecurityError"));
"""


class WardenGone(Exception):
    """There is no such warden any more, or it does not answer."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What the warden says to a visitor."""

    path: str  # of Chromium's DevTools
    target: str  # the visitor's page
    fills: bool  # this visit puts the saved session in
    is_new_page: bool
    is_alone: bool  # no other flow is there
    visits: int  # this one included
    age: float  # of the browser, in seconds


class Visit:
    """One flow's stay in a parked browser."""

    def __init__(
        self,
        warden: Warden,
        name: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        admission: Admission,
    ) -> None:
        self.warden = warden
        self.admission = admission
        self.guard = GuardLog()
        self.is_over = False
        self._name = name
        self._reader = reader
        self._writer = writer
        self._tasks = (
            asyncio.ensure_future(self._beat()),
            asyncio.ensure_future(self._listen()),
        )

    @classmethod
    async def open(cls, warden: Warden, parking: Parking, *, tab: bool) -> Self:
        """Waits a little while somebody else is there. Raises WardenGone or SessionBusy."""
        deadline = asyncio.get_running_loop().time() + BUSY_SECONDS
        name = uuid4().hex
        hello = {
            "token": warden.token,
            "visit": name,
            "tab": tab,
            "keep_for": parking.keep_for.total_seconds(),
        }
        while True:
            reader, writer = await _connect(warden)
            try:
                answer = await _ask(reader, writer, hello)
            except BaseException:
                writer.transport.abort()
                raise
            if "wait" not in answer:
                if answer.pop("key") == warden.key:
                    return cls(warden, name, reader, writer, Admission(**answer))
                writer.transport.abort()
                raise WardenGone("It keeps another session.")
            writer.transport.abort()
            if asyncio.get_running_loop().time() > deadline:
                raise SessionBusy(
                    "Another worker uses the browser of this session. Try again when it has ended."
                )
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.warden.port}{self.admission.path}"

    @property
    def headers(self) -> dict[str, str]:
        return {TOKEN_HEADER: self.warden.token, VISIT_HEADER: self._name}

    def say_filled(self) -> None:
        self._tell({"filled": True})

    def close(self) -> None:
        """The warden ends what is left of the visit. Safe to repeat."""
        for task in self._tasks:
            task.cancel()  # they wait for a socket or the time, never for Playwright
        self.is_over = True
        self._writer.close()

    def _tell(self, message: dict[str, Any]) -> None:
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def _beat(self) -> None:
        while not self.is_over:
            self._tell({"beat": True})
            await asyncio.sleep(BEAT_SECONDS)

    async def _listen(self) -> None:
        with suppress(OSError, ValueError):
            while line := await self._reader.readline():
                message = json.loads(line)
                if "refusal" in message:
                    self.guard.note_refusal(Refusal(**message["refusal"]))
                elif "failure" in message:
                    self.guard.note_failure(Refusal(**message["failure"]))
        self.is_over = True


async def _connect(warden: Warden) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_connection("127.0.0.1", warden.port, limit=MAX_MESSAGE_BYTES)
    except OSError as error:
        raise WardenGone(str(error)) from error


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: dict[str, Any]
) -> dict[str, Any]:
    """Another program may have the port by now: what it says is no answer."""
    try:
        writer.write(json.dumps(hello).encode() + b"\n")
        async with asyncio.timeout(TALK_SECONDS):
            answer = json.loads(await reader.readline())
    except (OSError, ValueError, TimeoutError) as error:
        raise WardenGone(str(error)) from error
    if not isinstance(answer, dict) or not ("wait" in answer or "key" in answer):
        raise WardenGone("It is not our warden.")
    return answer


@dataclass(eq=False, slots=True)
class ParkedContext(OpenContext):
    """A parked browser's own context, while a flow visits it."""

    # The next flow may wait for what the page loads, such as the answer to a payment.
    stops_loading: ClassVar[bool] = False

    driver: Driver
    browser: Browser
    visit: Visit

    @property
    def alive(self) -> bool:
        return self.browser.is_connected() and self.driver.alive and not self.visit.is_over


async def fill(context: BrowserContext, visit: Visit, parking: Parking) -> None:
    """Puts the saved session into a new browser."""
    state = parking.session.storage_state
    if visit.admission.fills:
        if state:
            await context.set_storage_state(StorageState(**state))  # type: ignore[typeddict-item]
        visit.say_filled()


async def find_page(context: BrowserContext, target: str) -> Page:
    """The page of a DevTools target. Raises Playwright's error when it is not there."""
    for page in context.pages:
        session = await context.new_cdp_session(page)
        info = await session.send("Target.getTargetInfo")
        if info["targetInfo"]["targetId"] == target:
            # As in Playwright's own contexts: a whole Chrome gives the focus to one tab only.
            await session.send("Emulation.setFocusEmulationEnabled", {"enabled": True})
            return page
        await session.detach()
    raise PlaywrightError("The session's page is gone.")

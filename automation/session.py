"""What a flow gets: the page, a way to speak to the thread that waits for it, and navigation.

A `BrowserSession` lives on the browser host's loop; `Caller` is the one thing that both threads
touch. Opening, keeping and closing sessions is the work of `host.py`.
"""

import asyncio
import queue
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, ParamSpec, Protocol, TypeVar, cast
from urllib.parse import urlsplit

from playwright.async_api import BrowserContext, Page, Response
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import TimeoutError as PlaywrightTimeout

from automation.errors import AddressRefused, Evidence, SiteError, SiteTimeout
from automation.evidence import Mask, Recorder, gather
from automation.guard import GuardLog, NetworkPolicy, Refusal

P = ParamSpec("P")
R = TypeVar("R")

# threading.Event has no way to call us, so the waiting thread looks at it this often.
STOP_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """Who browses, and where.

    `key` names the one user of a session (an account); two runs with one key at a time are a
    programming error. `storage_state` is the saved log-in as Playwright writes it, and `version`
    names that state: a context kept from an earlier run is used only if it equals this version.
    `secrets` are masked in all evidence. `images` fetches images and web fonts, for flows that
    must see or press a picture without a size.
    """

    key: str
    network: NetworkPolicy
    storage_state: dict[str, Any] | None = field(default=None, repr=False)
    version: str | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    images: bool = False


class Stop(Protocol):
    """What a threading.Event is: something that can be set from another thread."""

    def is_set(self) -> bool: ...


@dataclass(eq=False, slots=True)
class OpenContext(ABC):
    """A browser context with its page, what its guard refused, and its log."""

    # A failure's picture may end what the page was loading: nobody goes on with it.
    stops_loading: ClassVar[bool] = True

    key: str
    context: BrowserContext
    page: Page
    guard: GuardLog
    recorder: Recorder
    is_new: bool

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether the browser can still be used by us."""


class Caller:
    """The thread that called `BrowserHost.run`: it waits in `serve` and runs what a flow sends."""

    def __init__(self, on_phase: Callable[[str], None] | None) -> None:
        self._on_phase = on_phase
        self._errands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._answers: set[asyncio.Future[Any]] = set()
        self._gone: Exception | None = None

    def serve(self, stop: Stop | None, on_stop: Callable[[], None]) -> None:
        """Runs errands until `finish`. Calls `on_stop` once, as soon as `stop` is set."""
        while True:
            if stop is not None and stop.is_set():
                stop = None
                on_stop()
            try:
                errand = self._errands.get(timeout=None if stop is None else STOP_POLL_SECONDS)
            except queue.Empty:
                continue
            if errand is None:
                return
            errand()

    def finish(self) -> None:
        self._errands.put(None)

    def report(self, phase: str) -> None:
        on_phase = self._on_phase
        if on_phase is not None and self._gone is None:
            self._errands.put(lambda: on_phase(phase))

    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._gone is not None:
            raise self._gone
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()

        def settle(result: R | None, error: Exception | None) -> None:
            if answer.done():
                return  # stopped meanwhile
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(cast("R", result))

        def errand() -> None:
            if answer.done():
                return  # stopped before it began: nothing is written for a flow that has ended
            try:
                result = function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - it is the flow's to handle
                loop.call_soon_threadsafe(settle, None, error)
            else:
                loop.call_soon_threadsafe(settle, result, None)

        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)
        self._errands.put(errand)
        return await answer

    def hang_up(self, reason: Exception) -> None:
        """From now on, and for calls already waiting, the flow gets `reason` instead."""
        if self._gone is None:
            self._gone = reason
        for answer in tuple(self._answers):
            if not answer.done():
                answer.set_exception(self._gone)


class BrowserSession:
    """One flow's browser: a page with the saved log-in, behind the URL guard. The page is blank, or
    where the last flow of its key has just left it.

    `is_new` is whether no flow has been here before, so that this one begins from what the site
    says: always, but in a kept context or a parked browser. `trail` is the phases so far. `version`
    may be set by a flow that has saved a newer `storage_state`, to the name of what it saved; the
    context is then kept under that name.
    """

    def __init__(self, opened: OpenContext, spec: SessionSpec, caller: Caller) -> None:
        self.page = opened.page
        self.context = opened.context
        self.is_new = opened.is_new
        self.version = spec.version
        self.trail: list[str] = []
        self._recorder = opened.recorder
        self._guard = opened.guard
        self._stops_loading = opened.stops_loading
        self.mask = Mask(spec.secrets)
        self._caller = caller

    def phase(self, name: str) -> None:
        """Says what the flow does now, in words for people; it does not wait for anybody."""
        self.trail.append(name)
        self._caller.report(name)

    def hide(self, selectors: Iterable[str]) -> None:
        """Keeps out of the evidence from now on what these lead to, whatever it is: a code that
        nobody knew before cannot be among the secrets."""
        self.mask.hidden |= set(selectors)

    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the function in the thread that called `BrowserHost.run`, and gives its result.

        That thread has the ORM and its transactions. Raises what the function raises, and
        StepStopped or SiteTimeout once the run is over.
        """
        return await self._caller.call(function, *args, **kwargs)

    async def storage_state(self) -> dict[str, Any]:
        """Cookies and local storage as they are now. Whoever has them is logged in: encrypt."""
        return cast("dict[str, Any]", await self.context.storage_state())

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Every host that the guard has refused to this session, sub-resources included."""
        return tuple(self._guard.refusals)

    async def goto(
        self,
        url: str,
        *,
        wait_until: Literal["commit", "domcontentloaded", "load"] = "domcontentloaded",
    ) -> Response | None:
        """Opens the URL and tells the site's answer, whatever its status.

        Raises AddressRefused, SiteTimeout, or SiteError where there was no answer.
        """
        if urlsplit(url).scheme not in ("http", "https"):
            raise AddressRefused("Only http and https addresses are opened. Correct the URL.")
        place = self.mask(_short(url))
        try:
            return await self.page.goto(url, wait_until=wait_until)
        except PlaywrightTimeout as error:
            raise SiteTimeout(f"{place} did not answer in time. Try again later.") from error
        except PlaywrightError as error:
            self.check_address()
            host = self._recorder.failed_navigation
            failure = self._guard.find_failure(host) if host else None
            why = f"{failure.host} {failure.reason}" if failure else _first_line(error)
            raise SiteError(f"{place} could not be opened: {self.mask(why)}.") from error

    async def gather_evidence(self) -> Evidence:
        """The page as it is now, for a flow that reports something without failing. Never raises;
        ends navigations, but for a parked page's."""
        return await gather(
            self.page,
            self._recorder,
            self.mask,
            phase=self.trail[-1] if self.trail else "",
            refusals=self._guard.refusals,
            stops_loading=self._stops_loading,
        )

    def check_address(self) -> None:
        """Raises AddressRefused if the page's last navigation, however it began, was refused."""
        host = self._recorder.failed_navigation
        refusal = self._guard.find_refusal(host) if host else None
        if refusal is not None:
            raise AddressRefused(
                f"The browser was sent to {refusal.host}, which {refusal.reason}. "
                "If that is right, say so in the vendor's data: allowed_domains for a host name, "
                "allow_private_network for a shop on the own network."
            )


def _short(url: str) -> str:
    """The URL without what may be secret in it: user, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]

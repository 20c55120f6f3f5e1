"""The browser host of a worker process: one thread with one event loop, on which every flow runs.

It launches Chromium when the first flow comes, gives each flow its own context behind its own URL
guard, keeps contexts for the next flow of the same key, and ends what is over its time. What a
flow does with its page is not known here; Django is not either.
"""

import asyncio
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, cast

import structlog
from playwright.async_api import BrowserContext, Page, StorageState
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import TimeoutError as PlaywrightTimeout

from automation import parking as parked
from automation.chromium import Chromium, Driver, find_chromium, remove_leftovers
from automation.errors import (
    AddressRefused,
    AutomationError,
    BrowserDied,
    OutcomeOpen,
    SiteError,
    SiteTimeout,
    SiteTrouble,
    StepStopped,
)
from automation.evidence import Mask, Recorder, gather
from automation.guard import Connect, Guard, Resolve
from automation.parking import ParkedInfo, Parking
from automation.parking_visit import (
    WITHOUT_SERVICE_WORKERS,
    Admission,
    ParkedContext,
    Visit,
    WardenGone,
    fill,
    find_page,
)
from automation.session import BrowserSession, Caller, OpenContext, SessionSpec, Stop
from automation.waiting import look_away, settle_within

log = structlog.get_logger(__name__)

T = TypeVar("T")
Flow = Callable[[BrowserSession], Awaitable[T]]

# A context takes 50 ms to open, ten times that on a busy machine. A browser that needs longer
# than this hangs.
OPEN_SECONDS = 15
# A busy account's next flow comes at once: a blank page in between costs it a renderer's start.
REST_AFTER_SECONDS = 3
# A cancelled step has to end within five seconds. One goes by until this worker knows of it, so at
# worst, with a browser that hangs: 1 + STOP_POLL_SECONDS + this + twice UNWIND_SECONDS. A context
# takes 50 ms to close, whatever its page does; one that needs longer than this has no browser left.
CLOSE_SECONDS = 2
# What a flow gets for its own `finally` once its context is closed.
UNWIND_SECONDS = 0.5
SHUT_DOWN_SECONDS = 15
# What a warden that was killed has left holds a session's cookies.
CLEAN_AGAIN_SECONDS = 300
BLANK = "about:blank"


@dataclass(eq=False)
class _Run(Generic[T]):
    """One call of `BrowserHost.run` or `run_parked`. All but `caller` belongs to the loop's
    thread."""

    flow: Flow[T]
    spec: SessionSpec
    timeout: timedelta
    caller: Caller
    parking: Parking | None = None
    is_tab: bool = False
    task: asyncio.Task[T] | None = None
    session: BrowserSession | None = None
    reason: AutomationError | None = None
    halted: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """What no other run may have at the same time."""
        if self.parking is None:
            return self.spec.key
        return f"tab {id(self)}" if self.is_tab else f"parked {self.spec.key}"

    @property
    def phase(self) -> str:
        return self.session.trail[-1] if self.session and self.session.trail else "starting"

    async def play(self, session: BrowserSession) -> T:
        return await self.flow(session)

    def halt(self, reason: AutomationError) -> None:
        """Ends the run early. The first reason counts, but for a stop: it has no time to lose."""
        if self.reason is None or isinstance(reason, StepStopped):
            self.reason = reason
            self.caller.hang_up(reason)
            self.halted.set()
        if isinstance(reason, StepStopped):
            self.stopped.set()

    def halt_for_time(self) -> None:
        seconds = self.timeout.total_seconds()
        self.halt(
            SiteTimeout(
                f"The time limit of {seconds:g} seconds was reached (at: {self.phase}). "
                "Try again when the site is faster, or raise the limit."
            )
        )

    async def wait_for(self, task: asyncio.Future[Any], end: asyncio.Event) -> None:
        """Returns when the task is done or `end` is set: `halted` or `stopped`."""
        ended = asyncio.ensure_future(end.wait())
        await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()


@dataclass(eq=False, slots=True)
class OwnContext(OpenContext):
    """A context of a browser of this process, behind a guard of its own."""

    chromium: Chromium
    own_guard: Guard

    @property
    def alive(self) -> bool:
        return self.chromium.alive


@dataclass(frozen=True, slots=True)
class _Kept:
    opened: OwnContext
    version: str
    expiry: asyncio.TimerHandle


class BrowserHost:
    """Runs flows in browsers for any number of threads. One for each worker process.

    Nothing starts before the first `run`, so it may be made before a fork. A browser is replaced
    once it is `browser_lifetime` old or has run `flows_per_browser`; the old one ends with its
    last flow. `keep_at_most` contexts wait, `keep_for` long, for the next flow of their key.
    `resolve` and `connect` replace the guard's way to the network, in tests.

    Parked sessions are shared by all workers with the same `parking_folder`, of one user on one
    machine. A parked browser too is replaced when it is old, by one with the same cookies.
    """

    def __init__(
        self,
        *,
        executable_path: Path | None = None,
        action_timeout: timedelta = timedelta(seconds=15),
        navigation_timeout: timedelta = timedelta(seconds=20),
        keep_at_most: int = 8,
        keep_for: timedelta = timedelta(minutes=5),
        browser_lifetime: timedelta = timedelta(minutes=30),
        flows_per_browser: int = 1000,
        resolve: Resolve | None = None,
        connect: Connect | None = None,
        parking_folder: Path | None = None,
        parked_lifetime: timedelta = timedelta(hours=12),
        flows_per_parked: int = 500,
    ) -> None:
        self._parking_folder = parking_folder
        self._parked_lifetime = parked_lifetime
        self._flows_per_parked = flows_per_parked
        self._executable_path = executable_path
        self._action_timeout = action_timeout
        self._navigation_timeout = navigation_timeout
        self._keep_at_most = keep_at_most
        self._keep_for = keep_for
        self._browser_lifetime = browser_lifetime
        self._flows_per_browser = flows_per_browser
        self._resolve = resolve
        self._connect = connect
        # Shared by all threads, under the lock.
        self._lock = threading.Lock()
        self._running: dict[str, _Run[Any]] = {}
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        # Of the loop's thread alone. Browsers by whether they fetch images.
        self._launching = asyncio.Lock()
        self._browsers: dict[bool, Chromium] = {}
        self._driver: Driver | None = None
        self._cleaned_at = float("-inf")
        self._kept: dict[str, _Kept] = {}
        self._background: set[asyncio.Task[None]] = set()

    def run(
        self,
        flow: Flow[T],
        spec: SessionSpec,
        *,
        timeout: timedelta,
        stop: Stop | None = None,
        on_phase: Callable[[str], None] | None = None,
    ) -> T:
        """Runs the flow in a browser of its own and gives its result; waits meanwhile.

        What the flow sends with `session.call`, and `on_phase`, run in this thread. When the time
        is over (SiteTimeout) or `stop` is set (StepStopped) the context is closed, so that the
        flow's pending browser call fails; after a stop the error is raised within four seconds,
        even if the browser hangs and has to be killed. Whatever the flow raises arrives here, with
        its `evidence`; Playwright's own errors become AutomationErrors.
        """
        return self._wait_for(_Run(flow, spec, timeout, Caller(on_phase)), stop)

    def _wait_for(self, run: _Run[T], stop: Stop | None) -> T:
        with self._lock:
            if self._closed:
                raise StepStopped("This worker is shutting down.")
            if run.name in self._running:
                raise RuntimeError(
                    f"The session {run.spec.key!r} is in use. Its flows must run one after "
                    "another: claim the account before the browser."
                )
            self._running[run.name] = run
            loop = self._start_loop()
        future = asyncio.run_coroutine_threadsafe(self._carry_out(run), loop)
        future.add_done_callback(lambda _: run.caller.finish())
        try:
            run.caller.serve(
                stop,
                lambda: _soon(loop, run.halt, StepStopped("The step was stopped.")),
            )
        except BaseException:
            _soon(loop, run.halt, StepStopped("The thread that waited for the flow gave up."))
            wait_for_futures([future], timeout=SHUT_DOWN_SECONDS)
            raise
        return future.result()

    def run_parked(
        self,
        flow: Flow[T],
        parking: Parking,
        *,
        timeout: timedelta,
        stop: Stop | None = None,
        on_phase: Callable[[str], None] | None = None,
        tab: bool = False,
    ) -> T:
        """The same in the parked browser of the session's key, started where there is none.

        The flow gets the browser's page as the last flow has left it, and leaves it so for the next
        one, in whichever worker of this machine, also when it fails or is stopped. `session.is_new`
        tells that there was no such page. With `tab` it gets a page of its own in the same browser,
        closed at its end; several such flows may run at once.

        Where another worker is with the page still, it is waited for a little; then SessionBusy.
        """
        run = _Run(flow, parking.session, timeout, Caller(on_phase), parking, tab)
        return self._wait_for(run, stop)

    def end_parked(self, key: str) -> None:
        """Ends the parked browser of this key and removes its profile. Harmless without one."""
        parked.end_parked(self._parked_in(), key)

    def find_parked(self, key: str) -> ParkedInfo | None:
        """The parked browser of this key on this machine, if it lives."""
        return parked.find_parked(self._parked_in(), key)

    def close(self) -> None:
        """Stops what runs, ends every browser and the thread. Safe to repeat."""
        with self._lock:
            self._closed = True
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._shut_down(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_exception_handler(_note_stray_error)
            self._thread = threading.Thread(
                target=self._loop.run_forever,
                name="browser-host",
                daemon=True,  # a worker that ends without close() must not hang on this thread
            )
            self._thread.start()
        return self._loop

    # From here on, everything runs on the loop.

    async def _carry_out(self, run: _Run[T]) -> T:
        run.task = cast("asyncio.Task[T]", asyncio.current_task())
        seconds = run.timeout.total_seconds()
        timer = asyncio.get_running_loop().call_later(seconds, run.halt_for_time)
        try:
            return await self._attend(run)
        finally:
            timer.cancel()
            run.caller.hang_up(StepStopped("The flow has ended."))
            with self._lock:
                del self._running[run.name]

    async def _attend(self, run: _Run[T]) -> T:
        opening: asyncio.Future[OwnContext | ParkedContext] = asyncio.ensure_future(
            self._visit(run) if run.parking else self._open(run.spec)
        )
        await run.wait_for(opening, run.halted)
        if not opening.done():
            self._in_background(self._discard(opening))
            assert run.reason is not None
            raise run.reason
        opened = opening.result()
        run.session = BrowserSession(opened, run.spec, run.caller)
        flow = asyncio.ensure_future(run.play(run.session))
        await run.wait_for(flow, run.halted)
        failure = _failure(flow) if flow.done() else run.reason
        error = await self._find_error(failure, run, opened, run.session) if failure else None
        # Asked again: a flow that reached its limit may end well while its evidence is taken, and
        # what it did on the site is worth more than the limit that it missed.
        if error is None or (flow.done() and _failure(flow) is None):
            if isinstance(opened, OwnContext):
                await self._keep(opened, run.session.version)
            else:
                await self._leave(opened)
            return flow.result()
        await self._let_be(opened)
        await self._unwind(flow)
        raise error

    async def _unwind(self, flow: asyncio.Future[Any]) -> None:
        """Waits for a flow whose context is closed, so that its next browser call fails."""
        await asyncio.wait({flow}, timeout=UNWIND_SECONDS)
        if not flow.done():
            # It waits for something else. No Playwright call is open: it may be cancelled.
            flow.cancel()
            await asyncio.wait({flow}, timeout=UNWIND_SECONDS)
        flow.add_done_callback(look_away)

    async def _find_error(
        self, failure: BaseException, run: _Run[T], opened: OpenContext, session: BrowserSession
    ) -> BaseException:
        """The error to raise for a flow's failure. Evidence takes seconds that a stop does not
        have."""
        diagnosis = asyncio.ensure_future(self._diagnose(failure, run, opened, session))
        await run.wait_for(diagnosis, run.stopped)
        if diagnosis.done():
            return diagnosis.result()
        self._in_background(_see_out(diagnosis))
        assert run.reason is not None
        return run.reason

    async def _diagnose(
        self, failure: BaseException, run: _Run[T], opened: OpenContext, session: BrowserSession
    ) -> BaseException:
        """The error to raise for a flow's failure: typed, with evidence, and with no secret."""
        mask = session.mask
        error = await self._explain(failure, opened, session, mask)
        mask.scrub(error)
        if not isinstance(error, StepStopped):
            # On a bug's exception too: that is when a picture is needed most.
            error.evidence = await gather(  # type: ignore[attr-defined]
                opened.page,
                opened.recorder,
                mask,
                phase=run.phase,
                refusals=session.refusals,
                stops_loading=opened.stops_loading,
            )
        return error

    async def _explain(
        self, failure: BaseException, opened: OpenContext, session: BrowserSession, mask: Mask
    ) -> BaseException:
        """The typed error for what a flow raised: the cause, where it saw only a consequence."""
        if not isinstance(failure, PlaywrightError | SiteTrouble) or isinstance(
            failure, OutcomeOpen
        ):
            return failure  # an open outcome stays one, whatever its cause
        await _notice_death(opened, failure)
        explained: AutomationError
        what = mask(str(failure).partition("\n")[0])
        if not opened.alive:
            explained = BrowserDied("The browser ended while the flow ran. Try again.")
        elif opened.recorder.crashed:
            explained = BrowserDied("The page's process died while the flow ran. Try again.")
        elif refused := _find_refusal(session):
            explained = refused
        elif isinstance(failure, PlaywrightTimeout):
            explained = SiteTimeout(f"The page did not do what was waited for: {what}")
        elif isinstance(failure, PlaywrightError):
            explained = SiteError(f"The browser could not go on: {what}")
        else:
            return failure
        explained.__cause__ = failure
        return explained

    async def _open(self, spec: SessionSpec) -> OwnContext:
        kept = self._kept.pop(spec.key, None)
        if kept is not None:
            kept.expiry.cancel()
            if self._fits(kept, spec):
                kept.opened.own_guard.forget()
                kept.opened.recorder.forget()
                kept.opened.chromium.flows += 1
                kept.opened.is_new = False
                return kept.opened
            self._in_background(self._close(kept.opened))
        guard = await Guard.open(spec.network, resolve=self._resolve, connect=self._connect)
        try:
            chromium = await self._hold_browser(images=spec.images)
            context, page = await self._open_page(chromium, guard, spec)
        except BaseException:
            guard.close()
            raise
        recorder = Recorder(context, page)
        return OwnContext(
            key=spec.key,
            context=context,
            page=page,
            guard=guard,
            recorder=recorder,
            is_new=True,
            chromium=chromium,
            own_guard=guard,
        )

    async def _open_page(
        self, chromium: Chromium, guard: Guard, spec: SessionSpec
    ) -> tuple[BrowserContext, Page]:
        try:
            return await settle_within(OPEN_SECONDS, self._new_context(chromium, guard, spec))
        except (PlaywrightError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                self._kill(chromium)
            self._let_go(chromium)
            if chromium.alive:
                raise  # the browser is well: it is what we asked for, such as a broken state
            raise BrowserDied("The browser did not open a page. Try again.") from error

    async def _new_context(
        self, chromium: Chromium, guard: Guard, spec: SessionSpec
    ) -> tuple[BrowserContext, Page]:
        context = await chromium.browser.new_context(
            # Without the bypass list Chromium connects to loopback addresses by itself.
            proxy={"server": guard.proxy_url, "bypass": "<-loopback>"},
            storage_state=cast("StorageState | None", spec.storage_state),
            service_workers="block",
            accept_downloads=False,
        )
        self._limit(context)
        try:
            return context, await context.new_page()
        except PlaywrightError:
            await context.close()
            raise

    def _limit(self, context: BrowserContext) -> None:
        context.set_default_timeout(self._action_timeout / timedelta(milliseconds=1))
        context.set_default_navigation_timeout(self._navigation_timeout / timedelta(milliseconds=1))

    async def _hold_browser(self, *, images: bool) -> Chromium:
        """The browser for the next context; the caller must `_let_go` of it."""
        async with self._launching:
            chromium = self._browsers.get(images)
            if chromium is None or not chromium.alive or self._is_due(chromium):
                if chromium is not None:
                    self._retire(chromium)
                else:
                    self._in_background(_remove_leftovers(None))
                chromium = await Chromium.launch(
                    self._executable_path or find_chromium(), images=images
                )
                self._browsers[images] = chromium
            chromium.contexts += 1
            chromium.flows += 1
            return chromium

    def _let_go(self, chromium: Chromium) -> None:
        chromium.contexts -= 1
        if chromium.retired and not chromium.contexts:
            self._in_background(chromium.close())

    def _is_due(self, chromium: Chromium) -> bool:
        age = time.monotonic() - chromium.launched_at
        return (
            age >= self._browser_lifetime.total_seconds()
            or chromium.flows >= self._flows_per_browser
        )

    def _retire(self, chromium: Chromium) -> None:
        """No new flows for this browser; it ends with its last one."""
        del self._browsers[chromium.images]
        chromium.retired = True
        for key, kept in tuple(self._kept.items()):
            if kept.opened.chromium is chromium:
                self._evict(key)
        if not chromium.contexts:
            self._in_background(chromium.close())

    def _kill(self, chromium: Chromium) -> None:
        chromium.kill()
        if not chromium.retired:
            self._retire(chromium)

    def _fits(self, kept: _Kept, spec: SessionSpec) -> bool:
        chromium = kept.opened.chromium
        return (
            kept.version == spec.version
            and kept.opened.own_guard.policy == spec.network
            and chromium.images == spec.images
            and chromium.alive
            and not kept.opened.page.is_closed()
            and not self._is_due(chromium)
        )

    async def _keep(self, opened: OwnContext, version: str | None) -> None:
        if version is None or self._keep_at_most < 1 or opened.chromium.retired or self._closed:
            await self._close(opened)
            return
        if len(self._kept) >= self._keep_at_most:
            self._evict(next(iter(self._kept)))
        loop = asyncio.get_running_loop()
        expiry = loop.call_later(self._keep_for.total_seconds(), self._evict, opened.key)
        kept = self._kept[opened.key] = _Kept(opened, version, expiry)
        loop.call_later(REST_AFTER_SECONDS, lambda: self._in_background(self._rest(kept)))

    async def _rest(self, kept: _Kept) -> None:
        """Ends the page's timers and requests: a context that waits for long must cost nothing."""
        key = kept.opened.key
        if self._kept.get(key) is not kept:
            return
        try:
            await settle_within(CLOSE_SECONDS, kept.opened.page.goto(BLANK))
        except (PlaywrightError, TimeoutError):
            if self._kept.get(key) is kept:  # else a flow has it, and went elsewhere meanwhile
                self._evict(key)

    def _evict(self, key: str) -> None:
        kept = self._kept.pop(key)
        kept.expiry.cancel()
        self._in_background(self._close(kept.opened))

    async def _close(self, opened: OwnContext) -> None:
        try:
            await settle_within(CLOSE_SECONDS, opened.context.close())
        except PlaywrightError:
            pass  # it went with its browser
        except TimeoutError:
            self._kill(opened.chromium)
        opened.own_guard.close()
        self._let_go(opened.chromium)

    async def _discard(self, opening: asyncio.Future[OwnContext | ParkedContext]) -> None:
        """Closes a context whose run was halted before it was open."""
        try:
            opened = await opening
        except (AutomationError, PlaywrightError):
            return
        await self._let_be(opened)

    async def _let_be(self, opened: OwnContext | ParkedContext) -> None:
        """From now on the flow can do nothing with it."""
        if isinstance(opened, OwnContext):
            await self._close(opened)
        else:
            await self._leave(opened)

    # Parked sessions: their browsers are not ours, only the way to them is.

    async def _visit(self, run: _Run[T]) -> ParkedContext:
        assert run.parking is not None
        opened = await self._enter(run, run.parking)
        if not self._is_worn_out(opened.visit.admission):
            return opened
        try:
            state = cast("dict[str, Any]", await opened.context.storage_state())
        except PlaywrightError:
            state = run.parking.session.storage_state or {}
        await self._leave(opened)
        await asyncio.to_thread(
            parked.end_parked, self._parked_in(), opened.key, only=opened.visit.warden
        )
        session = replace(run.parking.session, storage_state=state or None)
        return await self._enter(run, Parking(session, run.parking.keep_for))

    def _is_worn_out(self, admission: Admission) -> bool:
        is_old = admission.age >= self._parked_lifetime.total_seconds()
        # A tab's flow is one of several: the page that stays may be in the middle of something.
        return (is_old or admission.visits > self._flows_per_parked) and admission.is_alone

    async def _enter(self, run: _Run[T], parking: Parking) -> ParkedContext:
        """A browser that is of no use is replaced once."""
        driver = await self._hold_driver()
        try:
            return await self._try_to_enter(run, parking, driver)
        except (WardenGone, PlaywrightError, TimeoutError) as error:
            log.warning("parked_browser_given_up", error=_first_line(error))
        if run.reason is not None:
            raise run.reason
        try:
            return await self._try_to_enter(run, parking, await self._hold_driver())
        except (WardenGone, PlaywrightError, TimeoutError) as error:
            raise BrowserDied("The browser did not open a page. Try again.") from error

    async def _try_to_enter(self, run: _Run[T], parking: Parking, driver: Driver) -> ParkedContext:
        """Raises WardenGone, PlaywrightError or TimeoutError for a browser that is of no use, and
        ends it, unless it was our driver that failed."""
        folder, executable = self._parked_in(), self._executable_path or find_chromium()
        warden = await asyncio.to_thread(
            parked.start_warden, folder, parking, executable, run.halted.is_set
        )
        visit: Visit | None = None
        try:
            visit = await Visit.open(warden, parking, tab=run.is_tab)
            return await settle_within(OPEN_SECONDS, self._attach(visit, parking, driver))
        except BaseException as error:
            if visit is not None:
                visit.close()
            if isinstance(error, WardenGone | PlaywrightError | TimeoutError) and driver.alive:
                await asyncio.to_thread(parked.end_parked, folder, warden.key, only=warden)
            raise

    def _parked_in(self) -> Path:
        if self._parking_folder is None:
            raise RuntimeError("Parked sessions need a folder: BrowserHost(parking_folder=...).")
        return self._parking_folder

    async def _attach(self, visit: Visit, parking: Parking, driver: Driver) -> ParkedContext:
        browser = await driver.playwright.chromium.connect_over_cdp(
            visit.url,
            headers=visit.headers,
            artifacts_dir=tempfile.gettempdir(),
            no_defaults=True,  # they would allow downloads, which the warden refuses
        )
        context = browser.contexts[0]
        self._limit(context)
        await context.add_init_script(WITHOUT_SERVICE_WORKERS)
        await fill(context, visit, parking)
        page = await find_page(context, visit.admission.target)
        return ParkedContext(
            key=parking.session.key,
            context=context,
            page=page,
            guard=visit.guard,
            recorder=Recorder(context, page, is_shared=True),
            is_new=visit.admission.fills or visit.admission.is_new_page or page.url == BLANK,
            driver=driver,
            browser=browser,
            visit=visit,
        )

    async def _leave(self, opened: ParkedContext) -> None:
        try:
            await settle_within(CLOSE_SECONDS, opened.browser.close())
        except PlaywrightError:
            pass  # the browser has gone
        except TimeoutError:
            opened.driver.kill()  # with it go the other visits of this process, which are retried
        opened.visit.close()

    async def _hold_driver(self) -> Driver:
        """The driver of all visits to parked browsers."""
        async with self._launching:
            if self._driver is None or not self._driver.alive:
                if self._driver is not None:
                    self._in_background(self._driver.end())
                self._driver = await Driver.start()
            if time.monotonic() - self._cleaned_at > CLEAN_AGAIN_SECONDS:
                self._cleaned_at = time.monotonic()
                self._in_background(_remove_leftovers(self._parking_folder))
            return self._driver

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _shut_down(self) -> None:
        with self._lock:
            runs = tuple(self._running.values())
        for run in runs:
            run.halt(StepStopped("This worker is shutting down."))
        tasks = {run.task for run in runs if run.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=SHUT_DOWN_SECONDS)
        for chromium in tuple(self._browsers.values()):
            self._retire(chromium)
        if self._driver is not None:
            self._in_background(self._driver.end())
        while self._background:
            await asyncio.wait(self._background)


def _note_stray_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs what no flow waited for: above all, Playwright's own words on a driver that died."""
    error = context.get("exception")
    log.warning("stray_error", message=context["message"], error=repr(error) if error else None)


def _soon(loop: asyncio.AbstractEventLoop, act: Callable[..., None], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(act, *args)
    except RuntimeError:
        log.debug("browser_host_is_closed")


def _failure(flow: asyncio.Future[Any]) -> BaseException | None:
    if flow.cancelled():
        return RuntimeError("The flow cancelled itself.")
    return flow.exception()


async def _see_out(task: asyncio.Future[Any]) -> None:
    """For what makes Playwright calls and must not be cancelled: the context closes under it."""
    await asyncio.wait({task})
    look_away(task)


async def _notice_death(opened: OpenContext, failure: BaseException) -> None:
    """Waits a little where a browser may have died: its calls fail a moment before it is known."""
    cause = failure if isinstance(failure, PlaywrightError) else failure.__cause__
    if isinstance(cause, PlaywrightError) and not isinstance(cause, PlaywrightTimeout):
        for _ in range(5):
            if opened.alive:
                await asyncio.sleep(0.1)


def _find_refusal(session: BrowserSession) -> AddressRefused | None:
    try:
        session.check_address()
    except AddressRefused as refused:
        return refused
    return None


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


async def _remove_leftovers(parking_folder: Path | None) -> None:
    """Of the parked sessions in this folder, or of this host's own browsers."""
    removed = await asyncio.to_thread(
        remove_leftovers
        if parking_folder is None
        else partial(parked.remove_leftovers, parking_folder)
    )
    if removed:
        log.info("leftovers_removed", folders=len(removed))

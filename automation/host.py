"""The browser host of a worker process: one thread with one event loop, on which every flow runs.

It launches Chromium when the first flow comes, gives each flow its own context behind its own URL
guard, keeps contexts for the next flow of the same key, and ends what is over its time. What a
flow does with its page is not known here; Django is not either.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, cast

import structlog
from playwright.async_api import BrowserContext, Page, StorageState
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import TimeoutError as PlaywrightTimeout

from automation.chromium import Chromium, find_chromium, remove_leftovers
from automation.errors import (
    AddressRefused,
    AutomationError,
    BrowserDied,
    SiteError,
    SiteTimeout,
    SiteTrouble,
    StepStopped,
)
from automation.evidence import Mask, Recorder, gather
from automation.guard import Connect, Guard, Resolve
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


@dataclass(eq=False)
class _Run(Generic[T]):
    """One call of `BrowserHost.run`. All but `caller` belongs to the loop's thread."""

    flow: Flow[T]
    spec: SessionSpec
    timeout: timedelta
    caller: Caller
    task: asyncio.Task[T] | None = None
    session: BrowserSession | None = None
    reason: AutomationError | None = None
    halted: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

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


@dataclass(frozen=True, slots=True)
class _Kept:
    opened: OpenContext
    version: str
    expiry: asyncio.TimerHandle


class BrowserHost:
    """Runs flows in browsers for any number of threads. One for each worker process.

    Nothing starts before the first `run`, so it may be made before a fork. A browser is replaced
    once it is `browser_lifetime` old or has run `flows_per_browser`; the old one ends with its
    last flow. `keep_at_most` contexts wait, `keep_for` long, for the next flow of their key.
    `resolve` and `connect` replace the guard's way to the network, in tests.
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
    ) -> None:
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
        run = _Run(flow, spec, timeout, Caller(on_phase))
        with self._lock:
            if self._closed:
                raise StepStopped("This worker is shutting down.")
            if spec.key in self._running:
                raise RuntimeError(
                    f"The session {spec.key!r} is in use. Its flows must run one after another: "
                    "claim the account before the browser."
                )
            self._running[spec.key] = run
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
                del self._running[run.spec.key]

    async def _attend(self, run: _Run[T]) -> T:
        opening = asyncio.ensure_future(self._open(run.spec))
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
            await self._keep(opened, run.session.version)
            return flow.result()
        await self._close(opened)
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
        mask = Mask(run.spec.secrets)
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
            )
        return error

    async def _explain(
        self, failure: BaseException, opened: OpenContext, session: BrowserSession, mask: Mask
    ) -> BaseException:
        """The typed error for what a flow raised: the cause, where it saw only a consequence."""
        if not isinstance(failure, PlaywrightError | SiteTrouble):
            return failure
        await _notice_death(opened.chromium, failure)
        explained: AutomationError
        what = mask(str(failure).partition("\n")[0])
        if not opened.chromium.alive:
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

    async def _open(self, spec: SessionSpec) -> OpenContext:
        kept = self._kept.pop(spec.key, None)
        if kept is not None:
            kept.expiry.cancel()
            if self._fits(kept, spec):
                kept.opened.guard.forget()
                kept.opened.recorder.forget()
                kept.opened.chromium.flows += 1
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
        return OpenContext(spec.key, chromium, context, page, guard, recorder)

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
        context.set_default_timeout(self._action_timeout / timedelta(milliseconds=1))
        context.set_default_navigation_timeout(self._navigation_timeout / timedelta(milliseconds=1))
        try:
            return context, await context.new_page()
        except PlaywrightError:
            await context.close()
            raise

    async def _hold_browser(self, *, images: bool) -> Chromium:
        """The browser for the next context; the caller must `_let_go` of it."""
        async with self._launching:
            chromium = self._browsers.get(images)
            if chromium is None or not chromium.alive or self._is_due(chromium):
                if chromium is not None:
                    self._retire(chromium)
                else:
                    self._in_background(_remove_leftovers())
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
            and kept.opened.guard.policy == spec.network
            and chromium.images == spec.images
            and chromium.alive
            and not kept.opened.page.is_closed()
            and not self._is_due(chromium)
        )

    async def _keep(self, opened: OpenContext, version: str | None) -> None:
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
            await settle_within(CLOSE_SECONDS, kept.opened.page.goto("about:blank"))
        except (PlaywrightError, TimeoutError):
            if self._kept.get(key) is kept:  # else a flow has it, and went elsewhere meanwhile
                self._evict(key)

    def _evict(self, key: str) -> None:
        kept = self._kept.pop(key)
        kept.expiry.cancel()
        self._in_background(self._close(kept.opened))

    async def _close(self, opened: OpenContext) -> None:
        try:
            await settle_within(CLOSE_SECONDS, opened.context.close())
        except PlaywrightError:
            pass  # it went with its browser
        except TimeoutError:
            self._kill(opened.chromium)
        opened.guard.close()
        self._let_go(opened.chromium)

    async def _discard(self, opening: asyncio.Future[OpenContext]) -> None:
        """Closes a context whose run was halted before it was open."""
        try:
            opened = await opening
        except (AutomationError, PlaywrightError):
            return
        await self._close(opened)

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


async def _notice_death(chromium: Chromium, failure: BaseException) -> None:
    """Waits a little where a browser may have died: its calls fail a moment before it is known."""
    cause = failure if isinstance(failure, PlaywrightError) else failure.__cause__
    if isinstance(cause, PlaywrightError) and not isinstance(cause, PlaywrightTimeout):
        for _ in range(5):
            if chromium.alive:
                await asyncio.sleep(0.1)


def _find_refusal(session: BrowserSession) -> AddressRefused | None:
    try:
        session.check_address()
    except AddressRefused as refused:
        return refused
    return None


async def _remove_leftovers() -> None:
    removed = await asyncio.to_thread(remove_leftovers)
    if removed:
        log.info("leftovers_removed", folders=len(removed))

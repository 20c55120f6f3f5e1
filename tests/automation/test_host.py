"""The browser host: threads, limits, kept contexts, and what it does when a browser dies."""

import asyncio
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from automation.errors import (
    BrowserDied,
    PageChanged,
    SiteError,
    SiteTimeout,
    StepStopped,
)
from automation.guard import NetworkPolicy
from automation.host import BrowserHost
from automation.session import BrowserSession, SessionSpec
from tests.automation.family import Family
from tests.automation.little_site import LittleSite, Page

pytestmark = pytest.mark.browser

LOCAL = NetworkPolicy(("shop.localhost",), allow_private=True)
LIMIT = timedelta(seconds=30)
COUNTER = """<h1></h1><script>
  const visit = Number(document.cookie.replace("visit=", "") || 0) + 1;
  document.cookie = "visit=" + visit;
  document.querySelector("h1").textContent = visit;
</script>"""


@pytest.fixture
def family() -> Family:
    return Family()


@pytest.fixture
def host(family: Family) -> Iterator[BrowserHost]:
    """A host of the test's own, with two seconds for each action."""
    with BrowserHost(action_timeout=timedelta(seconds=2)) as running:
        yield running


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    """Set at the end at the latest, so that a failing test does not leave a flow running."""
    event = threading.Event()
    yield event
    event.set()


def spec(key: str = "alice", **more: Any) -> SessionSpec:
    return SessionSpec(key, LOCAL, **more)


def counting(site: LittleSite) -> Callable[[BrowserSession], Any]:
    """A flow that counts, by cookie, how often this context has seen the site."""
    site.pages["/"] = Page(COUNTER)

    async def flow(session: BrowserSession) -> int:
        await session.goto(site.url())
        return int(await session.page.inner_text("h1"))

    return flow


def going_to(site: LittleSite) -> Callable[[BrowserSession], Any]:
    async def flow(session: BrowserSession) -> None:
        await session.goto(site.url())
        await wait_for_ever(session)

    return flow


async def wait_for_ever(session: BrowserSession) -> None:
    await session.page.wait_for_selector("#never", timeout=60_000)


# Flows and the thread that waits for them


def test_calls_and_phases_run_in_the_thread_that_called_run(shared_host: BrowserHost) -> None:
    here = threading.current_thread()
    phases: list[tuple[str, threading.Thread]] = []

    async def flow(session: BrowserSession) -> tuple[threading.Thread, threading.Thread]:
        session.phase("first")
        caller = await session.call(threading.current_thread)
        session.phase("second")
        return caller, threading.current_thread()

    caller, own = shared_host.run(
        flow,
        spec(),
        timeout=LIMIT,
        on_phase=lambda name: phases.append((name, threading.current_thread())),
    )

    assert caller is here
    assert own.name == "browser-host"
    assert phases == [("first", here), ("second", here)]


def test_error_of_a_call_reaches_the_flow_which_may_go_on(shared_host: BrowserHost) -> None:
    def refuse(what: str) -> None:
        raise LookupError(what)

    async def flow(session: BrowserSession) -> str:
        try:
            await session.call(refuse, "row")
        except LookupError as error:
            return f"no {error}"
        return "found"

    assert shared_host.run(flow, spec(), timeout=LIMIT) == "no row"


def test_error_in_on_phase_stops_the_flow_and_is_raised(shared_host: BrowserHost) -> None:
    ended = threading.Event()

    def fail(phase: str) -> None:
        raise LookupError(phase)

    async def flow(session: BrowserSession) -> None:
        try:
            session.phase("open")
            await wait_for_ever(session)
        finally:
            ended.set()

    with pytest.raises(LookupError, match="open"):
        shared_host.run(flow, spec(), timeout=LIMIT, on_phase=fail)

    assert ended.is_set()


def test_many_threads_share_one_browser_and_no_cookies(
    family: Family, host: BrowserHost, site: LittleSite
) -> None:
    flow = counting(site)

    def run(number: int) -> int:
        return int(host.run(flow, spec(f"account {number}"), timeout=LIMIT))

    with ThreadPoolExecutor(8) as threads:
        counts = list(threads.map(run, range(16)))

    assert counts == [1] * 16
    assert len(family.profiles()) == 1


def test_second_user_of_a_session_is_a_programming_error(
    shared_host: BrowserHost, site: LittleSite
) -> None:
    async def flow(session: BrowserSession) -> str:
        def again() -> None:
            shared_host.run(counting(site), spec(), timeout=LIMIT)

        with pytest.raises(RuntimeError, match="'alice' is in use"):
            await session.call(again)
        return "done"

    assert shared_host.run(flow, spec(), timeout=LIMIT) == "done"
    assert site.hits == []


# Saved and kept sessions


def test_storage_state_of_one_run_logs_the_next_one_in(
    shared_host: BrowserHost, site: LittleSite
) -> None:
    flow = counting(site)

    async def save(session: BrowserSession) -> dict[str, Any]:
        await flow(session)
        return await session.storage_state()

    state = shared_host.run(save, spec(), timeout=LIMIT)

    assert shared_host.run(flow, spec(storage_state=state), timeout=LIMIT) == 2
    assert shared_host.run(flow, spec(), timeout=LIMIT) == 1


def test_context_is_kept_for_the_same_key_and_version(host: BrowserHost, site: LittleSite) -> None:
    flow = counting(site)
    kept = spec(version="v1")

    assert [host.run(flow, kept, timeout=LIMIT) for _ in range(3)] == [1, 2, 3]
    assert host.run(flow, spec("bob", version="v1"), timeout=LIMIT) == 1


def test_flow_that_saves_a_newer_state_names_the_version_it_is_kept_under(
    host: BrowserHost, site: LittleSite
) -> None:
    count = counting(site)

    async def flow(session: BrowserSession) -> int:
        session.version = "v2"
        return int(await count(session))

    assert host.run(flow, spec(version="v1"), timeout=LIMIT) == 1
    assert host.run(count, spec(version="v2"), timeout=LIMIT) == 2


@pytest.mark.parametrize(
    "other",
    [
        spec(version="v2"),
        spec(version=None),
        spec(version="v1", images=True),
        SessionSpec("alice", NetworkPolicy(("localhost",), allow_private=True), version="v1"),
    ],
    ids=["version", "no version", "images", "policy"],
)
def test_context_is_not_kept_for_another(
    host: BrowserHost, site: LittleSite, other: SessionSpec
) -> None:
    flow = counting(site)
    host.run(flow, spec(version="v1"), timeout=LIMIT)

    assert host.run(flow, other, timeout=LIMIT) == 1


def test_context_is_not_kept_after_an_error(host: BrowserHost, site: LittleSite) -> None:
    flow = counting(site)

    async def fail(session: BrowserSession) -> None:
        await flow(session)
        raise PageChanged("No cart.", key="cart_row", selector=".row")

    with pytest.raises(PageChanged):
        host.run(fail, spec(version="v1"), timeout=LIMIT)

    assert host.run(flow, spec(version="v1"), timeout=LIMIT) == 1


def test_kept_context_is_closed_when_its_time_is_over(site: LittleSite) -> None:
    flow = counting(site)
    with BrowserHost(keep_for=timedelta()) as host:
        host.run(flow, spec(version="v1"), timeout=LIMIT)

        assert host.run(flow, spec(version="v1"), timeout=LIMIT) == 1


def test_oldest_kept_context_makes_room(site: LittleSite) -> None:
    flow = counting(site)
    with BrowserHost(keep_at_most=1) as host:
        host.run(flow, spec("alice", version="v1"), timeout=LIMIT)
        host.run(flow, spec("bob", version="v1"), timeout=LIMIT)

        assert host.run(flow, spec("bob", version="v1"), timeout=LIMIT) == 2
        assert host.run(flow, spec("alice", version="v1"), timeout=LIMIT) == 1


def test_kept_page_does_nothing_while_it_waits_for_long(
    host: BrowserHost, site: LittleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automation.host.REST_AFTER_SECONDS", 0.05)
    site.pages["/"] = Page("<script>setInterval(() => fetch('/poll'), 20)</script>")
    site.pages["/poll"] = Page()

    async def flow(session: BrowserSession) -> str:
        url = session.page.url
        await session.goto(site.url())
        return url

    first = host.run(flow, spec(version="v1"), timeout=LIMIT)
    time.sleep(1)
    polls = len(site.hits)
    time.sleep(0.3)  # a page that still ran would have asked fifteen times

    assert len(site.hits) <= polls + 1
    assert first == host.run(flow, spec(version="v1"), timeout=LIMIT) == "about:blank"


def test_flow_that_follows_at_once_finds_the_page_where_the_last_one_left_it(
    host: BrowserHost, site: LittleSite
) -> None:
    site.pages["/"] = Page("<h1>Cart</h1>")

    async def flow(session: BrowserSession) -> str:
        url = session.page.url
        await session.goto(site.url())
        return url

    host.run(flow, spec(version="v1"), timeout=LIMIT)

    assert host.run(flow, spec(version="v1"), timeout=LIMIT) == site.url()


# Limits


def test_time_limit_closes_the_context_and_tells_the_phase(
    shared_host: BrowserHost, site: LittleSite
) -> None:
    site.pages["/"] = Page("<h1>Slow shop</h1>")
    seen: list[str] = []

    async def flow(session: BrowserSession) -> None:
        await session.goto(site.url())
        session.phase("waiting for the cart")
        try:
            await wait_for_ever(session)
        except Exception as error:
            seen.append(type(error).__name__)
            raise

    began = time.monotonic()
    with pytest.raises(SiteTimeout, match=r"limit of 2 seconds .* waiting for the cart") as limit:
        shared_host.run(flow, spec(), timeout=timedelta(seconds=2))

    assert time.monotonic() - began < 2 + 5
    assert seen == ["TargetClosedError"]
    evidence = limit.value.evidence
    assert evidence is not None
    assert evidence.phase == "waiting for the cart"
    assert "Slow shop" in evidence.dom


def test_stop_ends_a_waiting_flow_in_under_five_seconds(
    host: BrowserHost, stop: threading.Event
) -> None:
    stopped_at = 0.0

    async def flow(session: BrowserSession) -> None:
        nonlocal stopped_at
        stopped_at = time.monotonic()
        stop.set()
        await wait_for_ever(session)

    with pytest.raises(StepStopped):
        host.run(flow, spec(), timeout=LIMIT, stop=stop)

    assert time.monotonic() - stopped_at < 5


def test_stop_reaches_a_flow_that_waits_for_no_browser(
    shared_host: BrowserHost, stop: threading.Event
) -> None:
    ended = threading.Event()

    async def flow(session: BrowserSession) -> None:
        stop.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with pytest.raises(StepStopped):
        shared_host.run(flow, spec(), timeout=LIMIT, stop=stop)

    assert ended.is_set()


def test_nothing_is_written_by_a_flow_that_was_stopped(
    shared_host: BrowserHost, stop: threading.Event
) -> None:
    written: list[str] = []
    outcome: list[type[BaseException]] = []

    async def flow(session: BrowserSession) -> None:
        stop.set()
        try:
            await wait_for_ever(session)
        finally:
            try:
                await session.call(written.append, "done")
            except StepStopped as error:
                outcome.append(type(error))

    with pytest.raises(StepStopped):
        shared_host.run(flow, spec(), timeout=LIMIT, stop=stop)

    assert (written, outcome) == ([], [StepStopped])


def test_call_that_had_not_begun_when_the_flow_ended_does_not_run(
    shared_host: BrowserHost,
) -> None:
    busy = threading.Event()
    written: list[str] = []

    async def flow(session: BrowserSession) -> None:
        try:
            await asyncio.gather(
                session.call(busy.wait, 20), session.call(written.append, "too late")
            )
        finally:
            busy.set()

    with pytest.raises(SiteTimeout):
        shared_host.run(flow, spec(), timeout=timedelta(seconds=1))

    assert written == []


def test_result_that_comes_with_the_stop_counts(
    shared_host: BrowserHost, stop: threading.Event
) -> None:
    async def flow(session: BrowserSession) -> str:
        stop.set()
        return "in the cart"

    assert shared_host.run(flow, spec(), timeout=LIMIT, stop=stop) == "in the cart"


@pytest.mark.parametrize("victim", ["driver", "browser"])
def test_stop_works_in_under_five_seconds_though_the_browser_hangs(
    family: Family, host: BrowserHost, site: LittleSite, stop: threading.Event, victim: str
) -> None:
    stopped_at = 0.0

    async def flow(session: BrowserSession) -> None:
        nonlocal stopped_at
        for process in family.drivers() if victim == "driver" else family.browsers():
            process.suspend()
        stopped_at = time.monotonic()
        stop.set()
        await wait_for_ever(session)

    with pytest.raises(StepStopped):
        host.run(flow, spec(), timeout=LIMIT, stop=stop)

    assert time.monotonic() - stopped_at < 5
    assert host.run(counting(site), spec(), timeout=LIMIT) == 1
    assert len(family.profiles()) == 1


def is_busy(family: Family) -> bool:
    """Whether some page still runs a loop."""

    def seconds() -> float:
        return sum(process.cpu_times().user for process in family.browsers())

    before = seconds()
    time.sleep(0.5)
    return seconds() - before > 0.2


LOOP = "for (;;) {}"
HANGING_PAGES = {
    "script": f"<script>setTimeout(() => {{ {LOOP} }}, 50)</script>",
    "parser": f"<script>{LOOP}</script>",
    "alerts": "<script>setTimeout(() => { for (;;) alert('Buy!') }, 50)</script>",
    "beforeunload": f"<script>addEventListener('beforeunload', () => {{ {LOOP} }})</script>",
}


@pytest.mark.parametrize("what", [*HANGING_PAGES, "answer"])
def test_stop_works_in_under_five_seconds_though_the_page_hangs(
    family: Family, host: BrowserHost, site: LittleSite, stop: threading.Event, what: str
) -> None:
    asked = threading.Event()
    site.pages["/"] = Page(HANGING_PAGES.get(what, ""), wait=stop if what == "answer" else None)
    site.pages["/next"] = Page()
    site.on_hit = lambda path: asked.set()

    async def flow(session: BrowserSession) -> None:
        await session.page.goto(site.url(), wait_until="commit", timeout=60_000)
        await asyncio.sleep(0.2)
        await session.page.goto(site.url("/next"), timeout=60_000)
        await wait_for_ever(session)

    stopped_at = 0.0

    def stop_when_asked() -> None:
        nonlocal stopped_at
        asked.wait(20)
        time.sleep(0.5)  # until the page hangs
        stopped_at = time.monotonic()
        halt.set()

    halt = threading.Event()
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(stop_when_asked)
        with pytest.raises(StepStopped):
            host.run(flow, spec(), timeout=LIMIT, stop=halt)

    assert time.monotonic() - stopped_at < 5
    family.wait_until(lambda: not is_busy(family))
    stop.set()
    assert host.run(counting(site), spec(), timeout=LIMIT) == 1


def test_stop_does_not_wait_for_the_evidence_of_a_failure(
    host: BrowserHost, site: LittleSite, stop: threading.Event
) -> None:
    site.pages["/"] = Page(HANGING_PAGES["script"])  # its evidence takes four seconds

    async def flow(session: BrowserSession) -> None:
        await session.goto(site.url())
        await asyncio.sleep(0.2)
        stop.set()
        raise PageChanged("No cart.", key="cart_row", selector=".row")

    with pytest.raises(StepStopped):
        host.run(flow, spec(), timeout=LIMIT, stop=stop)

    site.pages["/"] = Page()
    assert host.run(counting(site), spec(), timeout=LIMIT) == 1


def test_stop_counts_though_the_time_limit_was_reached_first(
    host: BrowserHost, site: LittleSite, stop: threading.Event
) -> None:
    host.run(counting(site), spec(), timeout=LIMIT)  # the browser is up
    site.pages["/"] = Page(HANGING_PAGES["script"])
    threading.Timer(4, stop.set).start()  # while the evidence of the time-out is gathered

    with pytest.raises(StepStopped):
        host.run(going_to(site), spec(), timeout=timedelta(seconds=3), stop=stop)


# Browsers that die, and their replacement


def test_browser_that_dies_is_a_typed_error_and_the_next_run_has_a_new_one(
    family: Family, host: BrowserHost, site: LittleSite
) -> None:
    async def flow(session: BrowserSession) -> None:
        for process in family.browsers():
            process.kill()
        await wait_for_ever(session)

    with pytest.raises(BrowserDied):
        host.run(flow, spec(), timeout=LIMIT)

    assert host.run(counting(site), spec(), timeout=LIMIT) == 1


def test_all_flows_of_a_dead_browser_fail_with_it(
    family: Family, host: BrowserHost, site: LittleSite
) -> None:
    together = threading.Barrier(4)

    async def flow(session: BrowserSession) -> None:
        if await session.call(together.wait, 20) == 0:
            family.drivers()[0].kill()
        await wait_for_ever(session)

    def run(key: str) -> str:
        try:
            host.run(flow, spec(key), timeout=LIMIT)
        except BrowserDied as error:
            return error.code
        return "survived"

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(run, "abcd")) == ["browser_died"] * 4
    assert host.run(counting(site), spec(), timeout=LIMIT) == 1


@pytest.mark.parametrize("victim", ["driver", "browser"])
def test_browser_that_died_while_nobody_used_it_is_replaced_unnoticed(
    family: Family, host: BrowserHost, site: LittleSite, victim: str
) -> None:
    flow = counting(site)
    host.run(flow, spec(version="v1"), timeout=LIMIT)
    dying = family.drivers() if victim == "driver" else family.browsers()
    for process in dying:
        process.kill()
    time.sleep(0.5)  # until the driver has told that its browser is gone

    assert host.run(flow, spec(version="v1"), timeout=LIMIT) == 1


def test_page_that_crashes_is_a_typed_error(host: BrowserHost) -> None:
    async def flow(session: BrowserSession) -> None:
        await session.page.goto("chrome://crash")

    with pytest.raises(BrowserDied, match="page's process died"):
        host.run(flow, spec(), timeout=LIMIT)


def test_browser_is_replaced_after_its_flows_while_an_old_one_goes_on(
    family: Family, site: LittleSite
) -> None:
    flow = counting(site)
    browsers: list[int] = []

    with BrowserHost(flows_per_browser=2) as host:

        async def long(session: BrowserSession) -> int:
            def others() -> None:
                host.run(flow, spec("bob", version="v1"), timeout=LIMIT)
                browsers.append(len(family.profiles()))
                host.run(flow, spec("carol"), timeout=LIMIT)
                browsers.append(len(family.profiles()))

            await session.call(others)
            return int(await flow(session))

        count = host.run(long, spec(), timeout=LIMIT)
        family.wait_until(lambda: len(family.profiles()) == 1)
        browsers.append(len(family.profiles()))

    assert count == 1
    assert browsers == [1, 2, 1]


def test_browser_that_is_too_old_is_replaced(family: Family, site: LittleSite) -> None:
    flow = counting(site)
    with BrowserHost(browser_lifetime=timedelta()) as host:
        host.run(flow, spec(version="v1"), timeout=LIMIT)
        (first,) = family.profiles()

        assert host.run(flow, spec(version="v1"), timeout=LIMIT) == 1
        family.wait_until(lambda: len(family.profiles()) == 1)
        assert family.profiles() != {first}


# The end of a worker


def test_close_stops_what_runs_and_leaves_no_process_and_no_thread(family: Family) -> None:
    before = set(threading.enumerate())
    closing: list[threading.Thread] = []
    host = BrowserHost()

    async def flow(session: BrowserSession) -> None:
        closing.append(threading.Thread(target=host.close))
        closing[0].start()
        await wait_for_ever(session)

    with pytest.raises(StepStopped, match="shutting down"):
        host.run(flow, spec(), timeout=LIMIT)
    closing[0].join(20)

    assert family.processes() == []
    family.wait_until(lambda: set(threading.enumerate()) <= before)
    with pytest.raises(StepStopped, match="shutting down"):
        host.run(flow, spec(), timeout=LIMIT)


def test_host_starts_nothing_before_its_first_run(family: Family) -> None:
    before = set(threading.enumerate())

    BrowserHost().close()

    assert family.processes() == []
    assert set(threading.enumerate()) == before


# What pages may and may not do


def test_images_and_fonts_are_fetched_only_if_asked_for(
    host: BrowserHost, site: LittleSite
) -> None:
    site.pages["/"] = Page(
        "<style>@font-face{font-family:x;src:url(/font.woff2)} h1{font-family:x}</style>"
        "<h1>Shop</h1><img src=/picture.png><div style='background:url(/back.png)'>x</div>"
        "<script src=/script.js></script>"
    )

    async def flow(session: BrowserSession) -> None:
        await session.goto(site.url(), wait_until="load")
        await session.page.evaluate("document.fonts.ready.then(() => 1)")

    host.run(flow, spec(), timeout=LIMIT)
    without = sorted(set(site.hits))
    host.run(flow, spec(images=True), timeout=LIMIT)

    assert without == ["/", "/script.js"]
    assert {"/picture.png", "/back.png", "/font.woff2"} <= set(site.hits)


def test_dialogs_are_answered_with_yes_and_do_not_hold_the_flow_up(
    shared_host: BrowserHost, site: LittleSite
) -> None:
    site.pages["/"] = Page(
        "<h1></h1><script>alert('Sold out');"
        "document.querySelector('h1').textContent = confirm('Add to cart?')</script>"
    )

    async def flow(session: BrowserSession) -> str:
        await session.goto(site.url())
        return await session.page.inner_text("h1")

    assert shared_host.run(flow, spec(), timeout=LIMIT) == "true"


def test_downloads_are_refused(shared_host: BrowserHost, site: LittleSite) -> None:
    site.pages["/"] = Page("<a href=/file>file</a>")
    site.pages["/file"] = Page("x" * 100, headers={"Content-Disposition": "attachment"})

    async def flow(session: BrowserSession) -> str | None:
        await session.goto(site.url())
        async with session.page.expect_download() as download:
            await session.page.click("a")
        return await (await download.value).failure()

    assert shared_host.run(flow, spec(), timeout=LIMIT) is not None


# Errors


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda page: page.wait_for_selector("#never", timeout=100), SiteTimeout),
        (lambda page: page.evaluate("nothing.at.all"), SiteError),
    ],
    ids=["time-out", "other"],
)
def test_errors_of_playwright_are_typed_when_the_flow_lets_them_go(
    shared_host: BrowserHost, act: Callable[[Any], Any], expected: type[Exception]
) -> None:
    async def flow(session: BrowserSession) -> None:
        await act(session.page)

    with pytest.raises(expected) as raised:
        shared_host.run(flow, spec(), timeout=LIMIT)

    assert raised.value.__cause__ is not None
    assert "\n" not in str(raised.value)


def test_site_that_does_not_answer_is_a_timeout(site: LittleSite) -> None:
    hangs = threading.Event()
    site.pages["/"] = Page(wait=hangs)

    async def flow(session: BrowserSession) -> None:
        await session.goto(site.url("/") + "?token=abc")

    with (
        BrowserHost(navigation_timeout=timedelta(seconds=0.5)) as host,
        pytest.raises(SiteTimeout, match=r"http://shop\.localhost:\d+/ did not answer"),
    ):
        host.run(flow, spec(), timeout=LIMIT)
    hangs.set()


def test_what_was_typed_is_in_no_error(shared_host: BrowserHost, site: LittleSite) -> None:
    password = "hunter" + "2"  # in two parts: a traceback shows source lines
    site.pages["/"] = Page("<input id=password disabled>")

    async def flow(session: BrowserSession) -> None:
        await session.goto(site.url())
        await session.page.fill("#password", password, timeout=200)

    with pytest.raises(SiteTimeout) as raised:
        shared_host.run(flow, spec(secrets=(password,)), timeout=LIMIT)

    text = "".join(traceback.format_exception(raised.value))
    assert "waiting for locator" in text
    assert password not in text


def test_unexpected_error_arrives_as_it_is_and_with_evidence(
    shared_host: BrowserHost, site: LittleSite
) -> None:
    site.pages["/"] = Page("<h1>Shop</h1>")

    async def flow(session: BrowserSession) -> None:
        await session.goto(site.url())
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug") as raised:
        shared_host.run(flow, spec(), timeout=LIMIT)

    assert "Shop" in raised.value.evidence.dom  # type: ignore[attr-defined]

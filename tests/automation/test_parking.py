"""Parked sessions: browsers that outlive their worker, and who may use them when."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import psutil
import pytest
from playwright.async_api import TimeoutError as PlaywrightTimeout

from automation import parking
from automation.errors import AddressRefused, BrowserDied, SiteTimeout, StepStopped
from automation.guard import NetworkPolicy
from automation.host import BrowserHost
from automation.parking import Parking
from automation.parking_warden import TOKEN_HEADER
from automation.session import BrowserSession, SessionSpec
from automation.waiting import look_away
from config.supervisor import RUN_MARK, dying_with_parent
from tests.automation.little_site import LittleSite, Page
from tests.waiting import wait_until

pytestmark = pytest.mark.browser

LOCAL = NetworkPolicy(("shop.localhost",), allow_private=True)
LIMIT = timedelta(seconds=30)
FORM = "<input id=code><a href=/out download>out</a>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("data") / "parking"
    yield folder
    assert list(folder.glob("*-*")) == []


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[BrowserHost]:
    with BrowserHost(parking_folder=folder) as running:
        yield running


@pytest.fixture
def key(host: BrowserHost, request: pytest.FixtureRequest) -> Iterator[str]:
    """The key of a session of the test's own, ended with it."""
    yield request.node.name
    host.end_parked(request.node.name)


def parked(key: str, keep_for: float = 60, **more: Any) -> Parking:
    return Parking(SessionSpec(key, LOCAL, **more), timedelta(seconds=keep_for))


def typing(site: LittleSite, text: str) -> Callable[[BrowserSession], Any]:
    """Opens the form where the browser is new, and types into it."""
    site.pages["/"] = Page(FORM)

    async def flow(session: BrowserSession) -> bool:
        if session.is_new:
            await session.goto(site.url())
        await session.page.fill("#code", text)
        return session.is_new

    return flow


async def read(session: BrowserSession) -> tuple[bool, str, str]:
    return session.is_new, session.page.url, await session.page.input_value("#code")


async def do_nothing(session: BrowserSession) -> bool:
    return session.is_new


async def wait_for_ever(session: BrowserSession) -> None:
    await session.page.wait_for_selector("#never", timeout=60_000)


def warden_of(folder: Path, key: str) -> psutil.Process:
    found = parking.find_parked(folder, key)
    assert found is not None
    return psutil.Process(found.pid)


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


WORKER = """
import sys, time
from datetime import timedelta
from pathlib import Path
from automation.guard import NetworkPolicy
from automation.host import BrowserHost
from automation.parking import Parking
from automation.session import SessionSpec

folder, key, url, text, *tab = sys.argv[1:]

async def flow(session):
    if session.page.url != url:
        await session.goto(url)
    await session.page.fill("#code", text)
    print("typed", flush=True)
    await session.page.wait_for_selector("#never", timeout=60_000)

spec = SessionSpec(key, NetworkPolicy(("shop.localhost",), allow_private=True))
parking = Parking(spec, timedelta(seconds=60))
host = BrowserHost(parking_folder=Path(folder))
host.run_parked(flow, parking, timeout=timedelta(seconds=60), tab=bool(tab))
"""


class Worker:
    """Another process, in the middle of a flow on the page of a parked session."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            dying_with_parent("KILL", [sys.executable, "-c", WORKER, str(folder), *arguments]),
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_until_typed(self) -> None:
        assert self.process.stdout is not None
        assert b"typed\n" in iter(self.process.stdout.readline, b"")

    def signal(self, number: signal.Signals) -> None:
        """To its whole group, as supervisord does."""
        os.killpg(self.process.pid, number)

    def end(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        with self.process:  # closes its output, and waits for it
            pass


@pytest.fixture
def start_worker(folder: Path, key: str, site: LittleSite) -> Iterator[Callable[[str], Worker]]:
    site.pages["/"] = Page(FORM, headers={"Set-Cookie": "who=alice"})
    started: list[Worker] = []

    def start(text: str, *, tab: bool = False) -> Worker:
        started.append(Worker(folder, key, site.url(), text, *(["tab"] if tab else [])))
        return started[-1]

    yield start
    for worker in started:
        worker.end()


# Staying


def test_page_is_for_the_next_flow_as_the_last_one_left_it(
    host: BrowserHost, key: str, site: LittleSite
) -> None:
    is_new = host.run_parked(typing(site, "12"), parked(key), timeout=LIMIT)

    assert is_new is True
    assert host.run_parked(read, parked(key), timeout=LIMIT) == (False, site.url(), "12")
    assert site.hits == ["/"]


def test_page_and_cookies_outlive_a_worker_that_is_killed(
    host: BrowserHost, key: str, site: LittleSite, start_worker: Callable[[str], Worker]
) -> None:
    worker = start_worker("1234")
    worker.wait_until_typed()
    worker.end()

    async def look(session: BrowserSession) -> Any:
        found = await read(session)
        cookies = (await session.storage_state())["cookies"]
        await session.page.reload()
        return found, [(cookie["name"], cookie["value"]) for cookie in cookies]

    found, cookies = host.run_parked(look, parked(key), timeout=LIMIT)

    assert found == (False, site.url(), "1234")
    assert cookies == [("who", "alice")]
    assert site.cookies == ["", "who=alice"]


def test_saved_session_is_put_into_a_new_browser_and_only_there(
    host: BrowserHost, key: str, site: LittleSite
) -> None:
    site.pages["/"] = Page(
        "<p></p><script>p = document.querySelector('p');"
        "p.textContent = document.cookie + ' ' + localStorage.name</script>"
    )
    state = {
        "cookies": [
            {
                "name": "who",
                "value": "alice",
                "domain": "shop.localhost",
                "path": "/",
                "expires": -1,
                "httpOnly": False,
                "secure": False,
                "sameSite": "Lax",
            }
        ],
        "origins": [
            {"origin": site.url("")[:], "localStorage": [{"name": "name", "value": "Alice"}]}
        ],
    }
    later = {"cookies": [{**state["cookies"][0], "value": "bob"}], "origins": []}

    async def look(session: BrowserSession) -> str:
        await session.goto(site.url())
        return await session.page.inner_text("p")

    def run(storage_state: Any) -> str:
        spec = parked(key, storage_state=storage_state)
        return str(host.run_parked(look, spec, timeout=LIMIT))

    assert [run(state), run(later)] == ["who=alice Alice", "who=alice Alice"]
    assert site.hits == ["/", "/"]


def test_parked_pages_meet_the_guard_and_it_tells_why(
    host: BrowserHost, key: str, site: LittleSite
) -> None:
    async def leave(session: BrowserSession) -> None:
        await session.goto(site.url(host="elsewhere.localhost"))

    for _ in range(2):  # the second time the warden has seen the host before
        with pytest.raises(AddressRefused, match=r"elsewhere.*is not on shop\.localhost"):
            host.run_parked(leave, parked(key), timeout=LIMIT)

    assert site.hits == []


# Ending


def test_ended_session_leaves_no_process_and_no_profile(
    host: BrowserHost, key: str, site: LittleSite, folder: Path
) -> None:
    host.run_parked(typing(site, "12"), parked(key), timeout=LIMIT)
    warden = warden_of(folder, key)
    family = [warden, *warden.children(recursive=True)]
    assert len(family) > 2

    host.end_parked(key)

    wait_until(lambda: all(map(is_gone, family)))
    assert host.find_parked(key) is None
    assert list(folder.glob(f"{parking._digest(key)}*")) == []
    host.end_parked(key)
    assert host.run_parked(do_nothing, parked(key), timeout=LIMIT) is True


def test_session_that_nobody_visits_ends_by_itself(
    host: BrowserHost, key: str, folder: Path
) -> None:
    host.run_parked(do_nothing, parked(key, keep_for=0.5), timeout=LIMIT)
    warden = warden_of(folder, key)

    wait_until(lambda: is_gone(warden))

    assert list(folder.glob(f"{parking._digest(key)}*")) == []


def test_visit_that_takes_longer_than_the_session_is_kept_is_not_cut_off(
    host: BrowserHost, key: str, site: LittleSite
) -> None:
    answer = threading.Event()
    site.pages["/"] = Page(FORM, wait=answer)
    threading.Timer(2, answer.set).start()

    async def flow(session: BrowserSession) -> str:
        await session.goto(site.url())
        return session.page.url

    assert host.run_parked(flow, parked(key, keep_for=0.1), timeout=LIMIT) == site.url()


@pytest.mark.parametrize("victim", ["warden", "browser"])
def test_session_whose_process_was_killed_starts_anew(
    host: BrowserHost, key: str, site: LittleSite, folder: Path, victim: str
) -> None:
    host.run_parked(typing(site, "12"), parked(key), timeout=LIMIT)
    warden = warden_of(folder, key)
    browser = warden.children(recursive=True)
    (warden if victim == "warden" else browser[0]).kill()
    if victim == "browser":
        browser[1].kill()

    assert host.run_parked(do_nothing, parked(key), timeout=LIMIT) is True

    wait_until(lambda: all(map(is_gone, [warden, *browser])))


def test_browser_that_dies_under_a_flow_is_a_typed_error(
    host: BrowserHost, key: str, site: LittleSite, folder: Path
) -> None:
    def kill() -> None:
        for process in warden_of(folder, key).children(recursive=True):
            process.kill()

    async def flow(session: BrowserSession) -> None:
        await session.goto(site.url())
        await session.call(kill)
        await session.page.inner_text("body")

    with pytest.raises(BrowserDied, match="Try again"):
        host.run_parked(flow, parked(key), timeout=LIMIT)


def test_leftovers_of_killed_wardens_are_found(host: BrowserHost, key: str, folder: Path) -> None:
    host.run_parked(do_nothing, parked(key), timeout=LIMIT)
    warden = warden_of(folder, key)
    browser = warden.children(recursive=True)
    for process in browser:
        process.suspend()  # it does not notice that its warden has gone
    warden.kill()
    wait_until(lambda: is_gone(warden))

    removed = parking.remove_leftovers(folder)

    assert [path.name.partition("-")[0] for path in removed] == [parking._digest(key)]
    wait_until(lambda: all(map(is_gone, browser)))
    assert list(folder.glob(f"{parking._digest(key)}*")) == []


def test_half_started_warden_does_not_block_its_key(
    host: BrowserHost, key: str, folder: Path
) -> None:
    home = folder / f"{parking._digest(key)}-0123456789abcdef"
    home.mkdir(parents=True)
    # It waits for its order, as it does when the worker was killed before it had said it.
    half = subprocess.Popen(
        [sys.executable, "-m", parking.WARDEN, str(home)], stdin=subprocess.PIPE
    )

    is_new = host.run_parked(do_nothing, parked(key), timeout=LIMIT)

    assert is_new is True
    assert half.wait(5) != 0
    half.communicate()
    assert not home.exists()


# Stopping


def test_stopped_flow_ends_at_once_and_its_page_stays(
    host: BrowserHost, key: str, site: LittleSite
) -> None:
    stop = threading.Event()
    type_first = typing(site, "12")

    async def flow(session: BrowserSession) -> None:
        await type_first(session)
        stop.set()
        await wait_for_ever(session)

    began = time.monotonic()
    with pytest.raises(StepStopped):
        host.run_parked(flow, parked(key), timeout=LIMIT, stop=stop)

    assert time.monotonic() - began < 5
    assert host.run_parked(read, parked(key), timeout=LIMIT)[2] == "12"


def test_time_limit_leaves_what_the_page_is_loading_to_go_on(
    host: BrowserHost, key: str, site: LittleSite
) -> None:
    answer = threading.Event()
    site.pages["/"] = Page("<a href=/paid>pay</a>")
    site.pages["/paid"] = Page("<h1>Paid</h1>", wait=answer)

    async def pay(session: BrowserSession) -> None:
        await session.goto(site.url())
        await session.page.click("a", no_wait_after=True)
        await wait_for_ever(session)

    async def look(session: BrowserSession) -> str:
        await session.page.wait_for_selector("h1")
        return await session.page.inner_text("h1")

    with pytest.raises(SiteTimeout, match="time limit"):
        host.run_parked(pay, parked(key), timeout=timedelta(seconds=1))
    answer.set()

    assert host.run_parked(look, parked(key), timeout=LIMIT) == "Paid"
    assert site.hits == ["/", "/paid"]


# Sharing


def test_second_user_in_this_process_is_a_programming_error(host: BrowserHost, key: str) -> None:
    async def flow(session: BrowserSession) -> None:
        def again() -> None:
            host.run_parked(do_nothing, parked(key), timeout=LIMIT)

        with pytest.raises(RuntimeError, match="is in use"):
            await session.call(again)

    host.run_parked(flow, parked(key), timeout=LIMIT)


def test_tabs_share_the_session_at_the_same_time_and_close(
    host: BrowserHost, key: str, site: LittleSite
) -> None:
    meeting = threading.Barrier(3)
    site.pages["/"] = Page("here", headers={"Set-Cookie": "who=alice"})

    async def meet(session: BrowserSession) -> str:
        await session.goto(site.url())
        await session.call(meeting.wait, 10)
        return site.cookies[-1]

    with ThreadPoolExecutor(3) as threads:
        runs = [
            threads.submit(host.run_parked, meet, parked(key), timeout=LIMIT, tab=number > 0)
            for number in range(3)
        ]
        assert all(run.result() is not None for run in runs)

    async def count(session: BrowserSession) -> int:
        return len(session.context.pages)

    wait_until(lambda: host.run_parked(count, parked(key), timeout=LIMIT) == 1)


def test_worker_that_comes_while_another_is_there_waits_for_its_turn(
    host: BrowserHost, key: str, start_worker: Callable[[str], Worker]
) -> None:
    worker = start_worker("1234")
    worker.wait_until_typed()
    threading.Timer(1, worker.end).start()

    assert host.run_parked(read, parked(key), timeout=LIMIT)[2] == "1234"

    assert worker.process.wait(5) == -signal.SIGKILL


def test_worker_that_was_paused_can_do_nothing_when_another_has_come(
    host: BrowserHost, key: str, start_worker: Callable[[str], Worker], site: LittleSite
) -> None:
    worker = start_worker("1234")
    worker.wait_until_typed()
    worker.signal(signal.SIGSTOP)

    seen = host.run_parked(read, parked(key), timeout=LIMIT)
    worker.signal(signal.SIGCONT)

    assert seen == (False, site.url(), "1234")
    assert worker.process.wait(15) == 1  # its flow's call has failed
    assert host.run_parked(read, parked(key), timeout=LIMIT) == (False, site.url(), "1234")


def test_workers_that_start_a_session_at_once_start_one_browser(
    host: BrowserHost, key: str, start_worker: Callable[[str], Worker], folder: Path
) -> None:
    start_worker("1")
    start_worker("2")
    wait_until(lambda: folder.exists() and any(folder.glob(f"{parking._digest(key)}-*")))

    host.run_parked(do_nothing, parked(key), timeout=LIMIT, tab=True)

    assert len(list(folder.glob(f"{parking._digest(key)}-*"))) == 1


def test_tab_of_a_worker_that_is_killed_is_closed(
    host: BrowserHost, key: str, start_worker: Callable[..., Worker]
) -> None:
    async def count(session: BrowserSession) -> int:
        return len(session.context.pages)

    host.run_parked(do_nothing, parked(key), timeout=LIMIT)
    worker = start_worker("1234", tab=True)
    worker.wait_until_typed()
    assert host.run_parked(count, parked(key), timeout=LIMIT) == 2

    worker.end()

    wait_until(lambda: host.run_parked(count, parked(key), timeout=LIMIT) == 1)


# Details


def test_worn_out_browser_is_replaced_by_one_with_the_same_cookies(
    folder: Path, key: str, host: BrowserHost, site: LittleSite
) -> None:
    site.pages["/"] = Page("here", headers={"Set-Cookie": "who=alice"})

    async def visit(session: BrowserSession) -> tuple[bool, str]:
        await session.goto(site.url())
        return session.is_new, site.cookies[-1]

    with BrowserHost(parking_folder=folder, flows_per_parked=2) as careful:
        seen = [careful.run_parked(visit, parked(key), timeout=LIMIT) for _ in range(4)]

    assert seen == [(True, ""), (False, "who=alice"), (True, "who=alice"), (False, "who=alice")]


def test_driver_that_hangs_does_not_hold_up_a_stop(folder: Path, key: str) -> None:
    stop = threading.Event()

    with BrowserHost(parking_folder=folder) as own:

        def hang() -> None:
            driver = own._driver
            assert driver is not None
            driver.process.suspend()
            stop.set()

        async def flow(session: BrowserSession) -> None:
            await session.call(hang)
            await wait_for_ever(session)

        began = time.monotonic()
        with pytest.raises(StepStopped):
            own.run_parked(flow, parked(key), timeout=LIMIT, stop=stop)

        assert time.monotonic() - began < 5
        assert own.run_parked(read_url, parked(key), timeout=LIMIT) == "about:blank"


def test_page_that_crashed_while_nobody_looked_is_new_again(
    host: BrowserHost, key: str, site: LittleSite
) -> None:
    async def crash(session: BrowserSession) -> None:
        await session.goto(site.url())
        protocol = await session.context.new_cdp_session(session.page)
        async with session.page.expect_event("crash"):
            crashing = asyncio.ensure_future(protocol.send("Page.crash"))
        crashing.add_done_callback(look_away)

    site.pages["/"] = Page(FORM, headers={"Set-Cookie": "who=alice"})
    host.run_parked(crash, parked(key), timeout=LIMIT)

    assert host.run_parked(typing(site, "12"), parked(key), timeout=LIMIT) is True
    assert site.cookies == ["", "who=alice"]


def test_downloads_and_service_workers_are_refused(
    host: BrowserHost, key: str, site: LittleSite, folder: Path
) -> None:
    site.pages["/"] = Page("<a href=/out download>out</a>")
    site.pages["/out"] = Page("secret", headers={"Content-Type": "application/octet-stream"})

    async def flow(session: BrowserSession) -> str:
        await session.goto(site.url())
        with pytest.raises(PlaywrightTimeout):
            async with session.page.expect_download(timeout=500):
                await session.page.click("a")
        return str(
            await session.page.evaluate(
                "navigator.serviceWorker.register('/sw.js').then(() => 'is there', String)"
            )
        )

    # A download is a request; it is what comes then that is thrown away.
    assert "SecurityError" in host.run_parked(flow, parked(key), timeout=LIMIT)
    assert site.hits == ["/", "/out"]


def test_only_its_own_user_can_read_a_session_and_it_knows_no_secret_of_the_worker(
    host: BrowserHost, key: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIAL_KEYS", "k1:secret")

    host.run_parked(do_nothing, parked(key), timeout=LIMIT)

    for path in [folder, *folder.rglob(f"{parking._digest(key)}*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    warden = warden_of(folder, key)
    for process in [warden, *warden.children()]:
        assert "CREDENTIAL_KEYS" not in process.environ()
        assert process.environ().get(RUN_MARK) == os.environ.get(RUN_MARK)  # it ends with its run


def test_stranger_without_the_token_is_not_let_in(
    host: BrowserHost, key: str, folder: Path
) -> None:
    host.run_parked(do_nothing, parked(key), timeout=LIMIT)
    warden = parking.find_warden(folder, key)
    assert warden is not None
    hello = {"token": "guess", "visit": "mallory", "tab": True, "keep_for": 60}
    for said in (
        json.dumps(hello) + "\n",
        '{"token": "gu\u00e9ss"}\n',
        f"GET /devtools/browser/x HTTP/1.1\r\n{TOKEN_HEADER}: guess\r\n\r\n",
        "nonsense\n",
        "{nonsense\n",
    ):
        with socket.create_connection(("127.0.0.1", warden.port)) as stranger:
            stranger.sendall(said.encode())
            assert stranger.recv(1000) == b"", said

    assert host.run_parked(do_nothing, parked(key), timeout=LIMIT) is True  # its page is blank
    assert parking.find_warden(folder, key) == replace(warden, ends_at=ANY)


def test_folder_that_others_may_read_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(0o755)

    with BrowserHost(parking_folder=shared) as own, pytest.raises(RuntimeError, match="mode 700"):
        own.run_parked(do_nothing, parked("alice"), timeout=LIMIT)

    assert list(shared.iterdir()) == []


async def read_url(session: BrowserSession) -> str:
    return session.page.url

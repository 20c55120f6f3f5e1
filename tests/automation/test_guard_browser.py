"""The URL guard with a real Chromium: whatever a page tries, it goes where the policy says.

No packet leaves the machine: `Internet` answers every name, and every connection that the guard
makes ends at a little site on loopback, which counts.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from automation import chromium
from automation.errors import AddressRefused, SiteError
from automation.guard import NetworkPolicy, open_connection
from automation.host import BrowserHost
from automation.session import BrowserSession, SessionSpec
from tests.automation.little_site import LittleSite, Page

pytestmark = pytest.mark.browser

SHOP = NetworkPolicy(("shop.example",))
LOCAL = NetworkPolicy(("shop.localhost",), allow_private=True)
LIMIT = timedelta(seconds=30)


class Internet:
    def __init__(self) -> None:
        self.site: LittleSite | None = None
        self.addresses = {
            "shop.example": "93.184.216.34",
            "www.shop.example": "93.184.216.34",
            "inside.shop.example": "10.0.0.7",
            "other.example": "93.184.216.99",
        }
        self.connected: list[str] = []

    async def resolve(self, host: str) -> list[str]:
        return [self.addresses.get(host, host)]

    async def connect(
        self, protocol: asyncio.Protocol, address: str, port: int
    ) -> asyncio.Transport:
        self.connected.append(address)
        assert self.site is not None
        return await open_connection(protocol, "127.0.0.1", self.site.port)


@pytest.fixture(scope="module")
def online() -> Iterator[tuple[BrowserHost, Internet]]:
    internet = Internet()
    with BrowserHost(resolve=internet.resolve, connect=internet.connect) as host:
        yield host, internet


@pytest.fixture
def internet(online: tuple[BrowserHost, Internet], site: LittleSite) -> Internet:
    internet = online[1]
    internet.site = site
    internet.connected.clear()
    site.pages["/"] = Page("<h1>Shop</h1>")
    return internet


Run = Callable[[Callable[[BrowserSession], Awaitable[Any]]], Any]


@pytest.fixture
def browse(online: tuple[BrowserHost, Internet], internet: Internet) -> Run:
    """Runs a flow of the shop at shop.example."""
    return lambda flow: online[0].run(flow, SessionSpec("shop", SHOP), timeout=LIMIT)


def test_page_on_the_domain_is_opened_at_the_address_of_its_name(
    browse: Run, site: LittleSite, internet: Internet
) -> None:
    async def flow(session: BrowserSession) -> tuple[int | None, str, int]:
        response = await session.goto("http://www.shop.example/")
        return (
            response and response.status,
            await session.page.inner_text("h1"),
            len(session.refusals),
        )

    assert browse(flow) == (200, "Shop", 0)
    assert internet.connected[0] == "93.184.216.34"


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("http://127.0.0.1:{port}/secret", "127.0.0.1"),
        ("http://localhost:{port}/secret", "localhost"),
        ("http://sub.localhost:{port}/secret", "sub.localhost"),
        ("http://[::1]:{port}/secret", "::1"),
        ("http://[::ffff:127.0.0.1]:{port}/secret", "::ffff:7f00:1"),
        ("http://0.0.0.0:{port}/secret", "0.0.0.0"),
        ("http://2130706433:{port}/secret", "127.0.0.1"),
        ("http://10.0.0.1/secret", "10.0.0.1"),
        ("http://169.254.169.254/secret", "169.254.169.254"),
        ("http://other.example/secret", "other.example"),
        ("http://inside.shop.example/secret", "inside.shop.example"),
    ],
)
@pytest.mark.parametrize("how", ["directly", "by redirect"])
def test_forbidden_address_is_refused(
    browse: Run, site: LittleSite, target: str, host: str, how: str
) -> None:
    url = target.format(port=site.port)
    site.pages["/secret"] = Page("secret")
    site.pages["/go"] = Page(status=302, headers={"Location": url})

    async def flow(session: BrowserSession) -> None:
        await session.goto(url if how == "directly" else "http://shop.example/go")

    with pytest.raises(AddressRefused) as refused:
        browse(flow)

    assert f"sent to {host}, which " in str(refused.value)
    assert refused.value.code == "address_refused"
    assert "/secret" not in site.hits


def test_name_that_resolves_to_a_private_address_says_so(browse: Run) -> None:
    async def flow(session: BrowserSession) -> None:
        await session.goto("http://inside.shop.example/")

    with pytest.raises(AddressRefused, match=r"resolves to the private address 10\.0\.0\.7"):
        browse(flow)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "chrome://version", "javascript:1", "ftp://shop.example/"]
)
def test_only_http_is_opened(browse: Run, url: str) -> None:
    async def flow(session: BrowserSession) -> None:
        await session.goto(url)

    with pytest.raises(AddressRefused, match="Only http and https"):
        browse(flow)


def test_refusal_after_a_click_is_what_the_flow_fails_with(browse: Run, site: LittleSite) -> None:
    site.pages["/"] = Page('<a href="http://other.example/secret">Add to cart</a>')

    async def flow(session: BrowserSession) -> None:
        await session.goto("http://shop.example/")
        await session.page.click("a")
        await session.page.wait_for_selector("#added", timeout=1000)

    with pytest.raises(AddressRefused, match=r"sent to other\.example"):
        browse(flow)

    assert "/secret" not in site.hits


def test_refused_subresources_leave_the_page_working_and_are_recorded(
    browse: Run, site: LittleSite
) -> None:
    site.pages["/"] = Page(
        "<script src='http://tracker.test/t.js'></script>"
        "<iframe src='http://127.0.0.1/frame'></iframe><h1>Shop</h1>"
    )

    async def flow(session: BrowserSession) -> tuple[str, set[str]]:
        await session.goto("http://shop.example/", wait_until="load")
        session.check_address()
        return await session.page.inner_text("h1"), {r.host for r in session.refusals}

    assert browse(flow) == ("Shop", {"tracker.test", "127.0.0.1"})
    assert site.hits == ["/"]


def test_popup_is_closed_and_gets_nowhere(browse: Run, site: LittleSite) -> None:
    site.pages["/"] = Page("<button onclick=\"window.open('http://other.example/secret')\">")

    async def flow(session: BrowserSession) -> tuple[int, list[str]]:
        await session.goto("http://shop.example/")
        await session.page.click("button")
        async with asyncio.timeout(5):
            while not session.refusals or len(session.context.pages) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return len(session.context.pages), [refusal.host for refusal in session.refusals]

    assert browse(flow) == (1, ["other.example"])
    assert "/secret" not in site.hits


FETCHES = """async url => {
  const reached = [];
  try { await fetch(url, {mode: "no-cors"}); reached.push("fetch") } catch {}
  await new Promise(done => {
    const socket = new WebSocket(url.replace("http", "ws"));
    socket.onopen = () => { reached.push("websocket"); done() };
    socket.onerror = done;
  });
  navigator.sendBeacon(url);
  try {
    await Promise.race([new WebTransport(url.replace("http:", "https:")).ready,
                        new Promise(done => setTimeout(done, 300))]);
  } catch {}
  return reached;
}"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_scripts_and_websockets_do_not_reach_loopback(
    browse: Run, site: LittleSite, host: str
) -> None:
    async def flow(session: BrowserSession) -> tuple[list[str], list[str]]:
        await session.goto("http://shop.example/")
        reached = await session.page.evaluate(FETCHES, site.url("/secret", host))
        return reached, [refusal.host for refusal in session.refusals]

    assert browse(flow) == ([], [host])
    assert "/secret" not in site.hits


STUN = """async port => {
  const caller = new RTCPeerConnection({iceServers: [{urls: "stun:127.0.0.1:" + port}]});
  caller.createDataChannel("x");
  await caller.setLocalDescription(await caller.createOffer());
  await new Promise(done => setTimeout(done, 700));
}"""


def count_stun_packets(host: BrowserHost, site: LittleSite) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        port = listener.getsockname()[1]

        async def flow(session: BrowserSession) -> None:
            await session.goto(site.url("/"))
            await session.page.evaluate(STUN, port)

        host.run(flow, SessionSpec("caller", LOCAL), timeout=LIMIT)
        try:
            return len(listener.recv(100)) and 1
        except BlockingIOError:
            return 0


def test_webrtc_sends_no_packet_around_the_guard(
    shared_host: BrowserHost, site: LittleSite
) -> None:
    assert count_stun_packets(shared_host, site) == 0


def test_webrtc_would_go_around_a_proxy_without_our_launch_arguments(
    site: LittleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chromium, "LAUNCH_ARGUMENTS", ())

    with BrowserHost() as host:
        assert count_stun_packets(host, site) == 1


def test_service_worker_is_not_registered(browse: Run, site: LittleSite) -> None:
    site.pages["/worker.js"] = Page("", headers={"Content-Type": "text/javascript"})

    async def flow(session: BrowserSession) -> int:
        await session.goto("http://shop.example/")
        found: int = await session.page.evaluate(
            "async () => { try { await navigator.serviceWorker.register('/worker.js') } catch {}"
            " return (await navigator.serviceWorker?.getRegistrations() ?? []).length }"
        )
        return found

    assert browse(flow) == 0


def test_local_shop_is_reached_only_if_its_policy_allows_it(
    shared_host: BrowserHost, site: LittleSite
) -> None:
    site.pages["/"] = Page("<h1>Local</h1>")

    async def flow(session: BrowserSession) -> str:
        await session.goto(site.url("/"))
        return await session.page.inner_text("h1")

    def run(policy: NetworkPolicy) -> str:
        return shared_host.run(flow, SessionSpec("local", policy), timeout=LIMIT)

    with pytest.raises(AddressRefused, match=r"private address 127\.0\.0\.1"):
        run(NetworkPolicy(("shop.localhost",)))
    assert site.hits == []
    assert run(LOCAL) == "Local"


def test_site_that_is_down_is_no_refusal(shared_host: BrowserHost, site: LittleSite) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://shop.localhost:{unused.getsockname()[1]}/"

    async def flow(session: BrowserSession) -> None:
        await session.goto(url)

    with pytest.raises(SiteError, match=r"shop\.localhost could not be reached"):
        shared_host.run(flow, SessionSpec("local", LOCAL), timeout=LIMIT)

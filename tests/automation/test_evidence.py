"""Evidence of a failed flow: what is in it, and that no secret is."""

import io
import json
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from PIL import Image

from automation.errors import Evidence, OutOfStock, SiteTimeout
from automation.evidence import MAX_CONSOLE, MAX_DOM_CHARACTERS, MAX_NETWORK, Mask
from automation.guard import NetworkPolicy
from automation.host import BrowserHost
from automation.session import BrowserSession, SessionSpec
from tests.automation.little_site import LittleSite, Page

LOCAL = NetworkPolicy(("shop.localhost",), allow_private=True)
SECRET = 'hunter2 & "co"<é>'
OTP = "735126"
MASK_COLOUR = (0x44, 0x44, 0x44)


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        'hunter2 &amp; "co"&lt;é&gt;',
        "hunter2 &amp; &quot;co&quot;&lt;é&gt;",
        "hunter2%20%26%20%22co%22%3C%C3%A9%3E",
        "hunter2+%26+%22co%22%3C%C3%A9%3E",
        'hunter2 & \\"co\\"<\\u00e9>',
    ],
)
def test_given_secret_is_masked_in_every_spelling(spelling: str) -> None:
    assert Mask((SECRET,))(f"before {spelling} after") == "before [masked] after"


def test_secret_that_contains_another_is_masked_whole() -> None:
    assert Mask(("1234", "123456"))("code 123456, 1234.") == "code [masked], [masked]."


def test_empty_secret_masks_nothing() -> None:
    assert Mask(("",))("plain text") == "plain text"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("/cart?id=7&token=abc#top", "/cart?id=7&token=[masked]#top"),
        ("/x?csrf_token=abc&amp;session[id]=d", "/x?csrf_token=[masked]&amp;session[id]=[masked]"),
        ("/back?code=abc&state=1", "/back?code=[masked]&state=1"),
        ("/find?q=token&color=red", "/find?q=token&color=red"),
        ("https://alice:pw@shop.example/", "https://[masked]@shop.example/"),
        ("Bearer " + "a1B2" * 12 + " end", "Bearer [masked] end"),
        ("-" * 60, "-" * 60),
        ("/product/" + "long-name-without-a-number" * 2, None),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, masked: str | None) -> None:
    assert Mask(())(text) == (text if masked is None else masked)


@pytest.mark.parametrize("text", ["token" * 100_000, ";" + "a-" * 200_000, "//" * 200_000])
def test_a_page_cannot_keep_the_mask_busy(text: str) -> None:
    began = time.process_time()

    Mask(("hunter2",))(text)

    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("value", "shown"),
    [(OTP, True), (f"code {OTP}", True), ("735", True), ("73", False), ("512", False), ("", False)],
)
def test_field_with_a_secret_or_its_beginning_is_found(value: str, shown: bool) -> None:
    assert Mask((OTP,)).shows(value) is shown


def test_scrub_masks_the_texts_of_an_exception_and_of_its_causes() -> None:
    error, cause = LookupError(f"no field for {OTP}"), ValueError(f"could not type {OTP}", 7)
    error.__cause__ = cause

    Mask((OTP,)).scrub(error)

    assert (error.args, cause.args) == (("no field for [masked]",), ("could not type [masked]", 7))


# With a browser

Look = Callable[[BrowserSession], Awaitable[Any]]
Fail = Callable[..., Evidence]


@pytest.fixture
def fail(shared_host: BrowserHost) -> Fail:
    """Runs a flow that fails after `look`, with two secrets, and gives the evidence."""

    def run(look: Look, timeout: float = 30) -> Evidence:
        async def flow(session: BrowserSession) -> None:
            session.phase("open")
            await look(session)
            session.phase("choose")
            raise OutOfStock("The shop has no more of it.")

        spec = SessionSpec("alice", LOCAL, secrets=(SECRET, OTP))
        with pytest.raises((OutOfStock, SiteTimeout)) as failed:
            shared_host.run(flow, spec, timeout=timedelta(seconds=timeout))
        assert failed.value.evidence is not None
        return failed.value.evidence

    return run


def everything(evidence: Evidence) -> str:
    rows = [*evidence.console, *evidence.network]
    return evidence.dom + json.dumps(rows, ensure_ascii=False)


def colours(evidence: Evidence, box: dict[str, float]) -> set[tuple[int, ...]]:
    assert evidence.screenshot is not None
    picture = Image.open(io.BytesIO(evidence.screenshot)).convert("RGB")
    left, top = int(box["x"]) + 1, int(box["y"]) + 1
    right, bottom = int(box["x"] + box["width"]) - 1, int(box["y"] + box["height"]) - 1
    found = picture.crop((left, top, right, bottom)).getcolors(maxcolors=1_000_000)
    return {colour for _, colour in found}


@pytest.mark.browser
def test_screenshot_shows_the_page_and_hides_secrets(fail: Fail, site: LittleSite) -> None:
    site.pages["/inner"] = Page(f"<b id=inner>{OTP}</b>")
    site.pages["/"] = Page(
        "<h1 id=plain>Shop</h1><input id=user><input id=password type=password value=other>"
        f"<p><span id=text>Your code is {OTP}</span></p><input id=box maxlength=1 value=7>"
        "<textarea id=area></textarea><iframe src=/inner width=300 height=60></iframe>"
    )
    boxes: dict[str, dict[str, float]] = {}

    async def look(session: BrowserSession) -> None:
        page = session.page
        await session.goto(site.url(), wait_until="load")
        await page.fill("#user", OTP[:4])
        await page.fill("#area", SECRET)
        hidden = [f"#{name}" for name in ("user", "password", "text", "box", "area")]
        for selector in ("#plain", *hidden):
            boxes[selector] = await page.locator(selector).bounding_box()  # type: ignore[assignment]
        inner = page.frame_locator("iframe").locator("#inner")
        boxes["inner"] = await inner.bounding_box()  # type: ignore[assignment]

    evidence = fail(look)

    plain = colours(evidence, boxes.pop("#plain"))
    assert {(0, 0, 0), (255, 255, 255)} <= plain
    assert {name: colours(evidence, box) for name, box in boxes.items()} == {
        name: {MASK_COLOUR} for name in boxes
    }


@pytest.mark.browser
def test_dom_is_trimmed_and_masked(fail: Fail, site: LittleSite) -> None:
    site.pages["/inner"] = Page(f"<p>Enter {OTP}</p>")
    site.pages["/"] = Page(
        """<title>Shop</title><meta name=csrf-token content=meta1>
        <style>.x{color:red}</style><script>var inline = "script1"</script><!-- comment1 -->
        <form data-csrf=data1 action="/add?token=query1&id=7">
        <input type=hidden name=csrfmiddlewaretoken value=hidden1>
        <input type=hidden name=product value=42>
        <input type=hidden name=x value=0123456789abcdef0123>
        <input type=password value=password1><input autocomplete=one-time-code value=otp1>
        <img alt=Picture src="data:image/png;base64,picture1"></form>
        <p id=said></p><svg><path d=M0></path></svg><iframe src=/inner></iframe>"""
    )

    async def look(session: BrowserSession) -> None:
        await session.goto(site.url(), wait_until="load")
        await session.page.evaluate(
            "text => document.querySelector('#said').textContent = text", SECRET
        )

    dom = fail(look).dom

    secrets = ["meta1", "data1", "query1", "hidden1", "0123456789", "password1", "otp1", OTP]
    noise = ["script1", "comment1", "picture1", "color:red", "<path"]
    kept = ["<title>Shop", 'value="42"', "id=7", 'alt="Picture"', "Enter [masked]"]
    kept += [f"<!-- {site.url('/inner')} -->", '<p id="said">[masked]</p>']
    assert [text for text in [*secrets, "hunter2", *noise] if text in dom] == []
    assert [text for text in kept if text not in dom] == []


@pytest.mark.browser
def test_large_dom_is_cut_and_no_secret_survives_at_the_cut(fail: Fail, site: LittleSite) -> None:
    site.pages["/"] = Page("<pre></pre>")

    async def look(session: BrowserSession) -> None:
        await session.goto(site.url())
        await session.page.evaluate(
            "([text, times]) => document.querySelector('pre').textContent = text.repeat(times)",
            [OTP, MAX_DOM_CHARACTERS],
        )

    dom = fail(look).dom

    assert len(dom) <= MAX_DOM_CHARACTERS
    assert OTP[:3] not in dom.partition("-->")[2]  # after the address, which has a port


@pytest.mark.browser
def test_console_dialogs_and_requests_are_logged_without_secrets(
    fail: Fail, site: LittleSite
) -> None:
    site.pages["/missing"] = Page("no", 404)
    site.pages["/"] = Page(
        f"""<script>
        console.warn("price changed {OTP}");
        alert("Sold out");
        fetch("/missing?session_id=query1");
        fetch("http://tracker.test/t?x={OTP}").catch(() => 0);
        setTimeout(() => {{ throw new Error("broken {OTP}") }});
        </script>"""
    )

    async def look(session: BrowserSession) -> None:
        await session.goto(site.url(), wait_until="load")
        await session.page.wait_for_timeout(200)

    evidence = fail(look)

    lines = [(line["type"], line["text"]) for line in evidence.console]
    assert ("warning", "price changed [masked]") in lines
    assert ("dialog alert", "Sold out") in lines
    assert any(kind == "exception" and "broken [masked]" in text for kind, text in lines)
    requests = {(row["method"], row["url"]): row for row in evidence.network}
    assert requests["GET", site.url()]["status"] == 200
    assert requests["GET", site.url("/missing?session_id=[masked]")]["status"] == 404
    assert requests["GET", "http://tracker.test/t?x=[masked]"]["failure"]
    assert requests["CONNECT", "tracker.test:80"]["failure"] == (
        "refused: tracker.test is not on shop.localhost"
    )
    assert OTP not in everything(evidence)
    assert evidence.phase == "choose"


@pytest.mark.browser
def test_logs_keep_only_the_last_lines(fail: Fail, site: LittleSite) -> None:
    site.pages["/"] = Page()
    site.pages["/poll"] = Page()

    async def look(session: BrowserSession) -> None:
        await session.goto(site.url())
        await session.page.evaluate(
            """async times => {
              for (let i = 0; i <= times; i++) { console.log("line " + i); await fetch("/poll") }
            }""",
            MAX_NETWORK + 50,
        )

    evidence = fail(look)

    assert len(evidence.console) == MAX_CONSOLE
    assert evidence.console[-1]["text"] == f"line {MAX_NETWORK + 50}"
    assert len(evidence.network) == MAX_NETWORK


@pytest.mark.browser
def test_page_that_waits_for_its_site_is_still_seen(fail: Fail, site: LittleSite) -> None:
    hangs = threading.Event()
    site.pages["/"] = Page("<h1>Product</h1><a href=/cart>Cart</a>")
    site.pages["/cart"] = Page(wait=hangs)

    async def look(session: BrowserSession) -> None:
        await session.goto(site.url())
        await session.goto(site.url("/cart"))

    evidence = fail(look, timeout=1)
    hangs.set()

    assert "<h1>Product</h1>" in evidence.dom
    assert evidence.screenshot is not None
    assert evidence.phase == "open"
    assert evidence.network[-1]["url"] == site.url("/cart")


@pytest.mark.browser
def test_page_that_hangs_costs_evidence_four_seconds_at_most(fail: Fail, site: LittleSite) -> None:
    site.pages["/"] = Page("<script>setTimeout(() => { for (;;); }, 100)</script>")

    async def look(session: BrowserSession) -> None:
        await session.goto(site.url())
        await session.page.wait_for_selector("#never")

    began = time.monotonic()
    evidence = fail(look, timeout=1)

    assert time.monotonic() - began < 1 + 4 + 3.5
    assert (evidence.screenshot, evidence.dom) == (None, "")
    assert evidence.network[0]["url"] == site.url()

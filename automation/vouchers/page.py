"""The browser page as the flows see it: where am I, what does it say, fill this, press that.

`SitePage.look` answers "where am I?" for all frames at once; every wait is a wait for what it
answers. Whatever a flow waits for, a captcha, a block or a closed site ends it at once. What is
pressed once only goes through `press_once`, where the caller commits its intent.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Frame, Locator, Response
from playwright.async_api import TimeoutError as PlaywrightTimeout

from automation.errors import (
    AccountBlocked,
    AddressRefused,
    AutomationError,
    CaptchaSeen,
    OutcomeOpen,
    PageChanged,
    RateLimited,
    SiteError,
    SiteTimeout,
    SiteTrouble,
    UnderMaintenance,
)
from automation.session import BrowserSession
from automation.site import PLACEHOLDER, is_xpath
from automation.traffic import TOO_MANY_REQUESTS, Traffic, retry_after_of
from automation.vouchers.sites import VoucherSite
from automation.vouchers.states import BeforePress
from automation.waiting import settle_within

SCRIPT = (Path(__file__).parent / "page.js").read_text()

PART_PATIENCE = 10.0
"""Seconds until a part that the description names counts as missing."""

NOTHING_THERE = 2.0
"""Seconds of rest after which a page shows all that it will."""

NOTHING_SENT = 5.0
"""Seconds of rest after a press that made the page ask for nothing: it did not take it."""

ANSWER_PATIENCE = 30.0
"""Seconds for the answer to a press that may be repeated."""

GLANCE = 0.08
"""Seconds between two looks at a page that is waited for."""

FRAME_PATIENCE = 1.0
"""Seconds for a frame's answer: the page around it may have said already what is waited for."""

PRESS_PATIENCE_MS = 5_000

BANNER_PAUSE = 1.5
"""Seconds that a cookie banner may take to go away before it is pressed again."""

MAX_PAGES = 50
"""Of a list that goes on over pages: one that never ends is a page that leads to itself."""


@dataclass(frozen=True, slots=True)
class Part:
    """An element that can be seen: `place` is its number among its selector's matches in `frame`
    (and below its row, where it has one). `document` tells that frame's page from its next one."""

    frame: int
    document: float
    place: int
    text: str
    href: str | None
    moment: str | None
    """What a `<time>` says for machines."""
    disabled: bool


@dataclass(frozen=True, slots=True)
class Row:
    frame: int
    place: int
    text: str
    parts: Mapping[str, tuple[Part, ...]]

    def find(self, key: str) -> Part | None:
        return next(iter(self.parts.get(key, ())), None)


@dataclass(frozen=True, slots=True)
class Look:
    """What the page is and says at one moment."""

    document: float
    url: str
    complete: bool
    parts: Mapping[str, tuple[Part, ...]]
    rows: tuple[Row, ...] = ()

    def shows(self, *keys: str) -> bool:
        return any(key in self.parts for key in keys)

    def find(self, key: str) -> Part | None:
        return next(iter(self.parts.get(key, ())), None)

    def text(self, key: str) -> str:
        return " ".join(filter(None, (each.text for each in self.parts.get(key, ())))).strip()

    def shows_anew(self, key: str, earlier: "Look") -> bool:
        """Whether it came up since: what stood there before proves nothing."""
        before = {(each.document, each.text) for each in earlier.parts.get(key, ())}
        return any((each.document, each.text) not in before for each in self.parts.get(key, ()))


Ready = Callable[[Look], bool]


@contextmanager
def visit(session: BrowserSession, site: VoucherSite) -> Iterator["SitePage"]:
    """The page for one flow. What Playwright raises in it is translated, and a page that only
    looks changed because a server failed is explained by the server."""
    session.hide(site.secret_selectors)
    with Traffic(session.page, site.base) as traffic:
        page = SitePage(session, site, traffic)
        try:
            yield page
        except PlaywrightTimeout as error:
            raise SiteTimeout(f"{site.name} did not let itself be used in time.") from error
        except (PageChanged, SiteTimeout) as error:
            trouble = page.find_server_trouble()
            if trouble is None:
                raise
            raise trouble from error


class SitePage:
    def __init__(self, session: BrowserSession, site: VoucherSite, traffic: Traffic) -> None:
        self.session = session
        self.site = site
        self.traffic = traffic
        self.response: Response | None = None
        self._patterns = {
            key: re.compile(text, re.IGNORECASE)
            for key, text in site.texts.items()
            if not key.startswith(MEANINGS)
        }
        self._wants_text = any(key not in site.selectors for key in self._patterns)
        self._last: Look | None = None
        self._changed_at = time.monotonic()
        self._banner_tried_at = 0.0

    # ---- going and looking ----------------------------------------------------------------------

    async def open(self, url: str) -> None:
        """Goes to an address. An error page is not an error yet: see `explain_absence`."""
        self.traffic.mark()
        self._changed_at = time.monotonic()
        self.response = await self.session.goto(url)
        if self.response is not None and self.response.status == TOO_MANY_REQUESTS:
            raise self._rate_limited(self.response)

    @property
    def is_blank(self) -> bool:
        """Whether the browser stands on no page of the site, as a new one does."""
        return not self.site.contains(self.session.page.url)

    async def look(
        self, row: str | None = None, *, alarms: bool = True, deadline: float | None = None
    ) -> Look:
        """Where am I? With `row`, also the rows of a list with their parts.

        Raises SiteTimeout where the page does not answer, as while a form's answer is awaited.
        """
        deadline = deadline or time.monotonic() + PART_PATIENCE
        while True:
            try:
                answers = await self._ask_frames(row, deadline)
            except PlaywrightError:
                # The document went away under the question: the next one answers.
                if self.session.page.is_closed() or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(GLANCE)
                continue
            look = self._merge(answers, row)
            if self._last is None or _signature(look) != _signature(self._last):
                self._changed_at = time.monotonic()
            self._last = look
            if alarms:
                self._raise_alarms(look)
            if alarms and look.shows("cookie_accept"):
                await self._accept_cookies(look)
            return look

    async def until(
        self,
        ready: Ready,
        *,
        patience: float = PART_PATIENCE,
        row: str | None = None,
        alarms: bool = True,
    ) -> Look:
        """The first look that is ready, or the last one when patience ends: see which it is."""
        deadline = time.monotonic() + patience
        while True:
            look = await self.look(row, alarms=alarms, deadline=deadline)
            if ready(look) or time.monotonic() > deadline:
                return look
            await asyncio.sleep(GLANCE)

    def quiet(self, seconds: float) -> bool:
        """Whether neither the page nor the network stirred for some time."""
        still = min(time.monotonic() - self._changed_at, self.traffic.idle_seconds)
        return self._last is not None and self._last.complete and still >= seconds

    async def _ask_frames(self, row: str | None, deadline: float) -> list[dict[str, Any]]:
        """The answers of the main frame and of those below it that have a page of the site."""
        main = self.session.page.main_frame
        answers = [await self._ask(main, row, deadline)]
        for frame in self.session.page.frames:
            if frame is main or not self.site.contains(frame.url):
                continue
            soon = min(deadline, time.monotonic() + FRAME_PATIENCE)
            try:
                answers.append(await self._ask(frame, row, soon))
            except (PlaywrightError, SiteTimeout):
                if self.session.page.is_closed():
                    raise  # else the frame went away or is on its way: it shows nothing now
        return answers

    async def _ask(self, frame: Frame, row: str | None, deadline: float) -> dict[str, Any]:
        parts = _below(self.site, row) if row else {}
        question = {
            "selectors": {
                key: selector
                for key, selector in self.site.selectors.items()
                if PLACEHOLDER not in selector
            },
            "wants_text": self._wants_text,
            "row": self.site.selectors.get(row) if row else None,
            "parts": parts,
        }
        try:
            answer: dict[str, Any] = await settle_within(
                max(deadline - time.monotonic(), GLANCE), frame.evaluate(SCRIPT, question)
            )
        except TimeoutError as error:
            raise SiteTimeout(f"{self.site.name}'s page does not answer.") from error
        if answer["unreadable"]:
            selector = answer["unreadable"][0]
            key = next(key for key, each in self.site.selectors.items() if each == selector)
            raise self.page_changed(key, "The browser cannot read this selector: correct it")
        return answer | {"frame": frame}

    def _merge(self, answers: list[dict[str, Any]], row: str | None) -> Look:
        frames = self.session.page.frames
        parts: dict[str, tuple[Part, ...]] = {}
        rows: list[Row] = []
        for answer in answers:
            if answer["frame"] not in frames:
                continue
            number = frames.index(answer["frame"])
            where = (number, answer["document"])
            for key, found in self._read_parts(answer, where).items():
                parts[key] = (*parts.get(key, ()), *found)
            rows += [
                Row(number, each["place"], each["text"], self._read_parts(each, where, row))
                for each in answer["rows"] or ()
            ]
        return Look(
            document=answers[0]["document"],
            url=answers[0]["url"],
            complete=answers[0]["complete"],
            parts=parts,
            rows=tuple(rows),
        )

    def _read_parts(
        self, answer: Mapping[str, Any], where: tuple[int, float], row: str | None = None
    ) -> dict[str, tuple[Part, ...]]:
        """The parts that count: those whose text matches, and texts that no selector leads to."""
        parts: dict[str, tuple[Part, ...]] = {}
        for key, found in answer["parts"].items():
            read = (self._read_part(key, each, where) for each in found)
            if kept := tuple(each for each in read if each is not None):
                parts[key] = kept
        for key, pattern in self._patterns.items():
            if key in self.site.selectors or (row is None) is _is_of_row(key):
                continue
            if found := pattern.search(answer["text"]):
                parts[key] = (Part(*where, 0, _value(found), None, None, disabled=False),)
        return parts

    def _read_part(
        self, key: str, answer: Mapping[str, Any], where: tuple[int, float]
    ) -> Part | None:
        text = answer["text"]
        if pattern := self._patterns.get(key):
            found = pattern.search(text)
            if found is None:
                return None
            # A sign keeps its sentence; a group says which part of it is wanted.
            text = _value(found) if pattern.groups else text
        frame, document = where
        return Part(
            frame=frame,
            document=document,
            place=answer["place"],
            text=text,
            href=answer["href"],
            moment=answer["moment"],
            disabled=answer["disabled"],
        )

    # ---- trouble --------------------------------------------------------------------------------

    def _raise_alarms(self, look: Look) -> None:
        name = self.site.name
        if look.shows("captcha"):
            raise CaptchaSeen(
                f"{name} shows a captcha. It is not solved here: a person has to go on."
            )
        if look.shows("blocked"):
            said = look.text("blocked") or "it gives no reason"
            raise AccountBlocked(f"{name} has blocked this account: {said}")
        if look.shows("too_many_tries"):
            raise RateLimited(
                f"{name} says that this was tried too often: {look.text('too_many_tries')}. "
                "Leave the account alone for a while."
            )
        if look.shows("maintenance"):
            said = look.text("maintenance").rstrip(".")
            raise UnderMaintenance(f"{name} cannot be used now: {said}. Try again later.")
        if look.url.startswith("chrome-error:"):
            self.session.check_address()
            raise SiteError(f"{name} sent the browser to a page that does not open. Try again.")
        if look.url.startswith(("http:", "https:")) and not self.site.contains(look.url):
            raise AddressRefused(
                f"{name} sent the browser to another site ({_host(look.url)}). If that host "
                "belongs to it, add it to the allowed_domains of its description."
            )

    def find_server_trouble(self) -> SiteTrouble | None:
        """What the site's servers refused since the last press or opening."""
        response = self.traffic.find_refusal()
        if response is None:
            return None
        if response.status == TOO_MANY_REQUESTS:
            return self._rate_limited(response)
        return self._site_error(response)

    def _rate_limited(self, response: Response) -> RateLimited:
        seconds = retry_after_of(response)
        wait = f" for {seconds:.0f} seconds" if seconds is not None else ""
        return RateLimited(
            f"{self.site.name} answered 429 Too Many Requests: leave it alone{wait}.",
            retry_after_seconds=seconds,
        )

    def _site_error(self, response: Response) -> SiteError:
        return SiteError(f"{self.site.name} answered {response.status}. Try again later.")

    def explain_absence(self, key: str, where: str) -> SiteTrouble:
        """The error for a part that is not there: the server's own words come first."""
        if self.response is not None and self.response.status >= 400:
            return self._site_error(self.response)
        return self.page_changed(key, f"{where} of {self.site.name} does not show {key}")

    def page_changed(self, key: str, message: str) -> PageChanged:
        selector = self.site.selectors.get(key) or self.site.texts.get(key) or ""
        return PageChanged(message, key=key, selector=selector)

    # ---- acting ---------------------------------------------------------------------------------

    def locate(self, key: str, part: Part, row: Row | None = None, row_key: str = "") -> Locator:
        frame = self.session.page.frames[part.frame]
        selector = self.site.selectors[key]
        if row is None:
            return frame.locator(_engine(selector)).nth(part.place)
        anchor = frame.locator(_engine(self.site.selectors[row_key])).nth(row.place)
        return anchor.locator(_engine(selector)).nth(part.place)

    async def require(self, key: str, where: str, *, patience: float = PART_PATIENCE) -> Part:
        """The part, once it shows. Raises what `explain_absence` says if it never does."""
        look = await self.until(
            lambda now: now.shows(key) or self.quiet(NOTHING_THERE), patience=patience
        )
        part = look.find(key)
        if part is None:
            raise self.explain_absence(key, where)
        return part

    async def fill(self, key: str, value: str, where: str) -> None:
        part = await self.require(key, where)
        await self.locate(key, part).fill(value)

    async def fill_digits(self, key: str, value: str, where: str) -> None:
        """Fills a field whose script may write the digits in groups. Raises PageChanged where they
        do not arrive: the rest of them would be worse than none."""
        part = await self.require(key, where)
        target = self.locate(key, part)
        await target.fill(value)
        if _digits(await target.input_value()) == _digits(value):
            return
        await target.fill("")
        await target.press_sequentially(value)
        if _digits(await target.input_value()) != _digits(value):
            raise self.page_changed(key, f"{where} does not take what is typed into {key}")

    async def takes_at_most(self, key: str, characters: int) -> bool:
        part = await self.require(key, "The form")
        return await self.locate(key, part).get_attribute("maxlength") == str(characters)

    async def choose(self, key: str, accepts: Callable[[str], bool], value: str) -> bool:
        """Chooses what `accepts` takes among options or buttons, by value or text, and writes
        `value` into a plain field; False if nothing to be had is accepted."""
        await self.require(key, "The form")
        look = await self.look()
        for part in look.parts[key]:
            target = self.locate(key, part)
            control = await target.evaluate(CONTROL)
            if control["kind"] == "field":
                await target.fill(value)
                return True
            for place, option in enumerate(control["options"]):
                if option["disabled"] or not any(map(accepts, option["names"])):
                    continue
                if control["kind"] == "list":
                    await target.select_option(index=place)
                else:
                    await target.click(timeout=PRESS_PATIENCE_MS)
                return True
        return False

    async def press_value(self, key: str, value: str, where: str) -> None:
        """Presses the part whose selector names the value."""
        selector = self.site.selectors[key].replace(PLACEHOLDER, value)
        target = self.session.page.locator(_engine(selector)).first
        try:
            await target.click(timeout=PART_PATIENCE * 1000, no_wait_after=True)
        except PlaywrightTimeout as error:
            await self.look()
            raise self.page_changed(key, f"{where} has no {key} for {value}") from error

    async def read_list(self, row: str, empty: str, onward: str) -> AsyncGenerator[Look, None]:
        """A look at each page of a list, this one first."""
        for _ in range(MAX_PAGES):
            look = await self.until(
                lambda now: bool(now.rows) or now.shows(empty) or self.quiet(NOTHING_THERE),
                row=row,
            )
            if not look.rows and self.site.has(empty) and not look.shows(empty):
                raise self.explain_absence(row, "The list")
            yield look
            part = look.find(onward)
            if part is None or part.disabled:
                return
            await self._turn(look, onward, part, row)
        raise self.page_changed(onward, f"A list goes on for more than {MAX_PAGES} pages")

    async def _turn(self, look: Look, onward: str, part: Part, row: str) -> None:
        if part.href is not None and part.href.split("#")[0] != look.url.split("#")[0]:
            await self.open(part.href)
            return
        await self.locate(onward, part).click(timeout=PRESS_PATIENCE_MS, no_wait_after=True)
        turned = await self.until(lambda now: now.rows != look.rows, row=row)
        if turned.rows == look.rows:
            raise self.page_changed(onward, "The list does not go on when it is pressed")

    async def press(self, key: str, where: str) -> None:
        """Presses what may be pressed twice without harm."""
        part = await self.require(key, where)
        self.traffic.mark()
        try:
            await self.locate(key, part).click(timeout=PRESS_PATIENCE_MS, no_wait_after=True)
        except PlaywrightTimeout as error:
            await self.look()  # what is in the way may be a captcha
            raise self.page_changed(key, f"{key} cannot be pressed") from error
        self._changed_at = time.monotonic()

    async def press_once(self, target: Locator, key: str, before_press: BeforePress) -> None:
        """Presses what must not be pressed twice, once it could be pressed. Raises PageChanged
        before `before_press` if it cannot be, OutcomeOpen if it may have been."""
        try:
            await target.click(trial=True, timeout=PRESS_PATIENCE_MS)
        except PlaywrightTimeout as error:
            await self.look()
            raise self.page_changed(key, f"{key} cannot be pressed") from error
        await before_press()
        self.traffic.mark()
        self._changed_at = time.monotonic()
        try:
            await target.click(timeout=PRESS_PATIENCE_MS, no_wait_after=True)
        except PlaywrightTimeout as error:
            raise OutcomeOpen(
                f"{self.site.name} did not say whether {key} was pressed. {LOOK_FIRST}"
            ) from error
        except PlaywrightError:
            if self.session.page.is_closed():
                raise  # else the page went away under the press: what comes now tells

    async def await_outcome(
        self, ready: Ready, *, patience: float, meanwhile: Ready | None = None
    ) -> Look:
        """The look that answers a press which cannot be taken back; one that shows `meanwhile`
        will do when patience ends. Raises OutcomeOpen, whatever else came: only an answer that
        says so means that nothing happened."""

        def is_over(now: Look) -> bool:
            if ready(now) or (meanwhile and meanwhile(now)):
                return ready(now)
            if not self.traffic.sent:
                return self.quiet(NOTHING_SENT)
            is_refused = self.traffic.find_refusal(acts_only=True) is not None
            return is_refused and not self.traffic.awaited and self.quiet(NOTHING_THERE)

        try:
            look = await self.until(is_over, patience=patience)
        except AutomationError as error:
            raise OutcomeOpen(f"The answer is missing. {error} {LOOK_FIRST}") from error
        if not ready(look) and not (meanwhile and meanwhile(look)):
            trouble = self.find_server_trouble()
            why = str(trouble) if trouble else f"{self.site.name} gave no answer in time."
            raise OutcomeOpen(f"{why} {LOOK_FIRST}")
        return look

    async def _accept_cookies(self, look: Look) -> None:
        """Presses the banner away. It may slide in and out slowly, so it is tried now and then."""
        if time.monotonic() - self._banner_tried_at < BANNER_PAUSE:
            return
        self._banner_tried_at = time.monotonic()
        part = look.find("cookie_accept")
        assert part is not None
        try:
            await self.locate("cookie_accept", part).click(timeout=1_000, no_wait_after=True)
        except PlaywrightError:
            if self.session.page.is_closed():
                raise


MEANINGS = "status_"
"""Begins the texts that say what another part's text means: they are looked for nowhere."""

# What a part can be set to. A button or box is one option, under all the names that it goes by.
CONTROL = """(element) => {
  const squeeze = (text) => (text ?? "").replace(/\\s+/g, " ").trim();
  if (element.matches("select")) {
    const option = (each) => ({ names: [squeeze(each.text), each.value], disabled: each.disabled });
    return { kind: "list", options: Array.from(element.options, option) };
  }
  const isBox = element.matches("[type=radio], [type=checkbox], [type=button], [type=submit]");
  if (element.matches("input, textarea") && !isBox) return { kind: "field", options: [] };
  const labels = Array.from(element.labels ?? [], (each) => squeeze(each.innerText));
  const names = [squeeze(element.innerText), element.value ?? "", ...labels];
  const disabled = element.matches(":disabled");
  return { kind: "button", options: [{ names: names.filter(Boolean), disabled }] };
}"""

LOOK_FIRST = "Whether it happened has to be looked up before anything is tried again."

ROWS = {
    "stock_row": ("stock_amount", "stock_count", "stock_sold_out"),
    "order_row": (
        "order_number",
        "order_reference",
        "order_amount",
        "order_status",
        "order_link",
        "order_expires",
        "order_details",
        "voucher_reveal",
        "voucher_code",
        "voucher_pin",
        "voucher_amount",
        "voucher_expires",
    ),
    "history_row": ("history_code", "history_amount", "history_at"),
}
"""Which parts belong to a row of a list."""

ROW_PARTS = frozenset(part for parts in ROWS.values() for part in parts)


def _below(site: VoucherSite, row: str) -> dict[str, str]:
    return {key: site.selectors[key] for key in ROWS[row] if key in site.selectors}


def _is_of_row(key: str) -> bool:
    return key in ROW_PARTS


def _value(found: re.Match[str]) -> str:
    groups = [each for each in found.groups() if each is not None]
    return (groups[0] if groups else found.group()).strip()


def _engine(selector: str) -> str:
    return f"xpath={selector}" if is_xpath(selector) else selector


def _digits(text: str) -> str:
    return "".join(filter(str.isdecimal, text))


def _host(url: str) -> str:
    return url.split("/")[2] if url.count("/") >= 2 else url


def _signature(look: Look) -> object:
    return look.document, look.url, look.parts, look.rows

"""The browser page as the flow sees it: where am I, what does it say, and press this.

`ShopPage.look` answers "where am I?" in one round trip; every wait is a wait for what it answers.
Whatever the flow is waiting for, a captcha or a block ends it at once and a cookie banner is
accepted. The pages of a shop (log-in, product, cart) are built on this, each in its own module.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Locator, Page, Response
from playwright.async_api import TimeoutError as PlaywrightTimeout

from automation.errors import (
    AccountBlocked,
    AddressRefused,
    CaptchaSeen,
    PageChanged,
    SiteError,
    SiteTimeout,
    SiteTrouble,
)
from automation.shop.state import PageState
from automation.site import SELECTOR_KEYS, Site, is_xpath
from automation.traffic import TOO_MANY_REQUESTS, Traffic, rate_limited
from automation.waiting import settle_within

SCRIPT = (Path(__file__).parent / "page.js").read_text()

# The script is sent and read once a document; questions and replies are text, which costs
# Playwright least.
ASK = '(question) => window[Symbol.for("cartwright")]?.(question)'
INSTALL = f"""([fixed, question]) => {{
  const answer = {SCRIPT.rstrip()};
  const ask = async (text) =>
    JSON.stringify(await answer({{ ...JSON.parse(fixed), ...JSON.parse(text) }}));
  Object.defineProperty(window, Symbol.for("cartwright"), {{ value: ask, configurable: true }});
  return ask(question);
}}"""

INDICATORS = (
    "captcha_indicator",
    "blocked_indicator",
    "cookie_accept",
    "logged_in_indicator",
    "login_error",
    "cart_confirmation",
    "cart_error",
    "out_of_stock_indicator",
    "cart_empty_indicator",
)

PART_PATIENCE = 10.0
"""Seconds until a part that the vendor data names counts as missing."""

NOTHING_THERE = 2.0
"""Seconds of rest after which a part that does not show is missing."""

WAKING_PATIENCE = 4.0
"""Seconds after which a page counts as awake though parts of it are still loading."""

PRESS_PATIENCE_MS = 3_000
"""One try to press something; a toast in the way is gone after about 2 s."""

AIM_PATIENCE = 3.0
"""Seconds for a part that moves to hold still."""

PRESSED_WITHIN = 3.0
"""Seconds for the page to take note of a press."""

GLANCE = 0.2
"""Seconds after which a wait looks up from the page to see what the network does."""

RETRY_PAUSE = 0.02
"""Seconds between two tries to ask a document that is just being replaced."""

MARK = """(elements, attribute) => {
  document.querySelectorAll(`[${attribute}]`).forEach((each) => each.removeAttribute(attribute));
  elements.forEach((each) => each.setAttribute(attribute, ""));
}"""

BANNER_PATIENCE_MS = 1_000

BANNER_PAUSE = 1.5
"""Seconds that a cookie banner may take to go away before it is pressed again."""


class Session(Protocol):
    """What the flow needs of `automation.session.BrowserSession`."""

    @property
    def page(self) -> Page: ...

    def phase(self, name: str) -> None: ...

    async def goto(self, url: str) -> Response | None: ...


class ShopPage:
    def __init__(self, session: Session, site: Site, traffic: Traffic) -> None:
        self.session = session
        self.site = site
        self.traffic = traffic
        self.response: Response | None = None
        self._marks: dict[str, str] = {}
        self._selectors: dict[str, Any] = {
            key: getattr(site.selectors, key)
            for key in (*SELECTOR_KEYS, "logged_in_indicator_is_hidden")
        }
        self._changed_at = time.monotonic()
        self._complete = False
        self._opened_at = 0.0
        self._banner_tried_at = 0.0

    @property
    def _page(self) -> Page:
        return self.session.page

    # ---- going and looking ----------------------------------------------------------------------

    async def open(self, url: str) -> None:
        """Goes to an address of the site. Raises AddressRefused, RateLimited or what `goto` does.

        An error page is not an error yet: some shops answer 404 or 500 with the page that is
        wanted. `explain_absence` judges by the status once something is missing.
        """
        self.traffic.mark()
        try:
            self.response = await self.session.goto(url)
        except SiteError:
            # A script of the page before may have sent the browser elsewhere in the same moment.
            if not self.site.contains(await self._address()):
                raise
            self.response = await self.session.goto(url)
        if self.response is None:
            # Only the fragment changed, so the page shows what it remembers, not what is so.
            self.response = await self._page.reload(wait_until="domcontentloaded")
        self._opened_at = time.monotonic()
        if self.response is not None and self.response.status == TOO_MANY_REQUESTS:
            await self.look()
            raise rate_limited(self.response)

    async def _address(self) -> str:
        try:
            return str(await self._page.evaluate("location.href"))
        except PlaywrightError:
            return self._page.url  # it is on its way to somewhere else again

    async def look(
        self, *wants: str, product: Mapping[str, Sequence[str]] | None = None
    ) -> PageState:
        """Where am I? With `wants`, also what a "login", "product" or "cart" page has."""
        return (await self._look(wants, product, None, time.monotonic() + PART_PATIENCE))[0]

    async def until(
        self,
        ready: Callable[[PageState], bool],
        *wants: str,
        patience: float = PART_PATIENCE,
        product: Mapping[str, Sequence[str]] | None = None,
        since: PageState | None = None,
    ) -> PageState:
        """The first state that is ready, or the last one when patience ends: look which it is.

        A page whose next document is awaited does not answer; then `since` is the last one known.
        """
        deadline = time.monotonic() + patience
        state, signature = since, None
        while True:
            try:
                state, signature = await self._look(wants, product, signature, deadline)
            except SiteTimeout:
                if state is None:
                    raise
                return state
            if ready(state) or time.monotonic() > deadline:
                return state

    async def _look(
        self,
        wants: Sequence[str],
        product: Mapping[str, Sequence[str]] | None,
        last: str | None,
        deadline: float,
    ) -> tuple[PageState, str]:
        reply = await self._ask(
            "look",
            last=last,
            patience=GLANCE if last else 0.0,
            deadline=deadline,
            wants=wants,
            product=product or {"names": [], "links": []},
        )
        state = PageState.from_answer(reply["answer"])
        self._raise_alarms(state)
        if state.says("cookie_accept") and await self._accept_cookies():
            # Pressing took its time: look again.
            return await self._look(wants, product, None, deadline)
        return state, reply["signature"]

    def quiet(self, seconds: float) -> bool:
        """Whether the page is complete and neither it nor the network stirred for some time.

        Asked while waiting: a wait begins with a stir.
        """
        still = min(time.monotonic() - self._changed_at, self.traffic.idle_seconds)
        return self._complete and still >= seconds

    @property
    def is_awake(self) -> bool:
        """Whether the page's scripts have come: before that its buttons may do nothing.

        A tracker that never answers must not hold up the shop, so this becomes true with time.
        """
        return self._complete or time.monotonic() - self._opened_at > WAKING_PATIENCE

    def _raise_alarms(self, state: PageState) -> None:
        if state.says("captcha_indicator"):
            raise CaptchaSeen(
                f"{self.site.name} shows a captcha. It is not solved here: a person has to go on."
            )
        if state.says("blocked_indicator"):
            said = state.text("blocked_indicator")
            raise AccountBlocked(
                f"{self.site.name} has blocked this account: {said or 'no reason given'}."
            )
        if state.url.startswith(("http:", "https:")) and not self.site.contains(state.url):
            raise AddressRefused(
                f"{self.site.name} sent the browser to another site ({state.url[:200]}). If that "
                "host belongs to the vendor, add it to the vendor's allowed domains."
            )

    async def _accept_cookies(self) -> bool:
        """Presses the banner away; tells whether it was tried. It may slide in and out slowly."""
        if time.monotonic() - self._banner_tried_at < BANNER_PAUSE:
            return False
        try:
            button = self.locate(self._selectors["cookie_accept"]).filter(visible=True).first
            await button.click(timeout=BANNER_PATIENCE_MS, no_wait_after=True)
        except PlaywrightError:
            if self._page.is_closed():
                raise
        self._banner_tried_at = time.monotonic()
        return True

    def explain_absence(self, key: str, where: str) -> SiteTrouble:
        """The error for a part that is not there: the server's own words come first."""
        status = self.response.status if self.response else 200
        if status >= 400:
            return SiteError(f"{self.site.name} answered {status} for {where}.")
        return self.page_changed(key, f"{where} of {self.site.name} does not show {key}")

    def page_changed(self, key: str, message: str) -> PageChanged:
        return PageChanged(message, key=key, selector=str(self._selectors[key]))

    # ---- parts ----------------------------------------------------------------------------------

    def locate(self, selector: str) -> Locator:
        return self._page.locator(f"xpath={selector}" if is_xpath(selector) else selector)

    def part(self, key: str, place: int) -> Locator:
        """A part of the page by the place that the page gave for it."""
        return self.locate(self._selectors[key]).nth(place)

    async def press(self, key: str, place: int, selector: str | None = None) -> None:
        """Presses what may be pressed twice without harm. The vendor data has it under `key`."""
        selector = selector or str(self._selectors[key])
        target = self.locate(selector).nth(place)
        deadline = time.monotonic() + PART_PATIENCE
        while True:
            try:
                await target.click(timeout=PRESS_PATIENCE_MS, no_wait_after=True)
            except PlaywrightTimeout as error:
                await self.look()  # what is in the way may be the cookie banner
                if time.monotonic() > deadline:
                    raise PageChanged(
                        f"{key} cannot be pressed", key=key, selector=selector
                    ) from error
            else:
                return

    async def press_once(self, key: str, place: int) -> bool:
        """Presses what must not be pressed twice; False if it could not be, and was not.

        True says that the mouse was pressed, not what it hit: a part that slipped away in the last
        moment counts as a miss in the next state of the page, and nothing else was pressed.
        """
        aim = await self._ask("aim", key=key, place=place, patience=AIM_PATIENCE)
        point = aim["answer"]["point"]
        if point is None:
            return False
        # A page too busy to take note of the mouse may still do so later.
        with suppress(TimeoutError):
            await settle_within(PRESSED_WITHIN, self._page.mouse.click(point["x"], point["y"]))
        return True

    # ---- the script in the page -----------------------------------------------------------------

    async def ask(self, question: str, **details: Any) -> Any:
        """One question to page.js, answered at once."""
        return (await self._ask(question, **details))["answer"]

    async def ask_until(
        self, question: str, ready: Callable[[Any], bool], *, patience: float, **details: Any
    ) -> Any:
        """The first answer that is ready, or the last one when patience ends."""
        deadline = time.monotonic() + patience
        reply = await self._ask(question, **details)
        while not ready(reply["answer"]) and time.monotonic() < deadline:
            glance = min(GLANCE, deadline - time.monotonic())
            reply = await self._ask(question, last=reply["signature"], patience=glance, **details)
        return reply["answer"]

    async def _ask(
        self,
        question: str,
        *,
        last: str | None = None,
        patience: float = 0.0,
        deadline: float | None = None,
        **details: Any,
    ) -> dict[str, Any]:
        """The page's reply: at once, or within `patience` once it is not `last` any more.

        Raises SiteTimeout at the deadline. While a form's answer is awaited Chromium holds back
        every question to the page until the next document is there.
        """
        deadline = deadline or time.monotonic() + PART_PATIENCE
        while True:
            call = self._evaluate(ask=question, last=last, patience_ms=patience * 1000, **details)
            try:
                reply = await settle_within(max(deadline - time.monotonic(), GLANCE), call)
            except TimeoutError as error:
                raise SiteTimeout(f"{self.site.name}'s page does not answer.") from error
            except PlaywrightError:
                # The document went away under the question: the next one answers.
                if self._page.is_closed() or time.monotonic() > deadline:
                    raise
                last = None
                await asyncio.sleep(RETRY_PAUSE)
                continue
            unknown = set(reply["foreign"]) - self._marks.keys()
            if not unknown:
                self._complete = reply["complete"]
                if reply["signature"] != last:
                    self._changed_at = time.monotonic()
                return reply
            for selector in unknown:
                await self._learn(selector)

    async def _evaluate(self, **question: Any) -> dict[str, Any]:
        for selector, attribute in self._marks.items():
            await self.locate(selector).evaluate_all(MARK, attribute)
        text = json.dumps({**question, "marks": self._marks})
        reply = await self._page.evaluate(ASK, text)
        if reply is None:  # another document than the last one
            fixed = json.dumps({"selectors": self._selectors, "indicators": INDICATORS})
            reply = await self._page.evaluate(INSTALL, [fixed, text])
        answered: dict[str, Any] = json.loads(reply)
        return answered | {"answer": json.loads(answered["signature"])}

    async def _learn(self, selector: str) -> None:
        """Has a selector marked from now on that only Playwright can read (`:has-text()`)."""
        attribute = f"data-cartwright-{len(self._marks)}"
        for chance in range(3):
            try:
                await self.locate(selector).evaluate_all(MARK, attribute)
            except PlaywrightError as error:
                if self._page.is_closed():
                    raise
                if chance == 2:
                    raise PageChanged(
                        "The browser cannot read this selector: correct it",
                        key=self._key_of(selector),
                        selector=selector,
                    ) from error
                await asyncio.sleep(RETRY_PAUSE)  # the document may just have gone away
            else:
                self._marks[selector] = attribute
                return

    def _key_of(self, selector: str) -> str:
        known = (key for key in SELECTOR_KEYS if self._selectors[key] == selector)
        return next(known, "variants")

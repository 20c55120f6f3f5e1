"""Tries a vendor's data on its live shop and says, part by part, what fits and what does not.

Nothing is added to a cart here: the add button is aimed at and never pressed. A check goes on after
a part that failed wherever the rest can still be looked at, so that one run names every selector
that wants correcting.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import TimeoutError as PlaywrightTimeout

from automation.errors import (
    AccountBlocked,
    AutomationError,
    BrowserDied,
    CaptchaSeen,
    OptionUnavailable,
    OutOfStock,
    PageChanged,
    RateLimited,
    SessionLost,
    StepStopped,
)
from automation.session import BrowserSession
from automation.shop.addresses import same_path
from automation.shop.cart import CartPage, Lines
from automation.shop.lines import describe_cart
from automation.shop.login import Login
from automation.shop.page import NOTHING_THERE, ShopPage
from automation.shop.product import ProductPage
from automation.shop.request import CartRequest, Credentials
from automation.shop.state import PageState
from automation.site import PLACEHOLDER, Site
from automation.traffic import Traffic

BANNER_SHOWS_MS = 3_000
"""A cookie banner that has not come by then is not shown to this visitor."""

BANNER_GOES = 5.0
"""Seconds for the banner to go away once its button is pressed."""

ROW_PARTS = ("cart_row_name", "cart_quantity")

MOST_PICTURES = 8  # a shop that does not fit at all needs no picture of every part

STEPS: Mapping[str, str] = {
    "vendor_data": "Reading the vendor data",
    "open": "Opening the shop",
    "cookie_banner": "Looking for the cookie banner",
    "login_form": "Looking for the log-in form",
    "login": "Trying the log-in",
    "logged_in_indicator": "Looking for the sign of being logged in",
    "product_page": "Looking at the product page",
    "price": "Looking for the price",
    "quantity": "Looking for the quantity",
    "variant": "Looking for the options",
    "add_button": "Looking for the add button",
    "cart_page": "Looking at the cart page",
    "cart_rows": "Looking for the cart's rows",
}
"""The steps of a check in their order, and what each is called while it is made."""

# Nothing has a selector for it and nothing depends on it, so it is looked for where shops write it.
READ_PRICE = """() => {
  const marked = document.querySelector(
    '[itemprop="price"], meta[property$="price:amount"]'
  );
  const value = marked?.getAttribute("content") || marked?.textContent?.trim();
  if (value) return value.slice(0, 40);
  const shown = document.body.innerText.match(
    /(?:[£€$₹]|GBP|EUR|USD|INR)\\s?\\d[\\d.,]*|\\d[\\d.,]*\\s?(?:€|EUR)/
  );
  return shown ? shown[0] : null;
}"""


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    DOUBTFUL = "doubtful"
    """It could not be seen this time: its message says what would have to be different."""
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one part of a check. `key` and `selector` name the vendor data it is about."""

    step: str
    outcome: Outcome
    message: str
    key: str | None = None
    selector: str | None = None
    screenshot: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """`is_signed_in`: a log-in was made and the shop shows it. `cart`: None if it was not read."""

    findings: tuple[Finding, ...]
    is_signed_in: bool
    cart: Lines | None


async def check_site(
    session: BrowserSession,
    site: Site,
    credentials: Credentials | None,
    product: CartRequest | None,
) -> CheckReport:
    """Looks at the shop as a stranger, as the account, at the product's page and at the cart.

    Adds nothing. Give it a session without a saved log-in. What the shop does not do as its data
    says is a finding; raised is only what ends the session itself.
    """
    with Traffic(session.page, site) as traffic:
        check = _Check(session, ShopPage(session, site, traffic), credentials, product)
        await check.run()
        return CheckReport(
            tuple(check.findings), check.is_signed_in and not check.is_doubted, check.cart
        )


async def log_in(session: BrowserSession, site: Site, credentials: Credentials) -> None:
    """Logs in and sees that the shop's front page shows it. Give it a session without a saved
    log-in. Raises the errors of `automation.errors`."""
    with Traffic(session.page, site) as traffic:
        page = ShopPage(session, site, traffic)

        async def open_front() -> PageState:
            await page.open(_front_page(site))
            return await page.look()

        await Login(page, credentials).open(open_front)


def _front_page(site: Site) -> str:
    parts = urlsplit(site.cart_url or site.login_url or f"https://{site.domain}/")
    return f"{parts.scheme}://{parts.netloc}/"


class _Ended(Exception):
    """The part that is checked ends here; why is noted already."""


class _Check:
    def __init__(
        self,
        session: BrowserSession,
        page: ShopPage,
        credentials: Credentials | None,
        product: CartRequest | None,
    ) -> None:
        self._session = session
        self._page = page
        self._site = page.site
        self._own = page.site.selectors
        self._credentials = credentials
        self._product = product
        self._step = "vendor_data"
        self._pictures = 0
        self.findings: list[Finding] = []
        self.is_signed_in = False
        self.is_doubted = False  # signed in by all that is known, but nothing shows it
        self.cart: Lines | None = None

    async def run(self) -> None:
        self._read_vendor_data()
        parts = (self._enter, self._log_in, self._look_at_product, self._look_at_cart)
        for part in parts:
            try:
                await part()
            except _Ended:
                continue
            except (StepStopped, BrowserDied):
                raise
            except (CaptchaSeen, AccountBlocked, RateLimited) as error:
                await self._note_alarm(error)
                break
            except AutomationError as error:
                await self._note_error(error)
            except PlaywrightTimeout:
                await self._fail(f"{self._site.name} did not let itself be used in time.")
        reached = {each.step for each in self.findings}
        for step in STEPS:
            if step not in reached:
                self._note(step, Outcome.SKIPPED, "Not reached: an earlier part failed.")
        order = list(STEPS)
        self.findings.sort(key=lambda each: order.index(each.step))

    # ---- noting -------------------------------------------------------------------------------

    def _begin(self, step: str) -> None:
        self._step = step
        self._session.phase(STEPS[step])

    def _note(
        self,
        step: str,
        outcome: Outcome,
        message: str,
        key: str | None = None,
        selector: str | None = None,
        screenshot: bytes | None = None,
    ) -> None:
        self.findings.append(Finding(step, outcome, message, key, selector, screenshot))

    def _pass(self, message: str, key: str | None = None) -> None:
        self._note(self._step, Outcome.PASSED, message, key, self._selector_of(key))

    def _skip(self, message: str, *steps: str) -> None:
        for step in steps or (self._step,):
            self._note(step, Outcome.SKIPPED, message)

    async def _fail(self, message: str, key: str | None = None, step: str | None = None) -> None:
        await self._picture(step or self._step, Outcome.FAILED, message, key)

    async def _doubt(self, message: str, key: str | None = None) -> None:
        await self._picture(self._step, Outcome.DOUBTFUL, message, key)

    async def _picture(self, step: str, outcome: Outcome, message: str, key: str | None) -> None:
        screenshot = None
        if self._pictures < MOST_PICTURES:
            self._pictures += 1
            screenshot = (await self._session.gather_evidence()).screenshot
        self._note(step, outcome, message, key, self._selector_of(key), screenshot)

    def _selector_of(self, key: str | None) -> str | None:
        selector = getattr(self._own, key, None) if key else None
        return selector if isinstance(selector, str) else None

    async def _note_error(self, error: AutomationError) -> None:
        if isinstance(error, OutOfStock | OptionUnavailable):
            # The product's own fault, not that of the vendor data: nothing is known of that.
            await self._doubt(f"{error} Check with another product, or name its variant.")
            return
        await self._fail(str(error), error.key if isinstance(error, PageChanged) else None)

    async def _note_alarm(self, error: AutomationError) -> None:
        """What ends the whole visit."""
        keys: dict[type[AutomationError], str] = {
            CaptchaSeen: "captcha_indicator",
            AccountBlocked: "blocked_indicator",
        }
        key = keys.get(type(error))
        hint = f" If that is not so, correct {key} in the vendor data." if key else ""
        await self._fail(f"{error}{hint}", key)

    # ---- the shop as a stranger sees it ---------------------------------------------------------

    def _read_vendor_data(self) -> None:
        self._begin("vendor_data")
        if lacking := self._site.missing_for_automation():
            self._note("vendor_data", Outcome.FAILED, lacking)
        else:
            self._pass("All that automation needs is there.")

    async def _enter(self) -> None:
        self._begin("open")
        site = self._site
        logs_in = site.login_required and site.login_url
        url = (logs_in and site.login_url) or site.cart_url or _front_page(site)
        await self._page.open(url)
        await self._check_status("login_url" if logs_in else "cart_url")
        self._pass(f"{url} answered.")
        self._begin("cookie_banner")
        await self._look_for_banner()

    async def _check_status(self, key: str) -> None:
        response = self._page.response
        if response is not None and response.status >= 400:
            await self._fail(f"{response.url} answered {response.status}: correct {key}.", key)
            raise _Ended

    async def _look_for_banner(self) -> None:
        selector = self._own.cookie_accept
        if selector is None:
            self._skip("The vendor data names no cookie_accept.")
            return
        button = self._page.locate(selector).filter(visible=True).first
        try:
            await button.wait_for(timeout=BANNER_SHOWS_MS)
        except PlaywrightTimeout:
            await self._doubt(
                "No cookie banner showed. Not every visitor is asked; if this one is, correct "
                "cookie_accept.",
                "cookie_accept",
            )
            return
        except PlaywrightError:
            if self._session.page.is_closed():
                raise
            await self._fail("The browser cannot read this selector: correct it.", "cookie_accept")
            return
        state = await self._page.until(
            lambda now: not now.says("cookie_accept"), patience=BANNER_GOES
        )
        if state.says("cookie_accept"):
            await self._fail("It was pressed and the banner stayed.", "cookie_accept")
        else:
            self._pass("The banner was there and went away.", "cookie_accept")

    # ---- logging in -----------------------------------------------------------------------------

    async def _log_in(self) -> None:
        steps = ("login_form", "login", "logged_in_indicator")
        if not self._site.login_required:
            self.is_signed_in = self.is_doubted = True
            self._skip("The vendor needs no log-in.", *steps)
            return
        if not self._site.login_url:
            self._skip("The vendor data has no login_url.", *steps)
            return
        await self._look_for_form()
        if self._credentials is None:
            self._skip("No account was given.", "login", "logged_in_indicator")
            return
        await self._try_log_in(self._credentials)

    async def _look_for_form(self) -> None:
        self._begin("login_form")
        page = self._page
        state = await page.until(
            lambda now: (
                (now.login is not None and now.login.email is not None and page.is_awake)
                or page.quiet(NOTHING_THERE)
            ),
            "login",
        )
        if state.says("logged_in_indicator"):
            await self._fail(
                "It shows before anybody has logged in: take what only a signed-in page has.",
                "logged_in_indicator",
                step="logged_in_indicator",
            )
            raise _Ended
        form = state.login
        if form is None or form.email is None:
            raise page.explain_absence("email_input", "The log-in page")
        if form.button is None and self._own.login_button is not None:
            await self._fail("The log-in page does not show it.", "login_button")
        elif form.password is None:
            self._pass("It asks for the e-mail first and for the password on a next page.")
        else:
            self._pass("E-mail, password and button are there.")

    async def _try_log_in(self, credentials: Credentials) -> None:
        self._begin("login")
        login = Login(self._page, credentials)
        try:
            await login.open(self._open_front)
        except SessionLost as error:
            self._pass("The form was sent and not refused.")
            self.is_signed_in = self.is_doubted = True
            self._begin("logged_in_indicator")
            await self._fail(str(error), "logged_in_indicator")
            return
        if not login.was_made:
            self._skip("It was not tried.")
            self._begin("logged_in_indicator")
            await self._fail(
                "It shows before anybody has logged in: take what only a signed-in page has.",
                "logged_in_indicator",
            )
            return
        self.is_signed_in = True
        self._pass(f"{credentials.email} is logged in.")
        self._begin("logged_in_indicator")
        if self._own.logged_in_indicator is None:
            self.is_doubted = True
            await self._doubt("The vendor data names none: a lost session would not be noticed.")
        else:
            self._pass("It shows after the log-in and not before.", "logged_in_indicator")

    async def _open_front(self) -> PageState:
        """Where the sign must show: items are added on the product's page."""
        url = self._product.product_url if self._product else _front_page(self._site)
        await self._page.open(url)
        return await self._page.look()

    # ---- the product's page ---------------------------------------------------------------------

    async def _look_at_product(self) -> None:
        if self._product is None:
            steps = ("product_page", "price", "quantity", "variant", "add_button")
            self._skip("No product page was given.", *steps)
            return
        self._begin("product_page")
        product = ProductPage(self._page, self._product)
        state = await product.open()
        response = self._page.response
        if response is not None and response.status >= 400:
            await self._fail(f"It answered {response.status}: give a product that is sold now.")
            raise _Ended
        titles = state.product.titles if state.product else ()
        self._pass(titles[0] if titles else "It opened, but it has no heading.")
        self._begin("price")
        await self._look_for_price()
        self._begin("quantity")
        await self._look_for("quantity_input", "The product page does not show it.")
        self._begin("variant")
        if self._product.variant is None:
            await self._look_for_options()
        else:
            await product.recognise(state)
            await product.prepare(1)
            self._pass("The variant that was asked for could be chosen.", "variants")
        self._begin("add_button")
        if self._product.variant is None:
            await product.recognise(state)
        await product.aim()
        self._pass("It can be pressed; it was not.", "add_to_cart")

    async def _look_for_price(self) -> None:
        price = await self._session.page.evaluate(READ_PRICE)
        if price is None:
            await self._doubt("No price could be read. Nothing depends on it.")
        else:
            self._pass(str(price))

    async def _look_for(self, key: str, absence: str) -> None:
        if self._selector_of(key) is None:
            self._skip(f"The vendor data names no {key}.")
        elif await self._count(key):
            self._pass("It is there.", key)
        else:
            await self._fail(absence, key)

    async def _look_for_options(self) -> None:
        controls = self._own.variants
        if not controls:
            self._skip("The vendor data names no variants.")
            return
        # A control whose selector has a value in it is found only with a variant to choose.
        plain = {name: each for name, each in controls.items() if PLACEHOLDER not in each.selector}
        found = [name for name, each in plain.items() if await self._is_there(each.selector)]
        if found:
            self._pass(f"Found: {', '.join(found)}.", "variants")
        else:
            await self._doubt(
                f"Of {', '.join(controls)} none shows on this product. Name a variant to have it "
                "chosen.",
                "variants",
            )

    async def _is_there(self, selector: str) -> bool:
        return await self._page.locate(selector).count() > 0

    async def _count(self, key: str) -> int:
        selector = self._selector_of(key)
        if selector is None:
            return 0
        return await self._page.locate(selector).filter(visible=True).count()

    # ---- the cart -------------------------------------------------------------------------------

    async def _look_at_cart(self) -> None:
        if not self.is_signed_in:
            self._skip("The log-in did not work.", "cart_page", "cart_rows")
            return
        if not self._site.cart_url:
            self._skip("The vendor data has no cart_url.", "cart_page", "cart_rows")
            return
        self._begin("cart_page")
        cart = CartPage(self._page)
        state = await cart.open()
        await self._check_status("cart_url")
        if not same_path(state.url, self._site.cart_url):
            await self._fail(f"The shop sends the browser to {state.url[:200]}.", "cart_url")
            return
        self._pass("It opened.", "cart_url")
        self._begin("cart_rows")
        try:
            lines = await cart.read()
        except PageChanged as error:
            await self._explain_unread_cart(error)
            return
        self.cart = lines
        if lines:
            await self._look_into_rows(lines)
        else:
            await self._explain_no_rows()

    async def _explain_unread_cart(self, error: PageChanged) -> None:
        if error.key != "cart_row":
            raise error
        if key := await self._find_wrong_row_part():
            await self._fail("The cart has rows, but this fits no part of them.", key)
            return
        await self._fail(
            "The cart page shows neither a row nor that it is empty: correct cart_row, or "
            f"cart_empty_indicator ({self._own.cart_empty_indicator!r}) if the cart is empty.",
            "cart_row",
        )

    async def _explain_no_rows(self) -> None:
        says_so = self._own.cart_empty_indicator is not None
        if not says_so and (key := await self._find_wrong_row_part()):
            await self._fail("The cart has rows, but this fits no part of them.", key)
            return
        await self._doubt(
            "The cart is empty, so the selectors of its rows could not be tried. Put something in "
            "by hand and check again.",
            "cart_row",
        )

    async def _find_wrong_row_part(self) -> str | None:
        """Where rows show and are not read as lines: the key that is no part of them."""
        if not await self._count("cart_row"):
            return None
        for key in ROW_PARTS:
            if self._selector_of(key) and not await self._count_rows_with(key):
                return key
        return None

    async def _count_rows_with(self, key: str) -> int:
        part = self._page.locate(self._selector_of(key) or "")
        if self._own.cart_row is None:
            return await part.filter(visible=True).count()
        rows = self._page.locate(self._own.cart_row).filter(visible=True)
        return await rows.filter(has=part).count()

    async def _look_into_rows(self, lines: Lines) -> None:
        wrong = False
        for key in ROW_PARTS:
            if self._selector_of(key) and await self._count_rows_with(key) < len(lines):
                wrong = True
                await self._fail("A row of the cart does not show it.", key)
        if not wrong:
            self._pass(describe_cart(lines), "cart_row")
        if self._own.cart_update and not await self._count("cart_update"):
            await self._doubt("It does not show; it may come with a change.", "cart_update")


def as_data(report: CheckReport) -> dict[str, Any]:
    """The report as JSON can hold it, without its pictures."""
    failed = [each for each in report.findings if each.outcome is Outcome.FAILED]
    return {
        "passed": not failed,
        "failed_keys": list(dict.fromkeys(each.key for each in failed if each.key)),
        "findings": [
            {
                "step": each.step,
                "outcome": each.outcome.value,
                "message": each.message,
                "key": each.key,
                "selector": each.selector,
            }
            for each in report.findings
        ],
    }

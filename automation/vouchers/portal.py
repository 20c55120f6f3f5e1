"""The flows at the portal: what it has, signing in, a payment link, and what became of orders.

Nothing here costs money. A link that is made twice is avoided by the reference that the order page
shows, so every flow may be run again.
"""

import re
from collections.abc import Collection, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from urllib.parse import quote

from automation.errors import (
    LimitExceeded,
    OutOfInventory,
    SiteError,
    SiteTimeout,
)
from automation.session import BrowserSession
from automation.site import PLACEHOLDER
from automation.vouchers.page import (
    ANSWER_PATIENCE,
    NOTHING_THERE,
    Look,
    Part,
    Row,
    SitePage,
    visit,
)
from automation.vouchers.reading import (
    decide_status,
    parse_count,
    parse_date,
    parse_moment,
    parse_rupees,
)
from automation.vouchers.sign_in import SignIn, open_signed_in
from automation.vouchers.sites import PortalSite
from automation.vouchers.states import (
    CodeAsked,
    CodeRefused,
    Inventory,
    Login,
    Order,
    OrderStatus,
    PaymentLink,
    SignedIn,
    Voucher,
)

PROGRESS: tuple[OrderStatus, ...] = ("unpaid", "processing", "paid", "issued")
VOUCHER_PARTS = ("voucher_code", "voucher_pin", "voucher_amount", "voucher_expires")


async def read_inventory(session: BrowserSession, site: PortalSite, amount: int) -> Inventory:
    """How many vouchers of the amount there are, as anybody can see it without signing in."""
    with visit(session, site) as page:
        session.phase(f"Reading the inventory of {site.name}")
        await page.open(site.urls["inventory"])
        return await _read_stock(page, amount)


async def sign_in(
    session: BrowserSession, site: PortalSite, login: Login, *, resend: bool = False
) -> SignedIn | CodeAsked:
    """Signs in as far as it goes without a code.

    Types nothing where the site knows us already. A page that still waits for a code is left
    alone, unless `resend` asks for another one (or the page takes none of the old request).
    Raises WrongCredentials, AccountBlocked, CaptchaSeen, RateLimited.
    """
    with visit(session, site) as page:
        return await SignIn(page, login).run(resend=resend)


async def give_code(
    session: BrowserSession, site: PortalSite, login: Login, code: str
) -> SignedIn | CodeRefused:
    """Types the code into the page that waits for it. Raises SessionLost where no page does any
    more: sign in again."""
    with visit(session, site) as page:
        return await SignIn(page, login).give_code(code)


async def read_availability(session: BrowserSession, site: PortalSite, amount: int) -> Inventory:
    """The same as the inventory, for the account. Raises SessionLost where it is not signed in."""
    with visit(session, site) as page:
        session.phase(f"Reading what {site.name} has for the account")
        await open_signed_in(page, site.urls.get("availability") or site.urls["inventory"])
        return await _read_stock(page, amount)


async def create_link(
    session: BrowserSession, site: PortalSite, amount: int, reference: str
) -> PaymentLink:
    """A link by which one voucher of the amount can be paid; the one of an earlier call with the
    same reference, as long as that can still be used or was.

    Raises LimitExceeded, OutOfInventory, SessionLost.
    """
    with visit(session, site) as page:
        orders = OrderPages(page)
        if site.has("order_reference"):
            session.phase("Looking for an earlier payment link")
            if made := find_alive(await orders.read({reference}), reference):
                return _link_of(page, made)
        session.phase("Making a payment link")
        await _fill_order(page, amount, reference)
        look = await _send_order(page)
        return await _read_link(page, look, reference)


async def read_orders(
    session: BrowserSession, site: PortalSite, *, wanted: Collection[str] = ()
) -> tuple[Order, ...]:
    """The account's orders as the order page lists them, all of its pages.

    With `wanted` (order numbers or references) only those, as soon as all of them were seen; one
    that is missing then does not exist.
    Raises SessionLost where the account is not signed in.
    """
    with visit(session, site) as page:
        session.phase(f"Reading the orders at {site.name}")
        return await OrderPages(page).read(wanted)


# ---- the stock ----------------------------------------------------------------------------------


async def _read_stock(page: SitePage, amount: int) -> Inventory:
    look = await page.until(
        lambda now: bool(now.rows) or page.quiet(NOTHING_THERE), row="stock_row"
    )
    if not look.rows:
        raise page.explain_absence("stock_row", "The list of amounts")
    amounts = [_amount_in(row, "stock_amount") for row in look.rows]
    if not any(amounts):
        raise page.page_changed("stock_amount", "No row of the stock shows an amount in rupees")
    for row, found in zip(look.rows, amounts, strict=True):
        if found == amount:
            return _stock_of(row)
    return Inventory(0)


def _stock_of(row: Row) -> Inventory:
    if row.find("stock_sold_out"):
        return Inventory(0)
    part = row.find("stock_count")
    return Inventory(parse_count(part.text) if part else None)


def _amount_in(row: Row, key: str) -> int | None:
    part = row.find(key)
    return parse_rupees(part.text) if part else None


# ---- the payment link ---------------------------------------------------------------------------


def find_alive(orders: Collection[Order], reference: str) -> Order | None:
    """The order of ours that was not in vain; should there be several, the one that came furthest,
    for that is the one that may have been paid."""
    own = [each for each in orders if each.reference == reference and each.status in PROGRESS]
    return max(own, key=lambda each: PROGRESS.index(each.status), default=None)


def _link_of(page: SitePage, order: Order) -> PaymentLink:
    if not order.link and order.status == "unpaid":
        raise page.page_changed("order_link", f"The unpaid order {order.order} shows no link")
    return PaymentLink(order.link or "", order.order, order.expires_at)


async def _fill_order(page: SitePage, amount: int, reference: str) -> None:
    await open_signed_in(page, page.site.urls["buy"].replace(PLACEHOLDER, str(amount)))
    await _choose_amount(page, amount)
    look = await page.look()
    if look.shows("quantity_input"):
        await page.choose("quantity_input", lambda text: parse_count(text) == 1, "1")
    if page.site.has("reference_input"):
        await page.fill("reference_input", reference, "The order form")


async def _choose_amount(page: SitePage, amount: int) -> None:
    if PLACEHOLDER in page.site.urls["buy"] and not (await page.look()).shows("amount_input"):
        return  # the address has chosen it
    if PLACEHOLDER in page.site.selectors["amount_input"]:
        await page.press_value("amount_input", str(amount), "The order form")
        return

    def is_amount(text: str) -> bool:
        # An option may go on: "₹1,500 - 12 left".
        return parse_rupees(re.split(r"\s+[-–—(|:]", text)[0]) == amount

    if not await page.choose("amount_input", is_amount, str(amount)):
        raise OutOfInventory(f"{page.site.name} does not sell vouchers of ₹{amount:,} now.")


async def _send_order(page: SitePage) -> Look:
    before = await page.look()
    await page.press("buy_button", "The order form")
    refusals = ("limit_exceeded", "out_of_inventory", "buy_error")

    def answered(now: Look) -> bool:
        return (
            now.shows_anew("link_url", before)
            or any(now.shows_anew(key, before) for key in refusals)
            or (has_no_link(now) and page.quiet(NOTHING_THERE))
            or (page.traffic.find_refusal(acts_only=True) is not None and page.quiet(NOTHING_THERE))
        )

    def has_no_link(now: Look) -> bool:
        return now.document != before.document and now.shows("buy_button", "link_order")

    look = await page.until(answered, patience=ANSWER_PATIENCE)
    name, said = page.site.name, look.text("buy_error")
    if look.shows_anew("link_url", before):
        return look
    if look.shows_anew("limit_exceeded", before):
        raise LimitExceeded(f"{name} makes no link: {look.text('limit_exceeded') or said}")
    if look.shows_anew("out_of_inventory", before):
        raise OutOfInventory(f"{name} makes no link: {look.text('out_of_inventory') or said}")
    if look.shows_anew("buy_error", before):
        raise SiteError(f"{name} made no link: {said}")
    if has_no_link(look):
        raise SiteError(f"{name} shows no payment link for the order. Try again later.")
    raise page.find_server_trouble() or SiteTimeout(
        f"{name} did not answer the order in time. The next attempt looks for it first."
    )


async def _read_link(page: SitePage, look: Look, reference: str) -> PaymentLink:
    part, number = look.find("link_url"), look.text("link_order")
    assert part is not None
    url = part.href or part.text
    if not url.startswith(("http://", "https://")):
        raise page.page_changed("link_url", "The payment link is no web address")
    if not number:
        made = find_alive(await OrderPages(page).read({reference}), reference)
        if made is None:
            raise page.page_changed("link_order", "The new payment link has no order number")
        number = made.order
    return PaymentLink(url, number, _moment_of(page, look.find("link_expires")))


def _moment_of(page: SitePage, part: Part | None) -> datetime | None:
    if part is None:
        return None
    return parse_moment(part.moment or part.text, page.site.moment_formats, page.site.zone)


# ---- orders -------------------------------------------------------------------------------------


class OrderPages:
    """The order list, page by page."""

    def __init__(self, page: SitePage) -> None:
        self._page = page
        self._found: dict[str, Order] = {}
        self._details: dict[str, str] = {}
        """The pages that show the vouchers of orders whose rows do not."""

    async def read(self, wanted: Collection[str] = ()) -> tuple[Order, ...]:
        urls = self._page.site.urls
        search = urls.get("find_orders")
        if wanted and search:
            for name in wanted:
                await self._read_list(search.replace(PLACEHOLDER, quote(name, safe="")), {name})
        else:
            await self._read_list(urls["orders"], wanted)
        for number, url in self._details.items():
            await self._read_details(number, url)
        return tuple(self._found.values())

    async def _read_list(self, url: str, wanted: Collection[str]) -> None:
        page = self._page
        await open_signed_in(page, url)
        missing = set(wanted)
        async with aclosing(page.read_list("order_row", "orders_empty", "orders_next")) as looks:
            async for look in looks:
                for row in look.rows:
                    names = {_text_in(row, "order_number"), _text_in(row, "order_reference")}
                    if wanted and not names & set(wanted):
                        continue
                    order = await self._read_row(row)
                    self._found[order.order] = order
                    missing -= names
                if wanted and not missing:
                    return

    async def _read_row(self, row: Row) -> Order:
        page = self._page
        number = _text_in(row, "order_number")
        amount = _amount_in(row, "order_amount")
        if not number:
            raise page.page_changed("order_number", "An order of the list shows no number")
        if amount is None:
            raise page.page_changed("order_amount", f"The order {number} shows no plain amount")
        status = self._read_status(number, row)
        link = row.find("order_link")
        voucher = await self._read_voucher(number, row, amount) if status == "issued" else None
        return Order(
            order=number,
            reference=_text_in(row, "order_reference"),
            amount=amount,
            status=status,
            voucher=voucher,
            link=(link.href or link.text) if link else None,
            expires_at=_moment_of(page, row.find("order_expires")),
        )

    def _read_status(self, number: str, row: Row) -> OrderStatus:
        words = _text_in(row, "order_status")
        status = decide_status(words, self._page.site.texts)
        if status is None:
            raise self._page.page_changed(
                "order_status",
                f"The order {number} has a status that no status_… text of the description knows",
            )
        return status

    # ---- vouchers -------------------------------------------------------------------------------

    async def _read_voucher(self, number: str, row: Row, amount: int) -> Voucher | None:
        page = self._page
        if not row.find("voucher_code") and row.find("voucher_reveal"):
            row = await self._reveal(row)
        if row.find("voucher_code"):
            parts = {key: row.find(key) for key in VOUCHER_PARTS}
            return _voucher_of(page, parts, amount)
        details = row.find("order_details")
        if details is not None and details.href:
            self._details[number] = details.href
            return None
        raise page.page_changed("voucher_code", f"The order {number} is issued without a voucher")

    async def _reveal(self, row: Row) -> Row:
        page = self._page
        button = row.find("voucher_reveal")
        assert button is not None
        target = page.locate("voucher_reveal", button, row, "order_row")
        await target.click(no_wait_after=True)

        def same(look: Look) -> Row:
            return next((each for each in look.rows if each.place == row.place), row)

        look = await page.until(
            lambda now: same(now).find("voucher_code") is not None, row="order_row"
        )
        return same(look)

    async def _read_details(self, number: str, url: str) -> None:
        page, order = self._page, self._found[number]
        await page.open(url)
        look = await page.until(lambda now: now.shows("voucher_code", "voucher_reveal"))
        if look.shows("voucher_reveal") and not look.shows("voucher_code"):
            await page.press("voucher_reveal", f"The order {number}")
            look = await page.until(lambda now: now.shows("voucher_code"))
        if not look.shows("voucher_code"):
            raise page.explain_absence("voucher_code", f"The order {number}")
        parts = {key: look.find(key) for key in VOUCHER_PARTS}
        voucher = _voucher_of(page, parts, order.amount)
        self._found[number] = replace(order, voucher=voucher)


def _voucher_of(page: SitePage, parts: Mapping[str, Part | None], amount: int) -> Voucher:
    """The voucher as shown; its amount is the order's where it shows none."""

    def text(key: str) -> str:
        part = parts.get(key)
        return part.text if part else ""

    if parts.get("voucher_amount"):
        shown = parse_rupees(text("voucher_amount"))
        if shown is None:
            raise page.page_changed("voucher_amount", "A voucher shows no plain amount")
        amount = shown
    expires = parts.get("voucher_expires")
    return Voucher(
        code=text("voucher_code"),
        pin=text("voucher_pin"),
        amount=amount,
        expires=parse_date(expires.moment or expires.text, page.site.date_formats)
        if expires
        else None,
    )


def _text_in(row: Row, key: str) -> str:
    part = row.find(key)
    return part.text if part else ""

"""The cart page: what it holds, and setting the quantity of one of its lines.

The cart is the truth: an add is done when this page says so. A page is read when it has come to
rest, or as soon as it says what is hoped for, whichever is first.
"""

from collections.abc import Callable

from automation.errors import CartMismatch, QuantityRefused, SessionLost, SiteTrouble
from automation.shop.addresses import same_path
from automation.shop.lines import describe_cart
from automation.shop.page import ShopPage
from automation.shop.product import Answer
from automation.shop.quantities import parse_quantity, quantity_in_row
from automation.shop.request import CartLine
from automation.shop.state import CartRow, PageState

Lines = tuple[CartLine, ...]

ROWS_REST = 0.25
"""Seconds of rest after which the rows that show are the rows there are."""

EMPTY_REST = 0.5
"""The same for an empty cart: many carts say "empty" first and fill afterwards."""

HOPE_REST = 1.5
"""The same where the cart does not say what is hoped for."""

UPDATE_REST = 0.7
"""Seconds of rest after which a changed quantity has been sent, or never will be."""


class CartPage:
    def __init__(self, page: ShopPage) -> None:
        self._page = page
        self._own = page.site.selectors
        self.state: PageState | None = None
        self.lines: Lines = ()
        """What the cart held when it was last read."""

    async def open(self) -> PageState:
        await self.go()
        return await self._page.look("cart")

    async def go(self) -> None:
        """To the cart page, without a look at it: `read` takes that."""
        self._page.session.phase("Opening the cart")
        await self._page.open(self._page.site.cart_url or "")

    async def read(self, hope: Callable[[Lines], bool] | None = None) -> Lines:
        """The cart's lines, on the cart page: at once if they are as hoped, else when at rest."""
        state = await self._page.until(lambda now: self._is_read(now, hope), "cart")
        lines = read_lines(state)
        if lines is None:
            raise self._page.page_changed("cart_quantity", "A cart row shows no whole number")
        if not lines and not self._is_plainly_empty(state):
            raise self._explain_nothing(state)
        self.state, self.lines = state, lines
        return lines

    def _is_read(self, now: PageState, hope: Callable[[Lines], bool] | None) -> bool:
        lines = read_lines(now)
        if lines is None:
            return False
        if hope is not None:
            return hope(lines) or self._page.quiet(HOPE_REST)
        return self._page.quiet(ROWS_REST if lines else EMPTY_REST)

    def _is_plainly_empty(self, state: PageState) -> bool:
        """An error page has no rows either."""
        if self._own.cart_empty_indicator is not None:
            return state.says("cart_empty_indicator")
        return self._page.response is None or self._page.response.ok

    def _explain_nothing(self, state: PageState) -> SiteTrouble:
        if not self._is_here(state) and not state.says("logged_in_indicator"):
            return SessionLost(f"The shop sends us from the cart to {state.url}, as a stranger.")
        return self._page.explain_absence("cart_row", "The cart page")

    async def can_set(self, line: CartLine) -> bool:
        return (await self._find_row(line))[1].editable

    async def set_quantity(self, line: CartLine, quantity: int) -> Answer:
        """Writes a line's quantity, sends it and hears what the shop says to it."""
        page = self._page
        page.session.phase(f"Setting the quantity in the cart to {quantity}")
        place, row = await self._find_row(line)
        before = await page.look()
        page.traffic.mark()
        answer = await self._page.ask("setRowQuantity", row=place, name=row.name, quantity=quantity)
        if not answer["found"] or not answer["set"]:
            raise QuantityRefused(
                f"The cart does not take {quantity} x {line.name}: {answer.get('says') or ''} "
                f"It holds {line.quantity} of it."
            )
        await self._send(place)

        def is_answered(now: PageState) -> bool:
            is_new_page = now.document != before.document
            return (is_new_page and now.parsed) or page.quiet(UPDATE_REST)

        state = await page.until(is_answered)
        return Answer(
            given=True,
            refusal=state.text_anew("cart_error", before),
            # A script's cart shows what was typed; a new page shows what the shop has kept.
            at_cart=state.document != before.document and self._is_here(state),
        )

    def _is_here(self, state: PageState) -> bool:
        return same_path(state.url, self._page.site.cart_url or "")

    async def _send(self, row: int) -> None:
        if self._own.cart_update is not None:
            button = await self._page.ask_until(
                "updateButton", lambda now: now["place"] is not None, patience=2.0, row=row
            )
            if button["place"] is not None:
                await self._page.press("cart_update", button["place"])
                return
        await self._page.until(lambda _: self._page.traffic.sent or self._page.quiet(UPDATE_REST))
        if not self._page.traffic.sent:
            await self._page.ask("focusRow", row=row)
            await self._page.session.page.keyboard.press("Enter")

    async def _find_row(self, line: CartLine) -> tuple[int, CartRow]:
        state = await self._page.look("cart")
        lines = read_lines(state) or ()
        if line not in lines or state.rows is None:
            raise CartMismatch(f"The cart changed while it was read. {describe_cart(lines)}")
        place = lines.index(line)
        return place, state.rows[place]


def read_lines(state: PageState) -> Lines | None:
    """The lines of a cart page; None while a row does not show its quantity."""
    lines = []
    for row in state.rows or ():
        quantity = (
            quantity_in_row(row.text, row.name)
            if row.quantity is None
            else parse_quantity(row.quantity)
        )
        if quantity is None:
            return None
        lines.append(CartLine(row.name, quantity, row.links, row.text))
    return tuple(lines)

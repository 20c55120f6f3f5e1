"""The product page: which product it is, its quantity, and the press that puts it in the cart.

The press is the one act here that must not be made twice. What the shop says to it is kept as a
hint (`Answer`): whether it worked is read from the cart.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from automation.errors import (
    AutomationError,
    OptionUnavailable,
    OutOfStock,
    ProductNotFound,
    QuantityRefused,
    RateLimited,
    SiteTrouble,
)
from automation.shop.addresses import is_front_page, same_path
from automation.shop.options import Options
from automation.shop.page import NOTHING_THERE, PART_PATIENCE, ShopPage
from automation.shop.quantities import parse_quantity
from automation.shop.request import CartRequest, Product
from automation.shop.state import AddButton, PageState

NOTICE_STAYS = 0.5
"""Seconds of rest after which a notice such as "sold out" is meant, not on its way out."""

POPUP_AFTER = 2.5
"""Seconds until something that covers the button is no toast but a pop-up that wants closing."""

ANSWER_PATIENCE = 10.0
"""Seconds for the shop's answer; then the cart is read, whatever the answer may yet be."""

OPTIMISM = 3.0
"""Seconds by which a page may speak before its shop's server has answered."""

CONFIRMATION_GRACE = 2.0
"""Seconds of rest in which a confirmation may still come after the shop's server has answered."""

ANSWER_REST = 0.4
"""The same where the vendor data names no confirmation, or a new page has been shown."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the shop said to the press. Until it is `given`, the press may yet take effect."""

    given: bool = False
    confirmed: bool = False
    refusal: str | None = None
    sold_out: str | None = None
    at_cart: bool = False
    trouble: SiteTrouble | None = None

    @property
    def has_spoken(self) -> bool:
        return self.confirmed or self.refusal is not None or self.sold_out is not None


class ProductPage:
    def __init__(self, page: ShopPage, request: CartRequest) -> None:
        self._page = page
        self._own = page.site.selectors
        self._request = request
        self._options = Options(page, request.variant)
        self._links = [request.product_url]
        self._titles: list[str] = []
        self._url = request.product_url

    @property
    def product(self) -> Product:
        """What is known of the product so far; complete once the options are chosen."""
        return Product(
            links=tuple(dict.fromkeys(self._links)),
            names=tuple(dict.fromkeys(self._names)),
            values=tuple(self._options.values),
            other_values=tuple(dict.fromkeys(self._options.other_values)),
        )

    @property
    def _names(self) -> list[str]:
        asked = self._request.product_name
        return [asked, *self._titles] if asked else self._titles

    # ---- opening --------------------------------------------------------------------------------

    async def open(self) -> PageState:
        """Opens the page and waits until the product can be bought, or its options chosen."""
        self._page.session.phase("Opening the product")
        await self._page.open(self._request.product_url)
        return await self._until(self._is_open)

    async def recognise(self, state: PageState) -> None:
        """Takes note of which product this is. Raises what plainly keeps it from being bought."""
        if state.product is None:
            state = await self._until(self._is_open)
        self._check_whereabouts(state)
        if self._button(state) is None and not self._options.are_asked:
            raise self._explain_no_button(state)
        self._note(state)

    def _is_open(self, now: PageState) -> bool:
        if self._button(now) is not None or (self._options.are_asked and now.parsed):
            return self._page.is_awake
        rest = NOTICE_STAYS if now.says("out_of_stock_indicator") else NOTHING_THERE
        return self._page.quiet(rest)

    def _check_whereabouts(self, state: PageState) -> None:
        """A product that is no longer sold often sends people to where there are others."""
        asked = self._request.product_url
        if is_front_page(state.url) and not is_front_page(asked):
            raise ProductNotFound(f"The shop sends {asked} to its front page: it is not sold now.")
        button = self._button(state)
        if button is not None and button.is_guess and not same_path(asked, state.url):
            raise ProductNotFound(
                f"The shop sends {asked} to a page of several products ({state.url}), and none of "
                "them is plainly the one: correct product_url."
            )

    def _note(self, state: PageState) -> None:
        """Keeps the names and addresses that the page gives the product."""
        assert state.product is not None
        self._url = state.url
        self._titles = [title for title in state.product.titles if title != self._page.site.name]
        self._links += [
            link for link in (state.url, *state.product.links) if not is_front_page(link)
        ]

    async def _until(
        self, ready: Callable[[PageState], bool], patience: float = PART_PATIENCE
    ) -> PageState:
        wanted = {"names": self._names, "links": self._links}
        return await self._page.until(ready, "product", patience=patience, product=wanted)

    @staticmethod
    def _button(state: PageState) -> AddButton | None:
        return state.product.button if state.product else None

    # ---- choosing -------------------------------------------------------------------------------

    async def prepare(self, quantity: int) -> int:
        """Chooses the options and the quantity; tells how many pieces a press will add."""
        if self._options.are_asked:
            await self._options.choose(quantity)
            state = await self._until(lambda now: now.parsed)
            if not same_path(state.url, self._url):
                self._links = []  # the variant has a page of its own, the asked one is another's
            self._note(state)
        if self._options.places_quantity:
            return quantity
        if self._own.quantity_input is None:
            return 1
        return await self._set_quantity(quantity)

    async def _set_quantity(self, quantity: int) -> int:
        answer = await self._ask_quantity(quantity)
        if not answer["found"]:
            return 1
        if answer["set"]:
            return quantity
        if "options" in answer:
            return await self._set_largest(quantity, answer["options"])
        raise QuantityRefused(
            f"The shop does not take {quantity} pieces of this product: "
            f"{answer['says'] or 'its field says ' + repr(answer['holds'])}. Nothing was added."
        )

    async def _set_largest(self, quantity: int, options: list[str]) -> int:
        """A list that ends too early: as many as it has, and the rest with another press."""
        offered = [number for number in map(parse_quantity, options) if number]
        fitting = [number for number in offered if number <= quantity]
        if not fitting:
            raise QuantityRefused(
                f"The shop does not offer {quantity} pieces of this product, only "
                f"{', '.join(map(str, offered))}. Nothing was added."
            )
        await self._ask_quantity(max(fitting))
        return max(fitting)

    async def _ask_quantity(self, quantity: int) -> dict[str, Any]:
        answer: dict[str, Any] = await self._page.ask(
            "setQuantity", selector=self._own.quantity_input, quantity=quantity
        )
        return answer

    # ---- pressing -------------------------------------------------------------------------------

    async def aim(self) -> PageState:
        """The page when the button can be pressed. Raises why it cannot be."""
        state = await self._until(self._is_decided, POPUP_AFTER)
        if self._covered_by(state):
            await self._page.session.page.keyboard.press("Escape")
        if not self._is_decided(state):
            state = await self._until(self._is_decided)
        button = self._button(state)
        if button is None:
            raise self._explain_no_button(state)
        if state.says("out_of_stock_indicator"):
            raise self._sold_out(state)
        if button.disabled:
            raise self._explain_disabled()
        if button.covered_by:
            raise self._page.page_changed(
                "add_to_cart", f"add_to_cart is covered by {button.covered_by}"
            )
        return state

    def _is_decided(self, now: PageState) -> bool:
        if now.says("out_of_stock_indicator"):
            return self._page.quiet(NOTICE_STAYS)
        button = self._button(now)
        if button is None or button.disabled:
            return self._page.quiet(NOTHING_THERE)
        return button.covered_by is None

    def _covered_by(self, state: PageState) -> str | None:
        button = self._button(state)
        return button.covered_by if button else None

    async def press(self, aimed: PageState) -> Answer:
        """Presses the button once and hears what the shop says to it."""
        self._page.session.phase("Adding to the cart")
        self._page.traffic.mark()
        for _ in range(3):
            button = self._button(aimed)
            assert button is not None
            if await self._page.press_once("add_to_cart", button.place):
                answer = await self._hear(aimed)
                if answer is not None:
                    return answer
            aimed = await self.aim()
        raise self._page.page_changed("add_to_cart", "add_to_cart cannot be pressed")

    async def _hear(self, before: PageState) -> Answer | None:
        """The shop's answer; None if the button slipped away from under the mouse."""
        heard = Answer()
        spoke_at: float | None = None
        was_missed = False

        def hear(now: PageState) -> bool:
            nonlocal heard, spoke_at, was_missed
            was_missed = now.misses_more_than(before)
            if was_missed:
                return True
            heard = self._listen(heard, now, before)
            if spoke_at is None and heard.has_spoken:
                spoke_at = time.monotonic()
            if spoke_at is not None and time.monotonic() - spoke_at > OPTIMISM:
                heard = replace(heard, given=True)  # what is still awaited is a chat or a ticker
            return heard.given

        await self._page.until(hear, "product", patience=ANSWER_PATIENCE, since=before)
        if was_missed:
            return None
        if isinstance(heard.trouble, RateLimited):
            raise heard.trouble
        return heard

    def _listen(self, heard: Answer, now: PageState, before: PageState) -> Answer:
        """What has been said by now. A message may be gone again at the next look."""
        is_new_page = now.document != before.document
        at_cart = is_new_page and now.parsed and same_path(now.url, self._page.site.cart_url or "")
        heard = replace(
            heard,
            at_cart=at_cart,
            confirmed=heard.confirmed or at_cart or now.says_anew("cart_confirmation", before),
            refusal=heard.refusal or now.text_anew("cart_error", before),
            sold_out=heard.sold_out or now.text_anew("out_of_stock_indicator", before),
            trouble=self._page.traffic.refusal(acts_only=True),
        )
        # A toast may come before the server has answered: leaving now would call the add back.
        over = (
            isinstance(heard.trouble, RateLimited)
            or at_cart
            or (heard.has_spoken and not self._page.traffic.awaited)
            or self._is_silent(now, is_new_page=is_new_page)
        )
        return replace(heard, given=bool(over))

    def _is_silent(self, now: PageState, *, is_new_page: bool) -> bool:
        """Whether the shop has answered and nothing more is to be expected of the page."""
        hopes = self._own.cart_confirmation is not None and not is_new_page
        rest = CONFIRMATION_GRACE if hopes else ANSWER_REST
        if not self._page.traffic.sent:
            rest = CONFIRMATION_GRACE  # nothing was asked: perhaps the page has not woken up
        return not self._page.traffic.awaited and self._page.quiet(rest)

    # ---- explaining -----------------------------------------------------------------------------

    def _explain_no_button(self, state: PageState) -> AutomationError:
        if state.says("out_of_stock_indicator"):
            return self._sold_out(state)
        status = self._page.response.status if self._page.response else 200
        if status in {404, 410}:
            return ProductNotFound(
                f"{self._page.site.name} has no page {self._request.product_url} ({status})."
            )
        return self._page.explain_absence("add_to_cart", "The product page")

    def _explain_disabled(self) -> AutomationError:
        if self._own.variants and not self._options.are_asked:
            return OptionUnavailable(
                "The add button stays off: the product wants a choice of "
                f"{', '.join(self._own.variants)}. Name it as the request's variant."
            )
        if self._own.out_of_stock_indicator is None:
            return OutOfStock("The product is out of stock: its add button stays off.")
        return self._page.page_changed("add_to_cart", "add_to_cart stays disabled")

    def _sold_out(self, state: PageState) -> OutOfStock:
        said = state.text("out_of_stock_indicator")
        return OutOfStock(f"The product is out of stock: {said or 'the shop says so'}.")

"""Adds a product to an account's cart on any shop that vendor data describes, and verifies it.

The one promise: done means that the shop's cart page holds what was asked for on top of what it
held before, and no attempt adds what an earlier one has added. So the cart is read before the
first press (or was, moments ago), the intent is committed, and the cart is read again, whatever
the shop said.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from playwright.async_api import TimeoutError as PlaywrightTimeout

from automation.errors import (
    AutomationError,
    BusinessError,
    CartMismatch,
    CartUnclear,
    OptionUnavailable,
    OutOfStock,
    PageChanged,
    QuantityRefused,
    SiteError,
    SiteTimeout,
    SiteTrouble,
)
from automation.shop.cart import CartPage, Lines
from automation.shop.lines import (
    Progress,
    describe_cart,
    measure_add,
    measure_after_absence,
    wrong_option,
)
from automation.shop.login import Login
from automation.shop.page import Session, ShopPage
from automation.shop.product import Answer, ProductPage
from automation.shop.request import (
    AddIntent,
    AddResult,
    CartLine,
    CartRequest,
    Credentials,
    Product,
)
from automation.site import Site
from automation.traffic import Traffic

Checkpoint = Callable[[AddIntent | None], Awaitable[None]]

LATE_CART = 1.0
"""Seconds until a cart that a queue behind the shop fills is looked at once more."""


async def add_to_cart(
    session: Session,
    site: Site,
    credentials: Credentials | None,
    request: CartRequest,
    *,
    known_cart: Sequence[CartLine] | None,
    intent: AddIntent | None,
    checkpoint: Checkpoint,
) -> AddResult:
    """Puts the product in the cart, once, however often it is called with the same intent.

    `known_cart` is what the cart held when this account was last verified, moments ago: it saves
    reading the cart first. `checkpoint` is awaited right before the first press and has to commit
    what it is given; a later attempt passes that as `intent`, and then begins by reading the cart.
    It is awaited with None once the cart shows that nothing of the add happened: before a later
    attempt adds, or after the shop has refused it. Then another account may try.
    With a cart of the session, save the storage state after this: it is what holds the cart.

    Raises the errors of `automation.errors`. After a BusinessError raised past the checkpoint, the
    message says what the cart holds.
    """
    with Traffic(session.page, site) as traffic:
        page = ShopPage(session, site, traffic)
        add = _Add(page, Login(page, credentials), request, checkpoint)
        try:
            return await add.run(known_cart, intent)
        except PlaywrightTimeout as error:
            raise SiteTimeout(f"{site.name} did not let itself be used in time.") from error
        except SiteTrouble as error:
            trouble = traffic.refusal()
            if trouble is None or type(trouble) is type(error):
                raise
            raise trouble from error  # a page half loaded under a 429 only looks changed


class _Add:
    def __init__(
        self, page: ShopPage, login: Login, request: CartRequest, checkpoint: Checkpoint
    ) -> None:
        self._page = page
        self._login = login
        self._request = request
        self._checkpoint = checkpoint
        self._cart = CartPage(page)
        self._product = ProductPage(page, request)
        self._cart_was_read = False

    async def run(
        self, known_cart: Sequence[CartLine] | None, intent: AddIntent | None
    ) -> AddResult:
        arrived = 0
        if intent is not None:
            cart = await self._read_cart()
            progress = decide_rest(intent, cart)
            if progress.line is not None and progress.growth == intent.quantity:
                return self._result(intent.product, progress)
            arrived = progress.growth
            if arrived:
                cart = intent.cart_before  # all attempts together are measured from there
            else:
                await self._checkpoint(None)
        elif known_cart is None:
            cart = await self._read_cart()
        else:
            cart = tuple(known_cart)
        await self._open_product()
        if self._login.was_made and not self._cart_was_read:
            # Logging in may have begun another cart, or joined a guest's cart to the account's.
            cart = await self._read_cart()
            await self._open_product()
        return await self._add(cart, arrived)

    async def _read_cart(self) -> Lines:
        await self._login.open(self._cart.open, shows_it=False)
        self._cart_was_read = True
        return await self._cart.read()

    async def _open_product(self) -> None:
        state = await self._login.open(self._product.open)
        await self._product.recognise(state)

    # ---- adding ---------------------------------------------------------------------------------

    async def _add(self, cart: Lines, arrived: int) -> AddResult:
        """Brings the product's quantity up to what was asked for on top of what `cart` held;
        `arrived` of it is there already.

        Mostly that is one press. Where the product page takes one piece at a time, the rest is
        written into the cart, or pressed for again.
        """
        quantity = self._request.quantity
        pieces = await self._product.prepare(quantity - arrived)
        aimed = await self._product.aim()
        intent = AddIntent(self._product.product, quantity, cart)
        await self._checkpoint(intent)
        answer = await self._product.press(aimed)
        progress = await self._verify(intent, arrived + pieces, answer, may_fall_short=True)
        while progress.growth < quantity:
            progress = await self._add_rest(intent, progress)
        await self._check_still_signed_in()
        return self._result(intent.product, progress, confirmed=answer.confirmed)

    async def _add_rest(self, intent: AddIntent, progress: Progress) -> Progress:
        missing = intent.quantity - progress.growth
        line = progress.line
        if line is not None and await self._cart.can_set(line):
            answer, pieces = await self._cart.set_quantity(line, line.quantity + missing), missing
        else:
            answer, pieces = await self._press_again(missing)
        return await self._verify(intent, progress.growth + pieces, answer)

    async def _press_again(self, missing: int) -> tuple[Answer, int]:
        """One more press on the product page; tells how many pieces it is to add."""
        held = describe_cart(self._cart.lines)
        try:
            await self._open_product()
            pieces = await self._product.prepare(missing)
            aimed = await self._product.aim()
        except (OutOfStock, PageChanged) as error:
            raise QuantityRefused(
                f"The shop takes no more of this product, {missing} short of {self._asked}. {held}"
            ) from error
        return await self._product.press(aimed), pieces

    @property
    def _asked(self) -> str:
        return f"the {self._request.quantity} that were asked for"

    # ---- verifying ------------------------------------------------------------------------------

    async def _verify(
        self, intent: AddIntent, expected: int, answer: Answer, *, may_fall_short: bool = False
    ) -> Progress:
        """The progress once the cart page says that `expected` pieces have come; raises if not.

        `may_fall_short`: fewer will do where the shop is silent about it and the cart takes a
        number, for a quantity field may be a mere display between a plus and a minus.
        """

        def measure(lines: Lines) -> Progress:
            return measure_add(intent.product, intent.cart_before, lines)

        was_refused = answer.refusal is not None or answer.sold_out is not None

        async def read() -> Progress:
            def hope(lines: Lines) -> bool:
                return measure(lines).growth == expected

            return measure(await self._cart.read(None if was_refused else hope))

        if not answer.at_cart:
            await self._cart.go()
        progress = await read()
        if progress.growth == expected:
            return progress
        if self._was_emptied(progress, expected, answer):
            return replace(progress, before=0)
        if progress.growth < expected and not was_refused:
            await asyncio.sleep(LATE_CART)
            await self._cart.go()
            progress = await read()
        if progress.growth == expected:
            return progress
        if may_fall_short and 0 < progress.growth < expected and not was_refused:
            line = progress.line
            if line is not None and await self._cart.can_set(line):
                return progress
        raise await self._find_error(progress, expected, answer)

    async def _find_error(
        self, progress: Progress, expected: int, answer: Answer
    ) -> AutomationError:
        error = self._explain(progress, expected, answer)
        if isinstance(error, CartMismatch):
            await self._check_still_signed_in()
        if isinstance(error, BusinessError) and progress.now == 0:
            await self._checkpoint(None)
        return error

    def _was_emptied(self, progress: Progress, expected: int, answer: Answer) -> bool:
        """Whether somebody checked the cart out since it was known: only our pieces are in it."""
        was_guessed = not self._cart_was_read and progress.before > 0
        return was_guessed and answer.confirmed and progress.now == expected

    def _explain(self, progress: Progress, expected: int, answer: Answer) -> AutomationError:
        held = describe_cart(self._cart.lines)
        words = answer.refusal or answer.sold_out or ""
        said = f"The shop said: {words.rstrip('.')}. " if words else ""
        if progress.growth > expected:
            return CartMismatch(
                f"The cart holds {progress.now} of this product where {progress.before + expected} "
                f"were expected. Nothing was taken out: check it by hand. {held}"
            )
        if answer.sold_out and progress.growth <= 0:
            return OutOfStock(f"The product is out of stock. {said}{held}")
        if answer.trouble:
            # What the page makes of a broken answer need not be true, but may help.
            return SiteError(f"{answer.trouble} {said}{held}")
        if progress.growth > 0:
            return QuantityRefused(
                f"The shop took {progress.growth} of {self._asked}. {said}{held}"
            )
        if answer.refusal:
            return self._refused(f"{said}{held}")
        if not answer.given:
            return SiteTimeout(
                f"The shop did not answer the add, and the cart does not show it yet. {held}"
            )
        return CartMismatch(
            f"The shop took the add without a word, but it is not there. {self._hint}{held}"
        )

    @property
    def _hint(self) -> str:
        options = self._page.site.selectors.variants
        if self._request.variant or not options:
            return ""
        return f"If the product wants a choice ({', '.join(options)}), name it as `variant`. "

    def _refused(self, sentence: str) -> BusinessError:
        """What a shop refuses is what was special about the request; else that there is one."""
        if self._request.variant:
            return OptionUnavailable(f"The shop refused this choice. {sentence}")
        if self._request.quantity > 1:
            return QuantityRefused(f"The shop refused this quantity. {sentence}")
        return OutOfStock(f"The shop refused to sell this product. {sentence}")

    async def _check_still_signed_in(self) -> None:
        """A session that ended between product and press leaves a full cart of nobody."""
        assert self._cart.state is not None
        if await self._login.is_signed_in(self._cart.state):
            return
        # Some carts have a header of their own: the product page has shown the sign before.
        await self._login.check(await self._product.open())

    def _result(
        self, product: Product, progress: Progress, *, confirmed: bool = False
    ) -> AddResult:
        line = progress.line
        assert line is not None
        wrong = wrong_option(product, line)
        if wrong is not None:
            asked = ", ".join(ways[0] for ways in product.values)
            raise CartMismatch(
                f"The cart line {line.name!r} shows {wrong!r}, but {asked} was asked for. "
                "Nothing was taken out: check it by hand."
            )
        return AddResult(
            line=line,
            quantity_before=progress.before,
            quantity_after=progress.now,
            confirmed=confirmed,
            signed_in=self._login.was_made,
            cart=self._cart.lines,
        )


def decide_rest(intent: AddIntent, cart: Lines) -> Progress:
    """How much of an earlier attempt's add has arrived. Raises CartUnclear if nobody can tell."""
    progress = measure_after_absence(intent.product, intent, cart)
    if progress.now == 0:
        # Not there at all: not added, or gone with the cart (checked out, or a session's cart).
        return replace(progress, before=0)
    if progress.line is None or not 0 <= progress.growth <= intent.quantity:
        raise CartUnclear(
            f"An earlier attempt to add {intent.quantity} may or may not have worked: the product "
            f"had {progress.before} in the cart before it. Check by hand. {describe_cart(cart)}"
        )
    return progress

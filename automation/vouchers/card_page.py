"""The flows on the payment page and the bank's page behind it, from the link to the result.

A card is pressed through once. `before_press` is awaited right before what cannot be taken back;
whatever is raised after it leaves the outcome open: the portal's orders tell it. Every flow first
looks, and gives back where the payment stands if that is not where the flow would begin.
"""

from automation.errors import CardDeclined, SessionLost
from automation.session import BrowserSession
from automation.vouchers import sign_in
from automation.vouchers.page import NOTHING_THERE, Look, SitePage, visit
from automation.vouchers.reading import parse_count
from automation.vouchers.sign_in import asks_code, read_code_asked, refused_code, type_code
from automation.vouchers.sites import CardPageSite
from automation.vouchers.states import (
    BeforePress,
    Card,
    CardForm,
    CodeAsked,
    CodeRefused,
    Declined,
    LinkExpired,
    Paid,
    PaymentState,
    Processing,
)

PATIENCE = 45.0
"""Seconds for the answer to a press: what the bank takes, and the way there and back."""

FORM = "The payment page"


async def open_link(session: BrowserSession, site: CardPageSite, url: str) -> PaymentState:
    """Where the payment stands. Goes to the link only from a page that is none of the payment's."""
    with visit(session, site) as page:
        if not page.is_blank:
            state = read_state(page, await _await_state(page))
            if state is not None:
                return state
        session.phase(f"Opening the payment link at {site.name}")
        await page.open(url)
        return await _look(page)


async def look(session: BrowserSession, site: CardPageSite) -> PaymentState:
    """Where the payment stands, without going anywhere. Raises SessionLost in a browser that has
    no page of it: open the link."""
    with visit(session, site) as page:
        return await _look(page)


async def pay(
    session: BrowserSession,
    site: CardPageSite,
    card: Card,
    before_press: BeforePress,
    *,
    patience: float = PATIENCE,
) -> PaymentState:
    """Fills in the card and presses pay, once; what the page shows then.

    Where it does not show the card form it presses nothing, and says what it shows. Processing
    means that it still was so when patience ended. Raises OutcomeOpen when no answer came.
    """
    with visit(session, site) as page:
        state = await _look(page)
        if not isinstance(state, CardForm):
            return state
        session.phase(f"Filling in the card at {site.name}")
        await _fill_card(page, card)
        before = await page.look()
        button = before.find("pay_button")
        if button is None:
            raise page.explain_absence("pay_button", FORM)
        session.phase(f"Paying at {site.name}")
        await page.press_once(page.locate("pay_button", button), "pay_button", before_press)

        def answered(now: Look) -> bool:
            state = read_state(page, now)
            if isinstance(state, CardForm):
                return now.shows_anew("card_error", before)
            return state is not None and not isinstance(state, Processing)

        now = await page.await_outcome(answered, patience=patience, meanwhile=_is_processing)
        answer = read_state(page, now)
        if isinstance(answer, CardForm):
            return Declined(now.text("card_error"))
        return _known(answer)


async def give_code(
    session: BrowserSession,
    site: CardPageSite,
    code: str,
    before_press: BeforePress,
    *,
    patience: float = PATIENCE,
) -> PaymentState | CodeRefused:
    """Types the code into the bank's page; what comes then. Else as `pay`: where no page waits for
    a code, nothing is typed."""
    with visit(session, site) as page:
        state = await _look(page)
        if not isinstance(state, CodeAsked):
            return state
        session.phase("Giving the code to the bank")
        before = await page.look()
        # Before the first digit: a page may send the code by itself at the last one.
        await before_press()
        await type_code(page, before, code)

        def answered(now: Look) -> bool:
            if asks_code(now):
                return refused_code(page, now, before)
            state = read_state(page, now)
            return state is not None and not isinstance(state, Processing)

        now = await page.await_outcome(answered, patience=patience, meanwhile=_is_processing)
        if asks_code(now):
            return sign_in.read_refusal(now)
        return _known(read_state(page, now))


async def ask_again(session: BrowserSession, site: CardPageSite) -> CodeAsked:
    """Has the bank send another code: earlier ones are worth nothing then.

    Raises RateLimited while it sends none yet, CodeNotAccepted where there is no way to ask.
    """
    with visit(session, site) as page:
        return await sign_in.ask_again(page)


# ---- where am I? --------------------------------------------------------------------------------


def read_state(page: SitePage, look: Look) -> PaymentState | None:
    """What a look says of the payment. A result stands over what may be left of a form."""
    if look.shows("paid"):
        return Paid(look.text("paid_reference"))
    if look.shows("declined"):
        return Declined(look.text("declined"))
    if look.shows("link_expired"):
        return LinkExpired()
    if asks_code(look):
        return read_code_asked(page, look)
    if look.shows("processing"):
        return Processing()
    if look.shows("card_number"):
        return CardForm()
    return None


async def _look(page: SitePage) -> PaymentState:
    if page.is_blank:
        raise SessionLost("The browser has no payment page any more: open the link.")
    look = await _await_state(page)
    state = read_state(page, look)
    if state is None:
        raise page.explain_absence("card_number", FORM)
    return state


async def _await_state(page: SitePage) -> Look:
    return await page.until(
        lambda now: read_state(page, now) is not None or page.quiet(NOTHING_THERE)
    )


def _known(state: PaymentState | None) -> PaymentState:
    assert state is not None
    return state


# ---- the card -----------------------------------------------------------------------------------


async def _fill_card(page: SitePage, card: Card) -> None:
    await page.fill_digits("card_number", card.number, FORM)
    if page.site.has("card_expiry"):
        expiry = f"{card.expires_month:02}/{card.expires_year % 100:02}"
        await page.fill_digits("card_expiry", expiry, FORM)
    else:
        await _choose_expiry(page, card)
    await page.fill_digits("card_cvv", card.cvv, FORM)
    if (await page.look()).shows("card_name"):
        await page.fill("card_name", card.holder, FORM)


async def _choose_expiry(page: SitePage, card: Card) -> None:
    year = card.expires_year
    years = (year, year % 100)
    month_text = f"{card.expires_month:02}"

    def is_month(text: str) -> bool:
        return parse_count(text) == card.expires_month

    def is_year(text: str) -> bool:
        return parse_count(text) in years

    takes_two = await page.takes_at_most("card_year", 2)
    has_month = await page.choose("card_month", is_month, month_text)
    has_year = await page.choose(
        "card_year", is_year, f"{year % 100:02}" if takes_two else f"{year}"
    )
    if not (has_month and has_year):
        raise CardDeclined(f"{page.site.name} does not take the card's expiry: check the card.")


def _is_processing(look: Look) -> bool:
    return look.shows("processing") and not asks_code(look)

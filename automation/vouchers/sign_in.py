"""Signing in with a password and a one-time code: the same at the portal and at the redeemer.

The page says how far it has come, so a flow goes on from there. Log-ins and codes are what sites
limit first: a log-in is sent at most once in a call, and no code is asked for while the page still
waits for one.
"""

import asyncio

from playwright.async_api import Error as PlaywrightError

from automation.errors import (
    CodeNotAccepted,
    RateLimited,
    SessionLost,
    SiteTimeout,
    WrongCredentials,
)
from automation.vouchers.page import (
    ANSWER_PATIENCE,
    NOTHING_THERE,
    PRESS_PATIENCE_MS,
    Look,
    Part,
    SitePage,
)
from automation.vouchers.reading import parse_moment
from automation.vouchers.states import CodeAsked, CodeRefused, Login, SignedIn

RESEND_PATIENCE = 10.0
"""Seconds for a button that counts down before it lets another code be asked for."""

SENDS_ITSELF = 0.1
"""Seconds in which a page that sends a code by itself has begun to: pressed then, it would be sent
twice."""

SETTLED = 0.3
"""Seconds of rest in which a page writes down the answer that has just come."""

REFUSED_QUIETLY = 3.0
"""Seconds of rest after which a form that still stands there was refused without a word."""


class SignIn:
    """The account's log-in at the site of `page`."""

    def __init__(self, page: SitePage, login: Login) -> None:
        self._page = page
        self._login = login

    async def run(self, *, resend: bool) -> SignedIn | CodeAsked:
        look = await self._arrive()
        if self.shows_us(look):
            return SignedIn()
        if asks_code(look):
            asked = read_code_asked(self._page, look)
            if not resend and not asked.is_over:
                return asked
            if look.shows("code_resend"):
                return await ask_again(self._page)
            await self._page.open(self._page.site.urls["login"])
            look = await self._await_sign()
            if not look.shows("email_input"):
                raise no_way_to_ask(self._page)
        return await self._log_in(look)

    async def give_code(self, code: str) -> SignedIn | CodeRefused:
        page = self._page
        look = await self._arrive()
        if self.shows_us(look):
            return SignedIn()
        if not asks_code(look):
            raise SessionLost(f"{page.site.name} does not wait for a code any more. Sign in again.")
        page.session.phase(f"Giving the code to {page.site.name}")
        await type_code(page, look, code)

        def answered(now: Look) -> bool:
            return (
                self.shows_us(now)
                or refused_code(page, now, look)
                or (not asks_code(now) and now.shows("email_input"))
            )

        now = await page.until(answered, patience=ANSWER_PATIENCE)
        if self.shows_us(now):
            return SignedIn()
        if asks_code(now) and refused_code(page, now, look):
            return read_refusal(now)
        if now.shows("email_input"):
            said = now.text("login_error") or "the site begins the log-in anew"
            return CodeRefused(said, may_try_again=False)
        if now.shows("code_dead"):
            return CodeRefused(now.text("code_dead"), may_try_again=False)
        raise page.find_server_trouble() or SiteTimeout(
            f"{page.site.name} did not answer the code in time. Look again before giving another."
        )

    def shows_us(self, look: Look) -> bool:
        """Whether it shows that we are signed in, and no other account's e-mail in that."""
        if not look.shows("signed_in") or asks_code(look):
            return False
        return self._find_stranger(look) is None

    def _find_stranger(self, look: Look) -> str | None:
        own = self._login.email.casefold()
        words = look.text("signed_in").casefold().split()
        mails = [word.strip("()<>[],.;:!") for word in words if "@" in word and "*" not in word]
        return mails[0] if mails and "@" in own and own not in mails else None

    # ---- getting there --------------------------------------------------------------------------

    async def _arrive(self) -> Look:
        """A look at a page that says how far the log-in has come.

        A page that waits for a code is left as it is. Any other was loaded some time ago, and says
        nothing of whether the site still knows us.
        """
        page = self._page
        if not page.is_blank:
            look = await self._await_sign()
            if asks_code(look):
                return look
        page.session.phase(f"Opening the log-in of {page.site.name}")
        await page.open(page.site.urls["login"])
        look = await self._await_sign()
        if look.shows("signed_in") and self._find_stranger(look) is not None:
            await page.session.context.clear_cookies()
            await page.open(page.site.urls["login"])
            look = await self._await_sign()
        if not self._says_how_far(look):
            raise page.explain_absence("email_input", "The log-in page")
        return look

    def _says_how_far(self, look: Look) -> bool:
        return self.shows_us(look) or asks_code(look) or look.shows("email_input")

    async def _await_sign(self) -> Look:
        page = self._page
        return await page.until(
            lambda now: (
                self._says_how_far(now)
                or self._find_stranger(now) is not None
                or page.quiet(NOTHING_THERE)
            )
        )

    # ---- the password ---------------------------------------------------------------------------

    async def _log_in(self, before: Look) -> SignedIn | CodeAsked:
        page = self._page
        page.session.phase(f"Signing in at {page.site.name}")
        await page.fill("email_input", self._login.email, "The log-in page")
        if not before.shows("password_input"):
            await self._send("email_input", before)
        await page.fill("password_input", self._login.password, "The log-in page")
        await self._send("password_input", before)

        def answered(now: Look) -> bool:
            return (
                self.shows_us(now)
                or asks_code(now)
                or now.shows_anew("login_error", before)
                or page.traffic.find_refusal(acts_only=True) is not None
                or (now.shows("password_input") and page.quiet(REFUSED_QUIETLY))
            )

        now = await page.until(answered, patience=ANSWER_PATIENCE)
        if self.shows_us(now):
            return SignedIn()
        if asks_code(now):
            return read_code_asked(page, now)
        if trouble := page.find_server_trouble():
            raise trouble
        if now.shows("login_error", "password_input"):
            said = now.text("login_error") or "it shows the log-in form again"
            raise WrongCredentials(
                f"{page.site.name} refused the log-in: {said}. Check the account's password."
            )
        raise SiteTimeout(f"{page.site.name} did not answer the log-in in time. Try again later.")

    async def _send(self, field: str, look: Look) -> None:
        page = self._page
        if look.shows("login_button"):
            await page.press("login_button", "The log-in page")
            return
        part = await page.require(field, "The log-in page")
        page.traffic.mark()
        await page.locate(field, part).press("Enter", no_wait_after=True)


async def open_signed_in(page: SitePage, url: str) -> None:
    """Opens a page of the account. Raises SessionLost where the site does not know us."""
    await page.open(url)
    look = await page.until(
        lambda now: (
            now.shows("signed_in", "email_input") or asks_code(now) or page.quiet(NOTHING_THERE)
        )
    )
    if look.shows("email_input") or asks_code(look) or not look.shows("signed_in"):
        if page.response is not None and page.response.status >= 500:
            raise page.explain_absence("signed_in", "The page")
        raise SessionLost(f"{page.site.name} does not know us any more: sign in again.")


# ---- the page that asks for a code, the bank's as well ------------------------------------------


def asks_code(look: Look) -> bool:
    return look.shows("code_input")


def read_code_asked(page: SitePage, look: Look) -> CodeAsked:
    part = look.find("code_sent_at")
    moment = part and (part.moment or part.text)
    return CodeAsked(
        sent_to=look.text("code_sent_to"),
        sent_at=parse_moment(moment, page.site.moment_formats, page.site.zone) if moment else None,
        context=look.text("code_context"),
        is_over=look.shows("code_dead"),
    )


def read_refusal(look: Look) -> CodeRefused:
    said = look.text("code_dead") or look.text("code_error") or "it asks for the code again"
    return CodeRefused(said, may_try_again=asks_code(look) and not look.shows("code_dead"))


async def type_code(page: SitePage, look: Look, code: str) -> None:
    """Types it, and sends it unless the page does so by itself at the last digit."""
    boxes = look.parts["code_input"]
    page.traffic.mark()
    if len(boxes) > 1:
        for part, digit in zip(boxes, code, strict=False):
            await page.locate("code_input", part).fill(digit)
    else:
        await page.locate("code_input", boxes[0]).fill(code)
    await asyncio.sleep(SENDS_ITSELF)
    if page.traffic.sent:
        return
    button = look.find("code_button")
    if button is not None:
        await _press_code_button(page, button)
    else:
        await page.locate("code_input", boxes[-1]).press("Enter", no_wait_after=True)


async def _press_code_button(page: SitePage, button: Part) -> None:
    target = page.locate("code_button", button)
    try:
        await target.click(timeout=PRESS_PATIENCE_MS, no_wait_after=True)
    except PlaywrightError as error:
        # A page that sends the code by itself may be gone before it can be pressed.
        if page.session.page.is_closed():
            raise
        if asks_code(await page.look(alarms=False)) and not page.traffic.sent:
            raise page.page_changed("code_button", "code_button cannot be pressed") from error


def refused_code(page: SitePage, now: Look, before: Look) -> bool:
    """Whether the site has answered a code with no: by a sentence that came up, or by one that
    was there before and is still there when the site has answered."""
    if not now.shows("code_error", "code_dead"):
        return False
    if now.shows_anew("code_error", before) or now.shows_anew("code_dead", before):
        return True
    return page.traffic.sent and not page.traffic.awaited and page.quiet(SETTLED)


async def ask_again(page: SitePage) -> CodeAsked:
    """Presses for another code. Raises RateLimited while the site sends none yet, and
    CodeNotAccepted where the page has no button for it."""
    before = await page.until(
        lambda now: _may_resend(now) or not asks_code(now), patience=RESEND_PATIENCE
    )
    if not before.shows("code_resend"):
        raise no_way_to_ask(page)
    if not _may_resend(before):
        raise RateLimited(f"{page.site.name} sends no other code yet. Try again in a minute.")
    page.session.phase(f"Asking {page.site.name} for another code")
    await page.press("code_resend", "The page that asks for a code")

    def answered(now: Look) -> bool:
        came = page.traffic.sent and not page.traffic.awaited and page.quiet(SETTLED)
        return asks_code(now) and (came or _code_page(now) != _code_page(before))

    now = await page.until(answered, patience=ANSWER_PATIENCE)
    if trouble := page.find_server_trouble():
        raise trouble
    if not asks_code(now):
        raise SessionLost(f"{page.site.name} does not wait for a code any more. Begin again.")
    refusal = "code_dead" if now.shows("code_dead") else "code_error"
    if now.shows_anew(refusal, before):
        raise RateLimited(
            f"{page.site.name} sent no other code: {now.text(refusal)} Try again in a minute."
        )
    return read_code_asked(page, now)


def _code_page(look: Look) -> float | None:
    """Which document asks for the code."""
    part = look.find("code_input")
    return part.document if part else None


def _may_resend(look: Look) -> bool:
    part = look.find("code_resend")
    return part is not None and not part.disabled


def no_way_to_ask(page: SitePage) -> CodeNotAccepted:
    return CodeNotAccepted(
        f"{page.site.name} takes no code of this request any more and offers no other one. "
        "Begin the log-in or the payment anew, later."
    )

"""Being signed in as the account: seen on the page at hand, else made sure of at the log-in page.

Log-ins are what shops limit first, so one is made only after the log-in page itself has not
recognised us, and never twice in one attempt.
"""

from collections.abc import Awaitable, Callable

from automation.errors import PageChanged, SessionLost, WrongCredentials
from automation.shop.addresses import same_path
from automation.shop.page import ShopPage
from automation.shop.request import Credentials
from automation.shop.state import LoginForm, PageState

OpenPage = Callable[[], Awaitable[PageState]]

LATE_INDICATOR = 0.7
"""Seconds of rest after which a page that does not show the log-in indicator will not."""

REFUSED_QUIETLY = 1.5
"""Seconds of rest after which a log-in form that still stands there means a refusal."""


class Login:
    def __init__(self, page: ShopPage, credentials: Credentials | None) -> None:
        self._page = page
        self._credentials = credentials
        self._own = page.site.selectors
        self._found_no_form = False
        self.was_made = False

    async def open(self, open_page: OpenPage, *, shows_it: bool = True) -> PageState:
        """Opens a page of the shop as the account. `open_page` may be called twice.

        A page that need not show the log-in indicator (`shows_it` is False) is trusted once the
        log-in page has recognised us. Raises WrongCredentials, or what `check` raises.
        """
        if not self._page.site.login_required:
            return await open_page()
        if self._own.logged_in_indicator is None:
            await self._ask_log_in_page()
            return await open_page()
        if await self._has_session():
            state = await self._await_indicator(await open_page())
            if self._shows_us(state):
                return state
            if self.was_made:
                return await self.check(state) if shows_it else state
        await self._ask_log_in_page()
        state = await open_page()
        return await self.check(state) if shows_it else state

    async def check(self, state: PageState) -> PageState:
        """The state once it shows that we are signed in. Raises SessionLost if it never does."""
        if not self._page.site.login_required or self._own.logged_in_indicator is None:
            return state
        state = await self._await_indicator(state)
        if self._shows_us(state):
            return state
        if self._found_no_form:
            raise self._page.explain_absence("email_input", "The log-in page")
        raise SessionLost(
            f"{self._page.site.name} does not show the account as signed in on {state.url}. "
            "If that happens each time, correct logged_in_indicator in the vendor data."
        )

    async def is_signed_in(self, state: PageState) -> bool:
        """Whether the page shows it, now or a little late."""
        if not self._page.site.login_required or self._own.logged_in_indicator is None:
            return True
        return self._shows_us(await self._await_indicator(state))

    def _shows_us(self, state: PageState) -> bool:
        """Whether the page shows the log-in indicator, and no other account's e-mail in it."""
        return state.says("logged_in_indicator") and self._find_stranger(state) is None

    def _find_stranger(self, state: PageState) -> str | None:
        """The e-mail of another account that the indicator shows, if it shows one."""
        own = self._credentials.email.casefold() if self._credentials else ""
        if "@" not in own:
            return None
        words = state.text("logged_in_indicator").casefold().split()
        mails = [word.strip("()<>[],.;:!") for word in words if "@" in word and "*" not in word]
        return mails[0] if mails and own not in mails else None

    async def _has_session(self) -> bool:
        """Whether a page is worth a look before the log-in: without cookies it is not."""
        return bool(await self._page.session.page.context.cookies())

    async def _await_indicator(self, state: PageState) -> PageState:
        if self._shows_us(state):
            return state
        return await self._page.until(
            lambda now: (
                self._shows_us(now)
                or self._find_stranger(now) is not None
                or self._page.quiet(LATE_INDICATOR)
            )
        )

    async def _ask_log_in_page(self) -> None:
        """Opens the log-in page, and logs in unless it shows that we are signed in already."""
        page = self._page
        page.session.phase("Checking the log-in")
        state = await self._open_log_in_page()
        if self._find_stranger(state) is not None:
            await page.session.page.context.clear_cookies()
            state = await self._open_log_in_page()
        if self._shows_us(state):
            return
        if state.login is not None and state.login.email is not None:
            await self._log_in(state, state.login)
            return
        # It sends who is signed in elsewhere, or has no form for him. Or its form has moved: then
        # the page that is opened next does not know us.
        self._found_no_form = same_path(state.url, page.site.login_url or "")

    async def _open_log_in_page(self) -> PageState:
        page = self._page
        if page.site.login_url is None:
            raise PageChanged(
                f"{page.site.name} asks for a log-in: give its address",
                key="login_url",
                selector="",
            )
        await page.open(page.site.login_url)
        return await page.until(
            lambda now: (
                self._shows_us(now)
                or (now.login is not None and now.login.email is not None and page.is_awake)
                or self._find_stranger(now) is not None
                or page.quiet(LATE_INDICATOR)
            ),
            "login",
        )

    async def _log_in(self, before: PageState, form: LoginForm) -> None:
        page = self._page
        if self._credentials is None:
            raise WrongCredentials(f"{page.site.name} asks for a log-in and there is no account.")
        page.session.phase("Logging in")
        self.was_made = True
        page.traffic.mark()
        assert form.email is not None
        email = page.part("email_input", form.email)
        await email.fill(self._credentials.email)
        if form.password is None:
            form = await self._await_password(form)
        assert form.password is not None
        password = page.part("password_input", form.password)
        await password.fill(self._credentials.password)
        if form.button is not None and await email.input_value() != self._credentials.email:
            # A script that woke up late has emptied the form.
            await email.fill(self._credentials.email)
            await password.fill(self._credentials.password)
        await password.press("End")  # a button may wait for a key to be let go
        await self._send(form, "password_input")
        await self._await_answer(before)

    async def _await_password(self, form: LoginForm) -> LoginForm:
        """The form of shops that ask for the e-mail first and then for the password."""
        await self._send(form, "email_input")
        state = await self._page.until(
            lambda now: (
                (now.login is not None and now.login.password is not None)
                or now.says("login_error")
            ),
            "login",
        )
        if state.says("login_error"):
            raise self._refused(state)
        if state.login is None or state.login.password is None:
            raise self._page.explain_absence("password_input", "The log-in page")
        return state.login

    async def _send(self, form: LoginForm, field: str) -> None:
        if form.button is not None:
            await self._page.press("login_button", form.button)
            return
        place = form.password if field == "password_input" else form.email
        assert place is not None
        await self._page.part(field, place).press("Enter", no_wait_after=True)

    async def _await_answer(self, before: PageState) -> None:
        page = self._page

        def is_refusal(now: PageState) -> bool:
            return now.says_anew("login_error", before)

        def answered(now: PageState) -> bool:
            return (
                self._shows_us(now)
                or is_refusal(now)
                or page.traffic.refusal(acts_only=True) is not None
                or page.quiet(self._rest_after(now))
            )

        state = await page.until(answered, "login", patience=20.0)
        if self._shows_us(state):
            return
        trouble = page.traffic.refusal(acts_only=True)
        if trouble is not None:
            raise trouble
        if is_refusal(state) or not page.traffic.sent:
            raise self._refused(state)
        if state.login is not None and state.login.password is not None:
            raise self._refused(state)

    def _rest_after(self, state: PageState) -> float:
        return LATE_INDICATOR if state.login is None else REFUSED_QUIETLY

    def _refused(self, state: PageState) -> WrongCredentials:
        said = state.text("login_error") or (
            "it shows the log-in form again"
            if self._page.traffic.sent
            else "its form does not even send them"  # the browser finds the e-mail malformed
        )
        return WrongCredentials(
            f"{self._page.site.name} refused the log-in: {said}. Check the account's password."
        )

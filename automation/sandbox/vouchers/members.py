"""Logging in with e-mail, password and a code by SMS: the same at the portal and at the wallet."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from starlette.responses import Response

from automation.sandbox.vouchers.people import Account, SentCode, Session
from automation.sandbox.vouchers.site import Answer, Site, Visit, redirect
from automation.sandbox.vouchers.switches import CodeSwitches, MemberSwitches

M = TypeVar("M", bound=MemberSwitches)


class MemberSite(Site[M]):
    sender: str
    home_path: str
    """Where one is sent after the log-in."""

    def write_code(self, code: str, context: str, switches: M) -> str:
        raise NotImplementedError

    def login_gets(self) -> Mapping[str, Callable[[Visit[M]], Answer]]:
        return {"/login": self.show_login, "/login/code": self.show_code}

    def login_posts(self) -> Mapping[str, Callable[[Visit[M]], Answer]]:
        return {
            "/login": self.log_in,
            "/login/code": self.give_code,
            "/login/resend": self.resend,
            "/logout": self.log_out,
        }

    def members_only(self, page: Callable[[Visit[M]], Answer]) -> Callable[[Visit[M]], Answer]:
        async def open_page(visit: Visit[M]) -> Response:
            if visit.account is None:
                return redirect("/login")
            if visit.switches.blocked:
                return self._show_blocked(visit)
            return await page(visit)

        return open_page

    def member(self, visit: Visit[M]) -> Account:
        assert visit.account is not None
        account = self.people.find_account(self.host, visit.account)
        assert account is not None
        return account

    # Password

    async def show_login(self, visit: Visit[M]) -> Response:
        if visit.account:
            return redirect(self.home_path)
        return self.render(visit, "login.html")

    async def log_in(self, visit: Visit[M]) -> Response:
        email = visit.form.get("email", "").strip().lower()
        account = self.people.check_password(self.host, email, visit.form.get("password", ""))
        if account is None:
            return self.render(visit, "login.html", email=email, error=True)
        if visit.switches.blocked:
            return self._show_blocked(visit)
        if account.minutes_locked:
            return self.render(visit, "login.html", email=email, locked=account.minutes_locked)
        if visit.session:
            self.people.end_session(visit.session)
        if not visit.switches.login_code:
            visit.session = self.people.start_session(self.host, account=email)
            return redirect(self.home_path)
        visit.session = self.people.start_session(self.host, awaiting=email)
        self._send_code(visit, visit.session, account)
        return redirect("/login/code")

    def _show_blocked(self, visit: Visit[M]) -> Response:
        return self.render(visit, "blocked.html", 403)

    # Code

    def _send_code(self, visit: Visit[M], session: Session, account: Account) -> None:
        switches = visit.switches
        self.people.send_code(
            self.host,
            session.token,
            account=account.email,
            phone=account.phone,
            sender=self.sender,
            write=lambda code, context: self.write_code(code, context, switches),
            switches=switches,
            one_per_account=True,
        )

    async def show_code(self, visit: Visit[M]) -> Response:
        return self._show_code(visit)

    def _show_code(self, visit: Visit[M], error: str = "") -> Response:
        if visit.account:
            return redirect(self.home_path)
        session = visit.session
        sent = self.people.find_code(self.host, session.token) if session else None
        if sent is None:
            return redirect("/login")
        return self.render(visit, "code.html", sent=sent, error=error)

    async def give_code(self, visit: Visit[M]) -> Response:
        session = visit.session
        if session is None or session.awaiting is None:
            return redirect("/login")
        typed = visit.form.get("code", "").strip()
        verdict, left = self.people.check_code(
            self.host, session.token, typed, visit.switches, session.awaiting
        )
        if verdict == "accepted":
            self.people.end_session(session)
            visit.session = self.people.start_session(self.host, account=session.awaiting)
            return redirect(self.home_path)
        if verdict == "too_many":
            self.people.lock(self.host, session.awaiting, visit.switches.lock_seconds)
            self.people.end_session(session)
            visit.session = None
            minutes = visit.switches.lock_seconds // 60 + 1
            return self.render(visit, "login.html", email=session.awaiting, locked=minutes)
        return self._show_code(visit, explain(verdict, left))

    async def resend(self, visit: Visit[M]) -> Response:
        session = visit.session
        if session is None or session.awaiting is None:
            return redirect("/login")
        account = self.people.find_account(self.host, session.awaiting)
        sent = self.people.find_code(self.host, session.token)
        assert account is not None
        assert sent is not None
        times = self.people.count_codes(self.host, session.token)
        error = explain_refused_resend(sent, times, visit.switches)
        if error:
            return self._show_code(visit, error)
        self._send_code(visit, session, account)
        return redirect("/login/code")

    async def log_out(self, visit: Visit[M]) -> Response:
        if visit.session:
            self.people.end_session(visit.session)
            visit.session = None
        return redirect("/")


def explain(verdict: str, left: int) -> str:
    if verdict == "expired":
        return "That code has expired. Ask for a new one."
    if verdict == "none":
        return "There is no code to confirm any more. Ask for a new one."
    attempts = "attempt" if left == 1 else "attempts"
    return f"That code is not right. {left} {attempts} left."


def explain_refused_resend(sent: SentCode, times: int, switches: CodeSwitches) -> str:
    """Empty when another one may be sent."""
    wait = sent.sent_at + switches.resend_after_seconds - time.time()
    if wait > 0:
        return f"Please wait {int(wait) + 1} seconds before you ask for a new code."
    if times > switches.most_resends:
        return "We have sent you as many codes as we can. Please try again later."
    return ""

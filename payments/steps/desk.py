"""An account's browser at the portal or the redeeming shop, for a step: flows in it, and signing in
where the site asks for that.

The browser outlives the worker. Flows run in tabs of it, several at a time; its own page is for
signing in, and while a code is awaited it stays as it is and nothing else does.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from django.utils import timezone

from accounts import audit
from automation import errors
from automation.guard import NetworkPolicy
from automation.parking import Parking
from automation.session import BrowserSession, SessionSpec
from automation.vouchers import portal, redeemer
from automation.vouchers.states import CodeAsked, CodeRefused, Login, SignedIn
from jobs.context import StepContext
from jobs.otp.requests import otp
from jobs.plans import Postpone, WaitFor
from jobs.processes import host_queue
from payments.models import AuthSession, SiteAccount
from payments.steps import holding, sessions
from payments.steps.outcomes import Later
from vendors import browsing

T = TypeVar("T")

KEEP_FOR = timedelta(minutes=30)
"""Longer than a voucher takes as a rule; when it is over, the saved session fills a new browser."""

FLOW_TIME = timedelta(seconds=60)
HELD_PAUSE = timedelta(seconds=3)
MOST_SIGN_INS = 3  # of one step, whose site forgets us again and again


class SignInFlows(Protocol):
    """What `automation.vouchers.portal` and `redeemer` both have."""

    def sign_in(
        self, session: BrowserSession, site: Any, login: Login, *, resend: bool = False
    ) -> Awaitable[SignedIn | CodeAsked]: ...

    def give_code(
        self, session: BrowserSession, site: Any, login: Login, code: str
    ) -> Awaitable[SignedIn | CodeRefused]: ...


@dataclass(frozen=True)
class Door:
    """What differs between the sites: names as payment-automation-realtime has them."""

    session_type: AuthSession.Type
    otp_type: str
    flows: SignInFlows

    @property
    def wait(self) -> str:
        """The name of the wait for the code."""
        return f"{self.session_type}_code"


PORTAL = Door(AuthSession.Type.GYFTR, "gyftr_login", portal)
REDEEMER = Door(AuthSession.Type.AMAZON, "amazon_login", redeemer)


class Desk:
    """`visit` and `sign_in` raise Later where the step has to come again."""

    def __init__(self, context: StepContext, account: SiteAccount, door: Door) -> None:
        self._context = context
        self._account = account
        self._door = door
        self._login: Login | None = None
        self.key = f"{door.session_type}-{account.pk}"
        self.site: Any = account.site.site()

    def visit(
        self,
        flow: Callable[[BrowserSession], Awaitable[T]],
        *,
        secrets: tuple[str, ...] = (),
        may_stop: bool = True,
    ) -> T:
        """The flow's result, from a tab of its own. Where the site does not know us any more the
        step signs in and then begins anew. `may_stop`: whether a cancel breaks it off."""
        if holding.is_held(self._context, self._account):
            self.sign_in()
        try:
            return self._run(flow, secrets, tab=True, may_stop=may_stop)
        except errors.SessionLost:
            self._count_sign_in()
            self.sign_in()
            raise Later(
                Postpone(timedelta(0), f"Signed in to {self.site.name}; goes on.")
            ) from None

    def sign_in(self) -> None:
        """On return the site knows us, and the session is saved."""
        if not holding.hold(self._context, self._account):
            reason = f"Another step is signing in to {self.site.name} as {self._account}."
            raise Later(Postpone(HELD_PAUSE, reason))
        code = self._context.find_code(self._door.wait)
        asked_at = timezone.now()
        answer = self._knock(code.value if code else None)
        if isinstance(answer, CodeRefused):
            self._context.reject_code(self._door.wait)  # raises after the last attempt
            code, asked_at = None, timezone.now()
            answer = self._knock(None)
        if isinstance(answer, CodeAsked):
            raise Later(self._wait_for_code(answer, asked_at))
        if code:
            self._context.accept_code(self._door.wait)
        holding.release(self._context)

    def _knock(self, code: str | None) -> SignedIn | CodeAsked | CodeRefused:
        login, flows = self._open_login(), self._door.flows

        async def play(session: BrowserSession) -> SignedIn | CodeAsked | CodeRefused:
            # A page that waits for a code without us knowing one: somebody else had that sent.
            answer = await flows.sign_in(session, self.site, login, resend=code is None)
            typed: SignedIn | CodeAsked | CodeRefused = answer
            if isinstance(answer, CodeAsked) and code and not session.is_new:
                typed = await flows.give_code(session, self.site, login, code)
            if isinstance(typed, SignedIn):
                state = await session.storage_state()
                await session.call(self._save, state)
            return typed

        return self._run(play, (code,) if code else (), tab=False)

    def _save(self, state: dict[str, Any]) -> None:
        sessions.save_session(self._account, self._door.session_type, self.key, state)

    def _wait_for_code(self, asked: CodeAsked, asked_at: Any) -> WaitFor:
        awaited = otp(
            self._door.wait,
            otp_type=self._door.otp_type,
            service=self.site.otp_service or self.site.name,
            phone=self._account.phone_number,
            context=asked.context,
            sent_after=asked_at,
        )
        where = f", sent to {asked.sent_to}" if asked.sent_to else ""
        reason = f"Waiting for the code of {self.site.name}{where}"
        return WaitFor([awaited], reason, queue=host_queue())

    def _count_sign_in(self) -> None:
        """A site that forgets us as soon as we are in is in trouble: raises what it raised."""
        context = self._context
        count = (context.checkpoint or {}).get("sign_ins", 0) + 1
        context.save_checkpoint({**(context.checkpoint or {}), "sign_ins": count % MOST_SIGN_INS})
        if count >= MOST_SIGN_INS:
            raise errors.SiteError(
                f"{self.site.name} asks us to sign in again and again. Try again later."
            )

    def _open_login(self) -> Login:
        if self._login is None:
            context = self._context
            audit.note_access(
                self._account,
                job=context.job_id,
                step=context.claim.name,
                attempt=context.attempt,
            )
            self._login = Login(self._account.email, self._account.password)
        return self._login

    def _run(
        self,
        flow: Callable[[BrowserSession], Awaitable[T]],
        secrets: tuple[str, ...],
        *,
        tab: bool,
        may_stop: bool = True,
    ) -> T:
        state = sessions.find_storage_state(self._account, self._door.session_type)
        spec = SessionSpec(
            key=self.key,
            network=network_of(self.site),
            storage_state=state,
            secrets=(self._open_login().password, *secrets),
        )
        return browsing.get_browser_host().run_parked(
            flow,
            Parking(spec, KEEP_FOR),
            timeout=FLOW_TIME,
            stop=self._context.stop if may_stop else None,
            on_phase=browsing.PhaseReporter(self._context),
            tab=tab,
        )


def network_of(site: Any) -> NetworkPolicy:
    return NetworkPolicy(
        domains=(site.domain, *site.allowed_domains), allow_private=site.allow_private_network
    )

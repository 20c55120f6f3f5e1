"""Paying by a link: an effect, in a browser that stays while the bank's code is awaited.

Each attempt looks where the payment stands, asks `paying.py` for the next move, and goes on until
the payment is settled or has to wait. The intent is committed right before the press; from then on
nothing is pressed again before the payment page and the portal's order both say that nothing was
paid and nothing is under way.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from accounts import audit
from automation import errors
from automation.parking import Parking
from automation.session import BrowserSession, SessionSpec
from automation.vouchers import card_page, portal
from automation.vouchers.sites import CardPageSite
from automation.vouchers.states import (
    Card,
    CodeAsked,
    CodeRefused,
    Declined,
    LinkExpired,
    Order,
    PaymentLink,
    PaymentState,
    Processing,
)
from jobs import effects, waits
from jobs.context import StepContext
from jobs.effects import CannotTell, DidNotHappen, Happened, UnknownOutcome
from jobs.errors import Becomes, BusinessError, TransientError
from jobs.models import Effect, OtpRequest, Wait
from jobs.otp.requests import otp
from jobs.plans import Done, Outcome, Postpone, WaitFor
from jobs.processes import host_queue, is_served
from payments import cvv, recording
from payments.models import PaymentSite, Transaction
from payments.steps import sessions
from payments.steps.desk import network_of
from payments.steps.outcomes import Later, decide_outcome, voucher_step
from payments.steps.paying import PATIENCE as PATIENCE_WITH_PRESS
from payments.steps.paying import Known, Move, OrderRead, decide_delay, decide_payment
from payments.steps.rows import PAID, get_transaction, money_of, portal_desk
from vendors import browsing

Status = Effect.Status

Flow = Callable[[BrowserSession], Awaitable[PaymentState | CodeRefused]]

KEEP_FOR = timedelta(minutes=20)
"""Longer than a code is waited for; then the page is opened anew, and says where it stands."""

FLOW_TIME = timedelta(seconds=90)  # what a bank takes for an answer, twice
CVV_DEADLINE = timedelta(minutes=30)
PATIENCE = 20.0  # seconds of a worker's for the bank's answer; then the step looks again later
MOST_TRIES = 4  # presses that came to nothing
MOST_MOVES = 12  # no situation needs more; a decision that goes in circles must end

CODE_WAIT, CVV_WAIT = "payment_code", "cvv"


def effect_key(row: Transaction) -> str:
    """The act is the transaction's: its job may be run again, and it stays one payment."""
    return f"voucher_pay:{row.pk}"


def find_payment(row: Transaction) -> Effect | None:
    return Effect.objects.filter(workspace=row.purchase.workspace_id, key=effect_key(row)).first()


@voucher_step("process_payment", time_limit=timedelta(minutes=5))
def process_payment(context: StepContext) -> Outcome:
    payment = Payment(context, get_transaction(context))
    if not payment.is_recorded:
        payment.settle()
    return Done({"order": payment.row.order, "reference": payment.row.payment_reference})


class Payment:
    """One attempt at a transaction's payment."""

    def __init__(self, context: StepContext, row: Transaction) -> None:
        self.row = row
        self._context = context
        self._card = row.purchase.card
        self._effect = find_payment(row)
        self._key = f"payment-{row.pk}"
        self._page: PaymentState | None = None
        self._is_fresh = False
        self._order: OrderRead | None = None
        self._trouble: errors.AutomationError | None = None
        self._refused: CodeRefused | None = None
        self._code: str | None = None
        self._cvv: str | None = None

    @property
    def is_recorded(self) -> bool:
        """An earlier attempt, or a person, has settled it as paid."""
        return self.row.status in PAID

    def settle(self) -> None:
        """On return it is paid. Raises Later, or what ends the step."""
        try:
            self._settle()
        except errors.RateLimited:
            raise
        except errors.SiteTrouble as trouble:
            if not self._is_pressed:
                raise
            self._note_trouble(trouble)
            self._come_again()

    def _settle(self) -> None:
        if not self._is(Status.CONFIRMED):
            self._go_where_the_browser_is()
            self._find_code()
            self._find_cvv()
            self._look()
        for _ in range(MOST_MOVES):
            if self._make(decide_payment(self._known(self._page, self._age))):
                return
        raise TransientError("undecided", f"The payment of {self._what} could not be settled.")

    def _make(self, move: Move) -> bool:
        """Carries out a move that is none on the page; True when it is paid."""
        match move:
            case Move.CONFIRM:
                self._confirm()
                return True
            case Move.PAY:
                self._need_cvv()
                self._look()
            case Move.CODE:
                self._see_to_code()
            case Move.READ_ORDER:
                self._read_order()
            case Move.OPEN_ANEW:
                self._open_anew()
            case Move.LOOK_LATER:
                self._look_later()
            case Move.ABSENT:
                self._settle_absent()
            case Move.DECLINED:
                self._end_declined()
            case Move.NEW_LINK:
                self._make_new_link()
            case Move.RETRY:
                self._retry()
            case Move.PERSON:
                self._leave_to_a_person()
        return False

    # ---- what is known ---------------------------------------------------------------------------

    @property
    def _what(self) -> str:
        return f"{money_of(self.row)} for order {self.row.order}"

    def _is(self, status: Status) -> bool:
        return self._effect is not None and self._effect.status == status

    @property
    def _is_pressed(self) -> bool:
        """Whether a press of ours may count."""
        return self._is(Status.INTENDED) or self._is(Status.UNKNOWN)

    def _known(self, page: PaymentState | None, age: timedelta | None) -> Known:
        if self._gave_up and isinstance(page, CodeAsked):
            page = Processing()  # nobody answers it any more; it ends when the bank gives up
        return Known(
            effect=Status(self._effect.status) if self._effect else None,
            page=page,
            is_fresh=self._is_fresh,
            order=self._order,
            age=age,
        )

    @property
    def _age(self) -> timedelta | None:
        """Since the last press."""
        return read_now() - self._pressed_at if self._effect else None

    @property
    def _pressed_at(self) -> datetime:
        assert self._effect
        return datetime.fromisoformat(self._effect.intent["pressed_at"])

    def _go_where_the_browser_is(self) -> None:
        """A press in a browser of another machine is followed there, while that one is alive."""
        if not self._is_pressed:
            return
        assert self._effect
        queue = self._effect.intent.get("queue", "")
        if queue and queue != host_queue() and is_served(queue):
            reason = "Goes on where its payment page is open."
            raise Later(Postpone(timedelta(0), reason, queue=queue))

    # ---- on the payment page ---------------------------------------------------------------------

    def _look(self) -> None:
        """Sees where the payment stands, and acts there where that is what comes next."""
        self._refused = None
        if not self.row.link:
            self._page = LinkExpired()  # the portal makes none for an order that it takes for paid
            return
        try:
            state = self._run(self._plan_look())
        except errors.SiteTrouble as trouble:
            self._note_trouble(trouble)
        except errors.CardDeclined as error:
            self._page = Declined(str(error))
            if not self._is_pressed:  # the form does not even take it
                self._end_declined()
        except errors.BusinessError as error:
            if not self._is_pressed:
                raise
            self._note_trouble(error)
            self._leave_to_a_person()
        else:
            if isinstance(state, CodeRefused):
                self._refused, self._page = state, CodeAsked()
            else:
                self._page = state
                self._use_up_code(state)

    def _plan_look(self) -> Flow:
        site, age = self._find_site(), self._age

        async def look(session: BrowserSession) -> PaymentState | CodeRefused:
            self._is_fresh = self._is_fresh or session.is_new
            page = await card_page.open_link(session, site, self.row.link)
            move = decide_payment(self._known(page, age))
            if move is Move.PAY and self._cvv:
                press, card = self._before_press(session), self._open_card(self._cvv)
                return await card_page.pay(session, site, card, press, patience=PATIENCE)
            if move is Move.CODE and self._code and not self._is_fresh:
                type_it = self._before_code(session)
                return await card_page.give_code(
                    session, site, self._code, type_it, patience=PATIENCE
                )
            return page

        return look

    def _before_press(self, session: BrowserSession) -> Callable[[], Awaitable[None]]:
        async def commit() -> None:
            await session.call(self._commit)

        return commit

    def _before_code(self, session: BrowserSession) -> Callable[[], Awaitable[None]]:
        async def check() -> None:
            # Fenced: a worker that has lost the step types nothing.
            await session.call(self._context.progress, 60, "Giving the bank its code")

        return check

    def _commit(self) -> None:
        """From now on it may be paid. Committed on return."""
        self._forget_giving_up()
        recording.record_paying(self.row.pk)
        intent = self._describe()
        if self._effect is None:
            self._effect, is_new = effects.begin(
                self._context.claim,
                effect_key(self.row),
                title=f"Pay {self._what} with {self._card}",
                intent=intent,
            )
            if not is_new:
                raise TransientError("begun_meanwhile", "Another attempt has begun this payment.")
        elif self._is(Status.ABSENT):
            effects.begin_again(self._context.claim, self._effect, intent)
        else:
            raise TransientError("begun_meanwhile", "Another attempt has begun this payment.")
        self._is_fresh, self._order, self._page = False, None, None

    def _describe(self) -> dict[str, Any]:
        """For the person who may have to look, and for the attempt that will."""
        return {
            "portal": self._card.portal_account.site.name,
            "account": self._card.portal_account.email,
            "order": self.row.order,
            "amount": money_of(self.row),
            "card": str(self._card),
            "pressed_at": read_now().isoformat(),
            "queue": host_queue(),
        }

    def _run(self, flow: Flow) -> PaymentState | CodeRefused:
        spec = SessionSpec(
            key=self._key,
            network=network_of(self._find_site()),
            secrets=self._secrets(),
        )
        return browsing.get_browser_host().run_parked(
            flow,
            Parking(spec, KEEP_FOR),
            timeout=FLOW_TIME,
            stop=self._context.stop,
            on_phase=browsing.PhaseReporter(self._context),
        )

    def _find_site(self) -> CardPageSite:
        page = PaymentSite.objects.find_card_page(self.row.link)
        if page is None:
            raise BusinessError(
                "unknown_card_page",
                f"The payment link of order {self.row.order} leads to a page that is not among the "
                "card pages. Add it under Payment sites, then have the job go on.",
                Becomes.MANUAL,
            )
        site = page.site()
        assert isinstance(site, CardPageSite)
        return site

    def _secrets(self) -> tuple[str, ...]:
        if not self._cvv:
            return (self._code,) if self._code else ()
        card = self._open_card(self._cvv)
        typed = (card.number, card.cvv, f"{card.expires_month:02}/{card.expires_year % 100:02}")
        return (*typed, self._code) if self._code else typed

    def _open_card(self, cvv_of_it: str) -> Card:
        expiry = self._card.open_expiry()
        return Card(
            number=self._card.number,
            expires_month=expiry.month,
            expires_year=expiry.year,
            cvv=cvv_of_it,
            holder=self._card.holder,
        )

    def _open_anew(self) -> None:
        """In a new browser: with the old one ends whatever a worker that was thought dead may
        still press there."""
        browsing.get_browser_host().end_parked(self._key)
        self._page, self._order = None, None
        self._look()

    # ---- the CVV ---------------------------------------------------------------------------------

    def _find_cvv(self) -> None:
        """Unless something was pressed already, and all may be done with it."""
        if self._is_pressed or self._cvv:
            return
        audit.note_access(
            self._card,
            job=self._context.job_id,
            step=self._context.claim.name,
            attempt=self._context.attempt,
        )
        self._cvv = cvv.find(self.row.purchase_id)

    def _need_cvv(self) -> None:
        if self._effect and self._effect.tries >= MOST_TRIES:
            raise BusinessError(
                "payment_keeps_failing",
                f"{self._what} was tried {self._effect.tries} times, and nothing came of it. Look "
                "at the payment page by hand, then have the job go on.",
                Becomes.MANUAL,
            )
        self._find_cvv()
        if self._cvv is None:
            awaited = waits.signal(
                CVV_WAIT,
                cvv.topic(self.row.purchase_id),
                {},
                deadline=CVV_DEADLINE,
                on_deadline=Wait.OnDeadline.MANUAL,
            )
            reason = f"Waiting for the CVV of {self._card}: type it on the purchase's page."
            raise Later(WaitFor([awaited], reason))

    # ---- the bank's code -------------------------------------------------------------------------

    def _find_code(self) -> None:
        code = self._context.find_code(CODE_WAIT)
        self._code = code.value if code else None
        answer = self._context.find_answer(CODE_WAIT)
        is_over = answer is not None and answer.is_expired and self._is_pressed
        if self._code is None and is_over and not self._gave_up:
            service = self._card.otp_service
            self._give_up(
                "otp_expired",
                f"No code of {service} came in time. Check the phone, then run this again.",
                Becomes.FAILED,
            )

    def _see_to_code(self) -> None:
        """The page asks for a code that we do not have, or has refused the one we had."""
        asked = self._page if isinstance(self._page, CodeAsked) else CodeAsked()
        sent_after = self._pressed_at
        try:
            if self._refused:
                self._code = None
                self._context.reject_code(CODE_WAIT)
            if self._refused or asked.is_over or self._is_fresh or self._had_code_before():
                sent_after = timezone.now()
                asked = self._ask_again()
        except (BusinessError, errors.CodeNotAccepted) as error:
            sentence = error.sentence if isinstance(error, BusinessError) else str(error)
            self._give_up(error.code, sentence, Becomes.MANUAL)
            return
        sessions.note_payment_page(self.row.pk, self._key)
        raise Later(self._wait_for_code(asked, sent_after))

    def _had_code_before(self) -> bool:
        """Of this press: the code that was sent with it was used up, or came too late."""
        requests = OtpRequest.objects.filter(
            step_id=self._context.claim.id, name=CODE_WAIT, requested_at__gte=self._pressed_at
        )
        return requests.exclude(status=OtpRequest.Status.REQUESTED).exists()

    def _ask_again(self) -> CodeAsked:
        site = self._find_site()

        async def ask(session: BrowserSession) -> PaymentState:
            return await card_page.ask_again(session, site)

        asked = self._run(ask)
        assert isinstance(asked, CodeAsked)
        return asked

    def _wait_for_code(self, asked: CodeAsked, sent_after: datetime) -> WaitFor:
        awaited = otp(
            CODE_WAIT,
            otp_type="payment",
            service=self._card.otp_service,
            phone=self._card.phone_number,
            context=asked.context or self._card.last4,
            sent_after=sent_after,
            on_deadline=Wait.OnDeadline.RESUME,
        )
        where = f", sent to {asked.sent_to}" if asked.sent_to else ""
        reason = f"Waiting for the bank's code for {self._what}{where}"
        return WaitFor([awaited], reason, queue=host_queue())

    def _use_up_code(self, state: PaymentState) -> None:
        """The bank took the code, whatever it says of the payment."""
        if self._code and not isinstance(state, CodeAsked):
            self._context.accept_code(CODE_WAIT)
            self._code = None

    @property
    def _gave_up(self) -> Mapping[str, str] | None:
        """Why nobody answers the bank any more: what becomes of the step once it is known that
        nothing was paid."""
        return (self._context.checkpoint or {}).get("gave_up")

    def _give_up(self, code: str, sentence: str, becomes: Becomes) -> None:
        why = {"code": code, "sentence": sentence, "becomes": becomes.value}
        self._context.save_checkpoint({**(self._context.checkpoint or {}), "gave_up": why})
        self._open_anew()

    def _forget_giving_up(self) -> None:
        """It was of an earlier press."""
        if self._gave_up:
            rest = {k: v for k, v in (self._context.checkpoint or {}).items() if k != "gave_up"}
            self._context.save_checkpoint(rest)

    # ---- the portal's order ----------------------------------------------------------------------

    def _read_order(self) -> None:
        desk = portal_desk(self._context, self.row.purchase)

        async def read(session: BrowserSession) -> tuple[Order, ...]:
            return await portal.read_orders(session, desk.site, wanted=(self.row.order,))

        try:
            orders = desk.visit(read)
        except errors.SiteTrouble as trouble:
            self._note_trouble(trouble, of_page=False)
            self._order = "unreadable"
        else:
            found = [each for each in orders if each.order == self.row.order]
            self._order = found[0].status if found else "missing"

    def _note_trouble(self, trouble: errors.AutomationError, *, of_page: bool = True) -> None:
        self._trouble = trouble
        if of_page:
            self._page = None
        browsing.keep_evidence(self._context, trouble)
        trouble.evidence = None  # kept once

    # ---- how it ends -----------------------------------------------------------------------------

    def _confirm(self) -> None:
        reference = getattr(self._page, "reference", "")
        if self._effect is None or self._is(Status.ABSENT):
            self._commit()  # it was paid without a press that we know of; nobody must press now
        if self._is_pressed:
            assert self._effect
            result = {"order": self.row.order, "reference": reference}
            effects.settle(self._context.claim, self._effect, Happened(result))
        assert self._effect
        reference = reference or (self._effect.result or {}).get("reference", "")
        recording.record_paid(self.row.pk, payment_reference=reference)
        self._leave_page()
        self.row.refresh_from_db(fields=["status", "payment_reference"])

    def _settle_absent(self) -> None:
        assert self._effect
        effects.settle(self._context.claim, self._effect, DidNotHappen())
        if why := self._gave_up:
            self._forget_giving_up()
            self._end_unpaid(why["code"], why["sentence"], Becomes(why["becomes"]))

    def _end_declined(self) -> None:
        said = self._page.sentence if isinstance(self._page, Declined) else ""
        self._end_unpaid(
            "card_declined",
            f"{self._card} was declined: {said} Find out why, then run this again.",
            Becomes.FAILED,
        )

    def _end_unpaid(self, code: str, sentence: str, becomes: Becomes) -> None:
        sentence = f"{sentence} Nothing was paid of {self._what}."
        recording.record_failed(self.row.pk, code, sentence)
        self._leave_page()
        raise BusinessError(code, sentence, becomes)

    def _make_new_link(self) -> None:
        """What was made at the start is no good any more, and nothing was paid by it."""
        desk = portal_desk(self._context, self.row.purchase)
        # Its own reference: the old one would be answered with the old link, burnt as it may be.
        reference = f"{self.row.reference}-{self.row.order}"[:60]

        async def create(session: BrowserSession) -> PaymentLink:
            return await portal.create_link(session, desk.site, int(self.row.amount), reference)

        link = desk.visit(create)
        recording.record_link(
            self.row.pk, url=link.url, order=link.order, expires_at=link.expires_at
        )
        self._leave_page()
        self.row.refresh_from_db()
        self._page, self._order = None, None
        self._look()

    def _come_again(self) -> None:
        """A site has trouble while a press of ours may count."""
        if (self._age or timedelta(0)) >= PATIENCE_WITH_PRESS:
            self._leave_to_a_person()
        self._look_later()

    def _look_later(self) -> None:
        age = self._age or timedelta(0)
        reason = f"The payment of {self._what} is under way; looking again soon."
        raise Later(Postpone(decide_delay(age), reason, queue=host_queue()))

    def _retry(self) -> None:
        trouble = self._trouble or errors.SiteError("The payment page did not open.")
        outcome = decide_outcome(trouble)
        assert isinstance(outcome, Postpone)
        raise Later(outcome)

    def _leave_to_a_person(self) -> None:
        why = str(self._trouble) if self._trouble else f"its order is {self._order}."
        reason = f"Nobody can tell whether it was paid: {why}"
        recording.record_unknown(self.row.pk, "payment_unknown", reason)
        if self._is(Status.INTENDED):
            assert self._effect
            effects.settle(self._context.claim, self._effect, CannotTell(reason))
        self._leave_page()
        if not self._is_pressed:
            raise BusinessError(
                "payment_by_others",
                f"Somebody else is paying {self._what}. See to that at the portal, then have the "
                "job go on.",
                Becomes.MANUAL,
            )
        raise UnknownOutcome(
            f"Paying {self._what}: {reason} Look at the portal's orders and the card's statement, "
            "and say in the inbox whether it was paid."
        )

    def _leave_page(self) -> None:
        browsing.get_browser_host().end_parked(self._key)
        sessions.close_payment_page(self.row.pk)


def read_now() -> datetime:
    """The database's clock: the one that all workers share."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now

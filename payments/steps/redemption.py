"""Redeeming a voucher: an effect, in the open session of the account.

The history is read before the press, and what it held is committed with the intent: after a crash
one row more is the proof. A voucher that the shop refuses stays where a person can see to it, and
the purchase goes on.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from accounts import audit
from automation import errors
from automation.session import BrowserSession
from automation.vouchers import redeemer
from automation.vouchers.states import Redeemed, Redemption
from jobs import effects
from jobs.context import StepContext
from jobs.effects import CannotTell, DidNotHappen, Happened, UnknownOutcome
from jobs.errors import BusinessError, TransientError
from jobs.models import FINISHED, Effect
from jobs.plans import Done, Outcome, Postpone
from payments import recording
from payments.models import Transaction, VoucherCode
from payments.models.purchases import format_money
from payments.steps.desk import Desk
from payments.steps.outcomes import Later, voucher_step
from payments.steps.paying import PATIENCE as PATIENCE_WITH_PRESS
from payments.steps.paying import decide_delay
from payments.steps.payment import read_now
from payments.steps.redeeming import Redeem, Redeeming, count_rows, decide_redemption
from payments.steps.rows import get_transaction, redeemer_desk
from vendors.browsing import keep_evidence

Status = Effect.Status
PATIENCE = 20.0  # seconds of a worker's for the shop's answer; then the history tells it
MOST_MOVES = 6


def effect_key(voucher: VoucherCode) -> str:
    """The act is the voucher's, whichever job redeems it."""
    return f"voucher_redeem:{voucher.pk}"


@voucher_step("redeem_amazon_vouchers", time_limit=timedelta(minutes=4))
def redeem_amazon_vouchers(context: StepContext) -> Outcome:
    """Of a purchase: what cannot be redeemed now is said, and the purchase goes on."""
    row = get_transaction(context)
    voucher = row.voucher
    desk = redeemer_desk(context, row.purchase)
    redemption = RedemptionAct(context, voucher, row, desk)
    try:
        redemption.settle()
    except errors.RateLimited:
        raise
    except errors.VoucherRefused as refused:
        return Done(describe(voucher, is_redeemed=False, why=str(refused)))
    except errors.SiteTrouble as trouble:
        if context.attempt < context.claim.max_attempts:
            raise
        keep_evidence(context, trouble)
        sentence = f"{trouble} {voucher} can be redeemed later, from the purchase's page."
        recording.record_trouble(row.pk, trouble.code, sentence)
        return Done(describe(voucher, is_redeemed=False, why=sentence))
    return Done(describe(voucher, is_redeemed=True))


@voucher_step("redeem_voucher", time_limit=timedelta(minutes=4))
def redeem_voucher(context: StepContext) -> Outcome:
    """The one step of a later redemption: a refusal is its failure."""
    related = (
        "transaction__purchase__card__portal_account__site",
        "transaction__purchase__card__redeemer_account__site",
    )
    vouchers = VoucherCode.objects.select_related(*related)
    voucher = vouchers.get(pk=context.job_params["voucher"])
    row = voucher.transaction
    redemption = RedemptionAct(context, voucher, row, redeemer_desk(context, row.purchase))
    try:
        redemption.settle()
    except errors.VoucherRefused as refused:
        raise BusinessError(refused.code, str(refused)) from refused
    return Done(describe(voucher, is_redeemed=True))


def describe(voucher: VoucherCode, *, is_redeemed: bool, why: str = "") -> dict[str, Any]:
    output = {"voucher": str(voucher.pk), "redeemed": is_redeemed, "amount": str(voucher.amount)}
    return {**output, "why": why} if why else output


class RedemptionAct:
    """One attempt at redeeming a voucher."""

    def __init__(
        self, context: StepContext, voucher: VoucherCode, row: Transaction, desk: Desk
    ) -> None:
        self._context = context
        self._voucher = voucher
        self._row = row
        self._desk = desk
        self._rows = 0
        self._effect = (
            Effect.objects.select_related("job")
            .filter(workspace=row.purchase.workspace_id, key=effect_key(voucher))
            .first()
        )

    def settle(self) -> None:
        """On return it is redeemed. Raises VoucherRefused, recorded; Later, or what ends the
        step."""
        if self._voucher.status == VoucherCode.Status.REDEEMED:
            return
        self._refuse_rival()
        if not self._is(Status.CONFIRMED):
            self._read_history()
        for _ in range(MOST_MOVES):
            match decide_redemption(self._known):
                case Redeem.CONFIRM:
                    self._confirm({})
                    return
                case Redeem.PRESS:
                    self._press()
                    return
                case Redeem.ABSENT:
                    assert self._effect
                    effects.settle(self._context.claim, self._effect, DidNotHappen())
                case Redeem.LOOK_LATER:
                    self._look_later()
        raise TransientError("undecided", f"{self._what} could not be redeemed.")

    @property
    def _what(self) -> str:
        money = format_money(self._voucher.amount, self._row.purchase.currency)
        return f"{self._voucher} ({money})"

    @property
    def _known(self) -> Redeeming:
        effect = self._effect
        if effect is None:
            return Redeeming(None, self._rows)
        return Redeeming(
            Status(effect.status),
            self._rows,
            effect.intent["rows_before"],
            read_now() - datetime.fromisoformat(effect.intent["pressed_at"]),
        )

    def _is(self, status: Status) -> bool:
        return self._effect is not None and self._effect.status == status

    @property
    def _is_pressed(self) -> bool:
        return self._is(Status.INTENDED) or self._is(Status.UNKNOWN)

    def _refuse_rival(self) -> None:
        """Another job has begun it, and is still at it."""
        effect = self._effect
        if effect is None or effect.job is None or effect.job_id == self._context.job_id:
            return
        if self._is_pressed and effect.job.status not in FINISHED:
            reason = f"{effect.job} is redeeming {self._voucher}."
            raise Later(Postpone(timedelta(seconds=10), reason))

    # ---- at the shop -----------------------------------------------------------------------------

    def _read_history(self) -> None:
        self._note_access()
        code, amount = self._voucher.code, int(self._voucher.amount)

        async def read(session: BrowserSession) -> Sequence[Redemption]:
            return await redeemer.read_history(session, self._desk.site)

        try:
            history = self._desk.visit(read, secrets=self._secrets)
        except errors.SiteTrouble as trouble:
            if self._is_pressed:
                self._come_again(trouble)
            raise
        self._rows = count_rows(history, code, amount)

    def _press(self) -> None:
        code, pin = self._voucher.code, self._voucher.pin or ""

        async def redeem(session: BrowserSession) -> Redeemed:
            async def commit() -> None:
                await session.call(self._commit)

            return await redeemer.redeem(
                session, self._desk.site, code, pin, commit, patience=PATIENCE
            )

        try:
            redeemed = self._desk.visit(redeem, secrets=self._secrets)
        except errors.VoucherRefused as refused:
            self._see_to_refusal(refused)
            return
        except errors.SiteTrouble as trouble:
            if self._is_pressed:
                self._come_again(trouble)
            raise
        self._confirm({"amount": redeemed.amount, "balance": redeemed.balance})

    def _see_to_refusal(self, refused: errors.VoucherRefused) -> None:
        """A voucher that was used already may be one that we have just redeemed."""
        self._read_history()
        if self._effect and self._rows > self._effect.intent["rows_before"]:
            self._confirm({})
            return
        if self._is_pressed:
            assert self._effect
            effects.settle(self._context.claim, self._effect, DidNotHappen())
        sentence = f"{self._what} was refused: {refused}"
        recording.record_refused(self._voucher.pk, f"voucher_{refused.kind}", sentence)
        keep_evidence(self._context, refused)
        raise refused

    def _commit(self) -> None:
        """From now on it may be redeemed. Committed on return."""
        account = self._row.purchase.card.redeemer_account
        intent = {
            "shop": account.site.name,
            "account": account.email,
            "voucher": self._what,
            "rows_before": self._rows,
            "pressed_at": read_now().isoformat(),
        }
        if self._effect is None or self._effect.job_id != self._context.job_id:
            self._effect, is_new = effects.begin(
                self._context.claim,
                effect_key(self._voucher),
                title=f"Redeem {self._what} for {account.email}",
                intent=intent,
            )
            if is_new:
                return
        if not self._is(Status.ABSENT):
            raise TransientError("begun_meanwhile", "Another attempt has begun this redemption.")
        effects.begin_again(self._context.claim, self._effect, intent)

    # ---- how it ends -----------------------------------------------------------------------------

    def _confirm(self, result: dict[str, Any]) -> None:
        if self._is_pressed:
            assert self._effect
            effects.settle(self._context.claim, self._effect, Happened(result))
        recording.record_redeemed(self._voucher.pk)

    def _come_again(self, trouble: errors.AutomationError) -> None:
        keep_evidence(self._context, trouble)
        trouble.evidence = None
        if (self._known.age or timedelta(0)) >= PATIENCE_WITH_PRESS:
            self._leave_to_a_person(str(trouble))
        self._look_later()

    def _look_later(self) -> None:
        age = self._known.age or timedelta(0)
        reason = f"It is not known yet whether {self._what} was redeemed; looking again soon."
        raise Later(Postpone(decide_delay(age), reason))

    def _leave_to_a_person(self, why: str) -> None:
        reason = f"Nobody can tell whether it was redeemed: {why}"
        if self._is(Status.INTENDED):
            assert self._effect
            effects.settle(self._context.claim, self._effect, CannotTell(reason))
        recording.record_unknown(self._row.pk, "redemption_unknown", reason)
        raise UnknownOutcome(
            f"Redeeming {self._what}: {reason} Look at the account's history, and say in the inbox "
            "whether it was redeemed."
        )

    @property
    def _secrets(self) -> tuple[str, ...]:
        pin = self._voucher.pin
        return (self._voucher.code, pin) if pin else (self._voucher.code,)

    def _note_access(self) -> None:
        context = self._context
        audit.note_access(
            self._voucher, job=context.job_id, step=context.claim.name, attempt=context.attempt
        )

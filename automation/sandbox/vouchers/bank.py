"""The bank that issued the card: decides on a payment, and asks its holder for a code (3-D Secure).

A payment is authorised once, whatever is pressed how often on its page; another submitted card form
is another payment, with a code of its own.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from automation.sandbox.switches import Scope
from automation.sandbox.vouchers.descriptions import BANK_HOST, CARD_PAGE_HOST
from automation.sandbox.vouchers.members import explain, explain_refused_resend
from automation.sandbox.vouchers.people import SentCode, Session
from automation.sandbox.vouchers.sales import Order, Payment
from automation.sandbox.vouchers.site import Answer, Site, Visit, port_of, redirect
from automation.sandbox.vouchers.switches import BankSwitches
from automation.sandbox.vouchers.texts import write_payment_code

BankVisit = Visit[BankSwitches]


class Bank(Site[BankSwitches]):
    host = BANK_HOST
    name = "Sahyadri Bank"
    templates = "bank"
    sender = "AD-SHYDRI"

    def gets(self) -> Mapping[str, Callable[[BankVisit], Answer]]:
        return {"/acs/{payment}": self.show_challenge}

    def posts(self) -> Mapping[str, Callable[[BankVisit], Answer]]:
        return {
            "/acs/{payment}": self.give_code,
            "/acs/{payment}/resend": self.resend,
            "/acs/{payment}/cancel": self.cancel,
        }

    def scope_of(self, request: Request, form: Mapping[str, str], session: Session | None) -> Scope:
        payment = self.sales.find_payment(request.path_params.get("payment", ""))
        return self._scope(payment, self.sales.order_of(payment)) if payment else Scope()

    def _scope(self, payment: Payment, order: Order) -> Scope:
        return Scope(account=order.account, product=payment.card[-4:])

    # Decisions

    def consider(self, payment: Payment, order: Order, form: Mapping[str, str]) -> bool:
        """Decline it, authorise it, or ask its holder for a code: true for the last of them."""
        scope = self._scope(payment, order)
        switches = self.switchboard.switches_for(scope)
        reason = self._find_fault(payment, order, form, switches)
        if reason:
            self.sales.decline(payment, reason)
            return False
        if switches.frictionless:
            self.sales.authorise(payment, switches.authorise_after_seconds)
            return False
        return True

    def _find_fault(
        self, payment: Payment, order: Order, form: Mapping[str, str], switches: BankSwitches
    ) -> str:
        card = self.sales.find_card(payment.card)
        if switches.decline == "at_once":
            return "Your bank declined this payment."
        if card is None:
            return "Your bank does not know this card."
        month, year = card.expiry.split("/")
        expiry = form["expiry"].replace(" ", "").replace("/20", "/")
        if expiry != f"{month}/{year}" or form["cvv"].strip() != card.cvv:
            return "The card details are not right."
        spent = self.sales.spent_on(card.number)
        if card.credit_limit is not None and spent + order.amount > card.credit_limit:
            return "There is not enough credit on this card."
        return ""

    # The page that asks for the code

    async def show_challenge(self, visit: BankVisit) -> Response:
        return self._show_challenge(visit)

    def _show_challenge(self, visit: BankVisit, error: str = "") -> Response:
        payment = self.sales.find_payment(visit.part("payment"))
        if payment is None:
            return self.show_notice(
                visit, 404, "We don't know this payment", "Go back to the shop and start again."
            )
        if payment.status != "challenge":
            return self._go_to_result(visit, payment)
        if time.time() > payment.made_at + visit.switches.challenge_seconds:
            self.sales.decline(payment, "You did not confirm the payment in time.")
            return self._go_to_result(visit, payment)
        order = self.sales.order_of(payment)
        sent = self.people.find_code(self.host, payment.token) or self._send_code(
            visit, payment, order
        )
        return self.render(
            visit,
            "challenge.html",
            payment=payment,
            order=order,
            sent=sent,
            error=error,
            ends_at=payment.made_at + visit.switches.challenge_seconds,
        )

    def _send_code(self, visit: BankVisit, payment: Payment, order: Order) -> SentCode:
        switches = visit.switches
        card = self.sales.find_card(payment.card)
        assert card is not None
        return self.people.send_code(
            self.host,
            payment.token,
            account=order.account,
            phone=card.phone,
            sender=self.sender,
            write=lambda code, context: write_payment_code(
                code,
                context,
                amount=order.amount,
                card_tail=card.tail,
                minutes=max(1, switches.code_seconds // 60),
                reference=switches.sms_reference,
            ),
            switches=switches,
        )

    def _go_to_result(self, visit: BankVisit, payment: Payment) -> Response:
        origin = f"http://{CARD_PAGE_HOST}:{port_of(visit.request)}"
        return redirect(f"{origin}/result/{payment.token}")

    async def give_code(self, visit: BankVisit) -> Response:
        payment = self.sales.find_payment(visit.part("payment"))
        if payment is None or payment.status != "challenge":
            return self._show_challenge(visit)
        order = self.sales.order_of(payment)
        typed = visit.form.get("code", "").strip()
        verdict, left = self.people.check_code(
            self.host, payment.token, typed, visit.switches, order.account
        )
        if verdict == "too_many":
            self.sales.decline(payment, "The code was wrong too often.")
            return self._go_to_result(visit, payment)
        if verdict != "accepted":
            return self._show_challenge(visit, explain(verdict, left))
        await self._conclude(visit, payment)
        return self._go_to_result(visit, payment)

    async def _conclude(self, visit: BankVisit, payment: Payment) -> None:
        switches = visit.switches
        await asyncio.sleep(switches.authorise_delay_ms / 1000)
        if switches.decline == "after_code":
            self.sales.decline(payment, "Your bank declined this payment.")
        else:
            self.sales.authorise(payment, switches.authorise_after_seconds)
        if self.switchboard.take("hang_codes", visit.scope):
            await asyncio.sleep(switches.hang_seconds)

    async def resend(self, visit: BankVisit) -> Response:
        payment = self.sales.find_payment(visit.part("payment"))
        if payment is None or payment.status != "challenge":
            return self._show_challenge(visit)
        sent = self.people.find_code(self.host, payment.token)
        if sent is not None:
            times = self.people.count_codes(self.host, payment.token)
            error = explain_refused_resend(sent, times, visit.switches)
            if error:
                return self._show_challenge(visit, error)
        self._send_code(visit, payment, self.sales.order_of(payment))
        return redirect(f"/acs/{payment.token}")

    async def cancel(self, visit: BankVisit) -> Response:
        payment = self.sales.find_payment(visit.part("payment"))
        if payment is None:
            return self._show_challenge(visit)
        self.sales.decline(payment, "You cancelled the payment.")
        return self._go_to_result(visit, payment)

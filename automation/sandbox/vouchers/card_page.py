"""The payment page behind a payment link: takes a card, sends its holder to the bank, says how it
ended.

A link that is paid says so instead of asking for a card. But who had the form open before, or
opens it before the portal has heard of the payment, can submit it and pays once more
(`double_pay_allowed`): that is what happens to buyers who press Pay in two windows.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from automation.sandbox.switches import Scope, Switchboard
from automation.sandbox.vouchers.bank import Bank
from automation.sandbox.vouchers.descriptions import BANK_HOST, CARD_PAGE_HOST, PORTAL_HOST
from automation.sandbox.vouchers.people import People, Session
from automation.sandbox.vouchers.sales import Order, Payment, Sales
from automation.sandbox.vouchers.site import Answer, Site, Visit, port_of, redirect
from automation.sandbox.vouchers.switches import CardPageSwitches

EXPIRY = re.compile(r"(0[1-9]|1[0-2])\s*/\s*(?:20)?(\d\d)")

PayVisit = Visit[CardPageSwitches]


class CardPage(Site[CardPageSwitches]):
    host = CARD_PAGE_HOST
    name = "Setulane Payments"
    templates = "pay"

    def __init__(
        self, switchboard: Switchboard[CardPageSwitches], people: People, sales: Sales, bank: Bank
    ) -> None:
        super().__init__(switchboard, people, sales)
        self._bank = bank

    def gets(self) -> Mapping[str, Callable[[PayVisit], Answer]]:
        return {"/l/{link}": self.show_link, "/result/{payment}": self.show_result}

    def posts(self) -> Mapping[str, Callable[[PayVisit], Answer]]:
        return {"/l/{link}": self.pay}

    def scope_of(self, request: Request, form: Mapping[str, str], session: Session | None) -> Scope:
        payment = self.sales.find_payment(request.path_params.get("payment", ""))
        if payment:
            return Scope(self.sales.order_of(payment).account, payment.card[-4:])
        order = self.sales.find_order_of_link(request.path_params.get("link", ""))
        number = read_number(form.get("number", ""))
        return Scope(order.account if order else None, number[-4:] or None)

    async def show_link(self, visit: PayVisit) -> Response:
        order = self.sales.find_order_of_link(visit.part("link"))
        if order is None:
            return self.render(visit, "unknown.html", 404)
        return self._show_form(visit, order)

    def _show_form(
        self,
        visit: PayVisit,
        order: Order,
        fields: Mapping[str, str] | None = None,
        error: str = "",
    ) -> Response:
        if order.status in ("paid", "issued") or (
            order.status == "processing" and order.paid_at is not None
        ):
            return self.render(visit, "paid.html", order=order, reference=order.payment_reference)
        if order.status == "processing" and not visit.switches.double_pay_allowed:
            return self.render(visit, "processing.html", order=order)
        if order.status == "failed":
            return self.render(visit, "closed.html", order=order)
        if order.status == "expired":
            return self.render(visit, "expired.html", order=order)
        return self.render(visit, "card.html", order=order, fields=fields or {}, error=error)

    async def pay(self, visit: PayVisit) -> Response:
        order = self.sales.find_order_of_link(visit.part("link"))
        if order is None:
            return self.render(visit, "unknown.html", 404)
        is_paid = order.paid_at is not None
        if order.status in ("expired", "failed") or (
            is_paid and not visit.switches.double_pay_allowed
        ):
            return redirect(f"/l/{order.link}")
        error = find_card_fault(visit.form)
        if error:
            return self._show_form(visit, order, visit.form, error)
        await asyncio.sleep(visit.switches.submit_delay_ms / 1000)
        payment = self.sales.begin_payment(order, read_number(visit.form["number"]))
        needs_code = self._bank.consider(payment, order, visit.form)
        if self.switchboard.take("hang_submits", visit.scope):
            await asyncio.sleep(visit.switches.hang_seconds)
        if needs_code:
            origin = f"http://{BANK_HOST}:{port_of(visit.request)}"
            return redirect(f"{origin}/acs/{payment.token}")
        return redirect(f"/result/{payment.token}")

    async def show_result(self, visit: PayVisit) -> Response:
        payment = self.sales.find_payment(visit.part("payment"))
        if payment is None:
            return self.render(visit, "unknown.html", 404)
        order = self.sales.order_of(payment)
        if payment.status == "authorised":
            origin = f"http://{PORTAL_HOST}:{port_of(visit.request)}"
            return self.render(
                visit,
                "paid.html",
                order=order,
                reference=payment.reference,
                back=f"{origin}/payments/return?order={order.number}",
            )
        if payment.status == "authorising":
            return self.render(visit, "processing.html", order=order)
        if payment.status == "declined":
            return self._show_declined(visit, order, payment)
        return redirect(f"http://{BANK_HOST}:{port_of(visit.request)}/acs/{payment.token}")

    def _show_declined(self, visit: PayVisit, order: Order, payment: Payment) -> Response:
        return self.render(visit, "declined.html", order=order, reason=payment.reason)


def read_number(typed: str) -> str:
    """The digits of a card's number, however they are grouped."""
    return re.sub(r"[\s-]", "", typed)


def read_expiry(typed: str) -> str | None:
    """MM/YY; None for anything else."""
    found = EXPIRY.fullmatch(typed.strip())
    return f"{found[1]}/{found[2]}" if found else None


def find_card_fault(form: Mapping[str, str]) -> str:
    """What the payment page sees by itself, without asking a bank; empty when it is fine."""
    number, expiry = read_number(form.get("number", "")), read_expiry(form.get("expiry", ""))
    if not (number.isascii() and number.isdecimal() and has_check_digit(number)):
        return "This is not a card number. Please check it."
    if expiry is None:
        return "Please enter when the card expires, as MM / YY."
    if (expiry[3:], expiry[:2]) < (f"{datetime.now(UTC):%y}", f"{datetime.now(UTC):%m}"):
        return "This card has expired. Please use another one."
    cvv, wanted = form.get("cvv", "").strip(), 4 if number.startswith("3") else 3
    if not (cvv.isascii() and cvv.isdecimal() and len(cvv) == wanted):
        return f"Please enter the {wanted} digits of the CVV."
    if not form.get("holder", "").strip():
        return "Please enter the name on the card."
    return ""


def has_check_digit(number: str) -> bool:
    """Luhn's sum over 13 to 19 digits, the last of them the check digit."""
    if not 13 <= len(number) <= 19:
        return False
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(number))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0

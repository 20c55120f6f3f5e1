"""Orders, payments, vouchers and balances: what is worth money, and what becomes of it.

What falls due (a payment that the bank authorises later, a voucher that is issued later) happens
when anybody next looks: `settle` comes first in every request, so that no one sees a difference.
"""

import random
import secrets
import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from automation.sandbox.switches import Scope, Switchboard
from automation.sandbox.vouchers.book import Book
from automation.sandbox.vouchers.descriptions import (
    BANK_HOST,
    CARD_PAGE_HOST,
    PORTAL_HOST,
    WALLET_HOST,
)
from automation.sandbox.vouchers.people import REFERENCE_SIGNS, Account
from automation.sandbox.vouchers.switches import CardPageSwitches, PortalSwitches

VALID_DAYS = 365
DENOMINATIONS = (250, 500, 1000, 1500, 2000, 3000, 5000, 10000)

Status = Literal["unpaid", "processing", "paid", "issued", "expired", "failed"]


class NotSold(Exception):
    """The text is what the portal tells the customer; `reason` is what the ledger records."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotRedeemed(NotSold):
    """The same for a code that adds nothing to a balance."""


@dataclass(frozen=True, slots=True)
class Card:
    number: str
    expiry: str
    """MM/YY"""
    cvv: str
    phone: str
    credit_limit: int | None

    @property
    def tail(self) -> str:
        return self.number[-4:]


@dataclass(frozen=True, slots=True)
class Voucher:
    code: str
    pin: str
    amount: int
    expires_on: str
    redeemed_by: str | None
    redeemed_at: float | None


@dataclass(frozen=True, slots=True)
class Order:
    id: int
    number: str
    account: str
    reference: str
    amount: int
    made_at: float
    link: str
    expires_at: float
    paid_at: float | None
    seen_from: float | None
    known_at: float | None
    voucher_due_at: float | None
    payment_reference: str | None
    status: Status
    voucher: Voucher | None

    @property
    def is_open(self) -> bool:
        """Whether the link can still be paid, as far as the portal and the payment page know."""
        return self.status == "unpaid"


@dataclass(frozen=True, slots=True)
class Payment:
    """One submitted card form. `status`: challenge, authorising, authorised, declined."""

    token: str
    order_id: int
    card: str
    status: str
    made_at: float
    due_at: float | None
    reference: str
    reason: str


class Sales:
    def __init__(
        self,
        book: Book,
        portal_switches: Switchboard[PortalSwitches],
        card_page_switches: Switchboard[CardPageSwitches],
    ) -> None:
        self._book = book
        self._portal_switches = portal_switches
        self._card_page_switches = card_page_switches

    # Orders

    def make_order(
        self, account: Account, amount: int, reference: str, switches: PortalSwitches
    ) -> Order:
        """Raises NotSold. A reference that was used before makes another order all the same."""
        now = time.time()
        with self._book.transaction():
            problem = self._find_problem(account, amount, switches)
            if problem is None:
                row = self._book.row(
                    "INSERT INTO voucher_orders (number, account, reference, amount, made_at,"
                    " link, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING *",
                    f"TKR{random.randrange(10**9, 10**10)}",
                    account.email,
                    reference,
                    amount,
                    now,
                    secrets.token_urlsafe(12),
                    now + switches.link_seconds,
                )
                assert row is not None
                self._note_order("link_made", row)
                return self._order(row)
            self._book.append(
                PORTAL_HOST,
                "link_refused",
                account=account.email,
                amount=amount,
                reference=reference,
                note=problem.reason,
            )
        raise problem

    def _find_problem(
        self, account: Account, amount: int, switches: PortalSwitches
    ) -> NotSold | None:
        if amount not in DENOMINATIONS or switches.inventory < 1:
            return NotSold("stock", f"Vouchers of ₹{amount:,} are out of stock at the moment.")
        left = self.limit_left(account, switches)
        if amount > left:
            return NotSold(
                "limit",
                f"Exceeded limit: only ₹{left:,} of your monthly limit are left.",
            )
        return None

    def limit_left(self, account: Account, switches: PortalSwitches) -> int:
        """Of this calendar month (UTC): orders count once paid, and while their link is open."""
        limit = switches.monthly_limit or account.monthly_limit
        month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        row = self._book.row(
            "SELECT coalesce(sum(amount), 0) AS used FROM voucher_orders WHERE account = ?"
            " AND made_at >= ? AND (paid_at IS NOT NULL OR expires_at > ?)",
            account.email,
            month.timestamp(),
            time.time(),
        )
        assert row is not None
        return max(0, limit - int(row["used"]))

    def find_order(self, number: str, account: str | None = None) -> Order | None:
        row = self._book.row(
            "SELECT * FROM voucher_orders WHERE number = ?1 AND (?2 IS NULL OR account = ?2)",
            number,
            account,
        )
        return self._order(row) if row else None

    def find_order_of_link(self, link: str) -> Order | None:
        row = self._book.row("SELECT * FROM voucher_orders WHERE link = ?", link)
        return self._order(row) if row else None

    def order_of(self, payment: Payment) -> Order:
        row = self._book.row("SELECT * FROM voucher_orders WHERE id = ?", payment.order_id)
        assert row is not None
        return self._order(row)

    def list_orders(
        self, account: str | None, wanted: str = "", page: tuple[int, int] | None = None
    ) -> list[Order]:
        """Newest first. `page`: how many to leave out, and how many to list."""
        skipped, most = page or (0, -1)
        rows = self._book.rows(
            "SELECT * FROM voucher_orders WHERE (?1 IS NULL OR account = ?1)"
            " AND (?2 = '' OR number = ?2 OR instr(reference, ?2)) ORDER BY id DESC"
            " LIMIT ?3 OFFSET ?4",
            account,
            wanted,
            most,
            skipped,
        )
        return [self._order(row) for row in rows]

    def _order(self, row: sqlite3.Row) -> Order:
        found = self._book.row(
            "SELECT code, pin, amount, expires_on, redeemed_by, redeemed_at FROM vouchers"
            " WHERE order_id = ?",
            row["id"],
        )
        voucher = Voucher(**found) if found else None
        return Order(**row, status=self._status(row, voucher), voucher=voucher)

    def _status(self, row: sqlite3.Row, voucher: Voucher | None) -> Status:
        now = time.time()
        if voucher:
            return "issued"
        if row["paid_at"] is not None and now >= row["seen_from"]:
            return "paid" if now >= row["known_at"] else "processing"
        payments = self._book.rows(
            "SELECT status FROM voucher_payments WHERE order_id = ?", row["id"]
        )
        statuses = [payment["status"] for payment in payments]
        if "authorising" in statuses:
            return "processing"
        most = self._card_page_switches.switches_for(Scope(row["account"])).most_declined
        if statuses.count("declined") >= most:
            return "failed"
        return "expired" if now > row["expires_at"] else "unpaid"

    # Cards and payments

    def save_card(self, card: Card) -> bool:
        """Issue the card, or change it; True when it is new."""
        is_new = self.find_card(card.number) is None
        self._book.change(
            "INSERT OR REPLACE INTO voucher_cards VALUES (?, ?, ?, ?, ?)",
            card.number,
            card.expiry,
            card.cvv,
            card.phone,
            card.credit_limit,
        )
        return is_new

    def find_card(self, number: str) -> Card | None:
        row = self._book.row("SELECT * FROM voucher_cards WHERE number = ?", number)
        return Card(**row) if row else None

    def spent_on(self, card: str) -> int:
        row = self._book.row(
            "SELECT coalesce(sum(amount), 0) AS spent FROM voucher_payments"
            " JOIN voucher_orders ON voucher_orders.id = order_id"
            " WHERE card = ? AND status IN ('authorised', 'authorising')",
            card,
        )
        assert row is not None
        return int(row["spent"])

    def begin_payment(self, order: Order, card: str) -> Payment:
        """One more for each submitted form: two forms of one link are two payments."""
        payment = Payment(
            token=secrets.token_urlsafe(15),
            order_id=order.id,
            card=card,
            status="challenge",
            made_at=time.time(),
            due_at=None,
            reference="pay_" + "".join(random.choices(REFERENCE_SIGNS, k=14)),
            reason="",
        )
        with self._book.transaction():
            self._book.change(
                "INSERT INTO voucher_payments (token, order_id, card, status, made_at, reference)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                payment.token,
                payment.order_id,
                payment.card,
                payment.status,
                payment.made_at,
                payment.reference,
            )
            self._note_payment(CARD_PAGE_HOST, "payment_begun", payment, order)
        return payment

    def find_payment(self, token: str) -> Payment | None:
        row = self._book.row("SELECT * FROM voucher_payments WHERE token = ?", token)
        return Payment(**row) if row else None

    def decline(self, payment: Payment, reason: str) -> None:
        with self._book.transaction():
            self._decline(payment, reason)

    def _decline(self, payment: Payment, reason: str) -> None:
        changed = self._book.change(
            "UPDATE voucher_payments SET status = 'declined', reason = ?"
            " WHERE token = ? AND status IN ('challenge', 'authorising')",
            reason,
            payment.token,
        )
        if changed:
            order = self.order_of(payment)
            self._note_payment(BANK_HOST, "payment_declined", payment, order, reason)

    def authorise(self, payment: Payment, after_seconds: float = 0) -> None:
        """At once, or on its way and then done by `settle`. Once a payment, whoever repeats it."""
        if after_seconds:
            self._book.change(
                "UPDATE voucher_payments SET status = 'authorising', due_at = ?"
                " WHERE token = ? AND status = 'challenge'",
                time.time() + after_seconds,
                payment.token,
            )
        else:
            with self._book.transaction():
                self._authorise(payment)

    def _authorise(self, payment: Payment) -> None:
        """Takes the money; of the second payment of an order too, if that may be."""
        order = self.order_of(payment)
        scope = Scope(order.account, payment.card[-4:])
        may_double = self._card_page_switches.switches_for(scope).double_pay_allowed
        if order.paid_at is not None and not may_double:
            self._decline(payment, "This order is already paid.")
            return
        changed = self._book.change(
            "UPDATE voucher_payments SET status = 'authorised' WHERE token = ?"
            " AND status IN ('challenge', 'authorising')",
            payment.token,
        )
        if not changed:
            return
        self._note_payment(BANK_HOST, "payment_authorised", payment, order)
        if order.paid_at is not None:
            return
        switches = self._portal_switches.switches_for(scope)
        now = time.time()
        seen_from = now + switches.unpaid_lag_seconds
        known_at = seen_from + switches.processing_seconds
        due_at = None if switches.voucher_never else known_at + switches.voucher_delay_seconds
        self._book.change(
            "UPDATE voucher_orders SET paid_at = ?, seen_from = ?, known_at = ?,"
            " voucher_due_at = ?, payment_reference = ? WHERE id = ?",
            now,
            seen_from,
            known_at,
            due_at,
            payment.reference,
            order.id,
        )

    def settle(self) -> None:
        """Do what is due: authorise payments that were on their way, issue vouchers."""
        now = time.time()
        for row in self._book.rows(
            "SELECT * FROM voucher_payments WHERE status = 'authorising' AND due_at <= ?", now
        ):
            with self._book.transaction():
                self._authorise(Payment(**row))
        for row in self._book.rows(
            "SELECT * FROM voucher_orders WHERE voucher_due_at <= ? ORDER BY voucher_due_at", now
        ):
            self._issue(row)

    # Vouchers

    def issue_now(self, number: str) -> bool:
        """For a paid order whose voucher never came, or has not come yet."""
        row = self._book.row(
            "SELECT * FROM voucher_orders WHERE number = ? AND paid_at IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM vouchers WHERE order_id = voucher_orders.id)",
            number,
        )
        if row is not None:
            self._issue(row)
        return row is not None

    def _issue(self, order: sqlite3.Row) -> None:
        is_used = self._portal_switches.take("issue_used", Scope(order["account"]))
        with self._book.transaction():
            self._book.change(
                "UPDATE voucher_orders SET voucher_due_at = NULL WHERE id = ?", order["id"]
            )
            code = self._make_voucher(order["amount"], order["id"])
            self._note_order("voucher_issued", order, voucher=code)
            if is_used:
                self._book.change(
                    "UPDATE vouchers SET redeemed_by = 'somebody else', redeemed_at = ?"
                    " WHERE code = ?",
                    time.time(),
                    code,
                )

    def give_voucher(self, amount: int) -> Voucher:
        """One that no order paid for: for tests of the wallet alone."""
        with self._book.transaction():
            code = self._make_voucher(amount, None)
            self._book.append(PORTAL_HOST, "voucher_given", amount=amount, voucher=code)
        voucher = self.find_voucher(code)
        assert voucher is not None
        return voucher

    def _make_voucher(self, amount: int, order_id: int | None) -> str:
        signs = random.choices(REFERENCE_SIGNS, k=14)
        code = "-".join("".join(part) for part in (signs[:4], signs[4:10], signs[10:]))
        expires_on = date.today() + timedelta(days=VALID_DAYS)  # noqa: DTZ011 a day, not a time
        self._book.change(
            "INSERT INTO vouchers (code, pin, amount, order_id, issued_at, expires_on)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            code,
            f"{random.randrange(10**6):06}",
            amount,
            order_id,
            time.time(),
            expires_on.isoformat(),
        )
        return code

    def find_voucher(self, code: str) -> Voucher | None:
        row = self._book.row(
            "SELECT code, pin, amount, expires_on, redeemed_by, redeemed_at FROM vouchers"
            " WHERE code = ?",
            code,
        )
        return Voucher(**row) if row else None

    # Balances

    def redeem(self, account: str, typed: str, pin: str) -> Voucher:
        """Raises NotRedeemed, which the ledger has too: a second try shows there."""
        code = _spell_code(typed)
        with self._book.transaction():
            voucher = self.find_voucher(code)
            problem = _find_fault(voucher, account, pin)
            if voucher is not None and problem is None:
                self._book.change(
                    "UPDATE vouchers SET redeemed_by = ?, redeemed_at = ? WHERE code = ?",
                    account,
                    time.time(),
                    code,
                )
                self._book.change(
                    "UPDATE voucher_accounts SET balance = balance + ? WHERE site = ?"
                    " AND email = ?",
                    voucher.amount,
                    WALLET_HOST,
                    account,
                )
                self._book.append(
                    WALLET_HOST,
                    "voucher_redeemed",
                    account=account,
                    amount=voucher.amount,
                    voucher=code,
                )
                return voucher
            assert problem is not None
            self._note_refused_code(account, code, problem)
        raise problem

    def refuse_redemption(self, account: str, typed: str, reason: str) -> NotRedeemed:
        """As the switch `refuse_codes` says, whatever the code is."""
        problem = NotRedeemed(reason, REFUSALS[reason])
        self._note_refused_code(account, _spell_code(typed), problem)
        return problem

    def _note_refused_code(self, account: str, code: str, problem: NotRedeemed) -> None:
        self._book.append(
            WALLET_HOST, "redeem_refused", account=account, voucher=code, note=problem.reason
        )

    def list_redeemed(self, account: str, page: tuple[int, int]) -> list[Voucher]:
        skipped, most = page
        rows = self._book.rows(
            "SELECT code, pin, amount, expires_on, redeemed_by, redeemed_at FROM vouchers"
            " WHERE redeemed_by = ? ORDER BY redeemed_at DESC LIMIT ? OFFSET ?",
            account,
            most,
            skipped,
        )
        return [Voucher(**row) for row in rows]

    # The ledger

    def sum_up(self, account: str | None) -> dict[str, Any]:
        """By order, how often the ledger says it was paid, issued and redeemed; and the sums."""
        rows = self._book.rows(
            "SELECT o.number AS 'order', o.account, o.reference, o.amount,"
            " (SELECT count(*) FROM voucher_ledger AS l WHERE l.order_number = o.number"
            "  AND l.action = 'payment_authorised') AS payments,"
            " v.code IS NOT NULL AS issued,"
            " (SELECT count(*) FROM voucher_ledger AS l WHERE l.voucher = v.code"
            "  AND l.action = 'voucher_redeemed') AS redemptions,"
            " (SELECT count(*) FROM voucher_ledger AS l WHERE l.voucher = v.code"
            "  AND l.action = 'redeem_refused') AS refused_redemptions"
            " FROM voucher_orders AS o LEFT JOIN vouchers AS v ON v.order_id = o.id"
            " WHERE (?1 IS NULL OR o.account = ?1) ORDER BY o.id",
            account,
        )
        orders = [dict(row) for row in rows]
        return {
            "orders": orders,
            "paid": sum(order["amount"] * order["payments"] for order in orders),
            "issued": sum(order["amount"] * order["issued"] for order in orders),
            "redeemed": sum(order["amount"] * order["redemptions"] for order in orders),
            "double_payments": [each["order"] for each in orders if each["payments"] > 1],
            "double_redemptions": [each["order"] for each in orders if each["redemptions"] > 1],
            "paid_without_voucher": [
                each["order"] for each in orders if each["payments"] and not each["issued"]
            ],
            "not_redeemed": [
                each["order"] for each in orders if each["issued"] and not each["redemptions"]
            ],
        }

    def _note_order(self, action: str, order: sqlite3.Row, voucher: str | None = None) -> None:
        self._book.append(
            PORTAL_HOST,
            action,
            account=order["account"],
            amount=order["amount"],
            order_number=order["number"],
            reference=order["reference"],
            voucher=voucher,
        )

    def _note_payment(
        self, site: str, action: str, payment: Payment, order: Order, note: str | None = None
    ) -> None:
        self._book.append(
            site,
            action,
            account=order.account,
            card=payment.card[-4:],
            amount=order.amount,
            order_number=order.number,
            reference=order.reference,
            payment=payment.reference,
            note=note,
        )


REFUSALS = {
    "used_here": "This gift card is already added to your balance.",
    "used": "This gift card is already used. A code works once.",
    "unknown": "That is not a gift card code. Check it and try again.",
    "pin": "The PIN does not match this gift card.",
    "expired": "This gift card expired and cannot be added.",
    "not_active": "This gift card is not active yet. Try again later.",
}


def _find_fault(voucher: Voucher | None, account: str, pin: str) -> NotRedeemed | None:
    reason = None
    if voucher is None:
        reason = "unknown"
    elif voucher.redeemed_by is not None:
        reason = "used_here" if voucher.redeemed_by == account else "used"
    elif not secrets.compare_digest(voucher.pin.encode(), pin.strip().encode()):
        reason = "pin"
    return NotRedeemed(reason, REFUSALS[reason]) if reason else None


def _spell_code(typed: str) -> str:
    """As it was issued, however it was typed: XXXX-XXXXXX-XXXX."""
    signs = "".join(filter(str.isalnum, typed)).upper()
    return f"{signs[:4]}-{signs[4:10]}-{signs[10:]}"

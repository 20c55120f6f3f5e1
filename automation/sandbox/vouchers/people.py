"""Accounts of portal and wallet, their sessions, and the codes that are asked for."""

import random
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from automation.sandbox.ledger import hash_password
from automation.sandbox.vouchers.book import Book
from automation.sandbox.vouchers.switches import CodeSwitches

# Without letters and digits that are read as one another.
REFERENCE_SIGNS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"

Verdict = Literal["accepted", "wrong", "too_many", "expired", "none"]


@dataclass(frozen=True, slots=True)
class Account:
    site: str
    email: str
    phone: str
    monthly_limit: int
    balance: int
    locked_until: float

    @property
    def minutes_locked(self) -> int:
        """0 when it is not locked."""
        seconds = self.locked_until - time.time()
        return int(seconds // 60) + 1 if seconds > 0 else 0


@dataclass(frozen=True, slots=True)
class Session:
    token: str
    account: str | None
    """Who is logged in."""
    awaiting: str | None
    """Who has given the right password, and still has to give the code."""


@dataclass(frozen=True, slots=True)
class SentCode:
    phone: str
    code: str
    context: str
    sent_at: float
    valid_until: float

    @property
    def masked_phone(self) -> str:
        """As sites show it: +91 XXXXXX1234."""
        return f"{self.phone[:3]} XXXXXX{self.phone[-4:]}"


class People:
    def __init__(self, book: Book, send_sms: Callable[[str, str, str, str], None]) -> None:
        self._book = book
        self._send_sms = send_sms

    # Accounts

    def save_account(
        self, site: str, email: str, password: str, phone: str, monthly_limit: int
    ) -> bool:
        """Make the account, or change it; True when it is new."""
        is_new = self.find_account(site, email) is None
        with self._book.transaction():
            self._book.change(
                "INSERT INTO voucher_accounts (site, email, password_hash, phone, monthly_limit)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT (site, email) DO UPDATE SET"
                " password_hash = excluded.password_hash, phone = excluded.phone,"
                " monthly_limit = excluded.monthly_limit, locked_until = 0",
                site,
                email,
                hash_password(email, password),
                phone,
                monthly_limit,
            )
        return is_new

    def find_account(self, site: str, email: str) -> Account | None:
        row = self._book.row(
            "SELECT site, email, phone, monthly_limit, balance, locked_until"
            " FROM voucher_accounts WHERE site = ? AND email = ?",
            site,
            email,
        )
        return Account(**row) if row else None

    def check_password(self, site: str, email: str, password: str) -> Account | None:
        row = self._book.row(
            "SELECT password_hash FROM voucher_accounts WHERE site = ? AND email = ?", site, email
        )
        if row is None or not secrets.compare_digest(
            row["password_hash"], hash_password(email, password)
        ):
            self._book.append(site, "log_in_failed", account=email)
            return None
        return self.find_account(site, email)

    def lock(self, site: str, email: str, seconds: float) -> None:
        with self._book.transaction():
            self._book.change(
                "UPDATE voucher_accounts SET locked_until = ? WHERE site = ? AND email = ?",
                time.time() + seconds,
                site,
                email,
            )
            self._book.append(site, "log_in_locked", account=email)

    # Sessions

    def find_session(self, site: str, token: str) -> Session | None:
        row = self._book.row(
            "SELECT token, account, awaiting FROM voucher_sessions WHERE token = ? AND site = ?",
            token,
            site,
        )
        return Session(**row) if row else None

    def start_session(
        self, site: str, *, account: str | None = None, awaiting: str | None = None
    ) -> Session:
        session = Session(secrets.token_urlsafe(24), account, awaiting)
        with self._book.transaction():
            self._book.change(
                "INSERT INTO voucher_sessions (token, site, account, awaiting) VALUES (?, ?, ?, ?)",
                session.token,
                site,
                account,
                awaiting,
            )
            if account:
                self._book.append(site, "log_in", account=account)
        return session

    def end_session(self, session: Session) -> None:
        self._book.change("DELETE FROM voucher_sessions WHERE token = ?", session.token)

    def forget_sessions(self, site: str, account: str | None) -> int:
        """The visitors keep cookies that mean nothing any more. Returns how many."""
        return self._book.change(
            "DELETE FROM voucher_sessions WHERE site = ?1"
            " AND (?2 IS NULL OR account = ?2 OR awaiting = ?2)",
            site,
            account,
        )

    # Codes. `subject` is what a code is asked for: a session, or a payment.

    def send_code(
        self,
        site: str,
        subject: str,
        *,
        account: str | None,
        phone: str,
        sender: str,
        write: Callable[[str, str], str],
        switches: CodeSwitches,
        one_per_account: bool = False,
    ) -> SentCode:
        """Put an end to the subject's earlier code, and send a new one; the reference stays.

        `one_per_account`: the codes of other log-ins of that account come to an end too.
        """
        earlier = self.find_code(site, subject)
        now = time.time()
        sent = SentCode(
            phone=phone,
            code=unused_code(self._book),
            context=earlier.context if earlier else _new_reference(),
            sent_at=now,
            valid_until=now + switches.code_seconds,
        )
        with self._book.transaction():
            self._book.change(
                "UPDATE voucher_codes SET is_open = 0 WHERE site = ?1 AND is_open"
                " AND (subject = ?2 OR (?3 AND account = ?4))",
                site,
                subject,
                one_per_account,
                account,
            )
            self._book.change(
                "INSERT INTO voucher_codes (site, subject, account, phone, code, context, sent_at,"
                " valid_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                site,
                subject,
                account,
                phone,
                sent.code,
                sent.context,
                sent.sent_at,
                sent.valid_until,
            )
            self._book.append(
                site,
                "code_sent",
                account=account,
                phone=phone,
                code=sent.code,
                context=sent.context,
            )
        self._send_sms(phone, sender, write(sent.code, sent.context), sent.code)
        return sent

    def find_code(self, site: str, subject: str) -> SentCode | None:
        row = self._book.row(
            "SELECT phone, code, context, sent_at, valid_until FROM voucher_codes"
            " WHERE site = ? AND subject = ? ORDER BY id DESC LIMIT 1",
            site,
            subject,
        )
        return SentCode(**row) if row else None

    def count_codes(self, site: str, subject: str) -> int:
        """How often one was sent."""
        row = self._book.row(
            "SELECT count(*) AS number FROM voucher_codes WHERE site = ? AND subject = ?",
            site,
            subject,
        )
        assert row is not None
        return int(row["number"])

    def check_code(
        self, site: str, subject: str, typed: str, switches: CodeSwitches, account: str | None
    ) -> tuple[Verdict, int]:
        """The verdict, and how many attempts are left. An accepted code is used up."""
        sent = self._book.row(
            "SELECT * FROM voucher_codes WHERE site = ? AND subject = ? AND is_open",
            site,
            subject,
        )
        if sent is None:
            return "none", 0
        facts = {"account": account, "phone": sent["phone"], "context": sent["context"]}
        with self._book.transaction():
            if time.time() > sent["valid_until"]:
                self._book.append(site, "code_refused", code=typed, note="expired", **facts)
                return "expired", 1
            if secrets.compare_digest(typed.encode(), sent["code"].encode()):
                self._book.change("UPDATE voucher_codes SET is_open = 0 WHERE id = ?", sent["id"])
                self._book.append(site, "code_accepted", code=typed, **facts)
                return "accepted", 0
            note = self._explain_wrong_code(sent, typed)
            self._book.append(site, "code_refused", code=typed, note=note, **facts)
            left = switches.most_wrong_codes - self._count_wrong(site, sent["context"])
            if left > 0:
                return "wrong", left
            self._book.change(
                "UPDATE voucher_codes SET is_open = 0 WHERE site = ? AND subject = ?", site, subject
            )
            return "too_many", 0

    def _explain_wrong_code(self, wanted: sqlite3.Row, typed: str) -> str:
        """For the ledger: whether it was an earlier code of this request, or one of another's."""
        rows = self._book.rows(
            "SELECT site, subject, context FROM voucher_codes WHERE code = ? ORDER BY id DESC",
            typed,
        )
        if any(row["subject"] == wanted["subject"] for row in rows):
            return "replaced by a newer one"
        if self._book.row(
            "SELECT 1 FROM voucher_ledger WHERE code = ? AND phone = ? AND note = 'wrong'",
            typed,
            wanted["phone"],
        ):
            return "as the phone passed it on"
        if rows:
            return f"the code of another request: {rows[0]['site']} {rows[0]['context']}"
        return "never sent"

    def _count_wrong(self, site: str, context: str) -> int:
        row = self._book.row(
            "SELECT count(*) AS number FROM voucher_ledger WHERE site = ? AND context = ?"
            " AND action = 'code_refused' AND note <> 'expired'",
            site,
            context,
        )
        assert row is not None
        return int(row["number"])


def unused_code(book: Book) -> str:
    """One that was never sent: so the ledger can tell whose code was typed."""
    code = f"{random.randrange(10**6):06}"
    while book.row("SELECT 1 FROM voucher_codes WHERE code = ?", code):
        code = f"{random.randrange(10**6):06}"
    return code


def _new_reference() -> str:
    """Six signs, a letter first and a digit last: no word, and no number."""
    middle = "".join(random.choices(REFERENCE_SIGNS, k=4))
    return f"{random.choice(REFERENCE_SIGNS[:23])}{middle}{random.choice(REFERENCE_SIGNS[23:])}"

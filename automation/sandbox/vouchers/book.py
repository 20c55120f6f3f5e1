"""What the voucher sites know, and what really happened, in tables of the sandbox's SQLite file.

`voucher_ledger` is the ground truth for tests of exactly-once, made as the shops' ledger is:
append-only, and each row committed together with the change it tells of, before a site answers.
Times are seconds since 1970; the ledger's are ISO 8601.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS voucher_accounts (
    site TEXT NOT NULL, email TEXT NOT NULL, password_hash BLOB NOT NULL, phone TEXT NOT NULL,
    monthly_limit INTEGER NOT NULL, balance INTEGER NOT NULL DEFAULT 0,
    locked_until REAL NOT NULL DEFAULT 0, PRIMARY KEY (site, email)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS voucher_sessions (
    token TEXT PRIMARY KEY, site TEXT NOT NULL, account TEXT, awaiting TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS voucher_codes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, site TEXT NOT NULL, subject TEXT NOT NULL,
    account TEXT, phone TEXT NOT NULL, code TEXT NOT NULL, context TEXT NOT NULL,
    sent_at REAL NOT NULL, valid_until REAL NOT NULL, is_open INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX IF NOT EXISTS voucher_codes_of_subject ON voucher_codes (site, subject);
CREATE INDEX IF NOT EXISTS voucher_codes_by_code ON voucher_codes (code);
CREATE TABLE IF NOT EXISTS voucher_cards (
    number TEXT PRIMARY KEY, expiry TEXT NOT NULL, cvv TEXT NOT NULL, phone TEXT NOT NULL,
    credit_limit INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS voucher_orders (
    id INTEGER PRIMARY KEY AUTOINCREMENT, number TEXT NOT NULL UNIQUE, account TEXT NOT NULL,
    reference TEXT NOT NULL, amount INTEGER NOT NULL, made_at REAL NOT NULL,
    link TEXT NOT NULL UNIQUE, expires_at REAL NOT NULL, paid_at REAL, seen_from REAL,
    known_at REAL, voucher_due_at REAL, payment_reference TEXT
);
CREATE INDEX IF NOT EXISTS voucher_orders_of_account ON voucher_orders (account, id);
CREATE INDEX IF NOT EXISTS voucher_orders_due ON voucher_orders (voucher_due_at)
    WHERE voucher_due_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS voucher_payments (
    token TEXT PRIMARY KEY, order_id INTEGER NOT NULL, card TEXT NOT NULL, status TEXT NOT NULL,
    made_at REAL NOT NULL, due_at REAL, reference TEXT NOT NULL, reason TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS voucher_payments_of_order ON voucher_payments (order_id);
CREATE INDEX IF NOT EXISTS voucher_payments_due ON voucher_payments (due_at)
    WHERE status = 'authorising';
CREATE TABLE IF NOT EXISTS vouchers (
    code TEXT PRIMARY KEY, pin TEXT NOT NULL, amount INTEGER NOT NULL, order_id INTEGER,
    issued_at REAL NOT NULL, expires_on TEXT NOT NULL, redeemed_by TEXT, redeemed_at REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS vouchers_of_order ON vouchers (order_id);
CREATE INDEX IF NOT EXISTS vouchers_redeemed ON vouchers (redeemed_by, redeemed_at);
CREATE TABLE IF NOT EXISTS voucher_phones (
    number TEXT PRIMARY KEY, url TEXT NOT NULL, format TEXT NOT NULL, headers TEXT NOT NULL,
    secret TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS voucher_ledger (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, site TEXT NOT NULL,
    action TEXT NOT NULL, account TEXT, phone TEXT, card TEXT, amount INTEGER, order_number TEXT,
    reference TEXT, payment TEXT, voucher TEXT, code TEXT, context TEXT, note TEXT, text TEXT
);
CREATE INDEX IF NOT EXISTS voucher_ledger_of_account ON voucher_ledger (account);
CREATE INDEX IF NOT EXISTS voucher_ledger_of_order ON voucher_ledger (order_number);
CREATE INDEX IF NOT EXISTS voucher_ledger_of_code ON voucher_ledger (code);
CREATE INDEX IF NOT EXISTS voucher_ledger_of_voucher ON voucher_ledger (voucher);
CREATE INDEX IF NOT EXISTS voucher_ledger_of_context ON voucher_ledger (context);
CREATE TRIGGER IF NOT EXISTS voucher_ledger_keeps_rows BEFORE DELETE ON voucher_ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS voucher_ledger_keeps_values BEFORE UPDATE ON voucher_ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


class Book:
    """One connection, used from the event loop's thread only, as the shops' ledger is."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        return self._db.execute(query, values).fetchall()

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self._db.execute(query, values).fetchone()
        return found

    def change(self, query: str, *values: Any) -> int:
        """How many rows it changed."""
        return self._db.execute(query, values).rowcount

    def append(self, site: str, action: str, **facts: Any) -> None:
        """A row of the ledger; `facts` are its columns. Part of the caller's transaction."""
        names = ", ".join(["at", "site", "action", *facts])
        marks = ", ".join("?" * (3 + len(facts)))
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        self._db.execute(
            f"INSERT INTO voucher_ledger ({names}) VALUES ({marks})",  # noqa: S608 our own names
            (now, site, action, *facts.values()),
        )

    def entries(self, after: int, **wanted: str | None) -> list[dict[str, Any]]:
        """Those with these values in these columns; None stands for any value."""
        known = {name: value for name, value in wanted.items() if value is not None}
        conditions = "".join(f" AND {name} = ?" for name in known)
        found = self.rows(
            f"SELECT * FROM voucher_ledger WHERE id > ?{conditions} ORDER BY id",  # noqa: S608
            after,
            *known.values(),
        )
        return [dict(row) for row in found]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

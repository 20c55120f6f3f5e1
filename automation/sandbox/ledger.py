"""What the shops know and what really happened, in one SQLite file.

Accounts, sessions and carts are the shops' own state. The table `ledger` is the ground truth for
tests of exactly-once: append-only (triggers see to it), and each row is committed together with
the change it tells of, before the shop answers. WAL with synchronous=NORMAL keeps every commit
through a kill -9 of the process; only a power cut could lose the last ones.
"""

import hashlib
import json
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    shop TEXT NOT NULL, email TEXT NOT NULL, password_hash BLOB NOT NULL,
    PRIMARY KEY (shop, email)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, shop TEXT NOT NULL, token TEXT NOT NULL UNIQUE,
    account TEXT
);
CREATE INDEX IF NOT EXISTS sessions_of_account ON sessions (shop, account);
CREATE TABLE IF NOT EXISTS cart_lines (
    id INTEGER PRIMARY KEY AUTOINCREMENT, shop TEXT NOT NULL, owner TEXT NOT NULL,
    product TEXT NOT NULL, variant TEXT NOT NULL, quantity INTEGER NOT NULL CHECK (quantity > 0),
    UNIQUE (shop, owner, product, variant)
);
CREATE TABLE IF NOT EXISTS ledger (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, shop TEXT NOT NULL, account TEXT,
    session INTEGER, action TEXT NOT NULL, product TEXT, variant TEXT NOT NULL, quantity INTEGER,
    note TEXT, cart_after TEXT
);
CREATE INDEX IF NOT EXISTS ledger_of_account ON ledger (shop, account);
CREATE TRIGGER IF NOT EXISTS ledger_keeps_rows BEFORE DELETE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS ledger_keeps_values BEFORE UPDATE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""

Variant = dict[str, str]


@dataclass(frozen=True, slots=True)
class Session:
    id: int
    token: str
    account: str | None

    def cart_owner(self, cart_scope: str) -> str:
        if cart_scope == "account" and self.account:
            return f"account {self.account}"
        return f"session {self.id}"


@dataclass(frozen=True, slots=True)
class Line:
    id: int
    product: str
    variant: Variant
    quantity: int


class Ledger:
    """One connection, used from the event loop's thread only: statements take microseconds."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)

    # Accounts and sessions

    def save_account(self, shop: str, email: str, password: str) -> bool:
        """Make the account, or give it this password; True when it is new."""
        with self._transaction():
            is_new = self._find_password_hash(shop, email) is None
            self._db.execute(
                "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?)",
                (shop, email, hash_password(email, password)),
            )
        return is_new

    def has_password(self, shop: str, email: str, password: str) -> bool:
        stored = self._find_password_hash(shop, email)
        return stored is not None and secrets.compare_digest(stored, hash_password(email, password))

    def find_session(self, shop: str, token: str) -> Session | None:
        row = self._db.execute(
            "SELECT id, token, account FROM sessions WHERE token = ? AND shop = ?", (token, shop)
        ).fetchone()
        return Session(**row) if row else None

    def start_session(self, shop: str) -> Session:
        token = secrets.token_urlsafe(24)
        row = self._db.execute(
            "INSERT INTO sessions (shop, token) VALUES (?, ?) RETURNING id, token, account",
            (shop, token),
        ).fetchone()
        return Session(**row)

    def log_in(self, shop: str, session: Session, account: str) -> Session:
        with self._transaction():
            self._db.execute("UPDATE sessions SET account = ? WHERE id = ?", (account, session.id))
            session = Session(session.id, session.token, account)
            self._append(shop, account, session, "log_in")
        return session

    def forget_sessions(self, shop: str, account: str | None = None) -> int:
        """The visitors keep their cookies, which from now on mean nothing. Returns how many."""
        query = "DELETE FROM sessions WHERE shop = ? AND (? IS NULL OR account = ?)"
        return self._db.execute(query, (shop, account, account)).rowcount

    def forget_session(self, session: Session) -> None:
        self._db.execute("DELETE FROM sessions WHERE id = ?", (session.id,))

    # Carts

    def cart(self, shop: str, owner: str) -> list[Line]:
        rows = self._db.execute(
            "SELECT id, product, variant, quantity FROM cart_lines"
            " WHERE shop = ? AND owner = ? ORDER BY id",
            (shop, owner),
        )
        return [_line(row) for row in rows]

    def add(
        self,
        shop: str,
        session: Session,
        owner: str,
        product: str,
        quantities: Sequence[tuple[Variant, int]],
    ) -> None:
        with self._transaction():
            for variant, quantity in quantities:
                self._db.execute(
                    "INSERT INTO cart_lines (shop, owner, product, variant, quantity)"
                    " VALUES (?, ?, ?, ?, ?) ON CONFLICT (shop, owner, product, variant)"
                    " DO UPDATE SET quantity = quantity + excluded.quantity",
                    (shop, owner, product, _dump(variant), quantity),
                )
                self._append(
                    shop, session.account, session, "add", product, variant, quantity, owner=owner
                )

    def set_quantity(
        self, shop: str, session: Session, owner: str, line: Line, quantity: int
    ) -> None:
        """0 takes the line out."""
        with self._transaction():
            if quantity:
                self._db.execute(
                    "UPDATE cart_lines SET quantity = ? WHERE id = ?", (quantity, line.id)
                )
            else:
                self._db.execute("DELETE FROM cart_lines WHERE id = ?", (line.id,))
            self._append(
                shop,
                session.account,
                session,
                "update" if quantity else "remove",
                line.product,
                line.variant,
                quantity,
                owner=owner,
            )

    # The ledger

    def note(
        self,
        shop: str,
        account: str | None,
        session: Session | None,
        action: str,
        note: str | None = None,
        product: str | None = None,
    ) -> None:
        """Record what changed nothing: a refused add, a failed log-in."""
        with self._transaction():
            self._append(shop, account, session, action, product, note=note)

    def entries(self, shop: str, account: str | None, after: int = 0) -> list[dict[str, Any]]:
        rows = self._db.execute(
            "SELECT * FROM ledger WHERE shop = ? AND (? IS NULL OR account = ?) AND id > ?"
            " ORDER BY id",
            (shop, account, account, after),
        )
        return [
            dict(row)
            | {
                "variant": json.loads(row["variant"]),
                "cart_after": row["cart_after"] and json.loads(row["cart_after"]),
            }
            for row in rows
        ]

    def carts_of(self, shop: str, account: str | None, cart_scope: str) -> dict[str, list[Line]]:
        """Carts that somebody logged in as `account` could see, by owner.

        None asks for the carts of nobody: filled by a visitor who was not, or no longer, logged
        in.
        """
        owners: Sequence[str]
        if account is not None and cart_scope == "account":
            owners = [f"account {account}"]
        elif account is not None:
            owners = self._session_owners(shop, account)
        else:
            known = self._session_owners(shop, None) if cart_scope == "session" else []
            rows = self._db.execute(
                "SELECT DISTINCT owner FROM cart_lines WHERE shop = ? AND owner LIKE 'session %'",
                (shop,),
            )
            owners = [row["owner"] for row in rows if row["owner"] not in known]
        return {owner: self.cart(shop, owner) for owner in owners}

    def _session_owners(self, shop: str, account: str | None) -> list[str]:
        """Owners of the carts of live, logged-in sessions; of all accounts when it is None."""
        rows = self._db.execute(
            "SELECT 'session ' || id AS owner FROM sessions"
            " WHERE shop = ? AND account IS NOT NULL AND (? IS NULL OR account = ?) ORDER BY id",
            (shop, account, account),
        )
        return [row["owner"] for row in rows]

    def _append(
        self,
        shop: str,
        account: str | None,
        session: Session | None,
        action: str,
        product: str | None = None,
        variant: Mapping[str, str] | None = None,
        quantity: int | None = None,
        note: str | None = None,
        owner: str | None = None,
    ) -> None:
        cart_after = None
        if owner is not None:
            cart_after = json.dumps(
                [
                    {"product": line.product, "variant": line.variant, "quantity": line.quantity}
                    for line in self.cart(shop, owner)
                ]
            )
        self._db.execute(
            "INSERT INTO ledger (at, shop, account, session, action, product, variant, quantity,"
            " note, cart_after) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                datetime.now(UTC).isoformat(timespec="microseconds"),
                shop,
                account,
                session.id if session else None,
                action,
                product,
                _dump(variant or {}),
                quantity,
                note,
                cart_after,
            ),
        )

    def _find_password_hash(self, shop: str, email: str) -> bytes | None:
        row = self._db.execute(
            "SELECT password_hash FROM accounts WHERE shop = ? AND email = ?", (shop, email)
        ).fetchone()
        return row["password_hash"] if row else None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def hash_password(email: str, password: str) -> bytes:
    # Cheap on purpose: these passwords are made up, and a log-in must not be what a benchmark
    # of this shop measures.
    return hashlib.blake2b(password.encode(), key=hashlib.sha256(email.encode()).digest()).digest()


def _dump(variant: Mapping[str, str]) -> str:
    return json.dumps(variant, sort_keys=True)


def _line(row: sqlite3.Row) -> Line:
    return Line(row["id"], row["product"], json.loads(row["variant"]), row["quantity"])

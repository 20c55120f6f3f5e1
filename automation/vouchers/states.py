"""What the pages of a voucher purchase show, and what the flows are told.

Values only; all of them cross a border, to the thread with the database. Amounts are whole rupees,
times have a zone. What lets somebody in or is worth money is kept out of every `repr`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

BeforePress = Callable[[], Awaitable[None]]
"""Awaited right before the press that cannot be taken back. Raising keeps it from being pressed."""

OrderStatus = Literal["unpaid", "processing", "paid", "issued", "expired", "failed"]


# ---- what a flow is told ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Login:
    email: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Card:
    number: str = field(repr=False)
    expires_month: int
    expires_year: int
    """Four digits."""
    cvv: str = field(repr=False)
    holder: str


# ---- signing in, at the portal and at the redeemer ----------------------------------------------


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The site knows us as the account."""


@dataclass(frozen=True, slots=True)
class CodeAsked:
    """The page waits for a one-time code.

    `sent_to` is what the page says of the phone, mostly masked. `sent_at` is when it says the code
    was sent; most say nothing (None). `context` is what the message of the code will name, such as
    the last digits of the card; empty where the page shows nothing of the kind. `is_over`: the
    page takes no code of this request any more, so a new one has to be asked for.
    """

    sent_to: str = ""
    sent_at: datetime | None = None
    context: str = ""
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class CodeRefused:
    """The site did not take the code. `may_try_again`: the page takes another try of the same
    request; if not, a new code has to be asked for."""

    sentence: str
    may_try_again: bool


# ---- the portal ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Inventory:
    """How many vouchers of an amount there are: 0 is sold out, None is "some"."""

    available: int | None

    def suffices(self, quantity: int) -> bool:
        return self.available is None or self.available >= quantity


@dataclass(frozen=True, slots=True)
class PaymentLink:
    """Whoever has the address can pay, and only that. `order` is the portal's own number."""

    url: str
    order: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Voucher:
    code: str = field(repr=False)
    pin: str = field(repr=False)
    """Empty where the vouchers of the site have none."""
    amount: int
    expires: date | None


@dataclass(frozen=True, slots=True)
class Order:
    """A row of the portal's order page. `reference` is ours, as given to `create_link`; empty
    where the site has no such field. `voucher` is there once the status is issued."""

    order: str
    reference: str
    amount: int
    status: OrderStatus
    voucher: Voucher | None = None
    link: str | None = None
    expires_at: datetime | None = None


# ---- the payment page ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CardForm:
    """The page waits for a card: nothing has been paid from here yet."""


@dataclass(frozen=True, slots=True)
class Processing:
    """The page says that the payment is under way: look again."""


@dataclass(frozen=True, slots=True)
class Paid:
    reference: str
    """The payment's own number, empty where the page shows none."""


@dataclass(frozen=True, slots=True)
class Declined:
    """The bank or the payment page said no, and nothing was paid."""

    sentence: str


@dataclass(frozen=True, slots=True)
class LinkExpired:
    """Nothing can be paid by this link any more. Whether it was, the portal's order says."""


PaymentState = CardForm | CodeAsked | Processing | Paid | Declined | LinkExpired


# ---- the redeemer -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Redeemed:
    """The voucher was credited. None: the page that confirms it does not say."""

    amount: int | None
    balance: int | None


@dataclass(frozen=True, slots=True)
class Redemption:
    """A row of the redeemer's history. `code_tail` is what it leaves unmasked of the code's end."""

    code_tail: str
    amount: int
    at: datetime | None

    def is_of(self, code: str) -> bool:
        """Whether this may be the redemption of the code: the site shows no more of it."""
        return bool(self.code_tail) and _plain(code).endswith(self.code_tail)


def _plain(code: str) -> str:
    return "".join(filter(str.isalnum, code)).upper()

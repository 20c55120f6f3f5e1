"""What to do about a redemption, and about a voucher that is waited for. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

from automation.vouchers.states import Order, Redemption
from jobs.models import Effect

Status = Effect.Status

SETTLING = timedelta(seconds=15)
"""For so long after a press the history may not have it yet. A code is credited once, so that more
patience would protect nothing."""


class Redeem(Enum):
    PRESS = auto()
    CONFIRM = auto()  # the history has it
    ABSENT = auto()  # it does not, and what was pressed will not bring it any more
    LOOK_LATER = auto()


@dataclass(frozen=True)
class Redeeming:
    """`rows` and `rows_before`: how many rows of the history may be this voucher's, now and before
    the press. A history shows the end of a code, and codes may end alike."""

    effect: Status | None
    rows: int
    rows_before: int = 0
    age: timedelta | None = None


def decide_redemption(known: Redeeming) -> Redeem:
    if known.effect in (None, Status.ABSENT):
        return Redeem.PRESS
    if known.effect == Status.CONFIRMED or known.rows > known.rows_before:
        return Redeem.CONFIRM
    if known.age is not None and known.age < SETTLING:
        return Redeem.LOOK_LATER
    return Redeem.ABSENT


def count_rows(history: Sequence[Redemption], code: str, amount: int) -> int:
    """The rows that may be of this voucher."""
    return sum(1 for row in history if row.is_of(code) and row.amount == amount)


class Issue(Enum):
    TAKE = auto()  # the voucher is there
    LOOK_LATER = auto()
    FAILED = auto()  # the portal says that the order has failed, after it was paid
    OVERDUE = auto()


def decide_issue(order: Order | None, age: timedelta, patience: timedelta) -> Issue:
    """What to do about the voucher of an order that was paid so long ago."""
    if order is not None and order.voucher is not None:
        return Issue.TAKE
    if age >= patience:
        return Issue.OVERDUE
    # An order that still says "unpaid", or is not listed yet, lags behind the bank.
    if order is not None and order.status in ("failed", "expired") and age >= SETTLING:
        return Issue.FAILED
    return Issue.LOOK_LATER


def decide_issue_delay(age: timedelta) -> timedelta:
    """How long until the next look: soon at first, as most vouchers come at once."""
    return min(max(age / 5, timedelta(seconds=2)), timedelta(minutes=2))

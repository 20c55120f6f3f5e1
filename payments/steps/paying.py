"""What to do about a payment, from what is known of it. Pure: nothing is looked at or written here.

One press of the pay button is one payment at most, and the rule is: nothing is pressed while an
earlier press may still count. An order that says "unpaid" is not enough for that, as orders lag
behind banks; the payment page, opened anew, has to show that nothing is under way either.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Literal

from automation.vouchers.states import (
    CardForm,
    CodeAsked,
    Declined,
    LinkExpired,
    OrderStatus,
    Paid,
    PaymentState,
)
from jobs.models import Effect

Status = Effect.Status

SETTLING = timedelta(seconds=60)
"""For so long after a press nothing is taken for absent: a request that was under way when its
worker died may reach the site a moment later, and an order may say "unpaid" for a while yet."""

PATIENCE = timedelta(minutes=15)
"""For so long what is under way may stay so; then a person has to find out."""

SHORTEST_DELAY, LONGEST_DELAY = timedelta(seconds=2), timedelta(minutes=1)

OrderRead = OrderStatus | Literal["missing", "unreadable"]
"""What the portal's order page says; it may not have the order, or not open."""


class Move(Enum):
    PAY = auto()  # fill in the card, commit the intent, press
    CODE = auto()  # the bank asks for the code
    READ_ORDER = auto()  # at the portal
    OPEN_ANEW = auto()  # the payment page, in a new browser
    LOOK_LATER = auto()
    CONFIRM = auto()  # it is paid
    ABSENT = auto()  # nothing was paid, and nothing will be by what was pressed
    DECLINED = auto()  # the bank's last word
    NEW_LINK = auto()  # nothing can be paid by this one any more
    RETRY = auto()  # nothing was pressed, and a site has trouble
    PERSON = auto()  # nobody but a person can find out


@dataclass(frozen=True)
class Known:
    """What is known of a payment. `page`: None when it cannot be looked at. `is_fresh`: a browser
    that has pressed nothing shows it. `order`: None when it was not read since the last press.
    `age`: since the last press; None when nothing was ever pressed."""

    effect: Status | None
    page: PaymentState | None
    is_fresh: bool = False
    order: OrderRead | None = None
    age: timedelta | None = None


def decide_payment(known: Known) -> Move:
    """The next move. What a move finds out or changes is decided upon anew."""
    if known.effect == Status.CONFIRMED or isinstance(known.page, Paid):
        return Move.CONFIRM
    if known.effect in (None, Status.ABSENT):
        return _decide_unpressed(known)
    return _decide_pressed(known)


def _decide_unpressed(known: Known) -> Move:
    """Nothing of ours is under way."""
    match known.page:
        case None:
            return Move.RETRY
        case CardForm() if known.effect is None:
            return Move.PAY  # the first time there is nothing to look for
        case Declined() if not known.is_fresh and known.effect == Status.ABSENT:
            return Move.DECLINED  # what was pressed, in this browser
    match known.order, known.page:
        case None, _:
            return Move.READ_ORDER
        case (("paid" | "issued"), _):
            return Move.CONFIRM
        case "unreadable", _:
            return Move.RETRY
        case "unpaid", CardForm():
            return Move.PAY
        case (("expired" | "failed"), CardForm()):
            return Move.NEW_LINK
        case (("unpaid" | "expired" | "failed"), LinkExpired() | Declined()):
            return Move.NEW_LINK
    return _look_later(known)


def _decide_pressed(known: Known) -> Move:
    """A press of ours may count, now or in a moment."""
    match known.page:
        case CodeAsked():
            return Move.CODE
        case CardForm() if not known.is_fresh:
            return Move.OPEN_ANEW
    match known.order, known.page:
        case None, _:
            return Move.READ_ORDER
        case (("paid" | "issued"), _):
            return Move.CONFIRM
        case (("unpaid" | "expired" | "failed"), Declined()):
            return Move.ABSENT
        case (("unpaid" | "expired" | "failed"), CardForm() | LinkExpired()) if (
            known.age is not None and known.age >= SETTLING
        ):
            return Move.ABSENT
    return _look_later(known)


def _look_later(known: Known) -> Move:
    # What is under way though we never pressed is somebody else's.
    if known.age is None or known.age >= PATIENCE:
        return Move.PERSON
    return Move.LOOK_LATER


def decide_delay(age: timedelta) -> timedelta:
    """How long until the next look: the longer it takes already, the less often."""
    return min(max(age / 4, SHORTEST_DELAY), LONGEST_DELAY)

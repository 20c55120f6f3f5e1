"""What a payment and a redemption come to, from all that can be known of them. Pure functions."""

from datetime import date, timedelta
from itertools import product

import pytest

from automation.vouchers.states import (
    CardForm,
    CodeAsked,
    Declined,
    LinkExpired,
    Order,
    Paid,
    Processing,
    Redemption,
    Voucher,
)
from jobs.models import Effect
from payments.steps.paying import PATIENCE, SETTLING, Known, Move, decide_delay, decide_payment
from payments.steps.redeeming import (
    Issue,
    Redeem,
    Redeeming,
    count_rows,
    decide_issue,
    decide_issue_delay,
    decide_redemption,
)

INTENDED, ABSENT = Effect.Status.INTENDED, Effect.Status.ABSENT
UNKNOWN, CONFIRMED = Effect.Status.UNKNOWN, Effect.Status.CONFIRMED

FORM, CODE, PROCESSING = CardForm(), CodeAsked(), Processing()
PAID, DECLINED, EXPIRED = Paid("pay_1"), Declined("No."), LinkExpired()
PAGES = (None, FORM, CODE, PROCESSING, PAID, DECLINED, EXPIRED)
ORDERS = (
    *(None, "missing", "unreadable", "unpaid", "processing", "paid", "issued", "expired", "failed"),
)
MOMENT, SOON, LONG = timedelta(seconds=1), SETTLING, PATIENCE

FRESH = {"is_fresh": True}


def known(effect, page, *, age=SOON, **more):
    return Known(effect, page, age=None if effect is None else age, **more)


@pytest.mark.parametrize(
    ("situation", "move"),
    [
        # Nothing was pressed yet.
        (known(None, FORM), Move.PAY),
        (known(None, None), Move.RETRY),
        (known(None, PAID), Move.CONFIRM),
        (known(None, PROCESSING), Move.READ_ORDER),
        (known(None, PROCESSING, order="processing"), Move.PERSON),
        (known(None, CODE, order="unpaid"), Move.PERSON),
        (known(None, EXPIRED), Move.READ_ORDER),
        (known(None, EXPIRED, order="expired"), Move.NEW_LINK),
        (known(None, EXPIRED, order="paid"), Move.CONFIRM),
        (known(None, EXPIRED, order="unreadable"), Move.RETRY),
        # It was pressed, and nothing came of it: never again without the order page.
        (known(ABSENT, FORM), Move.READ_ORDER),
        (known(ABSENT, FORM, order="unpaid"), Move.PAY),
        (known(ABSENT, FORM, order="issued"), Move.CONFIRM),
        (known(ABSENT, FORM, order="processing"), Move.LOOK_LATER),
        (known(ABSENT, FORM, order="missing"), Move.LOOK_LATER),
        (known(ABSENT, FORM, order="unreadable"), Move.RETRY),
        (known(ABSENT, FORM, order="expired"), Move.NEW_LINK),
        (known(ABSENT, DECLINED), Move.DECLINED),
        (known(ABSENT, DECLINED, **FRESH), Move.READ_ORDER),
        (known(ABSENT, DECLINED, **FRESH, order="unpaid"), Move.NEW_LINK),
        # It was pressed, and nobody knows yet.
        (known(INTENDED, PAID), Move.CONFIRM),
        (known(INTENDED, CODE), Move.CODE),
        (known(INTENDED, PROCESSING), Move.READ_ORDER),
        (known(INTENDED, PROCESSING, order="unpaid"), Move.LOOK_LATER),
        (known(INTENDED, PROCESSING, order="unpaid", age=LONG), Move.PERSON),
        (known(INTENDED, PROCESSING, order="paid"), Move.CONFIRM),
        (known(INTENDED, FORM, order="unpaid"), Move.OPEN_ANEW),
        (known(INTENDED, FORM, **FRESH), Move.READ_ORDER),
        (known(INTENDED, FORM, **FRESH, order="unpaid"), Move.ABSENT),
        (known(INTENDED, FORM, **FRESH, order="unpaid", age=MOMENT), Move.LOOK_LATER),
        (known(INTENDED, FORM, **FRESH, order="processing"), Move.LOOK_LATER),
        (known(INTENDED, FORM, **FRESH, order="missing", age=LONG), Move.PERSON),
        (known(INTENDED, DECLINED), Move.READ_ORDER),
        (known(INTENDED, DECLINED, order="unpaid", age=MOMENT), Move.ABSENT),
        (known(INTENDED, DECLINED, order="processing"), Move.LOOK_LATER),
        (known(INTENDED, EXPIRED, order="expired"), Move.ABSENT),
        (known(INTENDED, None), Move.READ_ORDER),
        (known(INTENDED, None, order="unreadable"), Move.LOOK_LATER),
        (known(INTENDED, None, order="unpaid", age=LONG), Move.PERSON),
        (known(INTENDED, None, order="issued"), Move.CONFIRM),
        (known(UNKNOWN, FORM, **FRESH, order="unpaid", age=LONG), Move.ABSENT),
        (known(CONFIRMED, None), Move.CONFIRM),
    ],
)
def test_what_is_known_of_a_payment_decides_the_next_move(situation, move):
    assert decide_payment(situation) == move


EVERYTHING = [
    Known(effect, page, is_fresh=fresh, order=order, age=None if effect is None else age)
    for effect, page, fresh, order, age in product(
        [None, *Effect.Status], PAGES, [True, False], ORDERS, [MOMENT, SOON, LONG]
    )
]


def test_nothing_is_pressed_while_an_earlier_press_may_count():
    pressed = [each for each in EVERYTHING if decide_payment(each) == Move.PAY]

    assert {each.effect for each in pressed} == {None, ABSENT}
    assert {each.page for each in pressed} == {FORM}
    assert {each.order for each in pressed if each.effect == ABSENT} == {"unpaid"}


def test_a_press_is_absent_only_when_the_order_and_a_page_that_is_final_say_so():
    absent = [each for each in EVERYTHING if decide_payment(each) == Move.ABSENT]

    assert {each.order for each in absent} == {"unpaid", "expired", "failed"}
    assert {each.page for each in absent} == {FORM, DECLINED, EXPIRED}
    assert all(each.is_fresh for each in absent if each.page == FORM)
    assert all(each.age >= SETTLING for each in absent if each.page != DECLINED)


def test_an_order_that_is_paid_is_never_paid_again():
    for each in EVERYTHING:
        if each.order in ("paid", "issued") and each.effect is not None:
            assert decide_payment(each) not in (Move.PAY, Move.ABSENT, Move.NEW_LINK)


def test_looks_become_rarer_with_time():
    ages = [timedelta(seconds=seconds) for seconds in (0, 8, 40, 600)]

    assert [decide_delay(age).total_seconds() for age in ages] == [2, 2, 10, 60]


@pytest.mark.parametrize(
    ("situation", "move"),
    [
        (Redeeming(None, 0), Redeem.PRESS),
        (Redeeming(None, 1), Redeem.PRESS),  # another voucher's code ends alike
        (Redeeming(ABSENT, 0), Redeem.PRESS),
        (Redeeming(INTENDED, 1, 0, MOMENT), Redeem.CONFIRM),
        (Redeeming(INTENDED, 1, 1, MOMENT), Redeem.LOOK_LATER),
        (Redeeming(INTENDED, 1, 1, SOON), Redeem.ABSENT),
        (Redeeming(INTENDED, 0, 0, SOON), Redeem.ABSENT),
        (Redeeming(UNKNOWN, 0, 0, LONG), Redeem.ABSENT),
        (Redeeming(CONFIRMED, 0), Redeem.CONFIRM),
    ],
)
def test_what_is_known_of_a_redemption_decides_the_next_move(situation, move):
    assert decide_redemption(situation) == move


def test_rows_of_the_history_are_a_vouchers_by_the_end_of_its_code_and_its_amount():
    history = [
        Redemption("7Q2M", 1500, None),
        Redemption("7Q2M", 500, None),
        Redemption("0000", 1500, None),
        Redemption("", 1500, None),
    ]

    assert count_rows(history, "AB-7q2m", 1500) == 1


def order(status, voucher=None):
    return Order("O-1", "", 1500, status, voucher)


@pytest.mark.parametrize(
    ("seen", "age", "issue"),
    [
        (order("issued", Voucher("A", "", 1500, date(2027, 1, 1))), MOMENT, Issue.TAKE),
        (order("issued", Voucher("A", "", 1500, None)), LONG, Issue.TAKE),
        (order("paid"), SOON, Issue.LOOK_LATER),
        (order("unpaid"), SOON, Issue.LOOK_LATER),
        (order("failed"), MOMENT, Issue.LOOK_LATER),
        (order("failed"), SOON, Issue.FAILED),
        (order("paid"), LONG, Issue.OVERDUE),
        (None, SOON, Issue.LOOK_LATER),
        (None, LONG, Issue.OVERDUE),
    ],
)
def test_a_voucher_is_waited_for_until_patience_ends(seen, age, issue):
    assert decide_issue(seen, age, LONG) == issue


def test_vouchers_are_looked_for_often_at_first():
    ages = [timedelta(seconds=seconds) for seconds in (0, 10, 60, 3600)]

    assert [decide_issue_delay(age).total_seconds() for age in ages] == [2, 2, 12, 120]

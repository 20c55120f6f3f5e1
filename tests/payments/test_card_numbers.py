from datetime import date

import pytest

from payments.card_numbers import Expiry, passes_luhn, read_cvv, read_expiry, read_number
from payments.errors import InvalidCard

# Card schemes publish these numbers for tests.
NUMBERS = [
    "378282246310005",
    "371449635398431",
    "5555555555554444",
    "4111111111111111",
    "30569309025904",
]


@pytest.mark.parametrize("number", NUMBERS)
def test_published_test_number_passes_and_any_other_last_digit_does_not(number):
    body, last = number[:-1], int(number[-1])

    passing = [digit for digit in range(10) if passes_luhn(f"{body}{digit}")]

    assert passing == [last]


def test_two_neighbours_that_changed_places_do_not_pass():
    assert not passes_luhn("4111111111111111"[:-2] + "21")
    assert not passes_luhn("5555555555554444"[:11] + "45" + "444")


def test_number_is_read_with_blanks_and_dashes():
    assert read_number(" 3782 822463 10005 ") == "378282246310005"
    assert read_number("4111-1111-1111-1111") == "4111111111111111"


@pytest.mark.parametrize(
    "typed", ["", "378282246310006", "1234", "4" * 20, "37828224631000a", "³78282246310005"]
)
def test_what_is_no_number_is_refused_without_being_repeated(typed):
    with pytest.raises(InvalidCard) as refused:
        read_number(typed)

    assert refused.value.code == "CARD_NUMBER_INVALID"
    assert not typed or typed not in str(refused.value)


@pytest.mark.parametrize("typed", ["08/29", "8/29", "08/2029", "08-29", " 08 / 2029 "])
def test_expiry_is_read_as_cards_have_it(typed):
    assert read_expiry(typed) == Expiry(2029, 8)
    assert str(read_expiry(typed)) == "08/2029"


@pytest.mark.parametrize("typed", ["", "13/29", "00/29", "2029", "08/1999", "aa/bb"])
def test_what_is_no_month_is_refused(typed):
    with pytest.raises(InvalidCard) as refused:
        read_expiry(typed)

    assert refused.value.code == "CARD_EXPIRY_INVALID"


def test_card_is_good_until_the_end_of_its_month():
    Expiry(2026, 11).refuse_passed(date(2026, 11, 30))

    with pytest.raises(InvalidCard) as refused:
        Expiry(2026, 11).refuse_passed(date(2026, 12, 1))

    assert refused.value.code == "CARD_EXPIRED"


def test_cvv_has_three_or_four_digits():
    assert read_cvv(" 1234 ") == "1234"
    assert read_cvv("123") == "123"
    for typed in ("12", "12345", "12a", "١٢٣"):
        with pytest.raises(InvalidCard) as refused:
            read_cvv(typed)
        assert typed not in str(refused.value)

"""How the texts of voucher sites are read."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from automation.vouchers.portal import find_alive
from automation.vouchers.reading import (
    decide_status,
    parse_count,
    parse_date,
    parse_moment,
    parse_rupees,
    read_tail,
)
from automation.vouchers.sites import DATE_FORMATS, MOMENT_FORMATS
from automation.vouchers.states import Order, Redemption

INDIA = ZoneInfo("Asia/Kolkata")


@pytest.mark.parametrize(
    ("text", "rupees"),
    [
        ("₹1,500.00", 1500),
        ("₹ 1,500", 1500),
        ("Rs. 1500", 1500),
        ("Rs.1,500/-", 1500),
        ("INR 1500.0", 1500),
        ("1500 INR", 1500),
        ("1500", 1500),
        ("+ ₹1,500.00", 1500),
        ("₹1,00,000", 100_000),
        ("₹12,34,56,789", 123_456_789),
        ("₹100,000", 100_000),
        (" ₹\n 0.00 ", 0),
        ("₹1,500.50", None),
        ("₹15,00", None),
        ("₹1,5000", None),
        ("₹1.500", None),
        ("-₹1,500", None),
        ("$1,500", None),
        ("₹1,500 to ₹2,000", None),
        ("AB12-1500", None),
        ("", None),
    ],
)
def test_money_is_read_strictly(text, rupees):
    assert parse_rupees(text) == rupees


@pytest.mark.parametrize(
    ("text", "count"), [("12 in stock", 12), ("only 1,204 left", 1204), ("many", None)]
)
def test_the_first_number_is_a_count(text, count):
    assert parse_count(text) == count


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2027-11-21", date(2027, 11, 21)),
        ("21 Nov 2027", date(2027, 11, 21)),
        ("21/11/2027", date(2027, 11, 21)),
        ("in a year", None),
    ],
)
def test_dates_are_read_in_the_formats_of_the_site(text, found):
    assert parse_date(text, DATE_FORMATS) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-11-21T18:30:00+05:30", datetime(2026, 11, 21, 13, 0, tzinfo=UTC)),
        ("2026-11-21T13:00:00Z", datetime(2026, 11, 21, 13, 0, tzinfo=UTC)),
        ("21 Nov 2026, 18:30", datetime(2026, 11, 21, 13, 0, tzinfo=UTC)),
        ("soon", None),
    ],
)
def test_moments_without_a_zone_are_the_sites(text, found):
    assert parse_moment(text, MOMENT_FORMATS, INDIA) == found


@pytest.mark.parametrize(
    ("masked", "tail"),
    [
        ("XXXX-XXXXXX-1a2b", "1A2B"),
        ("••••1A2B", "1A2B"),
        ("XXXXXXXXXX1A2B", "1A2B"),
        ("ABCD-EFGHIJ-1A2B", "1A2B"),
        ("ABCDEFGHIJ1A2B", "IJ1A2B"),
        ("****", ""),
    ],
)
def test_of_a_masked_code_its_end_is_kept(masked, tail):
    assert read_tail(masked) == tail


def test_a_redemption_is_known_by_the_end_of_its_code():
    redemption = Redemption("1A2B", 1500, None)

    assert redemption.is_of("abcd-efghij-1a2b")
    assert not redemption.is_of("ABCD-EFGHIJ-1A2C")
    assert not Redemption("", 1500, None).is_of("ABCD-EFGHIJ-1A2B")


def test_a_status_is_what_the_site_writes_for_it():
    patterns = {"status_unpaid": "unpaid", "status_paid": "paid", "status_issued": "voucher sent"}

    found = [decide_status(text, patterns) for text in ("Unpaid", "PAID", "Voucher sent", "?")]

    assert found == ["unpaid", "paid", "issued", None]


def test_of_two_orders_with_one_reference_the_paid_one_counts():
    orders = [
        Order("N3", "other", 1500, "issued"),
        Order("N2", "ref", 1500, "unpaid"),
        Order("N1", "ref", 1500, "paid"),
    ]

    assert find_alive(orders, "ref") == orders[2]
    assert find_alive([Order("N1", "ref", 1500, "expired")], "ref") is None

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from jobs.otp.matching import Asking, AskPerson, Give, Keep, decide_request
from jobs.otp.parsing import Reading, pattern_problem, read_message, same_phone


@dataclass
class Rule:
    service: str
    sender: str = ""
    pattern: str = ""
    origin: str = ""


NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


# ---- the general rule ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("Your OTP is 482913.", ("482913",)),
        ("482913 is your verification code", ("482913",)),
        ("Use code 482-913 to log in", ("482913",)),
        ("Use code 482 913 to log in", ("482913",)),
        ("<#> Your passcode: 4821", ("4821",)),
        (
            "OTP for Rs 1,500.00 on card ending 1009 is 482913. Valid till 21-11-2026 10:45",
            ("482913",),
        ),
        ("482913 is the OTP for your payment of INR 6000 to GYFTR on card XX1009", ("482913",)),
        ("Dear customer, OTP 482913 for txn of ₹1500 at 12:30 on 21/11/2026", ("482913",)),
        ("OTP: 482913. Not you? Call 18001234567", ("482913",)),
        ("Your one-time password is 48291307, sent 21 Nov 2026", ("48291307",)),
        ("Never share your OTP. 482913 is the one for order 77120", ("482913",)),
        ("Your code is 482913. Do not share 482913.", ("482913",)),
        ("Code A: 482913, code B: 551002", ("482913", "551002")),
        (" 482 913\n", ("482913",)),
        ("Your parcel 482913 is on its way", ()),
        ("Your OTP is on its way", ()),
        ("", ()),
    ],
)
def test_the_number_by_a_word_for_a_code_is_the_code(text, codes):
    assert read_message(text, "AX-BANK", []).codes == codes


# ---- origin-bound codes (WICG) ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("482913 is your code.\n\n@shop.example #482913", ("482913",)),
        ("Something\n@shop.example #48-29A @embedded.example", ("48-29A",)),
        ("@shop.example  #482913", ()),  # exactly one space
        ("@shop.example #482913\nand more text", ()),  # the last line only
    ],
)
def test_an_origin_bound_last_line_holds_the_code(text, codes):
    assert read_message(text, "anybody", []).codes == codes


# ---- rules of a service -------------------------------------------------------------------------

AMEX = Rule(
    "amex", sender="^(VM|AX)-AMEX", pattern=r"card ending (?P<context>\d{4}): (?P<code>\d{6})"
)
SHOP = Rule("shop", origin="shop.example")


def test_a_rule_reads_service_code_and_context():
    reading = read_message("Safekey, card ending 1009: 482913", "VM-AMEXIN", [SHOP, AMEX])

    assert reading == Reading(("482913",), "amex", "1009")


@pytest.mark.parametrize(
    ("text", "sender"),
    [
        ("Safekey, card ending 1009: 482913", "VM-OTHER"),
        ("Your statement is ready: 482913", "VM-AMEXIN"),
    ],
)
def test_a_message_that_is_not_the_rules_is_read_generally(text, sender):
    assert read_message(text, sender, [AMEX]).service is None


@pytest.mark.parametrize(
    ("host", "service"),
    [("shop.example", "shop"), ("pay.shop.example", "shop"), ("myshop.example", None)],
)
def test_an_origin_names_its_service(host, service):
    reading = read_message(f"Hello\n@{host} #482913", "+44 7000", [SHOP])

    assert reading == Reading(("482913",), service)


@pytest.mark.parametrize(
    ("pattern", "needs_code", "problem"),
    [
        (r"(?P<code>\d+)", True, None),
        ("", False, None),
        ("(", False, "no regular expression"),
        (r"\d+", True, "Name the part that is the code"),
    ],
)
def test_a_pattern_is_checked(pattern, needs_code, problem):
    found = pattern_problem(pattern, needs_code=needs_code)

    assert found is None if problem is None else problem in found


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("+91 98765 43210", "09876543210", True),
        ("9876543210", "+91-98765-43210", True),
        ("9876543210", "9876543211", False),
        ("12345", "12345", False),  # a short code is no phone
        ("", "", False),
    ],
)
def test_phones_are_compared_by_their_last_digits(one, other, same):
    assert same_phone(one, other) is same


# ---- which request ------------------------------------------------------------------------------


def asking(number, service="amex", phone="9876543210", context="", not_before=NOW):
    return Asking(UUID(int=number), service, phone, context, not_before)


def decide(reading, *requests, recipient="+919876543210", rules=()):
    return decide_request(
        reading, recipient=recipient, received_at=NOW, asking=requests, services_with_rules=rules
    )


def test_a_code_goes_to_the_one_request_that_it_fits():
    others = asking(2, service="gyftr"), asking(3, phone="9000000001")

    assert decide(Reading(("1",), "amex"), asking(1), *others) == Give(UUID(int=1), "1")


def test_two_that_fit_are_for_a_person():
    assert isinstance(decide(Reading(("1",), "amex"), asking(1), asking(2)), AskPerson)


def test_the_context_decides_between_two():
    first, second = asking(1, context="order-5"), asking(2, context="order-6")

    assert decide(Reading(("1",), "amex", "ORDER-6"), first, second) == Give(UUID(int=2), "1")
    assert isinstance(decide(Reading(("1",), "amex"), first, second), AskPerson)
    assert decide(Reading(("1",), "amex", "order-7"), first, second) == Keep()


def test_two_numbers_are_for_a_person_if_somebody_waits():
    assert isinstance(decide(Reading(("1", "2")), asking(1)), AskPerson)
    assert decide(Reading(("1", "2"))) == Keep()


def test_a_message_from_before_the_request_is_not_its_own():
    later = asking(1, not_before=NOW + timedelta(seconds=1))

    assert decide(Reading(("1",), "amex"), later) == Keep()


def test_a_message_that_no_rule_knows_is_not_of_a_service_with_rules():
    assert decide(Reading(("1",)), asking(1), rules={"amex"}) == Keep()
    assert decide(Reading(("1",)), asking(1), rules={"gyftr"}) == Give(UUID(int=1), "1")


def test_an_unknown_phone_fits_every_phone():
    assert decide(Reading(("1",)), asking(1), recipient="") == Give(UUID(int=1), "1")
    assert decide(Reading(("1",)), asking(1, phone="")) == Give(UUID(int=1), "1")

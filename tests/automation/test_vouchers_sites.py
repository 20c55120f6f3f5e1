"""Descriptions of voucher sites: what is said about wrong ones, and what right ones become."""

import re
from pathlib import Path

import pytest

from automation.vouchers.sites import KINDS, CardPageSite, PortalSite

CARD_PAGE = {
    "name": " Payments ",
    "domain": "Pay.Example",
    "allowed_domains": ["bank.example"],
    "otp_service": "bank",
    "selectors": {
        "card_number": " #number ",
        "card_expiry": "#expiry",
        "card_cvv": "#cvv",
        "pay_button": "//button",
        "code_input": "#code",
        "code_resend": None,
    },
    "texts": {"paid": "paid", "declined": "declined", "link_expired": "expired"},
}


def with_(**changes):
    return {**CARD_PAGE, **changes}


def test_a_description_becomes_a_site():
    assert CardPageSite.problems(CARD_PAGE) == {}

    site = CardPageSite.from_data(CARD_PAGE)

    assert (site.name, site.domain, site.otp_service) == ("Payments", "pay.example", "bank")
    assert not site.allow_private_network
    assert site.contains("https://acs.bank.example/3ds")
    assert not site.contains("https://bank.example.evil.example/")
    assert site.selectors["card_number"] == "#number"
    assert "code_resend" not in site.selectors
    assert site.has("paid")
    assert site.secret_selectors == ("#code", "#number", "#expiry", "#cvv")


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        ("text", {"data": ["Give an object with name, domain, urls, selectors and texts."]}),
        (with_(name=""), {"name": ["Give the site a name."]}),
        (
            with_(colour="red"),
            {
                "colour": [
                    "colour is no known field of a site. Known are: name, domain, "
                    "allowed_domains, allow_private_network, otp_service, time_zone, formats, "
                    "urls, selectors, texts."
                ]
            },
        ),
        (
            with_(time_zone="Asia/Nowhere"),
            {"time_zone": ["'Asia/Nowhere' is no time zone: give its name, such as Asia/Kolkata."]},
        ),
        (with_(texts=["paid"]), {"texts": ["Give an object that maps names to texts."]}),
        (
            with_(formats={"date": "%d"}),
            {"formats.date": ["Give a list of formats such as %d %b %Y."]},
        ),
    ],
)
def test_what_is_wrong_is_said_by_field(data, problems):
    assert CardPageSite.problems(data) == problems


@pytest.mark.parametrize(
    ("part", "key", "value", "sentence"),
    [
        (
            "selectors",
            "card_numbr",
            "#n",
            "card_numbr is no known part of such a site. Did you mean card_number?",
        ),
        ("selectors", "card_number", "a[", "'a[' is no CSS selector: its [ is not closed."),
        ("selectors", "card_number", 7, "Give a text, or null."),
        ("selectors", "pay_button", None, "Give a selector for pay_button."),
        (
            "texts",
            "paid",
            "(paid",
            "'(paid' is no regular expression: missing ), unterminated subpattern at position 0.",
        ),
        (
            "urls",
            "orders",
            "/orders",
            "'/orders' is no web address: it must begin with http:// or https://.",
        ),
    ],
)
def test_what_is_wrong_with_a_part_is_said_there(part, key, value, sentence):
    data = with_(**{part: {**CARD_PAGE.get(part, {}), key: value}})

    assert sentence in CardPageSite.problems(data)[f"{part}.{key}"]


def test_a_sign_may_be_told_by_a_text_alone_but_has_to_be_told():
    texts = {"paid": "paid", "declined": "declined"}

    assert CardPageSite.problems(with_(texts=texts)) == {
        "selectors.link_expired": ["Give a selector, or a text, that tells it."]
    }


def test_an_address_has_to_be_the_sites_own():
    data = {"name": "P", "domain": "p.example", "urls": {"login": "https://q.example/login"}}

    problems = PortalSite.problems(data)

    assert problems["urls.login"] == [
        "'https://q.example/login' is not on the site's domain nor in its allowed_domains."
    ]
    assert problems["urls.orders"] == ["Give the address of this page."]
    assert problems["texts.status_issued"] == [
        "Give a regular expression for what the page writes."
    ]


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_key_that_is_needed_is_known(kind):
    needed = [key for keys in (*kind.NEEDED_PARTS, *kind.NEEDED_SIGNS) for key in keys.split("|")]

    assert set(needed) | set(kind.SECRET_PARTS) | set(kind.NEEDED_TEXTS) <= set(kind.PARTS)
    assert set(kind.NEEDED_URLS) <= set(kind.URLS)


TEXT = (Path(__file__).parents[2] / "docs" / "vouchers.md").read_text()


def test_the_documentation_names_every_key_and_what_is_needed():
    named = re.findall(r"`(\w+)`( \*)?", TEXT)
    needed = {key for key, mark in named if mark}
    kinds = KINDS.values()

    assert {key for kind in kinds for key in (*kind.PARTS, *kind.URLS)} <= {key for key, _ in named}
    choices = ("card_expiry", "card_month", "card_year", "code_input")
    assert needed == {
        key
        for kind in kinds
        for keys in (kind.NEEDED_URLS, kind.NEEDED_PARTS, kind.NEEDED_SIGNS, kind.NEEDED_TEXTS)
        for choice in keys
        for key in choice.split("|")
        if key not in choices
    }

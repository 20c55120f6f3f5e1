"""Sites of a voucher purchase as data: addresses, the parts of their pages, and what texts mean.

Made from JSON whose keys are a contract with whoever plugs a site in; nothing here touches a
browser. A site is plugged in by a description, never by code:

- `urls`: the addresses that a flow opens.
- `selectors`: the parts of the pages, CSS or (beginning with `/`) XPath. All frames are looked
  through; what cannot be seen does not count.
- `texts`: regular expressions, whatever the letters' case. With a selector of the same key only
  elements whose text matches count; without one the text of the whole page (for a part of a row:
  of the row) is searched. The first group, if there is one, is the value; else what matched is.

A key that is left out is something the site does not have.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from types import MappingProxyType
from typing import Any, ClassVar, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from automation.site import (
    PLACEHOLDER,
    Problems,
    Site,
    allowed_domain_problems,
    domain_problems,
    http_host,
    normal_host,
    selector_problems,
    unknown_key,
)

TIME_ZONE = "Asia/Kolkata"
DATE_FORMATS = ("%d %b %Y", "%d %B %Y", "%d/%m/%Y", "%d-%m-%Y")
MOMENT_FORMATS = ("%d %b %Y, %H:%M", "%d %b %Y %H:%M", "%d/%m/%Y %H:%M", "%d %b %Y, %I:%M %p")

ALARMS = ("captcha", "blocked", "maintenance", "too_many_tries", "cookie_accept")
"""Signs that any page may show. `too_many_tries` is the site's own page for what a 429 says."""

LOG_IN = (
    "email_input",
    "password_input",
    "login_button",
    "login_error",
    "signed_in",
)
"""`signed_in`: shows that, and as whom, if there is an e-mail address in its text."""

CODE = (
    "code_input",
    "code_button",
    "code_error",
    "code_dead",
    "code_resend",
    "code_sent_to",
    "code_sent_at",
    "code_context",
)
"""The page that asks for a one-time code. `code_input` may be one field or one for each digit;
`code_dead` says that no code of this request is taken any more (too late, too many tries)."""


@dataclass(frozen=True, slots=True)
class VoucherSite:
    """What all kinds of sites have. The class variables say which keys a kind knows and needs."""

    URLS: ClassVar[tuple[str, ...]] = ()
    NEEDED_URLS: ClassVar[tuple[str, ...]] = ()
    PARTS: ClassVar[tuple[str, ...]] = ()
    NEEDED_PARTS: ClassVar[tuple[str, ...]] = ()
    """Each of these needs a selector; `a|b` says that one of both will do."""
    NEEDED_SIGNS: ClassVar[tuple[str, ...]] = ()
    """Each of these needs a selector or a text."""
    NEEDED_TEXTS: ClassVar[tuple[str, ...]] = ()
    SECRET_PARTS: ClassVar[tuple[str, ...]] = ("code_input",)
    """What is never shown in evidence, whatever its value."""

    name: str
    base: Site
    """The hosts that belong to it, for the traffic and the address check."""
    otp_service: str = ""
    """What the one-time-code rules call the sender of this site's codes."""
    zone: tzinfo = field(default_factory=lambda: ZoneInfo(TIME_ZONE))
    date_formats: tuple[str, ...] = DATE_FORMATS
    moment_formats: tuple[str, ...] = MOMENT_FORMATS
    urls: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    selectors: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    texts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def domain(self) -> str:
        return self.base.domain

    @property
    def allowed_domains(self) -> tuple[str, ...]:
        return self.base.allowed_domains

    @property
    def allow_private_network(self) -> bool:
        return self.base.allow_private_network

    @property
    def secret_selectors(self) -> tuple[str, ...]:
        known = (self.selectors.get(key) for key in self.SECRET_PARTS)
        return tuple(selector for selector in known if selector)

    def contains(self, url: str) -> bool:
        return self.base.contains(url)

    def has(self, key: str) -> bool:
        """Whether the site has such a part or sign."""
        return key in self.selectors or key in self.texts

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """The site of a description that has passed `problems`."""
        formats = data.get("formats") or {}
        return cls(
            name=data["name"].strip(),
            base=Site(
                name=data["name"].strip(),
                domain=normal_host(data["domain"]),
                allow_private_network=bool(data.get("allow_private_network")),
                allowed_domains=tuple(map(normal_host, data.get("allowed_domains") or ())),
            ),
            otp_service=data.get("otp_service") or "",
            zone=ZoneInfo(data.get("time_zone") or TIME_ZONE),
            date_formats=tuple(formats.get("date") or DATE_FORMATS),
            moment_formats=tuple(formats.get("moment") or MOMENT_FORMATS),
            urls=_stripped(data.get("urls")),
            selectors=_stripped(data.get("selectors")),
            texts=_stripped(data.get("texts")),
        )

    @classmethod
    def problems(cls, data: Any) -> dict[str, list[str]]:
        """What is wrong with a description: sentences by field, empty if nothing is."""
        found: dict[str, list[str]] = {}
        for where, sentence in cls._find_problems(data):
            found.setdefault(where, []).append(sentence)
        return found

    @classmethod
    def _find_problems(cls, data: Any) -> Problems:
        if not isinstance(data, Mapping):
            yield "data", "Give an object with name, domain, urls, selectors and texts."
            return
        for key in data:
            if key not in KEYS:
                yield key, unknown_key("field of a site", key, KEYS)
        yield from _head_problems(data)
        for name, known in (("urls", cls.URLS), ("selectors", cls.PARTS), ("texts", cls.PARTS)):
            yield from _map_problems(name, data.get(name), known)
        if any(not isinstance(data.get(name) or {}, Mapping) for name in MAPS):
            return
        urls, selectors, texts = (_texts_only(data.get(name)) for name in MAPS)
        yield from _address_problems(data, urls)
        for key, selector in selectors.items():
            takes_value = key in TAKES_VALUE
            yield from selector_problems(f"selectors.{key}", selector, takes_value=takes_value)
        for key, pattern in texts.items():
            yield from _pattern_problems(f"texts.{key}", pattern)
        yield from cls._gaps(urls, selectors, texts)

    @classmethod
    def _gaps(
        cls, urls: Mapping[str, str], selectors: Mapping[str, str], texts: Mapping[str, str]
    ) -> Problems:
        for key in cls.NEEDED_URLS:
            if key not in urls:
                yield f"urls.{key}", "Give the address of this page."
        for choice in cls.NEEDED_PARTS:
            keys = choice.split("|")
            if not any(key in selectors for key in keys):
                yield f"selectors.{keys[0]}", f"Give a selector for {' or '.join(keys)}."
        for choice in cls.NEEDED_SIGNS:
            keys = choice.split("|")
            if not any(key in selectors or key in texts for key in keys):
                also = f" (or for {' or '.join(keys[1:])})" if keys[1:] else ""
                yield f"selectors.{keys[0]}", f"Give a selector, or a text, that tells it{also}."
        for key in cls.NEEDED_TEXTS:
            if key not in texts:
                yield f"texts.{key}", "Give a regular expression for what the page writes."


@dataclass(frozen=True, slots=True)
class PortalSite(VoucherSite):
    """Where vouchers are bought.

    The inventory page (for anybody) and the availability page (signed in) list amounts: in each
    `stock_row` a `stock_amount`, and a `stock_count` or, with none left, `stock_sold_out`. A row
    without either is "some".

    The form: `amount_input` is a field, a list, or buttons of which one bears the amount (or has it
    for `{value}` in the selector); `reference_input` takes a text of ours that the order page shows
    again. Its answer: `link_url` (a link, or a text) with
    `link_order` and `link_expires`, or `limit_exceeded`, `out_of_inventory` or `buy_error`.

    The order page: in each `order_row` the `order_…` parts. `texts.status_…` say what an
    `order_status` means. The voucher's parts are in the row (behind `voucher_reveal`, where that
    has to be pressed), or on the page that `order_details` leads to. `orders_next` leads on.
    `urls.find_orders` lists the orders with `{value}` as number or reference, where the portal can
    search; without it, all pages may have to be read.
    """

    URLS = ("inventory", "login", "availability", "buy", "orders", "find_orders")
    NEEDED_URLS = ("inventory", "login", "buy", "orders")
    PARTS = (
        *ALARMS,
        *LOG_IN,
        *CODE,
        "stock_row",
        "stock_amount",
        "stock_count",
        "stock_sold_out",
        "amount_input",
        "quantity_input",
        "reference_input",
        "buy_button",
        "buy_error",
        "limit_exceeded",
        "out_of_inventory",
        "link_url",
        "link_order",
        "link_expires",
        "order_row",
        "order_number",
        "order_reference",
        "order_amount",
        "order_status",
        "order_link",
        "order_expires",
        "order_details",
        "orders_next",
        "orders_empty",
        "status_unpaid",
        "status_processing",
        "status_paid",
        "status_issued",
        "status_expired",
        "status_failed",
        "voucher_reveal",
        "voucher_code",
        "voucher_pin",
        "voucher_amount",
        "voucher_expires",
    )
    NEEDED_PARTS = (
        "email_input",
        "password_input",
        "stock_row",
        "amount_input",
        "buy_button",
        "link_url",
        "order_row",
        "order_number",
        "order_amount",
        "order_status",
        "voucher_code",
    )
    NEEDED_SIGNS = ("signed_in", "stock_amount", "limit_exceeded")
    NEEDED_TEXTS = ("status_unpaid", "status_paid", "status_issued")
    SECRET_PARTS = ("code_input", "voucher_code", "voucher_pin")


@dataclass(frozen=True, slots=True)
class CardPageSite(VoucherSite):
    """The page behind a payment link, and the bank's page for the code: `allowed_domains` names
    the bank's hosts.

    The expiry is one field (`card_expiry`, MM/YY) or two (`card_month`, `card_year`: fields or
    lists). `processing`, `paid`, `declined` and `link_expired` are signs; `card_error` is what the
    form itself says of a card. Where the result page names the payment, `paid_reference` is it.
    """

    PARTS = (
        *ALARMS,
        *CODE,
        "card_number",
        "card_expiry",
        "card_month",
        "card_year",
        "card_cvv",
        "card_name",
        "card_error",
        "pay_button",
        "processing",
        "paid",
        "paid_reference",
        "declined",
        "link_expired",
    )
    NEEDED_PARTS = (
        "card_number",
        "card_expiry|card_month",
        "card_expiry|card_year",
        "card_cvv",
        "pay_button",
        "code_input",
    )
    NEEDED_SIGNS = ("paid", "declined", "link_expired")
    SECRET_PARTS = ("code_input", "card_number", "card_expiry", "card_cvv")


@dataclass(frozen=True, slots=True)
class RedeemerSite(VoucherSite):
    """Where vouchers become an account's balance.

    The form's answer: `redeemed` (with `redeemed_amount`), or one of `voucher_used`,
    `voucher_invalid`, `voucher_expired`, or `redeem_error` for whatever else. `balance` is the
    amount wherever it shows. In each `history_row` are the `history_…` parts; `history_code` is
    the code as far as the site shows it. `history_next` leads on.
    """

    URLS = ("login", "redeem", "history", "balance")
    NEEDED_URLS = ("login", "redeem", "history")
    PARTS = (
        *ALARMS,
        *LOG_IN,
        *CODE,
        "voucher_input",
        "pin_input",
        "redeem_button",
        "redeemed",
        "redeemed_amount",
        "redeem_error",
        "voucher_used",
        "voucher_invalid",
        "voucher_expired",
        "balance",
        "history_row",
        "history_code",
        "history_amount",
        "history_at",
        "history_next",
        "history_empty",
    )
    NEEDED_PARTS = (
        "email_input",
        "password_input",
        "voucher_input",
        "redeem_button",
        "history_row",
        "history_code",
        "history_amount",
    )
    NEEDED_SIGNS = ("signed_in", "redeemed", "voucher_used")
    SECRET_PARTS = ("code_input", "voucher_input", "pin_input")


KINDS: Mapping[str, type[VoucherSite]] = MappingProxyType(
    {"portal": PortalSite, "card_page": CardPageSite, "redeemer": RedeemerSite}
)
"""By what a description is for. The one list to touch for another kind."""

MAPS = ("urls", "selectors", "texts")
KEYS = (
    "name",
    "domain",
    "allowed_domains",
    "allow_private_network",
    "otp_service",
    "time_zone",
    "formats",
    *MAPS,
)
TAKES_VALUE = ("amount_input",)
"""Where `{value}` stands for the amount, as it may in `urls.buy`."""


def _stripped(given: Mapping[str, Any] | None) -> Mapping[str, str]:
    return MappingProxyType(_texts_only(given))


def _texts_only(given: Mapping[str, Any] | None) -> dict[str, str]:
    """Without what is empty: null says that the site has none."""
    items = (given or {}).items()
    return {key: value.strip() for key, value in items if isinstance(value, str) and value.strip()}


def _head_problems(data: Mapping[str, Any]) -> Problems:
    if not isinstance(data.get("name"), str) or not data["name"].strip():
        yield "name", "Give the site a name."
    yield from domain_problems("domain", data.get("domain"))
    yield from allowed_domain_problems(data.get("allowed_domains"))
    if not isinstance(data.get("allow_private_network"), bool | None):
        yield "allow_private_network", "Say true or false."
    if not isinstance(data.get("otp_service"), str | None):
        yield "otp_service", "Give the name that the rules for one-time codes know the site by."
    yield from _zone_problems(data.get("time_zone"))
    yield from _format_problems(data.get("formats"))


def _zone_problems(zone: Any) -> Problems:
    if zone is None or zone == "":
        return
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        yield "time_zone", f"{zone!r} is no time zone: give its name, such as {TIME_ZONE}."


def _format_problems(formats: Any) -> Problems:
    if formats is None:
        return
    if not isinstance(formats, Mapping):
        yield "formats", 'Give an object such as {"date": ["%d %b %Y"], "moment": [...]}.'
        return
    for key, patterns in formats.items():
        if key not in ("date", "moment"):
            yield f"formats.{key}", unknown_key("format", key, ("date", "moment"))
        elif not isinstance(patterns, list | tuple) or not all(
            isinstance(each, str) and "%" in each for each in patterns
        ):
            yield f"formats.{key}", "Give a list of formats such as %d %b %Y."


def _map_problems(name: str, given: Any, known: tuple[str, ...]) -> Problems:
    if given is None:
        return
    if not isinstance(given, Mapping):
        yield name, "Give an object that maps names to texts."
        return
    for key, value in given.items():
        if not known:
            yield f"{name}.{key}", "Such a site has no addresses of its own: leave them out."
        elif key not in known:
            what = "page of such a site" if name == "urls" else "part of such a site"
            yield f"{name}.{key}", unknown_key(what, key, known)
        if not isinstance(value, str | None):
            yield f"{name}.{key}", "Give a text, or null."


def _address_problems(data: Mapping[str, Any], urls: Mapping[str, str]) -> Problems:
    heads = (domain_problems("", data.get("domain")), allowed_domain_problems(_allowed(data)))
    knows_hosts = not any(any(problems) for problems in heads)
    for key, url in urls.items():
        plain = url.replace(PLACEHOLDER, "0")
        if not http_host(plain):
            yield (
                f"urls.{key}",
                f"{url!r} is no web address: it must begin with http:// or https://.",
            )
        elif knows_hosts and not _contains(data, plain):
            yield f"urls.{key}", f"{url!r} is not on the site's domain nor in its allowed_domains."


def _allowed(data: Mapping[str, Any]) -> Any:
    return data.get("allowed_domains") or ()


def _contains(data: Mapping[str, Any], url: str) -> bool:
    allowed = tuple(map(normal_host, _allowed(data)))
    return Site("", domain=normal_host(data["domain"]), allowed_domains=allowed).contains(url)


def _pattern_problems(where: str, pattern: str) -> Iterator[tuple[str, str]]:
    try:
        re.compile(pattern)
    except re.error as error:
        yield where, f"{pattern!r} is no regular expression: {error}."

"""A vendor's site as data: its addresses, and the selectors that name the parts of its pages.

Made from the vendor's JSON, whose keys are a contract with whoever plugs a shop in; nothing here
touches a browser. `site_problems` says in sentences what is wrong with such data before it is
saved; `Site.from_data` reads data that has passed, and leaves alone what it does not know.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, Self, get_args
from urllib.parse import urlsplit

CartScope = Literal["account", "session"]
VariantKind = Literal["select", "click", "fill", "check", "quantity"]

PLACEHOLDER = "{value}"
"""Stands in a selector for the value that a request chose."""


@dataclass(frozen=True, slots=True)
class VariantControl:
    """How one option of a product is chosen on its page."""

    kind: VariantKind
    selector: str
    reveal: str | None = None
    """Pressed first when the control cannot be seen."""
    settled: str | None = None
    """Waited for after the choice: the shop has worked out price and stock."""


@dataclass(frozen=True, slots=True)
class Selectors:
    """The parts of a shop's pages. None: the shop has none."""

    email_input: str | None = None
    password_input: str | None = None
    login_button: str | None = None
    logged_in_indicator: str | None = None
    logged_in_indicator_is_hidden: bool = False
    login_error: str | None = None
    cookie_accept: str | None = None
    quantity_input: str | None = None
    variants: Mapping[str, VariantControl] = field(default_factory=lambda: MappingProxyType({}))
    variant_link: str | None = None
    add_to_cart: str | None = None
    cart_confirmation: str | None = None
    cart_error: str | None = None
    out_of_stock_indicator: str | None = None
    cart_row: str | None = None
    cart_row_name: str | None = None
    cart_quantity: str | None = None
    cart_update: str | None = None
    cart_empty_indicator: str | None = None
    blocked_indicator: str | None = None
    captcha_indicator: str | None = None

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        known = {key: _selector(data.get(key)) for key in SELECTOR_KEYS}
        return cls(
            **known,
            logged_in_indicator_is_hidden=bool(data.get("logged_in_indicator_is_hidden")),
            variants=MappingProxyType(
                {
                    name: VariantControl(
                        kind=spec["kind"],
                        selector=spec["selector"].strip(),
                        reveal=_selector(spec.get("reveal")),
                        settled=_selector(spec.get("settled")),
                    )
                    for name, spec in (data.get("variants") or {}).items()
                }
            ),
        )


def _selector(value: str | None) -> str | None:
    """A blank before a slash would make CSS of an XPath."""
    return value.strip() or None if value else None


NON_SELECTOR_KEYS = ("logged_in_indicator_is_hidden", "variants")
KEYS = tuple(each.name for each in fields(Selectors))
SELECTOR_KEYS = tuple(key for key in KEYS if key not in NON_SELECTOR_KEYS)
VARIANT_KEYS = tuple(each.name for each in fields(VariantControl))


@dataclass(frozen=True, slots=True)
class Site:
    name: str
    domain: str
    login_url: str | None = None
    cart_url: str | None = None
    cart_scope: CartScope = "account"
    login_required: bool = True
    allow_private_network: bool = False
    allowed_domains: tuple[str, ...] = ()
    selectors: Selectors = field(default_factory=Selectors)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """The site that vendor data describes; keys with null mean the default."""
        login_required = data.get("login_required")
        return cls(
            name=data["name"],
            domain=normal_host(data["domain"]),
            login_url=data.get("login_url") or None,
            cart_url=data.get("cart_url") or None,
            cart_scope=data.get("cart_scope") or "account",
            login_required=True if login_required is None else bool(login_required),
            allow_private_network=bool(data.get("allow_private_network")),
            allowed_domains=tuple(map(normal_host, data.get("allowed_domains") or ())),
            selectors=Selectors.from_data(data.get("selectors") or {}),
        )

    def host_belongs(self, host: str) -> bool:
        """Whether a host is the vendor's own, below it, or an allowed one; ports don't matter."""
        name = normal_host(host)
        return any(
            name == own or name.endswith(f".{own}")
            for own in (without_www(self.domain), *self.allowed_domains)
        )

    def contains(self, url: str) -> bool:
        """Whether an http(s) address lies on the vendor's own hosts."""
        host = http_host(url)
        return host is not None and self.host_belongs(host)

    def missing_for_automation(self) -> str | None:
        """Says which data is lacking so that no add could be made or verified; None if none is."""
        lacking = [f"selectors.{key}" for key in self._lacking_selectors()]
        if not self.cart_url:
            lacking.append("cart_url")
        if self.login_required and not self.login_url:
            lacking.append("login_url")
        if not lacking:
            return None
        return (
            f"{self.name} cannot be automated: its vendor data has no {', '.join(lacking)}. "
            "Add what is missing, or set can_automate to false."
        )

    def _lacking_selectors(self) -> Iterator[str]:
        own = self.selectors
        if not own.add_to_cart:
            yield "add_to_cart"
        if not (own.cart_row or own.cart_row_name or own.cart_quantity):
            yield "cart_row"
        if self.login_required:
            yield from (key for key in ("email_input", "password_input") if not getattr(own, key))


def normal_host(host: str) -> str:
    """A host name without port, in lower case and in its ASCII form."""
    name = host.strip().lower().rstrip(".")
    if name.startswith("["):
        return name.partition("]")[0].lstrip("[")
    if name.count(":") == 1:
        name = name.partition(":")[0].rstrip(".")
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def without_www(host: str) -> str:
    """Shops send people between the bare name and `www` as they like: it is one site."""
    return host.removeprefix("www.")


def http_host(url: str) -> str | None:
    """The host of a well-formed http(s) address, None of anything else."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises when the port is no number
    except ValueError:
        return None
    return parts.hostname if parts.scheme in {"http", "https"} else None


def is_xpath(selector: str) -> bool:
    """XPath begins with a slash, which may stand in brackets: `(//button)[2]`."""
    return selector.lstrip("(").startswith("/")


def site_problems(data: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is wrong with vendor data: sentences by field (`selectors.add_to_cart`), empty if fine.

    Says nothing of data that is merely incomplete: see `Site.missing_for_automation`.
    """
    problems: dict[str, list[str]] = {}
    for where, sentence in _problems(data):
        problems.setdefault(where, []).append(sentence)
    return problems


Problems = Iterator[tuple[str, str]]


def _problems(data: Mapping[str, Any]) -> Problems:
    if not isinstance(data.get("name"), str) or not data["name"].strip():
        yield "name", "Give the vendor a name."
    yield from domain_problems("domain", data.get("domain"))
    yield from allowed_domain_problems(data.get("allowed_domains"))
    for key in ("login_url", "cart_url"):
        yield from _address_problems(key, data)
    if data.get("cart_scope") not in (None, "", *get_args(CartScope)):
        yield "cart_scope", "Say account (the cart belongs to the account) or session."
    for key in ("login_required", "allow_private_network"):
        if not isinstance(data.get(key), bool | None):
            yield key, "Say true or false."
    selectors = data.get("selectors")
    if isinstance(selectors, Mapping):
        yield from _selectors_problems(selectors)
    elif selectors is not None:
        yield "selectors", "Give an object that maps names of page parts to selectors."


def domain_problems(where: str, domain: Any) -> Problems:
    if not isinstance(domain, str) or not domain.strip():
        yield where, "Give the host name of the shop, such as shop.example."
    elif "/" in domain or " " in domain.strip() or http_host(f"http://{domain.strip()}") is None:
        yield where, f"{domain!r} is no host name: give it without https:// and without a path."


def allowed_domain_problems(domains: Any) -> Problems:
    if domains is None:
        return
    if not isinstance(domains, list | tuple):
        yield "allowed_domains", "Give a list of host names."
        return
    for domain in domains:
        yield from domain_problems("allowed_domains", domain)


def _address_problems(key: str, data: Mapping[str, Any]) -> Problems:
    url = data.get(key)
    if url is None or url == "":
        return
    if not isinstance(url, str) or not http_host(url):
        yield key, f"{url!r} is no web address: it must begin with http:// or https://."
        return
    domain, allowed = data.get("domain"), data.get("allowed_domains") or ()
    if any(domain_problems(key, domain)) or any(allowed_domain_problems(allowed)):
        return
    site = Site(
        name="", domain=normal_host(str(domain)), allowed_domains=tuple(map(normal_host, allowed))
    )
    if not site.contains(url):
        yield key, f"{url!r} is not on the vendor's domain {domain} nor in its allowed_domains."


def _selectors_problems(selectors: Mapping[str, Any]) -> Problems:
    for key, value in selectors.items():
        where = f"selectors.{key}"
        if key not in KEYS:
            yield where, unknown_key("part of a page", key, KEYS)
        elif key == "variants":
            yield from _variants_problems(value)
        elif key == "logged_in_indicator_is_hidden":
            if not isinstance(value, bool | None):
                yield where, "Say true or false."
        elif value is not None and value != "":
            yield from selector_problems(where, value, takes_value=key == "variant_link")


def _variants_problems(variants: Any) -> Problems:
    where = "selectors.variants"
    if variants is None:
        return
    if not isinstance(variants, Mapping):
        yield where, "Give an object that maps each option's name to how it is chosen."
        return
    for name, spec in variants.items():
        yield from _variant_problems(f"{where}.{name}", spec)


def _variant_problems(where: str, spec: Any) -> Problems:
    if not isinstance(spec, Mapping):
        yield where, 'Give an object such as {"kind": "select", "selector": "#size"}.'
        return
    for key in spec:
        if key not in VARIANT_KEYS:
            yield f"{where}.{key}", unknown_key("part of an option", key, VARIANT_KEYS)
    kinds = get_args(VariantKind)
    if spec.get("kind") not in kinds:
        yield f"{where}.kind", f"Say one of {', '.join(kinds)}."
    if not spec.get("selector"):
        yield f"{where}.selector", "Give the selector of the control."
    for key in ("selector", "reveal", "settled"):
        if spec.get(key):
            yield from selector_problems(f"{where}.{key}", spec[key], takes_value=True)


def unknown_key(what: str, key: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(str(key), known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Known are: {', '.join(known)}."
    return f"{key} is no known {what}. {hint}"


def selector_problems(where: str, selector: Any, *, takes_value: bool) -> Problems:
    if not isinstance(selector, str):
        yield where, "A selector is a text (CSS, or XPath when it begins with /), or null."
        return
    if not takes_value and PLACEHOLDER in selector:
        yield where, f"{PLACEHOLDER} stands for a chosen option: only variants can have it here."
    kind = "XPath" if is_xpath(selector.strip()) else "CSS"
    fault = _shape_fault(selector, escapes=kind == "CSS")
    if fault:
        yield where, f"{selector!r} is no {kind} selector: {fault}."


CLOSES = {")": "(", "]": "["}


def _shape_fault(selector: str, *, escapes: bool) -> str | None:
    """What keeps a text from being a selector at all; the browser alone knows the whole grammar."""
    if not selector.strip():
        return "it is blank"
    if selector.rstrip().endswith((",", "/", ">")):
        return "its end is missing"
    open_brackets: list[str] = []
    quote = ""
    skip = False
    for sign in selector:
        if skip:
            skip = False
        elif escapes and sign == "\\":
            skip = True
        elif quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in CLOSES.values():
            open_brackets.append(sign)
        elif sign in CLOSES and (not open_brackets or open_brackets.pop() != CLOSES[sign]):
            return f"its {sign} closes nothing"
    if quote:
        return f"its quote {quote} is not closed"
    return f"its {open_brackets[-1]} is not closed" if open_brackets else None

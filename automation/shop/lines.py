"""Whose line is it, and how much of the add has arrived: decided from readings of a cart.

Pure. Shops name a product's line as they like: by its link (which may be another address of the
same page), by its title, with or without the chosen options. So a line is known again by the
strongest sign that any line gives, and an add is measured as the growth of those lines.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain

from automation.shop.addresses import Likeness, likeness
from automation.shop.request import AddIntent, CartLine, Product


class Sign(IntEnum):
    """How surely a line is the product's, weakest first."""

    NONE = 0
    POSSIBLE = 1
    NAME = 2
    SAME_SLUG = 3
    SAME_PAGE = 4
    SAME_LINK = 5


BY_ADDRESS = {
    Likeness.NONE: Sign.NONE,
    Likeness.SLUG: Sign.SAME_SLUG,
    Likeness.PAGE: Sign.SAME_PAGE,
    Likeness.SAME: Sign.SAME_LINK,
}


@dataclass(frozen=True, slots=True)
class Progress:
    """The product's quantity in two readings of the cart, and its line in the later one."""

    before: int
    now: int
    line: CartLine | None

    @property
    def growth(self) -> int:
        return self.now - self.before


@dataclass(frozen=True, slots=True)
class Growth(Progress):
    """The progress of one line."""

    line: CartLine


def measure_add(product: Product, before: Sequence[CartLine], now: Sequence[CartLine]) -> Progress:
    """How the product's lines grew between two readings with nothing but our add in between."""
    progress = _compare(product, before, now)
    if progress.growth:
        return progress
    grown = _grown_beside(product, before, now)
    is_known = _strongest(product, [*before, *now]) >= Sign.SAME_PAGE
    if len(grown) == 1 and (_sign(product, grown[0].line) or not is_known):
        return grown[0]
    return progress


def measure_after_absence(product: Product, intent: AddIntent, now: Sequence[CartLine]) -> Progress:
    """The same for a later attempt: others may have used the cart since the intent was made.

    A line that merely grew is then no proof. Where one grew that may be the product's or not, the
    cart alone cannot tell: a growth without a line.
    """
    before = intent.cart_before
    is_known = _strongest(product, [*before, *now]) > Sign.POSSIBLE
    progress = _compare(product, before, now) if is_known else Progress(0, 0, None)
    if progress.growth:
        return progress
    grown = _grown_beside(product, before, now)
    likely = [each for each in grown if _sign(product, each.line)]
    if len(likely) == 1 and likely[0].growth == intent.quantity:
        return likely[0]
    nameless = [] if is_known else [each for each in grown if not each.line.links]
    doubtful = likely or nameless
    if doubtful:
        return Progress(0, sum(each.growth for each in doubtful), None)
    return progress


def wrong_option(product: Product, line: CartLine) -> str | None:
    """The option value that the line shows though another was chosen."""
    if _shows(product, line):
        return None
    text = _words(line.text)
    own = [_words(each) for each in (*chain(*product.values), *product.names)]
    for value in product.other_values:
        wanted = _words(value)
        # "5" or "M" may stand in any row, whatever was chosen.
        is_telling = len(wanted) > 2 and not wanted.isdecimal()
        if is_telling and _holds(text, wanted) and not any(_holds(mine, wanted) for mine in own):
            return value
    return None


def describe_cart(lines: Sequence[CartLine]) -> str:
    """The cart in words, for error messages."""
    if not lines:
        return "The cart is empty."
    shown = "; ".join(f"{line.quantity} x {line.name[:60]}" for line in lines[:5])
    more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""
    return f"The cart holds {shown}{more}."


def _compare(product: Product, before: Sequence[CartLine], now: Sequence[CartLine]) -> Progress:
    own_before, own_now = _own_lines(product, before, now)
    grown = [each.line for each in _grown(own_before, own_now)]
    return Progress(
        before=sum(line.quantity for line in own_before),
        now=sum(line.quantity for line in own_now),
        line=grown[0] if grown else next(iter(own_now), None),
    )


def _own_lines(
    product: Product, before: Sequence[CartLine], now: Sequence[CartLine]
) -> tuple[list[CartLine], list[CartLine]]:
    """The product's lines in two readings, by the same measure in both.

    Two variants of a product are two lines, and the link that was asked for may be the other
    variant's: so of all lines that are plainly the product's those count that show the most of the
    chosen values, and of those the ones with the strongest sign. A cart that shows no values
    leaves all variants; the growth of their sum still tells.
    """
    plain = min(Sign.NAME, _strongest(product, [*before, *now]))
    if plain is Sign.NONE:
        return [], []
    readings = [
        [line for line in reading if _sign(product, line) >= plain] for reading in (before, now)
    ]
    most = max((_shows(product, line) for line in readings[1]), default=0)
    readings = [[line for line in each if _shows(product, line) >= most] for each in readings]
    strongest = _strongest(product, [*readings[0], *readings[1]])
    own_before, own_now = (
        [line for line in each if _sign(product, line) == strongest] for each in readings
    )
    return own_before, own_now


def _grown_beside(
    product: Product, before: Sequence[CartLine], now: Sequence[CartLine]
) -> list[Growth]:
    """The lines that grew and show the chosen values no worse than the product's known lines."""
    _, own_now = _own_lines(product, before, now)
    most = max((_shows(product, line) for line in own_now), default=0)
    return [each for each in _grown(before, now) if _shows(product, each.line) >= most]


def _strongest(product: Product, lines: Sequence[CartLine]) -> Sign:
    return max((_sign(product, line) for line in lines), default=Sign.NONE)


def _sign(product: Product, line: CartLine) -> Sign:
    """The strongest sign that a line is the product's."""
    alike = max(
        (likeness(own, link) for own in product.links for link in line.links),
        default=Likeness.NONE,
    )
    if alike is not Likeness.NONE:
        return BY_ADDRESS[alike]
    name = _words(line.name)
    names = [words for words in map(_words, product.names) if words]
    if name in names:
        return Sign.NAME
    is_related = name and any(_holds(name, each) or _holds(each, name) for each in names)
    return Sign.POSSIBLE if is_related else Sign.NONE


def _grown(before: Sequence[CartLine], now: Sequence[CartLine]) -> list[Growth]:
    """The lines of `now` that hold more than they did, the same line being the one most alike."""
    left = list(before)
    grown = []
    for line in now:
        alike = [each for each in left if _is_same_line(each, line)]
        same = next((each for each in alike if each.name == line.name), next(iter(alike), None))
        if same is not None:
            left.remove(same)
        had = same.quantity if same else 0
        if line.quantity > had:
            grown.append(Growth(had, line.quantity, line))
    return grown


def _is_same_line(one: CartLine, other: CartLine) -> bool:
    return (
        _without_numbers(one.name) == _without_numbers(other.name)
        and one.url == other.url
        and _without_numbers(one.text) == _without_numbers(other.text)
    )


def _without_numbers(text: str) -> str:
    """A text apart from quantities and prices, which an add changes."""
    return re.sub(r"\S*\d\S*", "", _words(text))


def _shows(product: Product, line: CartLine) -> int:
    """How many of the chosen values the line shows."""
    text = _words(f"{line.name} {line.text}")
    return sum(any(_holds(text, _words(way)) for way in ways) for ways in product.values)


def _words(text: str) -> str:
    """Words only, in one case: what is left of a text once its typography is taken away."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"[\w.]*\w", plain))


def _holds(text: str, part: str) -> bool:
    return bool(part) and f" {part} " in f" {text} "

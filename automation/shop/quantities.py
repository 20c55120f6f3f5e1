"""Reads the quantity that a cart shows, in the many ways that shops write a number. Pure."""

import re
import unicodedata

LABELLED = re.compile(
    r"(?:qty|quantity|pieces|menge|anzahl|quantité|cantidad|quantità|aantal|antal)\W{0,3}(\d+)",
    re.IGNORECASE,
)

NUMBER = re.compile(r"\d+(?:[.,]\d{3}(?!\d))*(?:[.,]\d+)?")

# "2 x" and "x 2", but not "10 x 20 cm": a number on both sides is a size, unless it is a price.
TIMES = re.compile(
    r"(?<![\d.,])(\d+)\s?[x\u00d7\u2715](?!\s?\d+(?![\d.,]))"
    r"|(?<!\d)(?<!\d\s)[x\u00d7\u2715]\s?(\d+)(?![\d.,]*\d)",
    re.IGNORECASE,
)


def parse_quantity(text: str) -> int | None:
    """The number in a quantity cell: `2`, `2 x`, `Qty: 2`, `1.0`, `1,000`; None if none is whole.

    Digits of any script count.
    """
    plain = unicodedata.normalize("NFKC", text)
    labelled = LABELLED.search(plain)
    if labelled:
        return int(labelled[1])
    number = NUMBER.search(plain)
    return _whole(number.group()) if number else None


def _whole(number: str) -> int | None:
    """Three digits behind a sign are thousands (1,000); any other count is a fraction (1.0)."""
    fraction = re.fullmatch(r"(.*\d)[.,](\d{1,2}|\d{4,})", number)
    if fraction and fraction[2].strip("0"):
        return None
    return int(re.sub(r"\D", "", fraction[1] if fraction else number))


def quantity_in_row(text: str, name: str) -> int:
    """The quantity of a row that has no quantity cell: what its text says, else one piece."""
    beside_name = text.replace(name, " ", 1)
    plain = unicodedata.normalize("NFKC", beside_name if beside_name.strip() else text)
    found = LABELLED.search(plain) or TIMES.search(plain)
    return int(next(filter(None, found.groups()))) if found else 1

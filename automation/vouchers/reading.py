"""How a page's texts are read: amounts, counts, dates, masked codes, what a status means. Pure.

Money is read strictly: a text that is not plainly an amount gives None, never a guess. None of
the texts may reach an error: where a selector is wrong, it could be a voucher's code.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, tzinfo

from automation.vouchers.states import OrderStatus

CURRENCY = r"(?:₹|rs\.?|inr)"
# Both ways to group: 1,00,000 and 100,000. Paise may be written, but there are none.
RUPEES = re.compile(
    rf"\+?\s*{CURRENCY}?\s*(\d+|\d{{1,3}}(?:,\d{{2}})*,\d{{3}}|\d{{1,3}}(?:,\d{{3}})+)(?:\.0{{1,2}})?"
    rf"(?:\s*/-|\s*{CURRENCY})?",
    re.IGNORECASE,
)

STATUSES: tuple[OrderStatus, ...] = (
    "issued",
    "expired",
    "failed",
    "processing",
    "unpaid",
    "paid",
)
"""In this order: "unpaid" has "paid" in it, and an order that was issued was paid before."""

TAIL_AT_MOST = 6
"""Characters of a code's end that are kept: enough to know it again, too few to use it."""


def parse_rupees(text: str) -> int | None:
    """The whole rupees of `₹1,500.00`; None of anything that is not just an amount."""
    found = RUPEES.fullmatch(" ".join(text.split()))
    return int(found.group(1).replace(",", "")) if found else None


def parse_count(text: str) -> int | None:
    """The first number in a text, such as 12 in "12 left"."""
    found = re.search(r"\d[\d,]*", text)
    return int(found.group().replace(",", "")) if found else None


def parse_date(text: str, formats: Sequence[str]) -> date | None:
    found = _first_reading(text, formats)
    return found.date() if found else None


def parse_moment(text: str, formats: Sequence[str], zone: tzinfo) -> datetime | None:
    """A time with a zone: the text's own, or else `zone`."""
    found = _first_reading(text, formats)
    if found is None or found.tzinfo is not None:
        return found
    return found.replace(tzinfo=zone)


def _first_reading(text: str, formats: Sequence[str]) -> datetime | None:
    text = " ".join(text.split())
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    for each in formats:
        try:
            return datetime.strptime(text, each)  # noqa: DTZ007 - the caller knows the zone
        except ValueError:
            continue
    return None


def read_tail(masked: str) -> str:
    """The end of a code that a page masks: `1A2B` of `XXXX-XXXXXX-1A2B` or `••••1A2B`."""
    words = re.findall(r"[0-9A-Za-z]+", masked)
    return words[-1].upper().lstrip("X")[-TAIL_AT_MOST:] if words else ""


def decide_status(text: str, patterns: Mapping[str, str]) -> OrderStatus | None:
    """What an order's status means, by the site's `status_…` texts."""
    for status in STATUSES:
        pattern = patterns.get(f"status_{status}")
        if pattern and re.search(pattern, text, re.IGNORECASE):
            return status
    return None

"""Reading a message: which code, of which service, for what. Pure; what is read decides nothing.

A service's own rules come first, then an origin-bound last line (`@host #code`, the WICG's
"Origin-bound one-time codes"), then the general rule: the one number of 4 to 8 digits that stands
by a word for a code. Two candidates are none: a person is asked.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

CODE = re.compile(r"(?=.*\d)[0-9A-Za-z-]{3,12}")
ORIGIN_BOUND = re.compile(r"^@(?P<host>[a-z0-9.-]+) #(?P<code>[^\s#@]{3,12})", re.IGNORECASE)
WORDS = re.compile(
    r"\b(?:otp|o\.t\.p|one[- ]?time|code|passcode|password|pass ?code|pin|verification|verify"
    r"|authori[sz]ation|security)\b",
    re.IGNORECASE,
)
# Digits that are not a part of a longer number, an amount, a date, a time or a masked card.
NUMBER = re.compile(r"(?<![\w.,/:*#+-])(?:\d{3}[- ]?\d{3}|\d{4,8})(?![\w/:*-])")
AMOUNT_BEFORE = re.compile(r"(?:rs\.?|inr|usd|eur|gbp|[₹$€£])\s*$", re.IGNORECASE)
AMOUNT_AFTER = re.compile(r"^(?:[.,]\d|\s*(?:rs\b|inr\b|usd\b|rupees|[₹$€£]))", re.IGNORECASE)
MONTH_BEFORE = re.compile(
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?,?\s*$", re.IGNORECASE
)
TAIL_BEFORE = re.compile(
    r"(?:ending(?: in| with)?|ends? (?:in|with)|card(?: no\.?)?|a/c|account|acct|order|txn"
    r"|ref(?:erence)?|id|call|dial|helpline|phone|x{2,}|\*+)\s*(?:no\.?|number|id|:|#|is)?\s*$",
    re.IGNORECASE,
)
NEAR = 60  # characters between the word and the number
MAX_TEXT = 2000


class Rule(Protocol):
    """Of `jobs.models.OtpRule`, what reading needs."""

    service: str
    sender: str
    pattern: str
    origin: str


@dataclass(frozen=True)
class Reading:
    """What a message says. `codes`: one, or more if it cannot be told which, or none."""

    codes: tuple[str, ...]
    service: str | None = None  # known by a rule
    context: str | None = None


def read_message(text: str, sender: str, rules: Iterable[Rule]) -> Reading:
    text = text[:MAX_TEXT]
    host, bound = _origin_bound(text)
    for rule in rules:
        reading = _read_by(rule, text, sender, host, bound)
        if reading is not None:
            return reading
    return Reading((bound,) if bound else _codes_in(text))


def _read_by(
    rule: Rule, text: str, sender: str, host: str | None, bound: str | None
) -> Reading | None:
    """The message as this rule reads it; None if it is not one of the rule's."""
    if rule.sender and not re.search(rule.sender, sender, re.IGNORECASE):
        return None
    if rule.origin and not (host and _is_host_of(host, rule.origin)):
        return None
    if rule.pattern:
        found = re.search(rule.pattern, text, re.IGNORECASE)
        if found is None:
            return None
        groups = found.groupdict()
        return Reading((groups["code"],), rule.service, groups.get("context"))
    return Reading((bound,) if bound else _codes_in(text), rule.service)


def _origin_bound(text: str) -> tuple[str | None, str | None]:
    lines = text.strip().splitlines()
    found = ORIGIN_BOUND.match(lines[-1].strip()) if lines else None
    return (found["host"].lower(), found["code"]) if found else (None, None)


def _is_host_of(host: str, origin: str) -> bool:
    origin = origin.lower()
    return host == origin or host.endswith("." + origin)


def _codes_in(text: str) -> tuple[str, ...]:
    if NUMBER.fullmatch(text.strip()):
        return (re.sub(r"[- ]", "", text.strip()),)  # nothing but a code
    words = [(found.start(), found.end()) for found in WORDS.finditer(text)]
    codes = {
        re.sub(r"[- ]", "", found[0])
        for found in NUMBER.finditer(text)
        if _stands_by(found, words) and not _is_something_else(text, found)
    }
    return tuple(sorted(codes))


def _stands_by(found: re.Match[str], words: Sequence[tuple[int, int]]) -> bool:
    return any(
        0 <= found.start() - end <= NEAR or 0 <= start - found.end() <= NEAR for start, end in words
    )


def _is_something_else(text: str, found: re.Match[str]) -> bool:
    before, after = text[: found.start()], text[found.end() :]
    return bool(
        AMOUNT_BEFORE.search(before)
        or AMOUNT_AFTER.match(after)
        or MONTH_BEFORE.search(before)
        or TAIL_BEFORE.search(before)
    )


def pattern_problem(pattern: str, *, needs_code: bool = False) -> str | None:
    """Says what is wrong with a regular expression of a rule; None if nothing is."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        return f"This is no regular expression: {error}."
    if needs_code and "code" not in compiled.groupindex:
        return "Name the part that is the code: (?P<code>\\d{6})."
    return None


def same_phone(one: str, other: str) -> bool:
    """Whether two spellings are one number: country codes and signs may be missing in either."""
    first, second = (re.sub(r"\D", "", each).lstrip("0") for each in (one, other))
    shorter = min(len(first), len(second))
    return shorter >= 7 and first[-min(shorter, 10) :] == second[-min(shorter, 10) :]

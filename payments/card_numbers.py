"""What is written on a card, read as people type it. Pure functions: no card's row is read here.

No error's text holds what was typed.
"""

import re
from dataclasses import dataclass
from datetime import date

from payments.errors import InvalidCard

SHORTEST, LONGEST = 12, 19  # digits, ISO/IEC 7812
CVV = re.compile(r"[0-9]{3,4}", re.ASCII)
EXPIRY = re.compile(r"([0-9]{1,2})\s*[/.-]\s*((?:20)?[0-9]{2})", re.ASCII)


@dataclass(frozen=True, order=True)
class Expiry:
    """A card is good until the end of this month."""

    year: int
    month: int

    def __str__(self) -> str:
        return f"{self.month:02}/{self.year}"

    def refuse_passed(self, today: date) -> None:
        """Raises InvalidCard."""
        if (self.year, self.month) < (today.year, today.month):
            raise InvalidCard(
                "CARD_EXPIRED",
                f"The card has expired ({self}). Enter the new card's number and expiry.",
            )


def read_number(text: str) -> str:
    """The digits of a card's number, typed with or without blanks. Raises InvalidCard."""
    digits = re.sub(r"[\s-]", "", text)
    if not (digits.isascii() and digits.isdigit() and SHORTEST <= len(digits) <= LONGEST):
        raise InvalidCard(
            "CARD_NUMBER_INVALID",
            f"A card's number has {SHORTEST} to {LONGEST} digits; type it as the card has it.",
        )
    if not passes_luhn(digits):
        raise InvalidCard(
            "CARD_NUMBER_INVALID",
            "This is no card's number: its last digit does not fit the others. Compare it with "
            "the card.",
        )
    return digits


def passes_luhn(digits: str) -> bool:
    """The check of ISO/IEC 7812-1, annex B: one wrong digit, or two that changed places."""
    backwards = [int(digit) for digit in reversed(digits)]
    doubled = [2 * digit for digit in backwards[1::2]]
    total = sum(backwards[0::2]) + sum(n - 9 if n > 9 else n for n in doubled)
    return total % 10 == 0


def read_expiry(text: str) -> Expiry:
    """A month as cards have it: 08/29, or 08/2029. Raises InvalidCard."""
    found = EXPIRY.fullmatch(text.strip())
    if not found or not 1 <= int(found[1]) <= 12:
        raise InvalidCard("CARD_EXPIRY_INVALID", "Type the card's expiry as MM/YY, such as 08/29.")
    year = int(found[2])
    return Expiry(year if year >= 2000 else 2000 + year, int(found[1]))


def read_cvv(text: str) -> str:
    """Raises InvalidCard."""
    text = text.strip()
    if not CVV.fullmatch(text):
        raise InvalidCard(
            "CVV_INVALID", "A CVV has 3 digits, or 4 on an American Express card; type only those."
        )
    return text

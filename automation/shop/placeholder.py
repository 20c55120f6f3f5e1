"""Puts a chosen value where a selector has `{value}`. Pure.

The value comes from a purchase request: quotes in it must neither break the selector nor widen it.
"""

import re

from automation.site import PLACEHOLDER, is_xpath

QUOTED = re.compile(r"""(['"])((?:(?!\1).)*?)\{value\}((?:(?!\1).)*)\1""")


def fill_in(selector: str, value: str) -> str:
    """The selector for this value, escaped for where it stands."""
    if PLACEHOLDER not in selector:
        return selector
    if is_xpath(selector):
        return QUOTED.sub(
            lambda found: _xpath_text(found[2] + value + found[3].replace(PLACEHOLDER, value)),
            selector,
        ).replace(PLACEHOLDER, value)
    return QUOTED.sub(lambda found: _css_text(found[0], found[1], value), selector).replace(
        PLACEHOLDER, _css_name(value)
    )


def spellings(value: str) -> list[str]:
    """The ways a shop may write a value in a class or an attribute, as given first."""
    plain = " ".join(value.split())
    slug = re.sub(r"[^\w]+", "-", plain.casefold()).strip("-")
    written = [value, plain, plain.lower(), plain.upper(), plain.title(), plain.capitalize(), slug]
    return list(dict.fromkeys(filter(None, written)))


def _xpath_text(text: str) -> str:
    """XPath has no escapes: a text with both kinds of quotes has to be put together."""
    for quote in "\"'":
        if quote not in text:
            return f"{quote}{text}{quote}"
    parts = re.findall(r"[^']+|'+", text)
    quoted = (f'"{part}"' if "'" in part else f"'{part}'" for part in parts)
    return f"concat({', '.join(quoted)})"


def _css_text(literal: str, quote: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace(quote, f"\\{quote}").replace("\n", "\\a ")
    return literal.replace(PLACEHOLDER, escaped)


def _css_name(value: str) -> str:
    """An identifier: every sign but letters, digits, - and _ is escaped, and a digit in front."""
    escaped = re.sub(r"[^\w-]", lambda sign: f"\\{sign[0]}", value)
    return re.sub(r"^\d", lambda digit: f"\\3{digit[0]} ", escaped)

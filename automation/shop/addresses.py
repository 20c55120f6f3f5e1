"""Whether two addresses lead to the same page of a shop. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

from automation.site import normal_host, without_www

# Says where somebody came from, never which product it is.
TRACKING = re.compile(r"utm_\w+|gclid|fbclid|msclkid|mc_[ce]id|ref|_ga|_pos|_sid|_ss|_psq")

# Last parts of a path that all products of a shop may have.
PLAIN_NAMES = frozenset({"", "index", "product", "products", "item", "view", "detail", "details"})


class Likeness(IntEnum):
    NONE = 0
    SLUG = 1
    """Another path with the same last part: a category, a language or a shelf stands in front."""
    PAGE = 2
    """The same path, and nothing in the query says otherwise."""
    SAME = 3


def likeness(one: str, other: str) -> Likeness:
    mine, theirs = _Address.parse(one), _Address.parse(other)
    if mine is None or theirs is None or mine.host != theirs.host:
        return Likeness.NONE
    shared = mine.query.keys() & theirs.query.keys()
    if any(mine.query[key] != theirs.query[key] for key in shared):
        return Likeness.NONE
    if mine.path != theirs.path:
        alike = mine.name == theirs.name and mine.has_telling_name
        return Likeness.SLUG if alike else Likeness.NONE
    if mine.query == theirs.query:
        return Likeness.SAME
    # index.php?id=7 is not index.php: where the path says nothing, the query has to.
    says_enough = shared or (
        mine.bare_name not in PLAIN_NAMES and not (mine.query and theirs.query)
    )
    return Likeness.PAGE if says_enough else Likeness.NONE


def same_path(one: str, other: str) -> bool:
    """Whether two addresses name one page, whatever their queries say."""
    mine, theirs = _Address.parse(one), _Address.parse(other)
    return mine is not None and theirs is not None and mine.place == theirs.place


def is_front_page(url: str) -> bool:
    address = _Address.parse(url)
    return address is not None and not address.path and not address.query


@dataclass(frozen=True, slots=True)
class _Address:
    host: str
    path: str
    query: Mapping[str, str]

    @classmethod
    def parse(cls, url: str) -> Self | None:
        try:
            parts = urlsplit(url)
            host = parts.hostname
        except ValueError:
            return None
        if host is None:
            return None
        path = unquote(parts.path).rstrip("/")
        if parts.fragment.startswith(("/", "!/")):
            path += f"#{parts.fragment}"  # a page of a single-page shop
        query = parse_qsl(parts.query, keep_blank_values=True)
        return cls(
            host=without_www(normal_host(host)),
            path=path.rstrip("/").casefold(),
            query={key: value for key, value in query if not TRACKING.fullmatch(key)},
        )

    @property
    def place(self) -> tuple[str, str]:
        return self.host, self.path

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def bare_name(self) -> str:
        return re.sub(r"\.(html?|php|aspx?)$", "", self.name)

    @property
    def has_telling_name(self) -> bool:
        """Whether the last part alone tells one product from another: `7-mug.html`, not `7`."""
        bare = self.bare_name
        return len(bare) >= 4 and bare not in PLAIN_NAMES and not bare.isdecimal()

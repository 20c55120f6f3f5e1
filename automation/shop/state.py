"""What a shop's page is and says at one moment, as `page.js` reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LoginForm:
    """The visible log-in form: each part's place among the matches of its selector."""

    email: int | None
    password: int | None
    button: int | None


@dataclass(frozen=True, slots=True)
class AddButton:
    """The button to press; `is_guess`: there are several, and none is plainly the product's."""

    place: int
    is_guess: bool
    disabled: bool
    covered_by: str | None


@dataclass(frozen=True, slots=True)
class ProductPart:
    titles: tuple[str, ...]
    links: tuple[str, ...]
    button: AddButton | None
    misses: int
    """How often in this document a press would have hit something else, and was stopped."""


@dataclass(frozen=True, slots=True)
class CartRow:
    name: str
    links: tuple[str, ...]
    quantity: str | None
    editable: bool
    text: str


@dataclass(frozen=True, slots=True)
class PageState:
    """What the page is and says at one moment. `said`: the texts of each indicator that shows."""

    document: float
    url: str
    parsed: bool
    said: Mapping[str, tuple[str, ...]]
    login: LoginForm | None
    product: ProductPart | None
    rows: tuple[CartRow, ...] | None

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> "PageState":
        login, product, rows = answer["login"], answer["product"], answer["rows"]
        return cls(
            document=answer["document"],
            url=answer["url"],
            parsed=answer["parsed"],
            said={key: tuple(texts) for key, texts in answer["said"].items()},
            login=LoginForm(**login) if login else None,
            product=ProductPart(
                titles=tuple(product["titles"]),
                links=tuple(product["links"]),
                button=AddButton(**product["button"]) if product["button"] else None,
                misses=product["misses"],
            )
            if product
            else None,
            rows=tuple(CartRow(**{**row, "links": tuple(row["links"])}) for row in rows)
            if rows is not None
            else None,
        )

    def says(self, key: str) -> bool:
        return key in self.said

    def text(self, key: str) -> str:
        return " ".join(filter(None, self.said.get(key, ()))).strip()

    def misses_more_than(self, earlier: "PageState") -> bool:
        """Whether a press since then went where nothing may be pressed."""
        if self.document != earlier.document or self.product is None or earlier.product is None:
            return False
        return self.product.misses > earlier.product.misses

    def says_anew(self, key: str, earlier: "PageState") -> bool:
        """Whether an indicator came up since: a message that stood there before proves nothing."""
        now, before = self.said.get(key, ()), earlier.said.get(key, ())
        if self.document != earlier.document:
            return bool(now)
        return len(now) > len(before) or any(text not in before for text in now)

    def text_anew(self, key: str, earlier: "PageState") -> str | None:
        """What an indicator says that came up since; it may say nothing, and still be there."""
        return self.text(key) or key if self.says_anew(key, earlier) else None

"""What is asked of the shop flow, what it commits to before it acts, and what it gives back.

Values only. All of them cross a border: to the thread with the database, or into a row as JSON.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Credentials:
    email: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CartRequest:
    """One product to put in the cart.

    `variant` names the chosen value of each option, or is the bare value where a product has one
    option. `product_name` helps to find the line in a cart without links.
    """

    product_url: str
    quantity: int = 1
    variant: Mapping[str, str] | str | None = None
    product_name: str | None = None


@dataclass(frozen=True, slots=True)
class CartLine:
    """A row of a cart page: `text` is all it says, `links` begins with the product's own link."""

    name: str
    quantity: int
    links: tuple[str, ...] = ()
    text: str = ""

    @property
    def url(self) -> str | None:
        return self.links[0] if self.links else None

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["name"], data["quantity"], tuple(data["links"]), data["text"])


@dataclass(frozen=True, slots=True)
class Product:
    """How the product is known again in a cart.

    `links` are its addresses (as asked, as landed on, as it calls itself), `names` its titles.
    `values` are the chosen values of its options, each in all ways that a cart may write it;
    `other_values` are those that were not chosen.
    """

    links: tuple[str, ...]
    names: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ()
    other_values: tuple[str, ...] = ()

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            links=tuple(data["links"]),
            names=tuple(data["names"]),
            values=tuple(map(tuple, data["values"])),
            other_values=tuple(data["other_values"]),
        )


@dataclass(frozen=True, slots=True)
class AddIntent:
    """The add that is about to be made; committed before the click, so that a retry can tell.

    `cart_before` is what the cart held then: with it, any later reading of the cart says how much
    of `quantity` has arrived.
    """

    product: Product
    quantity: int
    cart_before: tuple[CartLine, ...]

    def to_data(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            product=Product.from_data(data["product"]),
            quantity=data["quantity"],
            cart_before=tuple(map(CartLine.from_data, data["cart_before"])),
        )


@dataclass(frozen=True, slots=True)
class AddResult:
    """What the cart page said in the end.

    `line` is the product's line there, `cart` all lines. `confirmed`: the shop's own confirmation
    was seen in this attempt. `signed_in`: a log-in was made in this attempt.
    """

    line: CartLine
    quantity_before: int
    quantity_after: int
    confirmed: bool
    signed_in: bool
    cart: tuple[CartLine, ...]

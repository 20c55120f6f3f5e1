"""What an "add to basket" asks for, and whether the shop can do it. Pure decisions."""

from collections.abc import Mapping, Sequence

from automation.sandbox.catalogue import Option, Product
from automation.sandbox.ledger import Line, Variant

MOST_LETTERS = 24  # what fits on a badge

Order = list[tuple[Variant, int]]


class Refused(Exception):
    """The text is what the shop tells the customer; `reason` is what the ledger records."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def read_order(product: Product, form: Mapping[str, str]) -> Order:
    """Variants and quantities, more than one only where each value has its own quantity field."""
    if product.has_quantity_rows:
        option = product.options[0]
        order = [
            ({option.name: value}, read_quantity(form.get(f"quantity.{value}") or "0"))
            for value in option.values
        ]
        order = [(variant, quantity) for variant, quantity in order if quantity]
        if not order:
            raise Refused("quantity", "Please enter a quantity.")
        return order
    variant = {option.name: _choice(option, form) for option in product.options}
    quantity = read_quantity(form.get("quantity", "1"))
    if quantity == 0:
        raise Refused("quantity", "Please enter a quantity.")
    return [(variant, quantity)]


def check_order(product: Product, order: Order, cart: Sequence[Line]) -> None:
    """Raise Refused where stock or the maximum does not allow it, what is in the cart included."""
    if product.stock == 0 or not all(product.sells(variant) for variant, _ in order):
        raise Refused("stock", f"Sorry, {product.name} is sold out in this choice.")
    in_cart = sum(line.quantity for line in cart if line.product == product.slug)
    check_quantity(product, in_cart + sum(quantity for _, quantity in order))


def check_quantity(product: Product, quantity: int) -> None:
    if product.max_quantity is not None and quantity > product.max_quantity:
        raise Refused(
            "quantity", f"We can send you at most {product.max_quantity} of {product.name}."
        )
    if quantity > product.stock:
        raise Refused("quantity", f"Only {product.stock} left of {product.name}.")


def read_quantity(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise Refused("quantity", "Please enter a whole number as the quantity.")
    return int(text)


def _choice(option: Option, form: Mapping[str, str]) -> str:
    value = form.get(f"option.{option.name}", "").strip()
    if option.kind == "tick":
        return "yes" if value else "no"
    if not value:
        raise Refused("choice", f"Please choose: {option.name}.")
    if option.kind == "text" and len(value) > MOST_LETTERS:
        raise Refused("choice", f"{option.name}: at most {MOST_LETTERS} letters.")
    if option.kind != "text" and value not in option.values:
        raise Refused("choice", f"{option.name} does not come in {value}.")
    return value

"""The generic shop flow: any shop that vendor data describes, and nothing about one shop.

`flow.py` is the way through; `login`, `product`, `options` and `cart` are the pages on it, built on
`page` (and `page.js`, its half in the browser); `lines`, `addresses`, `quantities` and
`placeholder` are the decisions, which know no browser.
"""

from automation.shop.flow import add_to_cart
from automation.shop.request import (
    AddIntent,
    AddResult,
    CartLine,
    CartRequest,
    Credentials,
    Product,
)

__all__ = [
    "AddIntent",
    "AddResult",
    "CartLine",
    "CartRequest",
    "Credentials",
    "Product",
    "add_to_cart",
]

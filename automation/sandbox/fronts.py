"""The three shops: address, paths, goods, standing switches, and what a vendor record says of each.

`corner` is the ordinary shop. `gate` is built alike and asks for a captcha after the log-in.
`depot` is built unlike them: generated class names, no quantity on the product page, variants in
a list box or on pages of their own, one update button for the whole cart, confirmation by being
sent to the cart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from automation.sandbox.catalogue import CORNER, DEPOT, GATE, Product
from automation.sandbox.switches import Switches


@dataclass(frozen=True)
class Front:
    host: str
    name: str
    tagline: str
    address: str
    templates: str
    goods: tuple[Product, ...]
    # A selector that begins with "/" is XPath, any other is CSS.
    selectors: Mapping[str, Any]
    switches: Switches = field(default_factory=Switches)
    product_path: str = "/p"
    category_path: str = "/c"
    login_path: str = "/login"
    logout_path: str = "/logout"
    account_path: str = "/account"
    cart_path: str = "/cart"

    @cached_property
    def products(self) -> dict[str, Product]:
        return {product.slug: product for product in self.goods}

    @cached_property
    def categories(self) -> list[str]:
        return list(dict.fromkeys(product.category for product in self.goods))

    def product_url(self, product: Product) -> str:
        return f"{self.product_path}/{product.slug}"

    def category_url(self, category: str) -> str:
        return f"{self.category_path}/{category.lower()}"

    def vendor_data(self, origin: str, switches: Switches) -> dict[str, Any]:
        """The vendor record (FACTS.md, section 10) for the way the shop behaves now."""
        selectors = dict(self.selectors)
        if switches.confirmation == "none":
            selectors["cart_confirmation"] = None
        return {
            "name": self.name,
            "domain": self.host,
            "login_url": origin + self.login_path,
            "cart_url": origin + self.cart_path,
            "cart_scope": switches.cart_scope,
            "login_required": True,
            "allow_private_network": True,
            "selectors": selectors,
        }


_SETTLED = ".buybox[data-state='settled']"

STANDARD_SELECTORS: Mapping[str, Any] = {
    "email_input": "main .login-form input[name='email']",
    "password_input": "main .login-form input[name='password']",
    "login_button": "main .login-form button[type='submit']",
    # In a closed menu: attached, not visible.
    "logged_in_indicator": ".account-menu form.log-out",
    "logged_in_indicator_is_hidden": True,
    "login_error": ".login-form .form-error",
    "cookie_accept": ".cookie-bar button.accept",
    "quantity_input": ".buybox input[name='quantity']",
    "variants": {
        "Colour": {
            "kind": "select",
            "selector": ".buybox select[name='option.Colour']",
            "settled": _SETTLED,
        },
        "Layout": {
            "kind": "select",
            "selector": ".buybox select[name='option.Layout']",
            "settled": _SETTLED,
        },
        "Ruling": {
            "kind": "click",
            "selector": ".buybox button[data-option='Ruling'][data-value='{value}']",
            "settled": _SETTLED,
        },
        "Cover": {
            "kind": "click",
            "selector": ".buybox button[data-option='Cover'][data-value='{value}']",
            "settled": _SETTLED,
        },
        "Size": {
            "kind": "click",
            "selector": ".buybox .size-list button[data-value='{value}']",
            "reveal": ".buybox button.show-sizes",
            "settled": _SETTLED,
        },
        "Engraving": {"kind": "fill", "selector": ".buybox input[name='option.Engraving']"},
        "Gift wrap": {
            "kind": "check",
            "selector": ".buybox input[name='option.Gift wrap']",
            "settled": _SETTLED,
        },
        "Format": {"kind": "quantity", "selector": ".buybox tr[data-value='{value}'] input"},
    },
    "variant_link": None,
    "add_to_cart": ".buybox button.add-to-basket",
    "cart_confirmation": (
        ".toast[data-kind='success']:not([hidden]), .flash[data-kind='success'],"
        " .drawer:not([hidden]) .drawer__line, .basket__title"
    ),
    "cart_error": ".toast[data-kind='error']:not([hidden]), .flash[data-kind='error']",
    "out_of_stock_indicator": (
        ".buybox .stock[data-stock='out'], .toast[data-kind='sold-out']:not([hidden]),"
        " .flash[data-kind='sold-out']"
    ),
    "cart_row": ".basket .line",
    "cart_row_name": ".line__name",
    "cart_quantity": "input.line__quantity",
    "cart_update": "button.line__update",
    "cart_empty_indicator": ".basket .basket-empty",
    "blocked_indicator": ".account-suspended",
    "captcha_indicator": ".captcha",
}

DEPOT_SELECTORS: Mapping[str, Any] = {
    "email_input": "//main//label[normalize-space()='Customer e-mail']/following-sibling::input",
    "password_input": "//main//input[@type='password']",
    "login_button": "//main//button[normalize-space()='Sign in']",
    "logged_in_indicator": "//header//button[normalize-space()='Sign out']",
    "logged_in_indicator_is_hidden": False,
    "login_error": "//main//p[@role='alert']",
    "cookie_accept": "//dialog//button[normalize-space()='Accept all']",
    "quantity_input": None,
    "variants": {
        "Size": {
            "kind": "click",
            "selector": "//ul[@role='listbox']/li[normalize-space()='{value}']",
            "reveal": "//button[@aria-haspopup='listbox']",
            "settled": "//p[@role='status'][normalize-space()!='Checking stock…']",
        },
        "Glove size": {
            "kind": "click",
            "selector": "//fieldset[legend='Glove size']//label[normalize-space()='{value}']",
            "settled": "//p[@role='status'][normalize-space()!='Checking stock…']",
        },
    },
    "variant_link": "//nav[@aria-label='Pack']//a[normalize-space()='{value}']",
    "add_to_cart": "//main//button[normalize-space()='Add to order']",
    "cart_confirmation": (
        "//h1[normalize-space()='Your order list']"
        " | //*[@role='alert' and not(@hidden)][@data-kind='success']"
        " | //aside[not(@hidden)]//li"
    ),
    "cart_error": "//*[@role='alert' and not(@hidden)][@data-kind='error']",
    "out_of_stock_indicator": (
        "//p[@role='status'][normalize-space()='Out of stock']"
        " | //*[@role='alert' and not(@hidden)][@data-kind='sold-out']"
    ),
    "cart_row": "//table[@aria-label='Order list']/tbody/tr",
    "cart_row_name": "//th/a",
    "cart_quantity": "//input",
    "cart_update": "//button[normalize-space()='Recalculate']",
    "cart_empty_indicator": "//p[normalize-space()='Nothing on your order list yet.']",
    "blocked_indicator": "//h1[normalize-space()='Account suspended']",
    "captcha_indicator": "//h1[normalize-space()='Are you a person?']",
}

FRONTS = (
    Front(
        host="corner.localhost",
        name="Corner & Co.",
        tagline="Stationery and office supply",
        address="14 Mill Lane, Pune 411001",
        templates="standard",
        goods=CORNER,
        selectors=STANDARD_SELECTORS,
    ),
    Front(
        host="gate.localhost",
        name="Gate Electronics",
        tagline="Tools for quiet desks",
        address="3 Canal Road, Pune 411004",
        templates="standard",
        goods=GATE,
        selectors=STANDARD_SELECTORS,
        switches=Switches(captcha="after_login", confirmation="flash"),
    ),
    Front(
        host="depot.localhost",
        name="Depot Direct",
        tagline="Packaging and warehouse supply",
        address="Unit 7, Chakan Industrial Estate",
        templates="depot",
        goods=DEPOT,
        selectors=DEPOT_SELECTORS,
        switches=Switches(confirmation="redirect", login_redirects=True),
        product_path="/item",
        category_path="/range",
        login_path="/signin",
        logout_path="/signout",
        account_path="/my-depot",
        cart_path="/order-list",
    ),
)

# The pages about the shop, the same in all three.
INFORMATION = {
    "delivery": (
        "Delivery",
        "Orders placed before three in the afternoon leave us the same day. Delivery is free "
        "above ₹1,500; below that it costs ₹90. You get a message when the van is near.",
    ),
    "returns": (
        "Returns",
        "Send back what you do not need within thirty days, in its wrapping. We collect it on the "
        "next delivery round and credit your account.",
    ),
    "contact": (
        "Contact",
        "Ring us between nine and six on 020 5550 0142, or write to desk@shop.example. Business "
        "accounts are opened by our desk, usually within the hour.",
    ),
    "terms": (
        "Terms",
        "Prices include GST. Goods stay ours until they are paid for. Nothing on this page keeps "
        "you from rights that the law gives you.",
    ),
    "checkout": (
        "Checkout",
        "Your order needs a release. We keep it as it is; your buyer finds it under the account "
        "and releases it there.",
    ),
}

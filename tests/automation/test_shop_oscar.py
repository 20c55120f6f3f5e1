"""The shop flow on django-oscar, a shop that nobody here wrote, told by its own basket tables."""

from uuid import uuid4

import pytest

from automation.errors import OptionUnavailable, OutOfStock, QuantityRefused, WrongCredentials
from automation.shop import CartRequest
from tests.automation.buyer import PASSWORD, Buyer
from tests.shops.oscar.shop import OscarShop

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def oscar():
    with OscarShop() as shop:
        yield shop


@pytest.fixture
def buyer(oscar, shared_host):
    email = f"{uuid4().hex[:12]}@example.test"
    oscar.create_account(email, PASSWORD)
    return Buyer(shared_host, email)


def basket(oscar, buyer):
    return [(line.title, line.quantity) for line in oscar.basket(buyer.credentials.email)]


def test_products_quantities_and_options_land_in_the_basket(oscar, buyer):
    vendor = oscar.vendor_data()
    engraved = {"Cover": "Tan", "Initials": "A. B."}
    cart = None

    for title, quantity, variant in [
        ("Enamel Mug", 3, None),
        ("Enamel Mug", 2, None),
        ("Leather Journal", 1, engraved),
        ("Leather Journal", 2, {"Cover": "Black", "Initials": "C. D."}),
        ("Merino Jumper", 1, "Medium"),
        ("Merino Jumper, Small", 1, None),
    ]:
        request = CartRequest(oscar.product_url(title), quantity, variant)
        cart = buyer.add(vendor, request, known_cart=cart).cart

    assert basket(oscar, buyer) == [
        ("Enamel Mug", 5),
        ("Leather Journal (Cover = 'Tan', Initials = 'A. B.')", 1),
        ("Leather Journal (Cover = 'Black', Initials = 'C. D.')", 2),
        ("Merino Jumper, Medium", 1),
        ("Merino Jumper, Small", 1),
    ]


@pytest.mark.parametrize(
    ("title", "quantity", "variant", "error", "left"),
    [
        ("Brass Compass", 1, None, OutOfStock, []),
        ("Merino Jumper", 1, "Large", OptionUnavailable, []),
        ("Leather Journal", 1, {"Cover": "Green", "Initials": "X"}, OptionUnavailable, []),
        ("Leather Journal", 1, {"Colour": "Tan"}, OptionUnavailable, []),
        ("Field Notebook", 4, None, QuantityRefused, [("Field Notebook", 1)]),
    ],
)
def test_what_the_shop_will_not_sell_is_refused(
    oscar, buyer, title, quantity, variant, error, left
):
    request = CartRequest(oscar.product_url(title), quantity, variant)

    with pytest.raises(error):
        buyer.add(oscar.vendor_data(), request)

    assert basket(oscar, buyer) == left


def test_a_wrong_password_is_told(oscar, shared_host):
    stranger = Buyer(shared_host, "nobody@example.test", "wrong")

    with pytest.raises(WrongCredentials):
        stranger.add(oscar.vendor_data(), oscar.product_url("Enamel Mug"))

"""django-oscar, a shop that nobody here wrote, as a vendor that is data and nothing else."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.stack import Stack
from tests.shops.oscar.shop import OscarShop

BUYER, PASSWORD = "buyer@oscar.example", "kettle-drum-41"


@pytest.fixture(scope="module")
def oscar(admin: httpx.Client) -> Iterator[OscarShop]:
    with OscarShop() as shop:
        shop.create_account(BUYER, PASSWORD)
        yield shop


@pytest.fixture(scope="module")
def vendor_id(admin: httpx.Client, oscar: OscarShop) -> str:
    vendor = admin.post("/api/admin/vendors", json=oscar.vendor_data())
    assert vendor.status_code == 201, vendor.text
    vendor_id: str = vendor.json()["id"]
    account = {"vendor_id": vendor_id, "email": BUYER, "password": PASSWORD}
    assert admin.post("/api/admin/accounts", json=account).status_code == 201
    return vendor_id


def test_products_asked_for_over_rest_are_in_oscars_own_basket_tables(
    stack: Stack, erpnext: httpx.Client, oscar: OscarShop, vendor_id: str
) -> None:
    def post(title: str, **data: Any) -> str:
        body = {
            "vendor_id": vendor_id,
            "product_url": oscar.product_url(title),
            "product_data": data,
        }
        answer = erpnext.post("/api/cart/add", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["queue_id"])

    posted = {
        "mug": post("Enamel Mug", quantity=2),
        "jumper": post("Merino Jumper", quantity=1, variant={"Size": "Medium"}),
        "journal": post(
            "Leather Journal", quantity=1, variant={"Cover": "Black", "Initials": "AB"}
        ),
        "compass": post("Brass Compass", quantity=1),
        "notebook": post("Field Notebook", quantity=9),
    }
    ended = {name: stack.wait_for_item(erpnext, queue_id) for name, queue_id in posted.items()}

    statuses = {name: status["status"] for name, status in ended.items()}
    assert statuses == {
        "mug": "completed",
        "jumper": "completed",
        "journal": "completed",
        "compass": "failed",  # sold out
        "notebook": "failed",  # three left
    }, ended
    basket = {line.title: line.quantity for line in oscar.basket(BUYER)}
    assert basket.pop("Field Notebook", 0) <= 3
    assert basket == {
        "Enamel Mug": 2,
        "Merino Jumper, Medium": 1,
        "Leather Journal (Cover = 'Black', Initials = 'AB')": 1,
    }

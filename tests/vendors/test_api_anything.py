"""Whatever JSON arrives, the answer is a 200 or a refusal in our shape, and only a 200 queues.

A generator of our own and a fixed seed: the same bodies on every run, so a failure can be repeated.
"""

import json
import random
from typing import Any

import pytest
from django.db import transaction

from jobs.models import Job
from vendors.models import QueueItem, Vendor, VendorAccount

ODD = [
    None, True, False, 0, 1, -1, 1.5, 2**31, 2**63, -(2**63), 1e308, 10**30, "", " ", "a", "0",
    "true", "null", "x" * 300, "x" * 1500, "ü🖊", "\x00", "\ud800", "\u202e", "\t\r\n",
    "'; DROP TABLE vendors; --", "{value}", "%s %(a)s {0}", "../../etc/passwd",
    "https://vendor.example/p", "https://vendor.example:99999/", "http://[", "//vendor.example",
    [], {}, [None], {"": ""}, {"a": {"b": [1, {"c": "d"}]}},
]  # fmt: skip


def anything(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.random()
    if kind < 0.75 or depth > 3:
        return chance.choice(ODD)
    if kind < 0.87:
        return [anything(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {
        str(chance.choice(ODD))[:40]: anything(chance, depth + 1)
        for _ in range(chance.randrange(4))
    }


def spoil(body: dict, chance: random.Random) -> dict:
    """The body with one to three of its values, at any depth, exchanged for anything."""
    spoilt = {
        key: spoil(value, chance) if isinstance(value, dict) and chance.random() < 0.5 else value
        for key, value in body.items()
    }
    for key in chance.sample(sorted(spoilt), k=min(len(spoilt), chance.randint(1, 3))):
        if chance.random() < 0.1:
            del spoilt[key]
        else:
            spoilt[key] = anything(chance)
    return spoilt


def tell_apart(answer: Any) -> bool:
    """Whether it was accepted; fails on any answer that is neither that nor a proper refusal."""
    if answer.status_code in (200, 201):
        return True
    body = answer.json()
    assert answer.status_code in (400, 409), body
    assert body["success"] is False
    assert isinstance(body["error"], str)
    assert body["error"]
    assert body["code"].isupper()
    return False


@pytest.fixture(autouse=True)
def _as_many_requests_as_one_likes(settings) -> None:
    settings.CART_REQUESTS_PER_MINUTE = 0


def send(client: Any, path: str, body: dict) -> bool:
    # The test client's own encoder would refuse what a hostile caller may send.
    with transaction.atomic():
        return tell_apart(client.post(path, json.dumps(body), content_type="application/json"))


@pytest.mark.parametrize("seed", range(4))
def test_any_purchase_request_is_queued_or_refused(erpnext, vendor, seed):
    chance = random.Random(seed)
    good = {
        "user_id": "system",
        "vendor_id": str(vendor.pk),
        "product_url": "https://vendor.example/product/1",
        "product_name": "Product",
        "product_data": {
            "price": 1.5,
            "quantity": 2,
            "variant": {"Size": "L"},
            "erpnext_item_id": "I",
        },
    }

    accepted = 0
    for number in range(150):
        good["product_data"]["erpnext_item_id"] = f"I{number}"
        accepted += send(erpnext, "/api/cart/add", spoil(good, chance))

    assert QueueItem.objects.count() == Job.objects.count() == accepted
    assert 0 < accepted < 150
    for item in QueueItem.objects.all():
        assert item.quantity >= 1
        assert erpnext.get(f"/api/cart/status/{item.pk}").status_code == 200


@pytest.mark.parametrize("seed", range(4))
def test_any_vendor_is_stored_and_usable_or_refused(admin_api, erpnext, seed):
    chance = random.Random(seed)
    good = {
        "name": "Vendor Co",
        "domain": "vendor.example",
        "login_url": "https://vendor.example/login",
        "cart_url": "https://vendor.example/cart",
        "cart_scope": "account",
        "login_required": True,
        "allow_private_network": False,
        "allowed_domains": ["vendor.example"],
        "rate_limit_daily": 50,
        "selectors": {
            "add_to_cart": ".add",
            "cart_row": ".row",
            "variants": {"Size": {"kind": "select", "selector": "#s", "settled": ".p"}},
        },
    }

    accepted = 0
    for number in range(100):
        body = spoil(good | {"domain": f"v{number}.example"}, chance)
        accepted += send(admin_api, "/api/admin/vendors", body)

    assert Vendor.objects.count() == accepted > 0
    for vendor in Vendor.objects.all():  # what was accepted can be used
        request = {"vendor_id": str(vendor.pk), "product_url": f"https://{vendor.domain}/p"}
        assert erpnext.post("/api/cart/add", request, "json").status_code in (200, 400)
    assert admin_api.get("/api/admin/vendors").status_code == 200


def test_any_account_is_stored_or_refused(admin_api, vendor):
    chance = random.Random(0)
    good = {"vendor_id": str(vendor.pk), "email": "a@vendor.example", "password": "pass word"}

    accepted = 0
    for number in range(150):
        body = spoil(good | {"email": f"{number}@vendor.example"}, chance)
        accepted += send(admin_api, "/api/admin/accounts", body)

    assert VendorAccount.objects.count() == accepted > 0
    assert admin_api.get("/api/admin/accounts").status_code == 200

"""Vendors as data, and what the querysets count."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from vendors.models import AccountUsage, QueueItem, Vendor, VendorAccount, vendors_today


def test_data_that_is_wrong_is_refused_under_the_field_of_its_form(vendor):
    vendor.selectors = {"add_to_crat": ".x", "cart_row": "a["}
    vendor.cart_url = "https://elsewhere.example/cart"

    with pytest.raises(ValidationError) as refusal:
        vendor.full_clean()

    problems = refusal.value.message_dict
    assert set(problems) == {"selectors", "cart_url"}
    assert problems["selectors"][0].startswith("add_to_crat: ")
    assert "Did you mean add_to_cart?" in problems["selectors"][0]
    assert problems["selectors"][1].startswith("cart_row: ")


def test_data_that_is_right_is_taken(vendor):
    vendor.full_clean()


def test_daily_limit_of_nothing_is_refused(vendor):
    vendor.rate_limit_daily = 0

    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        vendor.full_clean()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"requires_captcha": True}, "Vendor Co requires a captcha; a person adds its items."),
        ({"can_automate": False}, "Automation is turned off for Vendor Co."),
        ({"cart_url": None}, "cart_url"),
        ({"selectors": {}}, "selectors.add_to_cart"),
        ({"login_url": None}, "login_url"),
        ({"login_url": None, "login_required": False}, None),
    ],
)
def test_vendor_says_why_a_person_must_add_its_items(vendor, change, reason):
    for name, value in change.items():
        setattr(vendor, name, value)

    if reason is None:
        assert vendor.why_manual() is None
    else:
        assert reason in vendor.why_manual()


def test_domain_is_unique(vendor):
    with pytest.raises(IntegrityError), transaction.atomic():
        Vendor.objects.create(name="Copy", domain=vendor.domain)


def test_email_is_unique_at_its_vendor_alone(account):
    with pytest.raises(IntegrityError), transaction.atomic():
        VendorAccount.objects.create(vendor=account.vendor, email=account.email, password="p")

    other = Vendor.objects.create(name="Other", domain="other.example")
    VendorAccount.objects.create(vendor=other, email=account.email, password="p")


def test_accounts_go_with_their_vendor_and_a_queue_item_keeps_it(account):
    vendor = account.vendor
    item = QueueItem.objects.create(vendor=vendor, product_url="https://vendor.example/p")
    with pytest.raises(IntegrityError), transaction.atomic():
        vendor.delete()

    item.delete()
    vendor.delete()

    assert not VendorAccount.objects.exists()


def test_items_of_the_day_are_those_of_londons_day(account):
    with time_machine.travel(datetime(2026, 7, 1, 23, 30, tzinfo=UTC)):  # 00:30 in London
        assert str(vendors_today()) == "2026-07-02"
        for day, count in ((vendors_today(), 3), (vendors_today() - timedelta(days=1), 40)):
            AccountUsage.objects.create(account=account, day=day, items_added=count)

        assert VendorAccount.objects.with_daily_items().get().daily_items_added == 3
    with time_machine.travel(datetime(2026, 7, 3, 12, tzinfo=UTC)):
        assert VendorAccount.objects.with_daily_items().get().daily_items_added == 0


def test_accounts_are_counted_by_health(account):
    VendorAccount.objects.create(
        vendor=account.vendor, email="b@vendor.example", password="p", is_blocked=True
    )
    Vendor.objects.create(name="Empty", domain="empty.example")

    counted = Vendor.objects.with_account_counts().order_by("name")

    counts = ("account_count", "healthy_accounts", "blocked_accounts")
    assert list(counted.values_list("name", *counts)) == [
        ("Empty", 0, 0, 0),
        ("Vendor Co", 2, 1, 1),
    ]


@pytest.mark.parametrize(("data", "quantity"), [({}, 1), ({"quantity": 3}, 3)])
def test_quantity_is_one_unless_it_is_said(vendor, data, quantity):
    assert QueueItem(vendor=vendor, product_data=data).quantity == quantity


def test_item_is_called_by_its_product_else_by_its_address():
    url = "https://vendor.example/p"
    assert str(QueueItem(product_url=url)) == url
    assert str(QueueItem(product_url=url, product_name="Pen")) == "Pen"

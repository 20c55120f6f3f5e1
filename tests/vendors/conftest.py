"""A vendor with an account, who may call, and a way to say that nothing happened."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from rest_framework.test import APIClient

from accounts.models import ApiKey, User
from jobs.models import Event, Job, Step
from vendors.models import CartItem, QueueItem, Vendor, VendorAccount

TABLES = (Vendor, VendorAccount, QueueItem, CartItem, Job, Step, Event)


@pytest.fixture
def vendor(db) -> Vendor:
    return Vendor.objects.create(
        name="Vendor Co",
        domain="vendor.example",
        login_url="https://vendor.example/login",
        cart_url="https://vendor.example/cart",
        selectors={
            "email_input": "#email",
            "password_input": "#password",
            "add_to_cart": ".add",
            "cart_row": ".line",
        },
    )


@pytest.fixture
def account(vendor) -> VendorAccount:
    return VendorAccount.objects.create(
        vendor=vendor, email="one@vendor.example", password="korrekt-Pferd-Batterie"
    )


def client_with_key(user: User) -> APIClient:
    key, secret = ApiKey.issue(user, user.username)
    return APIClient(headers={"authorization": f"token {key.key}:{secret}"})


@pytest.fixture
def erpnext(db) -> APIClient:
    return client_with_key(User.objects.create_user("erpnext"))


@pytest.fixture
def admin_api(db) -> APIClient:
    return client_with_key(User.objects.create_user("operations", is_staff=True))


Nothing = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def nothing_happens(db, django_capture_on_commit_callbacks) -> Nothing:
    """Proves that the block wrote no row, and that nothing would be sent after its commit."""

    def counts() -> dict[str, int]:
        return {table.__name__: table.objects.count() for table in TABLES}

    @contextmanager
    def watch() -> Iterator[None]:
        before = counts()
        with django_capture_on_commit_callbacks() as sent:
            yield
        assert counts() == before
        assert sent == []

    return watch

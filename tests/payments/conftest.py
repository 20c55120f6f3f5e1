"""A card with its two accounts, who may call, and a way to say that nothing happened."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import redis
from rest_framework.test import APIClient

from accounts.models import User, Workspace
from jobs import plans
from jobs.models import Event, Job, Signal, Step
from payments.models import (
    Card,
    Transaction,
    VoucherCode,
    VoucherPurchase,
)
from payments.purchases import start_purchase
from tests.payments.rows import make_card
from tests.payments.toys import purchase_workflow, redeem_workflow
from tests.vendors.conftest import client_with_key

TABLES = (VoucherPurchase, Transaction, VoucherCode, Job, Step, Event, Signal)


@pytest.fixture(autouse=True)
def toy_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Purchases have their plan, but its steps do what the test says (`BEHAVIOURS`)."""
    for workflow in (purchase_workflow(), redeem_workflow()):
        monkeypatch.setitem(plans._workflows, workflow.name, workflow)


@pytest.fixture
def card(db) -> Card:
    return make_card()


@pytest.fixture
def bob(db) -> User:
    """A member of the workspace."""
    return User.objects.create_user("bob")


@pytest.fixture
def charlie(db) -> User:
    """Of another workspace."""
    elsewhere = Workspace.objects.create(name="Elsewhere")
    return User.objects.create_user("charlie", workspace=elsewhere, is_staff=True)


@pytest.fixture
def bob_api(bob) -> APIClient:
    return client_with_key(bob)


@pytest.fixture
def admin_api(db) -> APIClient:
    return client_with_key(User.objects.create_user("operations", is_staff=True))


@pytest.fixture
def purchase(card, bob) -> VoucherPurchase:
    return start_purchase(bob, "MRCC", 4, 1500)


Nothing = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def nothing_happens(db, broker: redis.Redis, django_capture_on_commit_callbacks) -> Nothing:
    """Proves that the block wrote no row, kept no CVV, and would send nothing after its commit."""

    def counts() -> dict[str, int]:
        rows = {table.__name__: table.objects.count() for table in TABLES}
        return {**rows, "keys": len(broker.keys("cartwright:cvv:*"))}

    @contextmanager
    def watch() -> Iterator[None]:
        before = counts()
        with django_capture_on_commit_callbacks() as sent:
            yield
        assert counts() == before
        assert sent == []

    return watch

"""A worker dies at each commit of a move, and before its add is confirmed; another goes on.

The shop is the sandbox's, and its own ledger says what came of it: the new account's cart has
gained what was asked for, no more and no less, and at every moment one line of the item was active.
"""

# ruff: noqa: F401, F811  fixtures come by import

from collections.abc import Callable
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from jobs.models import Effect
from tests.automation.test_sandbox import PASSWORD, Control
from tests.jobs.rivals import elsewhere
from tests.vendors.test_add_kills import (
    ASKED,
    BEFORE_COMMIT,
    BEFORE_CONFIRMED,
    Fate,
    account,
    cart_of,
    corner,
    enqueue,
    finish_elsewhere,
    host,
    live_until,
    sandbox_url,
    url,
)
from vendors import migration_sweep
from vendors.alerts import SYSTEM
from vendors.migration import start_migration
from vendors.models import CartItem, QueueItem, Vendor, VendorAccount

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def blocked(account) -> VendorAccount:
    """As the shop would refuse it, nothing of it is ever used."""
    return VendorAccount.objects.create(
        vendor=account.vendor, email="old@office.example", password=PASSWORD, is_blocked=True
    )


@pytest.fixture
def enqueue_more(account, url) -> Callable[[], QueueItem]:
    return lambda: enqueue(account, url)


def new_account_at(corner: Control, vendor: Vendor) -> VendorAccount:
    email = f"{uuid4().hex[:12]}@office.example"
    corner.post("/_sandbox/accounts", json={"email": email, "password": PASSWORD})
    now = timezone.now()  # so that it is not the next one's turn
    return VendorAccount.objects.create(
        vendor=vendor, email=email, password=PASSWORD, last_used_at=now
    )


def stock(blocked: VendorAccount, url: str) -> CartItem:
    """A line in the blocked account's cart, as its item has left it."""
    item = QueueItem.objects.create(
        vendor=blocked.vendor,
        product_url=url,
        product_data={"quantity": ASKED},
        status=QueueItem.Status.COMPLETED,
        completed_at=Now(),
    )
    return CartItem.objects.create(
        vendor_account=blocked, queue_item=item, item_id=item.pk, product_url=url, quantity=ASKED
    )


class WatchfulFate(Fate):
    """Counts the item's active lines before each commit, as any other connection sees them."""

    def __init__(self, nth: int, look: Callable[[], Any]) -> None:
        super().__init__({BEFORE_COMMIT, BEFORE_CONFIRMED}, nth)
        self._look = look
        self.seen: set[Any] = set()

    def reach(self, kind: str) -> None:
        if kind in self.kinds and not self.is_dead:
            self.seen |= set(elsewhere(self._look))
        super().reach(kind)


def test_worker_killed_at_each_commit_of_a_move_moves_what_was_asked_for(
    corner, account, blocked, url, monkeypatch
):
    held = 0
    for nth in count(1):
        line = stock(blocked, url)
        lines = CartItem.objects.active().filter(item_id=line.item_id)
        begun = start_migration(blocked.pk, account.pk, by=SYSTEM)
        fate = WatchfulFate(nth, lambda lines=lines: lines.all().count())
        has_died = live_until(fate, monkeypatch)
        finish_elsewhere()

        held += ASKED
        at = (nth, fate.last)
        move = begun.moves.get()
        assert (at, move.status, cart_of(corner, account)) == (at, "moved", held)
        assert lines.get().vendor_account == account
        assert Effect.objects.get(job=move.job).status == Effect.Status.CONFIRMED
        assert fate.seen == {1}
        if not has_died:
            break

    assert nth > 5  # moments that there are to die at
    assert CartItem.objects.exclude(replaced_at=None).count() == nth


def test_without_its_effect_a_killed_move_would_be_made_twice(
    corner, account, blocked, url, monkeypatch
):
    line = stock(blocked, url)
    begun = start_migration(blocked.pk, account.pk, by=SYSTEM)
    fate = Fate({BEFORE_CONFIRMED}, 1)

    assert live_until(fate, monkeypatch)
    Effect.objects.filter(job=begun.moves.get().job).delete()
    finish_elsewhere()

    assert begun.moves.get().status == "moved"
    assert CartItem.objects.active().get(item_id=line.item_id).quantity == ASKED
    assert cart_of(corner, account) == 2 * ASKED


def test_block_that_a_worker_sees_moves_what_the_cart_held(corner, account, enqueue_more):
    first = enqueue_more()
    finish_elsewhere()
    corner.switch(blocked=True, account=account.email)
    replacement = new_account_at(corner, account.vendor)
    Vendor.objects.update(migrate_on_block=True)

    second = enqueue_more()
    finish_elsewhere()
    assert migration_sweep.migrate_blocked() == 1
    finish_elsewhere()

    assert {item.refresh_from_db() or item.status for item in (first, second)} == {"completed"}
    assert cart_of(corner, replacement) == 2 * ASKED
    lines = CartItem.objects.active().filter(vendor_account=replacement)
    assert {line.item_id for line in lines} == {first.pk, second.pk}

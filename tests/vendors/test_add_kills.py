"""A worker dies at each commit and at each browser action of an add in turn, and another goes on.

What must hold: the shop's own ledger says that the cart has gained what was asked for, no more and
no less, and the item is completed. The worker is this process; what it would have done after its
death, it is kept from doing.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from playwright._impl.connection import Connection

from automation.host import BrowserHost
from jobs import live
from jobs.models import Effect, Job, Status
from jobs.runner import runner
from jobs.sweep import make_due_ready, recover_expired
from tests.automation.test_sandbox import PASSWORD, Control, sandbox_process
from tests.jobs.rows import let_leases_expire, let_waits_end
from vendors import cart_queue, workflows
from vendors.adding import Add
from vendors.models import CartItem, QueueItem, Vendor, VendorAccount

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

ASKED = 2
PRODUCT = "highlighters"
WRITES = re.compile(r"\b(INSERT INTO|DELETE FROM|UPDATE \"?[a-z]+_)")
IN_FLOW: ContextVar[bool] = ContextVar("in_flow", default=False)


class Died(BaseException):
    """The worker's end, as far as one process can play it."""


BEFORE_COMMIT, BEFORE_ACTION = "before a commit", "before a browser action"
AMID_ACTION = "after a browser action was sent"
BEFORE_CONFIRMED = "before the add is confirmed"


class Fate:
    """Has the worker die at the `nth` moment of these kinds, of which `last` is the one it has
    reached."""

    def __init__(self, kinds: set[str], nth: int) -> None:
        self.kinds, self.left = kinds, nth
        self.last = ""
        self.is_dead = False
        self._has_written = False

    def reach(self, kind: str) -> None:
        if kind not in self.kinds or self.is_dead:
            return
        self.last = kind
        self.left -= 1
        if not self.left:
            self.is_dead = True
            raise Died

    def commit(self, commit: Callable[[], None]) -> None:
        """In place of the connection's own. The dead commit nothing."""
        try:
            if self._has_written:
                self.reach(BEFORE_COMMIT)
            if self.is_dead:
                raise Died
        except Died:
            connection._rollback()  # as the server does when a client is gone
            raise
        finally:
            self._has_written = False
        commit()

    def execute(self, execute: Callable[..., Any], sql: str, *statement: Any) -> Any:
        is_write = bool(WRITES.search(sql))
        if connection.in_atomic_block:
            self._has_written |= is_write
        elif is_write:  # outside of any transaction it is its own commit
            self.reach(BEFORE_COMMIT)
            if self.is_dead:
                raise Died
        return execute(sql, *statement)


@pytest.fixture(scope="module")
def sandbox_url(tmp_path_factory) -> Iterator[str]:
    with sandbox_process(tmp_path_factory.mktemp("sandbox") / "ledger.sqlite3") as (_, url):
        yield url


@pytest.fixture(scope="module")
def host() -> Iterator[BrowserHost]:
    with BrowserHost() as host:
        yield host


@pytest.fixture
def corner(sandbox_url, host, monkeypatch) -> Iterator[Control]:
    real = workflows.flow.add_to_cart

    async def add_to_cart(*args: Any, **kwargs: Any) -> Any:
        IN_FLOW.set(True)
        return await real(*args, **kwargs)

    monkeypatch.setattr(workflows, "get_browser_host", lambda: host)
    monkeypatch.setattr(workflows.flow, "add_to_cart", add_to_cart)
    monkeypatch.setattr(live.messenger, "post", lambda *_, **__: None)
    with Control(sandbox_url, "corner.localhost") as corner:
        yield corner


@pytest.fixture
def account(corner) -> VendorAccount:
    data = corner.ask("vendor") | {"rate_limit_daily": 1000}
    fields = {field.name for field in Vendor._meta.get_fields()}
    vendor = Vendor.objects.create(**{name: data[name] for name in data if name in fields})
    email = f"{uuid4().hex[:12]}@office.example"
    corner.post("/_sandbox/accounts", json={"email": email, "password": PASSWORD})
    return VendorAccount.objects.create(vendor=vendor, email=email, password=PASSWORD)


@pytest.fixture
def url(corner) -> str:
    products = corner.ask("products")["products"]
    return str(next(each["url"] for each in products if each["slug"] == PRODUCT))


def enqueue(account: VendorAccount, url: str) -> QueueItem:
    return cart_queue.enqueue(
        cart_queue.CartRequest(account.vendor, url, product_data={"quantity": ASKED})
    )


def cart_of(corner: Control, account: VendorAccount) -> int:
    return sum(line["quantity"] for line in corner.ask("cart", account=account.email)["lines"])


@contextmanager
def doomed(fate: Fate, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    act, confirm = Connection.send_message_to_server, Add.confirm

    def send(*args: Any, **kwargs: Any) -> Any:
        if not IN_FLOW.get():
            return act(*args, **kwargs)
        fate.reach(BEFORE_ACTION)
        answer = act(*args, **kwargs)
        fate.reach(AMID_ACTION)
        return answer

    def confirm_or_die(add: Add, output: Any) -> None:
        fate.reach(BEFORE_CONFIRMED)
        confirm(add, output)

    with monkeypatch.context() as patch, connection.execute_wrapper(fate.execute):
        patch.setattr(connection, "_commit", partial(fate.commit, connection._commit))
        patch.setattr(Connection, "send_message_to_server", send)
        patch.setattr(Add, "confirm", confirm_or_die)
        yield


def live_until(fate: Fate, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the worker has died."""
    try:
        with doomed(fate, monkeypatch):
            runner.run_ready_steps(["steps"])
    except Died:
        return True
    return False


def finish_elsewhere() -> None:
    for _ in range(2):
        let_leases_expire()
        recover_expired()
        let_waits_end()
        make_due_ready()
        runner.run_ready_steps(["steps"])


@pytest.mark.parametrize(
    "kinds", [{BEFORE_COMMIT, BEFORE_ACTION}, {AMID_ACTION}], ids=["before", "amid"]
)
def test_worker_killed_at_each_moment_of_an_add_adds_what_was_asked_for(
    kinds, corner, account, url, monkeypatch
):
    enqueue(account, url)  # signs in
    finish_elsewhere()
    held = cart_of(corner, account)
    assert held == ASKED

    for nth in count(1):
        item = enqueue(account, url)
        fate = Fate(kinds, nth)
        has_died = live_until(fate, monkeypatch)
        finish_elsewhere()

        item.refresh_from_db()
        held += ASKED
        at = (nth, fate.last)
        assert (at, item.status, cart_of(corner, account)) == (at, "completed", held)
        assert CartItem.objects.get(queue_item=item).quantity == ASKED
        assert Effect.objects.get(job=item.job_id).status == Effect.Status.CONFIRMED
        if not has_died:
            break

    assert nth > 10  # moments that there are to die at
    assert not Job.objects.exclude(status=Status.COMPLETED)


def test_without_its_effect_a_killed_add_would_be_made_twice(corner, account, url, monkeypatch):
    enqueue(account, url)
    finish_elsewhere()
    item = enqueue(account, url)
    fate = Fate({BEFORE_CONFIRMED}, 1)

    assert live_until(fate, monkeypatch)
    Effect.objects.filter(job=item.job_id).delete()
    finish_elsewhere()

    item.refresh_from_db()
    assert (item.status, cart_of(corner, account)) == ("completed", 3 * ASKED)

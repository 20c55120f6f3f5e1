"""Promises in seconds, kept by real processes: a cancelled browser step has stopped within five,
and an account that is resumed is at work within two. Times are the database's."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from tests.automation.little_site import LittleSite, Page
from tests.e2e.conftest import PASSWORD, SandboxShop
from tests.e2e.stack import Stack
from tests.waiting import wait_until

ALICE = "cancel@corner.example"
HOST = "rough.localhost"
LOOP = "for (;;) {}"
# What the page does that the flow opens first: the cart.
HANGING_PAGES = {
    "answer": "",
    "script": f"<script>setTimeout(() => {{ {LOOP} }}, 50)</script>",
    "parser": f"<script>{LOOP}</script>",
    "alerts": "<script>setTimeout(() => { for (;;) alert('Buy!') }, 50)</script>",
    "beforeunload": f"<script>addEventListener('beforeunload', () => {{ {LOOP} }})</script>",
}


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(stack.environment["DATABASE_URL"], autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def alice(corner_vendor: SandboxShop) -> str:
    return corner_vendor.add_account(ALICE)


@pytest.fixture
def only_alice(
    database: psycopg.Connection[Any], corner: SandboxShop, alice: str
) -> Iterator[SandboxShop]:
    """The corner shop with one account, whatever other tests have left there."""
    others = "UPDATE vendor_accounts SET is_blocked = %s WHERE vendor_id = %s AND id <> %s"
    database.execute(others, (True, corner.vendor_id, alice))
    yield corner
    database.execute(others, (False, corner.vendor_id, alice))


@pytest.fixture
def site() -> Iterator[LittleSite]:
    with LittleSite() as running:
        yield running


@pytest.fixture(scope="module")
def rough_vendor(admin: httpx.Client) -> str:
    """A shop whose pages each test writes; its port changes with each."""
    answer = admin.post("/api/admin/vendors", json=rough_shop(80))
    assert answer.status_code == 201, answer.text
    vendor_id = str(answer.json()["id"])
    account = {"vendor_id": vendor_id, "email": "alice@rough.example", "password": PASSWORD}
    assert admin.post("/api/admin/accounts", json=account).status_code == 201
    return vendor_id


def rough_shop(port: int) -> dict[str, Any]:
    return {
        "name": "Rough Shop",
        "domain": HOST,
        "cart_url": f"http://{HOST}:{port}/cart",
        "login_required": False,
        "allow_private_network": True,
        "selectors": {
            "add_to_cart": ".add",
            "cart_row": ".row",
            "cart_quantity": ".quantity",
            "cart_confirmation": ".success",
            "cart_empty_indicator": ".empty",
        },
    }


def post(erpnext: httpx.Client, vendor_id: str, url: str) -> str:
    body = {"user_id": "system", "vendor_id": vendor_id, "product_url": url, "product_data": {}}
    answer = erpnext.post("/api/cart/add", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["queue_id"])


def job_of(database: psycopg.Connection[Any], queue_id: str) -> str:
    row = database.execute("SELECT job_id FROM cart_queue WHERE id = %s", (queue_id,)).fetchone()
    assert row is not None
    return str(row[0])


def find_time(database: psycopg.Connection[Any], job: str, kind: str) -> datetime | None:
    """When the job's last event of this kind happened."""
    newest = "SELECT at FROM jobs_event WHERE job_id = %s AND kind = %s ORDER BY number DESC"
    row = database.execute(newest, (job, kind)).fetchone()
    return row[0] if row else None


def cancel(erpnext: httpx.Client, database: psycopg.Connection[Any], queue_id: str) -> timedelta:
    """Cancels the item's job; how long its running step took to stop."""
    job = job_of(database, queue_id)
    erpnext.post(f"/api/jobs/{job}/cancel", json={"reason": "Test"}).raise_for_status()
    stopped_at = wait_until(lambda: find_time(database, job, "step.stopped"), 20)
    cancelled_at = find_time(database, job, "job.cancelled")
    assert cancelled_at is not None
    held = "SELECT count(*) FROM vendor_accounts WHERE held_by_id = %s"
    assert database.execute(held, (job,)).fetchone() == (0,)
    return stopped_at - cancelled_at


def wait_for_phase(database: psycopg.Connection[Any], queue_id: str) -> None:
    job = job_of(database, queue_id)
    wait_until(lambda: find_time(database, job, "step.progress"), 60)
    time.sleep(1)  # the page is on its way, and does not come


def worker(stack: Stack) -> psutil.Process:
    return psutil.Process(stack.processes["worker"].pid)


def is_connected(stack: Stack, site: LittleSite) -> bool:
    """Whether a browser context of the worker has a connection to the site, through its guard."""
    connections = worker(stack).net_connections()
    return any(each.raddr and each.raddr.port == site.port for each in connections)


@pytest.mark.parametrize("what", HANGING_PAGES)
def test_step_on_a_page_that_hangs_has_stopped_five_seconds_after_its_cancel(
    stack: Stack,
    erpnext: httpx.Client,
    admin: httpx.Client,
    database: psycopg.Connection[Any],
    rough_vendor: str,
    site: LittleSite,
    what: str,
) -> None:
    answer = admin.put(f"/api/admin/vendors/{rough_vendor}", json=rough_shop(site.port))
    assert answer.status_code == 200, answer.text
    row = "<p class=empty>Empty</p>"
    site.pages["/cart"] = Page(
        row + HANGING_PAGES[what], wait=site.closing if what == "answer" else None
    )
    site.pages["/p"] = Page("<h1>Tea</h1><button class=add>Add</button>")
    queue_id = post(erpnext, rough_vendor, site.url("/p", HOST))
    wait_until(lambda: "/cart" in site.hits, 60)
    time.sleep(1)  # the page hangs now
    assert is_connected(stack, site)

    assert cancel(erpnext, database, queue_id) < timedelta(seconds=5)

    wait_until(lambda: not is_connected(stack, site), 1)
    site.closing.set()


def test_step_at_a_slow_shop_has_stopped_five_seconds_after_its_cancel(
    stack: Stack,
    erpnext: httpx.Client,
    database: psycopg.Connection[Any],
    only_alice: SandboxShop,
) -> None:
    only_alice.switch(latency_ms=15_000)
    queue_id = post(erpnext, only_alice.vendor_id, only_alice.url_of("gel-pens"))
    wait_for_phase(database, queue_id)

    assert cancel(erpnext, database, queue_id) < timedelta(seconds=5)

    only_alice.http.delete("switches")
    again = post(erpnext, only_alice.vendor_id, only_alice.url_of("desktop-stapler"))
    assert stack.wait_for_item(erpnext, again)["status"] == "completed"


def test_step_whose_browser_hangs_has_stopped_five_seconds_after_its_cancel(
    stack: Stack,
    erpnext: httpx.Client,
    database: psycopg.Connection[Any],
    only_alice: SandboxShop,
) -> None:
    only_alice.switch(latency_ms=15_000)
    queue_id = post(erpnext, only_alice.vendor_id, only_alice.url_of("gel-pens"))
    wait_for_phase(database, queue_id)
    for process in worker(stack).children(recursive=True):
        process.suspend()

    assert cancel(erpnext, database, queue_id) < timedelta(seconds=5)

    only_alice.http.delete("switches")
    again = post(erpnext, only_alice.vendor_id, only_alice.url_of("desktop-stapler"))
    assert stack.wait_for_item(erpnext, again)["status"] == "completed"


def test_account_is_at_work_two_seconds_after_it_was_resumed(
    stack: Stack,
    erpnext: httpx.Client,
    admin: httpx.Client,
    database: psycopg.Connection[Any],
    only_alice: SandboxShop,
    alice: str,
) -> None:
    limit = f"/api/limits/account:{alice}"
    admin.post(f"{limit}/pause", json={"reason": "Stocktaking."}).raise_for_status()
    queue_id = post(erpnext, only_alice.vendor_id, only_alice.url_of("highlighters"))
    job = job_of(database, queue_id)
    wait_until(lambda: find_time(database, job, "step.postponed"), 20)
    (reason,) = [
        each["sentence"]
        for each in erpnext.get(f"/api/jobs/{job}/why").json()["steps"]
        if each["name"] == "reserve_account"
    ]
    assert reason == f"The account {ALICE} is paused by e2e--admin: Stocktaking."
    row = database.execute("SELECT statement_timestamp()").fetchone()
    assert row is not None

    admin.post(f"{limit}/resume").raise_for_status()

    status = stack.wait_for_item(erpnext, queue_id)
    assert status["status"] == "completed"
    began = "SELECT started_at FROM jobs_step WHERE job_id = %s AND name = 'add_to_cart'"
    started = database.execute(began, (job,)).fetchone()
    assert started is not None
    assert started[0] - row[0] < timedelta(seconds=2)

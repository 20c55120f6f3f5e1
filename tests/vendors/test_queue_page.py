"""The queue: its rows, its page in a browser, and its websocket as ERPNext would follow it."""

# ruff: noqa: F401, F811  fixtures come by import

import asyncio
import json
import re
from datetime import timedelta
from html import unescape

import pytest
from django.db.models.functions import Now
from django.test import Client
from playwright.async_api import expect

from accounts.models import User
from jobs import plans, steps
from jobs.errors import BusinessError, TransientError
from jobs.models import Step
from jobs.runner import runner
from tests.live_site import (
    alice,
    live_site,
    make_key,
    page,
    run,
)
from vendors.cart_queue import CartRequest, enqueue
from vendors.models import QueueItem, Vendor, VendorAccount
from vendors.presentation import QueueListing, describe_cart_add

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _hints_are_not_sent():
    """Here they are: the pages live by them."""


@pytest.fixture(autouse=True)
def add(monkeypatch):
    """Stands for the browser: what adding to the cart does, to be replaced by a test."""

    class Add:
        def run(self, context):
            item = QueueItem.objects.get(pk=context.job_params["queue_item"])
            context.progress(65, "Adding to the cart")
            account = str(item.assigned_account_id)
            return plans.Done(
                {"account": account, "quantity": item.quantity, "line": {"name": "?"}}
            )

    add = Add()
    handler = plans.Handler(
        "vendors.add_to_cart",
        lambda context: add.run(context),  # noqa: PLW0108  looked up when it is called
        timedelta(seconds=10),
        plans.RetryPolicy(spread=0, first_delay=timedelta(seconds=50)),
    )
    monkeypatch.setitem(plans._handlers, "vendors.add_to_cart", handler)
    return add


@pytest.fixture
def staff(alice):
    client = Client()
    client.force_login(alice)
    return client


def output_for(item):
    account = str(item.assigned_account_id)
    return {"account": account, "quantity": item.quantity, "line": {"name": str(item)}}


def put(vendor, name="Blue Widget", **options):
    url = f"https://{vendor.domain}/product/1"
    data = options.pop("data", {})
    return enqueue(CartRequest(vendor, url, name, data, **options))


def run_all():
    runner.run_ready_steps(["steps"])


def fail_with(add, error):
    def fail(context):
        raise error

    add.run = fail


def embedded_rows(response):
    match = re.search(
        r'<script id="list" type="application/json">(.*?)</script>', response.content.decode()
    )
    return json.loads(match[1])["rows"]


# --- Rows ------------------------------------------------------------------------------------


def test_row_has_the_documents_columns_and_where_it_stands(vendor, account, alice):
    item = put(vendor, data={"quantity": 3, "variant": "Large"})
    run_all()

    row = QueueListing().row(QueueListing().visible_to(alice).get())

    stored = QueueItem.objects.get()
    assert row == {
        "id": item.pk,
        "product_name": "Blue Widget",
        "product_url": "https://vendor.example/product/1",
        "quantity": 3,
        "variant": "Large",
        "vendor_name": "Vendor Co",
        "status": "completed",
        "account_email": "one@vendor.example",
        "attempts": 1,
        "max_attempts": 3,
        "error_message": None,
        "error_code": "",
        "created_at": stored.created_at,
        "completed_at": stored.completed_at,
        "job": item.job_id,
        "progress": 100,
        "phase": "",
        "due_at": None,
        "url": f"/jobs/{item.job_id}/",
    }


def test_what_waits_says_until_when(vendor, account, alice, add):
    put(vendor)
    fail_with(add, TransientError("page_changed", "The button is gone."))
    run_all()

    row = QueueListing().row(QueueListing().visible_to(alice).get())

    assert (row["status"], row["error_message"]) == ("pending", "The button is gone.")
    assert row["due_at"]


def test_item_without_a_job_leads_to_the_admin(vendor, alice):
    Vendor.objects.update(requires_captcha=True)
    item = put(Vendor.objects.get())

    row = QueueListing().row(QueueListing().visible_to(alice).get())

    assert (row["status"], row["job"]) == ("manual_required", None)
    assert row["url"] == f"/admin/vendors/queueitem/{item.pk}/change/"


def test_rows_need_one_query_and_carry_no_secrets(
    vendor, account, alice, django_assert_num_queries
):
    account.session_data = {"cookies": "x" * 10_000}
    account.save()
    for _ in range(5):
        put(vendor)
    run_all()

    with django_assert_num_queries(1) as queries:
        rows = [QueueListing().row(item) for item in QueueListing().visible_to(alice)]
    with django_assert_num_queries(1):
        stats = QueueListing().stats()

    assert len(rows) == 5
    assert "session_data" not in queries[0]["sql"]
    assert "password" not in queries[0]["sql"]
    assert stats["completed"] == stats["completed_today"] == 5


def test_stats_of_today_leave_out_what_was_before(vendor, account, add):
    fail_with(add, BusinessError("out_of_stock", "None left."))
    put(vendor)
    run_all()
    QueueItem.objects.update(updated_at=Now() - timedelta(days=1, hours=1))
    put(vendor)
    run_all()

    stats = QueueListing().stats()

    assert (stats["failed"], stats["failed_today"]) == (2, 1)


# --- What a job is about ---------------------------------------------------------------------


def test_job_says_what_was_asked_for_and_by_whom(vendor, account, django_assert_num_queries):
    erpnext = User.objects.create_user("erpnext")
    data = {"quantity": 2, "erpnext_item_id": "ITEM-1"}
    item = put(vendor, data=data, requested_by=erpnext)

    with django_assert_num_queries(1):
        subject = describe_cart_add(item.job_id)

    assert [(fact.label, fact.text) for fact in subject.facts] == [
        ("Product", "Blue Widget"),
        ("Quantity", "2"),
        ("Vendor", "Vendor Co"),
        ("ERPNext item", "ITEM-1"),
        ("Requested by", "erpnext"),
        ("Queue item", str(item.pk)),
    ]
    assert subject.advice == ""


@pytest.mark.parametrize(
    ("code", "advice"),
    [("out_of_stock", "when the shop has it"), ("never heard of", "Look at the evidence")],
)
def test_job_that_failed_says_what_to_do(vendor, account, add, code, advice):
    item = put(vendor)
    fail_with(add, BusinessError(code, "No."))
    run_all()

    subject = describe_cart_add(item.job_id)

    assert advice in subject.advice
    assert ("Account", "one@vendor.example") in [(fact.label, fact.text) for fact in subject.facts]


def test_job_of_an_item_that_was_deleted_has_no_subject(vendor, account):
    item = put(vendor)
    QueueItem.objects.all().delete()

    assert describe_cart_add(item.job_id) is None


# --- The page --------------------------------------------------------------------------------


def test_page_is_for_staff(vendor):
    response = Client().get("/queue/")

    assert (response.status_code, response.url) == (302, "/admin/login/?next=/queue/")


def test_page_needs_the_same_number_of_queries_however_long(
    staff, vendor, account, django_assert_num_queries
):
    for _ in range(10):
        put(vendor)

    with django_assert_num_queries(4):  # two for the session; rows, counts
        response = staff.get("/queue/")

    assert len(embedded_rows(response)) == 10


def test_empty_queue_says_what_to_do_first(staff):
    assert "Add a vendor" in staff.get("/queue/").content.decode()

    vendor = Vendor.objects.create(name="Vendor Co", domain="vendor.example")
    text = unescape(staff.get("/queue/").content.decode())

    assert "create_api_key" in text
    assert "/api/cart/add" in text
    assert f'"vendor_id": "{vendor.pk}"' in text
    assert "https://vendor.example/" in text


@pytest.mark.browser
async def test_queue_lives(page, vendor, account, add):
    await page.goto("/queue/")
    await expect(page.locator("#connection")).to_have_text("Live")
    await expect(page.locator("#empty")).to_contain_text("Send the first request")
    await page.evaluate("window.isTheSamePage = true")

    item = await run(put, vendor, data={"quantity": 4})
    row = page.locator(f"[data-key='{item.pk}']")
    await expect(row).to_contain_text("Blue Widget × 4")
    await expect(row.locator(".badge")).to_have_text("Pending")
    await expect(page.locator(".card [data-stat=pending]")).to_have_text("1")
    await expect(page.locator("#empty")).to_be_hidden()

    step = await run(steps.claim_next, ["steps"], worker="w")
    step = await run(
        steps.complete, step, {"account": str(account.pk)}, queues=["steps"], worker="w"
    )
    await run(steps.report_progress, step, 50, "Choosing options and quantity")
    await expect(row.locator(".badge")).to_have_text("Processing")
    await expect(row).to_contain_text("Choosing options and quantity")
    await expect(row).to_contain_text("one@vendor.example")
    await expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "55")

    output = {"account": str(account.pk), "quantity": 4, "line": {"name": "Blue Widget"}}
    await run(steps.complete, step, output, queues=(), worker="w")
    await expect(row.locator(".badge")).to_have_text("Completed")
    await expect(row).to_contain_text("took")
    await expect(page.locator("[data-stat=completed_today]")).to_have_text("1")
    assert await page.evaluate("window.isTheSamePage")

    await row.get_by_role("link", name="Blue Widget").click()
    await expect(page).to_have_url(re.compile(f"/jobs/{item.job_id}/"))
    await expect(page.locator("#subject")).to_contain_text("one@vendor.example")


@pytest.mark.browser
async def test_rows_leave_the_tab_that_they_are_no_longer_of(page, vendor, account):
    await run(put, vendor)
    await page.goto("/queue/?status=pending")
    await expect(page.locator("#connection")).to_have_text("Live")
    await expect(page.locator("#rows tr")).to_have_count(1)

    await run(run_all)

    await expect(page.locator("#rows tr")).to_have_count(0)
    await expect(page.locator("#empty")).to_contain_text("No request has this status")
    await expect(page.locator(".tab-count[data-stat=completed]")).to_have_text("1")


@pytest.mark.browser
async def test_queue_catches_up_when_the_server_comes_back(page, live_site, vendor, account):
    first = await run(put, vendor)
    await page.goto("/queue/")
    await expect(page.locator("#connection")).to_have_text("Live")

    await asyncio.to_thread(live_site.stop)
    await expect(page.locator("#connection")).to_contain_text("Reconnecting")
    await run(run_all)
    second = await run(put, vendor)
    await asyncio.to_thread(live_site.start)

    await expect(page.locator("#connection")).to_have_text("Live", timeout=20_000)
    await expect(page.locator("#rows tr")).to_have_count(2)
    await expect(page.locator(f"[data-key='{first.pk}'] .badge")).to_have_text("Completed")
    await expect(page.locator(f"[data-key='{second.pk}'] .badge")).to_have_text("Pending")


@pytest.mark.browser
async def test_address_that_is_none_is_no_link(page, vendor, account):
    item = await run(put, vendor)
    await run(QueueItem.objects.update, product_url="javascript:alert(1)")

    await page.goto("/queue/")

    shop = page.locator(f"[data-key='{item.pk}'] .icon-link")
    await expect(shop).to_have_count(1)
    assert await shop.get_attribute("href") is None


@pytest.mark.browser
async def test_queue_fits_a_phone(page, vendor, account, add):
    fail_with(add, BusinessError("out_of_stock", "W" * 200))
    await run(put, vendor, "x" * 200)
    await run(run_all)
    await page.set_viewport_size({"width": 390, "height": 844})

    await page.goto("/queue/")
    await expect(page.locator("#connection")).to_have_text("Live")

    assert await page.evaluate("document.documentElement.scrollWidth") == 390


# --- The websocket ---------------------------------------------------------------------------


async def test_erpnext_follows_its_requests_to_their_ends(live_site, vendor, account):
    erpnext = await run(User.objects.create_user, "erpnext")
    key = await run(make_key, erpnext)
    await run(VendorAccount.objects.create, vendor=vendor, email="two@vendor.example", password="x")
    mine = [await run(put, vendor, requested_by=erpnext) for _ in range(2)]
    await run(put, vendor)
    ids = {str(item.pk) for item in mine}

    seen = {}
    async with live_site.socket(f"/ws/queue/?ids={','.join(ids)}", key=key) as connection:
        first = await connection.receive()
        await run(run_all)
        while {row["status"] for row in seen.values()} != {"completed"} or len(seen) < 2:
            message = await connection.receive()
            seen |= {row["id"]: row for row in message["items"]}

    assert first["type"] == "items"
    assert {row["id"] for row in first["items"]} == ids
    assert {row["status"] for row in first["items"]} == {"pending"}
    assert seen.keys() == ids
    assert {row["progress"] for row in seen.values()} == {100}


async def test_row_shows_what_is_going_on(live_site, vendor, account, alice):
    await run(put, vendor)
    step = await run(steps.claim_next, ["steps"], worker="w")
    await run(steps.report_progress, step, 50, "Looking for a free account")

    async with live_site.socket("/ws/queue/", user=alice) as connection:
        row = (await connection.receive())["items"][0]

    assert (row["status"], row["phase"]) == ("processing", "Looking for a free account")
    assert row["progress"] == 5
    assert await run(Step.objects.filter(status="running").count) == 1

"""The figures of the PRD's section 11: what they count, and by which index."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from tests.vendors.items import ended, waiting
from tests.vendors.test_pool import new_account
from vendors import alerts, figures, health_page, pool
from vendors.figures import Outcomes, read_figures
from vendors.models import QueueItem, Vendor, vendors_today

DAY = timedelta(days=1)

pytestmark = pytest.mark.django_db


def other_vendor(vendor, **fields) -> Vendor:
    return Vendor.objects.create(
        name="Other Co", domain="other.example", login_url="https://other.example/",
        cart_url="https://other.example/cart", selectors=vendor.selectors, **fields,
    )  # fmt: skip


def test_success_time_and_manual_share_are_counted_by_vendor(vendor):
    other = other_vendor(vendor)
    ended(vendor, "completed", 18, took=10)
    ended(vendor, "completed", 1, took=50)
    ended(vendor, "failed", 1, code="page_changed")
    ended(vendor, "manual_required", 5, code="captcha")
    ended(other, "failed", 2, code="out_of_stock")

    found = read_figures(1)

    by_name = {each.name: each.outcomes for each in found.vendors}
    assert by_name["Vendor Co"] == Outcomes(19, 1, 5, 12.1, 50.0)
    assert by_name["Vendor Co"].success_rate == 95.0
    assert by_name["Vendor Co"].manual_share == 20.0
    assert by_name["Other Co"] == Outcomes(0, 2, 0, None, None)
    assert by_name["Other Co"].success_rate == 0.0
    assert found.total == Outcomes(19, 3, 5, 12.1)
    assert found.errors == {"captcha": 5, "out_of_stock": 2, "page_changed": 1}
    assert found.ended_per_minute == 0.45


def test_what_a_person_cancelled_is_no_failure(vendor):
    ended(vendor, "completed")
    ended(vendor, "failed", 3, code="cancelled")

    found = read_figures(1)

    assert (found.total.failed, found.total.success_rate, found.errors) == (0, 100.0, {})


def test_only_the_period_counts_and_each_day_for_itself(vendor):
    ended(vendor, "completed", 2)
    ended(vendor, "failed", 1, ago=3 * DAY)
    ended(vendor, "failed", 1, ago=8 * DAY)

    assert read_figures(1).total == Outcomes(2, 0, 0, 10.0)
    week = read_figures(7)

    assert week.total == Outcomes(2, 1, 0, 10.0)
    today = vendors_today()
    [vendor_figures] = week.vendors
    assert [(each.day, each.outcomes.ended) for each in vendor_figures.days] == [
        (today - 3 * DAY, 1),
        (today, 2),
    ]


def test_queue_depth_is_what_waits_and_what_is_being_added(vendor):
    waiting(vendor, age=DAY)
    waiting(vendor, age=DAY)
    waiting(vendor, status="processing", age=DAY)
    ended(vendor, "manual_required", 4, ago=90 * DAY)

    found = read_figures(1)

    assert (found.pending, found.processing, found.manual_waiting) == (2, 1, 4)


def test_coverage_is_of_the_prioritised_vendors(vendor):
    Vendor.objects.filter(pk=vendor.pk).update(is_prioritized=True)
    other_vendor(vendor, is_prioritized=True, requires_captcha=True)

    assert read_figures(1).coverage == 50.0
    Vendor.objects.update(is_prioritized=False)
    assert read_figures(1).coverage is None


def test_block_rate_is_of_a_month_whether_unblocked_meanwhile_or_not(vendor, account):
    for name in ("two", "three", "four"):
        new_account(vendor, name)
    assert figures.read_block_rate() == 0.0

    pool.set_aside(account, "Suspended.")
    pool.unblock(type(account).objects.filter(pk=account.pk))

    assert figures.read_block_rate() == 25.0
    alert = alerts.open_alerts().get()
    type(alert).objects.update(opened_at=timezone.now() - 31 * DAY)
    assert figures.read_block_rate() == 0.0


@pytest.fixture
def many_items(vendor):
    """A hundred days of them, 50 a day, and the planner's statistics of it."""
    items = []
    for n in range(5000):
        at = timezone.now() - n * timedelta(minutes=30)
        status = ("completed", "failed", "manual_required")[n % 3]
        url = "https://vendor.example/product/1"
        times = {"created_at": at, "updated_at": at, "completed_at": at}
        items.append(QueueItem(vendor=vendor, product_url=url, status=status, **times))
    QueueItem.objects.bulk_create(items, batch_size=1000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE cart_queue")


@pytest.mark.parametrize("name", ["BY_VENDOR", "BY_DAY", "ERRORS", "ENDED", "RECENT"])
def test_a_period_is_read_by_the_index_of_outcomes(many_items, name):
    plan = explain(getattr(figures, name))

    assert "idx_cart_queue_outcome" in plan
    assert "Seq Scan on cart_queue" not in plan


@pytest.mark.parametrize("name", ["DEPTH", "LATE"])
def test_the_queue_is_read_by_the_index_of_statuses(many_items, name):
    plan = explain(getattr(figures, name))

    assert "idx_cart_queue_status" in plan or "idx_cart_queue_vendor" in plan
    assert "Seq Scan on cart_queue" not in plan


def explain(statement: str) -> str:
    now = timezone.now()
    values = {"since": now - DAY, "before": now, "answers": figures.ANSWERS, "most": 1000}
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement}", values)
        return "\n".join(line for (line,) in cursor.fetchall())


def test_without_the_index_the_whole_table_is_read(many_items):
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX idx_cart_queue_outcome")

    assert "idx_cart_queue_outcome" not in explain(figures.BY_DAY)


# ---- the page, REST and metrics -----------------------------------------------------------------


def test_bars_of_a_day_stand_on_each_other_and_fill_the_busiest_day(vendor):
    ended(vendor, "completed", 3)
    ended(vendor, "failed", 1)

    [vendor_figures] = read_figures(1).vendors
    columns = health_page.draw(vendor_figures.days, [vendors_today() - DAY, vendors_today()])

    assert columns[0].bars == []
    assert [(bar.tone, bar.y, bar.height) for bar in columns[1].bars] == [
        ("green", 15.0, 45.0),
        ("red", 0.0, 15.0),
    ]
    assert columns[1].title.endswith("3 completed, 0 with a person, 1 failed")


def test_page_shows_figures_with_their_targets_and_open_alerts(admin_client, vendor, account):
    ended(vendor, "completed", 19)
    ended(vendor, "failed", 1, code="page_changed")
    pool.set_aside(account, "Suspended.")

    page = admin_client.get("/vendors/health/?days=7").content.decode()

    assert "95.0 %" in page
    assert 'data-alert="block"' in page
    assert "1 open alert." in page
    assert "page_changed" in page
    assert "<svg" in page
    assert "http://" not in page.split("<svg")[1].split("</svg>")[0]  # nothing from elsewhere


def test_page_is_for_staff(client, vendor):
    assert client.get("/vendors/health/").status_code == 302
    assert client.post(f"/vendors/{vendor.pk}/resume").status_code == 302


def test_rest_has_the_same_figures(admin_api, erpnext, vendor, account):
    ended(vendor, "completed", 3)
    ended(vendor, "failed", 1, code="page_changed")
    pool.set_aside(account, "Suspended.")

    answer = admin_api.get("/api/admin/health", {"days": 7})

    body = answer.json()
    assert answer.status_code == 200
    assert (body["completed"], body["failed"], body["success_rate"]) == (3, 1, 75.0)
    assert body["average_time_to_cart"] == 10.0
    assert body["block_rate"] == 100.0
    assert body["errors"] == {"page_changed": 1}
    [row] = body["vendors"]
    assert (row["id"], row["healthy_accounts"], row["blocked_accounts"]) == (str(vendor.pk), 0, 1)
    assert [each["completed"] for each in row["days"]] == [3]
    [alert] = body["alerts"]
    assert (alert["kind"], alert["account_id"]) == ("block", str(account.pk))
    assert erpnext.get("/api/admin/health").status_code == 403
    assert admin_api.get("/api/admin/health", {"days": 91}).json()["code"] == "INVALID_REQUEST"


def test_metrics_have_them_by_vendor(client, vendor, account):
    ended(vendor, "completed", 3)
    ended(vendor, "failed", 1, code="page_changed")

    lines = client.get("/metrics", REMOTE_ADDR="127.0.0.1").content.decode().splitlines()

    assert 'cartwright_cart_items{status="completed",vendor="Vendor Co"} 3.0' in lines
    assert 'cartwright_cart_errors{code="page_changed"} 1.0' in lines
    assert 'cartwright_time_to_cart_seconds{vendor="Vendor Co"} 10.0' in lines
    assert 'cartwright_vendor_automated{vendor="Vendor Co"} 1.0' in lines
    assert 'cartwright_vendor_alerts{kind="failures"} 0.0' in lines

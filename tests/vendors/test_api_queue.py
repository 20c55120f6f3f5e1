"""The queue over REST: the PRD's sections 8.1 and 8.4, and what section 10 says of both."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
import redis
import time_machine
from django.db import connection
from django.utils import timezone

from accounts.models import User
from jobs import live
from jobs.models import Job
from tests.vendors.conftest import client_with_key
from vendors import queue_reading
from vendors.api import throttle
from vendors.models import CartItem, QueueItem, Vendor

QUEUE, STATS, BULK = "/api/admin/queue", "/api/admin/queue/stats", "/api/admin/queue/bulk"
ADD = "/api/cart/add"
UNKNOWN = "0198c0de-7a11-7000-8000-000000000404"
URL = "https://vendor.example/product/123"


@pytest.fixture(autouse=True)
def _hints_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.messenger, "post", lambda *_, **__: None)


@pytest.fixture
def body(vendor) -> dict:
    return {"user_id": "system", "vendor_id": str(vendor.pk), "product_url": URL}


def item_of(vendor, status="pending", **fields) -> QueueItem:
    return QueueItem.objects.create(vendor=vendor, product_url=URL, status=status, **fields)


def ids(answer) -> list[str]:
    return [row["id"] for row in answer.json()["items"]]


# --- Reading --------------------------------------------------------------------------------------


def test_row_has_the_documents_keys_and_no_others(
    admin_api, vendor, account, django_assert_num_queries
):
    item = item_of(
        vendor,
        "completed",
        product_name="Product Name",
        assigned_account=account,
        created_at=datetime(2025, 12, 2, 10, 25, tzinfo=UTC),
    )
    admin_api.get(QUEUE)

    with django_assert_num_queries(4):  # the key, the ids, the rows, the total
        answer = admin_api.get(QUEUE)

    assert answer.json() == {
        "items": [
            {
                "id": str(item.pk),
                "product_name": "Product Name",
                "product_url": URL,
                "vendor_name": "Vendor Co",
                "status": "completed",
                "created_at": "2025-12-02T10:25:00Z",
                "account_email": "one@vendor.example",
            }
        ],
        "total": 1,
        "total_is_exact": True,
        "limit": 50,
        "offset": 0,
        "next": None,
    }


def test_list_is_filtered_by_status_vendor_and_dates(admin_api, vendor):
    other = Vendor.objects.create(name="Other", domain="other.example")
    days = [datetime(2026, 3, day, 12, tzinfo=UTC) for day in (1, 2, 3)]
    first, second, third = (item_of(vendor, "failed", created_at=day) for day in days)
    pending = item_of(vendor, created_at=days[1])
    elsewhere = item_of(other, "failed", created_at=days[1])

    def found(**query) -> set[str]:
        return set(ids(admin_api.get(QUEUE, query)))

    assert found(status="pending") == {str(pending.pk)}
    assert found(vendor_id=str(other.pk)) == {str(elsewhere.pk)}
    assert found(status="failed", vendor_id=str(vendor.pk), date_from="2026-03-02") == {
        str(second.pk),
        str(third.pk),
    }
    assert found(date_to="2026-03-01") == {str(first.pk)}  # a day: to its end
    assert found(date_from="2026-03-03T12:00:00Z") == {str(third.pk)}
    assert found(date_to="2026-03-01T12:00:00Z") == set()  # a moment: before it


def test_day_of_a_date_is_londons(admin_api, vendor):
    late = item_of(vendor, created_at=datetime(2026, 7, 1, 23, 30, tzinfo=UTC))  # 00:30 there

    assert ids(admin_api.get(QUEUE, {"date_from": "2026-07-02"})) == [str(late.pk)]
    assert ids(admin_api.get(QUEUE, {"date_to": "2026-07-01"})) == []


@pytest.mark.parametrize("dates", [{}, {"date_from": "2020-01-01"}])
def test_pages_by_offset_and_by_after_are_the_same(admin_api, vendor, dates):
    items = [str(item_of(vendor).pk) for _ in range(5)][::-1]

    by_offset = [ids(admin_api.get(QUEUE, {"limit": 2, "offset": at, **dates})) for at in (0, 2, 4)]
    by_after, after = [], {}
    for _ in range(3):
        answer = admin_api.get(QUEUE, {"limit": 2, **after, **dates})
        by_after.append(ids(answer))
        after = {"after": answer.json()["next"]}
        assert answer.json()["total"] == 5

    assert by_offset == by_after == [items[:2], items[2:4], items[4:]]
    assert after == {"after": None}


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "x"},
        {"offset": -1},
        {"status": "done"},
        {"vendor_id": "x"},
        {"date_from": "yesterday"},
        {"date_to": "2026-02-30"},
        {"after": "1"},
        {"after": UNKNOWN, "date_from": "2026-01-01"},
    ],
)
def test_query_that_makes_no_sense_is_refused(admin_api, vendor, query):
    answer = admin_api.get(QUEUE, query)

    assert answer.status_code == 400
    assert next(iter(query)) in answer.json()["error"]


def test_total_beyond_what_is_counted_is_an_estimate_and_says_so(admin_api, vendor, monkeypatch):
    monkeypatch.setattr(queue_reading, "MOST_COUNTED", 3)
    for _ in range(5):
        item_of(vendor)

    answer = admin_api.get(QUEUE, {"limit": 1}).json()

    assert answer["total_is_exact"] is False
    assert answer["total"] >= 4


def test_statistics_are_the_documents(admin_api, vendor):
    with time_machine.travel(datetime(2026, 3, 2, 12, tzinfo=UTC), tick=False):
        now = timezone.now()
        for seconds in (20, 24):
            took = timedelta(seconds=seconds)
            item_of(vendor, "completed", created_at=now - took, completed_at=now, updated_at=now)
        yesterday = now - timedelta(days=1)
        item_of(vendor, "completed", completed_at=yesterday, updated_at=yesterday)
        item_of(vendor, "failed", updated_at=now)
        item_of(vendor, "failed", updated_at=yesterday)
        for status in ("pending", "pending", "processing", "manual_required"):
            item_of(vendor, status, updated_at=yesterday)

        answer = admin_api.get(STATS)

    assert answer.json() == {
        "pending": 2,
        "processing": 1,
        "completed_today": 2,
        "failed_today": 1,
        "manual_required": 1,
        "average_completion_time_seconds": 22.0,
    }


def test_statistics_of_an_empty_queue_are_zero(admin_api):
    answer = admin_api.get(STATS).json()

    assert set(answer.values()) == {0, None}
    assert answer["average_completion_time_seconds"] is None


def test_cart_items_of_a_user_are_for_staff_and_for_who_asked(
    admin_api, erpnext, vendor, account, django_assert_num_queries
):
    mine = item_of(vendor, "completed", created_by=User.objects.get(username="erpnext"))
    others = item_of(vendor, "completed")
    lines = [
        CartItem.objects.create(
            user_id=user_id, vendor_account=account, queue_item=item, product_url=URL, quantity=2
        )
        for item, user_id in ((mine, "system"), (others, "system"), (item_of(vendor), "bob"))
    ]
    admin_api.get("/api/cart/user/system")

    with django_assert_num_queries(3):  # the key, the lines, the total
        answer = admin_api.get("/api/cart/user/system").json()

    assert [row["id"] for row in answer["items"]] == [str(lines[1].pk), str(lines[0].pk)]
    assert answer["items"][1] == {
        "id": str(lines[0].pk),
        "queue_id": str(mine.pk),
        "user_id": "system",
        "vendor_account_id": str(account.pk),
        "vendor_name": "Vendor Co",
        "product_url": URL,
        "product_name": None,
        "quantity": 2,
        "added_at": answer["items"][1]["added_at"],
    }
    assert (answer["total"], answer["next"]) == (2, None)
    assert [row["queue_id"] for row in erpnext.get("/api/cart/user/system").json()["items"]] == [
        str(mine.pk)
    ]


# --- Acting ---------------------------------------------------------------------------------------


def test_failed_item_is_retried_by_who_asked_for_it(erpnext, body):
    queue_id = erpnext.post(ADD, body, "json").json()["queue_id"]
    admin = client_with_key(User.objects.create_user("alice", is_staff=True))
    cancelled = admin.post(f"{QUEUE}/{queue_id}/cancel", {"reason": "Wait"}, "json")
    assert (cancelled.json()["status"], cancelled.json()["success"]) == ("failed", True)

    answer = erpnext.post(f"/api/cart/retry/{queue_id}")

    assert answer.json() == {
        "success": True,
        "queue_id": queue_id,
        "status": "pending",
        "message": "Item re-queued for processing",
    }
    again = erpnext.post(f"/api/cart/retry/{queue_id}")
    assert (again.status_code, again.json()["code"]) == (409, "NOT_POSSIBLE_NOW")
    assert "is pending: retry is for items that are failed" in again.json()["error"]


def test_item_goes_to_a_person_and_is_completed_or_failed_there(admin_api, body):
    done, lost = (admin_api.post(ADD, body, "json").json()["queue_id"] for _ in range(2))
    for queue_id in (done, lost):
        routed = admin_api.post(f"{QUEUE}/{queue_id}/manual", {"reason": "By hand"}, "json")
        assert routed.json()["status"] == "manual_required"

    complete = admin_api.post(f"{QUEUE}/manual/{done}/complete")
    fail = admin_api.post(f"{QUEUE}/manual/{lost}/fail", {"reason": "Sold out"}, "json")

    assert (complete.status_code, complete.json()["status"]) == (200, "completed")
    assert (fail.status_code, fail.json()["status"]) == (200, "failed")
    assert admin_api.get(f"/api/cart/status/{lost}").json()["error_message"] == (
        "Failed by operations: Sold out"
    )
    assert admin_api.post(f"{QUEUE}/manual/{done}/fail").status_code == 409


def test_routing_needs_a_reason(admin_api, vendor):
    item = item_of(vendor)

    answer = admin_api.post(f"{QUEUE}/{item.pk}/manual", {}, "json")

    assert answer.status_code == 400
    assert "reason" in answer.json()["error"]
    assert QueueItem.objects.get().status == "pending"


def test_bulk_counts_first_and_acts_then(admin_api, body, vendor):
    queue_ids = [admin_api.post(ADD, body, "json").json()["queue_id"] for _ in range(3)]
    asked = {"action": "cancel", "filter": {"vendor_id": str(vendor.pk)}, "reason": "Not needed"}

    counted = admin_api.post(BULK, asked | {"dry_run": True}, "json").json()
    assert (counted["count"], counted["dry_run"]) == (3, True)
    assert [row["id"] for row in counted["first"]] == queue_ids
    assert QueueItem.objects.filter(status="pending").count() == 3

    answer = admin_api.post(BULK, asked, "json").json()

    assert answer == {
        "success": True,
        "action": "cancel",
        "count": 3,
        "dry_run": False,
        "done": 3,
        "skipped": 0,
        "skipped_first": [],
        "next": None,
    }
    assert QueueItem.objects.filter(status="failed", error_code="cancelled").count() == 3


@pytest.mark.parametrize(
    "change",
    [
        {"filter": {}},
        {"filter": {"vendor": UNKNOWN}},
        {"filter": {"status": ["completed"]}},
        {"action": "remove"},
        {"action": "manual"},  # without a reason
        {"filters": {}},
    ],
)
def test_bulk_that_does_not_say_what_is_meant_changes_nothing(
    admin_api, body, change, nothing_happens
):
    admin_api.post(ADD, body, "json")
    asked = {"action": "cancel", "filter": {"status": ["pending"]}}

    with nothing_happens():
        answer = admin_api.post(BULK, asked | change, "json")

    assert answer.status_code == 400
    assert QueueItem.objects.get().status == "pending"


ADMINS = [
    ("get", QUEUE),
    ("get", STATS),
    ("post", BULK),
    ("post", f"{QUEUE}/{UNKNOWN}/cancel"),
    ("post", f"{QUEUE}/{UNKNOWN}/manual"),
    ("post", f"{QUEUE}/manual/{UNKNOWN}/complete"),
    ("post", f"{QUEUE}/manual/{UNKNOWN}/fail"),
    ("delete", f"/api/admin/vendors/{UNKNOWN}"),
    ("put", f"/api/admin/accounts/{UNKNOWN}"),
    ("delete", f"/api/admin/accounts/{UNKNOWN}"),
]


@pytest.mark.parametrize(("method", "path"), ADMINS)
def test_what_is_for_admins_is_for_nobody_else(client, erpnext, method, path):
    assert getattr(client, method)(path).status_code == 401
    refused = getattr(erpnext, method)(path)
    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")


def test_item_of_somebody_else_is_not_retried(erpnext, vendor):
    item = item_of(vendor, "failed")

    assert erpnext.post(f"/api/cart/retry/{item.pk}").status_code == 404
    assert QueueItem.objects.get().status == "failed"


# --- The same request twice -----------------------------------------------------------------------


@pytest.mark.parametrize("by", ["header", "erpnext"])
def test_same_request_twice_is_one_item(erpnext, body, by, nothing_happens):
    headers = {"Idempotency-Key": '"a-key"'} if by == "header" else {}
    body["product_data"] = {"erpnext_item_id": "ITEM-1", "quantity": 2}
    first = erpnext.post(ADD, body, "json", headers=headers)

    with nothing_happens():
        second = erpnext.post(ADD, json.loads(json.dumps(body)), "json", headers=headers)

    assert second.status_code == 200
    assert second.json()["queue_id"] == first.json()["queue_id"]
    assert second.json()["status"] == "pending"
    assert second.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers


@pytest.mark.parametrize("by", ["header", "erpnext"])
def test_key_of_another_request_is_a_conflict(erpnext, body, by, nothing_happens):
    headers = {"Idempotency-Key": "a-key"} if by == "header" else {}
    body["product_data"] = {"erpnext_item_id": "ITEM-1", "quantity": 2}
    queue_id = erpnext.post(ADD, body, "json", headers=headers).json()["queue_id"]

    with nothing_happens():
        body["product_data"]["quantity"] = 3
        answer = erpnext.post(ADD, body, "json", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert queue_id in answer.json()["error"]


def test_header_goes_before_the_erpnext_item(erpnext, body):
    body["product_data"] = {"erpnext_item_id": "ITEM-1"}

    found = {
        erpnext.post(ADD, body, "json", headers={"Idempotency-Key": key}).json()["queue_id"]
        for key in ("one", "two", "one")
    }

    assert len(found) == 2


def test_keys_of_two_callers_are_two_keys(erpnext, admin_api, body):
    body["product_data"] = {"erpnext_item_id": "ITEM-1"}

    for client in (erpnext, admin_api):
        assert client.post(ADD, body, "json").status_code == 200

    assert QueueItem.objects.count() == 2


@pytest.mark.parametrize("key", ["", '""', "x" * 256])
def test_key_that_is_none_is_refused(erpnext, body, nothing_happens, key):
    with nothing_happens():
        answer = erpnext.post(ADD, body, "json", headers={"Idempotency-Key": key})

    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_IDEMPOTENCY_KEY")


@pytest.mark.django_db(transaction=True)
def test_same_request_at_the_same_moment_is_one_item_with_one_job(body):
    user = User.objects.create_user("erpnext")
    body["product_data"] = {"erpnext_item_id": "ITEM-1"}
    start, answers = threading.Barrier(4), []

    def ask() -> None:
        client = client_with_key(user)
        start.wait()
        answers.append(client.post(ADD, body, "json"))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.json()["queue_id"] for answer in answers}) == 1
    assert QueueItem.objects.count() == Job.objects.count() == 1


def test_priority_is_the_jobs(erpnext, body, nothing_happens):
    erpnext.post(ADD, body | {"priority": 7}, "json")

    assert QueueItem.objects.get().priority == Job.objects.get().priority == 7
    with nothing_happens():
        assert erpnext.post(ADD, body | {"priority": 101}, "json").status_code == 400


# --- A hundred a minute, and which pages may call -------------------------------------------------


def test_more_than_the_limit_is_refused_until_the_minute_is_over(
    erpnext, admin_api, body, broker, settings, nothing_happens
):
    settings.CART_REQUESTS_PER_MINUTE = 2
    queue_id = erpnext.post(ADD, body, "json").json()["queue_id"]
    assert erpnext.get(f"/api/cart/status/{queue_id}").status_code == 200

    with nothing_happens():
        answer = erpnext.post(ADD, body, "json")

    assert (answer.status_code, answer.json()["code"]) == (429, "TOO_MANY_REQUESTS")
    assert 58 <= int(answer.headers["Retry-After"]) <= 60
    for path in (f"/api/cart/status/{queue_id}", "/api/cart/user/system"):
        assert erpnext.get(path).status_code == 429
    assert erpnext.post(f"/api/cart/retry/{queue_id}").status_code == 429
    assert admin_api.get(f"/api/cart/status/{queue_id}").status_code == 200  # another user
    assert admin_api.get(QUEUE).status_code == 200


def test_limit_is_a_hundred_and_counts_what_was_let_through(broker, settings):
    assert settings.CART_REQUESTS_PER_MINUTE == 100

    waits = [throttle.take("a-user", 100) for _ in range(103)]

    assert waits[:100] == [0] * 100
    assert all(59 < wait <= 60 for wait in waits[100:])
    assert broker.zcard("a-user") == 100
    assert 0 < broker.ttl("a-user") <= 60


def test_of_many_requests_at_once_only_as_many_as_may_are_let_through(broker):
    waits: list[float] = []
    threads = [
        threading.Thread(target=lambda: waits.append(throttle.take("a-user", 5))) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(wait == 0 for wait in waits) == 5


def test_requests_are_let_through_while_valkey_is_away(erpnext, body, monkeypatch):
    away = redis.Redis(port=1, socket_connect_timeout=0.2)
    monkeypatch.setattr(throttle, "_client", lambda: away)

    assert erpnext.post(ADD, body, "json").status_code == 200


def test_browser_pages_of_known_origins_alone_may_call(client, settings):
    settings.CORS_ALLOWED_ORIGINS = ["https://dashboard.example"]
    asked = {"access-control-request-method": "POST"}

    known = client.options(ADD, headers={"origin": "https://dashboard.example", **asked})
    unknown = client.options(ADD, headers={"origin": "https://evil.example", **asked})
    page = client.options("/admin/", headers={"origin": "https://dashboard.example", **asked})

    assert known.headers["access-control-allow-origin"] == "https://dashboard.example"
    assert "idempotency-key" in known.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in unknown.headers
    assert "access-control-allow-origin" not in page.headers


# --- Vendors and accounts -------------------------------------------------------------------------


def test_vendor_is_deleted_with_its_accounts_unless_it_is_needed(admin_api, vendor, account):
    item = item_of(vendor)
    refused = admin_api.delete(f"/api/admin/vendors/{vendor.pk}")
    assert (refused.status_code, refused.json()["code"]) == (409, "VENDOR_IN_USE")
    assert type(account).objects.count() == 1

    item.delete()

    assert admin_api.delete(f"/api/admin/vendors/{vendor.pk}").status_code == 204
    assert Vendor.objects.count() == type(account).objects.count() == 0


def test_account_is_set_aside_unblocked_and_given_a_password(admin_api, account):
    path = f"/api/admin/accounts/{account.pk}"

    assert admin_api.put(path, {"is_blocked": True}, "json").json()["is_blocked"] is True
    changed = {"is_blocked": False, "email": "two@vendor.example", "password": "new"}
    answer = admin_api.put(path, changed, "json")

    assert (answer.status_code, answer.json()["email"]) == (200, "two@vendor.example")
    account.refresh_from_db()
    assert (account.is_blocked, account.password) == (False, "new")
    assert "new" not in answer.content.decode()


def test_account_that_is_needed_is_not_deleted(admin_api, vendor, account):
    line = CartItem.objects.create(
        vendor_account=account, queue_item=item_of(vendor), product_url=URL
    )
    path = f"/api/admin/accounts/{account.pk}"
    assert admin_api.delete(path).json()["code"] == "ACCOUNT_IN_USE"
    line.delete()
    account.held_by = Job.objects.create(
        workflow="cart_add",
        workflow_version=1,
        stage_sizes=[1],
        stage_open=1,
        weight_total=1,
        workspace_id=User.objects.first().workspace_id,
    )
    account.save()
    assert admin_api.delete(path).status_code == 409
    type(account).objects.update(held_by=None)

    assert admin_api.delete(path).status_code == 204


# --- However long the queue ----------------------------------------------------------------------


@pytest.fixture
def long_queue(vendor) -> Vendor:
    """As it is after a year: nearly all has ended long ago."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO cart_queue (id, user_id, vendor_id, product_url, product_data, status,
                attempts, max_attempts, error_code, created_at, updated_at)
            SELECT gen_random_uuid(), 'system', %s, 'https://vendor.example/p', '{}',
                CASE WHEN n %% 500 = 0 THEN 'pending' WHEN n %% 50 = 0 THEN 'failed'
                    ELSE 'completed' END,
                1, 3, '', now() - n * interval '10 minutes', now() - n * interval '10 minutes'
            FROM generate_series(1, 20000) AS n
            """,
            [vendor.pk],
        )
        cursor.execute("ANALYZE cart_queue")
    return vendor


def plan_of(rows) -> str:
    return rows.explain()


def test_no_list_and_no_number_reads_the_whole_queue(long_queue):
    week = timezone.now() - timedelta(days=7)
    queries = {
        "all": queue_reading.Query(),
        "status": queue_reading.Query(status="pending"),
        "vendor": queue_reading.Query(vendor_id=long_queue.pk),
        "both": queue_reading.Query(status="failed", vendor_id=long_queue.pk),
        "dates": queue_reading.Query(date_from=week),
        "dates and status": queue_reading.Query(status="failed", date_from=week),
        "old dates": queue_reading.Query(date_to=week - timedelta(days=60)),
    }
    last = QueueItem.objects.order_by("pk")[100].pk
    plans = {
        f"{name} {what}": plan
        for name, query in queries.items()
        for what, plan in {
            "first": plan_of(queue_reading.page_ids(query, limit=51)),
            "after": plan_of(queue_reading.page_ids(query, limit=51, after=last)),
        }.items()
    }
    plans["open"] = plan_of(queue_reading.open_counts())
    plans["ended"] = plan_of(queue_reading.ended_counts(timezone.now() - timedelta(days=1)))

    assert {name: plan for name, plan in plans.items() if "Seq Scan" in plan} == {}
    assert {name for name, plan in plans.items() if "Index" not in plan} == set()

"""POST /api/cart/add and GET /api/cart/status/{id}: the PRD's section 8.1, to the letter."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts.models import User
from jobs.models import Job, Step
from vendors.models import QueueItem, Vendor

ADD = "/api/cart/add"
UNKNOWN = "0198c0de-7a11-7000-8000-000000000404"
URL = "https://vendor.example/product/123"


@pytest.fixture
def body(vendor) -> dict:
    """The document's example."""
    return {
        "user_id": "system",
        "vendor_id": str(vendor.pk),
        "product_url": URL,
        "product_name": "Product Name",
        "product_data": {
            "price": 29.99,
            "quantity": 1,
            "variant": "Large",
            "erpnext_item_id": "ITEM-12345",
        },
    }


def test_request_is_queued_and_its_job_submitted(
    erpnext, body, vendor, django_capture_on_commit_callbacks
):
    asked_at = timezone.now()

    with django_capture_on_commit_callbacks() as sent:
        answer = erpnext.post(ADD, body, "json")

    assert answer.status_code == 200
    item = QueueItem.objects.get()
    estimate = answer.json()["estimated_completion"]
    assert answer.json() == {
        "success": True,
        "queue_id": str(item.pk),
        "status": "pending",
        "message": "Item queued for processing",
        "estimated_completion": estimate,
    }
    assert timedelta(seconds=25) < parse_datetime(estimate) - asked_at < timedelta(seconds=60)
    assert item.vendor == vendor
    assert item.user_id == "system"
    assert item.product_url == URL
    assert item.product_name == "Product Name"
    assert item.product_data == body["product_data"]
    assert item.created_by.username == "erpnext"
    assert item.job == Job.objects.get()
    assert item.job.created_by.username == "erpnext"
    assert Step.objects.filter(status="ready").count() == 1
    assert sent != []  # a worker is woken, and only after the commit


def test_only_vendor_and_url_are_needed(erpnext, vendor):
    answer = erpnext.post(ADD, {"vendor_id": str(vendor.pk), "product_url": URL}, "json")

    item = QueueItem.objects.get(pk=answer.json()["queue_id"])
    assert (item.user_id, item.product_name, item.product_data) == ("system", None, {})
    assert item.quantity == 1


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"quantity": 3}, {"quantity": 3}),
        ({"quantity": 3.0}, {"quantity": 3}),
        (
            {"variant": {"Colour": "Black", "Size": "L"}},
            {"variant": {"Colour": "Black", "Size": "L"}},
        ),
        ({"variant": None, "price": None}, {"variant": None, "price": None}),
        ({"price": 0}, {"price": 0.0}),
        ({"cost_centre": "Main", "tags": [1, {"a": None}]}, None),
        ({"erpnext_item_id": "Stift 'groß' 🖊"}, None),
        ({}, None),
    ],
)
def test_product_data_is_kept_with_the_callers_own_keys(erpnext, body, sent, kept):
    answer = erpnext.post(ADD, body | {"product_data": sent}, "json")

    assert answer.status_code == 200
    assert QueueItem.objects.get().product_data == (sent if kept is None else kept)


@pytest.mark.parametrize("key", ["product_data", "product_name"])
def test_null_is_as_good_as_left_out(erpnext, body, key):
    assert erpnext.post(ADD, body | {key: None}, "json").status_code == 200


def test_estimate_is_what_the_vendors_last_items_took(erpnext, body, vendor):
    created_at = timezone.now() - timedelta(hours=1)
    for seconds in (5, 15):
        QueueItem.objects.create(
            vendor=vendor,
            product_url=URL,
            status="completed",
            created_at=created_at,
            completed_at=created_at + timedelta(seconds=seconds),
        )

    estimate = erpnext.post(ADD, body, "json").json()["estimated_completion"]

    assert timedelta(seconds=9) < parse_datetime(estimate) - timezone.now() < timedelta(seconds=10)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"requires_captcha": True}, "captcha"),
        ({"can_automate": False}, "turned off"),
        ({"cart_url": None}, "cart_url"),
    ],
)
def test_vendor_that_cannot_be_automated_goes_to_a_person(erpnext, body, vendor, change, reason):
    Vendor.objects.update(**change)

    answer = erpnext.post(ADD, body, "json")

    assert answer.status_code == 200
    assert answer.json()["status"] == "manual_required"
    assert reason in answer.json()["message"]
    assert answer.json()["estimated_completion"] is None
    assert Job.objects.count() == 0


@pytest.mark.parametrize(
    "vendor_id", [UNKNOWN, "uuid", "", 5, -1, True, 1.5, [], {}, ["x"], "x" * 5000]
)
def test_unknown_vendor_is_the_documents_error(erpnext, body, nothing_happens, vendor_id):
    with nothing_happens():
        answer = erpnext.post(ADD, body | {"vendor_id": vendor_id}, "json")

    assert answer.status_code == 400
    assert answer.json()["success"] is False
    assert answer.json()["error"].startswith("Invalid vendor_id")
    assert answer.json()["code"] == "INVALID_VENDOR"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("", "INVALID_REQUEST"),
        ("   ", "INVALID_REQUEST"),
        (None, "INVALID_REQUEST"),
        ([], "INVALID_REQUEST"),
        ("vendor.example/product/1", "INVALID_PRODUCT_URL"),
        ("/product/1", "INVALID_PRODUCT_URL"),
        ("ftp://vendor.example/product/1", "INVALID_PRODUCT_URL"),
        ("javascript:alert(1)", "INVALID_PRODUCT_URL"),
        ("file:///etc/passwd", "INVALID_PRODUCT_URL"),
        ("https://", "INVALID_PRODUCT_URL"),
        ("https://[vendor.example/", "INVALID_PRODUCT_URL"),
        ("https://vendor.example:port/", "INVALID_PRODUCT_URL"),
        ("https://other.example/product/1", "FOREIGN_PRODUCT_URL"),
        ("https://vendor.example.evil.example/1", "FOREIGN_PRODUCT_URL"),
        ("https://evilvendor.example/1", "FOREIGN_PRODUCT_URL"),
        ("https://vendor.example@evil.example/1", "FOREIGN_PRODUCT_URL"),
        ("https://evil.example\\@vendor.example/1", "INVALID_PRODUCT_URL"),
        ("http://127.0.0.1/", "FOREIGN_PRODUCT_URL"),
        ("http://[::1]/", "FOREIGN_PRODUCT_URL"),
        ("https://vendor.example/" + "p" * 978, "URL_TOO_LONG"),
        ("https://vendor.example/" + "p" * 1_000_000, "URL_TOO_LONG"),
    ],
)
def test_url_that_is_not_the_vendors_is_refused(erpnext, body, nothing_happens, url, code):
    with nothing_happens():
        answer = erpnext.post(ADD, body | {"product_url": url}, "json")

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert "product_url" in answer.json()["error"]
    assert len(answer.json()["error"]) < 500


def test_url_of_a_thousand_characters_on_a_subdomain_is_taken(erpnext, body):
    url = "http://www.vendor.example:8080/"
    url += "p" * (1000 - len(url))

    assert erpnext.post(ADD, body | {"product_url": url}, "json").status_code == 200
    assert QueueItem.objects.get().product_url == url


@pytest.mark.parametrize(
    "quantity", [0, -1, 1.5, "3", "three", "", True, False, None, [], {}, 1e308, 10**400, 1_000_001]
)
def test_quantity_that_is_no_number_from_one_up_is_refused(
    erpnext, body, nothing_happens, quantity
):
    body["product_data"] = {"quantity": quantity}

    with nothing_happens():
        answer = erpnext.post(ADD, body, "json")

    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert "product_data.quantity" in answer.json()["error"]


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ("large", "product_data"),
        ([], "product_data"),
        (["large"], "product_data"),
        (5, "product_data"),
        (True, "product_data"),
        ({"price": -1}, "product_data.price"),
        ({"price": "29.99"}, "product_data.price"),
        ({"price": "inf"}, "product_data.price"),
        ({"price": True}, "product_data.price"),
        ({"variant": 5}, "product_data.variant"),
        ({"variant": ["L"]}, "product_data.variant"),
        ({"variant": {"Size": {"is": "L"}}}, "product_data.variant"),
        ({"variant": {"Size": None}}, "product_data.variant"),
        ({"erpnext_item_id": {}}, "product_data.erpnext_item_id"),
        ({"erpnext_item_id": "x" * 256}, "product_data.erpnext_item_id"),
    ],
)
def test_product_data_of_the_wrong_kind_is_refused(erpnext, body, nothing_happens, data, where):
    with nothing_happens():
        answer = erpnext.post(ADD, body | {"product_data": data}, "json")

    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert where in answer.json()["fields"]
    assert where in answer.json()["error"]


@pytest.mark.parametrize("missing", ["vendor_id", "product_url"])
def test_what_is_needed_is_named_when_it_is_missing(erpnext, body, nothing_happens, missing):
    del body[missing]

    with nothing_happens():
        answer = erpnext.post(ADD, body, "json")

    assert answer.status_code == 400
    assert answer.json()["error"] == f"{missing}: This field is required."


def test_all_that_is_wrong_is_said_at_once(erpnext, body):
    body |= {"user_id": "x" * 65, "product_name": "x" * 501, "product_data": {"quantity": 0}}

    answer = erpnext.post(ADD, body, "json")

    assert set(answer.json()["fields"]) == {"user_id", "product_name", "product_data.quantity"}


def test_nobody_is_not_let_in(client, body, nothing_happens):
    with nothing_happens():
        answer = client.post(ADD, body, content_type="application/json")

    assert answer.status_code == 401
    assert answer.json()["code"] == "NOT_AUTHENTICATED"
    assert "Authorization: token KEY:SECRET" in answer.json()["error"]


def test_request_costs_few_queries(erpnext, body, django_assert_max_num_queries):
    erpnext.post(ADD, body, "json")  # notes the key's use

    # The key, the vendor, four inserts, two savepoints (4), the estimate.
    with django_assert_max_num_queries(11):
        erpnext.post(ADD, body, "json")


def test_status_has_the_documents_keys_and_no_others(erpnext, vendor, django_assert_num_queries):
    created_at = datetime.fromisoformat("2025-12-02T10:25:00Z")
    item = QueueItem.objects.create(
        vendor=vendor,
        product_url=URL,
        product_name="Product Name",
        status="completed",
        attempts=1,
        created_by=User.objects.get(username="erpnext"),
        created_at=created_at,
        completed_at=created_at + timedelta(seconds=30),
    )
    erpnext.get(f"/api/cart/status/{item.pk}")

    with django_assert_num_queries(2):  # the key, the item with its vendor
        answer = erpnext.get(f"/api/cart/status/{item.pk}")

    assert answer.status_code == 200
    assert answer.json() == {
        "id": str(item.pk),
        "status": "completed",
        "product_name": "Product Name",
        "vendor_name": "Vendor Co",
        "attempts": 1,
        "created_at": "2025-12-02T10:25:00Z",
        "completed_at": "2025-12-02T10:25:30Z",
        "error_message": None,
    }


def test_status_of_a_failed_item_says_why(erpnext, vendor):
    item = QueueItem.objects.create(
        vendor=vendor,
        product_url=URL,
        status="failed",
        error_message="It is out of stock.",
        created_by=User.objects.get(username="erpnext"),
    )

    answer = erpnext.get(f"/api/cart/status/{item.pk}").json()

    assert (answer["status"], answer["error_message"]) == ("failed", "It is out of stock.")
    assert answer["completed_at"] is None


@pytest.mark.parametrize("item_id", [UNKNOWN, "uuid", "1", UNKNOWN + "0", "%00", "ä", "a b"])
def test_unknown_item_is_not_found(erpnext, item_id):
    answer = erpnext.get(f"/api/cart/status/{item_id}")

    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert "check the id" in answer.json()["error"]


def test_status_is_for_staff_and_for_who_asked(erpnext, admin_api, vendor):
    item = QueueItem.objects.create(vendor=vendor, product_url=URL)  # somebody else's

    assert admin_api.get(f"/api/cart/status/{item.pk}").status_code == 200
    assert erpnext.get(f"/api/cart/status/{item.pk}").status_code == 404


def test_status_is_not_for_nobody(client, vendor):
    item = QueueItem.objects.create(vendor=vendor, product_url=URL)

    assert client.get(f"/api/cart/status/{item.pk}").status_code == 401


def test_slash_at_the_end_is_forgiven(erpnext, body):
    queued = erpnext.post(f"{ADD}/", body, "json")

    assert queued.status_code == 200
    assert UUID(queued.json()["queue_id"])
    assert erpnext.get(f"/api/cart/status/{queued.json()['queue_id']}/").status_code == 200

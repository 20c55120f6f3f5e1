"""POST /api/erpnext/webhook: what a stock ERPNext webhook sends, queued once, or refused so that
its Webhook Request Log says why."""

import base64
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection as database
from rest_framework.test import APIClient

from accounts.models import User
from jobs.models import Job
from jobs.webhooks.deliveries import Message
from jobs.webhooks.posting import sign
from tests.audited import acts, trail_holds
from tests.vendors.frappe import as_version_15, as_version_17
from vendors.models import ErpnextConnection, ErpnextLine, QueueItem, Vendor

PATH = "/api/erpnext/webhook"
SECRET = "the-secret-of-the-webhook"
UNKNOWN = "0198c0de-7a11-7000-8000-000000000404"
FORM = "application/x-www-form-urlencoded"
PEN = {
    "name": "8f1c2d3e4a",
    "item_code": "PEN-1",
    "item_name": "Gel pen, “black”",
    "qty": 3.0,
    "rate": 1.25,
    "product_url": "https://vendor.example/pen",
}
BOX = {
    "name": "9a0b1c2d3e",
    "item_code": "BOX",
    "qty": 1,
    "product_url": "https://vendor.example/b",
}
DOCUMENT = {"name": "MAT-REQ-2025-00001", "items": [PEN, BOX]}


@pytest.fixture
def connection(db) -> ErpnextConnection:
    return connection_to("https://erp.example")


def connection_to(url: str, **fields) -> ErpnextConnection:
    user = User.objects.create_user("site")
    return ErpnextConnection.objects.create(
        name="ERP",
        user=user,
        workspace=user.workspace,
        site_url=url,
        webhook_secret=SECRET,
        **fields,
    )


def send(connection, data, sign=as_version_15, secret=SECRET, content_type=None, **extra):
    """As Frappe posts it: the signature and the type are what its form says, and nothing else."""
    webhook = sign(data, secret, content_type)
    headers = {
        f"HTTP_{name.upper().replace('-', '_')}": value for name, value in webhook.headers.items()
    }
    sent_type = headers.pop("HTTP_CONTENT_TYPE", "")
    path = f"{PATH}?connection={connection.pk}"
    return APIClient().generic("POST", path, webhook.body, sent_type, **{**headers, **extra})


def code_of(answer) -> tuple[int, str]:
    body = answer.json()
    assert body["success"] is False
    return answer.status_code, body["code"]


@pytest.mark.parametrize("sign", [as_version_15, as_version_17])
@pytest.mark.parametrize("content_type", [None, "application/json", FORM])
def test_every_row_of_a_document_is_queued(connection, vendor, sign, content_type):
    answer = send(connection, DOCUMENT, sign, content_type=content_type)

    assert answer.status_code == 200, answer.content
    pen, box = QueueItem.objects.order_by("id")
    assert answer.json() == {
        "success": True,
        "items": [
            {
                "row": row,
                "queue_id": str(item.pk),
                "status": "pending",
                "is_new": True,
                "message": "Item queued for processing",
            }
            for row, item in (("8f1c2d3e4a", pen), ("9a0b1c2d3e", box))
        ],
    }
    assert pen.user_id == "erpnext"
    assert pen.vendor == vendor
    assert pen.product_url == "https://vendor.example/pen"
    assert pen.product_name == "Gel pen, “black”"
    assert pen.product_data == {
        "quantity": 3,
        "price": 1.25,
        "item_code": "PEN-1",
        "erpnext_item_id": "MAT-REQ-2025-00001/8f1c2d3e4a",
    }
    assert pen.created_by == connection.user
    assert Job.objects.count() == 2


def test_same_webhook_again_queues_nothing_and_answers_with_what_is_queued(
    connection, vendor, nothing_happens
):
    first = send(connection, DOCUMENT).json()

    with nothing_happens():
        again = send(connection, DOCUMENT).json()

    assert [row["queue_id"] for row in again["items"]] == [
        row["queue_id"] for row in first["items"]
    ]
    assert [row["is_new"] for row in again["items"]] == [False, False]
    assert {row["message"] for row in again["items"]} == {"This row was queued before."}


def test_row_that_is_added_later_is_queued_alone(connection, vendor):
    send(connection, {**DOCUMENT, "items": [PEN]})

    answer = send(connection, DOCUMENT).json()

    assert [row["is_new"] for row in answer["items"]] == [False, True]
    assert QueueItem.objects.count() == 2


def test_row_that_asks_for_something_else_now_is_not_queued_again_and_is_told_so(
    connection, vendor, nothing_happens
):
    send(connection, {**DOCUMENT, "items": [PEN]})

    with nothing_happens():
        answer = send(connection, {**DOCUMENT, "items": [{**PEN, "qty": 5}]})

    assert "asked for something else" in answer.json()["items"][0]["message"]
    assert QueueItem.objects.get().quantity == 3


def test_same_names_at_another_site_are_other_requests(connection, vendor):
    other = ErpnextConnection.objects.create(
        name="Other",
        user=connection.user,
        workspace=connection.workspace,
        site_url="https://other.example",
        webhook_secret="another",
    )
    send(connection, DOCUMENT)

    answer = send(other, DOCUMENT, secret="another")

    assert [row["is_new"] for row in answer.json()["items"]] == [True, True]
    assert QueueItem.objects.count() == 4


@pytest.mark.django_db(transaction=True)
def test_same_webhook_many_times_at_once_queues_each_row_once(connection, vendor):
    def post(_):
        try:
            return send(connection, DOCUMENT)
        finally:
            database.close()

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(post, range(6)))

    assert [answer.status_code for answer in answers] == [200] * 6
    new = [row["is_new"] for answer in answers for row in answer.json()["items"]]
    assert new.count(True) == 2
    assert (QueueItem.objects.count(), Job.objects.count(), ErpnextLine.objects.count()) == (
        2,
        2,
        2,
    )


def test_document_that_is_the_request_itself_is_mapped_as_its_connection_says(connection, vendor):
    connection.body_keys = {"document": "id", "product_url": "url", "quantity": "pieces"}
    connection.save()

    answer = send(
        connection,
        {
            "id": "TASK-1",
            "url": "https://vendor.example/pen",
            "pieces": "2.0",
            "vendor": "Vendor Co",
        },
    )

    assert [row["row"] for row in answer.json()["items"]] == [""]
    item = QueueItem.objects.get()
    assert item.product_data == {"quantity": 2, "erpnext_item_id": "TASK-1"}


@pytest.mark.parametrize("called", ["vendor.example", "VENDOR CO", "id", None])
def test_vendor_is_found_by_id_domain_name_or_the_products_host(connection, vendor, called):
    Vendor.objects.create(name="Another", domain="example")
    called = str(vendor.pk) if called == "id" else called

    answer = send(connection, {**DOCUMENT, "vendor": called})

    assert answer.status_code == 200, answer.content
    assert {item.vendor for item in QueueItem.objects.all()} == {vendor}


@pytest.mark.parametrize(
    "spoil",
    [
        {"secret": "another-secret"},
        {"HTTP_X_FRAPPE_WEBHOOK_SIGNATURE": ""},
        {"HTTP_X_FRAPPE_WEBHOOK_SIGNATURE": "ü" * 44},
    ],
)
def test_body_that_nobody_known_has_signed_is_refused(connection, vendor, nothing_happens, spoil):
    with nothing_happens():
        answer = send(connection, DOCUMENT, **spoil)

    assert code_of(answer) == (401, "INVALID_SIGNATURE")
    assert "Enable Security" in answer.json()["error"]


def test_changed_body_is_refused(connection, vendor, nothing_happens):
    webhook = as_version_15(DOCUMENT, SECRET)
    signature = webhook.headers["X-Frappe-Webhook-Signature"]

    with nothing_happens():
        answer = APIClient(headers={"x-frappe-webhook-signature": signature}).generic(
            "POST", f"{PATH}?connection={connection.pk}", webhook.body.replace(b"3.0", b"9.0")
        )

    assert code_of(answer) == (401, "INVALID_SIGNATURE")


def test_connection_that_is_off_or_unknown_takes_nothing(connection, vendor, nothing_happens):
    connection.is_active = False
    connection.save()

    with nothing_happens():
        off = send(connection, DOCUMENT)
        connection.pk = UNKNOWN
        unknown = send(connection, DOCUMENT)
        connection.pk = "nonsense"
        nonsense = send(connection, DOCUMENT)

    assert {code_of(each) for each in (off, unknown, nonsense)} == {(401, "INVALID_SIGNATURE")}


def test_url_without_a_connection_says_what_to_copy(db):
    answer = APIClient().post(PATH, DOCUMENT, "json")

    assert code_of(answer) == (400, "INVALID_REQUEST")
    assert "?connection=" in answer.json()["error"]


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        ({"items": [PEN]}, "INVALID_REQUEST", "name must be the name that Frappe gave it"),
        ({**DOCUMENT, "items": {}}, "INVALID_REQUEST", "items must be a list"),
        ({**DOCUMENT, "items": [PEN, 1]}, "INVALID_REQUEST", "items[1]: A row must be an object."),
        ({**DOCUMENT, "items": [PEN, PEN]}, "INVALID_REQUEST", "Two rows have the same name"),
        (
            {**DOCUMENT, "items": [PEN, {**BOX, "product_url": "https://unknown.example/"}]},
            "INVALID_VENDOR",
            "items[1]: No vendor has this product_url's host",
        ),
        (
            {**DOCUMENT, "items": [PEN, {**BOX, "vendor": "Nobody"}]},
            "INVALID_VENDOR",
            "items[1]: No vendor has the id, domain or name 'Nobody'",
        ),
        (
            {**DOCUMENT, "items": [PEN, {**BOX, "qty": 1.5}]},
            "INVALID_REQUEST",
            "product_data.quantity must be a whole number",
        ),
        (
            {
                **DOCUMENT,
                "vendor": "Vendor Co",
                "items": [{**PEN, "product_url": "https://a.example/"}],
            },
            "FOREIGN_PRODUCT_URL",
            "items[0]: product_url is on a.example",
        ),
        ([PEN], "INVALID_REQUEST", "must be a JSON object"),
    ],
)
def test_document_that_cannot_be_queued_is_refused_as_a_whole(
    connection, vendor, nothing_happens, data, code, says
):
    with nothing_happens():
        answer = send(connection, data)

    assert code_of(answer) == (400, code)
    assert says in answer.json()["error"]
    assert ErpnextLine.objects.count() == 0


def test_body_that_is_no_json_is_refused(connection, nothing_happens):
    with nothing_happens():
        answer = send(connection, None, lambda *_: as_version_15("", SECRET))

    assert code_of(answer) == (400, "INVALID_REQUEST")


def test_vendor_that_needs_a_person_is_said_in_the_answer(connection, vendor):
    vendor.requires_captcha = True
    vendor.save()

    (row,) = send(connection, {**DOCUMENT, "items": [PEN]}).json()["items"]

    assert row["status"] == "manual_required"
    assert row["message"] == "Vendor Co requires a captcha; a person adds its items."


def test_use_of_the_secret_is_noted_and_the_secret_is_not(connection, vendor):
    send(connection, DOCUMENT)

    assert acts(connection) == ["created", "used"]
    assert not trail_holds(SECRET)
    assert SECRET not in json.dumps(list(ErpnextConnection.objects.values()), default=str)


def test_line_outlives_its_item(connection, vendor):
    """As when the item goes to the archive: the webhook that comes again queues nothing."""
    send(connection, {**DOCUMENT, "items": [PEN]})
    QueueItem.objects.all().delete()

    (row,) = send(connection, {**DOCUMENT, "items": [PEN]}).json()["items"]

    assert (row["queue_id"], row["is_new"]) == (None, False)
    assert QueueItem.objects.count() == 0


def test_document_of_which_no_row_asks_for_a_product_queues_nothing(connection, nothing_happens):
    with nothing_happens():
        answer = send(connection, {**DOCUMENT, "items": []})

    assert (answer.status_code, answer.json()) == (200, {"success": True, "items": []})


# ---- what docs/erpnext.md has to be copied ------------------------------------------------------


def block_of_the_docs(language: str, begins: str) -> str:
    text = (Path(settings.BASE_DIR) / "docs" / "erpnext.md").read_text()
    (block,) = (
        block.partition("```")[0]
        for block in text.split(f"```{language}\n")[1:]
        if block.startswith(begins)
    )
    return block


def test_template_of_the_docs_makes_what_is_queued(connection, vendor):
    """As Frappe renders it: `doc` is a dict, and the filter `json` is Frappe's own."""
    environment = jinja2.Environment(autoescape=False)
    environment.filters["json"] = lambda value: json.dumps(value, indent=1, sort_keys=True)
    rows = [
        {
            "name": name,
            "item_code": "PEN",
            "item_name": 'A "pen"',
            "qty": 2.0,
            "custom_product_url": url,
        }
        for name, url in (
            ("a1", "https://vendor.example/a"),
            ("b2", None),
            ("c3", "https://vendor.example/c"),
        )
    ]

    rendered = environment.from_string(block_of_the_docs("jinja", "{")).render(
        doc={"name": "MAT-REQ-2025-00002", "items": rows}
    )
    answer = send(connection, json.loads(rendered))

    assert [row["row"] for row in answer.json()["items"]] == ["a1", "c3"]
    assert [item.product_name for item in QueueItem.objects.all()] == ['A "pen"', 'A "pen"']
    assert {item.quantity for item in QueueItem.objects.all()} == {2}


@pytest.mark.parametrize("is_changed", [False, True])
def test_function_of_the_docs_takes_our_webhooks_and_no_others(monkeypatch, is_changed):
    secret = "whsec_" + base64.b64encode(b"s" * 32).decode()
    body = json.dumps({"data": {"job": {"title": "Add", "status": "completed"}}})
    message = Message("msg_1", 1, 1, "", datetime.now(UTC), secrets=[secret], body=body)
    queued = []

    def throw(text, kind):
        raise kind(text)

    frappe = SimpleNamespace(
        whitelist=lambda **_: lambda function: function,
        conf=SimpleNamespace(cartwright_webhook_secret=secret),
        request=SimpleNamespace(
            headers=sign(message, datetime.now(UTC)),
            get_data=lambda: body.replace(
                "completed", "failed" if is_changed else "completed"
            ).encode(),
        ),
        parse_json=json.loads,
        enqueue=lambda method, **options: queued.append(options["job"]),
        throw=throw,
        AuthenticationError=PermissionError,
    )
    monkeypatch.setitem(sys.modules, "frappe", frappe)
    code: dict = {}
    exec(block_of_the_docs("python", "import base64"), code)

    if is_changed:
        with pytest.raises(PermissionError, match="Wrong signature"):
            code["cartwright"]()
        assert queued == []
    else:
        code["cartwright"]()
        assert queued == [{"title": "Add", "status": "completed"}]


def test_operation_is_documented(db, capsys):
    call_command("spectacular", "--validate")

    assert "/api/erpnext/webhook:" in capsys.readouterr().out

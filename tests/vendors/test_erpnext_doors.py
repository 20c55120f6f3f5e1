"""One ERPNext item that comes by several doors, REST and webhook, is one item; a long document is
queued in as few statements as a short one."""

from dataclasses import replace

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from jobs.models import Job
from tests.jobs.rivals import elsewhere, just_before
from tests.vendors.conftest import client_with_key
from tests.vendors.test_erpnext_receiving import BOX, DOCUMENT, PEN, connection_to, send
from vendors import statements
from vendors.erpnext import receiving
from vendors.models import ErpnextConnection, ErpnextLine, QueueItem

ADD = "/api/cart/add"
PEN_ID = "MAT-REQ-2025-00001/8f1c2d3e4a"
ONE_ROW = {**DOCUMENT, "items": [PEN]}


@pytest.fixture
def connection(db) -> ErpnextConnection:
    return connection_to("https://erp.example")


def ask_over_rest(connection, vendor, quantity=3):
    """As a script of the site asks, with a name of its own for the product."""
    body = {
        "vendor_id": str(vendor.pk),
        "product_url": PEN["product_url"],
        "product_name": "Pen",
        "product_data": {"quantity": quantity, "erpnext_item_id": PEN_ID},
    }
    return client_with_key(connection.user).post(ADD, body, "json")


def test_item_that_came_over_rest_is_the_rows_item(connection, vendor, nothing_happens):
    queue_id = ask_over_rest(connection, vendor).json()["queue_id"]

    with nothing_happens():
        (row,) = send(connection, ONE_ROW).json()["items"]

    assert (row["queue_id"], row["is_new"]) == (queue_id, False)
    assert row["message"] == "This row was queued before."
    assert str(ErpnextLine.objects.get().queue_item_id) == queue_id


def test_item_of_a_row_is_answered_over_rest(connection, vendor, nothing_happens):
    (row,) = send(connection, ONE_ROW).json()["items"]

    with nothing_happens():
        answer = ask_over_rest(connection, vendor)

    assert answer.json()["queue_id"] == row["queue_id"]
    assert answer.headers["Idempotent-Replayed"] == "true"


def test_row_is_told_that_another_quantity_came_over_rest(connection, vendor, nothing_happens):
    ask_over_rest(connection, vendor, quantity=5)

    with nothing_happens():
        first, again = (send(connection, ONE_ROW).json()["items"][0] for _ in range(2))

    assert "asked for something else" in first["message"]
    assert again == first
    assert QueueItem.objects.get().quantity == 5


def test_another_quantity_over_rest_is_a_conflict(connection, vendor, nothing_happens):
    send(connection, ONE_ROW)

    with nothing_happens():
        answer = ask_over_rest(connection, vendor, quantity=5)

    assert (answer.status_code, answer.json()["code"]) == (409, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.django_db(transaction=True)
def test_row_meets_the_same_item_that_comes_over_rest_at_that_moment(
    connection, vendor, monkeypatch
):
    rest = []
    just_before(
        monkeypatch,
        statements,
        "queue_items",
        lambda: rest.append(ask_over_rest(connection, vendor).json()["queue_id"]),
    )

    rows = send(connection, DOCUMENT).json()["items"]

    assert [row["is_new"] for row in rows] == [False, True]
    assert rows[0]["queue_id"] == rest[0]
    assert (QueueItem.objects.count(), Job.objects.count()) == (2, 2)


@pytest.mark.django_db(transaction=True)
def test_without_the_key_it_would_be_bought_twice(connection, vendor, monkeypatch):
    """The twin of the test before."""
    real = receiving.check_requests
    monkeypatch.setattr(
        receiving,
        "check_requests",
        lambda *asked: [replace(request, idempotency_key=None) for request in real(*asked)],
    )
    just_before(monkeypatch, statements, "queue_items", lambda: ask_over_rest(connection, vendor))

    send(connection, DOCUMENT)

    assert QueueItem.objects.filter(product_url=PEN["product_url"]).count() == 2


@pytest.mark.django_db(transaction=True)
def test_two_documents_with_rows_in_opposite_orders_do_not_wait_for_each_other(connection, vendor):
    """Of the same document, whose two webhooks name its rows the other way round."""
    answers = elsewhere(
        *(
            lambda items=items: send(connection, {**DOCUMENT, "items": items}).status_code
            for items in ([PEN, BOX], [BOX, PEN]) * 3
        )
    )

    assert answers == [200] * 6
    assert QueueItem.objects.count() == 2


def test_other_sites_item_of_the_same_name_is_another(connection, vendor):
    other = ErpnextConnection.objects.create(
        name="Other",
        user=connection.user,
        workspace=connection.workspace,
        site_url="https://other.example",
        webhook_secret="another",
    )
    send(connection, ONE_ROW)

    first = send(other, ONE_ROW, secret="another").json()["items"][0]
    again = send(other, ONE_ROW, secret="another").json()["items"][0]

    assert (first["is_new"], again["is_new"]) == (True, False)
    assert first["queue_id"] == again["queue_id"]
    assert QueueItem.objects.count() == 2


def test_long_document_costs_as_many_statements_as_a_short_one(connection, vendor):
    def count_statements(name: str, rows: int) -> int:
        items = [{**PEN, "name": f"{name}-{number}"} for number in range(rows)]
        with CaptureQueriesContext(database) as captured:
            answer = send(connection, {"name": name, "items": items})
        assert answer.status_code == 200
        assert len(answer.json()["items"]) == rows
        return len(captured)

    count_statements("MAT-REQ-0", 1)

    assert count_statements("MAT-REQ-1", 20) == count_statements("MAT-REQ-2", 2) <= 13
    assert Job.objects.count() == 23


def test_item_of_another_user_is_another(connection, vendor):
    """A key is its caller's: nobody learns of, or stands in the way of, what others asked for."""
    send(connection, ONE_ROW)
    connection.user = User.objects.create_user("somebody-else")

    assert ask_over_rest(connection, vendor).status_code == 200
    assert QueueItem.objects.count() == 2

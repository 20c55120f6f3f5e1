"""What programs ask in numbers is answered in one thread each, and no otherwise than by Django's
own handler: the same middlewares, refusals, and names in the audit trail."""

# ruff: noqa: F401, F811  fixtures come by import

import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from auditlog.models import LogEntry
from django.db import connection

from jobs.models import Job
from tests.live_site import LiveSite, alice, live_site, make_key
from tests.vendors.conftest import account, vendor
from tests.waiting import wait_until
from vendors.models import QueueItem, VendorAccount

pytestmark = pytest.mark.django_db(transaction=True)

ADD = "/api/cart/add"


@pytest.fixture
def client(live_site, alice):
    headers = {"Authorization": f"token {make_key(alice)}"}
    with httpx.Client(base_url=live_site.url, headers=headers) as client:
        yield client


def body_for(vendor, number=1) -> dict:
    return {"vendor_id": str(vendor.pk), "product_url": f"https://vendor.example/{number}"}


def test_request_is_answered_and_queued(client, vendor):
    answer = client.post(ADD, json=body_for(vendor))

    assert answer.status_code == 200, answer.text
    assert answer.json()["queue_id"] == str(QueueItem.objects.get().pk)


def test_answer_has_been_through_the_same_middlewares_as_others(client, live_site, settings):
    asked = {"Origin": "https://dashboard.example", "X-Request-ID": "a-request-of-mine"}

    short = client.get("/api/cart/status/nothing", headers=asked)
    other = client.get("/api/jobs/nothing", headers=asked)

    assert (short.status_code, short.headers["X-Request-ID"]) == (404, "a-request-of-mine")
    assert short.headers["X-Frame-Options"] == "DENY"
    assert set(short.headers) == set(other.headers)


@pytest.mark.parametrize("path", ["/api/cart/nothing", "/api/admin/nothing", "/api/cart/add"])
def test_refusals_are_the_apis(client, path):
    answer = client.get(path)

    assert answer.status_code in (404, 405)
    assert answer.json()["success"] is False


def test_error_of_ours_says_nothing_of_itself(client, vendor, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr("vendors.api.views.check_cart_add", fail)

    answer = client.post(ADD, json=body_for(vendor))

    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL_ERROR")
    assert "hunter2" not in answer.text


def test_who_acts_and_from_where_is_noted(client, account):
    path = f"/api/admin/accounts/{account.pk}"

    assert client.put(path, json={"password": "another-one"}).status_code == 200

    entry = LogEntry.objects.filter(object_pk=str(account.pk)).first()
    assert (entry.actor.username, entry.remote_addr) == ("alice", "127.0.0.1")
    assert entry.additional_data["through"].startswith("API key test")


def test_many_at_once_are_each_answered_with_their_own(client, vendor):
    def ask(number):
        answer = client.post(ADD, json=body_for(vendor, number)).json()
        return answer["queue_id"], f"https://vendor.example/{number}"

    with ThreadPoolExecutor(16) as threads:
        asked = list(threads.map(ask, range(48)))

    assert {
        (str(pk), url) for pk, url in QueueItem.objects.values_list("pk", "product_url")
    } == set(asked)
    assert Job.objects.count() == 48


def test_connections_go_back_to_the_pool(client, vendor):
    def taken() -> int:
        stats = connection.pool.get_stats()
        return stats["pool_size"] - stats["pool_available"]

    before = taken()
    for number in range(12):  # more than there are threads
        client.post(ADD, json=body_for(vendor, number))

    wait_until(lambda: taken() <= before)


def test_caller_who_goes_away_amid_a_request_is_nobodys_error(client, live_site, vendor, caplog):
    with socket.create_connection(("127.0.0.1", live_site.port)) as caller:
        caller.sendall(
            b"POST /api/cart/add HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"
        )

    assert client.post(ADD, json=body_for(vendor)).status_code == 200
    assert "error" not in caplog.text.lower()
    assert QueueItem.objects.count() == 1

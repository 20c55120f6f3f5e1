"""What an ERPNext site is told of its lines: by the change itself, until it has taken it, over its
REST API, by a stand-in that checks keys and documents as Frappe does."""

import asyncio
import threading
from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client

from accounts.models import User
from jobs import control, duties, live
from jobs.webhooks.deliveries import DELAYS, Answer
from tests.audited import acts, trail_holds
from tests.vendors.frappe import CANCELLED, DRAFT, SUBMITTED, frappe_site
from tests.vendors.test_erpnext_receiving import DOCUMENT, PEN, connection_to, send
from tests.waiting import wait_until
from vendors.erpnext import updates
from vendors.erpnext.sending import BackgroundTeller, Putter, tell
from vendors.erpnext.updates import claim_due, record, record_known
from vendors.models import ErpnextConnection, ErpnextLine, QueueItem

ROW = "Material Request Item"
KEY, API_SECRET = "key-of-cartwright", "secret-of-cartwright"
DELIVERED, PENDING, FAILED = "delivered", "pending", "failed"


@pytest.fixture(autouse=True)
def _hints_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.messenger, "post", lambda *_, **__: None)


@pytest.fixture
def site():
    with frappe_site() as site:
        yield site


@pytest.fixture
def connection(db, site) -> ErpnextConnection:
    return connection_to(
        site.url, is_local=True, sends_updates=True, api_key=KEY, api_secret=API_SECRET
    )


@pytest.fixture
def line(connection, vendor) -> ErpnextLine:
    """A row that asked for a pen; nothing was told yet."""
    assert send(connection, {**DOCUMENT, "items": [PEN]}).status_code == 200
    return ErpnextLine.objects.get()


@pytest.fixture
def row(site):
    return site.add(ROW, PEN["name"], SUBMITTED, qty=3)


def tell_due() -> list[Answer | None]:
    """One round of the sender; None for what did not have to be sent."""

    async def put(update):
        async with Putter(allow_private=True) as local, Putter(allow_private=False) as public:
            return await tell(update, local, public)

    answers = []
    for update in claim_due(10):
        if update.is_known:
            record_known(update)
            answers.append(None)
        else:
            answers.append(asyncio.run(put(update)))
            assert record(update, answers[-1])
    return answers


def change(line: ErpnextLine, status: str, message: str | None = None) -> None:
    QueueItem.objects.filter(pk=line.queue_item_id).update(status=status, error_message=message)


def state(line: ErpnextLine) -> tuple[str, int | None, str]:
    line.refresh_from_db()
    return line.status, line.response_status, line.error


def let_it_be_due(line: ErpnextLine) -> None:
    ErpnextLine.objects.filter(pk=line.pk).update(due_at=Now() - timedelta(seconds=1))


def test_row_is_told_that_it_is_queued_and_what_became_of_it(site, line, row):
    tell_due()
    assert row.fields["custom_cart_status"] == "pending"

    change(line, "failed", "Sold out.")
    (answer,) = tell_due()

    assert answer.status == 200
    assert row.fields == {
        "custom_cart_status": "failed",
        "custom_cart_message": "Sold out.",
        "qty": 3,
    }
    assert state(line) == (DELIVERED, 200, "")
    assert site.calls == [("PUT", "/api/resource/Material%20Request%20Item/8f1c2d3e4a")] * 2
    assert set(site.authorizations) == {f"token {KEY}:{API_SECRET}"}


def test_job_that_is_cancelled_is_told_as_well(line, row):
    tell_due()

    control.cancel_job(line.queue_item.job_id, by="alice")
    tell_due()

    assert row.fields["custom_cart_status"] == "failed"


def test_change_that_is_rolled_back_tells_nothing(line, row):
    tell_due()

    with transaction.atomic():
        change(line, "completed")
        transaction.set_rollback(True)

    assert claim_due(10) == []
    assert state(line)[0] == DELIVERED


def test_change_of_something_else_than_the_status_tells_nothing(line, row):
    tell_due()

    QueueItem.objects.update(attempts=2, status=F("status"))

    assert claim_due(10) == []


def test_status_that_went_back_to_what_was_told_is_not_sent_again(site, line, row):
    tell_due()

    change(line, "processing")
    change(line, "pending")

    assert tell_due() == [None]
    assert state(line)[0] == DELIVERED
    assert len(row.saves) == 1


def test_whole_document_can_be_told(site, line, connection):
    connection.update_target, connection.update_doctype = "document", "Material Request"
    connection.save()
    document = site.add("Material Request", "MAT-REQ-2025-00001", DRAFT)

    tell_due()

    assert document.fields["custom_cart_status"] == "pending"


def test_name_with_any_signs_is_found(site, connection, vendor):
    site.add(ROW, "A/1 ü?#%", DRAFT)
    send(connection, {**DOCUMENT, "items": [{**PEN, "name": "A/1 ü?#%"}]})

    (answer,) = tell_due()

    assert answer.status == 200


@pytest.mark.parametrize(
    ("spoil", "status", "says"),
    [
        (lambda site, row: site.keys.update({KEY: "new"}), 401, "The API key or secret is wrong"),
        (lambda site, row: site.writers.clear(), 403, "give it a role that may"),
        (lambda site, row: site.documents.clear(), 404, "The document is not there"),
        (lambda site, row: setattr(row, "after_submit", frozenset()), 417, "tick Allow on Submit"),
        (lambda site, row: setattr(row, "docstatus", CANCELLED), 417, "own validation refused it"),
        (lambda site, row: setattr(site, "fails_with", 503), 503, "The site answered 503"),
    ],
)
def test_refusal_says_what_to_do_and_is_tried_again(site, line, row, spoil, status, says):
    spoil(site, row)

    tell_due()

    assert state(line)[:2] == (PENDING, status)
    assert says in line.error
    assert line.history[0]["status"] == status
    assert claim_due(10) == []
    wait = ErpnextLine.objects.annotate(wait=F("due_at") - Now()).get().wait
    assert timedelta(seconds=3) < wait < timedelta(seconds=6)


def test_update_that_failed_is_delivered_when_the_site_is_back(site, line, row):
    site.fails_with = 503
    tell_due()
    site.fails_with = None
    let_it_be_due(line)

    tell_due()

    assert state(line) == (DELIVERED, 200, "")
    assert [attempt["status"] for attempt in line.history] == [503, 200]


def test_it_has_failed_when_its_schedule_is_over_and_is_sent_again_by_a_person(site, line, row):
    site.fails_with = 503
    for _ in range(len(DELAYS) + 1):
        let_it_be_due(line)
        tell_due()
    assert state(line)[0] == FAILED
    site.fails_with = None

    assert updates.send_again(line)
    tell_due()

    assert state(line)[0] == DELIVERED
    assert acts(line) == ["sent_again"]


def test_change_while_it_is_told_is_told_afterwards(site, line, row):
    (update,) = claim_due(10)
    change(line, "completed")

    assert record(update, Answer(200))

    assert state(line)[0] == PENDING
    assert line.told["custom_cart_status"] == "pending"
    tell_due()
    assert row.fields["custom_cart_status"] == "completed"
    assert state(line)[0] == DELIVERED


def test_sender_that_was_paused_past_its_lease_records_nothing(line, row):
    (late,) = claim_due(10)
    ErpnextLine.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
    (new,) = claim_due(10)

    assert not record(late, Answer(500))

    assert state(line) == (PENDING, None, "")
    assert record(new, Answer(200))


def test_rows_of_one_site_are_told_one_after_the_other(site, connection, vendor):
    send(connection, DOCUMENT)

    (first,) = claim_due(10)
    assert claim_due(10) == []

    record(first, Answer(200))
    (second,) = claim_due(10)
    assert second.line != first.line


def test_private_address_is_refused_unless_the_connection_is_local(site, line, row, connection):
    connection.is_local = False
    connection.save()

    tell_due()

    assert site.calls == []
    assert state(line)[0] == PENDING
    assert line.error == (
        "127.0.0.1 is no public address. Mark the connection as local if the site is on your own "
        "network."
    )


def test_connection_without_keys_says_so(line, connection):
    connection.api_key = None
    connection.save()

    tell_due()

    assert state(line)[2] == (
        "The connection has no API key and secret: enter those of the site's user."
    )


def test_connection_that_sends_no_updates_is_not_asked(site, vendor, db):
    connection = connection_to(site.url, is_local=True)
    send(connection, DOCUMENT)

    change(ErpnextLine.objects.first(), "completed")

    assert claim_due(10) == []
    assert set(ErpnextLine.objects.values_list("status", flat=True)) == {"none"}


def test_use_of_the_keys_is_noted_and_neither_of_them_is(line, row, connection):
    tell_due()

    assert acts(connection) == ["created", "used", "used"]
    assert not trail_holds(API_SECRET)
    assert API_SECRET not in str(list(ErpnextLine.objects.values()))


@pytest.mark.django_db(transaction=True)
def test_loop_tells_what_is_due_and_a_slow_site_holds_up_no_other(site, line, row):
    with frappe_site() as other:
        other.gate.clear()
        slow = ErpnextConnection.objects.create(
            name="Slow",
            user=line.connection.user,
            workspace=line.connection.workspace,
            site_url=other.url,
            is_local=True,
            sends_updates=True,
            webhook_secret="another",
            api_key=KEY,
            api_secret=API_SECRET,
        )
        other.add(ROW, PEN["name"])
        send(slow, {**DOCUMENT, "items": [PEN]}, secret="another")
        teller = BackgroundTeller()

        teller.keep_running()
        teller.keep_running()

        try:
            wait_until(lambda: other.calls)
            change(line, "completed")
            wait_until(lambda: row.fields["custom_cart_status"] == "completed")
            wait_until(lambda: state(line)[0] == DELIVERED)
            assert [thread.name for thread in threading.enumerate()].count("erpnext") == 1
            other.gate.set()
            wait_until(lambda: ErpnextLine.objects.get(connection=slow).status == DELIVERED)
        finally:
            teller.stop()
    assert len(other.calls) == 1


def test_scheduler_keeps_the_loop_running():
    assert duties._duties["erpnext_updates"].every == timedelta(seconds=10)


# ---- the admin's pages --------------------------------------------------------------------------

CONNECTIONS, LINES = "/admin/vendors/erpnextconnection/", "/admin/vendors/erpnextline/"


@pytest.fixture
def page(db) -> Client:
    client = Client()
    client.force_login(User.objects.create(username="admin", is_staff=True, is_superuser=True))
    return client


def form(**changes) -> dict:
    return {
        "name": "ERP",
        "user": User.objects.get(username="admin").pk,
        "site_url": "https://erp.example",
        "is_active": "on",
        "body_keys": '{"document": "name"}',
        "update_target": "row",
        "update_doctype": ROW,
        "told_fields": '{"status": "custom_cart_status"}',
        "new_webhook_secret": "typed-secret",
        **changes,
    }


def text(response) -> str:
    assert response.status_code == 200, response
    return response.content.decode()


def test_connection_is_set_up_on_the_page_which_never_shows_its_secrets(page):
    text(page.post(f"{CONNECTIONS}add/", form(), follow=True))

    connection = ErpnextConnection.objects.get()
    assert connection.webhook_secret == "typed-secret"
    assert connection.workspace == User.objects.get(username="admin").workspace
    shown = text(page.get(f"{CONNECTIONS}{connection.pk}/change/"))
    assert f"/api/erpnext/webhook?connection={connection.pk}" in shown
    for path in ("", f"{connection.pk}/change/", f"{connection.pk}/history/"):
        assert "typed-secret" not in text(page.get(CONNECTIONS + path))


def test_changing_a_connection_keeps_its_secrets(page):
    page.post(f"{CONNECTIONS}add/", form())
    connection = ErpnextConnection.objects.get()

    text(
        page.post(
            f"{CONNECTIONS}{connection.pk}/change/",
            form(name="New", new_webhook_secret=""),
            follow=True,
        )
    )

    changed = ErpnextConnection.objects.get()
    assert (changed.name, changed.webhook_secret) == ("New", "typed-secret")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"site_url": "http://erp.example"}, "Use https"),
        ({"site_url": "https://10.0.0.1"}, "must be marked as local"),
        ({"body_keys": '{"documnt": "name"}'}, "documnt is not known"),
        ({"told_fields": '["status"]'}, "Write an object"),
        ({"sends_updates": "on"}, "Updates need the API key and secret"),
        ({"new_webhook_secret": ""}, "required"),
    ],
)
def test_connection_that_cannot_be_is_refused_on_the_page(page, changes, says):
    assert says in text(page.post(f"{CONNECTIONS}add/", form(**changes)))

    assert ErpnextConnection.objects.count() == 0


def test_page_shows_what_was_told_and_sends_it_again(page, site, line, row):
    site.fails_with = 503
    tell_due()
    site.fails_with = None

    shown = text(page.get(LINES)) + text(page.get(f"{LINES}{line.pk}/change/"))
    assert "The site answered 503" in shown
    assert API_SECRET not in shown
    done = page.post(LINES, {"action": "send_again", "_selected_action": [line.pk]}, follow=True)

    assert "Updates due again: 1." in text(done)
    tell_due()
    assert state(line)[0] == DELIVERED

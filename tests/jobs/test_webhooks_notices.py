"""A webhook that is disabled because it fails: its admins are written to once, and pages say so."""

import socket

import pytest
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.db.models.functions import Now
from django.test import Client

from accounts.models import User, Workspace
from jobs.models import WebhookEndpoint
from jobs.webhooks import deliveries, endpoints, notices
from jobs.webhooks.deliveries import DISABLE_AFTER, Answer, claim_due, record
from jobs.webhooks.notices import TOLD_WITHIN, tell_admins
from tests.jobs.receivers import endpoint_at, running_sender
from tests.jobs.rivals import elsewhere
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
GONE = "The receiver answered 410 Gone: it wants nothing more."


class BreaksOff(BaseEmailBackend):
    """A server that takes the mail and says nothing any more: it may have sent it."""

    def send_messages(self, messages):
        mail.outbox.extend(messages)
        raise ConnectionResetError


@pytest.fixture(autouse=True)
def sender_address(settings):
    settings.MAIL_FROM = "cartwright@shop.example"


@pytest.fixture(autouse=True)
def alice():
    return User.objects.create_user("alice", email="alice@shop.example", is_staff=True)


def log_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def let_fail(answer=Answer(status=410)) -> WebhookEndpoint:  # noqa: B008  frozen
    """An endpoint whose one message ended like that."""
    endpoint = endpoint_at()
    deliveries.send_test(endpoint)
    [message] = claim_due(1)
    assert record(message, answer)
    return WebhookEndpoint.objects.get(pk=endpoint.pk)


def disabled_silently() -> WebhookEndpoint:
    """Its disabling is committed, and the process died before it could tell anybody."""
    endpoint = endpoint_at()
    endpoints.disable(endpoint.pk, GONE, for_failing=True)
    return endpoint


# --- The mail --------------------------------------------------------------------------------


def test_admins_of_the_workspace_are_written_to_after_the_commit():
    others = Workspace.objects.create(name="Others")
    fields = {"is_staff": True, "email": "x@shop.example"}
    User.objects.create_user("bob", email="bob@shop.example")  # no admin
    User.objects.create_user("charlie", workspace=others, **fields)
    User.objects.create_user("dora", is_active=False, **fields)
    User.objects.create_user("erp", is_staff=True)  # no address
    User.objects.create_user("frank", is_staff=True, email="frank@shop.example")

    endpoint = let_fail()

    [told] = mail.outbox
    assert told.to == ["alice@shop.example", "frank@shop.example"]
    assert told.from_email == "cartwright@shop.example"
    assert told.subject == "Webhook disabled: https://erp.example/hooks"
    assert GONE in told.body
    assert f"/admin/jobs/webhookendpoint/{endpoint.pk}/change/" in told.body
    assert endpoint.secret not in told.body
    assert endpoint.admins_told_at >= endpoint.disabled_at


def test_last_failure_of_what_took_nothing_for_days_is_told_too():
    endpoint = endpoint_at()
    delivery = deliveries.send_test(endpoint)
    type(delivery).objects.update(attempt=9)
    WebhookEndpoint.objects.update(failing_since=Now() - DISABLE_AFTER)
    [message] = claim_due(1)

    record(message, Answer(status=500))

    assert "Nothing could be delivered for 3 days." in mail.outbox[0].body


def test_nothing_is_sent_where_the_disabling_is_not_committed(monkeypatch):
    endpoint = endpoint_at()
    deliveries.send_test(endpoint)
    [message] = claim_due(1)

    def die(*args, **kwargs):
        raise ConnectionError

    monkeypatch.setattr(deliveries.log, "error", die)  # the last thing in the transaction
    with pytest.raises(ConnectionError):
        record(message, Answer(status=410))

    assert mail.outbox == []
    assert WebhookEndpoint.objects.get().disabled_at is None
    assert tell_admins() == 0


def test_one_disabling_is_told_once_and_the_next_one_again():
    endpoint = let_fail()
    assert tell_admins() == 0
    assert len(mail.outbox) == 1

    endpoints.enable(endpoint.pk)
    assert tell_admins() == 0
    assert endpoints.disable(endpoint.pk, GONE, for_failing=True)

    assert tell_admins() == 1
    assert len(mail.outbox) == 2


def test_of_many_who_tell_at_once_one_does():
    disabled_silently()

    sent = elsewhere(*[tell_admins] * 4)

    assert sorted(sent) == [0, 0, 0, 1]
    assert len(mail.outbox) == 1


def test_without_the_claim_it_would_be_told_twice():
    disabled_silently()
    assert tell_admins() == 1

    WebhookEndpoint.objects.update(admins_told_at=None)

    assert tell_admins() == 1
    assert len(mail.outbox) == 2


def test_mail_server_that_is_away_is_asked_again(settings):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = taken.getsockname()
        endpoint = let_fail()
    assert endpoint.disabled_at is not None  # which does not depend on mail
    assert endpoint.admins_told_at is None

    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    assert tell_admins() == 1


def test_mail_that_may_have_gone_is_not_sent_again(settings):
    settings.EMAIL_BACKEND = f"{__name__}.BreaksOff"
    disabled_silently()

    assert tell_admins() == 0
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"

    assert tell_admins() == 0
    assert len(mail.outbox) == 1


def test_nobody_is_written_to_where_no_address_is_configured(settings, alice):
    settings.MAIL_FROM = ""
    endpoint = let_fail()
    assert (mail.outbox, endpoint.admins_told_at) == ([], None)

    settings.MAIL_FROM = "cartwright@shop.example"
    User.objects.update(email="")
    assert tell_admins() == 0
    User.objects.filter(pk=alice.pk).update(email="alice@shop.example")
    assert tell_admins() == 1


def test_what_is_old_and_what_a_person_did_is_told_nobody():
    old, by_hand = disabled_silently(), endpoint_at()
    WebhookEndpoint.objects.filter(pk=old.pk).update(disabled_at=Now() - TOLD_WITHIN)
    endpoints.disable(by_hand.pk, "Disabled by alice.")

    assert tell_admins() == 0
    assert mail.outbox == []


def test_line_break_in_a_description_is_none_in_the_subject():
    WebhookEndpoint.objects.filter(pk=disabled_silently().pk).update(
        description="ERPNext\r\nBcc: eve@evil.example"
    )

    tell_admins()

    assert mail.outbox[0].subject == "Webhook disabled: ERPNext Bcc: eve@evil.example"


def test_senders_loop_tells_what_a_killed_process_did_not():
    endpoint = disabled_silently()

    with running_sender():
        wait_until(lambda: mail.outbox)

    assert WebhookEndpoint.objects.get(pk=endpoint.pk).admins_told_at is not None


# --- Pages -----------------------------------------------------------------------------------


def test_it_stands_in_the_inbox_and_on_the_health_page_until_it_is_enabled(broker, alice):
    endpoint, by_hand = let_fail(), endpoint_at("https://by-hand.example/")
    endpoints.disable(by_hand.pk, "Disabled by alice.")
    client = log_in(alice)

    assert client.get("/api/inbox").json()["webhooks"] == [
        {
            "id": str(endpoint.pk),
            "title": "https://erp.example/hooks",
            "reason": GONE,
            "at": endpoint.disabled_at.isoformat().replace("+00:00", "Z"),
            "url": f"/admin/jobs/webhookendpoint/{endpoint.pk}/change/",
        }
    ]
    page = client.get("/health/").content.decode()
    assert GONE in page
    assert str(endpoint.pk) in page
    assert "by-hand.example" not in page
    assert "webhooks" not in client.get("/health").json()["checks"]

    endpoints.enable(endpoint.pk)

    assert client.get("/api/inbox").json()["webhooks"] == []
    assert GONE not in client.get("/health/").content.decode()


def test_another_teams_and_who_is_no_admin_are_not_shown_it(broker):
    let_fail()
    others = Workspace.objects.create(name="Others")
    charlie = User.objects.create_user("charlie", is_staff=True, workspace=others)
    bob = User.objects.create_user("bob")

    assert log_in(charlie).get("/api/inbox").json()["webhooks"] == []
    assert GONE not in log_in(charlie).get("/health/").content.decode()
    assert log_in(bob).get("/api/inbox").json()["webhooks"] == []
    assert notices.read_disabled(bob) != []  # his workspace's, which is for its admins

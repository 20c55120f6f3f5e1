"""Webhooks on the admin's pages: made there, shown once, tested, rotated, sent again."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission
from django.db.models.functions import Now
from django.test import Client

from accounts.models import User, Workspace
from jobs.models import WebhookDelivery, WebhookEndpoint
from jobs.webhooks import deliveries
from jobs.webhooks.deliveries import Answer, claim_due, record
from jobs.webhooks.outbox import fan_out
from tests.jobs.receivers import endpoint_at
from tests.jobs.workflows import submit_toy

pytestmark = pytest.mark.django_db
ENDPOINTS, DELIVERIES = "/admin/jobs/webhookendpoint/", "/admin/jobs/webhookdelivery/"
FORM = {
    "url": "https://erp.example/hooks",
    "description": "ERPNext",
    "events": "job.*, step.failed",
}


@pytest.fixture
def page() -> Client:
    client = Client()
    client.force_login(User.objects.create(username="admin", is_staff=True, is_superuser=True))
    return client


def text(response) -> str:
    assert response.status_code == 200, response
    return response.content.decode()


def act(page: Client, path: str, action: str, *rows) -> str:
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return text(page.post(path, data, follow=True))


def test_webhook_made_on_the_page_shows_its_secret_once(page):
    made = text(page.post(f"{ENDPOINTS}add/", FORM, follow=True))

    endpoint = WebhookEndpoint.objects.get()
    assert (endpoint.url, endpoint.events) == (FORM["url"], ["job.*", "step.failed"])
    assert endpoint.created_by.username == "admin"
    shown = re.search(r"whsec_[\w+/=]+", made)
    assert shown is not None
    assert shown[0] == endpoint.secret
    for path in ("", "?q=erp", f"{endpoint.pk}/change/", f"{endpoint.pk}/history/"):
        assert "whsec_" not in text(page.get(ENDPOINTS + path))
    assert "whsec_" not in str(list(LogEntry.objects.values()))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"url": "https://10.0.0.1/"}, "WEBHOOKS_ALLOW_PRIVATE"),
        ({"url": "http://erp.example/"}, "Use https"),
        ({"events": "job"}, "is no kind of event"),
        ({"events": ""}, "required"),
    ],
)
def test_webhook_that_cannot_be_is_refused_on_the_page(page, change, says):
    assert says in text(page.post(f"{ENDPOINTS}add/", FORM | change))

    assert WebhookEndpoint.objects.count() == 0


def test_changing_a_webhook_keeps_its_secret(page):
    endpoint = endpoint_at()

    text(page.post(f"{ENDPOINTS}{endpoint.pk}/change/", FORM, follow=True))

    changed = WebhookEndpoint.objects.get()
    assert (changed.url, changed.description) == (FORM["url"], "ERPNext")
    assert changed.secret == endpoint.secret


def test_secret_is_rotated_from_the_list(page):
    endpoint = endpoint_at()

    html = act(page, ENDPOINTS, "rotate_secret", endpoint)

    rotated = WebhookEndpoint.objects.get()
    assert rotated.secret in html
    assert endpoint.secret not in html
    assert rotated.old_secret == endpoint.secret
    assert LogEntry.objects.get().change_message == "Rotated the secret."


def test_webhook_is_disabled_enabled_tested_and_deleted_from_the_list(page):
    endpoint = endpoint_at()

    assert "Webhooks disabled: 1." in act(page, ENDPOINTS, "disable", endpoint)
    assert WebhookEndpoint.objects.get().disabled_reason == "Disabled by admin."
    assert "Enable it first." in act(page, ENDPOINTS, "send_test", endpoint)
    assert WebhookDelivery.objects.count() == 0
    assert "Webhooks enabled: 1." in act(page, ENDPOINTS, "enable", endpoint)
    act(page, ENDPOINTS, "send_test", endpoint)
    assert WebhookDelivery.objects.get().kind == "webhook.test"
    confirmed = page.post(f"{ENDPOINTS}{endpoint.pk}/delete/", {"post": "yes"}, follow=True)
    assert "was deleted" in text(confirmed)
    assert (WebhookEndpoint.objects.count(), WebhookDelivery.objects.count()) == (0, 0)


def test_deliveries_can_be_seen_and_sent_again_and_not_changed(page):
    endpoint_at()
    job = submit_toy([["a"]])
    fan_out()
    delivery = WebhookDelivery.objects.get()
    WebhookDelivery.objects.update(status="failed", attempt=10, error="No whole answer.")
    path = f"{DELIVERIES}{delivery.pk}/change/"

    html = text(page.get(path))
    assert "No whole answer." in html
    assert "&quot;type&quot;: &quot;job.created&quot;" in html
    for listing in ("", "?q=job", f"?q={job.pk}", f"?q={delivery.pk}", "?status__exact=failed"):
        assert delivery.pk in text(page.get(DELIVERIES + listing))
    assert page.post(path, {"status": "delivered"}).status_code == 403
    assert page.get(f"{DELIVERIES}add/").status_code == 403

    assert "Messages due again: 1." in act(page, DELIVERIES, "redeliver", delivery)

    assert list(WebhookDelivery.objects.values_list("pk", "status", "attempts_before")) == [
        (delivery.pk, "pending", 10)
    ]


def test_delivery_shows_each_attempt_the_newest_first(page):
    delivery = deliveries.send_test(endpoint_at())
    for answer in (
        Answer(status=500, body="<b>Oh no</b>", error="The receiver answered 500", seconds=1.234),
        Answer(error="The secret cannot be opened.", is_ours=True),
    ):
        WebhookDelivery.objects.update(due_at=Now())
        [message] = claim_due(1)
        assert record(message, answer)

    html = text(page.get(f"{DELIVERIES}{delivery.pk}/change/"))

    assert "1.23 s" in html
    assert "&lt;b&gt;Oh no&lt;/b&gt;" in html
    assert "<b>Oh no</b>" not in html
    assert "not sent" in html
    assert html.index("not sent") < html.index("1.23 s")


def test_staff_see_their_own_workspace_and_act_only_with_permission():
    endpoint = endpoint_at()
    delivery = deliveries.send_test(endpoint)
    WebhookDelivery.objects.update(status="failed")
    views = Permission.objects.filter(codename__contains="view_webhook")
    others = Workspace.objects.create(name="Others")
    charlie = User.objects.create(username="charlie", is_staff=True, workspace=others)
    dora = User.objects.create(username="dora", is_staff=True)
    for user in (charlie, dora):
        user.user_permissions.set(views)
    charlies, doras = Client(), Client()
    charlies.force_login(charlie)
    doras.force_login(dora)

    assert quote(delivery.pk) not in text(charlies.get(DELIVERIES))
    assert endpoint.url not in text(charlies.get(ENDPOINTS))
    assert quote(delivery.pk) in text(doras.get(DELIVERIES))
    act(doras, DELIVERIES, "redeliver", delivery)
    act(doras, ENDPOINTS, "rotate_secret", endpoint)

    assert WebhookDelivery.objects.get().status == "failed"
    assert WebhookEndpoint.objects.get().old_secret is None

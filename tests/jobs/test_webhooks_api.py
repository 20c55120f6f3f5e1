"""/api/webhooks: for a workspace's admins. Alice is one, Bob no admin, Charlie another team's."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from rest_framework.test import APIClient

from accounts.models import ApiKey, User, Workspace
from jobs.models import WebhookDelivery, WebhookEndpoint
from jobs.webhooks import deliveries, endpoints
from jobs.webhooks.outbox import fan_out
from tests.jobs.receivers import endpoint_at, receiving, send_due
from tests.jobs.workflows import submit_toy

pytestmark = pytest.mark.django_db
WEBHOOKS = "/api/webhooks"
ASKED = {
    "url": "https://erp.example/hooks",
    "description": "ERPNext",
    "events": ["job.completed", "step.*"],
}
UNKNOWN = "0198c0de-7a11-7000-8000-000000000404"


def api(user: User) -> APIClient:
    key, secret = ApiKey.issue(user, user.username)
    return APIClient(headers={"authorization": f"token {key.key}:{secret}"})


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", is_staff=True)


@pytest.fixture
def alices(alice) -> APIClient:
    return api(alice)


@pytest.fixture
def bobs() -> APIClient:
    return api(User.objects.create_user("bob"))


@pytest.fixture
def charlies() -> APIClient:
    others = Workspace.objects.create(name="Others")
    return api(User.objects.create_user("charlie", is_staff=True, workspace=others))


def rows() -> list[dict]:
    return [*WebhookEndpoint.objects.values(), *WebhookDelivery.objects.values()]


def refused(answer, status: int, code: str) -> str:
    body = answer.json()
    assert (answer.status_code, body["success"], body["code"]) == (status, False, code), body
    return body["error"]


def test_webhook_is_made_and_its_secret_is_shown_once(alices, alice):
    made = alices.post(WEBHOOKS, ASKED, format="json")

    endpoint = WebhookEndpoint.objects.get()
    assert made.status_code == 201
    assert made.json() == {
        "id": str(endpoint.pk),
        **ASKED,
        "enabled": True,
        "disabled_at": None,
        "disabled_reason": "",
        "failing_since": None,
        "old_secret_expires_at": None,
        "created_at": made.json()["created_at"],
        "secret": endpoint.secret,
    }
    assert (endpoint.workspace, endpoint.created_by) == (alice.workspace, alice)
    listed = alices.get(WEBHOOKS)
    row = {name: value for name, value in made.json().items() if name != "secret"}
    assert listed.json() == {"webhooks": [row]}
    assert "whsec_" not in listed.content.decode()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"url": "http://erp.example/"}, "INVALID_URL"),
        ({"url": "https://127.0.0.1/"}, "INVALID_URL"),
        ({"url": "https://a:b@erp.example/"}, "INVALID_URL"),
        ({"url": "x" * 3000}, "INVALID_REQUEST"),
        ({"url": None}, "INVALID_REQUEST"),
        ({"events": []}, "INVALID_EVENTS"),
        ({"events": ["job"]}, "INVALID_EVENTS"),
        ({"events": "*"}, "INVALID_REQUEST"),
        ({"events": ["*"] * 51}, "INVALID_REQUEST"),
        ({"events": [{}]}, "INVALID_REQUEST"),
        ({"description": "x" * 201}, "INVALID_REQUEST"),
    ],
)
def test_webhook_that_cannot_be_is_refused_and_none_is_made_or_changed(alices, change, code):
    refused(alices.post(WEBHOOKS, {**ASKED, **change}, format="json"), 400, code)
    assert WebhookEndpoint.objects.count() == 0

    endpoint = endpoint_at()
    before = rows()
    refused(alices.patch(f"{WEBHOOKS}/{endpoint.pk}", change, format="json"), 400, code)
    assert rows() == before


def test_webhook_is_changed_disabled_and_enabled(alices):
    endpoint = endpoint_at()
    path = f"{WEBHOOKS}/{endpoint.pk}"

    changed = alices.patch(path, {"events": ["job.*"], "description": "New"}, format="json")
    disabled = alices.patch(path, {"enabled": False}, format="json")
    enabled = alices.patch(path, {"enabled": True}, format="json")

    assert changed.status_code == 200
    assert (changed.json()["events"], changed.json()["description"]) == (["job.*"], "New")
    assert changed.json()["url"] == endpoint.url
    assert disabled.json()["enabled"] is False
    assert disabled.json()["disabled_reason"] == "Disabled by alice."
    assert enabled.json()["enabled"] is True
    assert (enabled.json()["disabled_at"], enabled.json()["disabled_reason"]) == (None, "")
    assert WebhookEndpoint.objects.get().secret == endpoint.secret


def test_refused_change_enables_nothing(alices):
    endpoint = endpoint_at()
    endpoints.disable(endpoint.pk, "Disabled by alice.")

    answer = alices.patch(
        f"{WEBHOOKS}/{endpoint.pk}", {"url": "http://x/", "enabled": True}, format="json"
    )

    refused(answer, 400, "INVALID_URL")
    assert WebhookEndpoint.objects.get().disabled_at is not None


def test_webhook_is_deleted(alices):
    endpoint = endpoint_at()
    deliveries.send_test(endpoint)

    assert alices.delete(f"{WEBHOOKS}/{endpoint.pk}").json() == {"success": True}

    assert rows() == []
    refused(alices.delete(f"{WEBHOOKS}/{endpoint.pk}"), 404, "NOT_FOUND")


def test_secret_is_rotated(alices):
    old = endpoint_at().secret
    path = f"{WEBHOOKS}/{WebhookEndpoint.objects.get().pk}/rotate"

    rotated = alices.post(path, {"keep_old_hours": 2}, format="json")
    endpoint = WebhookEndpoint.objects.get()
    assert rotated.status_code == 200
    assert rotated.json()["secret"] == endpoint.secret != old
    assert endpoint.old_secret == old
    left = WebhookEndpoint.objects.filter(
        old_secret_expires_at__range=(Now() + timedelta(minutes=119), Now() + timedelta(hours=2))
    )
    assert left.count() == 1

    at_once = alices.post(path, {"keep_old_hours": 0}, format="json")
    assert at_once.json()["old_secret_expires_at"] is None
    assert WebhookEndpoint.objects.get().old_secret is None
    refused(alices.post(path, {"keep_old_hours": 169}, format="json"), 400, "INVALID_REQUEST")


def test_deliveries_are_listed_page_by_page_the_newest_first(alices):
    endpoint = endpoint_at("https://erp.example/", "job.created")
    endpoint_at("https://another.example/", "job.created")
    jobs = [submit_toy([["a"]]) for _ in range(5)]
    fan_out()
    path = f"{WEBHOOKS}/{endpoint.pk}/deliveries"

    first = alices.get(path, {"limit": 3}).json()
    second = alices.get(path, {"limit": 3, "before": first["next"]}).json()

    newest_first = [str(job.pk) for job in reversed(jobs)]
    assert [row["job"] for row in first["deliveries"]] == newest_first[:3]
    assert [row["job"] for row in second["deliveries"]] == newest_first[3:]
    assert second["next"] is None
    row = first["deliveries"][0]
    assert row == {
        "id": row["id"],
        "kind": "job.created",
        "job": str(jobs[-1].pk),
        "event_number": 1,
        "status": "pending",
        "attempt": 0,
        "due_at": row["due_at"],
        "response_status": None,
        "response_body": "",
        "error": "",
        "history": [],
        "created_at": row["created_at"],
        "delivered_at": None,
    }
    assert alices.get(path, {"status": "failed"}).json() == {"deliveries": [], "next": None}
    refused(alices.get(path, {"status": "lost"}), 400, "INVALID_REQUEST")


def test_message_is_sent_again_with_its_id(alices, settings):
    settings.WEBHOOKS_ALLOW_PRIVATE = True
    with receiving() as receiver:
        endpoint = endpoint_at(receiver.url)
        delivery = deliveries.send_test(endpoint)
        send_due()

        again = alices.post(f"{WEBHOOKS}/{endpoint.pk}/deliveries/{delivery.pk}/redeliver")
        assert (again.status_code, again.json()["status"]) == (200, "pending")
        send_due()

    assert receiver.ids == [delivery.pk, delivery.pk]
    assert WebhookDelivery.objects.get().status == "delivered"
    [row] = alices.get(f"{WEBHOOKS}/{endpoint.pk}/deliveries").json()["deliveries"]
    assert [(one["attempt"], one["status"]) for one in row["history"]] == [(1, 204), (2, 204)]


def test_nothing_is_sent_again_to_a_disabled_webhook(alices):
    endpoint = endpoint_at()
    delivery = deliveries.send_test(endpoint)
    WebhookDelivery.objects.update(status="failed")
    endpoints.disable(endpoint.pk, "Disabled by alice.")
    before = rows()

    path = f"{WEBHOOKS}/{endpoint.pk}/deliveries/{delivery.pk}/redeliver"
    refused(alices.post(path), 409, "WEBHOOK_DISABLED")

    assert rows() == before


def calls(pk: object, delivery: str) -> list[tuple[str, str]]:
    return [
        ("patch", f"{WEBHOOKS}/{pk}"),
        ("delete", f"{WEBHOOKS}/{pk}"),
        ("post", f"{WEBHOOKS}/{pk}/rotate"),
        ("get", f"{WEBHOOKS}/{pk}/deliveries"),
        ("post", f"{WEBHOOKS}/{pk}/deliveries/{delivery}/redeliver"),
    ]


def test_other_workspaces_webhooks_are_not_there(charlies):
    endpoint = endpoint_at()
    delivery = deliveries.send_test(endpoint)
    before = rows()

    assert charlies.get(WEBHOOKS).json() == {"webhooks": []}
    for method, path in calls(endpoint.pk, delivery.pk):
        refused(getattr(charlies, method)(path, {}, format="json"), 404, "NOT_FOUND")

    assert rows() == before


def test_delivery_of_another_webhook_is_not_there(alices):
    endpoint, other = endpoint_at(), endpoint_at()
    delivery = deliveries.send_test(other)

    path = f"{WEBHOOKS}/{endpoint.pk}/deliveries/{delivery.pk}/redeliver"
    refused(alices.post(path), 404, "NOT_FOUND")


def test_who_is_no_admin_is_refused(bobs):
    endpoint = endpoint_at()
    delivery = deliveries.send_test(endpoint)
    before = rows()

    every = [("get", WEBHOOKS), ("post", WEBHOOKS), *calls(endpoint.pk, delivery.pk)]
    for method, path in every:
        refused(getattr(bobs, method)(path, ASKED, format="json"), 403, "FORBIDDEN")
        refused(getattr(APIClient(), method)(path, ASKED, format="json"), 401, "NOT_AUTHENTICATED")

    assert rows() == before


@pytest.mark.parametrize("pk", [UNKNOWN, "x", "%00", "1"])
def test_unknown_ids_are_not_found(alices, pk):
    for method, path in calls(pk, "msg_x"):
        refused(getattr(alices, method)(path, {}, format="json"), 404, "NOT_FOUND")
    endpoint = endpoint_at()
    path = f"{WEBHOOKS}/{endpoint.pk}/deliveries/{pk}/redeliver"
    refused(alices.post(path), 404, "NOT_FOUND")

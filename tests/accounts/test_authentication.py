"""The other two ways in: a JWT, and the session of a page."""

from datetime import timedelta

import pytest
import time_machine
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User

pytestmark = pytest.mark.django_db
VENDORS = "/api/admin/vendors"
PASSWORD = "a long enough passphrase"


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", password=PASSWORD, is_staff=True)


def token_for(username: str, password: str = PASSWORD):
    return APIClient().post("/api/token", {"username": username, "password": password}, "json")


def ask(token: str):
    return APIClient().get(VENDORS, headers={"authorization": f"Bearer {token}"})


def test_token_lets_in_and_can_be_refreshed(alice):
    tokens = token_for("alice").json()
    assert ask(tokens["access"]).status_code == 200

    refreshed = APIClient().post("/api/token/refresh", {"refresh": tokens["refresh"]}, "json")

    assert ask(refreshed.json()["access"]).status_code == 200


def test_token_ends_after_a_quarter_of_an_hour(alice):
    token = token_for("alice").json()["access"]

    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        answer = ask(token)

    assert answer.status_code == 401
    assert answer.json()["code"] == "AUTHENTICATION_FAILED"
    assert answer.json()["error"].endswith("Get a new token from /api/token.")


@pytest.mark.parametrize("token", ["garbage", "a.b.c", "", "two words"])
def test_what_is_no_token_is_refused(token):
    answer = ask(token)

    assert answer.status_code == 401
    assert answer.json()["success"] is False
    assert "{" not in answer.json()["error"]


def test_wrong_password_gets_no_token(alice):
    answer = token_for("alice", "wrong")

    assert answer.status_code == 401
    assert answer.json()["code"] == "AUTHENTICATION_FAILED"
    assert "access" not in answer.json()


def test_user_without_a_usable_password_gets_no_token():
    User.objects.create_user("erpnext")

    assert token_for("erpnext", "").status_code == 400
    assert token_for("erpnext", "x").status_code == 401


def test_inactive_user_gets_no_token_and_old_ones_end(alice):
    token = token_for("alice").json()["access"]
    alice.is_active = False
    alice.save()

    assert token_for("alice").status_code == 401
    assert ask(token).status_code == 401


def test_page_may_read_with_its_session_and_writes_only_with_the_csrf_token(alice):
    page = Client(enforce_csrf_checks=True)
    page.force_login(alice)
    assert page.get(VENDORS).status_code == 200
    body = {"name": "Vendor Co", "domain": "vendor.example"}

    forged = page.post(VENDORS, body, content_type="application/json")

    assert forged.status_code == 403
    assert forged.json()["code"] == "FORBIDDEN"
    assert page.get(VENDORS).json() == {"vendors": []}

    page.get("/admin/password_change/")  # a page with a form sets the cookie
    token = page.cookies["csrftoken"].value
    made = page.post(VENDORS, body, content_type="application/json", headers={"x-csrftoken": token})

    assert made.status_code == 201


def test_token_needs_no_csrf_token(alice):
    token = token_for("alice").json()["access"]
    machine = Client(enforce_csrf_checks=True, headers={"authorization": f"Bearer {token}"})

    made = machine.post(
        VENDORS, {"name": "Vendor Co", "domain": "vendor.example"}, content_type="application/json"
    )

    assert made.status_code == 201

"""API keys in the admin: made there, shown once, revoked there."""

import re

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import ApiKey, User

pytestmark = pytest.mark.django_db
KEYS = "/admin/accounts/apikey/"
NOBODY = "/api/cart/status/0198c0de-7a11-7000-8000-0000000017e4"


@pytest.fixture
def page() -> Client:
    client = Client()
    client.force_login(User.objects.create(username="admin", is_staff=True, is_superuser=True))
    return client


def status_with(header: str) -> int:
    return APIClient().get(NOBODY, headers={"authorization": header}).status_code


def test_key_made_in_the_admin_is_shown_once_and_works(page):
    erpnext = User.objects.create_user("erpnext")

    made = page.post(f"{KEYS}add/", {"name": "ERPNext", "user": erpnext.pk}, follow=True)

    shown = re.search(r"Authorization: (token \w+:[\w-]+)", made.content.decode())
    assert shown is not None
    assert status_with(shown[1]) == 404  # let in, and there is no such item
    key = ApiKey.objects.get()
    assert (key.name, key.user) == ("ERPNext", erpnext)
    secret = shown[1].partition(":")[2]
    for path in (KEYS, f"{KEYS}{key.pk}/change/", f"{KEYS}{key.pk}/history/"):
        html = page.get(path).content.decode()
        assert secret not in html
        assert key.secret_hash not in html


def test_selected_keys_are_revoked(page):
    key, secret = ApiKey.issue(User.objects.create_user("erpnext"), "ERPNext")

    page.post(KEYS, {"action": "revoke", "_selected_action": [key.pk]})

    assert status_with(f"token {key.key}:{secret}") == 401


def test_renaming_a_key_keeps_its_secret(page):
    key, secret = ApiKey.issue(User.objects.create_user("erpnext"), "ERPNext")

    page.post(f"{KEYS}{key.pk}/change/", {"name": "ERPNext, London", "user": key.user_id})

    assert ApiKey.objects.get().name == "ERPNext, London"
    assert status_with(f"token {key.key}:{secret}") == 404


def test_users_list_opens(page):
    assert page.get("/admin/accounts/user/").status_code == 200
    assert page.get("/admin/accounts/user/add/").status_code == 200

"""API keys in Frappe's form, and the command that makes them."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import ApiKey, User

pytestmark = pytest.mark.django_db
NOBODY = "/api/cart/status/0198c0de-7a11-7000-8000-0000000017e4"  # 404 to whoever may ask


def ask(authorization: str):
    return APIClient().get(NOBODY, headers={"authorization": authorization})


@pytest.fixture
def user() -> User:
    return User.objects.create_user("erpnext")


def test_key_lets_its_user_in(user):
    key, secret = ApiKey.issue(user, "ERPNext")

    assert ask(f"token {key.key}:{secret}").status_code == 404
    assert ask(f"Token {key.key}:{secret}").status_code == 404  # Frappe accepts both, so do we


def test_only_a_hash_of_the_secret_is_kept(user):
    key, secret = ApiKey.issue(user, "ERPNext")

    row = ApiKey.objects.filter(pk=key.pk).values().get()
    assert secret not in str(row)
    assert row["secret_hash"] != secret
    assert len(row["secret_hash"]) == 64


@pytest.mark.parametrize(
    "credentials",
    [
        "{key}:wrong",
        "{key}:",
        "{key}",
        ":{secret}",
        "unknown:{secret}",
        "",
        "{secret}:{key}",
        "ä:ö",
    ],
)
def test_wrong_credentials_are_refused(user, credentials):
    key, secret = ApiKey.issue(user, "ERPNext")

    answer = ask(f"token {credentials}".format(key=key.key, secret=secret))

    assert answer.status_code == 401
    assert answer.json()["code"] == "AUTHENTICATION_FAILED"
    assert "create_api_key" in answer.json()["error"]
    assert answer.headers["WWW-Authenticate"] == "token"


def test_revoked_key_is_refused(user):
    key, secret = ApiKey.issue(user, "ERPNext")
    key.revoked_at = timezone.now()
    key.save()

    assert ask(f"token {key.key}:{secret}").status_code == 401


def test_key_of_an_inactive_user_is_refused(user):
    key, secret = ApiKey.issue(user, "ERPNext")
    user.is_active = False
    user.save()

    assert ask(f"token {key.key}:{secret}").status_code == 401


def test_last_use_is_noted_once_a_minute(user, django_assert_num_queries):
    key, secret = ApiKey.issue(user, "ERPNext")
    with django_assert_num_queries(4):  # the key with its user, the note, the item, the archive
        ask(f"token {key.key}:{secret}")
    noted = ApiKey.objects.get().last_used_at
    assert noted is not None

    with django_assert_num_queries(3):
        ask(f"token {key.key}:{secret}")
    assert ApiKey.objects.get().last_used_at == noted

    ApiKey.objects.update(last_used_at=noted - timedelta(minutes=2))
    ask(f"token {key.key}:{secret}")
    assert ApiKey.objects.get().last_used_at > noted


def made_by_command(*arguments: str) -> str:
    printed = StringIO()
    call_command("create_api_key", *arguments, stdout=printed)
    return printed.getvalue()


def test_command_makes_a_service_user_that_cannot_log_in():
    printed = made_by_command("ERPNext")

    user = User.objects.get(username="ERPNext")
    assert not user.has_usable_password()
    assert not user.is_staff
    header = next(line.strip() for line in printed.splitlines() if "token" in line)
    assert ask(header.removeprefix("Authorization: ")).status_code == 404


def test_command_for_scripts_prints_the_key_alone():
    printed = made_by_command("ERPNext", "--quiet")

    assert ask(f"token {printed.strip()}").status_code == 404
    assert len(printed.splitlines()) == 1


def test_command_gives_the_admin_role_only_when_asked():
    made_by_command("ERPNext")
    assert not User.objects.get().is_staff

    printed = made_by_command("ERPNext", "--admin")

    assert User.objects.get().is_staff
    assert "admin" in printed
    assert ApiKey.objects.count() == 2

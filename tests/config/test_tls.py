"""With an https address, nobody is served without TLS; and the database is asked for TLS as its
address says. Which versions of TLS are spoken is the proxy's business."""

import json
import os
import subprocess
import sys

import pytest
from django.conf import settings

# In a process of its own: the settings are read once.
ASK = """
import json, django
django.setup()
from django.db import connection
from django.test import Client
plain = Client().get("/api/jobs?status=failed", headers={"host": "cartwright.example"})
secure = Client().get(
    "/api/jobs", headers={"host": "cartwright.example", "x-forwarded-proto": "https"}
)
from django.conf import settings
print(json.dumps({
    "plain": [plain.status_code, plain.headers.get("Location")],
    "secure": [secure.status_code, secure.headers.get("Strict-Transport-Security")],
    "cookies": [settings.SESSION_COOKIE_SECURE, settings.CSRF_COOKIE_SECURE],
    "sslmode": connection.get_connection_params().get("sslmode"),
}))
"""


def ask(**environment) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        check=False,
        cwd=settings.BASE_DIR,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def behind_https() -> dict:
    return ask(
        PUBLIC_URL="https://cartwright.example",
        DATABASE_URL="postgres://cartwright:pw@db.example/cartwright?sslmode=verify-full",
    )


def test_plain_request_is_sent_to_https(behind_https):
    url = "https://cartwright.example/api/jobs?status=failed"
    assert behind_https["plain"] == [301, url]


def test_browsers_are_told_to_use_nothing_else_for_a_year(behind_https):
    assert behind_https["secure"] == [401, "max-age=31536000; includeSubDomains; preload"]
    assert behind_https["cookies"] == [True, True]


def test_database_must_show_its_certificate_where_its_address_says_so(behind_https):
    assert behind_https["sslmode"] == "verify-full"


def test_without_https_nobody_is_redirected():
    answers = ask(PUBLIC_URL="http://cartwright.example")

    assert answers["plain"] == [401, None]
    assert answers["secure"] == [401, None]

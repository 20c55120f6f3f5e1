"""The OpenAPI document: complete, valid, with the PRD's examples, and without secrets."""

from io import StringIO

import pytest
import yaml
from django.core.management import call_command

from automation.site import KEYS

PATHS = {
    "/api/cart/add": {"post"},
    "/api/cart/status/{id}": {"get"},
    "/api/admin/vendors": {"get", "post"},
    "/api/admin/vendors/{id}": {"put"},
    "/api/admin/accounts": {"get", "post"},
    "/api/admin/accounts/{id}": {"get"},
    "/api/jobs": {"get"},
    "/api/jobs/{id}": {"get"},
    "/api/jobs/{id}/events": {"get"},
    "/api/jobs/{id}/stream": {"get"},
    "/api/token": {"post"},
    "/api/token/refresh": {"post"},
}


@pytest.fixture(scope="module")
def document() -> dict:
    written = StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=written)
    return yaml.safe_load(written.getvalue())


def test_every_path_of_the_documents_is_there_as_they_write_it(document):
    written = {path: set(methods) for path, methods in document["paths"].items()}
    assert {path: written.get(path) for path in PATHS} == PATHS


def test_every_operation_of_ours_has_examples_and_says_how_it_refuses(document):
    for path, methods in document["paths"].items():
        if path not in PATHS or path.startswith("/api/token"):
            continue
        for operation in methods.values():
            assert operation["summary"]
            assert {"200", "201"} & set(operation["responses"])
            assert "401" in operation["responses"]
            assert not path.startswith("/api/admin") or "403" in operation["responses"]
            for answer in operation["responses"].values():
                for content in answer.get("content", {}).values():
                    assert content["examples"]


def test_every_selector_is_described(document):
    selectors = document["components"]["schemas"]["Vendor"]["properties"]["selectors"]

    assert set(selectors["properties"]) == set(KEYS)


def test_password_goes_in_and_never_comes_out(document):
    for name, schema in document["components"]["schemas"].items():
        password = schema["properties"].get("password") if "properties" in schema else None
        assert password is None or password["writeOnly"], name
    assert "plaintext_password" not in str(document)


def test_api_can_be_browsed(client, db):
    page = client.get("/api/docs/")

    assert page.status_code == 200
    assert b"swagger-ui" in page.content
    assert client.get("/api/schema/").status_code == 200

"""What every refusal looks like, whichever room it comes from."""

import json

import pytest
from django.test import RequestFactory, override_settings
from rest_framework.test import APIClient

from accounts.api.errors import server_error, unknown_path
from accounts.models import ApiKey, User

pytestmark = pytest.mark.django_db
ADD = "/api/cart/add"


@pytest.fixture
def api() -> APIClient:
    key, secret = ApiKey.issue(User.objects.create_user("erpnext"), "ERPNext")
    return APIClient(headers={"authorization": f"token {key.key}:{secret}"})


def refusal(answer) -> tuple[int, str]:
    body = answer.json()
    assert body["success"] is False
    assert body["error"].strip().endswith((".", "]", ")"))
    assert body["code"].isupper()
    assert set(body) <= {"success", "error", "code", "fields"}
    return answer.status_code, body["code"]


def post(api: APIClient, body: bytes | str, content_type: str = "application/json"):
    return api.post(ADD, body, content_type=content_type)


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "not json",
        '{"a": 1,}',
        "{'a': 1}",
        '{"a": NaN}',
        '{"a": -Infinity}',
        b"\xff\xfe",
        b'{"a": "\xff"}',
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a": ' + "[" * 100 + "]" * 100 + "}",
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"a": ' + "9" * 5000 + "}",
    ],
    ids=range(12),
)
def test_body_that_is_no_json_we_could_keep_is_refused(api, body):
    assert refusal(post(api, body)) == (400, "INVALID_JSON")


@pytest.mark.parametrize("body", ["[]", "[{}]", '"text"', "5", "null", "true"])
def test_json_that_is_no_object_is_refused(api, body):
    answer = post(api, body)

    assert refusal(answer) == (400, "INVALID_REQUEST")
    assert "must be a JSON object" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ('{"a": "x\\u0000"}', "a"),
        ('{"a": "\\ud800"}', "a"),
        ('{"a": "\\udc00 half"}', "a"),
        ('{"a": {"b": [{"c": "\\ud83d"}]}}', "a.b.c"),
        ('{"a": {"\\u0000": 1}}', "a"),
        ('{"\\u0000": 1}', ""),
        ('{"\\ud800": {"b": "\\u0000"}}', "?.b"),
        ('{"a": 1e400}', "a"),
        ('{"a": [-1e400]}', "a"),
        ('{"a": ' + "9" * 400 + "}", "a"),
    ],
)
def test_what_the_database_cannot_hold_is_refused_by_its_place(api, body, where):
    answer = post(api, body)

    assert refusal(answer) == (400, "INVALID_REQUEST")
    assert list(answer.json().get("fields", [""])) == [where]


def test_whole_surrogate_pair_is_an_ordinary_character(api):
    answer = post(api, json.dumps({"product_name": "🖊"}))

    assert answer.json()["fields"].keys() == {"vendor_id", "product_url"}


def test_empty_body_says_what_is_missing(api):
    assert post(api, "").json()["fields"].keys() == {"vendor_id", "product_url"}


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "x"])
def test_other_content_types_are_refused(api, content_type):
    answer = post(api, "a=1", content_type)

    assert refusal(answer) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert "Content-Type: application/json" in answer.json()["error"]


def test_body_beyond_the_limit_is_refused(api):
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1000):
        answer = post(api, json.dumps({"product_name": "x" * 1000}))

    assert refusal(answer) == (413, "BODY_TOO_LARGE")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("get", ADD, "POST"),
        ("put", ADD, "POST"),
        ("delete", ADD, "POST"),
        ("post", "/api/cart/status/x", "GET"),
        ("get", "/api/token", "POST"),
    ],
)
def test_wrong_method_names_the_right_ones(api, method, path, allowed):
    answer = getattr(api, method)(path, {}, "json") if method != "get" else api.get(path)

    assert refusal(answer) == (405, "METHOD_NOT_ALLOWED")
    assert allowed in answer.json()["error"]


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
@pytest.mark.parametrize(
    "path", ["/api/nothing", "/api/", "/api/cart", "/api/cart/add/more/", "/api/%00"]
)
def test_unknown_path_is_a_json_404_for_everybody(client, method, path):
    answer = getattr(client, method)(path)

    assert refusal(answer) == (404, "NOT_FOUND")
    assert "/api/docs/" in answer.json()["error"]


def test_unknown_path_needs_no_csrf_token(rf: RequestFactory):
    assert unknown_path.csrf_exempt  # else a program would get an HTML page about cookies


def test_answer_in_another_format_is_refused_in_json(api):
    answer = api.get("/api/cart/status/x", headers={"accept": "application/xml"})

    assert refusal(answer) == (406, "NOT_ACCEPTABLE")


def test_unexpected_error_is_json_under_api_and_a_page_elsewhere(rf: RequestFactory):
    assert refusal_of(server_error(rf.get("/api/cart/add"))) == (500, "INTERNAL_ERROR")
    assert server_error(rf.get("/jobs/")).headers["Content-Type"].startswith("text/html")


def refusal_of(response) -> tuple[int, str]:
    response.json = lambda: json.loads(response.content)
    return refusal(response)


def test_unexpected_error_says_nothing_of_itself(api, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr("vendors.api.views.check_cart_add", fail)
    api.raise_request_exception = False

    answer = post(api, "{}")

    assert refusal(answer) == (500, "INTERNAL_ERROR")
    assert "hunter2" not in answer.content.decode()

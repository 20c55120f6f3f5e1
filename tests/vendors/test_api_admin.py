"""/api/admin/vendors and /api/admin/accounts: the PRD's sections 8.2 and 8.3."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import User
from tests.vendors.conftest import client_with_key
from vendors.models import AccountUsage, Vendor, VendorAccount, vendors_today

VENDORS, ACCOUNTS = "/api/admin/vendors", "/api/admin/accounts"
UNKNOWN = "0198c0de-7a11-7000-8000-000000000404"
PASSWORD = "korrekt-Pferd-Batterie"

DOCUMENTS_EXAMPLE = {
    "name": "Vendor Co",
    "domain": "vendor.com",
    "login_url": "https://vendor.com/login",
    "cart_url": "https://vendor.com/cart",
    "is_prioritized": True,
    "can_automate": True,
    "requires_captcha": False,
    "selectors": {
        "email_input": "#email",
        "password_input": "#password",
        "login_button": "button[type='submit']",
        "add_to_cart": ".add-to-cart-btn",
        "cart_confirmation": ".cart-success-message",
    },
    "rate_limit_daily": 50,
}
EVERY_KEY = {
    "name": "Every Key Ltd",
    "domain": "shop.localhost:8443",
    "login_url": "http://shop.localhost:8443/login",
    "cart_url": "http://shop.localhost:8443/basket",
    "cart_scope": "session",
    "login_required": False,
    "allow_private_network": True,
    "allowed_domains": ["cdn.example", "static.localhost"],
    "is_prioritized": False,
    "can_automate": True,
    "requires_captcha": False,
    "rate_limit_daily": 7,
    "seconds_between_adds": 12,
    "selectors": {
        "email_input": "#email",
        "password_input": "input[name='password']",
        "login_button": "//form[@id='login']//button",
        "logged_in_indicator": "(//a[@href='/account'])[1]",
        "logged_in_indicator_is_hidden": True,
        "login_error": ".error",
        "cookie_accept": "button:has-text('Accept')",
        "quantity_input": "#qty",
        "variants": {
            "Colour": {
                "kind": "click",
                "selector": "button[data-value='{value}']",
                "reveal": "#more",
            },
            "Size": {"kind": "select", "selector": "#size", "settled": ".price:not(.is-loading)"},
            "Engraving": {"kind": "fill", "selector": "#engraving"},
            "Gift wrap": {"kind": "check", "selector": "#wrap", "reveal": None, "settled": None},
            "Metres": {"kind": "quantity", "selector": "#metres"},
        },
        "variant_link": "//a[normalize-space()='{value}']",
        "add_to_cart": "text=Add to basket",
        "cart_confirmation": ".toast",
        "cart_error": ".toast.is-error",
        "out_of_stock_indicator": ".sold-out",
        "cart_row": "tr.line",
        "cart_row_name": "td.name",
        "cart_quantity": "input.qty",
        "cart_update": "button.update",
        "cart_empty_indicator": ".empty",
        "blocked_indicator": None,
        "captcha_indicator": "iframe[src*='captcha']",
    },
}


def test_vendor_of_the_document_is_made(admin_api):
    answer = admin_api.post(VENDORS, DOCUMENTS_EXAMPLE, "json")

    assert answer.status_code == 201
    vendor = Vendor.objects.get()
    assert answer.json()["id"] == str(vendor.pk)
    assert answer.json().items() >= DOCUMENTS_EXAMPLE.items()
    assert vendor.selectors == DOCUMENTS_EXAMPLE["selectors"]
    assert (vendor.cart_scope, vendor.login_required) == ("account", True)


def test_every_key_of_vendor_data_is_stored_as_it_was_sent(admin_api):
    answer = admin_api.post(VENDORS, EVERY_KEY, "json")

    assert answer.status_code == 201, answer.json()
    vendor = Vendor.objects.get()
    assert {name: getattr(vendor, name) for name in EVERY_KEY} == EVERY_KEY
    assert answer.json().items() >= EVERY_KEY.items()
    assert vendor.site().selectors.variants["Colour"].reveal == "#more"


def test_name_and_domain_are_enough(admin_api):
    answer = admin_api.post(VENDORS, {"name": "Vendor Co", "domain": "vendor.com"}, "json")

    assert answer.status_code == 201
    vendor = Vendor.objects.get()
    assert (vendor.can_automate, vendor.rate_limit_daily, vendor.selectors) == (True, 50, {})
    assert (vendor.login_url, vendor.allowed_domains) == (None, [])


def test_null_is_the_default(admin_api):
    nulls = dict.fromkeys(EVERY_KEY) | {"name": "Vendor Co", "domain": "vendor.com"}

    answer = admin_api.post(VENDORS, nulls, "json")

    assert answer.status_code == 201, answer.json()
    made = Vendor.objects.get()
    default = Vendor(name="Vendor Co", domain="vendor.com")
    assert made.site_data() == default.site_data()
    assert made.rate_limit_daily == 50


def test_selectors_may_be_null_one_by_one(admin_api):
    selectors = dict.fromkeys(EVERY_KEY["selectors"])

    answer = admin_api.post(VENDORS, EVERY_KEY | {"selectors": selectors}, "json")

    assert answer.status_code == 201, answer.json()
    assert Vendor.objects.get().selectors == selectors


@pytest.mark.parametrize(
    ("change", "where", "sentence"),
    [
        (
            {"selectors": {"add_to_crat": ".x"}},
            "selectors.add_to_crat",
            "Did you mean add_to_cart?",
        ),
        ({"selectors": {"add_to_cart": "a[b"}}, "selectors.add_to_cart", "is not closed"),
        ({"selectors": {"add_to_cart": 5}}, "selectors.add_to_cart", "is a text"),
        ({"selectors": []}, "selectors", "object"),
        ({"selectors": "text"}, "selectors", "object"),
        ({"selectors": {"variants": []}}, "selectors.variants", "object"),
        (
            {"selectors": {"variants": {"Size": {"kind": "pick", "selector": "#s"}}}},
            "selectors.variants.Size.kind",
            "select",
        ),
        ({"domain": "https://vendor.com/shop"}, "domain", "host name"),
        ({"domain": ""}, "domain", "blank"),
        ({"domain": "d" * 256}, "domain", "255"),
        ({"name": None}, "name", "required"),
        ({"name": "n" * 256}, "name", "255"),
        ({"login_url": "ftp://vendor.com"}, "login_url", "http"),
        ({"login_url": "https://other.com/login"}, "login_url", "not on the vendor's domain"),
        ({"cart_url": "https://vendor.com/" + "c" * 500}, "cart_url", "500"),
        ({"cart_scope": "browser"}, "cart_scope", "valid choice"),
        ({"allowed_domains": "cdn.example"}, "allowed_domains", "list"),
        ({"allowed_domains": ["https://cdn.example/"]}, "allowed_domains", "host name"),
        ({"rate_limit_daily": 0}, "rate_limit_daily", "greater than or equal to 1"),
        ({"rate_limit_daily": 2**31}, "rate_limit_daily", "less than"),
        ({"rate_limit_daily": "many"}, "rate_limit_daily", "integer"),
        ({"login_required": "perhaps"}, "login_required", "boolean"),
        ({"selectors": {"add_to_cart": "\x00"}}, None, "selectors.add_to_cart"),
    ],
)
def test_wrong_vendor_data_is_refused_by_key(admin_api, nothing_happens, change, where, sentence):
    with nothing_happens():
        answer = admin_api.post(VENDORS, DOCUMENTS_EXAMPLE | change, "json")

    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert sentence in answer.json()["error"]
    if where:
        assert sentence in answer.json()["fields"][where]


def test_domain_is_taken_once(admin_api, nothing_happens):
    admin_api.post(VENDORS, DOCUMENTS_EXAMPLE, "json")

    with nothing_happens():
        answer = admin_api.post(VENDORS, DOCUMENTS_EXAMPLE | {"name": "Again"}, "json")

    assert (answer.status_code, answer.json()["code"]) == (409, "VENDOR_EXISTS")


def test_put_replaces_the_whole_of_a_vendor(admin_api, vendor):
    answer = admin_api.put(
        f"{VENDORS}/{vendor.pk}", {"name": "New", "domain": "new.example"}, "json"
    )

    vendor.refresh_from_db()
    assert answer.status_code == 200, answer.json()
    assert (vendor.name, vendor.domain, vendor.login_url, vendor.selectors) == (
        *("New", "new.example", None, {}),
    )
    assert answer.json()["rate_limit_daily"] == 50


def test_put_of_wrong_data_changes_nothing(admin_api, vendor, nothing_happens):
    body = {"name": "New", "domain": "new.example", "cart_url": "https://other.example/cart"}

    with nothing_happens():
        answer = admin_api.put(f"{VENDORS}/{vendor.pk}", body, "json")

    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert Vendor.objects.get().name == "Vendor Co"


def test_domain_of_another_vendor_is_not_taken_over(admin_api, vendor):
    other = Vendor.objects.create(name="Other", domain="other.example")
    body = {"name": "New", "domain": vendor.domain}

    answer = admin_api.put(f"{VENDORS}/{other.pk}", body, "json")

    assert (answer.status_code, answer.json()["code"]) == (409, "VENDOR_EXISTS")
    other.refresh_from_db()
    assert (other.name, other.domain) == ("Other", "other.example")


@pytest.mark.parametrize("vendor_id", ["nobody", "01a1fe3a-5ba7-71b3-b328-a40841636d78"])
def test_unknown_vendor_is_not_found(admin_api, vendor_id):
    answer = admin_api.put(f"{VENDORS}/{vendor_id}", DOCUMENTS_EXAMPLE, "json")

    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


@pytest.mark.django_db(transaction=True)
def test_two_requests_for_one_domain_at_once_make_one_vendor():
    operations = User.objects.create_user("operations", is_staff=True)
    together = threading.Barrier(2)
    statuses = []

    def make(client) -> None:
        together.wait()
        statuses.append(client.post(VENDORS, DOCUMENTS_EXAMPLE, "json").status_code)
        connection.close()

    clients = [client_with_key(operations) for _ in range(2)]
    threads = [threading.Thread(target=make, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert sorted(statuses) == [201, 409]
    assert Vendor.objects.count() == 1


def test_vendors_are_listed_with_the_health_of_their_accounts_in_one_query(
    admin_api, django_assert_num_queries
):
    healthy, mixed, _ = (
        Vendor.objects.create(name=name, domain=f"{name}.example")
        for name in ("a-healthy", "b-mixed", "c-none")
    )
    for vendor, blocked in ((healthy, False), (mixed, False), (mixed, True), (mixed, True)):
        VendorAccount.objects.create(
            vendor=vendor,
            email=f"{VendorAccount.objects.count()}@x.example",
            password=PASSWORD,
            is_blocked=blocked,
        )
    admin_api.get(VENDORS)

    with django_assert_num_queries(2):  # the key, the vendors
        answer = admin_api.get(VENDORS)

    assert answer.json()["vendors"][1] == {
        "id": str(mixed.pk),
        "name": "b-mixed",
        "domain": "b-mixed.example",
        "is_prioritized": False,
        "requires_captcha": False,
        "can_automate": True,
        "account_count": 3,
        "healthy_accounts": 1,
        "blocked_accounts": 2,
    }
    counts = [
        (row["account_count"], row["healthy_accounts"], row["blocked_accounts"])
        for row in answer.json()["vendors"]
    ]
    assert counts == [(1, 1, 0), (3, 1, 2), (0, 0, 0)]


def new_account(vendor: Vendor, **change) -> dict:
    account = {"vendor_id": str(vendor.pk), "email": "account@example.com", "password": PASSWORD}
    return account | change


def test_account_is_made_and_its_password_never_answered(admin_api, vendor):
    answer = admin_api.post(ACCOUNTS, new_account(vendor), "json")

    account = VendorAccount.objects.get()
    assert answer.status_code == 201
    assert answer.json() == {
        "id": str(account.pk),
        "vendor_id": str(vendor.pk),
        "email": "account@example.com",
        "is_blocked": False,
        "created_at": account.created_at.isoformat().replace("+00:00", "Z"),
    }
    assert account.password == PASSWORD
    for path in (ACCOUNTS, f"{ACCOUNTS}/{account.pk}", VENDORS):
        assert PASSWORD not in admin_api.get(path).content.decode()


def test_password_is_kept_to_the_letter(admin_api, vendor):
    spaced = "  pass word\t"

    admin_api.post(ACCOUNTS, new_account(vendor, password=spaced), "json")

    assert VendorAccount.objects.get().password == spaced


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"vendor_id": UNKNOWN}, "INVALID_VENDOR"),
        ({"vendor_id": "uuid"}, "INVALID_VENDOR"),
        ({"email": "nobody"}, "INVALID_REQUEST"),
        ({"email": None}, "INVALID_REQUEST"),
        ({"password": ""}, "INVALID_REQUEST"),
        ({"password": None}, "INVALID_REQUEST"),
        ({"password": ["secret"]}, "INVALID_REQUEST"),
        ({"password": "secret\x00"}, "INVALID_REQUEST"),
        ({"password": "secret" * 200}, "INVALID_REQUEST"),
    ],
)
def test_wrong_account_is_refused_without_its_password_in_the_answer(
    admin_api, vendor, nothing_happens, change, code
):
    with nothing_happens():
        answer = admin_api.post(ACCOUNTS, new_account(vendor, **change), "json")

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert "secret" not in answer.content.decode()
    assert PASSWORD not in answer.content.decode()


def test_caller_cannot_block_count_or_hold_an_account_by_making_it(admin_api, vendor):
    admin_api.post(
        ACCOUNTS, new_account(vendor, is_blocked=True, total_items_added=9, id=UNKNOWN), "json"
    )

    account = VendorAccount.objects.get()
    assert (account.is_blocked, account.total_items_added) == (False, 0)
    assert str(account.pk) != UNKNOWN


def test_email_is_taken_once_a_vendor(admin_api, account, nothing_happens):
    with nothing_happens():
        answer = admin_api.post(ACCOUNTS, new_account(account.vendor, email=account.email), "json")
    assert (answer.status_code, answer.json()["code"]) == (409, "ACCOUNT_EXISTS")

    other = Vendor.objects.create(name="Other", domain="other.example")
    answer = admin_api.post(ACCOUNTS, new_account(other, email=account.email), "json")
    assert answer.status_code == 201


def test_account_is_described_with_its_use(admin_api, account, django_assert_num_queries):
    used_at = timezone.now() - timedelta(minutes=2)
    VendorAccount.objects.update(total_items_added=450, last_used_at=used_at)
    yesterday = vendors_today() - timedelta(days=1)
    AccountUsage.objects.create(account=account, day=vendors_today(), items_added=12)
    AccountUsage.objects.create(account=account, day=yesterday, items_added=99)
    admin_api.get(ACCOUNTS)

    with django_assert_num_queries(2):  # the key, the account with all of it
        answer = admin_api.get(f"{ACCOUNTS}/{account.pk}")

    account.refresh_from_db()
    assert answer.json() == {
        "id": str(account.pk),
        "vendor_id": str(account.vendor_id),
        "vendor_name": "Vendor Co",
        "email": "one@vendor.example",
        "is_blocked": False,
        "daily_items_added": 12,
        "total_items_added": 450,
        "last_used_at": used_at.isoformat().replace("+00:00", "Z"),
        "created_at": account.created_at.isoformat().replace("+00:00", "Z"),
    }


@pytest.fixture
def five_accounts(vendor) -> list[VendorAccount]:
    other = Vendor.objects.create(name="Other", domain="other.example")
    return [
        VendorAccount.objects.create(
            vendor=other if number == 5 else vendor,
            email=f"{number}@vendor.example",
            password=PASSWORD,
            is_blocked=number == 3,
        )
        for number in range(1, 6)
    ]


def test_accounts_are_filtered_and_paged(
    admin_api, vendor, five_accounts, django_assert_num_queries
):
    def listed(**query) -> list[str]:
        return [row["email"][0] for row in admin_api.get(ACCOUNTS, query).json()["accounts"]]

    assert sorted(listed()) == ["1", "2", "3", "4", "5"]
    assert listed(vendor_id=vendor.pk) == ["1", "2", "3", "4"]
    assert listed(is_blocked="true") == ["3"]
    assert sorted(listed(is_blocked="false")) == ["1", "2", "4", "5"]
    assert listed(vendor_id=vendor.pk, is_blocked="false", limit=2) == ["1", "2"]
    assert listed(vendor_id=vendor.pk, is_blocked="false", limit=2, page=2) == ["4"]
    assert listed(vendor_id=vendor.pk, page=9) == []
    assert listed(vendor_id=UNKNOWN) == []

    with django_assert_num_queries(3):  # the key, the page, the total
        answer = admin_api.get(ACCOUNTS, {"vendor_id": vendor.pk, "limit": 3})
    body = answer.json()
    assert (body["total"], body["page"], body["limit"]) == (4, 1, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vendor_id", "uuid"),
        ("vendor_id", "\x00"),
        ("is_blocked", "perhaps"),
        ("page", "0"),
        ("page", "-1"),
        ("page", "one"),
        ("page", "9" * 30),
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "all"),
    ],
)
def test_wrong_parameter_is_refused_by_name(admin_api, name, value):
    answer = admin_api.get(ACCOUNTS, {name: value})

    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert answer.json()["error"].startswith(f"{name}: ")


@pytest.mark.parametrize("account_id", [UNKNOWN, "uuid", "%00", "1"])
def test_unknown_account_is_not_found(admin_api, account_id):
    answer = admin_api.get(f"{ACCOUNTS}/{account_id}")

    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("path", [VENDORS, ACCOUNTS, f"{ACCOUNTS}/{UNKNOWN}"])
def test_admin_paths_are_for_admins(client, erpnext, path):
    assert client.get(path).status_code == 401

    answer = erpnext.get(path)

    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
    assert "create_api_key --admin" in answer.json()["error"]


@pytest.mark.parametrize("path", [VENDORS, ACCOUNTS])
def test_who_is_no_admin_makes_nothing(client, erpnext, vendor, nothing_happens, path):
    body = DOCUMENTS_EXAMPLE if path == VENDORS else new_account(vendor)

    with nothing_happens():
        assert client.post(path, body, content_type="application/json").status_code == 401
        assert erpnext.post(path, body, "json").status_code == 403

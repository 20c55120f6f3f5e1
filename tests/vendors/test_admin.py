"""The admin pages: what can be set up there, what can only be seen, and that no secret is."""

import json

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from jobs.models import Event, Job, Step
from vendors import pool
from vendors.cart_queue import CartRequest, enqueue
from vendors.models import AccountUsage, CartItem, QueueItem, Vendor, VendorAccount, vendors_today

PASSWORD = "korrekt-Pferd-Batterie"
SESSION = {"storage_state": {"cookies": [{"name": "sid", "value": "geheim-4711"}]}}
ACCOUNTS, VENDORS = "/admin/vendors/vendoraccount/", "/admin/vendors/vendor/"


@pytest.fixture
def page(db) -> Client:
    """Of a superuser without a password, since to hash one takes longer than the page."""
    client = Client()
    client.force_login(User.objects.create(username="admin", is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def account(account) -> VendorAccount:
    account.session_data = SESSION
    account.save()
    return account


def text(response) -> str:
    assert response.status_code == 200, response
    return response.content.decode()


def vendor_form(vendor: Vendor, **change) -> dict:
    form = {
        "name": vendor.name,
        "domain": vendor.domain,
        "login_url": vendor.login_url,
        "cart_url": vendor.cart_url,
        "allowed_domains": "",
        "can_automate": "on",
        "login_required": "on",
        "cart_scope": "account",
        "rate_limit_daily": 50,
        "seconds_between_adds": 0,
        "selectors": json.dumps(vendor.selectors),
        "accounts-TOTAL_FORMS": 0,
        "accounts-INITIAL_FORMS": 0,
    }
    return form | change


def test_every_list_and_every_page_opens(page, account):
    item = enqueue(CartRequest(account.vendor, "https://vendor.example/p"))
    CartItem.objects.create(
        vendor_account=account, queue_item=item, product_url=item.product_url, quantity=2
    )
    for table in (Vendor, VendorAccount, QueueItem, CartItem, Job, Step, Event):
        path = f"/admin/{table._meta.label_lower.replace('.', '/')}/"
        text(page.get(path))
        text(page.get(f"{path}?q=x"))
        text(page.get(f"{path}{table.objects.first().pk}/change/"))
    for path in (VENDORS, ACCOUNTS):
        text(page.get(f"{path}add/"))


@pytest.mark.parametrize(
    "path", ["", "{pk}/change/", "{pk}/delete/", "{pk}/history/", "?q=korrekt"]
)
def test_no_page_holds_a_password_or_a_session(page, account, path):
    html = text(page.get(ACCOUNTS + path.format(pk=account.pk)))
    html += text(page.get(f"{VENDORS}{account.vendor_id}/change/"))

    assert PASSWORD not in html
    assert "geheim-4711" not in html


def new_account_form(vendor: Vendor, **change) -> dict:
    form = {"vendor": vendor.pk, "email": "a@vendor.example", "new_password": PASSWORD}
    return form | change


def account_form(account: VendorAccount, **change) -> dict:
    return {"email": account.email, "new_password": "", "notes": ""} | change


def test_account_is_added_with_its_password(page, vendor):
    answer = page.post(
        f"{ACCOUNTS}add/",
        {"vendor": vendor.pk, "email": "a@vendor.example", "new_password": " pass "},
    )

    assert answer.status_code == 302
    account = VendorAccount.objects.get()
    assert (account.vendor, account.password) == (vendor, " pass ")


def test_account_without_a_password_is_not_added(page, vendor):
    html = text(
        page.post(
            f"{ACCOUNTS}add/",
            {"vendor": vendor.pk, "email": "a@vendor.example", "new_password": ""},
        )
    )

    assert "This field is required" in html
    assert not VendorAccount.objects.exists()


def test_refused_form_does_not_send_the_password_back(page, vendor):
    html = text(page.post(f"{ACCOUNTS}add/", new_account_form(vendor, email="nobody")))

    assert PASSWORD not in html


def test_empty_password_keeps_the_one_that_is_stored(page, account):
    page.post(f"{ACCOUNTS}{account.pk}/change/", account_form(account, notes="north depot"))

    account = VendorAccount.objects.get()
    assert (account.password, account.notes) == (PASSWORD, "north depot")
    assert account.session_data == SESSION


def test_own_limit_of_an_account_is_set_and_taken_away(page, account):
    path = f"{ACCOUNTS}{account.pk}/change/"

    page.post(path, account_form(account, rate_limit_daily=80))
    assert VendorAccount.objects.get().rate_limit_daily == 80
    assert "0 of 80" in text(page.get(ACCOUNTS))

    page.post(path, account_form(account, rate_limit_daily=""))
    assert VendorAccount.objects.get().rate_limit_daily is None
    assert "0 of 50" in text(page.get(ACCOUNTS))


@pytest.mark.parametrize("change", [{"new_password": "new"}, {"email": "new@vendor.example"}])
def test_new_log_in_ends_the_old_session(page, account, change):
    page.post(f"{ACCOUNTS}{account.pk}/change/", account_form(account, **change))

    account = VendorAccount.objects.get()
    assert account.password == change.get("new_password", PASSWORD)
    assert account.email == change.get("email", "one@vendor.example")
    assert account.session_data is None


def test_change_writes_only_what_the_form_changed(page, account, monkeypatch):
    saved = []
    monkeypatch.setattr(
        VendorAccount, "save", lambda self, **how: saved.append(sorted(how["update_fields"]))
    )

    page.post(f"{ACCOUNTS}{account.pk}/change/", account_form(account, notes="x"))

    assert saved == [["notes"]]


def test_log_of_changes_names_the_field_and_not_its_value(page, account):
    page.post(
        f"{ACCOUNTS}{account.pk}/change/", account_form(account, new_password="brand-new-secret")
    )

    entry = LogEntry.objects.get()
    assert "assword" in entry.get_change_message()
    assert "brand-new-secret" not in str(vars(entry))


def test_account_is_blocked_and_unblocked_on_its_page(page, account):
    page.post(f"{ACCOUNTS}{account.pk}/change/", account_form(account, is_blocked="on"))
    account.refresh_from_db()
    assert account.is_blocked
    assert account.blocked_at is not None
    assert account.blocked_reason == "Set aside by admin."

    page.post(f"{ACCOUNTS}{account.pk}/change/", account_form(account))
    account.refresh_from_db()
    assert (account.is_blocked, account.blocked_at, account.blocked_reason) == (False, None, "")


def test_selected_accounts_are_unblocked(page, account):
    pool.set_aside(account, "suspended")

    html = text(
        page.post(ACCOUNTS, {"action": "unblock", "_selected_action": [account.pk]}, follow=True)
    )

    assert "Accounts unblocked: 1." in html
    assert not VendorAccount.objects.get().is_blocked


@pytest.mark.parametrize(
    ("situation", "word"),
    [
        ("active", "Active"),
        ("held", "In use"),
        ("used up", "Limit reached"),
        ("blocked", "Blocked"),
    ],
)
def test_list_says_what_state_an_account_is_in(page, account, situation, word):
    if situation == "held":
        item = enqueue(CartRequest(account.vendor, "https://vendor.example/p"))
        VendorAccount.objects.update(held_by=item.job)
    if situation == "used up":
        AccountUsage.objects.create(account=account, day=vendors_today(), items_added=50)
    if situation == "blocked":
        pool.set_aside(account, "suspended")

    rows = text(page.get(ACCOUNTS)).partition("<tbody")[2].partition("</tbody>")[0]

    words = {"Active", "In use", "Limit reached", "Blocked"}
    assert {found for found in words if found in rows} == {word}


@pytest.mark.parametrize(
    ("blocked", "word", "colour"),
    [
        ([False, False], "All healthy", "green"),
        ([False, True], "Some blocked", "orange"),
        ([True, True], "All blocked", "red"),
        ([], "No account", "red"),
    ],
)
def test_list_shows_the_health_of_a_vendor(page, vendor, blocked, word, colour):
    for number, is_blocked in enumerate(blocked):
        account = VendorAccount.objects.create(
            vendor=vendor, email=f"{number}@x.example", password="p", is_blocked=is_blocked
        )
        AccountUsage.objects.create(account=account, day=vendors_today(), items_added=75)

    rows = text(page.get(VENDORS)).partition("<tbody")[2].partition("</tbody>")[0]

    assert word in rows
    assert f"bg-{colour}-100" in rows
    assert ("150" in rows) == bool(blocked)


@pytest.mark.parametrize(
    ("health", "found"), [("healthy", "a"), ("some", "b"), ("none", "cd"), ("odd", "abcd")]
)
def test_vendors_are_filtered_by_health(page, health, found):
    for name, blocked in {"a": [False], "b": [False, True], "c": [True], "d": []}.items():
        vendor = Vendor.objects.create(name=f"Shop-{name}", domain=f"{name}.example")
        for number, is_blocked in enumerate(blocked):
            VendorAccount.objects.create(
                vendor=vendor, email=f"{number}@x.example", password="p", is_blocked=is_blocked
            )

    html = text(page.get(VENDORS, {"health": health}))

    assert "".join(name for name in "abcd" if f"Shop-{name}" in html) == found


def test_selectors_are_shown_readably_and_stored_as_they_are_edited(page, vendor):
    html = text(page.get(f"{VENDORS}{vendor.pk}/change/"))
    assert "{\n  &quot;email_input&quot;: &quot;#email&quot;,\n" in html

    selectors = {"add_to_cart": ".new", "variants": {"Size": {"kind": "select", "selector": "#s"}}}
    answer = page.post(
        f"{VENDORS}{vendor.pk}/change/",
        vendor_form(vendor, selectors=json.dumps(selectors), allowed_domains="cdn.example"),
    )

    assert answer.status_code == 302
    vendor.refresh_from_db()
    assert (vendor.selectors, vendor.allowed_domains) == (selectors, ["cdn.example"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"selectors": '{"add_to_crat": ".x"}'}, "Did you mean add_to_cart?"),
        ({"selectors": '{"cart_row": "tr["}'}, "cart_row: "),
        ({"selectors": "{not json"}, "Enter a valid JSON"),
        ({"selectors": "[1]"}, "Give an object"),
        ({"cart_url": "https://elsewhere.example/"}, "not on the vendor&#x27;s domain"),
        ({"domain": "https://vendor.example/"}, "host name"),
        ({"rate_limit_daily": 0}, "greater than or equal to 1"),
    ],
)
def test_wrong_vendor_data_is_refused_beside_its_field(page, vendor, change, sentence):
    before = Vendor.objects.values().get()

    html = text(page.post(f"{VENDORS}{vendor.pk}/change/", vendor_form(vendor, **change)))

    assert sentence in html
    assert Vendor.objects.values().get() == before


def test_empty_selectors_are_none(page, vendor):
    page.post(f"{VENDORS}{vendor.pk}/change/", vendor_form(vendor, selectors=""))

    vendor.refresh_from_db()
    assert vendor.selectors == {}


def test_page_of_a_vendor_says_who_handles_its_items_and_lists_its_accounts(page, account):
    html = text(page.get(f"{VENDORS}{account.vendor_id}/change/"))
    assert "Automation" in html
    assert account.email in html

    Vendor.objects.update(cart_url=None)
    assert "has no cart_url" in text(page.get(f"{VENDORS}{account.vendor_id}/change/"))


def test_new_account_of_a_vendor_starts_with_the_vendor_chosen(page, vendor):
    answer = page.get(f"{VENDORS}{vendor.pk}/add_account/")

    assert answer.url == f"{ACCOUNTS}add/?vendor={vendor.pk}"
    assert f'<option value="{vendor.pk}" selected>' in text(page.get(answer.url))


def test_item_links_to_its_job_and_its_product(page, vendor):
    item = enqueue(CartRequest(vendor, "https://vendor.example/p?a=1&b=<x>", "Pen"))

    html = text(page.get(f"/admin/vendors/queueitem/{item.pk}/change/"))

    assert f"/jobs/{item.job_id}/" in html
    assert "https://vendor.example/p?a=1&amp;b=&lt;x&gt;" in html
    assert "<x>" not in html


@pytest.mark.parametrize("table", [QueueItem, CartItem, Job, Step, Event])
def test_what_the_engine_writes_cannot_be_written_here(page, account, table):
    item = enqueue(CartRequest(account.vendor, "https://vendor.example/p"))
    CartItem.objects.create(vendor_account=account, queue_item=item, product_url=item.product_url)
    path = f"/admin/{table._meta.label_lower.replace('.', '/')}/"
    row = table.objects.values().first()

    assert page.post(f"{path}add/", {}).status_code == 403
    assert page.post(f"{path}{row['id']}/change/", {"status": "completed"}).status_code == 403
    assert page.post(f"{path}{row['id']}/delete/", {"post": "yes"}).status_code == 403
    page.post(path, {"action": "delete_selected", "_selected_action": [row["id"]], "post": "yes"})

    assert table.objects.values().first() == row


def test_staff_without_permission_sees_no_account(client, account):
    client.force_login(User.objects.create_user("charlie", is_staff=True))

    assert client.get(ACCOUNTS).status_code == 403
    assert client.get(f"{ACCOUNTS}{account.pk}/change/").status_code == 403


def test_item_is_found_by_its_id(page, vendor):
    item = enqueue(CartRequest(vendor, "https://vendor.example/p", "Pen"))
    enqueue(CartRequest(vendor, "https://vendor.example/q", "Ink"))

    rows = text(page.get("/admin/vendors/queueitem/", {"q": str(item.pk)}))

    rows = rows.partition("<tbody")[2].partition("</tbody>")[0]
    assert "Pen" in rows
    assert "Ink" not in rows


@pytest.mark.parametrize("path", [VENDORS, ACCOUNTS, "/admin/vendors/queueitem/"])
def test_longer_list_costs_no_more_queries(page, vendor, path, django_assert_num_queries):
    def grow(number: int) -> None:
        shop = Vendor.objects.create(name=f"Shop {number}", domain=f"{number}.example")
        VendorAccount.objects.create(vendor=shop, email=f"{number}@x.example", password="p")
        enqueue(CartRequest(vendor, f"https://vendor.example/{number}"))

    grow(1)
    page.get(path)
    with CaptureQueriesContext(connection) as short:
        page.get(path)
    for number in range(2, 12):
        grow(number)

    with django_assert_num_queries(len(short)):
        page.get(path)

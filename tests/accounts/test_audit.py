"""The audit trail: what makes an entry, whose it is, what it never holds, how long it stays."""

import subprocess
import sys
from datetime import timedelta
from io import StringIO

import pytest
from auditlog.models import LogEntry
from auditlog.registry import auditlog
from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts import audit
from accounts.audit import Act
from accounts.models import ApiKey, User, Workspace
from tests.audited import acts, entries, facts, trail_holds
from tests.jobs.workers import process_environment
from vendors.models import Vendor, VendorAccount

pytestmark = pytest.mark.django_db
TRAIL = "/admin/auditlog/logentry/"
VENDORS = "/api/admin/vendors"
VENDOR = {"name": "Vendor Co", "domain": "vendor.example"}
PASSWORD = "korrekt-Pferd-Batterie"
ADDRESS = "203.0.113.7"


@pytest.fixture
def olga() -> User:
    """An admin."""
    return User.objects.create_user("olga", password=PASSWORD, is_staff=True, is_superuser=True)


@pytest.fixture
def page(olga) -> Client:
    client = Client(REMOTE_ADDR=ADDRESS)
    client.force_login(olga)
    return client


def only(row):
    (entry,) = entries(row)
    return entry


def text(response) -> str:
    assert response.status_code == 200, response
    return response.content.decode()


def may_view() -> Permission:
    return Permission.objects.get(codename="view_logentry", content_type__app_label="auditlog")


# ---- who, and from where ------------------------------------------------------------------------


def test_entry_of_a_page_names_its_user_address_and_request(page, olga):
    answer = page.post("/admin/accounts/workspace/add/", {"name": "Night shift"})

    entry = only(Workspace.objects.get(name="Night shift"))
    assert entry.actor == olga
    assert entry.remote_addr == ADDRESS
    assert entry.additional_data == {"act": "created", "by": "olga", "through": "page"}
    assert entry.cid == answer.headers["X-Request-ID"]
    assert entry.changes == {"name": [None, "Night shift"]}


def test_entry_of_an_api_key_names_its_user_and_the_key(olga):
    key, secret = ApiKey.issue(olga, "ERPNext")
    client = APIClient(headers={"authorization": f"token {key.key}:{secret}"}, REMOTE_ADDR=ADDRESS)

    assert client.post(VENDORS, VENDOR, format="json").status_code == 201

    entry = only(Vendor)
    assert (entry.actor, entry.remote_addr) == (olga, ADDRESS)
    assert entry.additional_data["through"] == f"API key ERPNext ({key.key})"
    assert not trail_holds(secret)
    assert not trail_holds(key.secret_hash)


def test_entry_of_a_token_names_its_user_and_holds_no_token(olga):
    tokens = APIClient().post("/api/token", {"username": "olga", "password": PASSWORD}, "json")
    token = tokens.json()["access"]
    client = APIClient(headers={"authorization": f"Bearer {token}"})

    assert client.post(VENDORS, VENDOR, format="json").status_code == 201

    entry = only(Vendor)
    assert (entry.actor, entry.additional_data["through"]) == (olga, "token")
    assert not trail_holds(token)


def test_entry_of_a_page_that_calls_rest_names_its_user(page, olga):
    assert page.post(VENDORS, VENDOR, content_type="application/json").status_code == 201

    entry = only(Vendor)
    assert (entry.actor, entry.remote_addr) == (olga, ADDRESS)
    assert entry.additional_data["through"] == "page"


@pytest.mark.parametrize("forged", ["198.51.100.1", "no address at all", "1.1.1.1:80, 2.2.2.2"])
def test_address_that_the_caller_writes_into_a_header_is_not_believed(page, forged):
    page.post(
        "/admin/accounts/workspace/add/", {"name": "Night"}, headers={"x-forwarded-for": forged}
    )

    assert only(Workspace.objects.get(name="Night")).remote_addr == ADDRESS


@pytest.mark.parametrize(
    ("address", "noted"), [("", None), ("fe80::1%eth0", "fe80::1"), ("::1", "::1")]
)
def test_caller_without_a_plain_address_is_audited_all_the_same(page, address, noted):
    page.post("/admin/accounts/workspace/add/", {"name": "Night"}, REMOTE_ADDR=address)

    assert only(Workspace.objects.get(name="Night")).remote_addr == noted


def test_what_comes_after_a_request_is_not_its_users(page):
    page.get("/admin/")

    Workspace.objects.create(name="Night")

    entry = only(Workspace.objects.get(name="Night"))
    assert (entry.actor, entry.remote_addr, entry.cid) == (None, None, None)
    assert entry.additional_data == {"act": "created"}


@pytest.mark.django_db(transaction=True)
def test_entry_of_a_command_names_it_and_the_systems_user():
    done = subprocess.run(
        [sys.executable, "manage.py", "create_api_key", "ERPNext", "--quiet"],
        cwd=settings.BASE_DIR,
        env=process_environment() | {"LOGNAME": "night-operator"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert acts() == ["created", "changed", "created"]
    for entry in entries():
        assert entry.actor is None
        assert entry.additional_data["through"] == "manage.py create_api_key"
        assert entry.additional_data["by"] == "night-operator"
    assert not trail_holds(done.stdout.strip().partition(":")[2])


def test_entry_keeps_the_name_of_a_user_who_is_deleted(page, olga):
    page.post("/admin/accounts/workspace/add/", {"name": "Night shift"})

    olga.delete()

    entry = only(Workspace.objects.get(name="Night shift"))
    assert (entry.actor, entry.additional_data["by"]) == (None, "olga")


# ---- people and keys ----------------------------------------------------------------------------


def test_changed_user_shows_what_changed_and_no_password(page):
    bob = User.objects.create_user("bob", password="first-password")
    old_hash = bob.password

    bob.is_staff = True
    bob.set_password("second-password")
    bob.save()

    created, changed = entries(bob)
    assert created.changes["username"] == [None, "bob"]
    assert created.changes["password"] == ["(hidden)", "(hidden)"]
    assert "id" not in created.changes
    assert changed.changes == {
        "is_staff": [False, True],
        "password": ["(hidden)", "(hidden)"],
    }
    for secret in ("first-password", "second-password", old_hash, bob.password, old_hash[-20:]):
        assert not trail_holds(secret)


def test_log_in_alone_makes_no_entry(olga):
    before = len(entries())

    APIClient().post("/api/token", {"username": "olga", "password": PASSWORD}, "json")
    olga.refresh_from_db()

    assert olga.last_login is not None
    assert len(entries()) == before


def test_groups_and_permissions_given_to_a_user_are_noted(olga):
    group = Group.objects.create(name="Buyers")
    permission = Permission.objects.get(
        codename="view_logentry", content_type__app_label="auditlog"
    )

    olga.groups.add(group)
    olga.user_permissions.add(permission)
    olga.groups.remove(group)

    given, permitted, taken = entries(olga)[1:]
    assert given.changes["groups"] == {"type": "m2m", "operation": "add", "objects": ["Buyers"]}
    assert permitted.changes["user_permissions"]["operation"] == "add"
    assert taken.changes["groups"]["operation"] == "delete"


def test_key_made_and_revoked_in_the_admin_makes_two_entries(page, olga):
    page.post("/admin/accounts/apikey/add/", {"name": "ERPNext", "user": olga.pk})
    key = ApiKey.objects.get()

    page.post("/admin/accounts/apikey/", {"action": "revoke", "_selected_action": [key.pk]})
    page.post("/admin/accounts/apikey/", {"action": "revoke", "_selected_action": [key.pk]})

    assert acts(key) == ["created", "revoked"]
    assert [entry.actor for entry in entries(key)] == [olga, olga]
    assert not trail_holds(key.secret_hash)


def test_keys_that_a_command_replaces_are_noted_as_revoked():
    call_command("create_api_key", "ERPNext", stdout=StringIO())
    first = ApiKey.objects.get()

    call_command("create_api_key", "ERPNext", "--replace", stdout=StringIO())

    assert acts(first) == ["created", "revoked"]
    assert acts(ApiKey.objects.get(revoked_at=None)) == ["created"]


def test_use_of_a_key_makes_no_entry(olga):
    key, secret = ApiKey.issue(olga, "ERPNext")

    APIClient(headers={"authorization": f"token {key.key}:{secret}"}).get(VENDORS)

    key.refresh_from_db()
    assert key.last_used_at is not None
    assert acts(key) == ["created"]


# ---- rows with secrets --------------------------------------------------------------------------


@pytest.fixture
def account() -> VendorAccount:
    vendor = Vendor.objects.create(name="Vendor Co", domain="vendor.example")
    VendorAccount.objects.create(vendor=vendor, email="one@vendor.example", password=PASSWORD)
    return VendorAccount.objects.get()


def test_new_password_is_noted_and_not_shown(account):
    account.password = "ein-neues-Passwort"
    account.save(update_fields=["password"])

    _, renewed = entries(account)
    assert renewed.additional_data["act"] == "new_secret"
    assert facts(renewed) == {"columns": ["password"]}
    assert renewed.changes is None
    assert not trail_holds(PASSWORD)
    assert not trail_holds("ein-neues-Passwort")
    assert VendorAccount.objects.get().password == "ein-neues-Passwort"


def test_saving_a_row_again_makes_no_new_password(account):
    account.save()
    fresh = VendorAccount(vendor=account.vendor, email="two@vendor.example", password=PASSWORD)
    fresh.save()
    fresh.save()

    assert acts(account) == ["created"]
    assert acts(fresh) == ["created"]
    assert fresh.password == PASSWORD


def test_password_that_no_longer_opens_can_be_replaced(account):
    VendorAccount.objects.filter(pk=account.pk).update(password=audit.Sealed(b"1|lost|garbage"))
    account = VendorAccount.objects.get()

    account.password = PASSWORD
    account.save()

    assert acts(account) == ["created", "new_secret"]
    assert VendorAccount.objects.get().password == PASSWORD


def test_system_columns_make_no_entry_and_cost_no_query(account):
    account.session_data = {"cookies": []}
    with CaptureQueriesContext(
        connection,
    ) as queries:
        account.save(update_fields=["session_data"])

    assert [query["sql"].split()[0] for query in queries] == ["UPDATE"]
    assert acts(account) == ["created"]


# ---- one transaction ----------------------------------------------------------------------------


def test_act_noted_outside_of_its_transaction_is_refused(transactional_db):
    bob = User.objects.create_user("bob")

    with pytest.raises(transaction.TransactionManagementError, match="outside of the transaction"):
        audit.note(bob, Act.PAUSED)

    assert acts(bob) == ["created"]


@pytest.mark.django_db(transaction=True)
def test_change_that_is_rolled_back_leaves_no_entry_and_none_without_its_change():
    bob = User.objects.create_user("bob")
    key, _ = ApiKey.issue(bob, "ERPNext")
    bob.first_name = "Bob"

    with transaction.atomic():
        bob.save()
        ApiKey.revoke(ApiKey.objects.all())
        assert (acts(bob), acts(key)) == (["created", "changed"], ["created", "revoked"])
        transaction.set_rollback(True)

    assert (acts(bob), acts(key)) == (["created"], ["created"])


@pytest.mark.django_db(transaction=True)
def test_entry_that_cannot_be_written_undoes_its_change():
    bob = User.objects.create_user("bob")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE auditlog_logentry ADD CONSTRAINT full_ CHECK (action <> 1)")
    try:
        bob.first_name = "Bob"
        with pytest.raises(Exception, match="full_"):
            bob.save()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE auditlog_logentry DROP CONSTRAINT full_")

    assert User.objects.get().first_name == ""


# ---- the page -----------------------------------------------------------------------------------


def test_trail_is_listed_filtered_and_searched(page, olga):
    page.post("/admin/accounts/workspace/add/", {"name": "Night shift"})
    night = Workspace.objects.get(name="Night shift")
    with transaction.atomic():
        audit.note(night, Act.PAUSED, called="the night", reason="Stocktaking")
    entry = entries(night)[0]
    kind = entry.content_type_id

    def shown(query: str) -> list[str]:
        html = text(page.get(f"{TRAIL}?{query}"))
        return [name for name in ("Night shift", "the night") if f">{name}</a>" in html]

    assert shown("") == ["Night shift", "the night"]
    assert shown("act=paused") == ["the night"]
    assert shown("act=created") == ["Night shift"]
    assert shown(f"actor={olga.pk}") == ["Night shift"]
    assert shown("actor=none") == ["the night"]
    assert shown(f"type={kind}") == ["Night shift", "the night"]
    assert shown("type=1000000") == []
    assert shown("timestamp__year=1999") == []
    assert shown("q=the+night") == ["the night"]
    assert shown("q=olga") == ["Night shift"]
    assert shown(f"q={night.pk}") == ["Night shift", "the night"]
    assert shown(f"q={entry.cid}") == ["Night shift"]
    assert shown(f"q={ADDRESS}") == ["Night shift"]
    assert shown("act=nonsense&actor=nonsense&type=nonsense") == ["Night shift", "the night"]


def test_page_of_an_entry_shows_what_changed(page):
    vendor = Vendor.objects.create(**VENDOR, selectors={"add_to_cart": ".a", "cart_row": ".line"})
    vendor.selectors = {"add_to_cart": ".b", "cart_row": ".line"}
    vendor.save()
    changed = entries(vendor)[-1]

    html = text(page.get(f"{TRAIL}{changed.pk}/change/"))

    assert "selectors.add_to_cart" in html
    assert "Changed" in html
    assert "Act." not in html
    assert ".line" not in html


def test_markup_in_a_row_is_shown_as_text(page):
    vendor = Vendor.objects.create(**VENDOR | {"name": "<b>Bold</b>"})

    for path in (TRAIL, f"{TRAIL}{entries(vendor)[0].pk}/change/"):
        assert "<b>Bold" not in text(page.get(path))


def test_nobody_changes_or_deletes_an_entry(page, olga):
    entry = only(olga)

    assert page.get(f"{TRAIL}add/").status_code == 403
    assert page.post(f"{TRAIL}{entry.pk}/change/", {"object_repr": "x"}).status_code == 403
    assert page.post(f"{TRAIL}{entry.pk}/delete/", {"post": "yes"}).status_code == 403
    page.post(TRAIL, {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"})

    assert only(olga).object_repr == "olga"


def test_trail_is_for_who_was_given_it():
    client, staff = Client(), User.objects.create(username="bob", is_staff=True)
    client.force_login(staff)
    assert client.get(TRAIL).status_code == 403

    staff.user_permissions.add(may_view())

    assert text(client.get(TRAIL))
    client.force_login(User.objects.create(username="charlie"))
    assert client.get(TRAIL).status_code == 302


# ---- how long it stays --------------------------------------------------------------------------


def aged(*days: int) -> None:
    LogEntry.objects.all().delete()
    for number, age in enumerate(days):
        Workspace.objects.create(name=f"Team {number}")
        LogEntry.objects.filter(object_repr=f"Team {number}").update(
            timestamp=Now() - timedelta(days=age, minutes=1)
        )


def names() -> list[str]:
    return [entry.object_repr for entry in entries()]


def test_command_deletes_what_is_older_than_its_days_and_first_says_how_much(settings):
    aged(401, 400, 399, 0)
    printed = StringIO()

    call_command("audit_clean", "--dry-run", stdout=printed)
    assert len(names()) == 4
    call_command("audit_clean", stdout=printed)

    assert printed.getvalue().split("\n")[:2] == ["2 entries to delete", "2 entries deleted"]
    assert names() == ["Team 2", "Team 3"]
    call_command("audit_clean", "--days", "1", stdout=printed)
    assert names() == ["Team 3"]


@pytest.mark.parametrize("days", ["0", "-1", "x"])
def test_days_that_would_delete_today_are_refused(days):
    aged(0)

    with pytest.raises(CommandError, match="whole number from 1"):
        call_command("audit_clean", f"--days={days}")

    assert names() == ["Team 0"]


def test_deletion_goes_batch_by_batch(monkeypatch):
    aged(500, 500, 500, 0)
    monkeypatch.setattr(audit, "BATCH", 2)

    with CaptureQueriesContext(connection) as queries:
        assert audit.delete_old_entries(timedelta(days=400)) == 3

    assert [query["sql"].split()[0] for query in queries].count("DELETE") == 2
    assert names() == ["Team 3"]


# ---- what is not registered ---------------------------------------------------------------------


def test_tables_of_the_hot_path_are_not_compared_on_every_save():
    registered = {model._meta.label for model in auditlog.get_models()}

    assert registered == {
        "accounts.ApiKey",
        "accounts.User",
        "accounts.Workspace",
        "jobs.InboundSource",
        "jobs.OtpRule",
        "jobs.WebhookEndpoint",
        "payments.Card",
        "payments.PaymentSite",
        "payments.SiteAccount",
        "vendors.ErpnextConnection",
        "vendors.Vendor",
        "vendors.VendorAccount",
    }

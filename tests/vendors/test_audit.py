"""Who changed a vendor or an account, and who used an account's password; never the password."""

import pytest
from django.test import Client

from accounts.models import User
from automation.errors import SiteTimeout, WrongCredentials
from jobs.models import Step
from jobs.runner import runner
from tests.audited import acts, entries, facts, trail_holds
from tests.jobs.crashing import crash
from vendors import cart_queue, pool, workflows
from vendors.models import Vendor, VendorAccount

PASSWORD = "korrekt-Pferd-Batterie"
SESSION = {
    "storage_state": {"cookies": [{"name": "sid", "value": "geheim-4711"}]},
    "version": "1",
    "cart": [],
    "cart_read_at": "2026-11-21T09:00:00+00:00",
}
ACCOUNTS = "/admin/vendors/vendoraccount/"
ADDRESS = "203.0.113.7"


@pytest.fixture
def olga(db) -> User:
    return User.objects.create(username="olga", is_staff=True, is_superuser=True)


@pytest.fixture
def page(olga) -> Client:
    client = Client(REMOTE_ADDR=ADDRESS)
    client.force_login(olga)
    return client


def last(row):
    return entries(row)[-1]


def test_vendor_changed_over_rest_shows_what_changed(admin_api, vendor):
    body = {"name": "Vendor & Co", "domain": vendor.domain, "selectors": {"add_to_cart": ".new"}}

    answer = admin_api.put(f"/api/admin/vendors/{vendor.pk}", body, format="json")

    assert answer.status_code == 200, answer.json()
    entry = last(vendor)
    assert entry.actor.username == "operations"
    assert entry.changes["name"] == ["Vendor Co", "Vendor & Co"]
    assert entry.changes["selectors"][1] == {"add_to_cart": ".new"}
    assert "domain" not in entry.changes


def test_account_made_over_rest_is_noted_without_its_password(admin_api, vendor):
    body = {"vendor_id": str(vendor.pk), "email": "a@vendor.example", "password": PASSWORD}

    assert admin_api.post("/api/admin/accounts", body, format="json").status_code == 201

    entry = last(VendorAccount)
    assert (entry.additional_data["act"], entry.object_repr) == ("created", "a@vendor.example")
    assert entry.changes["vendor"] == [None, str(vendor.pk)]
    assert not trail_holds(PASSWORD)


def test_password_changed_in_the_admin_is_noted_with_who_and_from_where(page, olga, account):
    page.post(
        f"{ACCOUNTS}{account.pk}/change/",
        {"email": "new@vendor.example", "new_password": "ein-neues-Passwort", "notes": ""},
    )

    _, changed, renewed = entries(account)
    assert changed.changes == {"email": ["one@vendor.example", "new@vendor.example"]}
    assert renewed.additional_data["act"] == "new_secret"
    assert facts(renewed) == {"columns": ["password"]}
    assert {(entry.actor, entry.remote_addr) for entry in (changed, renewed)} == {(olga, ADDRESS)}
    assert not trail_holds(PASSWORD)
    assert not trail_holds("ein-neues-Passwort")


def test_account_set_aside_and_unblocked_by_a_person_is_noted(page, olga, account):
    form = {"email": account.email, "new_password": "", "notes": "", "is_blocked": "on"}
    page.post(f"{ACCOUNTS}{account.pk}/change/", form)
    page.post(ACCOUNTS, {"action": "unblock", "_selected_action": [account.pk]})
    page.post(ACCOUNTS, {"action": "unblock", "_selected_action": [account.pk]})

    assert acts(account) == ["created", "set_aside", "unblocked"]
    _, aside, back = entries(account)
    assert facts(aside) == {"reason": "Set aside by olga."}
    assert {entry.actor for entry in (aside, back)} == {olga}


def test_accounts_that_go_with_their_vendor_are_noted(page, olga, account):
    page.post(f"/admin/vendors/vendor/{account.vendor_id}/delete/", {"post": "yes"})

    assert not Vendor.objects.exists()
    assert (last(Vendor).additional_data["act"], last(Vendor).actor) == ("deleted", olga)
    assert (last(VendorAccount).additional_data["act"], last(VendorAccount).actor) == (
        "deleted",
        olga,
    )


@pytest.mark.django_db(transaction=True)
def test_password_saved_by_a_process_that_is_killed_is_there_with_its_entry_or_not(account):
    account.password = "ein-neues-Passwort"

    crash("before", "save", account)
    assert acts(account) == ["created"]
    assert VendorAccount.objects.get().password == PASSWORD

    crash("after", "save", account)
    assert acts(account) == ["created", "new_secret"]
    assert VendorAccount.objects.get().password == "ein-neues-Passwort"


# ---- workers ------------------------------------------------------------------------------------


class Browser:
    """The outside: a browser that meets only trouble."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.noted: list[str] = []

    def run(self, *args, **kwargs):
        self.noted = acts(VendorAccount)
        raise self.error


@pytest.fixture
def browser(monkeypatch):
    browser = Browser(SiteTimeout("The shop did not answer."))
    monkeypatch.setattr(workflows, "get_browser_host", lambda: browser)
    return browser


def add_to_cart(account) -> Step:
    account.session_data = SESSION
    account.save(update_fields=["session_data"])
    item = cart_queue.enqueue(cart_queue.CartRequest(account.vendor, "https://vendor.example/p"))
    runner.run_ready_steps(["steps"])
    return Step.objects.get(job=item.job_id, name="add_to_cart")


@pytest.mark.django_db(transaction=True)
def test_use_of_an_accounts_secrets_by_a_worker_is_noted_before_with_its_job(account, browser):
    step = add_to_cart(account)

    assert browser.noted == ["created", "used"]
    entry = last(account)
    assert entry.additional_data == {
        "act": "used",
        "through": "worker",
        "facts": {"job": str(step.job_id), "step": "add_to_cart", "attempt": 1},
    }
    assert (entry.actor, entry.remote_addr, entry.cid) == (None, None, str(step.job_id))
    assert not trail_holds(PASSWORD)
    assert not trail_holds("geheim-4711")


@pytest.mark.django_db(transaction=True)
def test_account_that_a_worker_sets_aside_is_noted_with_its_job(account, browser):
    browser.error = WrongCredentials("The shop refuses the password.")

    step = add_to_cart(account)

    aside = last(account)
    assert aside.additional_data["act"] == "set_aside"
    assert aside.additional_data["through"] == "worker"
    assert aside.cid == str(step.job_id)


@pytest.mark.django_db(transaction=True)
def test_reserving_an_account_makes_no_entry(account):
    item = cart_queue.enqueue(cart_queue.CartRequest(account.vendor, "https://vendor.example/p"))

    pool.reserve_account(account.vendor, item.job_id)

    assert VendorAccount.objects.get().held_by_id == item.job_id
    assert acts(account) == ["created"]

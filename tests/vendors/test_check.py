"""Checks of vendor data and of accounts' log-ins: real Chromium at the sandbox shops."""

import json
from io import StringIO

import pytest
from auditlog.models import LogEntry
from django.core.management import CommandError, call_command

from jobs import live
from jobs.models import Artifact, Status
from jobs.runner import runner
from tests.automation.test_sandbox import PASSWORD, Control, Customer, sandbox_process
from tests.jobs.rivals import elsewhere
from tests.vendors.test_pool import new_job
from tests.waiting import wait_until
from vendors import browsing, check, check_workflow, pool
from vendors.models import Vendor, VendorAccount

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

EVERYTHING_FITS = {
    "vendor_data": "passed",
    "open": "passed",
    "cookie_banner": "passed",
    "login_form": "passed",
    "login": "passed",
    "logged_in_indicator": "passed",
    "product_page": "passed",
    "price": "passed",
    "quantity": "passed",
    "variant": "passed",
    "add_button": "passed",
    "cart_page": "passed",
    "cart_rows": "passed",
}


@pytest.fixture(autouse=True)
def _hints_are_not_sent(monkeypatch):
    monkeypatch.setattr(live.messenger, "post", lambda *_, **__: None)


@pytest.fixture(scope="module")
def sandbox_url(tmp_path_factory):
    with sandbox_process(tmp_path_factory.mktemp("sandbox") / "ledger.sqlite3") as (_, url):
        yield url


@pytest.fixture(scope="module", autouse=True)
def _browser():
    yield
    browsing.close_browser()
    browsing.get_browser_host.cache_clear()


class Shop(Control):
    """A sandbox shop and its vendor here, with an account of both."""

    def enrol(self, **selectors):
        data = self.ask("vendor")
        for key, selector in selectors.items():
            data["selectors"][key] = selector
        self.vendor = Vendor.objects.create(**data)
        self.account = VendorAccount.objects.create(
            vendor=self.vendor, email=self.new_account(), password=PASSWORD
        )
        return self.vendor

    def url_of(self, slug):
        return {each["slug"]: each["url"] for each in self.ask("products")["products"]}[slug]

    def check(self, slug=None, **options):
        url = self.url_of(slug) if slug else None
        return finish(check.submit_vendor_check(self.vendor, product_url=url, **options))

    def test_account(self):
        return finish(check.submit_account_test(self.account))

    def log_ins(self):
        return self.ask("logins", account=self.account.email)["succeeded"]


@pytest.fixture
def shop(sandbox_url):
    yield from open_shop(sandbox_url, "corner")


@pytest.fixture
def depot(sandbox_url):
    yield from open_shop(sandbox_url, "depot")


def open_shop(url, name):
    with Shop(url, f"{name}.localhost") as control:
        yield control
        control.delete("/_sandbox/switches")


def finish(job):
    runner.run_ready_steps(["steps"])
    job.refresh_from_db()
    return job


def outcomes(job):
    found = {}
    for finding in check.result_of(job)["findings"]:
        found.setdefault(finding["step"], finding["outcome"])
    return found


def failures(job):
    findings = check.result_of(job)["findings"]
    return [(each["step"], each["key"]) for each in findings if each["outcome"] == "failed"]


def put_in_cart(shop, slug):
    """By hand, so that there are rows to see."""
    with Customer(shop, shop.account.email) as customer:
        customer.log_in()
        customer.add(slug)


def test_data_that_fits_passes_every_step_and_adds_nothing(shop):
    shop.enrol()
    put_in_cart(shop, "highlighters")
    before = shop.cart_of(shop.account.email)

    job = shop.check("gel-pens", variant={"Colour": "Black"})

    assert (job.status, outcomes(job)) == (Status.COMPLETED, EVERYTHING_FITS)
    assert check.result_of(job)["passed"] is True
    assert shop.cart_of(shop.account.email) == before
    assert not Artifact.objects.filter(job=job).exists()
    shop.account.refresh_from_db()
    assert shop.account.held_by is None
    assert shop.account.session_data["cart"][0]["quantity"] == 1


@pytest.mark.parametrize(
    ("key", "step"),
    [
        ("email_input", "login_form"),
        ("login_button", "login_form"),
        ("logged_in_indicator", "logged_in_indicator"),
        ("quantity_input", "quantity"),
        ("add_to_cart", "add_button"),
        ("cart_row", "cart_rows"),
        ("cart_row_name", "cart_rows"),
        ("cart_quantity", "cart_rows"),
    ],
)
def test_selector_that_fits_nothing_is_named_with_a_screenshot(shop, key, step):
    shop.enrol(**{key: ".no-such-thing"})
    put_in_cart(shop, "highlighters")

    job = shop.check("highlighters")

    assert (step, key) in failures(job)
    assert check.result_of(job)["failed_keys"] == [key]
    finding = next(each for each in check.result_of(job)["findings"] if each["key"] == key)
    assert finding["selector"] == ".no-such-thing"
    picture = Artifact.objects.get(job=job, file__contains=step)
    with picture.file.open() as png:
        assert png.read(4) == b"\x89PNG"


# XPath, generated class names, no quantity on the product page.
@pytest.mark.parametrize("cart_rows", ["passed", "doubtful"])
def test_shop_of_another_kind_passes_as_well(depot, cart_rows):
    depot.enrol()
    if cart_rows == "passed":
        put_in_cart(depot, "10633-hand-truck")

    job = depot.check("10633-hand-truck")

    # The truck has none of the options that other products have.
    differs = {"quantity": "skipped", "variant": "doubtful", "cart_rows": cart_rows}
    assert outcomes(job) == EVERYTHING_FITS | differs
    assert check.result_of(job)["passed"] is True


def test_page_of_the_check_says_what_failed_and_what_to_do(shop, client, admin_user):
    shop.enrol(add_to_cart="#gone")
    job = shop.check("highlighters")

    subject = check_workflow.describe_check(job.pk)

    facts = {fact.label: fact.text for fact in subject.facts}
    assert facts["Add button"].startswith("Failed: ")
    assert "(add_to_cart: #gone)" in facts["Add button"]
    assert subject.advice == (
        "Correct add_to_cart on the vendor's page by the screenshots, and check again."
    )
    client.force_login(admin_user)
    assert client.get(job.get_absolute_url()).status_code == 200


def test_wrong_password_fails_the_log_in_and_the_rest_that_can_be_seen_is_seen(shop):
    shop.enrol()
    VendorAccount.objects.get().delete()
    shop.account = VendorAccount.objects.create(
        vendor=shop.vendor, email=shop.new_account(), password="wrong"
    )

    job = shop.check("highlighters")

    assert failures(job) == [("login", None)]
    seen = outcomes(job)
    assert (seen["add_button"], seen["cart_rows"]) == ("passed", "skipped")
    shop.account.refresh_from_db()
    assert (shop.account.is_blocked, shop.account.session_data) == (False, None)


def test_captcha_ends_the_check_and_names_its_selector(shop):
    shop.enrol()
    shop.switch(captcha="login")

    job = shop.check("highlighters")

    assert [key for _, key in failures(job)] == ["captcha_indicator"]
    assert outcomes(job)["cart_rows"] == "skipped"


def test_sign_that_stands_there_before_the_log_in_is_refused(shop):
    shop.enrol(logged_in_indicator="body")

    job = shop.check()

    assert failures(job) == [("logged_in_indicator", "logged_in_indicator")]
    assert shop.log_ins() == 0


def test_check_waits_while_an_add_holds_the_account(shop):
    shop.enrol()
    other = new_job()
    pool.reserve_account(shop.vendor, other.pk)

    job = shop.check()

    assert job.status in (Status.WAITING, Status.RUNNING, Status.PENDING)
    assert job.steps.get().status == Status.WAITING
    assert shop.ask("logins", account=shop.account.email)["succeeded"] == 0
    shop.account.refresh_from_db()
    assert shop.account.held_by_id == other.pk


# ---- accounts ------------------------------------------------------------------------------------


def test_account_test_logs_in_for_real_and_refreshes_the_session(shop):
    shop.enrol()
    shop.account.session_data = {
        "storage_state": {"cookies": [], "origins": []},
        "version": "old",
        "cart": [],
        "cart_read_at": "2026-01-01T00:00:00+00:00",
    }
    shop.account.save()

    job = shop.test_account()

    assert job.status == Status.COMPLETED
    assert check.result_of(job) == {
        "account": shop.account.email,
        "logged_in": True,
        "session_saved": True,
        "is_blocked": False,
    }
    assert shop.log_ins() == 1
    shop.account.refresh_from_db()
    assert shop.account.session_data["version"] != "old"
    assert shop.account.session_data["storage_state"]["cookies"]
    uses = LogEntry.objects.get_for_object(shop.account).filter(action=LogEntry.Action.ACCESS)
    assert uses.count() == 1


def test_session_that_holds_a_cart_is_kept(shop):
    shop.switch(cart_scope="session")
    shop.enrol()
    shop.test_account()
    shop.account.refresh_from_db()
    first = shop.account.session_data

    job = shop.test_account()

    assert check.result_of(job)["session_saved"] is False
    shop.account.refresh_from_db()
    assert shop.account.session_data == first


@pytest.mark.parametrize("why", ["password", "blocked"])
def test_account_that_the_shop_refuses_is_set_aside(shop, why):
    shop.enrol()
    if why == "password":
        shop.account.password = "wrong"
        shop.account.save()
    else:
        shop.post("/_sandbox/switches", json={"blocked": True})

    job = shop.test_account()

    assert job.status == Status.FAILED
    assert job.error["code"] == {"password": "wrong_credentials", "blocked": "account_blocked"}[why]
    assert job.steps.get().attempt == 1
    shop.account.refresh_from_db()
    assert shop.account.is_blocked
    assert shop.account.blocked_reason == job.error["message"]
    assert shop.account.held_by is None


def test_account_that_is_set_aside_can_be_tested_and_stays_so(shop):
    shop.enrol()
    pool.set_aside(shop.account, "Looked blocked.")

    job = shop.test_account()

    assert check.result_of(job)["logged_in"] is True
    assert check.result_of(job)["is_blocked"] is True
    shop.account.refresh_from_db()
    assert shop.account.is_blocked


def test_log_in_that_is_slowed_down_waits_and_costs_no_attempt(shop):
    shop.enrol()
    shop.switch(login_limit=1, login_window_seconds=600)
    with Customer(shop, shop.account.email) as customer:
        customer.log_in()

    job = shop.test_account()

    step = job.steps.get()
    assert (step.status, step.attempt) == (Status.WAITING, 0)
    shop.account.refresh_from_db()
    assert not shop.account.is_blocked


# ---- commands ------------------------------------------------------------------------------------


def run_beside_a_worker(*arguments, **options):
    """The command's output, while a worker carries out what it asks for."""
    out = StringIO()
    elsewhere(
        lambda: call_command(*arguments, stdout=out, **options),
        lambda: wait_until(lambda: runner.run_ready_steps(["steps"])),
    )
    return out.getvalue()


def test_command_names_the_selector_that_does_not_fit(shop):
    shop.enrol(quantity_input="#gone")

    with pytest.raises(CommandError, match="Correct quantity_input; screenshots are on") as error:
        run_beside_a_worker("vendors_check", "corner.localhost", product=shop.url_of("gel-pens"))

    assert error.value.returncode == 3


def test_command_prints_the_result_as_json(shop):
    shop.enrol()

    printed = json.loads(run_beside_a_worker("vendors_check", "corner.localhost", json=True))

    assert printed["status"] == "completed"
    assert printed["result"]["passed"] is True
    assert printed["result"]["account"] == shop.account.email


def test_accounts_check_says_who_could_log_in(shop):
    shop.enrol()

    said = run_beside_a_worker("accounts_check", shop.account.email)

    assert said == f"ok   Log in as {shop.account} at {shop.vendor}\n"


def test_command_that_nobody_works_for_says_where_to_look(shop):
    shop.enrol()

    with pytest.raises(CommandError, match=r"has not finished in 0 s\. It goes on") as error:
        call_command("accounts_check", "--all", "--timeout", "0", stdout=StringIO())

    assert error.value.returncode == 4

"""The sandbox shops, driven over HTTP in a process of their own, as the rest of the world does."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from playwright.async_api import async_playwright

from automation.site import site_problems

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
JSON = {"Accept": "application/json"}
PASSWORD = "sandbox-pw"


@contextmanager
def sandbox_process(ledger):
    process = subprocess.Popen(
        [sys.executable, "-m", "automation.sandbox", "--port", "0", "--ledger", str(ledger)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    with process:
        try:
            yield process, json.loads(process.stdout.readline())["url"]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    ledger = tmp_path_factory.mktemp("sandbox") / "ledger.sqlite3"
    with sandbox_process(ledger) as (_, url):
        yield url, ledger


@pytest.fixture
def corner(sandbox):
    yield from _shop(sandbox, "corner")


@pytest.fixture
def gate(sandbox):
    yield from _shop(sandbox, "gate")


@pytest.fixture
def depot(sandbox):
    yield from _shop(sandbox, "depot")


def _shop(sandbox, name):
    with Control(sandbox[0], f"{name}.localhost") as control:
        yield control
        control.delete("/_sandbox/switches")


class Control(httpx.Client):
    """The control paths of one shop."""

    def __init__(self, url, host):
        super().__init__(base_url=url, headers={"Host": host})
        self.host = host

    def ask(self, path, **params):
        return self.get(f"/_sandbox/{path}", params=params).raise_for_status().json()

    def switch(self, **values):
        self.post("/_sandbox/switches", json=values).raise_for_status()

    def cart_of(self, email):
        return [
            (line["product"], line["variant"], line["quantity"])
            for line in self.ask("cart", account=email)["lines"]
        ]

    def actions_of(self, email):
        return [entry["action"] for entry in self.ask("ledger", account=email)["entries"]]

    def new_account(self):
        email = f"{uuid4().hex[:12]}@office.example"
        self.post("/_sandbox/accounts", json={"email": email, "password": PASSWORD})
        return email

    @contextmanager
    def customer(self, email=None):
        with Customer(self, email or self.new_account()) as customer:
            customer.log_in()
            yield customer


class Customer(httpx.Client):
    """A visitor with cookies, who fills in forms."""

    def __init__(self, control, email):
        super().__init__(base_url=control.base_url, headers={"Host": control.host})
        self.control = control
        self.email = email
        vendor = control.ask("vendor")
        self.login_path = httpx.URL(vendor["login_url"]).path
        self.cart_path = httpx.URL(vendor["cart_url"]).path

    def submit(self, path, headers=None, **form):
        if "shop_csrf" not in self.cookies:
            self.get("/")
        form = {"csrf": self.cookies["shop_csrf"], **form}
        return self.post(path, data=form, headers=headers, timeout=10)

    def log_in(self, password=PASSWORD):
        return self.submit(self.login_path, email=self.email, password=password)

    def add(self, product, quantity="1", **form):
        return self.submit(
            f"{self.cart_path}/add", JSON, product=product, quantity=quantity, **form
        ).json()

    @property
    def is_logged_in(self):
        return self.get("/").text.count("Log in") + self.get("/").text.count("Sign in") == 0


# The shops


def test_each_shop_answers_to_its_name_and_no_page_links_to_the_control_paths(sandbox):
    url, _ = sandbox
    addresses = httpx.get(url).text.split()

    pages = [httpx.get(url, headers={"Host": httpx.URL(each).host}).text for each in addresses]

    assert [page.split("<title>")[1].split("</title>")[0] for page in pages] == [
        "Stationery and office supply \N{EN DASH} Corner &amp; Co.",
        "Tools for quiet desks \N{EN DASH} Gate Electronics",
        "Packaging and warehouse supply | Depot Direct",
    ]
    assert not any("_sandbox" in page for page in pages)
    assert httpx.get(f"{url}/p/gel-pens").status_code == 404


def test_vendor_data_has_the_agreed_shape_and_the_right_port(corner, gate, depot):
    port = corner.base_url.port

    for control in (corner, gate, depot):
        vendor = control.ask("vendor")
        assert list(vendor) == [
            "name",
            "domain",
            "login_url",
            "cart_url",
            "cart_scope",
            "login_required",
            "allow_private_network",
            "selectors",
        ]
        assert vendor["domain"] == control.host
        assert vendor["cart_url"].startswith(f"http://{control.host}:{port}/")
        assert site_problems(vendor) == {}


def test_vendor_data_follows_the_switches(corner):
    corner.switch(confirmation="none", cart_scope="session")

    vendor = corner.ask("vendor")

    assert vendor["selectors"]["cart_confirmation"] is None
    assert vendor["cart_scope"] == "session"


def test_traps_stand_on_every_page(corner):
    page = corner.get("/p/gel-pens").text

    assert page.index('type="submit"') > page.index('role="search"')
    assert page.index('type="submit"') < page.index('class="quick-login" hidden')
    assert page.index('class="quick-login" hidden') < page.index("<main")


def test_classes_of_the_depot_are_made_anew_at_each_start(depot, tmp_path):
    headers = {"Host": "depot.localhost"}
    with sandbox_process(tmp_path / "other.sqlite3") as (_, url):
        other = httpx.get(url, headers=headers).text

    classes = depot.get("/").text.split('class="')[1:]
    other_classes = other.split('class="')[1:]

    assert not {name.split('"')[0] for name in classes} & {
        name.split('"')[0] for name in other_classes
    }


# Accounts


def test_an_account_is_made_once_and_may_get_another_password(corner):
    email = f"{uuid4().hex}@office.example"
    made = corner.post("/_sandbox/accounts", json={"email": email, "password": "first"})
    again = corner.post("/_sandbox/accounts", json={"email": email.upper(), "password": PASSWORD})
    refused = corner.post("/_sandbox/accounts", json={"email": "nobody"})

    assert (made.status_code, again.status_code, refused.status_code) == (201, 200, 400)
    with corner.customer(email) as customer:
        assert customer.is_logged_in


def test_a_wrong_password_is_refused_and_recorded(corner):
    with Customer(corner, corner.new_account()) as customer:
        page = customer.log_in("wrong")

        assert "E-mail or password is wrong." in page.text
        assert not customer.is_logged_in
        assert corner.ask("logins", account=customer.email)["succeeded"] == 0
        assert corner.actions_of(customer.email) == ["log_in_failed"]


def test_a_form_without_its_csrf_token_changes_nothing(corner):
    with corner.customer() as customer:
        response = customer.post("/cart/add", data={"product": "highlighters"})

        assert response.status_code == 403
        assert corner.actions_of(customer.email) == ["log_in"]


def test_log_out_ends_the_session(corner):
    with corner.customer() as customer:
        customer.submit("/logout")

        assert not customer.is_logged_in


# Carts and the ledger


def test_an_add_is_in_the_cart_and_in_the_ledger_when_it_is_answered(corner):
    with corner.customer() as customer:
        answer = customer.add("gel-pens", "3", **{"option.Colour": "Blue"})

        assert answer["kind"] == "success"
        assert corner.ask("cart", account=customer.email)["lines"] == [
            {
                "owner": f"account {customer.email}",
                "product": "gel-pens",
                "name": "Gel pens 0.5 mm, box of 12",
                "url": f"http://corner.localhost:{corner.base_url.port}/p/gel-pens",
                "variant": {"Colour": "Blue"},
                "quantity": 3,
            }
        ]
        entry = corner.ask("ledger", account=customer.email)["entries"][-1]
        assert (entry["action"], entry["product"], entry["quantity"]) == ("add", "gel-pens", 3)
        assert entry["cart_after"] == [
            {"product": "gel-pens", "variant": {"Colour": "Blue"}, "quantity": 3}
        ]
        assert "Blue" in customer.get("/cart").text


@pytest.mark.parametrize(
    ("product", "form", "kind"),
    [
        ("gel-pens", {}, "error"),
        ("gel-pens", {"option.Colour": "Mauve"}, "error"),
        ("gel-pens", {"option.Colour": "Green"}, "sold-out"),
        ("linen-notebook", {"option.Ruling": "Dotted", "option.Cover": "Forest"}, "sold-out"),
        ("name-badge", {"option.Engraving": "x" * 25}, "error"),
        ("drafting-lamp", {}, "sold-out"),
        ("copier-paper", {"quantity": "21"}, "error"),
        ("wall-planner", {"quantity": "4"}, "error"),
        ("copier-paper", {"quantity": "0"}, "error"),
        ("copier-paper", {"quantity": "two"}, "error"),
        ("envelopes", {}, "error"),
    ],
)
def test_what_cannot_be_had_is_refused_and_nothing_is_added(corner, product, form, kind):
    with corner.customer() as customer:
        answer = customer.add(product, **form)

        assert answer["kind"] == kind
        assert corner.cart_of(customer.email) == []
        assert corner.actions_of(customer.email) == ["log_in", "add_refused"]


@pytest.mark.parametrize(
    ("product", "form", "lines"),
    [
        (
            "linen-notebook",
            {"option.Ruling": "Dotted", "option.Cover": "Ink"},
            [("linen-notebook", {"Cover": "Ink", "Ruling": "Dotted"}, 1)],
        ),
        (
            "name-badge",
            {"option.Engraving": "Asha"},
            [("name-badge", {"Engraving": "Asha"}, 1)],
        ),
        ("pencil-gift-box", {}, [("pencil-gift-box", {"Gift wrap": "no"}, 1)]),
        (
            "envelopes",
            {"quantity.DL": "2", "quantity.C4": "5"},
            [("envelopes", {"Format": "DL"}, 2), ("envelopes", {"Format": "C4"}, 5)],
        ),
    ],
)
def test_each_kind_of_option_reaches_the_cart(corner, product, form, lines):
    with corner.customer() as customer:
        customer.add(product, **form)

        assert corner.cart_of(customer.email) == lines


def test_the_maximum_counts_what_is_in_the_cart_already(corner):
    with corner.customer() as customer:
        customer.add("steel-scissors", "4")

        assert customer.add("steel-scissors", "2")["kind"] == "error"
        assert corner.cart_of(customer.email) == [("steel-scissors", {}, 4)]


def test_the_cart_page_changes_and_removes_lines_and_keeps_to_the_maximum(corner):
    with corner.customer() as customer:
        customer.add("steel-scissors")
        line = customer.get("/cart").text.split('name="quantity.')[1].split('"')[0]

        customer.submit("/cart/update", **{f"quantity.{line}": "5"})
        customer.submit("/cart/update", **{f"quantity.{line}": "6"})
        assert corner.cart_of(customer.email) == [("steel-scissors", {}, 5)]

        customer.submit("/cart/update", remove=line)
        assert corner.cart_of(customer.email) == []
        assert corner.actions_of(customer.email)[2:] == ["update", "update_refused", "remove"]


def test_a_family_page_sells_nothing_and_each_add_at_the_depot_adds_one(depot):
    with depot.customer() as customer:
        family = customer.submit("/order-list/add", product="10440-packing-tape")
        customer.add("10442-packing-tape-36-rolls")
        customer.add("10442-packing-tape-36-rolls")

        assert family.status_code == 404
        assert "Add to order" not in customer.get("/item/10440-packing-tape").text
        assert depot.cart_of(customer.email) == [("10442-packing-tape-36-rolls", {}, 2)]


def test_a_visitor_who_is_not_logged_in_fills_a_cart_of_nobody(corner):
    before = len(corner.ask("cart")["lines"])
    with Customer(corner, "guest") as customer:
        customer.add("highlighters")

        assert "Highlighters" in customer.get("/cart").text
        assert len(corner.ask("cart")["lines"]) == before + 1


def test_the_second_submit_of_one_form_adds_once_unless_the_switch_says_twice(corner):
    with corner.customer() as customer:
        customer.add("highlighters", form_token="one")
        again = customer.add("highlighters", form_token="one")

        assert again["kind"] == "success"
        assert corner.cart_of(customer.email) == [("highlighters", {}, 1)]
        assert corner.actions_of(customer.email)[-1] == "add_repeated"

        corner.switch(double_click_adds=True)
        customer.add("highlighters", form_token="one")
        assert corner.cart_of(customer.email) == [("highlighters", {}, 2)]


def test_accounts_carts_and_the_ledger_survive_kill_9(tmp_path):
    ledger = tmp_path / "ledger.sqlite3"
    with sandbox_process(ledger) as (process, url), Control(url, "corner.localhost") as corner:
        corner.switch(hang_adds=1)
        with corner.customer() as customer:
            email = customer.email
            with pytest.raises(httpx.ReadTimeout):
                customer.post(
                    "/cart/add",
                    data={"csrf": customer.cookies["shop_csrf"], "product": "highlighters"},
                    timeout=0.5,
                )
        process.send_signal(signal.SIGKILL)

    with sandbox_process(ledger) as (_, url), Control(url, "corner.localhost") as corner:
        assert corner.cart_of(email) == [("highlighters", {}, 1)]
        assert corner.actions_of(email) == ["log_in", "add"]
        with corner.customer(email) as customer:
            assert customer.is_logged_in


@pytest.mark.parametrize("change", ["DELETE FROM ledger", "UPDATE ledger SET quantity = 9"])
def test_the_ledger_refuses_to_be_rewritten(corner, sandbox, change):
    with corner.customer() as customer:
        customer.add("highlighters")
    connection = sqlite3.connect(sandbox[1])
    try:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(change)
    finally:
        connection.close()


def test_the_ledger_can_be_read_from_where_one_left_off(corner):
    with corner.customer() as customer:
        last = corner.ask("ledger")["entries"][-1]["id"]
        customer.add("highlighters")

        assert [entry["action"] for entry in corner.ask("ledger", after=last)["entries"]] == ["add"]


# Switches


def test_every_switch_is_in_the_readme(corner):
    readme = (ROOT / "automation/sandbox/README.md").read_text()
    switches = corner.ask("switches")["standing"]

    assert len(switches) == 22
    assert [name for name in switches if f"| `{name}` |" not in readme] == []


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"latency": 5}, "did you mean 'latency_ms'?"),
        ({"blocked": "yes"}, "blocked takes a value of type bool, not 'yes'."),
        ({"fail_next": -1}, "fail_next is 0 or more, not -1."),
        ({"captcha": "sometimes"}, "captcha is one of off, login"),
        ({"product": "gel-pen", "blocked": True}, "has no product 'gel-pen'"),
        ([], "Send a JSON object."),
    ],
)
def test_a_wrong_switch_is_refused_and_nothing_is_set(corner, body, sentence):
    response = corner.post("/_sandbox/switches", json=body)

    assert response.status_code == 400
    assert sentence in response.json()["error"]
    assert corner.ask("switches")["settings"] == []


def test_a_narrower_setting_wins_and_null_takes_it_back(corner):
    with corner.customer() as customer, corner.customer() as other:
        corner.switch(out_of_stock="on_add")
        corner.switch(out_of_stock="no", product="highlighters")
        corner.switch(out_of_stock="on_add", account=customer.email, product="highlighters")

        assert customer.add("highlighters")["kind"] == "sold-out"
        assert other.add("highlighters")["kind"] == "success"
        assert other.add("copier-paper")["kind"] == "sold-out"

        corner.switch(out_of_stock=None)
        assert other.add("copier-paper")["kind"] == "success"


def test_switches_of_one_shop_leave_the_others_alone(corner, depot):
    corner.switch(fail_next=5)

    assert depot.get("/").status_code == 200
    assert corner.get("/").status_code == 500


def test_latency_delays_pages(corner):
    corner.switch(latency_ms=200)
    start = time.monotonic()

    corner.get("/")

    assert time.monotonic() - start >= 0.2


def test_fail_next_fails_that_often_and_has_no_effect(corner):
    with corner.customer() as customer:
        corner.switch(fail_next=2, account=customer.email)
        form = {"product": "highlighters"}

        assert customer.submit("/cart/add", **form).status_code == 500
        assert customer.submit("/cart/add", **form).status_code == 500
        assert corner.cart_of(customer.email) == []
        assert customer.submit("/cart/add", **form).status_code == 303
        assert corner.cart_of(customer.email) == [("highlighters", {}, 1)]


def test_rate_limit_answers_429_within_its_window_only(corner):
    with corner.customer() as customer, corner.customer() as other:
        corner.switch(rate_limit=2, rate_window_seconds=1, account=customer.email)

        statuses = [customer.get("/cart").status_code for _ in range(3)]
        refused = customer.get("/cart")

        assert statuses == [200, 200, 429]
        assert refused.headers["content-type"].startswith("text/plain")
        assert refused.headers["retry-after"] == "1"
        assert other.get("/cart").status_code == 200
        time.sleep(1)
        assert customer.get("/cart").status_code == 200


def test_login_limit_counts_good_and_bad_log_ins(corner):
    with Customer(corner, corner.new_account()) as customer:
        corner.switch(login_limit=2, account=customer.email)
        customer.log_in("wrong")
        customer.log_in()

        assert customer.log_in().status_code == 429
        assert corner.actions_of(customer.email) == ["log_in_failed", "log_in", "log_in_limited"]


@pytest.mark.parametrize("redirects", [True, False])
def test_the_login_page_has_no_form_for_one_who_is_logged_in(corner, redirects):
    corner.switch(login_redirects=redirects)
    with corner.customer() as customer:
        page = customer.get("/login")

        assert page.status_code == (303 if redirects else 200)
        assert 'name="email"' not in page.text


def test_a_blocked_account_can_neither_log_in_nor_go_on(corner):
    with corner.customer() as customer:
        corner.switch(blocked=True, account=customer.email)

        assert "account-suspended" in customer.get("/cart").text
        assert "account-suspended" in customer.submit("/cart/add", product="highlighters").text
        with Customer(corner, customer.email) as again:
            assert "account-suspended" in again.log_in().text
            assert not again.is_logged_in
        assert corner.actions_of(customer.email) == ["log_in", "log_in_blocked"]


def test_gate_asks_for_a_captcha_after_the_log_in_and_no_answer_helps(gate):
    with gate.customer() as customer:
        answer = customer.submit("/challenge", answer="ABCDEF")

        assert 'class="panel captcha"' in answer.text
        assert not customer.is_logged_in
        assert gate.actions_of(customer.email) == ["log_in_challenged"]


@pytest.mark.parametrize(
    ("where", "path"), [("login", "/login"), ("product", "/p/highlighters"), ("off", "/cart")]
)
def test_a_captcha_stands_where_the_switch_puts_it(corner, where, path):
    corner.switch(captcha=where)

    assert ("captcha" in corner.get(path).text) is (where != "off")


def test_a_captcha_at_the_add_keeps_the_goods_out_of_the_cart(corner):
    with corner.customer() as customer:
        corner.switch(captcha="add")
        response = customer.submit("/cart/add", product="highlighters")

        assert response.headers["location"] == "/challenge"
        assert corner.cart_of(customer.email) == []


def test_forgotten_sessions_are_logged_out(corner):
    with corner.customer() as customer, corner.customer() as other:
        answer = corner.post("/_sandbox/expire", json={"account": customer.email})

        assert answer.json() == {"forgotten": 1}
        assert not customer.is_logged_in
        assert other.is_logged_in


def test_an_add_after_the_shop_forgot_the_session_is_confirmed_in_a_cart_of_nobody(corner):
    with corner.customer() as customer:
        corner.switch(expire_before_adds=1, account=customer.email)
        last = corner.ask("ledger")["entries"][-1]["id"]

        assert customer.add("highlighters")["kind"] == "success"

        assert corner.cart_of(customer.email) == []
        entry = corner.ask("ledger", after=last)["entries"][0]
        assert (entry["action"], entry["account"]) == ("add", None)
        assert "Highlighters" in customer.get("/cart").text
        assert not customer.is_logged_in


def test_a_cart_of_the_account_is_seen_from_every_session_and_one_of_the_session_is_not(corner):
    with corner.customer() as first, corner.customer(first.email) as second:
        first.add("highlighters")
        assert "Highlighters" in second.get("/cart").text

        corner.switch(cart_scope="session")
        first.add("copier-paper")
        assert "Copier paper" in first.get("/cart").text
        assert "Copier paper" not in second.get("/cart").text
        assert corner.cart_of(first.email) == [("copier-paper", {}, 1)]


def test_a_product_can_redirect_anywhere(corner):
    corner.switch(redirect_to="http://10.0.0.7/inside?a=1", product="highlighters")

    response = corner.get("/p/highlighters")

    assert (response.status_code, response.headers["location"]) == (
        302,
        "http://10.0.0.7/inside?a=1",
    )
    assert corner.get("/p/copier-paper").status_code == 200


def test_sold_out_is_shown_or_only_said_after_the_add(corner):
    with corner.customer() as customer:
        corner.switch(out_of_stock="shown", product="highlighters")
        assert 'data-stock="out"' in customer.get("/p/highlighters").text

        corner.switch(out_of_stock="on_add", product="highlighters")
        assert 'data-stock="in"' in customer.get("/p/highlighters").text
        assert customer.add("highlighters")["kind"] == "sold-out"
        assert corner.cart_of(customer.email) == []


def test_moved_selector_changes_the_button(corner, depot):
    corner.switch(moved_selector=True, product="highlighters")
    depot.switch(moved_selector=True)

    box = corner.get("/p/highlighters").text.split('class="buybox"')[1].split("</form>")[0]
    assert "add-to-basket" not in box
    assert "Add to order" not in depot.get("/item/10244-mailer-box").text


def test_an_add_before_the_variant_has_settled_is_silently_ignored(corner):
    corner.switch(variant_ajax_ms=100, product="gel-pens")
    with corner.customer() as customer:
        early = customer.add("gel-pens", **{"option.Colour": "Blue"})
        assert early["kind"] == "nothing"
        assert corner.cart_of(customer.email) == []
        assert corner.actions_of(customer.email)[-1] == "add_ignored"

        offers = [
            customer.get("/p/gel-pens/offer", params={"option.Colour": colour}).json()
            for colour in ("Blue", "Green")
        ]
        assert offers == [{"in_stock": True}, {"in_stock": False}]
        customer.add("gel-pens", settled="yes", **{"option.Colour": "Blue"})
        assert corner.cart_of(customer.email) == [("gel-pens", {"Colour": "Blue"}, 1)]


def test_confirmation_by_redirect_or_by_a_message_that_is_said_once(corner):
    with corner.customer() as customer:
        corner.switch(confirmation="redirect")
        assert customer.submit("/cart/add", product="highlighters").headers["location"] == "/cart"
        assert "flash" not in customer.get("/cart").text

        corner.switch(confirmation="flash")
        answer = customer.submit("/cart/add", product="highlighters")
        assert answer.headers["location"] == "/p/highlighters"
        assert '<p class="flash" role="status" data-kind="success">' in customer.get("/cart").text
        assert '<p class="flash"' not in customer.get("/cart").text


def test_a_stale_message_stands_on_later_pages_too(corner):
    corner.switch(confirmation="flash", stale_message=True)
    with corner.customer() as customer:
        customer.submit("/cart/add", product="highlighters")

        for _ in range(2):
            assert 'data-kind="success">Added' in customer.get("/p/copier-paper").text


def test_a_delayed_add_takes_effect_though_the_visitor_has_gone(corner):
    with corner.customer() as customer:
        corner.switch(add_delay_ms=400, account=customer.email)
        form = {"csrf": customer.cookies["shop_csrf"], "product": "highlighters"}
        with pytest.raises(httpx.ReadTimeout):
            customer.post("/cart/add", data=form, timeout=0.1)
        assert corner.cart_of(customer.email) == []

        time.sleep(0.6)
        assert corner.cart_of(customer.email) == [("highlighters", {}, 1)]


def test_a_hanging_add_takes_effect_at_once_and_is_answered_late(corner):
    with corner.customer() as customer:
        corner.switch(hang_adds=1, hang_seconds=1, account=customer.email)
        form = {"csrf": customer.cookies["shop_csrf"], "product": "highlighters"}
        with pytest.raises(httpx.ReadTimeout):
            customer.post("/cart/add", data=form, timeout=0.3)
        assert corner.cart_of(customer.email) == [("highlighters", {}, 1)]

        assert customer.add("highlighters")["kind"] == "success"


# In a browser: what only the page's script does


@pytest.fixture
async def browser():
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM_PATH")
            or shutil.which("chromium-headless-shell")
            or shutil.which("chromium")
        )
        yield chromium
        await chromium.close()


@asynccontextmanager
async def visit(browser, control, path, email=None):
    """A page of the shop, cookies accepted, logged in through the vendor's selectors."""
    vendor = control.ask("vendor")
    selectors = vendor["selectors"]
    context = await browser.new_context()
    page = await context.new_page()
    page.set_default_timeout(5000)
    await page.goto(vendor["login_url"])
    await page.click(selectors["cookie_accept"])
    if email:
        await page.fill(selectors["email_input"], email)
        await page.fill(selectors["password_input"], PASSWORD)
        await page.click(selectors["login_button"])
        is_hidden = selectors["logged_in_indicator_is_hidden"]
        await page.wait_for_selector(
            selectors["logged_in_indicator"], state="attached" if is_hidden else "visible"
        )
        assert await page.is_visible(selectors["logged_in_indicator"]) is not is_hidden
    await page.goto(f"http://{control.host}:{control.base_url.port}{path}")
    yield page, selectors
    await context.close()


async def choose(page, option, value):
    if "reveal" in option:
        await page.click(option["reveal"])
    selector = option["selector"].replace("{value}", value)
    match option["kind"]:
        case "select":
            await page.select_option(selector, value)
        case "click":
            await page.click(selector)
        case "check":
            await page.set_checked(selector, value == "yes")
        case "fill" | "quantity":
            await page.fill(selector, "2" if option["kind"] == "quantity" else value)
    if "settled" in option:
        await page.wait_for_selector(option["settled"])


@pytest.mark.browser
@pytest.mark.parametrize(
    ("path", "variant", "quantity"),
    [
        ("/p/gel-pens", {"Colour": "Red"}, 1),
        ("/p/linen-notebook", {"Ruling": "Lined", "Cover": "Ink"}, 1),
        ("/p/hanging-folders", {"Size": "Foolscap"}, 1),
        ("/p/name-badge", {"Engraving": "Asha Rao"}, 1),
        ("/p/pencil-gift-box", {"Gift wrap": "no"}, 1),
        ("/p/envelopes", {"Format": "C5"}, 2),
        ("/item/10231-double-wall-box", {"Size": "450 mm"}, 1),
        ("/item/10702-work-gloves", {"Glove size": "9"}, 1),
    ],
)
async def test_vendor_data_leads_through_a_purchase(
    corner, depot, browser, path, variant, quantity
):
    control = corner if path.startswith("/p/") else depot
    control.switch(variant_ajax_ms=100)
    email = control.new_account()

    async with visit(browser, control, path, email) as (page, selectors):
        for name, value in variant.items():
            await choose(page, selectors["variants"][name], value)
        await page.click(selectors["add_to_cart"])
        await page.wait_for_selector(selectors["cart_confirmation"])
        await page.goto(control.ask("vendor")["cart_url"])
        row = page.locator(selectors["cart_row"])
        assert await row.count() == 1
        name = await row.locator(selectors["cart_row_name"]).inner_text()
        assert await row.locator(selectors["cart_quantity"]).input_value() == str(quantity)

        await row.locator(selectors["cart_quantity"]).fill("3")
        await page.click(selectors["cart_update"])
        await page.wait_for_load_state()

    line = control.ask("cart", account=email)["lines"]
    assert [(each["variant"], each["quantity"]) for each in line] == [(variant, 3)]
    assert name.startswith(line[0]["name"])


@pytest.mark.browser
async def test_variants_of_the_depot_with_pages_of_their_own(depot, browser):
    async with visit(browser, depot, "/item/10440-packing-tape") as (page, selectors):
        assert await page.locator(selectors["add_to_cart"]).count() == 0
        await page.click(selectors["variant_link"].replace("{value}", "Case of 36"))
        await page.click(selectors["add_to_cart"])
        await page.wait_for_selector(selectors["cart_confirmation"])

        row = page.locator(selectors["cart_row"])
        assert (
            await row.locator(selectors["cart_row_name"]).inner_text() == "Packing tape, 36 rolls"
        )


@pytest.mark.browser
@pytest.mark.parametrize("confirmation", ["toast", "overlay"])
async def test_a_toast_is_gone_after_two_seconds(corner, browser, confirmation):
    corner.switch(confirmation=confirmation)
    async with visit(browser, corner, "/p/highlighters") as (page, selectors):
        assert await page.locator(selectors["cart_confirmation"]).count() == 0
        await page.click(selectors["add_to_cart"])
        await page.wait_for_selector(selectors["cart_confirmation"])
        await page.wait_for_selector(".toast", state="hidden", timeout=2500)


@pytest.mark.browser
async def test_a_drawer_says_empty_before_it_shows_the_line(corner, browser):
    corner.switch(confirmation="drawer")
    async with visit(browser, corner, "/p/highlighters") as (page, selectors):
        await page.click(selectors["add_to_cart"])

        await page.get_by_text("Your basket is empty.").wait_for()
        await page.wait_for_selector(selectors["cart_confirmation"])


@pytest.mark.browser
async def test_confirmation_none_shows_nothing_and_adds(corner, browser):
    corner.switch(confirmation="none")
    email = corner.new_account()
    async with visit(browser, corner, "/p/highlighters", email) as (page, selectors):
        async with page.expect_response("**/cart/add"):
            await page.click(selectors["add_to_cart"])

        assert await page.locator(".toast, .flash, .drawer").locator("visible=true").count() == 0
        assert corner.cart_of(email) == [("highlighters", {}, 1)]


@pytest.mark.browser
async def test_a_refusal_shows_as_error_or_as_sold_out(corner, browser):
    async with visit(browser, corner, "/p/copier-paper") as (page, selectors):
        await page.fill(selectors["quantity_input"], "21")
        await page.click(selectors["add_to_cart"])
        await page.wait_for_selector(selectors["cart_error"])

        corner.switch(out_of_stock="on_add")
        await page.click(selectors["add_to_cart"])
        await page.wait_for_selector(selectors["out_of_stock_indicator"])
        assert await page.locator(selectors["cart_confirmation"]).count() == 0


@pytest.mark.browser
async def test_pressing_add_before_the_variant_has_settled_adds_nothing(corner, browser):
    corner.switch(variant_ajax_ms=1500)
    email = corner.new_account()
    async with visit(browser, corner, "/p/gel-pens", email) as (page, selectors):
        await page.select_option(selectors["variants"]["Colour"]["selector"], "Blue")
        async with page.expect_response("**/cart/add"):
            await page.click(selectors["add_to_cart"])

        assert await page.locator(selectors["variants"]["Colour"]["settled"]).count() == 0
        assert corner.cart_of(email) == []


@pytest.mark.browser
async def test_an_overlay_takes_the_clicks_until_it_goes(corner, browser):
    corner.switch(overlay_ms=800, product="highlighters")
    async with visit(browser, corner, "/p/highlighters") as (page, selectors):
        box = await page.locator(selectors["add_to_cart"]).bounding_box()
        await page.mouse.click(box["x"] + 5, box["y"] + 5)
        await asyncio.sleep(0.2)
        assert await page.locator(selectors["cart_confirmation"]).count() == 0

        await page.click(selectors["add_to_cart"])
        await page.wait_for_selector(selectors["cart_confirmation"])


@pytest.mark.browser
@pytest.mark.parametrize(("double_click_adds", "quantity"), [(False, 1), (True, 2)])
async def test_a_double_click(corner, browser, double_click_adds, quantity):
    corner.switch(double_click_adds=double_click_adds, add_delay_ms=100)
    email = corner.new_account()
    async with visit(browser, corner, "/p/highlighters", email) as (page, selectors):
        await page.dblclick(selectors["add_to_cart"])
        await page.wait_for_selector(selectors["cart_confirmation"])
        await page.wait_for_load_state("networkidle")

    assert corner.cart_of(email) == [("highlighters", {}, quantity)]

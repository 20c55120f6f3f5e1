"""The sandbox's voucher sites, driven over HTTP: what a buyer sees, and what the ledger says."""

import sqlite3
import time
from pathlib import Path

import httpx
import pytest

from automation.vouchers.sites import KINDS
from tests.voucher_sandbox import (
    BANK,
    PAY,
    PHONE,
    PORTAL,
    WALLET,
    Buyer,
    VoucherSandbox,
    running_sandbox,
)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    return tmp_path_factory.mktemp("sandbox") / "ledger.sqlite3"


@pytest.fixture(scope="module")
def process_url(ledger):
    with running_sandbox(ledger) as url:
        yield url


@pytest.fixture
def sandbox(process_url):
    sandbox = VoucherSandbox(process_url)
    sandbox.switch(PORTAL, voucher_delay_seconds=0)
    yield sandbox
    sandbox.reset()
    sandbox.close()


@pytest.fixture
def buyer(sandbox):
    buyer = Buyer(sandbox)
    yield buyer
    buyer.close()


@pytest.fixture
def phone(sandbox):
    return sandbox.new_phone()


@pytest.fixture
def member(sandbox, buyer, phone):
    """The e-mail address of a buyer who is logged in to the portal."""
    return new_member(sandbox, buyer, phone, PORTAL)


def new_member(sandbox, buyer, phone, host):
    email = sandbox.new_account(host, phone)
    sandbox.switch(host, account=email, login_code=False)
    buyer.log_in(host, email, phone)
    sandbox.switch(host, account=email, login_code=None)
    return email


def test_a_voucher_is_bought_paid_for_and_redeemed(sandbox, buyer, phone):
    member = sandbox.new_account(PORTAL, phone)
    sandbox.new_account(WALLET, phone, email=member)
    buyer.log_in(PORTAL, member, phone)
    card = sandbox.new_card(phone)

    order = buyer.make_link(1500, "ours-7")
    link = order.links["pay-link"]
    challenge = buyer.give_card(link, card)
    result = buyer.submit("one-time-code", code=sandbox.last_code(phone))
    row = buyer.open(buyer.at(PORTAL, "/orders?q=ours-7"))
    buyer.log_in(WALLET, member, phone)
    done = buyer.redeem(row.part("voucher__code"), row.part("voucher__pin"))

    assert (order.part("order-status"), order.part("order-amount")) == ("Unpaid", "₹1,500")
    assert link.startswith(buyer.at(PAY, "/l/"))
    assert challenge.url.startswith(buyer.at(BANK, "/acs/"))
    assert "TOKREE VOUCHERS" in challenge.text
    assert "Payment successful ₹1,500 to Tokree Vouchers" in result.part("payment-success")
    assert row.part("order-status") == "Voucher issued"
    assert done.part("flash") == "₹1,500 is added to your balance."
    assert done.part("balance__amount") == "₹1,500.00"
    assert sandbox.ask(WALLET, "balance", account=member)["balance"] == 1500
    assert sandbox.actions(account=member) == [
        *("code_sent", "code_accepted", "log_in", "link_made", "payment_begun"),
        *("code_sent", "code_accepted", "payment_authorised", "voucher_issued"),
        *("code_sent", "code_accepted", "log_in", "voucher_redeemed"),
    ]
    assert sandbox.truth(member)["orders"] == [
        {
            "order": order.part("order-number"),
            "account": member,
            "reference": "ours-7",
            "amount": 1500,
            "payments": 1,
            "issued": 1,
            "redemptions": 1,
            "refused_redemptions": 0,
        }
    ]


README = Path(__file__).parents[2] / "automation/sandbox/README.md"


@pytest.fixture
def card(sandbox, phone):
    return sandbox.new_card(phone)


@pytest.fixture
def link(buyer, member):
    return buyer.make_link().links["pay-link"]


@pytest.fixture
def wallet_member(sandbox, buyer, phone):
    return new_member(sandbox, buyer, phone, WALLET)


def confirm(sandbox, buyer, phone):
    return buyer.submit("one-time-code", code=sandbox.last_code(phone))


def wrong_code(sandbox, phone):
    return f"{(int(sandbox.last_code(phone)) + 1) % 10**6:06}"


def status_of(sandbox, member):
    """Of the account's newest order, as the portal says it."""
    return sandbox.orders_of(member)[-1]["status"]


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Descriptions and control paths


@pytest.mark.parametrize(
    ("host", "kind"), [(PORTAL, "portal"), (PAY, "card_page"), (WALLET, "redeemer")]
)
def test_a_site_describes_itself_without_fault_and_with_its_port(sandbox, host, kind):
    description = sandbox.ask(host, "site")

    assert KINDS[kind].problems(description) == {}
    assert description["domain"] == host
    assert all(f":{sandbox.port}/" in url for url in description.get("urls", {}).values())


def test_no_page_links_to_the_control_paths(buyer, member):
    paths = ("/", "/vouchers/bazaar-lane", "/account", "/buy", "/orders")

    assert not any("_sandbox" in buyer.open(buyer.at(PORTAL, path)).html for path in paths)


@pytest.mark.parametrize(
    ("host", "path", "body", "sentence"),
    [
        (PORTAL, "accounts", {"email": "nobody", "password": "x"}, "an e-mail address"),
        (PORTAL, "accounts", {"email": "a@b.test", "password": "x"}, "`phone` is a number"),
        (BANK, "accounts", {"email": "a@b.test", "password": "x"}, "Accounts are at vouchers."),
        (BANK, "cards", {"number": "4111111111111112"}, "check digit (Luhn)"),
        (BANK, "cards", {"number": "4111111111111111", "expiry": "13/30"}, "MM/YY"),
        (PORTAL, "issue", {"order": "TKR1"}, "is not paid"),
        (PORTAL, "switches", {"inventry": 1}, "did you mean 'inventory'?"),
        (BANK, "switches", {"decline": "maybe"}, "decline is one of no, at_once, after_code"),
        (PAY, "switches", {"card": "12"}, "last four digits"),
    ],
)
def test_a_wrong_control_call_is_refused_with_what_to_send(sandbox, host, path, body, sentence):
    answer = sandbox.try_to_send(host, path, **body)

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert sentence in answer.json()["error"]


def test_every_voucher_switch_is_in_the_readme(sandbox):
    text = README.read_text()
    switches = {
        name
        for host in (PORTAL, PAY, BANK, WALLET, PHONE)
        for name in sandbox.ask(host, "switches")["standing"]
    }

    assert len(switches) == 51
    assert [name for name in sorted(switches) if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize("change", ["DELETE FROM voucher_ledger", "UPDATE voucher_ledger SET id=9"])
def test_the_voucher_ledger_refuses_to_be_rewritten(member, ledger, change):
    connection = sqlite3.connect(ledger)
    try:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(change)
    finally:
        connection.close()


def test_orders_payments_and_vouchers_survive_kill_9(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    with running_sandbox(path) as url:
        sandbox = VoucherSandbox(url)
        sandbox.switch(BANK, hang_codes=1)
        buyer, phone = Buyer(sandbox), sandbox.new_phone()
        email, card = sandbox.new_account(PORTAL, phone), sandbox.new_card(phone)
        buyer.log_in(PORTAL, email, phone)
        buyer.give_card(buyer.make_link().links["pay-link"], card)
        with pytest.raises(httpx.ReadTimeout):
            buyer.submit("one-time-code", code=sandbox.last_code(phone), timeout=0.5)
        buyer.close()
        sandbox.close()

    with running_sandbox(path) as url:
        sandbox = VoucherSandbox(url)
        assert sandbox.truth(email)["paid"] == 1500
        assert sandbox.orders_of(email)[0]["status"] in ("paid", "issued")
        buyer = Buyer(sandbox)
        assert "₹48,500" in buyer.log_in(PORTAL, email, phone).part("limit__left")
        buyer.close()
        sandbox.close()


# Logging in


def test_a_wrong_password_gets_no_code(sandbox, buyer, phone):
    email = sandbox.new_account(PORTAL, phone)

    page = buyer.log_in(PORTAL, email, phone, password="wrong")

    assert page.part("form-error") == "E-mail or password is wrong."
    assert sandbox.actions(account=email) == ["log_in_failed"]


def test_pages_of_members_lead_who_is_not_logged_in_to_the_log_in(buyer):
    for path in ("/account", "/buy", "/orders", "/orders/TKR1"):
        assert buyer.open(buyer.at(PORTAL, path)).url == buyer.at(PORTAL, "/login")
    assert buyer.open(buyer.at(WALLET, "/balance/add")).url == buyer.at(WALLET, "/login")


@pytest.mark.parametrize("host", [PORTAL, WALLET])
def test_three_wrong_codes_lock_the_log_in_for_a_while(sandbox, buyer, phone, host):
    email = sandbox.new_account(host, phone)
    buyer.open(buyer.at(host, "/login"))
    buyer.submit("log-in", email=email, password="sandbox-pw")
    wrong = wrong_code(sandbox, phone)

    first = buyer.submit("one-time-code", code=wrong).part("form-error")
    second = buyer.submit("one-time-code", code=wrong).part("form-error")
    third = buyer.submit("one-time-code", code=wrong)
    again = buyer.log_in(host, email, phone)

    assert first == "That code is not right. 2 attempts left."
    assert second == "That code is not right. 1 attempt left."
    assert third.part("locked").startswith("Too many wrong codes.")
    assert again.has("locked")
    assert sandbox.actions(account=email) == [
        "code_sent",
        *["code_refused"] * 3,
        "log_in_locked",
    ]


def test_a_lock_ends_by_itself(sandbox, buyer, phone):
    sandbox.switch(PORTAL, most_wrong_codes=1, lock_seconds=0)
    email = sandbox.new_account(PORTAL, phone)
    buyer.open(buyer.at(PORTAL, "/login"))
    buyer.submit("log-in", email=email, password="sandbox-pw")
    assert buyer.submit("one-time-code", code=wrong_code(sandbox, phone)).has("locked")

    assert buyer.log_in(PORTAL, email, phone).has("log-out")


def test_a_new_code_ends_the_former_one_and_keeps_its_reference(sandbox, buyer, phone):
    email = sandbox.new_account(PORTAL, phone)
    buyer.open(buyer.at(PORTAL, "/login"))
    before = buyer.submit("log-in", email=email, password="sandbox-pw").part("code-context")
    former = sandbox.last_code(phone)

    after = buyer.submit("resend").part("code-context")
    refused = buyer.submit("one-time-code", code=former)
    page = confirm(sandbox, buyer, phone)

    assert after == before
    assert "2 attempts left" in refused.part("form-error")
    assert page.has("log-out")
    note = sandbox.entries(PORTAL, "code_refused", account=email)[0]["note"]
    assert note == "replaced by a newer one"


def test_a_later_log_in_ends_the_code_of_an_earlier_one(sandbox, buyer, phone):
    email = sandbox.new_account(PORTAL, phone)
    buyer.open(buyer.at(PORTAL, "/login"))
    buyer.submit("log-in", email=email, password="sandbox-pw")
    former = sandbox.last_code(phone)
    other = Buyer(sandbox)
    other.log_in(PORTAL, email, phone)
    other.close()

    page = buyer.submit("one-time-code", code=former)

    assert page.part("form-error").startswith("There is no code to confirm any more.")


def test_the_ledger_tells_a_code_that_was_another_requests(sandbox, buyer, phone):
    emails = [sandbox.new_account(PORTAL, phone), sandbox.new_account(PORTAL, phone)]
    buyers = [buyer, Buyer(sandbox)]
    for each, email in zip(buyers, emails, strict=True):
        each.open(each.at(PORTAL, "/login"))
        each.submit("log-in", email=email, password="sandbox-pw")

    buyers[0].submit("one-time-code", code=sandbox.last_code(phone))
    buyers[1].close()

    note = sandbox.entries(PORTAL, "code_refused", account=emails[0])[0]["note"]
    context = buyers[1].page.part("code-context")
    assert note == f"the code of another request: {PORTAL} {context}"


def test_the_ledger_tells_a_code_that_the_phone_passed_on_wrongly(sandbox, buyer, phone):
    sandbox.switch(PHONE, account=phone, wrong=1)
    email = sandbox.new_account(PORTAL, phone)
    buyer.open(buyer.at(PORTAL, "/login"))
    buyer.submit("log-in", email=email, password="sandbox-pw")
    text = sandbox.ask(PHONE, "messages", number=phone)["messages"][0]["text"]

    page = buyer.submit("one-time-code", code=text.split(": ")[1][:6])

    assert "2 attempts left" in page.part("form-error")
    note = sandbox.entries(PORTAL, "code_refused", account=email)[0]["note"]
    assert note == "as the phone passed it on"


def test_an_expired_code_is_refused_and_costs_no_attempt(sandbox, buyer, phone):
    sandbox.switch(PORTAL, code_seconds=0)
    email = sandbox.new_account(PORTAL, phone)

    page = buyer.log_in(PORTAL, email, phone)
    sandbox.switch(PORTAL, code_seconds=300)
    buyer.submit("resend")

    assert page.part("form-error") == "That code has expired. Ask for a new one."
    assert confirm(sandbox, buyer, phone).has("log-out")


def test_codes_are_sent_again_only_so_often_and_so_soon(sandbox, buyer, phone):
    sandbox.switch(PORTAL, most_resends=1)
    email = sandbox.new_account(PORTAL, phone)
    buyer.open(buyer.at(PORTAL, "/login"))
    buyer.submit("log-in", email=email, password="sandbox-pw")
    buyer.submit("resend")

    often = buyer.submit("resend").part("form-error")
    sandbox.switch(PORTAL, most_resends=5, resend_after_seconds=60)
    soon = buyer.submit("resend").part("form-error")

    assert often == "We have sent you as many codes as we can. Please try again later."
    assert soon.startswith("Please wait 60 seconds")
    assert sandbox.actions(account=email) == ["code_sent", "code_sent"]


def test_a_log_in_can_do_without_a_code(sandbox, buyer, phone):
    sandbox.switch(WALLET, login_code=False)
    email = sandbox.new_account(WALLET, phone)

    assert buyer.log_in(WALLET, email, phone).has("log-out")
    assert sandbox.actions(account=email) == ["log_in"]


def test_messages_can_leave_the_reference_out(sandbox, buyer, phone):
    sandbox.switch(PORTAL, sms_reference=False)
    buyer.log_in(PORTAL, sandbox.new_account(PORTAL, phone), phone)

    text = sandbox.ask(PHONE, "messages", number=phone)["messages"][0]["text"]

    assert "Ref" not in text
    assert "valid for 5 min. Never share it" in text


def test_a_blocked_account_can_neither_log_in_nor_go_on(sandbox, buyer, member, phone):
    sandbox.switch(PORTAL, account=member, blocked=True)

    assert buyer.open(buyer.at(PORTAL, "/orders")).has("account-suspended")
    buyer.submit("log-out")
    assert buyer.log_in(PORTAL, member, phone).has("account-suspended")


def test_a_forgotten_session_leads_to_the_log_in(sandbox, buyer, member, phone):
    sandbox.switch(PORTAL, account=member, forget_next=1)
    assert buyer.open(buyer.at(PORTAL, "/orders")).url == buyer.at(PORTAL, "/login")

    buyer.log_in(PORTAL, member, phone)
    assert buyer.open(buyer.at(PORTAL, "/orders")).has("orders-empty")
    assert sandbox.send(PORTAL, "expire", account=member) == {"forgotten": 1}
    assert buyer.open(buyer.at(PORTAL, "/orders")).url == buyer.at(PORTAL, "/login")


def test_log_out_ends_the_session(buyer, member):
    buyer.open(buyer.at(PORTAL, "/"))
    buyer.submit("log-out")

    assert buyer.open(buyer.at(PORTAL, "/account")).url == buyer.at(PORTAL, "/login")


# All sites


def test_a_form_without_its_token_changes_nothing(sandbox, buyer, member):
    buyer.open(buyer.at(PORTAL, "/buy"))

    page = buyer.submit("buy", csrf="made up", amount="1500")

    assert page.status == 403
    assert sandbox.orders_of(member) == []


@pytest.mark.parametrize(("host", "path"), [(PORTAL, "/"), (PAY, "/l/x"), (WALLET, "/")])
def test_a_site_that_is_down_answers_500(sandbox, buyer, host, path):
    sandbox.switch(host, down=True)

    page = buyer.open(buyer.at(host, path))

    assert (page.status, page.has("trouble")) == (500, True)


def test_the_next_requests_fail_and_have_no_effect(sandbox, buyer, member):
    buyer.open(buyer.at(PORTAL, "/buy"))
    sandbox.switch(PORTAL, account=member, fail_next=1)

    assert buyer.submit("buy", amount="1500").status == 500
    assert sandbox.orders_of(member) == []
    assert buyer.make_link().status == 200


def test_a_lost_answer_had_its_effect(sandbox, buyer, member):
    buyer.open(buyer.at(PORTAL, "/buy"))
    sandbox.switch(PORTAL, account=member, lose_answers=1)

    assert buyer.submit("buy", amount="1500").status == 500
    assert len(sandbox.orders_of(member)) == 1


def test_latency_delays_pages(sandbox, buyer):
    sandbox.switch(PORTAL, latency_ms=200)
    start = time.monotonic()

    buyer.open(buyer.at(PORTAL, "/"))

    assert time.monotonic() - start >= 0.2


def test_a_narrower_switch_wins_and_is_taken_back(sandbox, buyer, member):
    sandbox.switch(PORTAL, inventory=0)
    sandbox.switch(PORTAL, account=member, inventory=7)

    assert buyer.open(buyer.at(PORTAL, "/buy")).parts("stock")[0] == "7 in stock"
    sandbox.switch(PORTAL, account=member, inventory=None)
    assert buyer.open(buyer.at(PORTAL, "/buy")).parts("stock")[0] == "Out of stock"


# Orders


def test_anybody_sees_what_is_in_stock(sandbox, buyer):
    sandbox.switch(PORTAL, inventory=3)

    page = buyer.open(buyer.at(PORTAL, "/vouchers/bazaar-lane"))

    assert page.parts("stock") == ["3 in stock"] * 8
    assert page.parts("denomination")[3] == "₹1,500"


def test_nothing_is_sold_that_is_not_in_stock(sandbox, buyer, member):
    sandbox.switch(PORTAL, inventory=0)

    page = buyer.make_link()

    assert page.part("flash") == "Vouchers of ₹1,500 are out of stock at the moment."
    assert sandbox.entries(PORTAL, "link_refused", account=member)[0]["note"] == "stock"


def test_open_and_paid_links_count_against_the_monthly_limit(sandbox, buyer, phone, card):
    email = sandbox.new_account(PORTAL, phone, monthly_limit=4000)
    buyer.log_in(PORTAL, email, phone)
    buyer.give_card(buyer.make_link().links["pay-link"], card)
    confirm(sandbox, buyer, phone)
    sandbox.switch(PORTAL, account=email, link_seconds=0)
    buyer.make_link()
    sandbox.switch(PORTAL, account=email, link_seconds=900)

    second = buyer.make_link()
    third = buyer.make_link()

    assert second.part("order-status") == "Unpaid"
    assert third.part("flash") == "Exceeded limit: only ₹1,000 of your monthly limit are left."
    assert third.part("limit__left") == "₹1,000"
    assert len(sandbox.orders_of(email)) == 3


def test_switches_set_the_limit_and_refuse_links(sandbox, buyer, member):
    sandbox.switch(PORTAL, account=member, monthly_limit=1000)
    assert buyer.make_link().part("flash").startswith("Exceeded limit")

    sandbox.switch(PORTAL, account=member, monthly_limit=None, refuse_links=1)
    assert buyer.make_link().part("flash").startswith("Exceeded limit")
    assert buyer.make_link().part("order-status") == "Unpaid"


def test_the_message_of_a_refused_link_is_shown_once(sandbox, buyer, member):
    sandbox.switch(PORTAL, account=member, fail_links=1)

    page = buyer.make_link()
    again = buyer.open(page.url)

    assert page.part("flash").startswith("We could not make your payment link just now.")
    assert not again.has("flash")
    assert sandbox.orders_of(member) == []


def test_a_form_that_is_sent_twice_makes_two_links(sandbox, buyer, member):
    form = buyer.open(buyer.at(PORTAL, "/buy"))
    buyer.submit("buy", amount="1500", reference="twice")
    buyer.page = form
    buyer.submit("buy", amount="1500", reference="twice")

    assert [order["reference"] for order in sandbox.orders_of(member)] == ["twice", "twice"]


def test_a_link_is_made_though_the_answer_hangs_or_comes_late(sandbox, buyer, member):
    sandbox.switch(PORTAL, account=member, hang_links=1)
    with pytest.raises(httpx.ReadTimeout):
        buyer.open(buyer.at(PORTAL, "/buy")) and buyer.submit("buy", amount="500", timeout=0.3)
    assert len(sandbox.orders_of(member)) == 1

    sandbox.switch(PORTAL, account=member, link_delay_ms=600)
    buyer.open(buyer.at(PORTAL, "/buy"))
    with pytest.raises(httpx.ReadTimeout):
        buyer.submit("buy", amount="500", timeout=0.2)
    assert len(sandbox.orders_of(member)) == 1
    wait_for(lambda: len(sandbox.orders_of(member)) == 2)


def test_orders_come_in_pages_and_are_found_by_reference(sandbox, buyer, member):
    sandbox.switch(PORTAL, account=member, orders_per_page=2)
    for number in range(3):
        buyer.make_link(reference=f"part {number}")

    first = buyer.open(buyer.at(PORTAL, "/orders"))
    second = buyer.open(str(httpx.URL(first.url).join(first.links["next"])))
    found = buyer.open(buyer.at(PORTAL, "/orders?q=part 1"))

    assert first.parts("order-reference") == ["part 2", "part 1"]
    assert second.parts("order-reference") == ["part 0"]
    assert "next" not in second.links
    assert found.parts("order-reference") == ["part 1"]


def test_orders_of_others_are_not_found(sandbox, buyer, member, phone):
    number = buyer.make_link().part("order-number")
    buyer.submit("log-out")
    buyer.log_in(PORTAL, sandbox.new_account(PORTAL, phone), phone)

    assert buyer.open(buyer.at(PORTAL, f"/orders/{number}")).status == 404


# Paying


def test_the_payment_page_checks_the_card_before_the_bank_is_asked(sandbox, buyer, link, card):
    wrong = {
        "number": ("4111111111111112", "This is not a card number."),
        "expiry": ("01/20", "This card has expired."),
        "cvv": ("12", "Please enter the 3 digits of the CVV."),
        "holder": (" ", "Please enter the name on the card."),
    }

    errors = {}
    for name, (value, _) in wrong.items():
        errors[name] = buyer.give_card(link, card | {name: value}).part("form-error")

    assert all(errors[name].startswith(text) for name, (_, text) in wrong.items())
    assert sandbox.entries(PAY, "payment_begun", order=buyer.page.part("payment-order")) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"number": "4111111111111111"}, "Your bank does not know this card."),
        ({"cvv": "999"}, "The card details are not right."),
        ({"expiry": "10/31"}, "The card details are not right."),
    ],
)
def test_the_bank_declines_a_card_that_is_not_right(sandbox, buyer, link, card, change, reason):
    page = buyer.give_card(link, card | change)

    assert page.part("reason") == reason
    assert page.links["try-again"].startswith("/l/")


def test_a_card_pays_up_to_its_credit(sandbox, buyer, phone, member):
    card = sandbox.new_card(phone, credit_limit=2000)
    links = [buyer.make_link().links["pay-link"] for _ in range(2)]
    buyer.give_card(links[0], card)
    confirm(sandbox, buyer, phone)

    assert buyer.give_card(links[1], card).part("reason").startswith("There is not enough credit")


def test_a_charge_card_has_fifteen_digits_and_a_cvv_of_four(sandbox, buyer, phone, link):
    card = sandbox.new_card(phone, number="370000000000002", cvv="1234")

    assert buyer.give_card(link, card | {"number": "3700 000000 00002"}).has("code-context")


@pytest.mark.parametrize("when", ["at_once", "after_code"])
def test_the_bank_declines_when_the_switch_says_so(sandbox, buyer, phone, member, link, card, when):
    sandbox.switch(BANK, card=card["number"][-4:], decline=when)

    page = buyer.give_card(link, card)
    if when == "after_code":
        page = confirm(sandbox, buyer, phone)

    assert page.part("reason") == "Your bank declined this payment."
    assert "Nothing was taken" in page.part("payment-declined")
    assert status_of(sandbox, member) == "unpaid"
    assert sandbox.truth(member)["paid"] == 0


def test_three_declined_payments_close_the_link(sandbox, buyer, member, link, card):
    sandbox.switch(BANK, decline="at_once")
    for _ in range(3):
        page = buyer.give_card(link, card)

    assert "try-again" not in page.links
    assert buyer.open(link).has("link-is-closed")
    assert status_of(sandbox, member) == "failed"


def test_three_wrong_codes_decline_the_payment(sandbox, buyer, phone, member, link, card):
    buyer.give_card(link, card)
    wrong = wrong_code(sandbox, phone)

    for _ in range(3):
        page = buyer.submit("one-time-code", code=wrong)

    assert page.part("reason") == "The code was wrong too often."
    assert sandbox.actions(BANK, account=member) == [
        "code_sent",
        *["code_refused"] * 3,
        "payment_declined",
    ]


def test_a_new_password_of_the_bank_ends_the_former(sandbox, buyer, phone, link, card):
    buyer.give_card(link, card)
    former = sandbox.last_code(phone)
    buyer.submit("resend")

    assert "2 attempts left" in buyer.submit("one-time-code", code=former).part("form-error")
    assert confirm(sandbox, buyer, phone).has("payment-success")


def test_the_buyer_can_cancel_at_the_bank(sandbox, buyer, link, card):
    buyer.give_card(link, card)

    assert buyer.submit("cancel").part("reason") == "You cancelled the payment."


def test_a_challenge_that_nobody_answers_ends(sandbox, buyer, link, card):
    buyer.give_card(link, card)
    sandbox.switch(BANK, challenge_seconds=0)

    page = buyer.open(buyer.page.url)

    assert page.part("reason") == "You did not confirm the payment in time."


def test_a_frictionless_payment_asks_for_no_code(sandbox, buyer, member, link, card):
    sandbox.switch(BANK, frictionless=True)

    assert buyer.give_card(link, card).has("payment-success")
    assert sandbox.truth(member)["paid"] == 1500


def test_an_expired_link_takes_no_card_and_the_order_says_so(sandbox, buyer, member, card):
    sandbox.switch(PORTAL, account=member, link_seconds=0)
    order = buyer.make_link()
    link = sandbox.orders_of(member)[0]["link"]

    assert order.part("order-status") == "Link expired"
    assert buyer.open(link).has("link-is-expired")


def test_a_form_that_was_open_when_the_link_expired_takes_no_card(sandbox, buyer, member, card):
    sandbox.switch(PORTAL, account=member, link_seconds=1)
    link = buyer.make_link().links["pay-link"]
    buyer.open(link)
    wait_for(lambda: status_of(sandbox, member) == "expired")

    page = buyer.submit("card", **{name: card[name] for name in card if name != "phone"})

    assert page.has("link-is-expired")
    assert sandbox.entries(PAY, "payment_begun", account=member) == []


def test_an_unknown_link_says_so(buyer):
    assert buyer.open(buyer.at(PAY, "/l/made-up")).has("link-is-unknown")


def test_a_paid_link_asks_for_no_card(sandbox, buyer, phone, link, card):
    buyer.give_card(link, card)
    result = confirm(sandbox, buyer, phone)

    again = buyer.open(link)

    assert again.part("payment-reference") == result.part("payment-reference")
    assert not again.forms


def test_the_result_leads_back_to_the_portal_also_who_is_not_logged_in(
    sandbox, buyer, phone, link, card
):
    other = Buyer(sandbox)
    other.give_card(link, card)
    result = confirm(sandbox, other, phone)
    returned = other.open(result.links["back"])
    other.close()

    assert result.html.count(f'content="4;url={result.links["back"]}"') == 1
    assert returned.url.startswith(buyer.at(PORTAL, "/payments/return"))
    assert returned.part("payment-reference") == result.part("payment-reference")


def pay_in_two_windows(sandbox, buyer, phone, link, card):
    """Both have the form open, then both submit it and confirm."""
    other = Buyer(sandbox)
    windows = [buyer, other]
    for window in windows:
        window.open(link)
    fields = {name: card[name] for name in ("number", "expiry", "cvv", "holder")}
    pages = []
    for window in windows:
        window.submit("card", **fields)
        pages.append(confirm(sandbox, window, phone))
    other.close()
    return pages


def test_a_link_that_is_submitted_in_two_windows_takes_the_money_twice(
    sandbox, buyer, phone, member, link, card
):
    pages = pay_in_two_windows(sandbox, buyer, phone, link, card)

    assert [page.has("payment-success") for page in pages] == [True, True]
    truth = sandbox.truth(member)
    assert (truth["paid"], truth["issued"]) == (3000, 1500)
    assert truth["double_payments"] == [truth["orders"][0]["order"]]


def test_a_link_can_be_paid_once_only_when_the_switch_says_so(
    sandbox, buyer, phone, member, link, card
):
    sandbox.switch(PAY, double_pay_allowed=False)
    buyer.open(link)
    other = Buyer(sandbox)
    other.give_card(link, card)
    fields = {name: card[name] for name in ("number", "expiry", "cvv", "holder")}
    buyer.submit("card", **fields)
    confirm(sandbox, buyer, phone)

    late = other.open(other.page.url)
    sandbox_code = sandbox.entries(BANK, "code_sent", account=member)[0]["code"]
    declined = other.submit("one-time-code", code=sandbox_code)
    other.close()

    assert late.has("code-context")
    assert declined.part("reason") == "This order is already paid."
    assert sandbox.truth(member)["paid"] == 1500


def test_the_second_submit_of_a_frictionless_form_takes_the_money_twice(
    sandbox, buyer, member, link, card
):
    sandbox.switch(BANK, frictionless=True)
    form = buyer.open(link)
    fields = {name: card[name] for name in ("number", "expiry", "cvv", "holder")}
    buyer.submit("card", **fields)
    buyer.page = form
    buyer.submit("card", **fields)

    assert sandbox.truth(member)["paid"] == 3000


def test_a_code_that_is_submitted_twice_pays_once(sandbox, buyer, phone, member, link, card):
    challenge = buyer.give_card(link, card)
    confirm(sandbox, buyer, phone)
    buyer.page = challenge

    again = buyer.submit("one-time-code", code=sandbox.last_code(phone))

    assert again.has("payment-success")
    assert sandbox.truth(member)["paid"] == 1500


def test_a_payment_is_made_though_the_banks_answer_hangs(sandbox, buyer, phone, member, link, card):
    sandbox.switch(BANK, account=member, hang_codes=1)
    buyer.give_card(link, card)

    with pytest.raises(httpx.ReadTimeout):
        buyer.submit("one-time-code", code=sandbox.last_code(phone), timeout=0.3)

    assert sandbox.truth(member)["paid"] == 1500
    assert buyer.open(link).has("payment-success")


def test_a_payment_is_made_late_though_the_buyer_is_gone(sandbox, buyer, phone, member, link, card):
    sandbox.switch(BANK, account=member, authorise_delay_ms=600)
    buyer.give_card(link, card)
    with pytest.raises(httpx.ReadTimeout):
        buyer.submit("one-time-code", code=sandbox.last_code(phone), timeout=0.2)

    assert (status_of(sandbox, member), buyer.open(link).has("pay-now")) == ("unpaid", True)
    wait_for(lambda: sandbox.truth(member)["paid"] == 1500)


def test_a_payment_under_way_shows_as_that_and_can_still_be_doubled(
    sandbox, buyer, phone, member, link, card
):
    sandbox.switch(BANK, account=member, authorise_after_seconds=3600)
    buyer.give_card(link, card)

    page = confirm(sandbox, buyer, phone)
    order = buyer.open(buyer.at(PORTAL, "/orders"))

    assert page.has("payment-processing")
    assert order.part("order-status") == "Payment in process"
    assert sandbox.truth(member)["paid"] == 0
    assert buyer.open(link).has("pay-now")
    sandbox.switch(PAY, double_pay_allowed=False)
    assert buyer.open(link).has("payment-processing")


def test_a_payment_under_way_is_made_when_its_time_has_come(
    sandbox, buyer, phone, member, link, card
):
    sandbox.switch(BANK, account=member, authorise_after_seconds=1)
    buyer.give_card(link, card)
    result = confirm(sandbox, buyer, phone).url

    wait_for(lambda: sandbox.truth(member)["paid"] == 1500)

    assert buyer.open(result).has("payment-success")


@pytest.mark.parametrize(("switch", "value"), [("submit_delay_ms", 600), ("hang_submits", 1)])
def test_a_submitted_card_counts_though_the_answer_comes_late(
    sandbox, buyer, member, link, card, switch, value
):
    sandbox.switch(BANK, account=member, frictionless=True)
    sandbox.switch(PAY, account=member, **{switch: value})
    buyer.open(link)
    fields = {name: card[name] for name in ("number", "expiry", "cvv", "holder")}

    with pytest.raises(httpx.ReadTimeout):
        buyer.submit("card", **fields, timeout=0.2)

    wait_for(lambda: sandbox.truth(member)["paid"] == 1500)


def test_the_portal_may_hear_of_a_payment_late(sandbox, buyer, phone, member, link, card):
    sandbox.switch(PORTAL, account=member, unpaid_lag_seconds=3600)
    buyer.give_card(link, card)
    confirm(sandbox, buyer, phone)

    assert status_of(sandbox, member) == "unpaid"
    assert buyer.open(link).has("pay-now")
    assert sandbox.truth(member)["paid"] == 1500


# Vouchers


@pytest.fixture
def pay(sandbox, buyer, phone, card):
    def pay():
        buyer.give_card(buyer.make_link().links["pay-link"], card)
        return confirm(sandbox, buyer, phone)

    return pay


def test_an_order_goes_from_processing_to_paid_to_issued(sandbox, buyer, member, pay):
    sandbox.switch(PORTAL, account=member, processing_seconds=3600)
    pay()
    assert status_of(sandbox, member) == "processing"

    sandbox.switch(PORTAL, account=member, processing_seconds=0, voucher_delay_seconds=3600)
    pay()
    order = sandbox.orders_of(member)[-1]
    assert (order["status"], order["voucher"]) == ("paid", None)

    sandbox.send(PORTAL, "issue", order=order["order"])
    page = buyer.open(buyer.at(PORTAL, f"/orders/{order['order']}"))
    assert page.part("order-status") == "Voucher issued"
    assert page.has("voucher__code")


def test_a_voucher_comes_when_its_delay_is_over(sandbox, member, pay):
    sandbox.switch(PORTAL, account=member, voucher_delay_seconds=1)
    pay()

    assert status_of(sandbox, member) == "paid"
    wait_for(lambda: status_of(sandbox, member) == "issued")


def test_a_voucher_that_never_comes_leaves_the_order_paid(sandbox, member, pay):
    sandbox.switch(PORTAL, account=member, voucher_never=True)
    pay()

    assert status_of(sandbox, member) == "paid"
    truth = sandbox.truth(member)
    assert truth["paid_without_voucher"] == [truth["orders"][0]["order"]]


def test_a_voucher_can_be_issued_used_already(sandbox, buyer, member, pay, wallet_member):
    sandbox.switch(PORTAL, account=member, issue_used=1)
    pay()
    voucher = sandbox.orders_of(member)[-1]["voucher"]

    page = buyer.redeem(voucher["code"], voucher["pin"])

    assert page.part("flash") == "This gift card is already used. A code works once."
    assert sandbox.entries(WALLET, "redeem_refused", account=wallet_member)[0]["note"] == "used"


# The wallet


@pytest.fixture
def voucher(sandbox):
    return sandbox.send(PORTAL, "vouchers", amount=1500)


def test_a_code_works_once_however_it_is_typed(sandbox, buyer, wallet_member, voucher):
    typed = voucher["code"].replace("-", " ").lower()

    first = buyer.redeem(typed, voucher["pin"])
    second = buyer.redeem(voucher["code"], voucher["pin"])

    assert first.part("flash") == "₹1,500 is added to your balance."
    assert second.part("flash") == "This gift card is already added to your balance."
    assert second.part("balance__amount") == "₹1,500.00"
    assert sandbox.actions(WALLET, account=wallet_member)[-2:] == [
        "voucher_redeemed",
        "redeem_refused",
    ]


def test_a_code_that_another_account_has_used_is_refused(
    sandbox, buyer, phone, wallet_member, voucher
):
    buyer.redeem(voucher["code"], voucher["pin"])
    buyer.submit("log-out")
    other = sandbox.new_account(WALLET, phone)
    buyer.log_in(WALLET, other, phone)

    page = buyer.redeem(voucher["code"], voucher["pin"])

    assert page.part("flash") == "This gift card is already used. A code works once."
    assert sandbox.ask(WALLET, "balance", account=other)["balance"] == 0


def test_wrong_codes_and_pins_are_refused(sandbox, buyer, wallet_member, voucher):
    unknown = buyer.redeem("ABCD-EFGHJK-LMNP", "123456").part("flash")
    pin = f"{(int(voucher['pin']) + 1) % 10**6:06}"
    wrong = buyer.redeem(voucher["code"], pin).part("flash")

    assert unknown == "That is not a gift card code. Check it and try again."
    assert wrong == "The PIN does not match this gift card."


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("used", "is already used"),
        ("unknown", "not a gift card code"),
        ("expired", "expired"),
        ("not_active", "not active yet"),
    ],
)
def test_codes_are_refused_when_the_switch_says_so(
    sandbox, buyer, wallet_member, voucher, reason, words
):
    sandbox.switch(WALLET, account=wallet_member, refuse_codes=reason)

    assert words in buyer.redeem(voucher["code"], voucher["pin"]).part("flash")
    sandbox.switch(WALLET, account=wallet_member, refuse_codes="no")
    assert "is added" in buyer.redeem(voucher["code"], voucher["pin"]).part("flash")


@pytest.mark.parametrize(("switch", "value"), [("redeem_delay_ms", 600), ("hang_redeems", 1)])
def test_a_code_is_added_though_the_answer_comes_late(
    sandbox, buyer, wallet_member, voucher, switch, value
):
    sandbox.switch(WALLET, account=wallet_member, **{switch: value})
    buyer.open(buyer.at(WALLET, "/balance/add"))

    with pytest.raises(httpx.ReadTimeout):
        buyer.submit("redeem", code=voucher["code"], pin=voucher["pin"], timeout=0.2)

    wait_for(lambda: sandbox.ask(WALLET, "balance", account=wallet_member)["balance"] == 1500)


def test_the_history_shows_the_end_of_each_code_newest_first_in_pages(
    sandbox, buyer, wallet_member
):
    sandbox.switch(WALLET, account=wallet_member, history_per_page=2)
    vouchers = [sandbox.send(PORTAL, "vouchers", amount=amount) for amount in (250, 500, 1000)]
    for each in vouchers:
        buyer.redeem(each["code"], each["pin"])

    first = buyer.open(buyer.at(WALLET, "/balance/history"))
    second = buyer.open(str(httpx.URL(first.url).join(first.links["next"])))

    assert first.parts("history-amount") == ["₹1,000.00", "₹500.00"]
    assert second.parts("history-amount") == ["₹250.00"]
    assert second.parts("history-code") == [f"XXXX-XXXXXX-{vouchers[0]['code'][-4:]}"]
    assert first.part("balance__amount") == "₹1,750.00"

"""The sandbox's phones: what they post, how often, and what the ledger says of it."""

import hashlib
import hmac
import time
from datetime import UTC, datetime

import pytest

from jobs.otp.parsing import read_message
from tests.voucher_sandbox import (
    BANK,
    PHONE,
    PORTAL,
    WALLET,
    Buyer,
    VoucherSandbox,
    receiving,
    running_sandbox,
)


@pytest.fixture(scope="module")
def process_url(tmp_path_factory):
    with running_sandbox(tmp_path_factory.mktemp("sandbox") / "ledger.sqlite3") as url:
        yield url


@pytest.fixture
def sandbox(process_url):
    sandbox = VoucherSandbox(process_url)
    yield sandbox
    sandbox.reset()
    sandbox.close()


@pytest.fixture
def receiver():
    with receiving() as receiver:
        yield receiver


def send(sandbox, number, code="482913"):
    text = f"{code} is your code"
    sandbox.send(PHONE, "messages", number=number, sender="VM-SHOP", text=text, code=code)


def actions_of(sandbox, number):
    """(action, what was answered), in order; asked until the last post is written down."""
    return [(each["action"], each["note"]) for each in sandbox.entries(PHONE, phone=number)]


def wait_for_actions(sandbox, number, expected):
    deadline = time.monotonic() + 10
    while (actions := actions_of(sandbox, number)) != expected and time.monotonic() < deadline:
        time.sleep(0.02)  # an entry of another process: there is nothing to be told by
    assert actions == expected


def test_a_code_is_posted_as_incoming_sms_to_url_does(sandbox, receiver):
    before = time.time() * 1000
    number = sandbox.new_phone(receiver.url, headers={"X-API-Key": "a-key"})
    email = sandbox.new_account(PORTAL, number)
    buyer = Buyer(sandbox)
    buyer.open(buyer.at(PORTAL, "/login"))
    buyer.submit("log-in", email=email, password="sandbox-pw")

    posted = receiver.take()

    code, context = sandbox.last_code(number), buyer.page.part("code-context")
    assert posted.headers["X-API-Key"] == "a-key"
    assert list(posted.data) == ["from", "to", "text", "sentStamp", "receivedStamp", "sim"]
    assert (posted.data["from"], posted.data["to"]) == ("VM-TOKREE", number)
    assert posted.data["text"] == (
        f"{code} is your Tokree log-in OTP, valid for 5 min. Ref {context}. "
        "Never share it, not even with our staff. - TOKREE"
    )
    assert before - 1000 < posted.data["sentStamp"] <= posted.data["receivedStamp"]
    buyer.close()


def test_the_gateway_signs_what_it_posts(sandbox, receiver):
    number = sandbox.new_phone(receiver.url, format="sms_gateway", secret="signing-key")

    send(sandbox, number)
    posted = receiver.take()

    timestamp = posted.headers["X-Timestamp"]
    signature = hmac.new(b"signing-key", posted.body + timestamp.encode(), hashlib.sha256)
    assert posted.headers["X-Signature"] == signature.hexdigest()
    assert abs(int(timestamp) - time.time()) < 60
    assert list(posted.data) == ["deviceId", "event", "id", "webhookId", "payload"]
    assert posted.data["event"] == "sms:received"
    payload = posted.data["payload"]
    assert (payload["message"], payload["sender"]) == ("482913 is your code", "VM-SHOP")
    assert payload["recipient"] == number
    age = datetime.now(UTC) - datetime.fromisoformat(payload["receivedAt"])
    assert age.total_seconds() < 60


def test_everything_that_is_sent_and_answered_is_in_the_ledger(sandbox, receiver):
    number = sandbox.new_phone(receiver.url)

    send(sandbox, number)

    wait_for_actions(sandbox, number, [("sms_sent", None), ("sms_posted", "200")])
    entry = sandbox.entries(PHONE, "sms_sent")[-1]
    assert (entry["code"], entry["text"]) == ("482913", "VM-SHOP: 482913 is your code")
    messages = sandbox.ask(PHONE, "messages", number=number)["messages"]
    assert [each["text"] for each in messages] == ["VM-SHOP: 482913 is your code"]


def test_a_refused_message_is_posted_again_and_then_given_up(sandbox, receiver):
    number = sandbox.new_phone(receiver.url)
    sandbox.switch(PHONE, retry_first_ms=1, most_retries=2)
    receiver.statuses = [500, 503, 200, 404, 404, 404]

    send(sandbox, number)
    answers = [("sms_posted", "500"), ("sms_posted", "503"), ("sms_posted", "200")]
    wait_for_actions(sandbox, number, [("sms_sent", None), *answers])
    send(sandbox, number)

    refused = [("sms_sent", None), *[("sms_posted", "404")] * 3, ("sms_given_up", None)]
    wait_for_actions(sandbox, number, [("sms_sent", None), *answers, *refused])


def test_a_server_that_is_away_does_not_hold_the_page_up(sandbox):
    number = sandbox.new_phone("http://127.0.0.1:1/otp")
    sandbox.switch(PHONE, retry_first_ms=1, most_retries=1)

    send(sandbox, number)

    away = [("sms_posted", "ConnectError")] * 2
    wait_for_actions(sandbox, number, [("sms_sent", None), *away, ("sms_given_up", None)])


def test_delay_posts_later_and_answers_at_once(sandbox, receiver):
    number = sandbox.new_phone(receiver.url)
    sandbox.switch(PHONE, delay_ms=400)
    start = time.monotonic()

    send(sandbox, number)
    assert receiver.is_empty

    receiver.take()
    assert time.monotonic() - start >= 0.4


@pytest.mark.parametrize(("new_ids", "names"), [(False, 1), (True, 3)])
def test_copies_are_posted_with_one_name_or_each_with_its_own(sandbox, receiver, new_ids, names):
    number = sandbox.new_phone(receiver.url, format="sms_gateway", secret="key")
    sandbox.switch(PHONE, copies=3, new_ids=new_ids)

    send(sandbox, number)

    assert len({receiver.take().data["id"] for _ in range(3)}) == names


def test_shuffled_messages_come_in_another_order(sandbox, receiver):
    number = sandbox.new_phone(receiver.url)
    sandbox.switch(PHONE, shuffle_ms=400)
    sent = [f"{100000 + each}" for each in range(12)]

    for code in sent:
        send(sandbox, number, code)

    came = [receiver.take().data["text"][:6] for _ in sent]
    assert sorted(came) == sent
    assert came != sent


def test_the_next_wrong_code_is_another_one(sandbox, receiver):
    number = sandbox.new_phone(receiver.url)
    sandbox.switch(PHONE, account=number, wrong=1)

    send(sandbox, number)
    wrong = receiver.take().data["text"]
    send(sandbox, number)

    assert wrong != "482913 is your code"
    assert wrong.endswith(" is your code")
    assert receiver.take().data["text"] == "482913 is your code"
    assert actions_of(sandbox, number)[0] == ("sms_sent", "wrong")


def test_lost_messages_are_never_posted(sandbox, receiver):
    number, other = sandbox.new_phone(receiver.url), sandbox.new_phone(receiver.url)
    sandbox.switch(PHONE, account=number, lost_first=1)

    send(sandbox, number, "111111")
    send(sandbox, number, "222222")
    assert receiver.take().data["text"][:6] == "222222"

    sandbox.switch(PHONE, account=number, never=True)
    send(sandbox, number, "333333")
    send(sandbox, other, "444444")
    assert receiver.take().data["text"][:6] == "444444"
    lost = sandbox.entries(PHONE, "sms_lost", phone=number)
    assert [each["code"] for each in lost] == ["111111", "333333"]


class Rule:
    def __init__(self, service, sender, pattern, origin):
        self.service, self.sender, self.pattern, self.origin = service, sender, pattern, origin


@pytest.fixture(scope="module")
def texts(process_url):
    """One message of each site: sender, text, code, context."""
    sandbox = VoucherSandbox(process_url)
    number, card_phone = sandbox.new_phone(), sandbox.new_phone()
    email = sandbox.new_account(PORTAL, number)
    sandbox.new_account(WALLET, number, email=email)
    buyer = Buyer(sandbox)
    buyer.log_in(WALLET, email, number)
    buyer.log_in(PORTAL, email, number)
    buyer.give_card(buyer.make_link().links["pay-link"], sandbox.new_card(card_phone))
    messages = {}
    for host, phone in ((PORTAL, number), (BANK, card_phone), (WALLET, number)):
        code = sandbox.entries(host, "code_sent", phone=phone)[0]
        sent = next(e for e in sandbox.entries(PHONE, "sms_sent") if e["code"] == code["code"])
        sender, text = sent["text"].split(": ", 1)
        messages[host] = (sender, text, code["code"], code["context"])
    buyer.close()
    yield messages
    sandbox.close()


@pytest.mark.parametrize(
    ("host", "service"),
    [(PORTAL, "tokree"), (BANK, "sahyadri-bank"), (WALLET, "bazaar-lane")],
)
def test_the_rules_for_codes_find_code_and_context_in_each_message(sandbox, texts, host, service):
    rules = [Rule(**rule) for rule in sandbox.ask(PORTAL, "codes")["codes"]]
    sender, text, code, context = texts[host]

    with_rules = read_message(text, sender, rules)
    without = read_message(text, sender, [])

    assert (with_rules.codes, with_rules.service) == ((code,), service)
    assert with_rules.context == context
    assert without.codes == (code,)


def test_messages_say_what_banks_say(texts):
    assert "for your payment of INR 1,500.00 at TOKREE on Sahyadri Bank card XX" in texts[BANK][1]
    assert texts[WALLET][1].splitlines()[-1] == f"@wallet.localhost #{texts[WALLET][2]}"


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("phones", {"number": "9000000001", "url": "http://x.test"}, "+919000000001"),
        ("phones", {"number": "+919000000001"}, "`url` is where the messages are posted"),
        (
            "phones",
            {"number": "+919000000001", "url": "http://x.test", "format": "fax"},
            "incoming_sms_to_url, sms_gateway",
        ),
        ("messages", {"number": "+919000000001"}, "Send {number, sender, text}"),
        ("switches", {"copy": 2}, "did you mean 'copies'?"),
    ],
)
def test_a_wrong_setting_of_a_phone_is_refused(sandbox, path, body, sentence):
    answer = sandbox.try_to_send(PHONE, path, **body)

    assert answer.status_code == 400
    assert sentence in answer.json()["error"]


def test_the_screen_shows_the_messages_newest_first(sandbox):
    number = sandbox.new_phone()
    send(sandbox, number, "111111")
    sandbox.switch(PHONE, account=number, never=True)
    send(sandbox, number, "222222")
    buyer = Buyer(sandbox)

    page = buyer.open(buyer.at(PHONE))
    buyer.close()

    assert page.parts("message__text")[:2] == ["222222 is your code", "111111 is your code"]
    assert f"to {number}, lost on the way" in page.parts("message__head")[0]

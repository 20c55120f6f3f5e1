"""The pages of purchases: as they are served, and as they live in a browser."""

# ruff: noqa: F401, F811  fixtures come by import

import json
import re
import uuid
from datetime import timedelta
from html import unescape

import pytest
from django.test import Client
from playwright.async_api import expect

from accounts.models import User
from jobs import waits
from jobs.errors import Becomes, BusinessError
from jobs.models import Job
from jobs.plans import WaitFor
from jobs.runner import runner
from payments import cvv, recording
from payments.models import VoucherCode, VoucherPurchase
from payments.purchases import start_purchase
from tests.jobs.workflows import BEHAVIOURS
from tests.live_site import alice, live_site, log_in, make_key, page, run
from tests.payments.rows import issue, make_card, make_purchase
from tests.payments.toys import awaiting_code, behave, failing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def plain_toys():
    yield
    BEHAVIOURS.clear()


@pytest.fixture
def member(bob):
    client = Client()
    client.force_login(bob)
    return client


def typed(**changes):
    given = {"card_type": "MRCC", "qty": 4, "amount": 1500, "cvv": "", "key": uuid.uuid4()}
    return {**given, **changes}


def work():
    runner.run_ready_steps(["steps"])


# --- Served ----------------------------------------------------------------------------------


def test_pages_are_for_the_members_of_the_workspace(card, member, charlie, broker):
    purchase = make_purchase(card)
    stranger = Client()
    stranger.force_login(charlie)
    paths = ["/purchases/", "/purchases/new", f"/purchases/{purchase.pk}/"]

    assert [member.get(path).status_code for path in paths] == [200] * 3
    assert [Client().get(path).status_code for path in paths] == [302] * 3
    assert stranger.get(paths[2]).status_code == 404
    assert str(purchase.pk) not in stranger.get("/purchases/").content.decode()


def test_started_purchase_leads_to_its_page_and_a_second_post_to_the_same(card, member, broker):
    body = typed(cvv="9876")

    first = member.post("/purchases/new", body)
    again = member.post("/purchases/new", body)

    purchase = VoucherPurchase.objects.get()
    assert first.url == again.url == f"/purchases/{purchase.pk}/"
    assert (purchase.qty, purchase.amount, purchase.card) == (4, 1500, card)
    assert cvv.find(purchase.pk) == "9876"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"qty": 21}, "qty must be from 1 to 20"),
        ({"amount": 10001}, "amount must be at most 10000"),
        ({"amount": ""}, "This field is required"),
        ({"amount": "ten"}, "Type the rupees of one voucher"),
        ({"card_type": ""}, "Choose the card to pay with."),
        ({"cvv": "12"}, "A CVV has 3 digits"),
    ],
)
def test_refused_purchase_says_why_at_its_field_and_writes_nothing(
    card, member, nothing_happens, changes, sentence
):
    with nothing_happens():
        answer = member.post("/purchases/new", typed(**changes))

    said = unescape(answer.content.decode())
    errors = re.findall(r'<p class="start-error" role="alert">(.*?)</p>', said)
    assert len(errors) == 1
    assert sentence in errors[0]


def test_typed_cvv_is_never_sent_back(card, member, broker):
    answer = member.post("/purchases/new", typed(cvv="9876", qty=0))

    assert "9876" not in answer.content.decode()


def test_expired_card_is_said_above_the_form(card, member, nothing_happens):
    card.write_expiry("01/2020")
    card.save()

    with nothing_happens():
        answer = member.post("/purchases/new", typed())

    assert "The card has expired (01/2020)" in unescape(answer.content.decode())


def test_team_without_a_card_is_told_what_is_needed_first(member, broker):
    said = member.get("/purchases/new").content.decode()

    assert "First, a card" in said
    assert "Ask an admin" in said


def test_page_holds_no_secret(card, member, broker):
    purchase = make_purchase(card)
    issue(purchase, code="QRSTUVWX9Z9Z")

    said = member.get(f"/purchases/{purchase.pk}/").content.decode()

    assert "9Z9Z" in said
    for secret in ("QRSTUVWX", "4821", "374245455400126", "08/2031"):
        assert secret not in said


# --- Sockets ---------------------------------------------------------------------------------


async def test_socket_sends_the_run_anew_when_it_has_changed(live_site, bob, card):
    purchase = await run(start_purchase, bob, "MRCC", 1, 1500)

    async with live_site.socket(f"/ws/purchases/{purchase.pk}/", user=bob) as socket:
        first = await socket.receive()
        assert (await socket.receive())["type"] == "ping"
        await run(behave, purchase)
        await run(work)
        messages = await socket.receive_until(
            lambda message: message.get("run", {}).get("status") == "completed"
        )

    assert (first["type"], first["run"]["status"]) == ("run", "initiated")
    assert messages[-1]["run"]["summary"]["redeemed"] == {"count": 1, "amount": 1500}


async def test_socket_follows_a_job_that_redeems_later(live_site, bob, card):
    purchase = await run(make_purchase, card)
    voucher = await run(issue, purchase)

    async with live_site.socket(f"/ws/purchases/{purchase.pk}/", user=bob) as socket:
        await socket.receive_until(lambda message: message["type"] == "ping")
        await run(recording.record_redeemed, voucher.pk, by=bob)
        (message,) = await socket.receive_until(lambda message: message["type"] == "run")

    assert message["run"]["transactions"][0]["voucher"]["redeemed_by"] == "bob"


async def test_sockets_are_for_the_workspace_alone(live_site, bob, charlie, card):
    purchase = await run(make_purchase, card)

    async with live_site.socket(f"/ws/purchases/{purchase.pk}/", user=charlie) as socket:
        assert await socket.close_code() == 4404
    async with live_site.socket("/ws/purchases/", key=await run(make_key, charlie)) as theirs:
        first = await theirs.receive()
        assert (first["purchases"], first["stats"]) == ([], {})
        async with live_site.socket("/ws/purchases/", user=bob) as ours:
            assert len((await ours.receive())["purchases"]) == 1
            await run(recording.record_paid, (await run(purchase.transactions.get)).pk)
            changed = await ours.receive()
            # Charlie's next message is of a purchase of his own team, not of Bob's.
            elsewhere = await run(make_card, workspace_id=charlie.workspace_id, card_type="Own")
            own = await run(make_purchase, elsewhere, workspace_id=charlie.workspace_id)
            await run(recording.record_paid, (await run(own.transactions.get)).pk)
            theirs_changed = await theirs.receive()

    assert [row["id"] for row in changed["purchases"]] == [str(purchase.pk)]
    assert [row["id"] for row in theirs_changed["purchases"]] == [str(own.pk)]


# --- Lived -----------------------------------------------------------------------------------


@pytest.mark.browser
async def test_purchase_is_started_typed_a_code_for_and_seen_to_its_end(page, card, alice):
    await page.goto("/purchases/new")
    await page.get_by_label("Number of transactions").fill("2")
    await expect(page.locator("#sum")).to_have_text("₹3,000")
    await page.get_by_role("button", name="Start the purchase").click()
    await page.wait_for_url("**/purchases/*/")
    purchase = await run(VoucherPurchase.objects.get)
    await run(prepare_waiting, purchase)

    ask = page.locator(".ask")
    await expect(ask.get_by_role("heading")).to_have_text("The bank's code for transaction 2")
    await expect(page.locator("#transaction-1 .badge")).to_have_text("Redeemed")
    await expect(page.locator("[data-money=redeemed] .money-amount")).to_have_text("₹1,500")
    await ask.get_by_label("The code").fill("nope!")
    await ask.get_by_role("button").click()
    await expect(ask.get_by_role("alert")).to_contain_text("A code has 3 to 12 digits")
    await ask.get_by_label("The code").fill("123456")
    await ask.get_by_role("button").click()
    await expect(ask).to_have_count(0)
    await run(work)

    await expect(page.locator("#purchase .badge")).to_have_text("Completed")
    message = page.locator("[data-part=message]").first
    await expect(message).to_have_text("All vouchers redeemed successfully")
    await expect(page.locator("#transaction-2 .chip[data-status=completed]")).to_have_count(4)


def prepare_waiting(purchase):
    behave(purchase)
    paid = BEHAVIOURS["process_payment_2"]
    asked = {"service": "amex", "phone": "+919000043210", "deadline": timedelta(minutes=5)}
    behave(purchase, process_payment_2=awaiting_code("payment", "payment", paid, **asked))
    work()


@pytest.mark.browser
async def test_left_voucher_is_looked_at_and_marked_on_the_page(page, card, alice):
    purchase = await run(prepare_left, card, alice)
    await page.goto(f"/purchases/{purchase.pk}/")

    await expect(page.locator("#trouble")).to_contain_text("A person has to take over")
    row = page.locator("#transaction-2")
    await expect(row.locator(".badge")).to_have_text("To be redeemed")
    await expect(row.locator(".voucher-code")).to_be_hidden()
    await row.get_by_role("button", name="Show the code").click()
    await expect(row.locator(".voucher-code")).to_have_text("CODE-OF-VOUCHER-2Q2K  PIN 4821")
    await row.get_by_role("button", name="Hide the code").click()
    await expect(row.locator(".voucher-code")).to_be_hidden()
    await row.get_by_role("button", name="Mark as redeemed").click()
    await page.get_by_label("Reason").fill("in the app")
    await page.get_by_role("button", name="It is redeemed").click()

    await expect(row.locator(".badge")).to_have_text("Redeemed")
    await expect(row.locator(".voucher-words")).to_contain_text("by hand, said alice")
    marked = await run(lambda: VoucherCode.objects.get(transaction__index=2).status)
    assert marked == "redeemed"


def prepare_left(card, user):
    purchase = start_purchase(user, "MRCC", 2, 1500)
    error = BusinessError("captcha", "The shop shows a captcha.", Becomes.MANUAL)
    behave(purchase, redeem_amazon_vouchers_2=failing(error))
    work()
    return purchase


@pytest.mark.browser
async def test_missing_cvv_is_asked_for_and_list_shows_the_purchase(page, card, alice):
    purchase = await run(prepare_cvv, card, alice)
    await page.goto("/purchases/")
    await expect(page.locator("#rows tr")).to_have_count(1)
    await page.get_by_role("link", name="1 × ₹1,500 on MRCC").click()

    ask = page.locator(".ask")
    await expect(ask.get_by_role("heading")).to_have_text("The card's CVV is needed")
    await ask.get_by_label("The CVV").fill("9876")
    await ask.get_by_role("button").click()

    await expect(ask).to_have_count(0)
    assert await run(cvv.find, purchase.pk) == "9876"


def prepare_cvv(card, user):
    purchase = start_purchase(user, "MRCC", 1, 1500)
    wait = waits.signal("cvv", cvv.topic(purchase.pk), {})
    behave(purchase, process_payment_1=lambda context: WaitFor([wait], "Waits for the CVV."))
    work()
    return purchase

"""Purchases carried out for real against the sandbox, with this process as the worker."""

from datetime import timedelta

import pytest
from django.utils import timezone

from jobs import effects, flow
from jobs.control import rerun_job, resume_job
from jobs.inbox import read_inbox
from jobs.models import Effect, Event, OtpRequest, Status, Step, Wait
from payments.models import AuthSession, Transaction, VoucherCode
from payments.purchases import give_cvv
from payments.redemption import redeem_later
from payments.steps import paying, payment, redemption
from tests.payments.workflow.world import (
    AMOUNT,
    World,
    effects_by_status,
    job_of,
    let_codes_expire,
    let_postponed_be_due,
    let_presses_age,
    reference_of,
    run_ready,
    statuses,
)
from tests.voucher_sandbox import BANK, PAY, PHONE, PORTAL, WALLET
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

ONCE = {"payments": [1], "issued": [1], "redemptions": [1]}
NOT_PAID = {"payments": [0], "issued": [0], "redemptions": [0]}


def nothing_comes() -> int:
    return 0


def step_of(purchase, name) -> Step:
    return Step.objects.get(job=purchase.job_id, name=name)


def row_of(purchase, index=1) -> Transaction:
    return Transaction.objects.get(purchase=purchase, index=index)


def start_and_wait_for_code(world: World, qty: int = 1):
    """A purchase whose first payment waits for the bank's code."""
    purchase = world.start(qty)
    world.work(deliver=world.deliver_logins)
    assert step_of(purchase, "process_payment_1").status == Status.WAITING
    return purchase


def test_two_vouchers_are_paid_issued_and_redeemed_each_once(stranger):
    purchase = stranger.start(2)

    stranger.work()

    job = job_of(purchase)
    assert (job.status, job.error) == ("completed", None)
    assert job.result["message"] == "All vouchers redeemed successfully"
    assert job.result["summary"]["redeemed"] == {"count": 2, "amount": 2 * AMOUNT}
    assert statuses(purchase) == ["redeemed", "redeemed"]
    assert stranger.truth(purchase) == {"payments": [1, 1], "issued": [1, 1], "redemptions": [1, 1]}
    assert stranger.balance() == 2 * AMOUNT
    assert effects_by_status() == {"confirmed": 4}
    assert VoucherCode.objects.filter(status="redeemed").count() == 2
    purchase.refresh_from_db()
    assert (purchase.status, purchase.completed_transactions) == ("completed", 2)
    assert sorted(OtpRequest.objects.values_list("otp_type", "status")) == [
        ("amazon_login", "verified"),
        ("gyftr_login", "verified"),
        ("payment", "verified"),
        ("payment", "verified"),
    ]
    assert AuthSession.objects.filter(is_active=True).count() == 2
    progress = [
        event.data["job"]["progress"]
        for event in Event.objects.filter(job=job, kind="step.completed").order_by("number")
    ]
    links, first, last = 6, 9, 12  # steps: the four before and the links, then three each
    assert [progress[links - 1], progress[first - 1], progress[last - 1]] == [20, 60, 99]
    assert Step.objects.filter(job=job, attempt__gt=1).count() == 0


def test_no_secret_of_a_purchase_stands_open_in_a_row(world):
    purchase = world.start()

    world.work()

    sites = world.sandbox
    vouchers = [each["voucher"] for each in sites.orders_of(world.email) if each["voucher"]]
    codes = [each["code"] for each in sites.entries(action="code_sent")]
    secrets = [
        world.card_data["number"],
        *codes,
        *(each[name] for each in vouchers for name in ("code", "pin")),
    ]
    assert (job_of(purchase).status, len(codes) > 0) == ("completed", True)
    for table in (Event, Step, Effect, Wait, Transaction, AuthSession):
        rows = str(list(table.objects.values()))
        assert not [secret for secret in secrets if f"'{secret}'" in rows or f" {secret}" in rows]


# ---- codes ---------------------------------------------------------------------------------------


def test_who_is_signed_in_is_asked_for_no_code(world):
    first = world.start()
    world.work()
    second = world.start()
    before = OtpRequest.objects.count()

    world.work()

    assert job_of(first).status == job_of(second).status == "completed"
    assert list(OtpRequest.objects.values_list("otp_type", flat=True)[before:]) == ["payment"]


def test_while_a_code_is_awaited_the_step_is_a_row_and_nothing_else(world):
    purchase = start_and_wait_for_code(world)

    step = step_of(purchase, "process_payment_1")
    assert (step.lease_expires_at, step.queue[:5]) == (None, "host.")
    assert step.phase.startswith(
        f"Waiting for the bank's code for ₹1,500 for order {row_of(purchase).order}"
    )
    assert statuses(purchase) == ["paying"]
    world.work()
    assert (statuses(purchase), world.truth(purchase)) == (["redeemed"], ONCE)


def test_a_wrong_code_is_asked_for_again(world):
    purchase = world.start_paying()
    world.sandbox.switch(PHONE, wrong=1, account=world.phone)

    world.work()

    assert (statuses(purchase), world.truth(purchase)) == (["redeemed"], ONCE)
    request = OtpRequest.objects.get(job=purchase.job_id, otp_type="payment")
    assert (request.status, request.attempts_count) == ("verified", 2)


def test_after_three_wrong_codes_a_person_takes_over_and_nothing_was_paid(world, monkeypatch):
    monkeypatch.setattr(paying, "SETTLING", timedelta(0))
    purchase = world.start_paying()
    world.sandbox.switch(PHONE, wrong=3, account=world.phone)
    world.sandbox.switch(BANK, most_wrong_codes=5)

    world.work()

    job = job_of(purchase)
    assert job.status == "manual"
    assert job.error["code"] == "otp_rejected"
    assert "refused 3 codes" in job.error["message"]
    assert "Nothing was paid" in job.error["message"]
    assert (statuses(purchase), world.truth(purchase)) == (["failed"], NOT_PAID)
    assert effects_by_status() == {"absent": 1}


def test_without_a_code_it_fails_unpaid_and_a_late_code_is_not_used(world):
    purchase = start_and_wait_for_code(world)
    let_codes_expire()
    let_presses_age()

    world.work(deliver=nothing_comes)

    job = job_of(purchase)
    assert (job.status, job.error["code"]) == ("failed", "otp_expired")
    assert "Nothing was paid of ₹1,500" in job.error["message"]
    assert (statuses(purchase), effects_by_status()) == (["failed"], {"absent": 1})
    (late,) = world.new_messages()
    assert world.deliver(late).status == "kept"
    assert world.truth(purchase) == NOT_PAID

    rerun_job(job.pk, by="bob", from_step=None)
    give_cvv_again(purchase)
    world.work()

    assert (job_of(purchase).status, world.truth(purchase)) == ("completed", ONCE)


def test_without_the_code_of_a_log_in_it_fails_and_says_whose(stranger):
    purchase = stranger.start()
    stranger.work(deliver=nothing_comes)
    assert step_of(purchase, "gyftr_login").phase.startswith("Waiting for the code of Tokree")
    let_codes_expire()

    stranger.work(deliver=nothing_comes)

    job = job_of(purchase)
    assert (job.status, job.error["code"]) == ("failed", "otp_expired")
    assert "came in time. Check the phone" in job.error["message"]
    assert (statuses(purchase), Effect.objects.count()) == (["pending"], 0)


def give_cvv_again(purchase) -> None:
    """It was erased when the purchase ended."""
    purchase.refresh_from_db()
    give_cvv(purchase, "123")


def test_of_two_codes_at_once_one_is_used(world):
    purchase = start_and_wait_for_code(world)
    (message,) = world.new_messages()

    taken = [world.deliver(message, key=key).status for key in ("sms-1", "sms-2")]
    world.work()

    assert taken == ["given", "kept"]
    assert (statuses(purchase), world.truth(purchase)) == (["redeemed"], ONCE)


def test_a_code_for_another_payment_is_not_used(world):
    purchase = start_and_wait_for_code(world)
    (message,) = world.new_messages()
    text = "SHYDRI: 111111 is the OTP for your payment of INR 99.00 at CAFE. Ref ZZZZZ9."

    foreign = world.deliver({"id": "foreign", "text": text})
    world.deliver(message)
    world.work()

    assert foreign.status == "kept"
    request = OtpRequest.objects.get(job=purchase.job_id, otp_type="payment")
    assert (request.status, request.attempts_count) == ("verified", 1)
    assert world.truth(purchase) == ONCE


def test_two_purchases_on_one_phone_each_get_their_own_code(world):
    first, second = start_and_wait_for_code(world), start_and_wait_for_code(world)

    for message in reversed(world.new_messages()):
        assert world.deliver(message).status == "given"
    world.work()

    assert [world.truth(each) for each in (first, second)] == [ONCE, ONCE]
    attempts = OtpRequest.objects.filter(otp_type="payment").values_list(
        "attempts_count", flat=True
    )
    assert list(attempts) == [1, 1]


def test_only_one_of_two_purchases_signs_in(stranger):
    first, second = stranger.start(), stranger.start()
    for _ in range(3):
        run_ready()
        let_postponed_be_due()

    asked = OtpRequest.objects.filter(otp_type="gyftr_login", status="requested")
    assert asked.count() == 1
    others = Step.objects.filter(name="gyftr_login").exclude(pk=asked.get().step_id)
    assert "is signing in" in others.get().job.events.filter(kind="step.postponed").last().message
    stranger.work()

    assert [job_of(each).status for each in (first, second)] == ["completed", "completed"]
    assert OtpRequest.objects.filter(otp_type="gyftr_login").count() == 1


def test_browser_that_dies_while_a_code_is_awaited_starts_over_from_what_the_site_says(world, host):
    purchase = start_and_wait_for_code(world)
    host.end_parked(f"payment-{row_of(purchase).pk}")
    let_presses_age()

    world.work()

    assert (statuses(purchase), world.truth(purchase)) == (["redeemed"], ONCE)


def test_without_a_cvv_it_waits_for_a_person_to_type_it(world):
    purchase = world.start(cvv=None)
    world.work()
    step = step_of(purchase, "process_payment_1")
    assert (step.status, Effect.objects.count()) == (Status.WAITING, 0)
    assert "CVV" in step.phase

    give_cvv_again(purchase)
    world.work()

    assert world.truth(purchase) == ONCE


def test_a_site_that_forgets_us_is_signed_in_to_again(world):
    purchase = start_and_wait_for_code(world)
    world.sandbox.send(PORTAL, "expire", account=world.email)
    world.sandbox.send(WALLET, "expire", account=world.email)

    world.work()

    assert (statuses(purchase), world.truth(purchase)) == (["redeemed"], ONCE)


# ---- the portal ----------------------------------------------------------------------------------


def test_too_small_an_inventory_fails_at_once(world):
    world.sandbox.switch(PORTAL, inventory=1)

    purchase = world.start(2)
    world.work()

    job = job_of(purchase)
    assert (job.status, job.error["code"]) == ("failed", "out_of_inventory")
    assert "has 1 ₹1,500 vouchers left, and 2 are needed" in job.error["message"]
    assert step_of(purchase, "gyftr_login").status == Status.CANCELLED
    assert step_of(purchase, "inventory_check").attempt == 1


def test_exceeded_limit_fails_the_purchase_and_keeps_the_links_that_were_made(world):
    spent = sum(each["amount"] for each in world.sandbox.orders_of(world.email))
    world.sandbox.switch(PORTAL, refuse_links=1, account=world.email)

    purchase = world.start(3)
    world.work()

    job = job_of(purchase)
    assert (job.status, job.error["message"]) == ("failed", "User monthly limit exceeded")
    made = [row for row in Transaction.objects.filter(purchase=purchase) if row.link]
    orders = world.sandbox.orders_of(world.email)
    assert {row.order for row in made} == {
        each["order"] for each in orders if each["reference"].startswith(reference_of(purchase))
    }
    assert sum(each["amount"] for each in orders) == spent + len(made) * AMOUNT
    links = Step.objects.filter(job=job, name__startswith="generate_payment_link")
    assert set(links.values_list("attempt", flat=True)) <= {0, 1}


def test_portal_that_is_away_after_the_payment_is_waited_for(world):
    purchase = start_and_wait_for_code(world)
    world.sandbox.switch(PORTAL, down=True)
    world.deliver_all()
    for _ in range(3):
        run_ready()
        let_postponed_be_due()
    assert statuses(purchase) in (["paid"], ["paying"])
    assert job_of(purchase).status == "running"

    world.sandbox.switch(PORTAL, down=False)
    world.work()

    assert (statuses(purchase), world.truth(purchase)) == (["redeemed"], ONCE)


def test_a_voucher_that_comes_late_is_looked_for_ever_more_rarely(world):
    world.sandbox.switch(PORTAL, voucher_delay_seconds=600)
    purchase = start_and_wait_for_code(world)
    world.deliver_all()
    run_ready()
    step = step_of(purchase, "wait_for_vouchers_1")
    assert (step.status, step.lease_expires_at, statuses(purchase)) == ("waiting", None, ["paid"])
    row = row_of(purchase)
    Transaction.objects.filter(pk=row.pk).update(paid_at=row.paid_at - timedelta(minutes=5))
    let_postponed_be_due()
    run_ready()

    delays = [
        event.data["step"]["due_at"] for event in step.job.events.filter(kind="step.postponed")
    ]
    assert len(delays) >= 2
    step.refresh_from_db()
    assert timedelta(seconds=50) < step.due_at - step.job.events.last().at < timedelta(seconds=90)
    world.sandbox.send(PORTAL, "issue", order=row.order)
    world.work()
    assert (statuses(purchase), world.truth(purchase)) == (["redeemed"], ONCE)


def test_a_voucher_that_never_comes_goes_to_a_person_and_goes_on_from_there(world, settings):
    settings.VOUCHER_PATIENCE = timedelta(0)
    world.sandbox.switch(PORTAL, voucher_never=True)
    purchase = world.start()

    world.work()

    job, row = job_of(purchase), row_of(purchase)
    assert (job.status, job.error["code"]) == ("manual", "voucher_not_issued")
    assert "Ask the portal for it" in job.error["message"]
    assert (row.status, row.error_code) == ("paid", "voucher_not_issued")

    world.sandbox.send(PORTAL, "issue", order=row.order)
    resume_job(job.pk, by="bob")
    world.work()

    assert (job_of(purchase).status, world.truth(purchase)) == ("completed", ONCE)


def test_a_link_that_expires_before_its_turn_is_replaced(world):
    world.sandbox.switch(PORTAL, link_seconds=1)
    purchase = world.start()
    flow.pause(world.card.flow_key, by="bob")
    world.work()
    expires_at = row_of(purchase).link_expires_at
    wait_until(lambda: timezone.now() > expires_at)
    world.sandbox.switch(PORTAL, link_seconds=900)
    flow.resume(world.card.flow_key, by="bob")
    world.work()

    assert statuses(purchase) == ["redeemed"]
    truth = world.truth(purchase)
    assert (sum(truth["payments"]), len(truth["payments"])) == (1, 2)


# ---- the card ------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["at_once", "after_code"])
def test_a_declined_card_fails_the_purchase_and_can_be_tried_again(world, when):
    world.sandbox.switch(BANK, decline=when)
    purchase = world.start()

    world.work()

    job = job_of(purchase)
    assert (job.status, job.error["code"]) == ("failed", "card_declined")
    assert "was declined" in job.error["message"]
    assert "Nothing was paid of ₹1,500" in job.error["message"]
    assert (statuses(purchase), effects_by_status()) == (["failed"], {"absent": 1})
    assert world.truth(purchase) == NOT_PAID

    world.sandbox.switch(BANK, decline="no")
    rerun_job(job.pk, by="bob", from_step=None)
    give_cvv_again(purchase)
    world.work()

    assert (job_of(purchase).status, statuses(purchase)) == ("completed", ["redeemed"])
    assert sum(world.truth(purchase)["payments"]) == 1


def test_an_answer_that_hangs_after_it_took_effect_is_not_paid_twice(world, monkeypatch):
    monkeypatch.setattr(payment, "PATIENCE", 3.0)
    world.sandbox.switch(BANK, frictionless=True)
    world.sandbox.switch(PAY, hang_submits=1, hang_seconds=8)
    world.sandbox.switch(PORTAL, unpaid_lag_seconds=2)
    purchase = world.start()

    world.work()
    let_presses_age()
    world.work()

    assert (statuses(purchase), world.truth(purchase)) == (["redeemed"], ONCE)


def leave_unknown(world: World):
    """A purchase that was pressed, and neither the payment page nor the portal says more."""
    purchase = start_and_wait_for_code(world)
    for site in (PAY, BANK, PORTAL):
        world.sandbox.switch(site, down=True)
    let_codes_expire()
    let_presses_age()
    world.work(deliver=nothing_comes)
    job = job_of(purchase)
    assert (job.status, job.error["code"]) == ("manual", "unknown_outcome")
    assert statuses(purchase) == ["unknown"]
    for site in (PAY, BANK, PORTAL):
        world.sandbox.switch(site, down=False)
    return purchase


def test_what_nobody_can_tell_is_asked_in_the_inbox_and_paid_when_it_was_not(world):
    purchase = leave_unknown(world)
    (asked,) = read_inbox(world.user)["effects"]
    assert asked["title"].startswith("Pay ₹1,500 for order")

    effects.decide(Effect.objects.get().pk, happened=False, by=world.user)
    give_cvv_again(purchase)
    world.work()

    assert (job_of(purchase).status, statuses(purchase)) == ("completed", ["redeemed"])
    assert sum(world.truth(purchase)["payments"]) == 1


def test_what_a_person_says_was_paid_is_not_paid_again(world):
    purchase = leave_unknown(world)
    world.sandbox.switch(PORTAL, voucher_never=True)

    effects.decide(Effect.objects.get().pk, happened=True, by=world.user)
    run_ready()

    assert statuses(purchase) == ["paid"]
    assert step_of(purchase, "process_payment_1").status == Status.COMPLETED
    assert world.truth(purchase) == NOT_PAID


# ---- redeeming -----------------------------------------------------------------------------------


def test_a_voucher_that_was_used_already_is_left_for_a_person_and_the_rest_goes_on(world):
    world.sandbox.switch(PORTAL, issue_used=1)
    purchase = world.start(2)

    world.work()

    job = job_of(purchase)
    assert job.status == "completed"
    assert job.result["message"] == (
        "1 of 2 vouchers redeemed (₹1,500); 1 pending manual redemption (₹1,500)"
    )
    assert statuses(purchase) == ["pending_redemption", "redeemed"]
    voucher = VoucherCode.objects.get(transaction__index=1)
    assert voucher.status == "refused"
    assert "already used" in voucher.error_message.lower()
    assert step_of(purchase, "redeem_amazon_vouchers_1").output["redeemed"] is False


def test_a_shop_that_is_away_leaves_the_voucher_and_a_click_redeems_it_later(world):
    purchase = start_and_wait_for_code(world)
    world.sandbox.switch(WALLET, down=True)
    world.work()
    assert (job_of(purchase).status, statuses(purchase)) == ("completed", ["pending_redemption"])
    assert "pending manual redemption" in job_of(purchase).result["message"]

    world.sandbox.switch(WALLET, down=False)
    later = redeem_later(VoucherCode.objects.get().pk, by=world.user)
    world.work()

    later.refresh_from_db()
    assert (later.status, statuses(purchase)) == ("completed", ["redeemed"])
    assert world.truth(purchase) == ONCE


def test_a_redemption_whose_answer_hangs_is_found_in_the_history(world, monkeypatch):
    monkeypatch.setattr(redemption, "PATIENCE", 3.0)
    world.sandbox.switch(WALLET, hang_redeems=1, hang_seconds=8)
    purchase = world.start()

    world.work()

    assert (job_of(purchase).status, statuses(purchase)) == ("completed", ["redeemed"])
    assert world.truth(purchase) == ONCE

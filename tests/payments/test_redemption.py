"""Vouchers that are left: redeemed by a job of their own, or by a person."""

import pytest
from auditlog.models import LogEntry

from accounts.errors import UnsealError
from accounts.models import User
from jobs.errors import NotPossible
from jobs.models import Job, Status
from payments import recording, redemption
from payments.models import VoucherCode
from tests.jobs.rivals import elsewhere
from tests.payments.rows import issue, make_purchase


@pytest.fixture
def left(card, bob):
    purchase = make_purchase(card, created_by=bob)
    voucher = issue(purchase)
    recording.record_refused(voucher.pk, "voucher_invalid", "Try again later.")
    voucher.refresh_from_db()
    return voucher


def test_voucher_that_is_left_gets_a_job_of_its_own(left, bob):
    job = redemption.redeem_later(left.pk, by=bob)

    assert job.workflow == "voucher_redeem"
    assert job.title == "Redeem ₹1,500, Voucher …7Q2K"
    assert set(job.params) == {"voucher", "purchase", "redeemer_account"}
    assert "ABCDEFGH" not in str(job.params)
    left.refresh_from_db()
    assert (left.job, left.status, left.error_message) == (job, "issued", "")


def test_second_click_is_the_same_job(left, bob):
    first = redemption.redeem_later(left.pk, by=bob)

    assert redemption.redeem_later(left.pk, by=bob) == first
    assert Job.objects.filter(workflow="voucher_redeem").count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_clicks_at_once_are_the_same_job(left, bob):
    click = lambda: redemption.redeem_later(left.pk, by=bob).pk  # noqa: E731

    first, second = elsewhere(click, click)

    assert first == second
    assert Job.objects.filter(workflow="voucher_redeem").count() == 1


def test_job_of_nobodys_click_is_of_the_purchases_workspace(left, charlie):
    left.transaction.purchase.created_by = charlie
    left.transaction.purchase.save()

    job = redemption.redeem_later(left.pk, by=None)

    assert job.workspace_id == charlie.workspace_id


def test_job_that_has_ended_without_it_can_be_followed_by_another(left, bob):
    first = redemption.redeem_later(left.pk, by=bob)
    Job.objects.filter(pk=first.pk).update(status=Status.RUNNING)
    Job.objects.filter(pk=first.pk).update(status=Status.FAILED)

    assert redemption.redeem_later(left.pk, by=bob) != first


def test_purchase_at_work_redeems_its_vouchers_itself(left, bob, nothing_happens):
    purchase = left.transaction.purchase
    purchase.status = "processing"
    purchase.save()

    for act in (redemption.redeem_later, redemption.mark_redeemed):
        with nothing_happens(), pytest.raises(NotPossible) as refused:
            act(left.pk, by=bob)
        assert refused.value.code == "PURCHASE_AT_WORK"


def test_redeemed_voucher_is_not_redeemed_again(left, bob, nothing_happens):
    recording.record_redeemed(left.pk)

    for act in (redemption.redeem_later, redemption.mark_redeemed):
        with nothing_happens(), pytest.raises(NotPossible, match="redeemed already"):
            act(left.pk, by=bob)


def test_voucher_of_which_nobody_knows_is_a_persons(card, bob, nothing_happens):
    voucher = issue(make_purchase(card))
    recording.record_unknown(voucher.transaction_id, "redemption_unknown", "Nobody knows.")

    with nothing_happens(), pytest.raises(NotPossible) as refused:
        redemption.redeem_later(voucher.pk, by=bob)
    assert refused.value.code == "OUTCOME_IS_UNKNOWN"

    marked = redemption.mark_redeemed(voucher.pk, by=bob)
    assert marked.status == "redeemed"


def test_inactive_account_is_said_and_nothing_begun(left, bob, nothing_happens):
    account = left.transaction.purchase.card.redeemer_account
    account.is_active = False
    account.save()

    with nothing_happens(), pytest.raises(NotPossible) as refused:
        redemption.redeem_later(left.pk, by=bob)

    assert refused.value.code == "NO_ACTIVE_ACCOUNT"


def test_voucher_that_a_person_redeemed_is_marked_and_that_is_noted(left, bob):
    redemption.mark_redeemed(left.pk, by=bob, reason="on the phone")

    left.refresh_from_db()
    assert (left.status, left.redeemed_by) == ("redeemed", bob)
    row = left.transaction
    row.refresh_from_db()
    assert (row.status, row.error_message) == ("redeemed", "")
    row.purchase.refresh_from_db()
    assert row.purchase.completed_transactions == 1
    entry = LogEntry.objects.get(object_pk=str(left.pk))
    assert entry.additional_data["act"] == "settled"
    assert entry.additional_data["facts"] == {"outcome": "redeemed", "reason": "on the phone"}
    assert entry.actor == bob


def test_who_has_seen_a_code_is_noted_though_it_did_not_open(left, bob):
    other = issue(make_purchase(left.transaction.purchase.card), code="QRSTUVWX9Z9Z")
    sealed = VoucherCode.objects.values_list("code", flat=True).get(pk=other.pk)
    VoucherCode.objects.filter(pk=left.pk).update(code=sealed)
    left = VoucherCode.objects.get(pk=left.pk)

    with pytest.raises(UnsealError):
        redemption.reveal(left, by=bob)

    entry = LogEntry.objects.get(object_pk=str(left.pk))
    assert (entry.additional_data["act"], entry.actor) == ("used", bob)


def test_code_is_revealed_as_it_was_issued(left):
    assert redemption.reveal(left, by=User.objects.create_user("eve")) == ("ABCDEFGH7Q2K", "4821")

"""What became of a transaction, however late, early or often it is told; and the sums of it."""

from datetime import date
from decimal import Decimal

import pytest
from auditlog.models import LogEntry
from django.db import DatabaseError, transaction

from payments import recording
from payments.models import Transaction, VoucherCode
from payments.summary import Money, read_summary
from tests.payments.rows import issue, make_purchase


@pytest.fixture
def purchase(card):
    return make_purchase(card, 4, status="processing")


@pytest.fixture
def row(purchase):
    return purchase.transactions.get(index=1)


def again(row):
    return Transaction.objects.get(pk=row.pk)


def redeem(row):
    recording.record_redeemed(issue(row.purchase, row.index).pk)


def test_transaction_goes_from_its_link_to_the_balance(row):
    recording.record_link(row.pk, url="https://pay.example/1", order="GY-1")
    assert (again(row).status, again(row).order) == ("link_created", "GY-1")
    recording.record_paying(row.pk)
    assert again(row).status == "paying"
    recording.record_paid(row.pk, payment_reference="AX1")
    assert (again(row).status, again(row).payment_reference) == ("paid", "AX1")
    voucher = recording.record_voucher(
        row.pk, code="ABCD1234", pin="99", amount=Decimal(1500), expires_on=date(2027, 1, 1)
    )
    assert again(row).status == "issued"
    recording.record_redeemed(voucher.pk)

    done = again(row)
    assert done.status == "redeemed"
    assert done.paid_at <= done.issued_at <= done.redeemed_at
    row.purchase.refresh_from_db()
    assert row.purchase.completed_transactions == 1
    stored = VoucherCode.objects.get()
    assert (stored.status, stored.tail, stored.code, stored.pin) == (
        "redeemed",
        "1234",
        "ABCD1234",
        "99",
    )
    assert stored.redeemed_by is None
    assert not LogEntry.objects.filter(object_pk=str(voucher.pk)).exists()  # nobody's act


def test_older_news_that_come_late_change_nothing(row):
    redeem(row)
    before = Transaction.objects.values().get(pk=row.pk)

    recording.record_link(row.pk, url="https://pay.example/2", order="GY-2")
    recording.record_paying(row.pk)
    recording.record_paid(row.pk, payment_reference="AX2")
    recording.record_failed(row.pk, "card_declined", "No.")
    recording.record_unknown(row.pk, "payment_unknown", "Nobody knows.")
    recording.record_refused(VoucherCode.objects.get().pk, "voucher_used", "Used.")

    assert Transaction.objects.values().get(pk=row.pk) == before
    assert VoucherCode.objects.get().status == "redeemed"


def test_voucher_that_is_read_twice_is_one_voucher(row):
    first = issue(row.purchase)
    second = issue(row.purchase)

    assert first == second
    assert VoucherCode.objects.count() == 1


def test_voucher_that_is_redeemed_twice_counts_once(row):
    voucher = issue(row.purchase)

    recording.record_redeemed(voucher.pk)
    at = again(row).redeemed_at
    recording.record_redeemed(voucher.pk)

    assert again(row).redeemed_at == at
    row.purchase.refresh_from_db()
    assert row.purchase.completed_transactions == 1


def test_refused_voucher_is_left_for_a_person_with_the_shops_words(row):
    voucher = issue(row.purchase)

    recording.record_refused(voucher.pk, "voucher_used", "It was used already.")

    assert (again(row).status, again(row).error_message) == (
        "pending_redemption",
        "It was used already.",
    )
    voucher.refresh_from_db()
    assert (voucher.status, voucher.error_message) == ("refused", "It was used already.")


def test_redemption_that_nobody_knows_of_is_unknown_at_its_voucher_too(row):
    voucher = issue(row.purchase)

    recording.record_unknown(row.pk, "redemption_unknown", "Nobody knows.")

    voucher.refresh_from_db()
    assert (again(row).status, voucher.status) == ("unknown", "unknown")


def test_declined_payment_can_be_tried_once_more(row):
    recording.record_paying(row.pk)
    recording.record_failed(row.pk, "card_declined", "The bank said no.")
    assert (again(row).status, again(row).error_code) == ("failed", "card_declined")

    recording.record_link(row.pk, url="https://pay.example/2", order="GY-2")

    assert (again(row).status, again(row).error_message) == ("link_created", "")


def test_trouble_is_noted_and_the_status_stands(row):
    recording.record_paid(row.pk)

    recording.record_trouble(row.pk, "voucher_not_issued", "No voucher came.")

    assert (again(row).status, again(row).error_code) == ("paid", "voucher_not_issued")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("paid", "pending"),
        ("paid", "paying"),
        ("issued", "paid"),
        ("issued", "failed"),
        ("pending_redemption", "paying"),
        ("redeemed", "pending_redemption"),
        ("redeemed", "unknown"),
    ],
)
def test_database_refuses_to_take_money_back(row, before, after):
    Transaction.objects.filter(pk=row.pk).delete()
    row.status = before
    row.save(force_insert=True)

    with pytest.raises(DatabaseError, match="transition"), transaction.atomic():
        Transaction.objects.filter(pk=row.pk).update(status=after)

    assert again(row).status == before


def test_sums_say_where_every_rupee_is(purchase):
    first, _, third, fourth = purchase.transactions.order_by("index")
    redeem(first)
    recording.record_refused(issue(purchase, 2).pk, "voucher_used", "Used.")
    recording.record_paid(third.pk)
    recording.record_paying(fourth.pk)
    recording.record_unknown(fourth.pk, "payment_unknown", "Nobody knows.")

    found = read_summary(purchase)

    one = Money(1, Decimal(1500))
    assert found.total == Money(4, Decimal(6000))
    assert found.paid == Money(3, Decimal(4500))
    assert found.awaiting_voucher == one
    assert found.issued == Money(2, Decimal(3000))
    assert found.redeemed == found.pending_redemption == found.unknown == one
    assert found.not_paid == Money()
    assert found.to_data()["paid"] == {"count": 3, "amount": 4500}


def test_unknown_redemption_is_paid_and_issued_and_neither_redeemed_nor_pending(purchase):
    issue(purchase, 1)
    recording.record_unknown(
        purchase.transactions.get(index=1).pk, "redemption_unknown", "Nobody knows."
    )

    found = read_summary(purchase)

    assert found.paid.count == found.issued.count == found.unknown.count == 1
    assert found.redeemed.count == found.pending_redemption.count == 0
    assert found.not_paid.count == 3


def test_payment_that_was_paid_back_is_not_paid(purchase):
    row = purchase.transactions.get(index=1)
    recording.record_paid(row.pk)
    recording.record_failed(row.pk, "refunded", "The portal paid it back.")

    found = read_summary(purchase)

    assert (found.paid.count, found.not_paid.count) == (0, 4)

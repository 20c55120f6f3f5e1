"""Starting a purchase: what is refused before a row is written, and what is written at once."""

import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from auditlog.models import LogEntry

from accounts.models import User
from jobs.models import Job, Signal
from payments import cvv, purchases
from payments.errors import KeyReused, PurchaseRefused
from payments.models import Card, VoucherPurchase
from payments.purchases import give_cvv, start_purchase
from tests.jobs.rivals import just_before
from tests.payments.rows import NUMBER, make_card

SECRETS = (NUMBER, "08/2031", "9876")


def find_secrets(text: str) -> list[str]:
    """Four digits alone may be part of an id or of a time."""
    return [each for each in SECRETS if re.search(rf"(?<![\w.+-]){each}(?![\w.-])", text)]


def test_purchase_is_written_with_its_transactions_and_its_job_at_once(card, bob):
    purchase = start_purchase(bob, "mrcc", 4, 1500)

    assert (purchase.status, purchase.current_phase) == ("initiated", "validation")
    assert (purchase.workspace_id, purchase.created_by) == (bob.workspace_id, bob)
    assert purchase.card_type == "MRCC"
    rows = list(purchase.transactions.values_list("index", "amount", "status"))
    assert rows == [(index, Decimal(1500), "pending") for index in (1, 2, 3, 4)]
    job = Job.objects.get(workflow="voucher_purchase")
    assert purchase.job == job
    assert job.title == "Buy 4 × ₹1,500 on MRCC"
    assert job.params["purchase"] == str(purchase.pk)


def test_no_secret_of_the_card_is_in_the_job_its_events_or_the_purchase(card, bob, broker):
    purchase = start_purchase(bob, "MRCC", 1, 1500, cvv="9876")

    rows = [
        *Job.objects.values(),
        *purchase.job.steps.values(),
        *purchase.job.events.values(),
        *VoucherPurchase.objects.values(),
        *LogEntry.objects.values(),
        *Card.objects.values("label", "last4", "holder"),
    ]
    assert find_secrets(str(rows)) == []
    assert cvv.find(purchase.pk) == "9876"


def test_card_that_is_checked_is_noted_as_used(card, bob):
    LogEntry.objects.all().delete()

    start_purchase(bob, "MRCC", 1, 1500)

    entry = LogEntry.objects.get(object_pk=str(card.pk))
    assert entry.additional_data["act"] == "used"
    assert entry.additional_data["facts"] == {"why": "checked before a purchase"}
    assert entry.actor == bob


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (("Platinum", 1, 1500), "UNKNOWN_CARD_TYPE"),
        (("MRCC", 0, 1500), "QTY_OUT_OF_RANGE"),
        (("MRCC", 21, 1500), "QTY_OUT_OF_RANGE"),
        (("MRCC", 1, 0), "AMOUNT_INVALID"),
        (("MRCC", 1, -5), "AMOUNT_INVALID"),
        (("MRCC", 1, Decimal("10.50")), "AMOUNT_INVALID"),
        (("MRCC", 1, 10_001), "AMOUNT_ABOVE_LIMIT"),
        (("MRCC", 1, 1500, "12"), "CVV_INVALID"),
    ],
)
def test_request_that_makes_no_sense_is_refused_and_nothing_is_written(
    card, bob, nothing_happens, asked, code
):
    with nothing_happens(), pytest.raises(PurchaseRefused) as refused:
        start_purchase(bob, *asked)

    assert refused.value.code == code


def test_most_transactions_of_a_purchase_are_a_setting(card, bob, settings):
    settings.PURCHASE_MOST_TRANSACTIONS = 2

    with pytest.raises(PurchaseRefused, match="from 1 to 2"):
        start_purchase(bob, "MRCC", 3, 1500)


def test_unknown_card_type_is_told_which_there_are(card, bob):
    with pytest.raises(PurchaseRefused, match=r"no active card of type 'Platinum'; use MRCC\."):
        start_purchase(bob, "Platinum", 1, 1500)


def test_card_of_another_workspace_is_unknown(card, charlie, nothing_happens):
    with nothing_happens(), pytest.raises(PurchaseRefused) as refused:
        start_purchase(charlie, "MRCC", 1, 1500)

    assert refused.value.code == "UNKNOWN_CARD_TYPE"
    assert "an admin has to add a card first" in str(refused.value)


def test_card_is_good_on_the_last_day_of_its_month_and_not_after(
    card, bob, monkeypatch, nothing_happens
):
    card.write_expiry("11/2026")
    card.save()

    monkeypatch.setattr(purchases.timezone, "now", lambda: datetime(2026, 12, 1, tzinfo=UTC))
    with nothing_happens(), pytest.raises(PurchaseRefused, match=r"has expired \(11/2026\)") as no:
        start_purchase(bob, "MRCC", 1, 1500)
    assert no.value.code == "CARD_EXPIRED"

    monkeypatch.setattr(purchases.timezone, "now", lambda: datetime(2026, 11, 30, tzinfo=UTC))
    assert start_purchase(bob, "MRCC", 1, 1500).status == "initiated"


def test_card_whose_number_fails_luhn_is_refused(card, bob, nothing_happens):
    Card.objects.all().delete()
    card.number = "374245455400127"
    card.save(force_insert=True)

    with nothing_happens(), pytest.raises(PurchaseRefused) as refused:
        start_purchase(bob, "MRCC", 1, 1500)

    assert refused.value.code == "CARD_NUMBER_INVALID"
    assert "0127" not in str(refused.value)


def test_card_that_does_not_open_is_said_to_whom_can_mend_it(card, bob, nothing_happens):
    other = make_card(card_type="Gold")
    sealed = Card.objects.values_list("number", flat=True).get(pk=other.pk)
    Card.objects.filter(pk=card.pk).update(number=sealed)

    with nothing_happens(), pytest.raises(PurchaseRefused) as refused:
        start_purchase(bob, "MRCC", 1, 1500)

    assert refused.value.code == "CARD_UNREADABLE"


@pytest.mark.parametrize("which", ["portal_account", "redeemer_account"])
@pytest.mark.parametrize("what", ["account", "site"])
def test_card_without_an_active_account_is_refused(card, bob, nothing_happens, which, what):
    row = getattr(card, which)
    row = row.site if what == "site" else row
    row.is_active = False
    row.save()

    with nothing_happens(), pytest.raises(PurchaseRefused) as refused:
        start_purchase(bob, "MRCC", 1, 1500)

    assert refused.value.code == "NO_ACTIVE_ACCOUNT"


def test_same_key_is_the_same_purchase(card, bob):
    first = start_purchase(bob, "MRCC", 4, 1500, idempotency_key="k")
    again = start_purchase(bob, "MRCC", 4, 1500, idempotency_key="k")

    assert again.pk == first.pk
    assert (first.is_replay, again.is_replay) == (False, True)
    assert Job.objects.count() == VoucherPurchase.objects.count() == 1


def test_key_of_another_request_is_refused(card, bob, nothing_happens):
    start_purchase(bob, "MRCC", 4, 1500, idempotency_key="k")

    with nothing_happens(), pytest.raises(KeyReused):
        start_purchase(bob, "MRCC", 3, 1500, idempotency_key="k")


@pytest.mark.django_db(transaction=True)
def test_two_requests_of_one_key_at_once_are_one_purchase(card, bob, monkeypatch):
    others: list[VoucherPurchase] = []
    just_before(
        monkeypatch,
        purchases,
        "_insert",
        lambda: others.append(start_purchase(bob, "MRCC", 4, 1500, idempotency_key="k")),
    )

    purchase = start_purchase(bob, "MRCC", 4, 1500, idempotency_key="k")

    assert [purchase.pk] == [other.pk for other in others]
    assert purchase.is_replay
    assert Job.objects.count() == VoucherPurchase.objects.count() == 1


def test_key_is_its_callers_own(card, bob):
    other = User.objects.create_user("dora")

    first = start_purchase(bob, "MRCC", 4, 1500, idempotency_key="k")
    second = start_purchase(other, "MRCC", 4, 1500, idempotency_key="k")

    assert first.pk != second.pk


def test_purchase_begins_without_its_cvv_while_valkey_is_away(card, bob, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    purchase = start_purchase(bob, "MRCC", 1, 1500, cvv="9876")

    assert purchase.status == "initiated"


def test_cvv_that_is_given_later_is_kept_and_signalled_without_it(purchase, broker):
    give_cvv(purchase, "9876")

    assert cvv.find(purchase.pk) == "9876"
    signal = Signal.objects.get()
    assert signal.topic == cvv.topic(purchase.pk)
    assert signal.fields == {}


def test_purchase_that_has_ended_takes_no_cvv(purchase, broker, nothing_happens):
    purchase.status = VoucherPurchase.Status.FAILED

    with nothing_happens(), pytest.raises(PurchaseRefused, match="has ended"):
        give_cvv(purchase, "9876")

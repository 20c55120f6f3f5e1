"""A purchase as a job's page and the lists show it."""

from payments.advice import ANY_FAILURE, decide_advice
from payments.presentation import PurchaseListing, describe_purchase, describe_redemption
from payments.redemption import redeem_later
from tests.payments.rows import issue, make_purchase


def facts_of(subject):
    return {fact.label: fact.text for fact in subject.facts}


def test_job_is_about_its_purchase_with_what_to_do_and_no_secret(card, bob):
    purchase = make_purchase(card, 4, status="failed", error_code="limit_exceeded", created_by=bob)

    subject = describe_purchase(purchase.job_id)

    assert facts_of(subject) == {
        "Purchase": "4 × ₹1,500 on MRCC",
        "Total": "₹6,000",
        "Card": "Membership Rewards •••• 0126",
        "Bought as": "buyer@team.example",
        "Redeemed as": "buyer@team.example",
        "Requested by": "bob",
    }
    assert subject.advice.startswith("Wait for the next month")


def test_job_that_redeems_later_is_about_its_voucher_too(card, bob):
    voucher = issue(make_purchase(card, created_by=bob))
    job = redeem_later(voucher.pk, by=bob)

    subject = describe_redemption(job.pk)

    assert facts_of(subject)["Voucher"] == "Voucher …7Q2K"
    assert facts_of(subject)["Purchase"] == "1 × ₹1,500 on MRCC"


def test_job_without_a_purchase_is_about_nothing(card):
    gone = make_purchase(card)
    gone.transactions.all().delete()
    gone.delete()

    assert describe_purchase(gone.job_id) is None
    assert describe_redemption(gone.job_id) is None


def test_advice_is_for_what_ended_badly_alone():
    assert decide_advice("processing", "card_declined") == ""
    assert decide_advice("completed", "") == ""
    assert "Ask the bank" in decide_advice("failed", "card_declined")
    assert decide_advice("manual", "what_nobody_thought_of") == ANY_FAILURE


def test_row_of_the_list_says_where_a_purchase_stands(card, bob):
    purchase = make_purchase(card, 4, status="manual", completed_transactions=1, created_by=bob)
    listing = PurchaseListing(bob.workspace_id)

    row = listing.row(listing.visible_to(bob).get())

    assert row["title"] == "4 × ₹1,500 on MRCC"
    assert (row["total"], row["qty"], row["completed_transactions"]) == ("₹6,000", 4, 1)
    assert row["url"] == f"/purchases/{purchase.pk}/"
    assert listing.stats() == {"manual": 1}
    assert [each.pk for each in listing.of_jobs([purchase.job_id])] == [purchase.pk]

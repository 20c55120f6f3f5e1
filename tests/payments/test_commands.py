import json
import uuid
from io import StringIO

import pytest
from auditlog.models import LogEntry
from django.core.management import CommandError, call_command

from jobs.models import Job
from payments import recording
from payments.models import VoucherCode
from tests.payments.rows import issue, make_purchase


def run(*arguments):
    out, err = StringIO(), StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return out.getvalue()


@pytest.fixture
def purchase(card, bob):
    """One voucher redeemed, one refused, one payment unknown, one not begun."""
    purchase = make_purchase(card, 4, created_by=bob, error_code="voucher_used")
    recording.record_redeemed(issue(purchase, 1).pk)
    refused = issue(purchase, 2, code="SECRETCODE22")
    recording.record_refused(refused.pk, "voucher_used", "It was used already.")
    recording.record_paying(purchase.transactions.get(index=3).pk)
    recording.record_unknown(purchase.transactions.get(index=3).pk, "unknown", "Nobody knows.")
    return purchase


@pytest.fixture
def left(purchase):
    return VoucherCode.objects.get(status="refused")


def test_purchase_is_shown_with_its_money_and_without_its_secrets(purchase, left):
    said = run("purchases_show", str(purchase.pk))

    assert "4 × ₹1,500 on MRCC, Membership Rewards •••• 0126" in said
    assert f"{left.pk} …DE22 refused" in said
    assert "1 unknown: ₹1,500" in said
    assert "1 to be redeemed: ₹1,500" in said
    assert "2 paid: ₹3,000" in said
    assert "SECRETCODE" not in said
    assert run("purchases_show", str(purchase.job_id)) == said


def test_purchase_as_json_is_what_the_api_answers(purchase, bob_api):
    shown = json.loads(run("purchases_show", str(purchase.pk), "--json"))

    assert shown == bob_api.get(f"/api/purchases/{purchase.pk}").json()


def test_without_an_id_the_newest_are_listed(purchase):
    assert str(purchase.pk) in run("purchases_show")


def test_unknown_purchase_is_said(db):
    assert run("purchases_show") == "There is no purchase yet.\n"
    with pytest.raises(CommandError, match="No purchase has the id"):
        run("purchases_show", str(uuid.uuid4()))


def test_dry_run_only_says_which(purchase, left):
    said = run("vouchers_redeem", "--all", "--dry-run")

    assert said.splitlines() == [
        "Redeem: 1 voucher.",
        f"  {left.pk}  ₹1,500  Voucher …DE22  Refused by the shop",
    ]
    assert not Job.objects.filter(workflow="voucher_redeem").exists()


def test_what_is_left_of_a_purchase_is_redeemed_by_jobs(purchase, left):
    said = run("vouchers_redeem", "--purchase", str(purchase.job_id), "--yes")

    job = Job.objects.get(workflow="voucher_redeem")
    assert f"Voucher …DE22: job {job.pk}" in said
    assert job.workspace_id == purchase.workspace_id


def test_vouchers_are_marked_by_hand_and_that_is_noted(purchase, left):
    run("vouchers_redeem", str(left.pk), "--by-hand", "--reason", "in the app")

    assert VoucherCode.objects.get(pk=left.pk).status == "redeemed"
    entry = LogEntry.objects.get(object_pk=str(left.pk))
    assert entry.additional_data["by"].endswith("on the command line")
    assert entry.additional_data["facts"]["reason"] == "in the app"


def test_voucher_that_cannot_be_redeemed_is_skipped_with_its_reason(purchase):
    done = VoucherCode.objects.get(status="redeemed")

    with pytest.raises(CommandError, match="1 skipped") as skipped:
        run("vouchers_redeem", str(done.pk))

    assert skipped.value.returncode == 3


def test_nobody_is_asked_without_a_terminal(purchase, monkeypatch):
    monkeypatch.setattr("sys.stdin", StringIO())

    with pytest.raises(CommandError, match=r"add --yes\. Nothing was changed"):
        run("vouchers_redeem", "--all")

    assert not Job.objects.filter(workflow="voucher_redeem").exists()


def test_vouchers_have_to_be_named(db):
    with pytest.raises(CommandError, match="Name vouchers by their ids"):
        run("vouchers_redeem")
    with pytest.raises(CommandError, match="No voucher has the id"):
        run("vouchers_redeem", str(uuid.uuid4()))

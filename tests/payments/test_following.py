"""A purchase in step with its job, from its start to each of its ends."""

from datetime import timedelta

import pytest

from jobs import control
from jobs.errors import Becomes, BusinessError
from jobs.models import Job, Status
from jobs.plans import Done, Postpone
from jobs.runner import runner
from payments import cvv, recording
from payments.following import decide_phase, decide_status
from payments.models import VoucherPurchase
from payments.runs import purchases_to_show, read_run
from tests.jobs import workflows
from tests.payments.toys import behave, failing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def plain_toys(broker):
    yield
    workflows.BEHAVIOURS.clear()


def run(purchase):
    runner.run_ready_steps(["steps"])
    purchase.refresh_from_db()
    return purchase


def statuses(purchase):
    return list(purchase.transactions.values_list("status", flat=True))


def test_purchase_of_which_all_works_is_complete(purchase):
    behave(purchase)
    seen = []

    def look(context):
        seen.append(VoucherPurchase.objects.values_list("status", "current_phase").get())
        return Done()

    behave(purchase, gyftr_login=look, summary=look)
    run(purchase)

    assert seen == [("validating", "validation"), ("processing", "payment_processing")]
    assert (purchase.status, purchase.current_phase) == ("completed", "complete")
    assert purchase.completed_transactions == 4
    assert purchase.completed_at is not None
    assert (purchase.error_message, purchase.error_code) == (None, "")
    assert statuses(purchase) == ["redeemed"] * 4


def test_failed_limit_probe_fails_the_purchase_in_its_phase(purchase):
    failed = BusinessError("limit_exceeded", "User monthly limit exceeded")
    behave(purchase, generate_payment_link_3=failing(failed))

    run(purchase)

    assert (purchase.status, purchase.current_phase) == ("failed", "validation")
    assert purchase.error_message == "User monthly limit exceeded"
    assert purchase.error_code == "limit_exceeded"
    # Those that were made stay recorded until they expire.
    assert statuses(purchase)[:2] == ["link_created", "link_created"]


def test_end_with_a_person_leaves_issued_vouchers_to_be_redeemed(purchase):
    error = BusinessError("captcha", "The shop shows a captcha.", Becomes.MANUAL)
    behave(purchase, redeem_amazon_vouchers_2=failing(error))

    run(purchase)

    assert (purchase.status, purchase.current_phase) == ("manual", "payment_processing")
    assert statuses(purchase) == ["redeemed", "pending_redemption", "link_created", "link_created"]
    assert purchase.completed_transactions == 1


def test_partial_end_is_told_with_its_sums(purchase):
    error = BusinessError("captcha", "The shop shows a captcha.", Becomes.MANUAL)
    behave(purchase, redeem_amazon_vouchers_2=failing(error))

    run(purchase)

    told = purchase.job.events.order_by("-number").first()
    assert told.kind == "purchase.summary"
    assert told.message == (
        "1 of 4 vouchers redeemed (₹1,500); 1 pending manual redemption (₹1,500); "
        "2 not paid (₹3,000)"
    )
    result = Job.objects.values_list("result", flat=True).get(pk=purchase.job_id)
    assert result == told.data["job"]["result"]
    assert result["summary"]["pending_redemption"] == {"count": 1, "amount": 1500}


def test_end_amid_a_payment_leaves_it_unknown(purchase):
    row = purchase.transactions.get(index=1)

    def pay(context):
        recording.record_paying(row.pk)
        raise BusinessError("captcha", "A captcha.", Becomes.MANUAL)

    behave(purchase, process_payment_1=pay)

    run(purchase)

    row.refresh_from_db()
    assert (row.status, row.error_code) == ("unknown", "stopped_while_paying")


def test_cvv_is_erased_at_the_end_and_not_before(purchase):
    cvv.keep(purchase.pk, "9876")
    error = BusinessError("captcha", "A captcha.", Becomes.MANUAL)
    found = []

    def look(context):
        found.append(cvv.find(purchase.pk))
        raise error

    behave(purchase, process_payment_2=look)
    run(purchase)

    assert found == ["9876"]
    assert cvv.find(purchase.pk) is None


def test_cvv_is_erased_once_the_last_payment_is_made(purchase):
    cvv.keep(purchase.pk, "9876")
    found = []

    def look(context):
        found.append(cvv.find(purchase.pk))
        return Done()

    behave(purchase, process_payment_4=look, wait_for_vouchers_4=look)
    run(purchase)

    assert found == ["9876", None]


def test_cancelled_purchase_is_cancelled_and_its_cvv_erased(purchase):
    cvv.keep(purchase.pk, "9876")

    control.cancel_job(purchase.job_id, by="alice", reason="wrong card")

    purchase.refresh_from_db()
    assert (purchase.status, purchase.error_code) == ("cancelled", "cancelled")
    assert purchase.error_message == "Cancelled by alice: wrong card"
    assert cvv.find(purchase.pk) is None


def test_purchase_that_is_run_again_starts_without_its_error_and_ends_complete(purchase):
    error = BusinessError("captcha", "A captcha.", Becomes.MANUAL)
    behave(purchase, redeem_amazon_vouchers_2=failing(error))
    run(purchase)

    control.rerun_job(purchase.job_id, by="alice")
    purchase.refresh_from_db()
    assert (purchase.status, purchase.error_message, purchase.completed_at) == (
        "initiated",
        None,
        None,
    )

    behave(purchase)
    run(purchase)

    assert purchase.status == "completed"
    assert statuses(purchase) == ["redeemed"] * 4


def test_step_that_waits_for_its_time_is_in_progress_and_later_ones_are_pending(purchase):
    behave(purchase, process_payment_1=lambda context: Postpone(timedelta(minutes=1), "Later."))
    run(purchase)

    shown = read_run(purchases_to_show(VoucherPurchase.objects.all()).get())
    steps = {
        (step["step_name"], step["transaction_index"]): step["status"]
        for step in shown["job_steps"]
    }
    assert steps["process_payment", 1] == "in_progress"
    assert steps["process_payment", 2] == "pending"
    assert steps["generate_payment_link", 4] == "completed"


def test_words_of_the_document_for_each_state_of_the_job():
    assert decide_status(Status.PENDING, "inventory_check") == "initiated"
    assert decide_status(Status.RUNNING, "generate_payment_link_12") == "validating"
    assert decide_status(Status.WAITING, "amazon_login") == "validating"
    assert decide_status(Status.RUNNING, "process_payment_1") == "processing"
    assert decide_status(Status.WAITING, "wait_for_vouchers_3") == "processing"
    assert decide_status(Status.MANUAL, "gyftr_login") == "manual"
    assert decide_phase(Status.FAILED, "gyftr_login") is None
    assert decide_phase(Status.COMPLETED, "summary") == "complete"

"""The documents' calls: who may, what is answered, and what is refused."""

import uuid

import pytest
from auditlog.models import LogEntry

from accounts.models import User
from jobs.models import Job
from jobs.runner import runner
from payments import cvv, recording
from payments.models import VoucherPurchase
from payments.purchases import start_purchase
from tests.jobs import workflows
from tests.payments.rows import issue, make_card, make_purchase
from tests.payments.toys import awaiting_code, behave
from tests.vendors.conftest import client_with_key

JOB_RUN = {
    "id",
    "user_id",
    "job_type",
    "status",
    "current_phase",
    "progress_percentage",
    "total_transactions",
    "completed_transactions",
    "transaction_amount",
    "transaction_count",
    "created_at",
    "updated_at",
    "completed_at",
    "error_message",
    "retry_count",
    "metadata",
}
JOB_STEP = {
    "id",
    "job_run_id",
    "step_name",
    "step_type",
    "status",
    "transaction_index",
    "started_at",
    "completed_at",
    "timeout_at",
    "step_data",
    "error_message",
    "created_at",
}
OTP_REQUEST = {
    "id",
    "job_run_id",
    "job_step_id",
    "otp_type",
    "phone_number",
    "requested_at",
    "received_at",
    "verified_at",
    "timeout_at",
    "attempts_count",
    "max_attempts",
    "status",
}


@pytest.fixture(autouse=True)
def plain_toys():
    yield
    workflows.BEHAVIOURS.clear()


def post(client, path, body=None, **headers):
    return client.post(path, body or {}, format="json", headers=headers)


def start(client, **changes):
    return post(client, "/api/start-job", {"cardType": "MRCC", "qty": 4, "amount": 1500, **changes})


# --- Starting --------------------------------------------------------------------------------


def test_start_job_answers_with_the_job_as_the_document_has_it(card, bob_api):
    answer = start(bob_api)

    assert answer.status_code == 200
    assert answer.json() == {"jobId": str(VoucherPurchase.objects.get().job_id)}
    run = bob_api.get(f"/api/jobs/{answer.json()['jobId']}/run").json()
    assert (run["status"], run["total_transactions"]) == ("initiated", 4)
    job = bob_api.get(f"/api/jobs/{answer.json()['jobId']}").json()["job"]
    assert (job["status"], job["progress"]) == ("pending", 0)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"cardType": "Platinum"}, "UNKNOWN_CARD_TYPE"),
        ({"cardType": None}, "INVALID_REQUEST"),
        ({"qty": 0}, "QTY_OUT_OF_RANGE"),
        ({"qty": 21}, "QTY_OUT_OF_RANGE"),
        ({"qty": "four"}, "INVALID_REQUEST"),
        ({"qty": 2.5}, "INVALID_REQUEST"),
        ({"qty": True}, "INVALID_REQUEST"),
        ({"amount": 0}, "AMOUNT_INVALID"),
        ({"amount": -1}, "AMOUNT_INVALID"),
        ({"amount": 10_001}, "AMOUNT_ABOVE_LIMIT"),
        ({"amount": 10**30}, "AMOUNT_INVALID"),
        ({"cvv": "12"}, "CVV_INVALID"),
        ({"quantity": 4}, "INVALID_REQUEST"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(
    card, bob_api, nothing_happens, changes, code
):
    with nothing_happens():
        answer = start(bob_api, **changes)

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.json()["success"] is False
    assert len(answer.json()["error"]) > 15


def test_expired_card_is_refused(card, bob_api, nothing_happens):
    card.write_expiry("01/2020")
    card.save()

    with nothing_happens():
        answer = start(bob_api)

    assert (answer.status_code, answer.json()["code"]) == (400, "CARD_EXPIRED")
    assert "Enter the new card's number" in answer.json()["error"]


def test_refused_cvv_is_not_repeated_in_the_answer(card, bob_api):
    answer = start(bob_api, cvv="98765")

    assert answer.status_code == 400
    assert "98765" not in answer.content.decode()


def test_cvv_that_is_sent_along_is_kept_for_the_purchase_alone(card, bob_api, broker):
    start(bob_api, cvv="9876")

    assert cvv.find(VoucherPurchase.objects.get().pk) == "9876"
    assert "cvv" not in str(Job.objects.values_list("params", flat=True).get()).lower()


def test_key_that_is_sent_twice_is_one_purchase(card, bob_api):
    body = {"cardType": "MRCC", "qty": 4, "amount": 1500}

    first = post(bob_api, "/api/start-job", body, **{"Idempotency-Key": "k1"})
    again = post(bob_api, "/api/start-job", body, **{"Idempotency-Key": "k1"})
    other = post(bob_api, "/api/start-job", {**body, "qty": 3}, **{"Idempotency-Key": "k1"})

    assert first.json() == again.json()
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert VoucherPurchase.objects.count() == 1


def test_start_payment_answers_in_the_other_documents_words(card, bob, bob_api):
    config = {"transactionAmount": 1500, "transactionCount": 4}

    answer = post(bob_api, "/api/jobs/start-payment", {"userId": bob.pk, "config": config})

    purchase = VoucherPurchase.objects.get()
    assert answer.json() == {
        "jobId": str(purchase.job_id),
        "message": "Job started successfully",
    }
    assert (purchase.created_by, purchase.card_type, purchase.qty) == (bob, "MRCC", 4)


def test_start_payment_needs_the_card_where_there_are_several(card, bob, bob_api, nothing_happens):
    make_card(card_type="Gold")
    config = {"transactionAmount": 1500, "transactionCount": 4}
    body = {"userId": "bob", "config": config}

    with nothing_happens():
        answer = post(bob_api, "/api/jobs/start-payment", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "CARD_TYPE_NEEDED")

    config["cardType"] = "gold"
    assert post(bob_api, "/api/jobs/start-payment", body).status_code == 200
    assert VoucherPurchase.objects.get().card_type == "Gold"


def test_only_an_admin_starts_a_payment_for_a_colleague(card, bob_api, admin_api, charlie):
    colleague = User.objects.create_user("dora")
    config = {"transactionAmount": 1500, "transactionCount": 1}

    def start_for(client, named):
        answer = post(client, "/api/jobs/start-payment", {"userId": named, "config": config})
        return answer.status_code, answer.json().get("code")

    assert start_for(bob_api, "dora") == (400, "UNKNOWN_USER")
    assert start_for(admin_api, "charlie") == (400, "UNKNOWN_USER")
    assert start_for(admin_api, str(charlie.pk)) == (400, "UNKNOWN_USER")
    assert VoucherPurchase.objects.count() == 0
    assert start_for(admin_api, str(colleague.pk)) == (200, None)
    assert VoucherPurchase.objects.get().created_by == colleague


# --- Reading ---------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_run_has_the_columns_that_the_documents_page_is_drawn_from(card, bob, bob_api, broker):
    purchase = start_purchase(bob, "MRCC", 2, 1500)
    behave(purchase)
    paid = workflows.BEHAVIOURS["process_payment_2"]
    asked = {"service": "amex", "phone": "+919000043210"}
    behave(purchase, process_payment_2=awaiting_code("payment", "payment", paid, **asked))
    runner.run_ready_steps(["steps"])

    run = bob_api.get(f"/api/jobs/{purchase.job_id}/run").json()

    assert set(run) >= JOB_RUN
    assert run == bob_api.get(f"/api/purchases/{purchase.pk}").json()
    assert run["id"] == str(purchase.job_id)
    assert run["user_id"] == str(bob.pk)
    assert run["job_type"] == "payment_automation"
    assert (run["status"], run["current_phase"]) == ("processing", "payment_processing")
    assert (run["transaction_amount"], run["transaction_count"]) == (1500, 2)
    assert run["completed_transactions"] == 1
    assert run["message"] == "Waits for the code. 1 of 2 redeemed."
    steps = run["job_steps"]
    assert all(set(step) == JOB_STEP for step in steps)
    assert [
        (step["step_name"], step["step_type"], step["status"])
        for step in steps
        if step["transaction_index"] is None
    ] == [
        ("inventory_check", "validation", "completed"),
        ("gyftr_login", "validation", "completed"),
        ("amazon_login", "validation", "completed"),
        ("availability_check", "validation", "completed"),
        ("summary", "payment", "pending"),
    ]
    assert [
        (step["step_name"], step["step_type"], step["status"])
        for step in steps
        if step["transaction_index"] == 2
    ] == [
        ("generate_payment_link", "payment", "completed"),
        ("process_payment", "payment", "waiting_otp"),
        ("wait_for_vouchers", "payment", "pending"),
        ("redeem_amazon_vouchers", "redemption", "pending"),
    ]
    (code,) = run["otp_requests"]
    assert set(code) >= OTP_REQUEST
    assert "otp_value" not in code
    assert (code["otp_type"], code["status"]) == ("payment", "requested")
    assert code["phone_number"] == "•••• 3210"
    (waiting,) = (step for step in steps if step["status"] == "waiting_otp")
    assert waiting["timeout_at"] == code["timeout_at"]
    assert code["job_step_id"] == waiting["id"]


def test_no_secret_comes_out_of_a_purchase(card, bob_api, broker):
    purchase = make_purchase(card)
    issue(purchase, code="QRSTUVWX9Z9Z")
    cvv.keep(purchase.pk, "4711")

    said = bob_api.get(f"/api/purchases/{purchase.pk}").content.decode()

    assert "9Z9Z" in said
    for secret in ("QRSTUVWX", "4821", "374245455400126", "08/2031", "geheim"):
        assert secret not in said


def test_members_see_their_workspaces_purchases_and_nobody_elses(card, bob_api, charlie):
    colleague = client_with_key(User.objects.create_user("dora"))
    charlies = client_with_key(charlie)
    purchase = make_purchase(card)
    voucher = issue(purchase)
    calls = [
        ("get", f"/api/purchases/{purchase.pk}", None),
        ("get", f"/api/jobs/{purchase.job_id}/run", None),
        ("post", f"/api/vouchers/{voucher.pk}/reveal", {}),
        ("post", f"/api/vouchers/{voucher.pk}/redeemed", {}),
        ("post", f"/api/purchases/{purchase.pk}/cvv", {"cvv": "9876"}),
        (
            "post",
            f"/api/purchases/{purchase.pk}/otp",
            {"otpRequestId": str(uuid.uuid4()), "otpValue": "123456"},
        ),
        ("post", f"/api/vouchers/{voucher.pk}/redeem", {}),
    ]

    refused = [getattr(charlies, how)(path, body, format="json") for how, path, body in calls]

    assert [answer.status_code for answer in refused] == [404] * len(calls)
    assert charlies.get("/api/purchases").json() == {"purchases": [], "next": None}
    voucher.refresh_from_db()
    assert voucher.status == "issued"
    assert not LogEntry.objects.filter(object_pk=str(voucher.pk)).exists()
    assert colleague.get(f"/api/purchases/{purchase.pk}").status_code == 200
    assert len(colleague.get("/api/purchases").json()["purchases"]) == 1


def test_list_is_newest_first_by_pages_and_statuses(card, bob_api):
    made = [make_purchase(card, status=status) for status in ("failed", "completed", "failed")]

    first = bob_api.get("/api/purchases?limit=2").json()
    second = bob_api.get(f"/api/purchases?limit=2&after={first['next']}").json()
    failed = bob_api.get("/api/purchases?status=failed").json()["purchases"]

    ids = [each["purchase_id"] for each in first["purchases"] + second["purchases"]]
    assert ids == [str(each.pk) for each in reversed(made)]
    assert second["next"] is None
    assert [each["purchase_id"] for each in failed] == [str(made[2].pk), str(made[0].pk)]
    assert bob_api.get("/api/purchases?status=gone").status_code == 400


def test_list_costs_the_same_however_many_purchases_are_in_it(
    card, bob_api, django_assert_max_num_queries
):
    for _ in range(5):
        make_purchase(card, 3)

    with django_assert_max_num_queries(4):
        bob_api.get("/api/purchases")


def test_run_costs_the_same_however_many_transactions_it_has(
    card, bob_api, django_assert_max_num_queries
):
    purchase = make_purchase(card, 8)
    for index in range(1, 9):
        issue(purchase, index)

    with django_assert_max_num_queries(9):
        bob_api.get(f"/api/purchases/{purchase.pk}")


def test_archived_job_leaves_the_purchase_readable_by_its_id(card, bob_api):
    purchase = make_purchase(card, 2, status="completed", completed_transactions=2)
    Job.objects.filter(pk=purchase.job_id).delete()

    run = bob_api.get(f"/api/jobs/{purchase.job_id}/run").json()

    assert (run["status"], run["progress_percentage"]) == ("completed", 100)
    assert run["job_steps"] == []


# --- What a purchase asks for ----------------------------------------------------------------


def test_cvv_that_is_asked_for_is_kept(card, bob, bob_api, broker):
    purchase = start_purchase(bob, "MRCC", 1, 1500)

    answer = post(bob_api, f"/api/purchases/{purchase.pk}/cvv", {"cvv": "9876"})

    assert answer.json() == {"success": True}
    assert cvv.find(purchase.pk) == "9876"


def test_cvv_is_not_taken_while_it_could_not_be_kept(card, bob, bob_api, settings, nothing_happens):
    purchase = start_purchase(bob, "MRCC", 1, 1500)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    answer = post(bob_api, f"/api/purchases/{purchase.pk}/cvv", {"cvv": "9876"})

    assert (answer.status_code, answer.json()["code"]) == (503, "CVV_STORE_UNREACHABLE")


@pytest.mark.django_db(transaction=True)
def test_any_member_may_type_the_code_that_came_to_their_phone(card, bob, bob_api, broker):
    purchase = start_purchase(bob, "MRCC", 1, 1500)
    behave(purchase)
    paid = workflows.BEHAVIOURS["process_payment_1"]
    behave(purchase, process_payment_1=awaiting_code("payment", "payment", paid, service="amex"))
    runner.run_ready_steps(["steps"])
    (code,) = bob_api.get(f"/api/purchases/{purchase.pk}").json()["otp_requests"]
    dora = client_with_key(User.objects.create_user("dora"))
    path = f"/api/purchases/{purchase.pk}/otp"

    wrong = post(dora, path, {"otpRequestId": code["id"], "otpValue": "!"})
    typed = post(dora, path, {"otpRequestId": code["id"], "otpValue": "123456"})
    late = post(dora, path, {"otpRequestId": code["id"], "otpValue": "123456"})
    runner.run_ready_steps(["steps"])

    assert (wrong.status_code, wrong.json()["code"]) == (400, "INVALID_OTP")
    assert typed.json() == {"success": True}
    assert (late.status_code, late.json()["code"]) == (409, "WAIT_CLOSED")
    run = bob_api.get(f"/api/purchases/{purchase.pk}").json()
    assert (run["status"], run["message"]) == ("completed", "All vouchers redeemed successfully")
    assert run["otp_requests"][0]["status"] == "verified"


# --- Vouchers --------------------------------------------------------------------------------


def test_revealed_code_is_shown_once_it_is_noted_and_never_cached(card, bob, bob_api):
    voucher = issue(make_purchase(card))

    answer = post(bob_api, f"/api/vouchers/{voucher.pk}/reveal")

    assert answer.json() == {"code": "ABCDEFGH7Q2K", "pin": "4821"}
    assert answer.headers["Cache-Control"] == "no-store"
    entry = LogEntry.objects.get(object_pk=str(voucher.pk))
    assert (entry.additional_data["act"], entry.actor) == ("used", bob)
    assert entry.remote_addr == "127.0.0.1"
    assert bob_api.get(f"/api/vouchers/{voucher.pk}/reveal").status_code == 405


def test_left_voucher_is_redeemed_by_a_click_or_marked(card, bob_api):
    purchase = make_purchase(card, 2)
    first, second = issue(purchase, 1), issue(purchase, 2, code="ZZZZ2222")
    recording.record_refused(first.pk, "voucher_invalid", "Not now.")
    run = bob_api.get(f"/api/purchases/{purchase.pk}").json()
    assert [each["voucher"]["can_redeem"] for each in run["transactions"]] == [True, True]

    begun = post(bob_api, f"/api/vouchers/{first.pk}/redeem")
    marked = post(bob_api, f"/api/vouchers/{second.pk}/redeemed", {"reason": "in the app"})
    twice = post(bob_api, f"/api/vouchers/{second.pk}/redeemed")

    assert begun.json() == {"jobId": str(Job.objects.get(workflow="voucher_redeem").pk)}
    assert marked.json() == {"success": True}
    assert (twice.status_code, twice.json()["code"]) == (409, "NOT_POSSIBLE_NOW")
    run = bob_api.get(f"/api/purchases/{purchase.pk}").json()
    vouchers = [each["voucher"] for each in run["transactions"]]
    assert [each["can_redeem"] for each in vouchers] == [False, False]
    assert vouchers[0]["job_id"] == begun.json()["jobId"]
    assert vouchers[1]["redeemed_by"] == "bob"
    assert [step["step_name"] for step in run["job_steps"]] == ["redeem_voucher"]
    assert run["job_steps"][0]["transaction_index"] == 1

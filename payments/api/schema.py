"""The OpenAPI side of the views: summaries, refusals, and the documents' own examples."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema

from accounts.api.schema import UNAUTHENTICATED, refused, request, response
from jobs.api.waits_serializers import CodeSerializer
from payments.api.serializers import (
    CvvSerializer,
    DoneSerializer,
    JobStartedSerializer,
    PaymentStartedSerializer,
    PurchaseListSerializer,
    PurchaseQuerySerializer,
    RedeemedSerializer,
    RevealedSerializer,
    RunSerializer,
    StartJobSerializer,
    StartPaymentSerializer,
)

JOB = "0198c0de-7a11-7000-8000-00000000a0b0"
PURCHASE = "0198c0de-7a11-7000-8000-0000000b4cc5"
STEP = "0198c0de-7a11-7000-8000-000000057e90"
CODE = "0198c0de-7a11-7000-8000-00000000c0d3"
TRANSACTION = "0198c0de-7a11-7000-8000-000000074a45"
VOUCHER = "0198c0de-7a11-7000-8000-0000000f0c4e"

KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Of your own, such as a UUID, up to 255 characters: the same request with the same "
    "key is the same purchase, and the header `Idempotent-Replayed` says so.",
)
REFUSALS: dict[int, Any] = {
    400: refused(
        "Nothing was written.",
        (
            "UNKNOWN_CARD_TYPE",
            "There is no active card of type 'Platinum'; use Gold, MRCC.",
        ),
        ("QTY_OUT_OF_RANGE", "qty must be from 1 to 20; start several purchases."),
        (
            "AMOUNT_INVALID",
            "amount must be a whole number above 0: the rupees of one voucher.",
        ),
        (
            "AMOUNT_ABOVE_LIMIT",
            "amount must be at most 10000, the limit of one payment with Membership Rewards "
            "•••• 0126. Buy more vouchers of a smaller amount.",
        ),
        (
            "CARD_EXPIRED",
            "Membership Rewards •••• 0126: The card has expired (11/2026). Enter the new card's "
            "number and expiry.",
        ),
        (
            "CARD_NUMBER_INVALID",
            "Membership Rewards •••• 0127: This is no card's number: its last digit does not fit "
            "the others. Compare it with the card.",
        ),
        (
            "NO_ACTIVE_ACCOUNT",
            "Membership Rewards •••• 0126 has no active account at a voucher portal: an admin has "
            "to activate buyer@team.example or its site, Portal, or give the card another account.",
        ),
    ),
    409: refused(
        "The key was used for something else; nothing was written.",
        (
            "IDEMPOTENCY_KEY_REUSED",
            "This Idempotency-Key was sent before with another request, which is purchase "
            f"{PURCHASE}. Send that request again as it was, or send this one with a key of its "
            "own.",
        ),
    ),
    **UNAUTHENTICATED,
}
NOT_FOUND = {
    404: refused(
        "Your workspace has nothing of this id.",
        ("NOT_FOUND", f"There is nothing at /api/purchases/{PURCHASE}; check the id."),
    )
}

start_job = extend_schema(
    operation_id="start_purchase",
    summary="Buy vouchers with a card",
    description="Begins the purchase and answers at once. Follow it with `GET "
    "/api/jobs/{jobId}/run`, on its page, or over the websocket `/ws/jobs/{jobId}/`.",
    tags=["vouchers"],
    parameters=[KEY],
    request=StartJobSerializer,
    responses={200: JobStartedSerializer, **REFUSALS},
    examples=[
        request({"cardType": "MRCC", "qty": 4, "amount": 1500}),
        response({"jobId": JOB}),
    ],
)

start_payment = extend_schema(
    operation_id="start_payment",
    summary="Buy vouchers with a card, in the words of payment-automation-realtime",
    tags=["vouchers"],
    parameters=[KEY],
    request=StartPaymentSerializer,
    responses={
        200: PaymentStartedSerializer,
        **REFUSALS,
        400: refused(
            "Nothing was written. Beside what /api/start-job refuses:",
            (
                "UNKNOWN_USER",
                "userId must be your own, 7 or 'alice'; only an admin may name another member of "
                "the workspace.",
            ),
            ("CARD_TYPE_NEEDED", "Say which card to pay with: send cardType."),
        ),
    },
    examples=[
        request(
            {
                "userId": "7",
                "config": {"transactionAmount": 1500, "transactionCount": 4, "cardType": "MRCC"},
            }
        ),
        response({"jobId": JOB, "message": "Job started successfully"}),
    ],
)

ROW: dict[str, Any] = {
    "id": JOB,
    "purchase_id": PURCHASE,
    "user_id": "7",
    "job_type": "payment_automation",
    "status": "processing",
    "current_phase": "payment_processing",
    "progress_percentage": 40,
    "total_transactions": 4,
    "completed_transactions": 1,
    "transaction_amount": 1500,
    "transaction_count": 4,
    "created_at": "2025-12-02T10:25:00Z",
    "updated_at": "2025-12-02T10:29:10Z",
    "completed_at": None,
    "error_message": None,
    "metadata": {
        "cardType": "MRCC",
        "card": "Membership Rewards •••• 0126",
        "currency": "INR",
        "started_by": "alice",
        "error_code": "",
    },
}
RUN = {
    **ROW,
    "retry_count": 0,
    "progress": 40,
    "message": "Waiting for the bank's code. 1 of 4 redeemed.",
    "advice": "",
    "summary": {
        "total": {"count": 4, "amount": 6000},
        "paid": {"count": 1, "amount": 1500},
        "awaiting_voucher": {"count": 0, "amount": 0},
        "issued": {"count": 1, "amount": 1500},
        "redeemed": {"count": 1, "amount": 1500},
        "pending_redemption": {"count": 0, "amount": 0},
        "unknown": {"count": 0, "amount": 0},
        "not_paid": {"count": 3, "amount": 4500},
    },
    "waiting_for_cvv": False,
    "job_steps": [
        {
            "id": STEP,
            "job_run_id": JOB,
            "step_name": "process_payment",
            "step_type": "payment",
            "status": "waiting_otp",
            "transaction_index": 2,
            "started_at": "2025-12-02T10:29:00Z",
            "completed_at": None,
            "timeout_at": "2025-12-02T10:34:10Z",
            "step_data": {
                "title": "Pay transaction 2",
                "phase": "Waiting for the bank's code",
                "progress": 50,
                "attempt": 1,
                "max_attempts": 3,
                "due_at": "2025-12-02T10:34:10Z",
                "waits": [],
            },
            "error_message": None,
            "created_at": "2025-12-02T10:25:00Z",
        }
    ],
    "otp_requests": [
        {
            "id": CODE,
            "job_run_id": JOB,
            "job_step_id": STEP,
            "otp_type": "payment",
            "service": "amex",
            "phone_number": "•••• 4321",
            "requested_at": "2025-12-02T10:29:10Z",
            "received_at": None,
            "verified_at": None,
            "timeout_at": "2025-12-02T10:34:10Z",
            "attempts_count": 0,
            "max_attempts": 3,
            "status": "requested",
        }
    ],
    "transactions": [
        {
            "id": TRANSACTION,
            "index": 1,
            "status": "redeemed",
            "status_label": "Redeemed",
            "amount": 1500,
            "reference": "CW0B4CC50198C0-1",
            "order": "GY-1042",
            "link": "",
            "link_expires_at": "2025-12-02T10:56:00Z",
            "payment_reference": "AX77120",
            "paid_at": "2025-12-02T10:27:00Z",
            "issued_at": "2025-12-02T10:28:00Z",
            "redeemed_at": "2025-12-02T10:28:50Z",
            "error_code": "",
            "error_message": "",
            "voucher": {
                "id": VOUCHER,
                "tail": "7Q2K",
                "amount": 1500,
                "status": "redeemed",
                "expires_on": "2026-12-01",
                "issued_at": "2025-12-02T10:28:00Z",
                "redeemed_at": "2025-12-02T10:28:50Z",
                "redeemed_by": None,
                "error_message": "",
                "job_id": None,
                "can_redeem": False,
                "can_mark_redeemed": False,
            },
        }
    ],
}

list_purchases = extend_schema(
    operation_id="list_purchases",
    summary="The purchases of your workspace, newest first",
    tags=["vouchers"],
    parameters=[PurchaseQuerySerializer],
    responses={
        200: PurchaseListSerializer,
        400: refused(
            "A parameter is wrong.",
            ("INVALID_REQUEST", "limit: Ensure this value is greater than or equal to 1."),
        ),
        **UNAUTHENTICATED,
    },
    examples=[response({"purchases": [ROW], "next": None})],
)

get_purchase = extend_schema(
    operation_id="get_purchase",
    summary="A purchase with its steps, codes and transactions, and where its money is",
    description="The columns are those of `job_runs`, `job_steps` and `otp_requests`. `summary` "
    "counts with what went further: `total` is paid, not paid and payments that are unknown; "
    "`issued` is redeemed, pending redemption and redemptions that are unknown.",
    tags=["vouchers"],
    responses={200: RunSerializer, **UNAUTHENTICATED, **NOT_FOUND},
    examples=[response(RUN)],
)
get_run = extend_schema(
    operation_id="get_run",
    summary="The same, by the id that starting it answered",
    tags=["vouchers"],
    responses={200: RunSerializer, **UNAUTHENTICATED, **NOT_FOUND},
    examples=[response(RUN)],
)

give_cvv = extend_schema(
    operation_id="give_cvv",
    summary="Give the card's CVV to a purchase",
    description="It goes on if it waited for that. A later one is in place of an earlier one.",
    tags=["vouchers"],
    request=CvvSerializer,
    responses={
        200: DoneSerializer,
        400: refused(
            "Nothing was kept.",
            (
                "CVV_INVALID",
                "A CVV has 3 digits, or 4 on an American Express card; type only those.",
            ),
            ("PURCHASE_HAS_ENDED", "This purchase has ended; it needs no CVV."),
        ),
        503: refused(
            "Nothing was kept.",
            (
                "CVV_STORE_UNREACHABLE",
                "The store of CVVs does not answer; try again in a moment.",
            ),
        ),
        **UNAUTHENTICATED,
        **NOT_FOUND,
    },
    examples=[request({"cvv": "••••"}), response({"success": True})],
)

enter_code = extend_schema(
    operation_id="enter_code_of_purchase",
    summary="Type the code that came for a purchase",
    description="As `POST /api/jobs/otp-received`, for everybody of the workspace.",
    tags=["vouchers"],
    request=CodeSerializer,
    responses={
        200: DoneSerializer,
        400: refused(
            "This is no code.",
            (
                "INVALID_OTP",
                "A code has 3 to 12 digits or letters, and at least one digit. Type it as the "
                "message has it.",
            ),
        ),
        409: refused(
            "It came too late, or twice.",
            (
                "WAIT_CLOSED",
                "This code is not waited for any more. Look at the job again.",
            ),
        ),
        **UNAUTHENTICATED,
        **NOT_FOUND,
    },
    examples=[request({"otpRequestId": CODE, "otpValue": "123456"}), response({"success": True})],
)

reveal_voucher = extend_schema(
    operation_id="reveal_voucher",
    summary="Show a voucher's code",
    description="Who has seen it, when and from where, is in the audit trail.",
    tags=["vouchers"],
    request=None,
    responses={200: RevealedSerializer, **UNAUTHENTICATED, **NOT_FOUND},
    examples=[response({"code": "ABCD-EFGH-JKLM-7Q2K", "pin": "4821"})],
)

NOT_NOW = refused(
    "Not as it stands; nothing was changed.",
    ("NOT_POSSIBLE_NOW", "Voucher …7Q2K is redeemed already."),
    (
        "PURCHASE_AT_WORK",
        "4 × ₹1,500 on MRCC is at work and redeems Voucher …7Q2K itself; wait for its end, or "
        "cancel it.",
    ),
    (
        "OUTCOME_IS_UNKNOWN",
        "Nobody knows whether Voucher …7Q2K was redeemed. Look at the account's history and say so "
        "in the inbox, or mark it as redeemed.",
    ),
)

redeem_voucher = extend_schema(
    operation_id="redeem_voucher",
    summary="Redeem a voucher now",
    description="Begins a job of its own, or answers with the one that is at it already.",
    tags=["vouchers"],
    request=None,
    responses={200: JobStartedSerializer, 409: NOT_NOW, **UNAUTHENTICATED, **NOT_FOUND},
    examples=[response({"jobId": JOB})],
)

mark_redeemed = extend_schema(
    operation_id="mark_voucher_redeemed",
    summary="Say that a voucher was redeemed by hand",
    tags=["vouchers"],
    request=RedeemedSerializer,
    responses={
        200: DoneSerializer,
        400: refused(
            "Nothing was changed.",
            ("INVALID_REQUEST", "note is not known here; use reason."),
        ),
        409: NOT_NOW,
        **UNAUTHENTICATED,
        **NOT_FOUND,
    },
    examples=[
        request({"reason": "Redeemed on the phone, in the account's own app."}),
        response({"success": True}),
    ],
)

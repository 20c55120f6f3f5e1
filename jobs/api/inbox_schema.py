"""The OpenAPI side of `inbox.py`."""

from drf_spectacular.utils import extend_schema

from accounts.api.schema import ADMINS_ONLY, UNAUTHENTICATED, refused, request, response
from jobs.api.inbox_serializers import AssignSerializer, InboxSerializer, SettleSerializer
from jobs.api.waits_schema import CLOSED, NOT_FOUND, REQUEST
from jobs.api.waits_serializers import AcceptedSerializer

JOB = "0198c0de-7a11-7000-8000-00000000a0b0"
WAIT = "0198c0de-7a11-7000-8000-00000000a117"
EFFECT = "0198c0de-7a11-7000-8000-0000000effec"
MESSAGE = "0198c0de-7a11-7000-8000-000000003e55"
WEBHOOK = "0198c0de-7a11-7000-8000-000000003eb0"
OF_JOB = {"title": "Buy 2 × Gift voucher", "url": f"/jobs/{JOB}/"}
INBOX = {
    "waits": [
        {
            "id": WAIT,
            "name": "otp",
            "kind": "otp",
            "question": "The code of gyftr, sent to …3210",
            "choices": [],
            "deadline_at": "2025-12-02T10:30:00Z",
            "job": OF_JOB,
            "answer_url": f"/api/jobs/{JOB}/waits/{WAIT}",
        }
    ],
    "messages": [
        {
            "id": MESSAGE,
            "sender": "VM-GYFTR",
            "recipient": "9876543210",
            "reason": "2 requests may be meant (gyftr).",
            "at": "2025-12-02T10:25:12Z",
            "has_code": True,
            "requests": [{"id": REQUEST, "title": "Buy 2 × Gift voucher: gyftr, login"}],
            "answer_url": f"/api/otp/messages/{MESSAGE}/assign",
        }
    ],
    "effects": [
        {
            "id": EFFECT,
            "title": "Pay ₹6,000",
            "reason": "The order page does not open.",
            "intent": [{"label": "Order", "text": "5"}],
            "at": "2025-12-02T10:26:00Z",
            "job": OF_JOB,
            "answer_url": f"/api/effects/{EFFECT}/settle",
        }
    ],
    "webhooks": [
        {
            "id": WEBHOOK,
            "title": "ERPNext",
            "reason": "The receiver answered 410 Gone: it wants nothing more.",
            "at": "2025-12-02T10:25:31Z",
            "url": f"/admin/jobs/webhookendpoint/{WEBHOOK}/change/",
        }
    ],
}

get_inbox = extend_schema(
    operation_id="get_inbox",
    summary="What waits for a person",
    description="Open codes and approvals, messages that nobody could place, and acts of which "
    "nobody can tell whether they took effect. Each has the address that takes the answer.",
    tags=["inbox"],
    responses={200: InboxSerializer, **UNAUTHENTICATED},
    examples=[response(INBOX)],
)

settle_effect = extend_schema(
    operation_id="settle_effect",
    summary="Say whether an act took effect",
    description="Its job goes on from there: with the act done, or to be done again. With "
    "`cancel` it is cancelled instead.",
    tags=["inbox"],
    request=SettleSerializer,
    examples=[request({"happened": False, "cancel": False}), response({"success": True})],
    responses={
        200: AcceptedSerializer,
        400: refused("Nothing changed.", ("INVALID_REQUEST", "happened: Must be a valid boolean.")),
        409: refused(
            "It is settled, or being done.",
            (
                "EFFECT_IS_SETTLED",
                "“Pay ₹6,000” is settled already: it happened. Look at its job for how it went on.",
            ),
            (
                "EFFECT_IS_UNDER_WAY",
                "“Pay ₹6,000” is being done or looked at right now, by “Buy vouchers”. Wait for "
                "what comes of it.",
            ),
        ),
        **ADMINS_ONLY,
        **NOT_FOUND,
    },
)

assign_message = extend_schema(
    operation_id="assign_message",
    summary="Say which request a message is for",
    tags=["inbox"],
    request=AssignSerializer,
    examples=[request({"request": REQUEST, "code": None}), response({"success": True})],
    responses={
        200: AcceptedSerializer,
        400: refused(
            "Nothing changed.",
            ("INVALID_OTP", "Several numbers of the message may be the code: type the right one."),
        ),
        **ADMINS_ONLY,
        **NOT_FOUND,
        **CLOSED,
    },
)

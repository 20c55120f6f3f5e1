"""The OpenAPI side of `waits.py`."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema

from accounts.api.schema import UNAUTHENTICATED, refused, request, response
from jobs.api.waits_serializers import (
    AcceptedSerializer,
    AnswerSerializer,
    CodeSerializer,
    ReceivedSerializer,
    SentSerializer,
    SentSignalsSerializer,
    SignalSerializer,
    SignalsSerializer,
)

REQUEST = "0198c0de-7a11-7000-8000-0000000000a1"
CLOSED = {
    409: refused(
        "It waits no more.",
        ("WAIT_CLOSED", "This was answered already, or is not needed any more. Look again."),
    )
}
NOT_FOUND = {
    404: refused(
        "No such thing, or not one of yours.",
        ("NOT_FOUND", "There is nothing at /api/jobs/otp-received; check the id."),
    )
}

receive_message = extend_schema(
    operation_id="receive_message",
    summary="Hand over a message that may hold a one-time password",
    description="For SMS forwarders and mailboxes. JSON with `from` and `text` (and `to`, "
    "`sentStamp`, `id` where there are), the JSON of SMS Gateway for Android, Twilio's form, or "
    "the event `otp/received`. Who calls is known by an API key, or, with `?source=`, by the "
    "signature of a source that signs. Safe to repeat. The answer never shows a code.",
    tags=["waits"],
    parameters=[
        OpenApiParameter("source", OpenApiTypes.UUID, description="A source from the admin.")
    ],
    request={"application/json": OpenApiTypes.OBJECT},
    examples=[
        request({"from": "VM-GYFTR", "text": "Your OTP is 482913", "sentStamp": 1764671100000}),
        response({"success": True, "status": "given", "message_id": REQUEST}),
    ],
    responses={
        200: ReceivedSerializer,
        400: refused(
            "Nothing was kept.",
            ("INVALID_MESSAGE", 'There is no text in it: send {"from": ..., "text": ...}.'),
        ),
        401: refused(
            "Nobody known, or a wrong signature.",
            (
                "INVALID_SIGNATURE",
                "The signature is wrong: compare the signing key on the phone.",
            ),
        ),
        404: refused(
            "No such source.",
            (
                "UNKNOWN_SOURCE",
                "There is no such source of messages, or it is turned off: copy its address anew "
                "from the admin.",
            ),
        ),
    },
)

enter_code = extend_schema(
    operation_id="enter_code",
    summary="Give a code to the request that waits for it",
    tags=["waits"],
    request=CodeSerializer,
    examples=[
        request({"otpRequestId": REQUEST, "otpValue": "482913"}),
        response({"success": True}),
    ],
    responses={
        200: AcceptedSerializer,
        400: refused(
            "Nothing changed.",
            (
                "INVALID_OTP",
                "A code has 3 to 12 digits or letters, and at least one digit. Type it as the "
                "message has it.",
            ),
        ),
        **UNAUTHENTICATED,
        **NOT_FOUND,
        **CLOSED,
    },
)

answer_wait = extend_schema(
    operation_id="answer_wait",
    summary="Answer an approval, or give a code",
    tags=["waits"],
    request=AnswerSerializer,
    examples=[
        request({"choice": "approve"}, "An approval"),
        request({"code": "482913"}, "A code"),
        response({"success": True}),
    ],
    responses={
        200: AcceptedSerializer,
        400: refused(
            "Nothing changed.", ("INVALID_ANSWER", "'maybe' is none of: approve, reject.")
        ),
        **UNAUTHENTICATED,
        **NOT_FOUND,
        **CLOSED,
    },
)

send_signal = extend_schema(
    operation_id="send_signal",
    summary="Say that something has happened outside",
    description="The wait of your workspace that is oldest and whose fields are all in it takes "
    "the signal; without one it is kept for a day. With a `key` it is safe to repeat.",
    tags=["waits"],
    request=SignalSerializer,
    examples=[
        request({"topic": "voucher.issued", "fields": {"order": "5"}, "key": "voucher-77"}),
        response({"success": True, "signal_id": REQUEST, "job_id": None}),
    ],
    responses={
        200: SentSerializer,
        400: refused("Nothing changed.", ("INVALID_REQUEST", "topic: This field is required.")),
        **UNAUTHENTICATED,
    },
)

send_signals = extend_schema(
    operation_id="send_signals",
    summary="The same for up to 500 signals: all of them, or none",
    tags=["waits"],
    request=SignalsSerializer,
    examples=[
        request({"signals": [{"topic": "voucher.issued", "fields": {"order": "5"}}]}),
        response({"success": True, "signals": [{"signal_id": REQUEST, "job_id": None}]}),
    ],
    responses={
        200: SentSignalsSerializer,
        400: refused("Nothing changed.", ("INVALID_REQUEST", "signals: This field is required.")),
        **UNAUTHENTICATED,
    },
)

"""The OpenAPI side of `inbox.py`."""

from drf_spectacular.utils import extend_schema

from accounts.api.schema import ADMINS_ONLY, UNAUTHENTICATED, refused, request
from jobs.api.inbox_serializers import AssignSerializer, InboxSerializer, SettleSerializer
from jobs.api.waits_schema import CLOSED, NOT_FOUND, REQUEST
from jobs.api.waits_serializers import AcceptedSerializer

get_inbox = extend_schema(
    operation_id="get_inbox",
    summary="What waits for a person",
    description="Open codes and approvals, messages that nobody could place, and acts of which "
    "nobody can tell whether they took effect. Each has the address that takes the answer.",
    tags=["inbox"],
    responses={200: InboxSerializer, **UNAUTHENTICATED},
)

settle_effect = extend_schema(
    operation_id="settle_effect",
    summary="Say whether an act took effect",
    description="Its job goes on from there: with the act done, or to be done again.",
    tags=["inbox"],
    request=SettleSerializer,
    examples=[request({"happened": True})],
    responses={
        200: AcceptedSerializer,
        400: refused("Nothing changed."),
        409: refused(
            "It is settled.",
            ("EFFECT_IS_SETTLED", "“Pay ₹6,000” is settled already: it happened."),
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
    examples=[request({"request": REQUEST, "code": None})],
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

"""The OpenAPI side of the webhooks' views: summaries, refusals and examples."""

from typing import Any

from drf_spectacular.utils import OpenApiResponse, extend_schema

from accounts.api.schema import ADMINS_ONLY, refused, request, response
from jobs.api.webhook_serializers import (
    DeletedSerializer,
    DeliveryListSerializer,
    DeliveryQuerySerializer,
    DeliverySerializer,
    NewWebhookSerializer,
    RotatedSerializer,
    RotationSerializer,
    WebhookChangeSerializer,
    WebhookListSerializer,
    WebhookSerializer,
)

WEBHOOK = "0198c0de-7a11-7000-8000-000000003eb0"
JOB = "0198c0de-7a11-7000-8000-00000000a0b0"
MESSAGE = "msg_0198c0de7a1170008000000000003e55"

ASKED = {
    "url": "https://erp.example/hooks/cartwright",
    "description": "ERPNext",
    "events": ["job.completed", "job.failed", "job.manual"],
}
ROW = {
    "id": WEBHOOK,
    **ASKED,
    "enabled": True,
    "disabled_at": None,
    "disabled_reason": "",
    "failing_since": None,
    "old_secret_expires_at": None,
    "created_at": "2025-12-02T10:25:00Z",
}
DELIVERY = {
    "id": MESSAGE,
    "kind": "job.completed",
    "job": JOB,
    "event_number": 8,
    "status": "delivered",
    "attempt": 1,
    "due_at": "2025-12-02T10:25:30Z",
    "response_status": 204,
    "response_body": "",
    "error": "",
    "history": [
        {
            "attempt": 1,
            "at": "2025-12-02T10:25:30Z",
            "seconds": 0.184,
            "status": 204,
            "body": "",
            "error": "",
        }
    ],
    "created_at": "2025-12-02T10:25:30Z",
    "delivered_at": "2025-12-02T10:25:31Z",
}
NOT_FOUND = {
    404: refused(
        "No such webhook in your workspace.",
        ("NOT_FOUND", f"There is nothing at /api/webhooks/{WEBHOOK}; check the id."),
    )
}
INVALID = {
    400: refused(
        "It cannot be sent to, or no such events.",
        (
            "INVALID_URL",
            "Use https: the messages would pass readable through the internet. "
            "WEBHOOKS_ALLOW_PRIVATE=true allows http, for a receiver on your own network.",
        ),
        (
            "INVALID_EVENTS",
            "'job' is no kind of event. Write job.completed for one, job.* for all of jobs, * for "
            "everything.",
        ),
    )
}


BAD_ROTATION = {
    400: refused(
        "Nothing was changed.",
        (
            "INVALID_REQUEST",
            "keep_old_hours: Ensure this value is less than or equal to 168.",
        ),
    )
}
BAD_QUERY = {
    400: refused(
        "A parameter is wrong.",
        ("INVALID_REQUEST", "limit: Ensure this value is less than or equal to 100."),
    )
}


def answered(serializer: Any, example: Any) -> OpenApiResponse:
    return OpenApiResponse(serializer, "It is so.", examples=[response(example)])


list_webhooks = extend_schema(
    operation_id="list_webhooks",
    summary="The webhooks of your workspace",
    responses={200: answered(WebhookListSerializer, {"webhooks": [ROW]}), **ADMINS_ONLY},
)
create_webhook = extend_schema(
    operation_id="create_webhook",
    summary="Add a webhook",
    description="From now on every matching event of your workspace's jobs is posted to the URL, "
    "signed as Standard Webhooks has it. The answer is the only one with the secret.",
    request=WebhookSerializer,
    responses={
        201: answered(NewWebhookSerializer, {**ROW, "secret": "whsec_C2FVsBQIhrscChlQIMV+..."}),
        **INVALID,
        **ADMINS_ONLY,
    },
    examples=[request(ASKED)],
)
update_webhook = extend_schema(
    operation_id="update_webhook",
    summary="Change, disable or enable a webhook",
    description="What happens while it is disabled is not made up for; what was pending before is "
    "sent when it is enabled.",
    request=WebhookChangeSerializer,
    responses={
        200: answered(WebhookSerializer, ROW),
        **INVALID,
        **ADMINS_ONLY,
        **NOT_FOUND,
    },
    examples=[request({"events": ["job.*"], "enabled": True})],
)
delete_webhook = extend_schema(
    operation_id="delete_webhook",
    summary="Delete a webhook and its deliveries",
    responses={
        200: answered(DeletedSerializer, {"success": True}),
        **ADMINS_ONLY,
        **NOT_FOUND,
    },
)
rotate_secret = extend_schema(
    operation_id="rotate_webhook_secret",
    summary="Get a new secret",
    description="Messages are signed with the old one as well until `old_secret_expires_at`.",
    request=RotationSerializer,
    responses={
        200: answered(
            RotatedSerializer,
            {
                "secret": "whsec_C2FVsBQIhrscChlQIMV+...",
                "old_secret_expires_at": "2025-12-03T10:25:00Z",
            },
        ),
        **BAD_ROTATION,
        **ADMINS_ONLY,
        **NOT_FOUND,
    },
    examples=[request({"keep_old_hours": 24})],
)
list_deliveries = extend_schema(
    operation_id="list_webhook_deliveries",
    summary="What was sent to a webhook, or will be",
    parameters=[DeliveryQuerySerializer],
    responses={
        200: answered(DeliveryListSerializer, {"deliveries": [DELIVERY], "next": None}),
        **BAD_QUERY,
        **ADMINS_ONLY,
        **NOT_FOUND,
    },
)
redeliver = extend_schema(
    operation_id="redeliver_webhook",
    summary="Send a message again",
    description="At once, with the id it had, whatever came of it before. Its schedule of retries "
    "starts anew.",
    request=None,
    responses={
        200: answered(DeliverySerializer, {**DELIVERY, "status": "pending"}),
        409: refused(
            "Nothing is sent to it.",
            ("WEBHOOK_DISABLED", "The webhook is disabled. Enable it first."),
        ),
        **ADMINS_ONLY,
        **NOT_FOUND,
    },
)

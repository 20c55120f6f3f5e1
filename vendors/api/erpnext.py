"""Where a stock ERPNext webhook posts to. Who calls is said by Frappe's signature."""

from io import BytesIO
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.errors import Refusal
from accounts.api.parsers import JSONObjectParser
from accounts.api.schema import refused, request, response
from vendors.api.schema import INVALID_VENDOR, ITEM
from vendors.erpnext.receiving import Received, find_signer, receive
from vendors.errors import RequestRefused
from vendors.models import QueueItem

SIGNATURE_HEADER = "X-Frappe-Webhook-Signature"
NO_CONNECTION = (
    "INVALID_REQUEST",
    "Say which connection posts: copy the whole Request URL of the connection's page, with "
    "?connection= and its id.",
)
INVALID_SIGNATURE = (
    "INVALID_SIGNATURE",
    "No active connection has this id, or its secret did not sign this body. Tick Enable Security "
    "in the ERPNext webhook, and enter the same secret there and on the connection's page.",
)
CHANGED = (
    "This row was queued before, and asked for something else then; that stands. Amend the "
    "document or add a row to ask for more."
)


class ErpnextRowSerializer(serializers.Serializer[Any]):
    row = serializers.CharField(help_text="Its name at the site; empty for a whole document.")
    queue_id = serializers.UUIDField(allow_null=True, help_text="Null once it is archived.")
    status = serializers.ChoiceField(choices=QueueItem.Status.choices, allow_null=True)
    is_new = serializers.BooleanField(help_text="False for a row that was queued before.")
    message = serializers.CharField()


class ErpnextReceivedSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    items = ErpnextRowSerializer(many=True)


class ErpnextBodySerializer(serializers.Serializer[Any]):
    """Under the keys that the connection names; these are the default ones."""

    name = serializers.CharField(help_text="The document's.")
    items = serializers.ListField(
        child=serializers.DictField(), help_text="Its rows; without it the body is the one row."
    )


class ErpnextWebhookView(APIView):
    authentication_classes = []
    permission_classes = []

    @extend_schema(
        operation_id="receive_erpnext_webhook",
        summary="Take a document of ERPNext, as its webhook sends it",
        description="Every row is queued as with `/api/cart/add`: all of them, or none. A row that "
        "was queued before is answered with its queue item; nothing is queued twice. "
        "docs/erpnext.md shows the webhook's settings.",
        tags=["erpnext"],
        auth=[],
        parameters=[
            OpenApiParameter("connection", str, required=True, description="The connection's id."),
            OpenApiParameter(
                SIGNATURE_HEADER,
                str,
                OpenApiParameter.HEADER,
                required=True,
                description="Base64 of the HMAC-SHA256 of the body, with the webhook's secret.",
            ),
        ],
        request=ErpnextBodySerializer,
        responses={
            200: ErpnextReceivedSerializer,
            400: refused(
                "Nothing was queued. The path says which row.", NO_CONNECTION, INVALID_VENDOR
            ),
            401: refused("Nobody known has signed this body.", INVALID_SIGNATURE),
        },
        examples=[
            request(
                {
                    "name": "MAT-REQ-2025-00001",
                    "items": [
                        {
                            "name": "8f1c2d3e4a",
                            "item_code": "ITEM-12345",
                            "item_name": "Product Name",
                            "qty": 2.0,
                            "product_url": "https://vendor.com/product/123",
                        }
                    ],
                }
            ),
            response(
                {
                    "success": True,
                    "items": [
                        {
                            "row": "8f1c2d3e4a",
                            "queue_id": ITEM,
                            "status": "pending",
                            "is_new": True,
                            "message": "Item queued for processing",
                        }
                    ],
                }
            ),
        ],
    )
    def post(self, request: Request) -> Response:
        # Before anything parses it: the signature is of these bytes. Their type is not looked at,
        # for Frappe calls its JSON what the webhook's form says, or nothing at all.
        raw: bytes = request.body
        pk = request.query_params.get("connection", "")
        if not pk:
            raise Refusal(*NO_CONNECTION)
        connection = find_signer(pk, raw, request.headers.get(SIGNATURE_HEADER, ""))
        if connection is None:
            raise Refusal(*INVALID_SIGNATURE, status.HTTP_401_UNAUTHORIZED)
        body = JSONObjectParser().parse(BytesIO(raw))
        try:
            received = receive(connection, body)
        except RequestRefused as error:
            raise Refusal(error.code, str(error)) from error
        return Response({"success": True, "items": [_describe(each) for each in received]})


def _describe(received: Received) -> dict[str, Any]:
    item = received.line.queue_item
    return {
        "row": received.line.row,
        "queue_id": item.pk if item else None,
        "status": item.status if item else None,
        "is_new": received.is_new,
        "message": _message(received, item),
    }


def _message(received: Received, item: QueueItem | None) -> str:
    if received.has_changed:
        return CHANGED
    if item is None:
        return "This row was queued before and is in the archive."
    if item.status == QueueItem.Status.MANUAL_REQUIRED:
        return item.error_message or "A person adds this item."
    return "Item queued for processing" if received.is_new else "This row was queued before."

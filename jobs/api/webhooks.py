"""Webhooks over REST, for the admins of a workspace. Those of other workspaces are not there."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import transaction
from django.db.models import QuerySet
from rest_framework import status
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.errors import Refusal
from accounts.api.permissions import IsAdmin
from jobs.api import webhook_schema as schema
from jobs.api.webhook_serializers import (
    DeliveryQuerySerializer,
    DeliverySerializer,
    NewWebhookSerializer,
    RotatedSerializer,
    RotationSerializer,
    WebhookChangeSerializer,
    WebhookSerializer,
)
from jobs.models import WebhookDelivery, WebhookEndpoint
from jobs.webhooks import deliveries, endpoints
from jobs.webhooks.errors import EndpointDisabled, WebhookRefused

DISABLED_BY_PERSON = "Disabled by {}."


class WebhooksView(APIView):
    permission_classes = [IsAdmin]

    @schema.list_webhooks
    def get(self, request: Request) -> Response:
        return Response({"webhooks": WebhookSerializer(endpoints_of(request), many=True).data})

    @schema.create_webhook
    def post(self, request: Request) -> Response:
        serializer = WebhookSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        assert request.user.is_authenticated  # by the permission
        with refusing():
            endpoint = endpoints.add_endpoint(
                request.user.workspace, created_by=request.user, **serializer.validated_data
            )
        endpoint.refresh_from_db(fields=["created_at"])
        return Response(NewWebhookSerializer(endpoint).data, status.HTTP_201_CREATED)


class WebhookView(APIView):
    permission_classes = [IsAdmin]

    @schema.update_webhook
    def patch(self, request: Request, pk: str) -> Response:
        endpoint = get_object_or_404(endpoints_of(request), pk=pk)
        serializer = WebhookChangeSerializer(data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        changes = serializer.validated_data
        enabled = changes.pop("enabled", None)
        with refusing(), transaction.atomic():
            endpoints.change_endpoint(endpoint, **changes)
            if enabled:
                endpoints.enable(endpoint.pk)
            elif enabled is False:
                endpoints.disable(endpoint.pk, DISABLED_BY_PERSON.format(request.user))
        return Response(WebhookSerializer(endpoints_of(request).get(pk=endpoint.pk)).data)

    @schema.delete_webhook
    def delete(self, request: Request, pk: str) -> Response:
        endpoints.delete_endpoint(get_object_or_404(endpoints_of(request), pk=pk).pk)
        return Response({"success": True})


class RotateView(APIView):
    permission_classes = [IsAdmin]

    @schema.rotate_secret
    def post(self, request: Request, pk: str) -> Response:
        endpoint = get_object_or_404(endpoints_of(request), pk=pk)
        serializer = RotationSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        keep_old = timedelta(hours=serializer.validated_data["keep_old_hours"])
        rotated = endpoints.rotate_secret(endpoint.pk, keep_old=keep_old)
        return Response(RotatedSerializer(rotated).data)


class DeliveriesView(APIView):
    permission_classes = [IsAdmin]

    @schema.list_deliveries
    def get(self, request: Request, pk: str) -> Response:
        endpoint = get_object_or_404(endpoints_of(request), pk=pk)
        query = DeliveryQuerySerializer(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        asked = query.validated_data
        rows = deliveries.deliveries_of(endpoint)
        if "status" in asked:
            rows = rows.filter(status=asked["status"])
        if "before" in asked:
            rows = rows.filter(pk__lt=asked["before"])
        found = list(rows[: asked["limit"] + 1])
        page = found[: asked["limit"]]
        return Response(
            {
                "deliveries": DeliverySerializer(page, many=True).data,
                "next": page[-1].pk if len(found) > len(page) else None,
            }
        )


class RedeliverView(APIView):
    permission_classes = [IsAdmin]

    @schema.redeliver
    def post(self, request: Request, pk: str, delivery: str) -> Response:
        endpoint = get_object_or_404(endpoints_of(request), pk=pk)
        rows = WebhookDelivery.objects.filter(endpoint=endpoint)
        row = get_object_or_404(rows, pk=delivery.replace("\0", ""))  # which no text column takes
        with refusing():
            deliveries.redeliver(row)
        row.refresh_from_db()
        return Response(DeliverySerializer(row).data)


def endpoints_of(request: Request) -> QuerySet[WebhookEndpoint]:
    assert request.user.is_authenticated  # by the permission
    rows = WebhookEndpoint.objects.filter(workspace=request.user.workspace_id)
    return rows.defer("secret", "old_secret")


@contextmanager
def refusing() -> Iterator[None]:
    try:
        yield
    except EndpointDisabled as error:
        raise Refusal(error.code, str(error), status.HTTP_409_CONFLICT) from error
    except WebhookRefused as error:
        raise Refusal(error.code, str(error)) from error

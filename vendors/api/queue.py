"""The queue over REST: reading it, and what people do to its items, one or many."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.http import Http404
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.errors import Refusal
from accounts.api.permissions import IsAdmin
from jobs.bulk import Applied
from jobs.errors import InvalidFilter, NotPossible
from vendors import queue_bulk, queue_control, queue_reading
from vendors.api import queue_schema as schema
from vendors.api.queue_serializers import (
    CartItemSerializer,
    ItemReasonSerializer,
    PageQuerySerializer,
    QueueBulkSerializer,
    QueueQuerySerializer,
    QueueRowSerializer,
    RouteSerializer,
)
from vendors.api.throttle import CartThrottle
from vendors.models import CartItem, QueueItem
from vendors.queue_bulk import Action, ItemFilter

MOST = 1000  # items in one call: some seconds of work
SHOWN = 10  # of what a dry run means


class QueueView(APIView):
    permission_classes = [IsAdmin]

    @schema.list_queue
    def get(self, request: Request) -> Response:
        asked = dict(read(QueueQuerySerializer, request.query_params.dict()))
        limit, offset, after = (asked.pop(name) for name in ("limit", "offset", "after"))
        query = queue_reading.Query(**asked)
        try:
            page = queue_reading.read_page(query, limit=limit, offset=offset, after=after)
        except QueueItem.DoesNotExist as error:
            raise no_such_page() from error
        return Response(
            {
                "items": QueueRowSerializer(page.items, many=True).data,
                "total": page.total,
                "total_is_exact": page.is_exact,
                "limit": limit,
                "offset": offset,
                "next": page.next,
            }
        )


class StatisticsView(APIView):
    permission_classes = [IsAdmin]

    @schema.queue_statistics
    def get(self, request: Request) -> Response:
        return Response(queue_reading.read_statistics())


class CartUserView(APIView):
    """For staff all that was added for the user; for others, what they asked for themselves."""

    throttle_classes = [CartThrottle]

    @schema.list_cart_items
    def get(self, request: Request, user_id: str) -> Response:
        asked = read(PageQuerySerializer, request.query_params.dict())
        limit, offset, after = asked["limit"], asked["offset"], asked["after"]
        items = CartItem.objects.active().filter(user_id=user_id)
        assert request.user.is_authenticated  # by the default permission
        if not request.user.is_staff:
            items = items.filter(queue_item__created_by=request.user)
        rows = items.filter(pk__lt=after) if after else items
        rows = rows.order_by("-pk").select_related("vendor_account__vendor")
        rows = rows.defer(*(f"vendor_account__{secret}" for secret in ("password", "session_data")))
        found = list(rows[offset : offset + limit + 1])
        return Response(
            {
                "items": CartItemSerializer(found[:limit], many=True).data,
                "total": items.count(),
                "limit": limit,
                "offset": offset,
                "next": found[limit - 1].pk if len(found) > limit else None,
            }
        )


class ItemVerbView(APIView):
    """Something that a person has done to an item; what is not possible is a conflict."""

    permission_classes: Sequence[Any] = [IsAdmin]
    body: ClassVar[type[serializers.Serializer[Any]] | None] = ItemReasonSerializer
    message: ClassVar[str]

    def act(self, item: QueueItem, by: str, **asked: Any) -> QueueItem:
        """Raises NotPossible."""
        raise NotImplementedError

    def do(self, request: Request, pk: str) -> Response:
        asked = read(self.body, request.data) if self.body else {}
        item = find_item(request, pk)
        try:
            item = self.act(item, name_of(request), **asked)
        except NotPossible as error:
            raise refusal(error) from error
        return Response(
            {"success": True, "queue_id": item.pk, "status": item.status, "message": self.message}
        )


class RetryView(ItemVerbView):
    """For staff, and for those who asked for the item."""

    permission_classes = APIView.permission_classes
    throttle_classes = [CartThrottle]
    body = None
    message = "Item re-queued for processing"

    def act(self, item: QueueItem, by: str, **asked: Any) -> QueueItem:
        return queue_control.retry_item(item.pk, by=by)

    @schema.retry_item
    def post(self, request: Request, pk: str) -> Response:
        return self.do(request, pk)


class CancelItemView(ItemVerbView):
    message = "Item cancelled"

    def act(self, item: QueueItem, by: str, **asked: Any) -> QueueItem:
        return queue_control.cancel_item(item.pk, by=by, **asked)

    @schema.cancel_item
    def post(self, request: Request, pk: str) -> Response:
        return self.do(request, pk)


class RouteView(ItemVerbView):
    body = RouteSerializer
    message = "Item routed to manual processing"

    def act(self, item: QueueItem, by: str, **asked: Any) -> QueueItem:
        return queue_control.route_to_manual(item.pk, by=by, **asked)

    @schema.route_item
    def post(self, request: Request, pk: str) -> Response:
        return self.do(request, pk)


class CompleteView(ItemVerbView):
    message = "Item marked as complete"

    def act(self, item: QueueItem, by: str, **asked: Any) -> QueueItem:
        return queue_control.complete_by_hand(item.pk, by=by, **asked)

    @schema.complete_item
    def post(self, request: Request, pk: str) -> Response:
        return self.do(request, pk)


class FailView(ItemVerbView):
    message = "Item marked as failed"

    def act(self, item: QueueItem, by: str, **asked: Any) -> QueueItem:
        return queue_control.fail_by_hand(item.pk, by=by, **asked)

    @schema.fail_item
    def post(self, request: Request, pk: str) -> Response:
        return self.do(request, pk)


class QueueBulkView(APIView):
    permission_classes = [IsAdmin]

    @schema.control_items
    def post(self, request: Request) -> Response:
        asked = read(QueueBulkSerializer, request.data)
        action = Action(asked["action"])
        try:
            items = ItemFilter(**asked["filter"]).items(action)
        except InvalidFilter as error:
            raise Refusal("INVALID_FILTER", str(error)) from error
        answer = {"success": True, "action": action, "count": items.count()}
        if asked["dry_run"]:
            rows = items.select_related("vendor", "assigned_account").defer(*queue_reading.DEFERRED)
            first = QueueRowSerializer(rows.order_by("pk")[:SHOWN], many=True).data
            return Response({**answer, "dry_run": True, "first": first})
        applied = queue_bulk.apply(
            action,
            items,
            by=name_of(request),
            reason=asked["reason"],
            after=asked["after"],
            most=MOST,
        )
        return Response({**answer, "dry_run": False, **describe(applied)})


def describe(applied: Applied) -> dict[str, Any]:
    return {
        "done": applied.done,
        "skipped": applied.skipped,
        "skipped_first": [
            {"id": skipped.id, "reason": skipped.sentence} for skipped in applied.examples
        ],
        "next": applied.last,
    }


def read(kind: type[serializers.Serializer[Any]], data: Any) -> Mapping[str, Any]:
    serializer = kind(data=data)
    serializer.is_valid(raise_exception=True)
    asked: Mapping[str, Any] = serializer.validated_data
    return asked


def find_item(request: Request, pk: str) -> QueueItem:
    """An item that the caller may see."""
    try:
        found = QueueItem.objects.visible_to(request.user).filter(pk=uuid.UUID(pk)).first()
    except (ValueError, ValidationError):
        found = None
    if found is None:
        raise Http404
    return found


def name_of(request: Request) -> str:
    assert request.user.is_authenticated  # by the default permission
    return request.user.get_username()


def refusal(error: NotPossible) -> Refusal:
    return Refusal(error.code, str(error), status.HTTP_409_CONFLICT)


def no_such_page() -> Refusal:
    return Refusal(
        "NO_SUCH_ITEM",
        "after: no item of the queue has this id any more. Start again without after.",
    )

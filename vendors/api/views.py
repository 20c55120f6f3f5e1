"""Thin views: they read the request, call a verb and write the documents' JSON."""

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, QuerySet, RestrictedError
from django.http import Http404
from drf_spectacular.utils import extend_schema_view
from rest_framework import status
from rest_framework.generics import (
    CreateAPIView,
    DestroyAPIView,
    RetrieveAPIView,
    UpdateAPIView,
    get_object_or_404,
)
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from accounts.api.errors import Refusal
from accounts.api.permissions import IsAdmin
from vendors import cart_queue, pool
from vendors.api import schema
from vendors.api.serializers import (
    AccountQuerySerializer,
    AccountSerializer,
    ArchivedStatusSerializer,
    CartStatusSerializer,
    ChangedAccountSerializer,
    NewAccountSerializer,
    VendorRowSerializer,
    VendorSerializer,
    check_cart_add,
)
from vendors.api.throttle import CartThrottle
from vendors.errors import KeyReused, RequestRefused
from vendors.models import ArchivedQueueItem, QueueItem, Vendor, VendorAccount

DOMAIN_TAKEN = "A vendor with this domain exists already."


class CartAddView(APIView):
    throttle_classes = [CartThrottle]

    @schema.cart_add
    def post(self, request: Request) -> Response:
        data = check_cart_add(request.data)
        assert request.user.is_authenticated  # by the default permission
        try:
            item = cart_queue.enqueue(
                cart_queue.CartRequest(
                    vendor=data["vendor"],
                    product_url=data["product_url"],
                    product_name=data.get("product_name"),
                    product_data=data.get("product_data") or {},
                    user_id=data["user_id"],
                    requested_by=request.user,
                    priority=data["priority"],
                    idempotency_key=find_idempotency_key(request, data),
                )
            )
        except RequestRefused as error:
            raise Refusal(error.code, str(error)) from error
        except KeyReused as error:
            raise Refusal(error.code, str(error), status.HTTP_409_CONFLICT) from error
        if item.is_replay:
            return Response(
                {
                    "success": True,
                    "queue_id": item.pk,
                    "status": item.status,
                    "message": "Item queued already by the same request; it was not queued again",
                    "estimated_completion": (
                        cart_queue.estimate_completion(item)
                        if item.status in (QueueItem.Status.PENDING, QueueItem.Status.PROCESSING)
                        else item.completed_at
                    ),
                },
                headers={"Idempotent-Replayed": "true"},
            )
        with_person = item.status == QueueItem.Status.MANUAL_REQUIRED
        return Response(
            {
                "success": True,
                "queue_id": item.pk,
                "status": item.status,
                "message": item.error_message if with_person else "Item queued for processing",
                "estimated_completion": (
                    None if with_person else cart_queue.estimate_completion(item)
                ),
            }
        )


@extend_schema_view(get=schema.cart_status)
class CartStatusView(RetrieveAPIView[QueueItem]):
    throttle_classes = [CartThrottle]
    serializer_class = CartStatusSerializer

    def get_queryset(self) -> QuerySet[QueueItem]:
        return QueueItem.objects.visible_to(self.request.user).select_related("vendor")

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """After its time, an item's status is read from the archive."""
        try:
            return super().retrieve(request, *args, **kwargs)
        except Http404:
            archived = ArchivedQueueItem.objects.visible_to(request.user)
            found = get_object_or_404(archived, pk=kwargs["pk"])
            return Response(ArchivedStatusSerializer(found).data)


MOST_KEY_CHARACTERS = 255


def find_idempotency_key(request: Request, data: Mapping[str, Any]) -> str | None:
    """The header's, as text or in the quotes of the IETF's draft, else the ERPNext item's."""
    sent = request.headers.get("Idempotency-Key")
    if sent is not None:
        key = sent.strip().strip('"')
        if not 0 < len(key) <= MOST_KEY_CHARACTERS:
            raise Refusal(
                "INVALID_IDEMPOTENCY_KEY",
                f"Idempotency-Key must have 1 to {MOST_KEY_CHARACTERS} characters, such as a UUID.",
            )
        return f"key:{key}"
    item = (data.get("product_data") or {}).get("erpnext_item_id")
    return f"{cart_queue.ERPNEXT_KEY}{item}" if item else None


class VendorsView(CreateAPIView[Vendor]):
    permission_classes = [IsAdmin]
    serializer_class = VendorSerializer

    @schema.list_vendors
    def get(self, request: Request) -> Response:
        # Named here: grouping by vendor drops the model's own order.
        vendors = Vendor.objects.with_account_counts().order_by("name", "pk")
        return Response({"vendors": VendorRowSerializer(vendors, many=True).data})

    @schema.create_vendor
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().post(request, *args, **kwargs)

    def perform_create(self, serializer: BaseSerializer[Vendor]) -> None:
        save_unique(serializer, "VENDOR_EXISTS", DOMAIN_TAKEN)


class VendorView(UpdateAPIView[Vendor], DestroyAPIView[Vendor]):
    permission_classes = [IsAdmin]
    serializer_class = VendorSerializer
    queryset = Vendor.objects.all()
    http_method_names = ["put", "delete", "options"]

    @schema.update_vendor
    def put(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().put(request, *args, **kwargs)

    def perform_update(self, serializer: BaseSerializer[Vendor]) -> None:
        save_unique(serializer, "VENDOR_EXISTS", DOMAIN_TAKEN)
        assert serializer.instance is not None
        pool.wake_waiting_on_commit(serializer.instance.pk)  # it may allow more items a day now

    @schema.delete_vendor
    def delete(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().delete(request, *args, **kwargs)

    def perform_destroy(self, instance: Vendor) -> None:
        delete_unused(
            instance,
            "VENDOR_IN_USE",
            f"Items of {instance} are in the queue or in its accounts' carts. Set can_automate to "
            "false to have nothing more added there.",
        )


class AccountsView(CreateAPIView[VendorAccount]):
    permission_classes = [IsAdmin]
    serializer_class = NewAccountSerializer

    @schema.list_accounts
    def get(self, request: Request) -> Response:
        query = AccountQuerySerializer(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        page, limit = query.validated_data.pop("page"), query.validated_data.pop("limit")
        accounts = described_accounts().filter(**query.validated_data)
        rows = accounts[(page - 1) * limit : page * limit]
        return Response(
            {
                "accounts": AccountSerializer(rows, many=True).data,
                "total": accounts.count(),
                "page": page,
                "limit": limit,
            }
        )

    @schema.create_account
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().post(request, *args, **kwargs)

    def perform_create(self, serializer: BaseSerializer[VendorAccount]) -> None:
        save_unique(serializer, "ACCOUNT_EXISTS", "This vendor has an account of this email.")
        assert serializer.instance is not None
        pool.wake_waiting_on_commit(serializer.instance.vendor_id)


@extend_schema_view(get=schema.get_account)
class AccountView(RetrieveAPIView[VendorAccount], DestroyAPIView[VendorAccount]):
    permission_classes = [IsAdmin]
    serializer_class = AccountSerializer
    http_method_names = ["get", "put", "delete", "head", "options"]

    def get_queryset(self) -> QuerySet[VendorAccount]:
        return described_accounts()

    @schema.update_account
    def put(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        account = self.get_object()
        serializer = ChangedAccountSerializer(account, data=request.data)
        serializer.is_valid(raise_exception=True)
        block = serializer.validated_data.pop("is_blocked", account.is_blocked)
        with transaction.atomic():
            save_unique(serializer, "ACCOUNT_EXISTS", "This vendor has an account of this email.")
            if block and not account.is_blocked:
                pool.set_aside(account, f"Set aside by {request.user}.")
            elif account.is_blocked and not block:
                pool.unblock(VendorAccount.objects.filter(pk=account.pk))
            pool.wake_waiting_on_commit(account.vendor_id)  # it may add more items a day now
        return Response(AccountSerializer(self.get_object()).data)

    @schema.delete_account
    def delete(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().delete(request, *args, **kwargs)

    def perform_destroy(self, instance: VendorAccount) -> None:
        free = VendorAccount.objects.filter(pk=instance.pk).free()
        delete_unused(
            instance,
            "ACCOUNT_IN_USE",
            f"{instance} is at work, or its cart holds what was added. Set is_blocked to true to "
            "have nothing more added by it.",
            possible=free.exists(),
        )


def described_accounts() -> QuerySet[VendorAccount]:
    accounts = VendorAccount.objects.with_daily_items().select_related("vendor")
    return accounts.defer("password", "session_data")


def save_unique(serializer: BaseSerializer[Any], code: str, sentence: str) -> None:
    """The database's constraint decides whether it is unique: it sees two requests at once too."""
    try:
        with transaction.atomic():
            serializer.save()
    except IntegrityError as error:
        raise Refusal(code, sentence, status.HTTP_409_CONFLICT) from error


def delete_unused(
    row: Vendor | VendorAccount, code: str, sentence: str, *, possible: bool = True
) -> None:
    """What still refers to it decides, and the database knows."""
    refused = Refusal(code, sentence, status.HTTP_409_CONFLICT)
    if not possible:
        raise refused
    try:
        with transaction.atomic():
            row.delete()
    except (ProtectedError, RestrictedError) as error:
        raise refused from error

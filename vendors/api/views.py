"""Thin views: they read the request, call a verb and write the documents' JSON."""

from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_view
from rest_framework import status
from rest_framework.generics import CreateAPIView, RetrieveAPIView, UpdateAPIView
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
    CartAddSerializer,
    CartStatusSerializer,
    NewAccountSerializer,
    VendorRowSerializer,
    VendorSerializer,
)
from vendors.errors import RequestRefused
from vendors.models import QueueItem, Vendor, VendorAccount

DOMAIN_TAKEN = "A vendor with this domain exists already."


class CartAddView(APIView):
    @schema.cart_add
    def post(self, request: Request) -> Response:
        serializer = CartAddSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        data = serializer.validated_data
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
                )
            )
        except RequestRefused as error:
            raise Refusal(error.code, str(error)) from error
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
    serializer_class = CartStatusSerializer

    def get_queryset(self) -> QuerySet[QueueItem]:
        return QueueItem.objects.visible_to(self.request.user).select_related("vendor")


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


class VendorView(UpdateAPIView[Vendor]):
    permission_classes = [IsAdmin]
    serializer_class = VendorSerializer
    queryset = Vendor.objects.all()
    http_method_names = ["put", "options"]

    @schema.update_vendor
    def put(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().put(request, *args, **kwargs)

    def perform_update(self, serializer: BaseSerializer[Vendor]) -> None:
        save_unique(serializer, "VENDOR_EXISTS", DOMAIN_TAKEN)
        assert serializer.instance is not None
        pool.wake_waiting_on_commit(serializer.instance.pk)  # it may allow more items a day now


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
class AccountView(RetrieveAPIView[VendorAccount]):
    permission_classes = [IsAdmin]
    serializer_class = AccountSerializer

    def get_queryset(self) -> QuerySet[VendorAccount]:
        return described_accounts()


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

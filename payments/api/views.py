"""Thin views: they read the request, call a verb and write the documents' JSON."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.http import Http404
from django.shortcuts import get_object_or_404
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.errors import Refusal
from accounts.models import User
from jobs.api.waits_serializers import CodeSerializer
from jobs.errors import InvalidAnswer, NotPossible, WaitClosed
from jobs.models import OtpRequest
from jobs.otp import requests as otp
from payments import redemption, runs
from payments.api import schema
from payments.api.serializers import (
    CvvSerializer,
    PurchaseQuerySerializer,
    RedeemedSerializer,
    StartJobSerializer,
    StartPaymentSerializer,
)
from payments.errors import CvvUnreachable, KeyReused, PurchaseRefused
from payments.models import VoucherCode, VoucherPurchase
from payments.purchases import choose_only_type, give_cvv, start_purchase
from vendors.api.views import find_idempotency_key


class StartJobView(APIView):
    """voucher-bulk-purchase's `POST /api/start-job`."""

    @schema.start_job
    def post(self, request: Request) -> Response:
        asked = read(StartJobSerializer, request.data)
        purchase, headers = start(
            request,
            user_of(request),
            asked["cardType"],
            asked["qty"],
            asked["amount"],
            asked.get("cvv"),
        )
        return Response({"jobId": purchase.job_id}, headers=headers)


class StartPaymentView(APIView):
    """payment-automation-realtime's `POST /api/jobs/start-payment`."""

    @schema.start_payment
    def post(self, request: Request) -> Response:
        asked = read(StartPaymentSerializer, request.data)
        config = asked["config"]
        user = find_user(request, asked["userId"])
        with refusing():
            card_type = config.get("cardType") or choose_only_type(user)
        purchase, headers = start(
            request,
            user,
            card_type,
            config["transactionCount"],
            config["transactionAmount"],
            config.get("cvv"),
        )
        message = "Job started successfully"
        if purchase.is_replay:
            message = "Job started already by the same request; it was not started again"
        return Response({"jobId": purchase.job_id, "message": message}, headers=headers)


class PurchasesView(APIView):
    @schema.list_purchases
    def get(self, request: Request) -> Response:
        asked = read(PurchaseQuerySerializer, request.query_params.dict())
        purchases = VoucherPurchase.objects.visible_to(request.user)
        if "status" in asked:
            purchases = purchases.filter(status=asked["status"])
        if "after" in asked:
            purchases = purchases.filter(pk__lt=asked["after"])
        shown = runs.purchases_to_show(purchases).order_by("-pk")
        found = list(shown[: asked["limit"] + 1])
        page = found[: asked["limit"]]
        return Response(
            {
                "purchases": [runs.run_row(purchase) for purchase in page],
                "next": page[-1].pk if len(found) > len(page) else None,
            }
        )


class PurchaseView(APIView):
    @schema.get_purchase
    def get(self, request: Request, pk: str) -> Response:
        return Response(runs.read_run(find_purchase(request, pk=id_of(pk))))


class RunView(APIView):
    """The same, by the id of its job: all that a client of the documents knows."""

    @schema.get_run
    def get(self, request: Request, pk: str) -> Response:
        return Response(runs.read_run(find_purchase(request, job=id_of(pk))))


class CvvView(APIView):
    @schema.give_cvv
    def post(self, request: Request, pk: str) -> Response:
        asked = read(CvvSerializer, request.data)
        purchase = find_purchase(request, pk=id_of(pk))
        with refusing():
            give_cvv(purchase, asked["cvv"])
        return Response({"success": True})


class CodeView(APIView):
    """For everybody of the workspace: whoever has the phone may be another than who started it."""

    @schema.enter_code
    def post(self, request: Request, pk: str) -> Response:
        asked = read(CodeSerializer, request.data)
        purchase = find_purchase(request, pk=id_of(pk))
        jobs = [purchase.job_id, *vouchers_of(purchase).values_list("job_id", flat=True)]
        found = get_object_or_404(OtpRequest, pk=asked["otpRequestId"], job__in=jobs)
        try:
            otp.enter_code(found.pk, asked["otpValue"], user_of(request))
        except InvalidAnswer as error:
            raise Refusal("INVALID_OTP", str(error)) from error
        except WaitClosed as error:
            raise conflict("WAIT_CLOSED", error) from error
        return Response({"success": True})


class RevealView(APIView):
    """POST, as it is an act: who has seen the code is noted."""

    @schema.reveal_voucher
    def post(self, request: Request, pk: str) -> Response:
        code, pin = redemption.reveal(find_voucher(request, pk), by=user_of(request))
        return Response({"code": code, "pin": pin}, headers={"Cache-Control": "no-store"})


class RedeemView(APIView):
    @schema.redeem_voucher
    def post(self, request: Request, pk: str) -> Response:
        voucher = find_voucher(request, pk)
        try:
            job = redemption.redeem_later(voucher.pk, by=user_of(request))
        except NotPossible as error:
            raise conflict(error.code, error) from error
        return Response({"jobId": job.pk})


class RedeemedView(APIView):
    @schema.mark_redeemed
    def post(self, request: Request, pk: str) -> Response:
        asked = read(RedeemedSerializer, request.data)
        voucher = find_voucher(request, pk)
        try:
            redemption.mark_redeemed(voucher.pk, by=user_of(request), reason=asked["reason"])
        except NotPossible as error:
            raise conflict(error.code, error) from error
        return Response({"success": True})


# ---- what they share ----------------------------------------------------------------------------


def start(
    request: Request, user: User, card_type: str, qty: int, amount: int, cvv: str | None
) -> tuple[VoucherPurchase, dict[str, str]]:
    """The purchase, and the headers of the answer."""
    key = find_idempotency_key(request, {})
    with refusing():
        purchase = start_purchase(user, card_type, qty, amount, cvv=cvv, idempotency_key=key)
    return purchase, {"Idempotent-Replayed": "true"} if purchase.is_replay else {}


@contextmanager
def refusing() -> Iterator[None]:
    """What verbs raise, as the API answers it."""
    try:
        yield
    except PurchaseRefused as error:
        raise Refusal(error.code, str(error)) from error
    except KeyReused as error:
        raise conflict(error.code, error) from error
    except CvvUnreachable as error:
        code = status.HTTP_503_SERVICE_UNAVAILABLE
        raise Refusal(error.code, str(error), code) from error


def conflict(code: str, error: Exception) -> Refusal:
    return Refusal(code, str(error), status.HTTP_409_CONFLICT)


def read(kind: type[serializers.Serializer[Any]], data: Any) -> Mapping[str, Any]:
    serializer = kind(data=data)
    serializer.is_valid(raise_exception=True)
    asked: Mapping[str, Any] = serializer.validated_data
    return asked


def user_of(request: Request) -> User:
    assert isinstance(request.user, User)  # by the default permission
    return request.user


def find_user(request: Request, named: str) -> User:
    """Who the purchase is for: the caller, or for an admin anybody of the workspace."""
    caller = user_of(request)
    if named in (str(caller.pk), caller.get_username()):
        return caller
    members = User.objects.filter(workspace=caller.workspace_id, is_active=True)
    by_name = members.filter(username=named)
    found = by_name.first() or (members.filter(pk=int(named)).first() if is_id(named) else None)
    if found is None or not caller.is_staff:
        raise Refusal(
            "UNKNOWN_USER",
            f"userId must be your own, {caller.pk} or {caller.get_username()!r}; only an admin may "
            "name another member of the workspace.",
        )
    return found


def is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19  # a bigint


def id_of(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise Http404 from None


def find_purchase(request: Request, **wanted: Any) -> VoucherPurchase:
    """One that the caller may see."""
    visible = VoucherPurchase.objects.visible_to(request.user).filter(**wanted)
    # By itself: to filter by the job joins it, and an archived one is not there to be joined.
    found = VoucherPurchase.objects.filter(pk__in=visible.values("pk"))
    return get_object_or_404(runs.purchases_to_show(found))


def find_voucher(request: Request, pk: str) -> VoucherCode:
    visible = VoucherPurchase.objects.visible_to(request.user)
    return get_object_or_404(VoucherCode, pk=id_of(pk), transaction__purchase__in=visible)


def vouchers_of(purchase: VoucherPurchase) -> Any:
    return VoucherCode.objects.filter(transaction__purchase=purchase, job__isnull=False)

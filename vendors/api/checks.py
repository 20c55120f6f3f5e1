"""Asks for a check of a vendor's data or of an account's log-in, and reads what it has found."""

from typing import Any

from rest_framework import status
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.errors import Refusal
from accounts.api.permissions import IsAdmin
from jobs.models import Job
from vendors import check
from vendors.api import checks_schema as schema
from vendors.api.checks_serializers import NewCheckSerializer
from vendors.api.views import described_accounts
from vendors.errors import RequestRefused
from vendors.models import Vendor


class VendorCheckView(APIView):
    permission_classes = [IsAdmin]

    @schema.check_vendor
    def post(self, request: Request, pk: str) -> Response:
        vendor = get_object_or_404(Vendor, pk=pk)
        serializer = NewCheckSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        data = serializer.validated_data
        assert request.user.is_authenticated  # by IsAdmin
        try:
            job = check.submit_vendor_check(
                vendor,
                account=data.get("account"),
                product_url=data.get("product_url"),
                variant=data.get("variant"),
                by=request.user,
            )
        except RequestRefused as error:
            raise Refusal(error.code, str(error)) from error
        return Response(describe(job), status.HTTP_201_CREATED)

    @schema.get_vendor_check
    def get(self, request: Request, pk: str) -> Response:
        vendor = get_object_or_404(Vendor, pk=pk)
        return Response(describe_newest(check.VENDOR_CHECK, vendor=str(vendor.pk)))


class AccountTestView(APIView):
    permission_classes = [IsAdmin]

    @schema.test_account
    def post(self, request: Request, pk: str) -> Response:
        account = get_object_or_404(described_accounts(), pk=pk)
        assert request.user.is_authenticated  # by IsAdmin
        job = check.submit_account_test(account, by=request.user)
        return Response(describe(job), status.HTTP_201_CREATED)

    @schema.get_account_test
    def get(self, request: Request, pk: str) -> Response:
        account = get_object_or_404(described_accounts(), pk=pk)
        return Response(describe_newest(check.ACCOUNT_TEST, account=str(account.pk)))


def describe_newest(workflow: str, **params: str) -> dict[str, Any]:
    job = check.find_newest(workflow, **params)
    if job is None:
        raise Refusal(
            "NOT_FOUND",
            "There was no check yet; POST here asks for one.",
            status.HTTP_404_NOT_FOUND,
        )
    return describe(job)


def describe(job: Job) -> dict[str, Any]:
    return {
        "success": True,
        "job_id": job.pk,
        "status": job.status,
        "url": job.get_absolute_url(),
        "result": check.result_of(job),
        "error_message": job.error["message"] if job.error else None,
        "error_code": job.error["code"] if job.error else None,
    }

"""REST of the vendors' health: the figures, open alerts, and turning a vendor on again."""

import uuid
from typing import Any

from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.permissions import IsAdmin
from accounts.models import User
from vendors import alerts, figures
from vendors.api import health_schema as schema
from vendors.api.health_serializers import HealthQuerySerializer
from vendors.figures import Figures, Outcomes, VendorFigures
from vendors.models import Vendor


class HealthView(APIView):
    permission_classes = [IsAdmin]

    @schema.get_health
    def get(self, request: Request) -> Response:
        query = HealthQuerySerializer(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        found = figures.read_figures(query.validated_data["days"])
        return Response(describe(found))


class VendorResumeView(APIView):
    permission_classes = [IsAdmin]

    @schema.resume_vendor
    def post(self, request: Request, pk: str) -> Response:
        assert isinstance(request.user, User)  # by the permission
        try:
            resumed = alerts.turn_on(uuid.UUID(pk), by=request.user)
        except (ValueError, Vendor.DoesNotExist):
            raise Http404 from None
        return Response({"success": True, "resumed": resumed})


def describe(found: Figures) -> dict[str, Any]:
    return {
        "since": found.since,
        **_describe_outcomes(found.total),
        "pending": found.pending,
        "processing": found.processing,
        "manual_waiting": found.manual_waiting,
        "ended_per_minute": found.ended_per_minute,
        "block_rate": found.block_rate,
        "vendor_coverage": found.coverage,
        "errors": found.errors,
        "vendors": [_describe_vendor(vendor) for vendor in found.vendors],
        "alerts": [alerts.describe_alert(alert) for alert in alerts.open_alerts()],
    }


def _describe_vendor(vendor: VendorFigures) -> dict[str, Any]:
    return {
        "id": vendor.id,
        "name": vendor.name,
        "is_prioritized": vendor.is_prioritized,
        "is_automated": vendor.is_automated,
        **_describe_outcomes(vendor.outcomes),
        "p95_time_to_cart": vendor.outcomes.p95_seconds,
        "pending": vendor.pending,
        "processing": vendor.processing,
        "healthy_accounts": vendor.healthy_accounts,
        "blocked_accounts": vendor.blocked_accounts,
        "days": [{"day": each.day, **_describe_outcomes(each.outcomes)} for each in vendor.days],
    }


def _describe_outcomes(outcomes: Outcomes) -> dict[str, Any]:
    return {
        "completed": outcomes.completed,
        "failed": outcomes.failed,
        "manual": outcomes.manual,
        "success_rate": outcomes.success_rate,
        "manual_share": outcomes.manual_share,
        "average_time_to_cart": outcomes.average_seconds,
    }

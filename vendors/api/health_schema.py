"""The OpenAPI side of the vendors' health."""

from drf_spectacular.utils import extend_schema

from accounts.api.schema import ADMINS_ONLY, refused, response
from vendors.api.health_serializers import (
    HealthQuerySerializer,
    HealthSerializer,
    ResumedSerializer,
)

VENDOR = "0198c0de-7a11-7000-8000-00000000c0de"
OUTCOMES = {
    "completed": 150,
    "failed": 5,
    "manual": 12,
    "success_rate": 96.8,
    "manual_share": 7.2,
    "average_time_to_cart": 14.2,
}
ALERT = {
    "id": "0198c0de-7a11-7000-8000-00000000a1e7",
    "kind": "accounts",
    "vendor_id": VENDOR,
    "vendor_name": "Vendor Co",
    "account_id": None,
    "queue_id": None,
    "message": "Vendor Co has 1 healthy account; 2 are the least. Add accounts, or unblock those "
    "that are blocked.",
    "details": {"healthy": 1, "blocked": 1},
    "opened_at": "2025-12-02T10:00:00Z",
    "closed_at": None,
    "closed_reason": "",
}

get_health = extend_schema(
    operation_id="get_health",
    summary="Success, speed, manual share and blocks by vendor, and open alerts",
    description="The figures of the PRD's section 11, of the last `days`. Null where there is "
    "nothing to take a share or an average of.",
    tags=["admin"],
    parameters=[HealthQuerySerializer],
    responses={
        200: HealthSerializer,
        400: refused(
            "A parameter is wrong.",
            ("INVALID_REQUEST", "days: Ensure this value is less than or equal to 90."),
        ),
        **ADMINS_ONLY,
    },
    examples=[
        response(
            {
                "since": "2025-12-01T10:05:00Z",
                **OUTCOMES,
                "pending": 25,
                "processing": 3,
                "manual_waiting": 12,
                "ended_per_minute": 1.4,
                "block_rate": 4.0,
                "vendor_coverage": 80.0,
                "errors": {"captcha": 9, "page_changed": 4, "out_of_stock": 1},
                "vendors": [
                    {
                        "id": VENDOR,
                        "name": "Vendor Co",
                        "is_prioritized": True,
                        "is_automated": True,
                        **OUTCOMES,
                        "p95_time_to_cart": 31.5,
                        "pending": 25,
                        "processing": 3,
                        "healthy_accounts": 1,
                        "blocked_accounts": 1,
                        "days": [{"day": "2025-12-02", **OUTCOMES}],
                    }
                ],
                "alerts": [ALERT],
            }
        )
    ],
)

resume_vendor = extend_schema(
    operation_id="resume_vendor",
    summary="Turn a vendor's automation on again",
    description="After Cartwright turned it off for its failures. What failed before counts no "
    "more; what went to a person meanwhile stays there. Safe to repeat.",
    tags=["admin"],
    request=None,
    responses={
        200: ResumedSerializer,
        404: refused("There is no such vendor.", ("NOT_FOUND", "There is nothing of this id.")),
        **ADMINS_ONLY,
    },
    examples=[response({"success": True, "resumed": True})],
)

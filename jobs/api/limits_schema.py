"""The OpenAPI side of `limits.py`."""

from drf_spectacular.utils import extend_schema

from accounts.api.schema import ADMINS_ONLY, UNAUTHENTICATED, refused, request, response
from jobs.api.limits_serializers import (
    LimitAnswerSerializer,
    LimitListSerializer,
    LimitSerializer,
    PauseSerializer,
    WhySerializer,
)
from jobs.api.schema import NOT_FOUND

JOB = "0198c0de-7a11-7000-8000-00000000a0b0"
KEY = "vendor:0198c0de-7a11-7000-8000-00000000c0de"
STATE = {
    "key": KEY,
    "concurrency": 5,
    "rate": 30,
    "period_seconds": 60,
    "paused": False,
    "paused_at": None,
    "paused_by": "",
    "pause_reason": "",
    "running": 5,
    "waiting": 12,
}
PAUSED = STATE | {
    "paused": True,
    "paused_at": "2025-12-02T10:25:00Z",
    "paused_by": "operations",
    "pause_reason": "Their site is down.",
}
REFUSED = {
    400: refused(
        "Nothing was changed.",
        (
            "INVALID_LIMIT",
            "No workflow is called 'cart_ad'. Its steps would never be limited; check the name.",
        ),
    ),
    **UNAUTHENTICATED,
    **ADMINS_ONLY,
}
WHAT = (
    "A key is `workflow:NAME`, `vendor:ID` or `account:ID`. A change holds for every step that is "
    "claimed from then on; what runs goes on. For admins."
)

list_limits = extend_schema(
    operation_id="list_limits",
    summary="List what is limited or paused",
    tags=["limits"],
    responses={200: LimitListSerializer, **UNAUTHENTICATED, **ADMINS_ONLY},
    examples=[response({"success": True, "limits": [STATE]})],
)
get_limit = extend_schema(
    operation_id="get_limit",
    summary="See a limit and how much of it is used",
    description="A key without a limit is answered with nulls.",
    tags=["limits"],
    responses={200: LimitAnswerSerializer, **UNAUTHENTICATED, **ADMINS_ONLY},
    examples=[response({"success": True, "limit": STATE})],
)
set_limit = extend_schema(
    operation_id="set_limit",
    summary="Set a limit, or take it away",
    description=f"{WHAT} What is left out or null is no limit. A pause stays.",
    tags=["limits"],
    request=LimitSerializer,
    responses={200: LimitAnswerSerializer, **REFUSED},
    examples=[
        request({"concurrency": 5, "rate": 30, "period_seconds": 60}),
        response({"success": True, "limit": STATE}),
    ],
)
pause = extend_schema(
    operation_id="pause_key",
    summary="Pause a workflow, a vendor or an account",
    description=f"{WHAT} Safe to repeat.",
    tags=["limits"],
    request=PauseSerializer,
    responses={200: LimitAnswerSerializer, **REFUSED},
    examples=[
        request({"reason": "Their site is down."}),
        response({"success": True, "limit": PAUSED}),
    ],
)
resume = extend_schema(
    operation_id="resume_key",
    summary="Resume what was paused",
    description="What waited may start, as far as limits allow. Safe to repeat.",
    tags=["limits"],
    request=None,
    responses={200: LimitAnswerSerializer, **UNAUTHENTICATED, **ADMINS_ONLY},
    examples=[response({"success": True, "limit": STATE})],
)
why = extend_schema(
    operation_id="why_job",
    summary="Ask why steps do not start",
    description="The scheduler's own reason for each step that has not started, as it is now.",
    tags=["jobs"],
    responses={200: WhySerializer, **UNAUTHENTICATED, **NOT_FOUND},
    examples=[
        response(
            {
                "job": JOB,
                "steps": [
                    {
                        "step": "0198c0de-7a11-7000-8000-0000000057e9",
                        "name": "add_to_cart",
                        "code": "concurrency",
                        "sentence": "5 of 5 steps of the vendor Vendor Co are running.",
                        "data": {"key": KEY, "running": 5, "limit": 5, "jobs": [], "ahead": 2},
                    }
                ],
            }
        )
    ],
)

"""The OpenAPI side of `control.py`."""

from drf_spectacular.utils import extend_schema

from accounts.api.schema import ADMINS_ONLY, UNAUTHENTICATED, refused, request, response
from jobs.api.control_serializers import (
    BulkAnswerSerializer,
    BulkSerializer,
    CancelSerializer,
    ControlledSerializer,
    RerunSerializer,
)

JOB = "0198c0de-7a11-7000-8000-00000000a0b0"
VENDOR = "0198c0de-7a11-7000-8000-00000000c0de"
STATE = {
    "id": JOB,
    "workflow": "cart_add",
    "title": "Add 1 × Product Name to the cart at Vendor Co",
    "status": "cancelled",
    "progress": 25,
    "result": None,
    "error": {"code": "cancelled", "message": "Cancelled by alice: Ordered by hand"},
    "created_at": "2025-12-02T10:25:00Z",
    "started_at": "2025-12-02T10:25:01Z",
    "finished_at": "2025-12-02T10:25:09Z",
}
AGAIN = STATE | {"status": "pending", "error": None, "started_at": None, "finished_at": None}
BAD_BODY = refused(
    "Nothing was changed.",
    ("INVALID_REQUEST", "form_step is not known here; use from_step."),
)
NOT_FOUND = {
    404: refused(
        "No such job, or not one of yours.",
        ("NOT_FOUND", f"There is nothing at /api/jobs/{JOB}/cancel; check the id."),
    )
}

cancel_job = extend_schema(
    operation_id="cancel_job",
    summary="Cancel a job",
    description="The job ends at once; a step that is running is told, and stops within seconds. "
    "One that is with a person is not needed any more. Safe to repeat. For admins, and for those "
    "who asked for the job.",
    tags=["jobs"],
    request=CancelSerializer,
    responses={
        200: ControlledSerializer,
        400: BAD_BODY,
        409: refused(
            "It has ended otherwise, or nobody knows yet what an act of it did.",
            (
                "OUTCOME_IS_UNKNOWN",
                "Nobody knows yet whether this happened: “Pay ₹6,000”. Look at the site and say so "
                "in the inbox; “Buy 2 × Gift voucher” can be cancelled after that.",
            ),
            (
                "JOB_HAS_ENDED",
                "“Add 1 × Product Name to the cart at Vendor Co” has ended already (completed); "
                "there is nothing left to cancel.",
            ),
        ),
        **UNAUTHENTICATED,
        **NOT_FOUND,
    },
    examples=[
        request({"reason": "Ordered by hand"}),
        response({"success": True, "job": STATE}),
    ],
)

rerun_job = extend_schema(
    operation_id="rerun_job",
    summary="Run a job again, from a step",
    description="Steps before it keep their outputs; it and what follows begin anew. What the "
    "steps noted of acts outside stays: they look first whether it has happened already.",
    tags=["jobs"],
    request=RerunSerializer,
    responses={
        200: ControlledSerializer,
        400: refused(
            "Nothing was changed.",
            (
                "UNKNOWN_STEP",
                "“Add 1 × Product Name to the cart at Vendor Co” has no step 'pay'; it has: "
                "reserve_account, add_to_cart.",
            ),
        ),
        409: refused(
            "The job cannot be run again as it stands.",
            (
                "JOB_HAS_NOT_ENDED",
                "“Add 1 × Product Name to the cart at Vendor Co” is running; cancel it first, or "
                "let it end.",
            ),
            (
                "STEP_STILL_STOPPING",
                "“Add to the cart” is still being stopped; try again in a few seconds.",
            ),
        ),
        **ADMINS_ONLY,
        **NOT_FOUND,
    },
    examples=[request({"from_step": "add_to_cart"}), response({"success": True, "job": AGAIN})],
)

control_jobs = extend_schema(
    operation_id="control_jobs",
    summary="Cancel many jobs, or run them again",
    description="Count first, with `dry_run`. `cancel` is for jobs that have not ended (for "
    "manual ones if `status` names them), `rerun` for failed, cancelled and manual ones (for "
    "completed ones if `status` names them), `resume` "
    "for manual ones. Jobs are done one by one; one that has changed meanwhile is skipped and "
    "said. At most 1,000 a call: while `next` is not null, send the same with it as `after`.",
    tags=["jobs"],
    request=BulkSerializer,
    responses={
        200: BulkAnswerSerializer,
        400: refused(
            "Nothing was changed.",
            ("INVALID_FILTER", "Say which jobs: an empty filter means none."),
            (
                "INVALID_REQUEST",
                "filter.worklow: worklow is not known here; use ids, workflow, status, error_code, "
                "created_after, created_before, params.",
            ),
        ),
        **ADMINS_ONLY,
    },
    examples=[
        request(
            {
                "action": "rerun",
                "filter": {
                    "workflow": "cart_add",
                    "error_code": "site_timeout",
                    "params": {"vendor": VENDOR},
                },
                "dry_run": True,
            }
        ),
        response(
            {
                "success": True,
                "action": "rerun",
                "count": 12,
                "dry_run": False,
                "done": 11,
                "skipped": 1,
                "skipped_first": [
                    {
                        "id": JOB,
                        "title": STATE["title"],
                        "reason": "“Add to the cart” is still being stopped; try again in a few "
                        "seconds.",
                    }
                ],
                "next": None,
            }
        ),
    ],
)

"""The OpenAPI side of the jobs' views: summaries, refusals and examples."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from accounts.api.schema import UNAUTHENTICATED, refused, response
from jobs.api.serializers import (
    EventListSerializer,
    EventQuerySerializer,
    JobListSerializer,
    JobQuerySerializer,
    SnapshotSerializer,
)

JOB = "0198c0de-7a11-7000-8000-00000000a0b0"
STEP = "0198c0de-7a11-7000-8000-0000000057e9"

JOB_STATE = {
    "id": JOB,
    "workflow": "cart_add",
    "title": "Add 1 × Product Name to the cart at Vendor Co",
    "status": "running",
    "progress": 25,
    "result": None,
    "error": None,
    "created_at": "2025-12-02T10:25:00Z",
    "started_at": "2025-12-02T10:25:01Z",
    "finished_at": None,
}
STEP_STATE = {
    "id": STEP,
    "stage": 0,
    "position": 0,
    "name": "reserve_account",
    "title": "Reserve an account",
    "status": "completed",
    "attempt": 1,
    "max_attempts": 3,
    "progress": 100,
    "phase": "",
    "error": None,
    "due_at": None,
    "started_at": "2025-12-02T10:25:01Z",
    "finished_at": "2025-12-02T10:25:01Z",
    "waits": [],
}
EVENT = {
    "number": 3,
    "kind": "step.completed",
    "at": "2025-12-02T10:25:01Z",
    "step": STEP,
    "message": "Reserve an account",
    "data": {"job": {"progress": 25}, "step": {"status": "completed", "progress": 100}},
}
NOT_FOUND = {
    404: refused(
        "No such job, or not one of yours.",
        ("NOT_FOUND", f"There is nothing at /api/jobs/{JOB}; check the id."),
    )
}
BAD_NUMBER = {
    400: refused(
        "The number makes no sense.",
        (
            "NO_SUCH_EVENT",
            "The newest event of this job is 12, not 99. Read the job anew and go on from its "
            "`number`.",
        ),
    )
}

STREAMED = {
    (200, "text/event-stream"): OpenApiResponse(
        OpenApiTypes.STR,
        "`id:` is the event's number, `data:` the event as JSON.",
        examples=[
            OpenApiExample(
                "Events",
                'id: 3\ndata: {"number": 3, "kind": "step.completed", ...}\n\n: still here\n\n',
                media_type="text/event-stream",
            )
        ],
    ),
}

list_jobs = extend_schema(
    operation_id="list_jobs",
    summary="Jobs, newest first",
    description="Staff see every job, others those they asked for.",
    tags=["jobs"],
    parameters=[JobQuerySerializer],
    responses={
        200: JobListSerializer,
        400: refused(
            "A parameter is wrong.",
            ("INVALID_REQUEST", "limit: Ensure this value is less than or equal to 200."),
        ),
        **UNAUTHENTICATED,
    },
    examples=[
        response(
            {
                "jobs": [
                    {
                        **JOB_STATE,
                        "phase": "Adding to the cart",
                        "due_at": None,
                        "url": f"/jobs/{JOB}/",
                    }
                ],
                "next": None,
            }
        )
    ],
)

get_job = extend_schema(
    operation_id="get_job",
    summary="A job: all of its steps, its newest events, its evidence",
    description="The snapshot of docs/live-protocol.md. `number` is that of its last event.",
    tags=["jobs"],
    responses={200: SnapshotSerializer, **UNAUTHENTICATED, **NOT_FOUND},
    examples=[
        response(
            {
                "type": "snapshot",
                "at": "2025-12-02T10:25:02Z",
                "number": 3,
                "job": JOB_STATE,
                "steps": [STEP_STATE],
                "events": [EVENT],
                "artifacts": [],
                "subject": {
                    "facts": [{"label": "Vendor", "text": "Vendor Co", "url": "/admin/"}],
                    "advice": "",
                },
            }
        )
    ],
)

read_events = extend_schema(
    operation_id="list_job_events",
    summary="What happened in a job after an event",
    description="At most 500, in order. With `Accept: text/event-stream` the same events as "
    "server-sent events, each with its number as `id`, as they happen and until the job has ended.",
    tags=["jobs"],
    parameters=[EventQuerySerializer],
    responses={
        (200, "application/json"): EventListSerializer,
        **STREAMED,
        **BAD_NUMBER,
        **UNAUTHENTICATED,
        **NOT_FOUND,
    },
    examples=[response({"events": [EVENT], "next": 3, "last": 3})],
)

stream_events = extend_schema(
    operation_id="stream_job_events",
    summary="A job's events as they happen (server-sent events)",
    description="Ends when the job has ended. Who comes back with `Last-Event-ID`, as browsers do "
    "by themselves, goes on after that event, or gets 204 when nothing is to come any more.",
    tags=["jobs"],
    parameters=[
        EventQuerySerializer,
        OpenApiParameter(
            "Last-Event-ID",
            OpenApiTypes.INT,
            OpenApiParameter.HEADER,
            description="Goes before `after`.",
        ),
    ],
    responses={
        **STREAMED,
        204: OpenApiResponse(description="The job has ended, and you have all of its events."),
        **BAD_NUMBER,
        **UNAUTHENTICATED,
        **NOT_FOUND,
    },
)

"""The OpenAPI side of `queue.py`."""

from drf_spectacular.utils import extend_schema

from accounts.api.schema import ADMINS_ONLY, UNAUTHENTICATED, refused, request, response
from vendors.api.queue_serializers import (
    CartItemListSerializer,
    ChangedSerializer,
    ItemReasonSerializer,
    PageQuerySerializer,
    QueueBulkAnswerSerializer,
    QueueBulkSerializer,
    QueueListSerializer,
    QueueQuerySerializer,
    RouteSerializer,
    StatisticsSerializer,
)
from vendors.api.schema import ACCOUNT, ITEM, TOO_MANY, VENDOR

ROW = {
    "id": ITEM,
    "product_name": "Product Name",
    "product_url": "https://vendor.com/product/123",
    "vendor_name": "Vendor Co",
    "status": "completed",
    "created_at": "2025-12-02T10:25:00Z",
    "account_email": "acc1@vendor.com",
}
BAD_QUERY = refused(
    "A parameter is wrong.",
    ("INVALID_REQUEST", "limit: Ensure this value is less than or equal to 100."),
    (
        "NO_SUCH_ITEM",
        "after: no item of the queue has this id any more. Start again without after.",
    ),
)
BAD_BODY = refused(
    "Nothing was changed.",
    ("INVALID_REQUEST", "raeson is not known here; use reason."),
)
NOT_FOUND = {
    404: refused(
        "No such item in the queue, or not one of yours.",
        ("NOT_FOUND", f"There is nothing at /api/cart/retry/{ITEM}; check the id."),
    )
}


def impossible(sentence: str, *more: tuple[str, str]) -> dict[int, object]:
    """Refusals by what has become of the item meanwhile."""
    description = "It cannot be done with the item as it stands; nothing was changed."
    return {409: refused(description, ("NOT_POSSIBLE_NOW", sentence), *more)}


def done(status: str, message: str) -> dict[str, object]:
    return {"success": True, "queue_id": ITEM, "status": status, "message": message}


list_queue = extend_schema(
    operation_id="list_queue",
    summary="Queue items, newest first",
    description="Page on by `after`: as `offset`, but as fast on the last page as on the first. "
    "`total` is exact up to 10,000; `total_is_exact` says whether it is.",
    tags=["admin"],
    parameters=[QueueQuerySerializer],
    responses={200: QueueListSerializer, 400: BAD_QUERY, **ADMINS_ONLY},
    examples=[
        response(
            {
                "items": [ROW],
                "total": 100,
                "total_is_exact": True,
                "limit": 50,
                "offset": 0,
                "next": ITEM,
            }
        )
    ],
)

queue_statistics = extend_schema(
    operation_id="get_queue_statistics",
    summary="How many items are open, and what ended today",
    tags=["admin"],
    responses={200: StatisticsSerializer, **ADMINS_ONLY},
    examples=[
        response(
            {
                "pending": 25,
                "processing": 3,
                "completed_today": 150,
                "failed_today": 5,
                "manual_required": 12,
                "average_completion_time_seconds": 22.0,
            }
        )
    ],
)

list_cart_items = extend_schema(
    operation_id="list_cart_items",
    summary="What was added for a user_id, newest first",
    description="For staff all of it; for others, what they asked for themselves.",
    tags=["cart"],
    parameters=[PageQuerySerializer],
    responses={200: CartItemListSerializer, 400: BAD_QUERY, **UNAUTHENTICATED, **TOO_MANY},
    examples=[
        response(
            {
                "items": [
                    {
                        "id": "0198c0de-7a11-7000-8000-000000001173",
                        "queue_id": ITEM,
                        "user_id": "system",
                        "vendor_account_id": ACCOUNT,
                        "vendor_name": "Vendor Co",
                        "product_url": "https://vendor.com/product/123",
                        "product_name": "Product Name",
                        "quantity": 1,
                        "added_at": "2025-12-02T10:25:30Z",
                    }
                ],
                "total": 1,
                "limit": 50,
                "offset": 0,
                "next": None,
            }
        )
    ],
)

retry_item = extend_schema(
    operation_id="retry_cart_add",
    summary="Retry a failed item",
    description="It goes on where it stood, with all of its attempts anew; what may be in a cart "
    "already is looked up first. One that waits for a person is tried once more as well. For "
    "admins, and for those who asked for the item.",
    tags=["cart"],
    request=None,
    responses={
        200: ChangedSerializer,
        **impossible(
            "“Product Name” is completed: retry is for items that are failed or manual required.",
            (
                "VENDOR_NEEDS_A_PERSON",
                "Automation is turned off for Vendor Co. Add “Product Name” by hand and mark it as "
                "complete, or change the vendor and retry then.",
            ),
            (
                "STEP_STILL_STOPPING",
                "“Add to the cart” is still being stopped; try again in a few seconds.",
            ),
        ),
        **UNAUTHENTICATED,
        **NOT_FOUND,
        **TOO_MANY,
    },
    examples=[response(done("pending", "Item re-queued for processing"))],
)

cancel_item = extend_schema(
    operation_id="cancel_queue_item",
    summary="Cancel an item that is not done yet",
    description="It has failed then, with the code `cancelled`. A browser that is at work on it "
    "stops within seconds.",
    tags=["admin"],
    request=ItemReasonSerializer,
    responses={
        200: ChangedSerializer,
        400: BAD_BODY,
        **impossible(
            "“Product Name” is completed: cancel is for items that are pending or processing."
        ),
        **ADMINS_ONLY,
        **NOT_FOUND,
    },
    examples=[request({"reason": "Ordered elsewhere"}), response(done("failed", "Item cancelled"))],
)

route_item = extend_schema(
    operation_id="route_queue_item_to_manual",
    summary="Hand an item to a person",
    description="For items that wait or have failed.",
    tags=["admin"],
    request=RouteSerializer,
    responses={
        200: ChangedSerializer,
        400: BAD_BODY,
        **impossible(
            "“Product Name” is processing: route to manual is for items that are failed or pending."
        ),
        **ADMINS_ONLY,
        **NOT_FOUND,
    },
    examples=[
        request({"reason": "The shop wants a delivery date for this one."}),
        response(done("manual_required", "Item routed to manual processing")),
    ],
)

UNKNOWN_OUTCOME = (
    "OUTCOME_IS_UNKNOWN",
    "Nobody knows yet whether this happened: “Add 1 × Product Name”. Look at the site and say so "
    "in the inbox; “Add 1 × Product Name to the cart at Vendor Co” can be cancelled after that.",
)

complete_item = extend_schema(
    operation_id="complete_manual_item",
    summary="A person has added the item",
    tags=["admin"],
    request=ItemReasonSerializer,
    responses={
        200: ChangedSerializer,
        400: BAD_BODY,
        **impossible(
            "“Product Name” is pending: complete is for items that are manual required.",
            UNKNOWN_OUTCOME,
        ),
        **ADMINS_ONLY,
        **NOT_FOUND,
    },
    examples=[
        request({"reason": "Added as acc1@vendor.com"}),
        response(done("completed", "Item marked as complete")),
    ],
)

fail_item = extend_schema(
    operation_id="fail_manual_item",
    summary="A person could not add the item, or it is not needed",
    tags=["admin"],
    request=ItemReasonSerializer,
    responses={
        200: ChangedSerializer,
        400: BAD_BODY,
        **impossible(
            "“Product Name” is pending: fail is for items that are manual required.",
            UNKNOWN_OUTCOME,
        ),
        **ADMINS_ONLY,
        **NOT_FOUND,
    },
    examples=[
        request({"reason": "Sold out"}),
        response(done("failed", "Item marked as failed")),
    ],
)

control_items = extend_schema(
    operation_id="control_queue_items",
    summary="Do the same with many items",
    description="Count first, with `dry_run`. `retry` is for failed items (for manual ones if "
    "`status` names them), `cancel` for pending and processing ones, `manual` for pending ones "
    "(for failed ones if `status` names them), `complete` and `fail` for manual ones. Items are "
    "done one by one; one that has changed meanwhile is skipped and said. At most 1,000 a call: "
    "while `next` is not null, send the same with it as `after`.",
    tags=["admin"],
    request=QueueBulkSerializer,
    responses={
        200: QueueBulkAnswerSerializer,
        400: refused(
            "Nothing was changed.",
            ("INVALID_FILTER", "Say which items: an empty filter means none."),
            ("INVALID_REQUEST", "action: 'remove' is none of: retry, cancel, manual, complete."),
        ),
        **ADMINS_ONLY,
    },
    examples=[
        request(
            {
                "action": "retry",
                "filter": {"vendor_id": VENDOR, "error_code": "site_timeout"},
                "dry_run": False,
            }
        ),
        response(
            {
                "success": True,
                "action": "retry",
                "count": 12,
                "dry_run": False,
                "done": 11,
                "skipped": 1,
                "skipped_first": [
                    {
                        "id": ITEM,
                        "reason": "“Add to the cart” is still being stopped; try again in a few "
                        "seconds.",
                    }
                ],
                "next": None,
            }
        ),
    ],
)

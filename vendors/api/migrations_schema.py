"""The OpenAPI side of migrations."""

from drf_spectacular.utils import extend_schema

from accounts.api.schema import ADMINS_ONLY, refused, request, response
from vendors.api.migrations_serializers import (
    BegunMigrationSerializer,
    MigrationSerializer,
    NewMigrationSerializer,
    OrderedSerializer,
    UndoneSerializer,
)
from vendors.api.schema import ACCOUNT, ITEM, VENDOR

MIGRATION = "0198c0de-7a11-7000-8000-000000000416"
REPLACEMENT = "0198c0de-7a11-7000-8000-00000000acc2"
JOB = "0198c0de-7a11-7000-8000-00000000000b"
NO_SUCH = {404: refused("Nothing has this id.", ("NOT_FOUND", "There is nothing of this id."))}

migrate_account = extend_schema(
    operation_id="migrate_account",
    summary="Move what stands in a blocked account's cart to another account",
    description="For each line a job adds the item to the new account's cart and sees it there; "
    "until then the line stays the old account's. What was marked as gone (ordered, or taken out) "
    "is not moved, nor what may stand in the new account's cart already. Asked for again while it "
    "is under way, it answers the same, with the header `Idempotent-Replayed`. GET "
    "/api/admin/migrations/{id} says how far it is.",
    tags=["admin"],
    request=NewMigrationSerializer,
    responses={
        200: BegunMigrationSerializer,
        400: refused(
            "Nothing was started.",
            (
                "FOREIGN_ACCOUNT",
                "new_account_id must be another account of Vendor Co; leave it out to have one "
                "chosen.",
            ),
            ("INVALID_REQUEST", "new_account_id: there is no such account."),
        ),
        409: refused(
            "Nothing was started, as things stand.",
            (
                "ACCOUNT_NOT_BLOCKED",
                "account@example.com is not blocked, so its cart is in use. Set it aside first: "
                "until then items are added to it, and what is moved would be bought twice.",
            ),
            (
                "REPLACEMENT_BLOCKED",
                "two@example.com is blocked, too. Choose another account, or leave it out to have "
                "one chosen.",
            ),
            (
                "NO_REPLACEMENT",
                "No account of Vendor Co can take the place of account@example.com: one is needed "
                "that is not blocked or paused, has not used up its day, and has none of the items "
                "in its cart already. Add or unblock one.",
            ),
            (
                "NOTHING_TO_MIGRATE",
                "Nothing that was added here and is not marked as gone stands in the cart of "
                "account@example.com.",
            ),
            (
                "MANUAL_VENDOR",
                "Automation is turned off for Vendor Co. Its carts are moved by hand.",
            ),
        ),
        **NO_SUCH,
        **ADMINS_ONLY,
    },
    examples=[
        request({"new_account_id": REPLACEMENT}),
        response({"success": True, "migrated_items": 15, "migration_id": MIGRATION}),
    ],
)

get_migration = extend_schema(
    operation_id="get_migration",
    summary="How far a migration is",
    tags=["admin"],
    responses={200: MigrationSerializer, **NO_SUCH, **ADMINS_ONLY},
    examples=[
        response(
            {
                "id": MIGRATION,
                "vendor_id": VENDOR,
                "old_account_id": ACCOUNT,
                "old_account_email": "account@example.com",
                "new_account_id": REPLACEMENT,
                "new_account_email": "two@example.com",
                "migrated_items": 15,
                "pending": 0,
                "moved": 14,
                "failed": 1,
                "undone": 0,
                "migrated_at": "2025-12-02T10:00:00Z",
                "started_by": "operations",
                "is_automatic": False,
                "undone_at": None,
                "undone_by": "",
                "moves": [
                    {
                        "queue_id": ITEM,
                        "product_name": "Product Name",
                        "product_url": "https://vendor.com/product/123",
                        "quantity": 1,
                        "status": "failed",
                        "job_id": JOB,
                        "error_code": "out_of_stock",
                        "error_message": "The product is out of stock.",
                    }
                ],
            }
        )
    ],
)

undo_migration = extend_schema(
    operation_id="undo_migration",
    summary="Take a migration back",
    description="The records point to the old account again, and what has not arrived is not moved "
    "any more. What was ordered or moved on since stays. Nothing is taken out of a cart: the "
    "answer says what stands in the new account's. Safe to repeat.",
    tags=["admin"],
    request=None,
    responses={200: UndoneSerializer, **NO_SUCH, **ADMINS_ONLY},
    examples=[
        response(
            {
                "success": True,
                "migration_id": MIGRATION,
                "restored": 13,
                "stopped": 1,
                "kept": [
                    {
                        "item": "1 × Product Name",
                        "reason": "it has left the new account's cart: ordered, or taken out",
                    }
                ],
                "in_new_cart": ["1 × Another Product"],
                "maybe_in_new_cart": [],
                "message": "In the cart of two@example.com stand: 1 × Another Product. Take out "
                "there by hand what is not wanted.",
            }
        )
    ],
)

mark_ordered = extend_schema(
    operation_id="mark_ordered",
    summary="Say that an account's cart was ordered",
    description="What stood in it is not moved any more when the account is blocked: without this, "
    "it would be bought twice. Lines that are being moved this moment are left as they are; undo "
    "that migration first. Safe to repeat.",
    tags=["admin"],
    request=None,
    responses={200: OrderedSerializer, **NO_SUCH, **ADMINS_ONLY},
    examples=[response({"success": True, "marked": 15, "moving": 0})],
)

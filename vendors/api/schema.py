"""The OpenAPI side of the views: summaries, refusals, and the PRD's own examples."""

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema

from accounts.api.schema import ADMINS_ONLY, UNAUTHENTICATED, refused, request, response
from vendors.api.serializers import (
    AccountListSerializer,
    AccountQuerySerializer,
    AccountSerializer,
    CartAddSerializer,
    CartStatusSerializer,
    ChangedAccountSerializer,
    NewAccountSerializer,
    QueuedSerializer,
    VendorListSerializer,
    VendorSerializer,
)

VENDOR = "0198c0de-7a11-7000-8000-00000000c0de"
ITEM = "0198c0de-7a11-7000-8000-0000000017e4"
ACCOUNT = "0198c0de-7a11-7000-8000-00000000acc1"


INVALID_VENDOR = (
    "INVALID_VENDOR",
    "Invalid vendor_id: there is no such vendor. GET /api/admin/vendors lists them.",
)
NOT_FOUND = {
    404: refused(
        "Nothing has this id.",
        ("NOT_FOUND", f"There is nothing at /api/cart/status/{ITEM}; check the id."),
    )
}


TOO_MANY = {
    429: refused(
        "More than 100 requests of one user to the cart operations in a minute. Retry-After says "
        "when to come again.",
        ("TOO_MANY_REQUESTS", "Request was throttled. Expected available in 12 seconds."),
    )
}

cart_add = extend_schema(
    operation_id="add_to_cart",
    summary="Add a product to a vendor's cart",
    description="Queues the request and answers at once. The product is in the cart when the item "
    "is `completed`; a vendor that cannot be automated answers `manual_required`. A request that "
    "is sent again with the same `Idempotency-Key`, or without one with the same "
    "`product_data.erpnext_item_id`, answers with its queue item as it is now and queues nothing: "
    "the header `Idempotent-Replayed` says so. A key is kept for as long as its item is in the "
    "queue, 30 days after its end.",
    tags=["cart"],
    parameters=[
        OpenApiParameter(
            "Idempotency-Key",
            str,
            OpenApiParameter.HEADER,
            description="Of your own, such as a UUID, up to 255 characters. It goes before "
            "erpnext_item_id, for an item that is bought more than once.",
        )
    ],
    request=CartAddSerializer,
    responses={
        200: QueuedSerializer,
        400: refused(
            "Nothing was queued.",
            INVALID_VENDOR,
            (
                "FOREIGN_PRODUCT_URL",
                "product_url is on other.com, but Vendor Co is vendor.com. Send the product's "
                "address at this vendor, or another vendor_id.",
            ),
            (
                "INVALID_REQUEST",
                "product_data.quantity must be a whole number from 1 to 1,000,000.",
            ),
        ),
        409: refused(
            "The key was used for something else; nothing was queued.",
            (
                "IDEMPOTENCY_KEY_REUSED",
                "This idempotency key (or erpnext_item_id) was sent before with another request, "
                f"which is queue item {ITEM}. Send that request again as it was, or send this one "
                "with an Idempotency-Key header of its own.",
            ),
        ),
        **UNAUTHENTICATED,
        **TOO_MANY,
    },
    examples=[
        request(
            {
                "user_id": "system",
                "vendor_id": VENDOR,
                "product_url": "https://vendor.com/product/123",
                "product_name": "Product Name",
                "product_data": {
                    "price": 29.99,
                    "quantity": 1,
                    "variant": "Large",
                    "erpnext_item_id": "ITEM-12345",
                },
            }
        ),
        response(
            {
                "success": True,
                "queue_id": ITEM,
                "status": "pending",
                "message": "Item queued for processing",
                "estimated_completion": "2025-12-02T10:30:00Z",
            }
        ),
    ],
)

cart_status = extend_schema(
    operation_id="get_cart_status",
    summary="What became of a queue item",
    tags=["cart"],
    responses={200: CartStatusSerializer, **UNAUTHENTICATED, **NOT_FOUND, **TOO_MANY},
    examples=[
        response(
            {
                "id": ITEM,
                "status": "completed",
                "product_name": "Product Name",
                "vendor_name": "Vendor Co",
                "attempts": 1,
                "created_at": "2025-12-02T10:25:00Z",
                "completed_at": "2025-12-02T10:25:30Z",
                "error_message": None,
            }
        )
    ],
)

list_vendors = extend_schema(
    operation_id="list_vendors",
    summary="All vendors, with the health of their accounts",
    tags=["admin"],
    responses={200: VendorListSerializer, **ADMINS_ONLY},
    examples=[
        response(
            {
                "vendors": [
                    {
                        "id": VENDOR,
                        "name": "Vendor Co",
                        "domain": "vendor.com",
                        "is_prioritized": True,
                        "requires_captcha": False,
                        "can_automate": True,
                        "account_count": 5,
                        "healthy_accounts": 4,
                        "blocked_accounts": 1,
                    }
                ]
            }
        )
    ],
)

VENDOR_DATA = {
    "name": "Vendor Co",
    "domain": "vendor.com",
    "login_url": "https://vendor.com/login",
    "cart_url": "https://vendor.com/cart",
    "is_prioritized": True,
    "can_automate": True,
    "requires_captcha": False,
    "selectors": {
        "email_input": "#email",
        "password_input": "#password",
        "login_button": "button[type='submit']",
        "add_to_cart": ".add-to-cart-btn",
        "cart_confirmation": ".cart-success-message",
        "cart_row": ".cart-line",
        "variants": {
            "Size": {"kind": "select", "selector": "#size"},
            "Colour": {
                "kind": "click",
                "selector": "//button[text()='{value}']",
                "settled": ".price.is-final",
            },
        },
        "captcha_indicator": None,
    },
    "rate_limit_daily": 50,
    "seconds_between_adds": 10,
    "cart_scope": "account",
    "login_required": True,
    "allow_private_network": False,
    "allowed_domains": ["cdn.vendor-assets.com"],
}

VENDOR_REFUSALS = {
    400: refused(
        "Nothing was stored. `fields` has a sentence for each part that is wrong.",
        (
            "INVALID_REQUEST",
            "selectors.add_to_crat: add_to_crat is no known part of a page. Did you mean "
            "add_to_cart?",
        ),
    ),
    **ADMINS_ONLY,
    409: refused(
        "The domain is taken.",
        ("VENDOR_EXISTS", "A vendor with this domain exists already."),
    ),
}
VENDOR_EXAMPLES = [
    request(VENDOR_DATA),
    response({"id": VENDOR, **VENDOR_DATA, "created_at": "2025-12-02T10:00:00Z"}),
]

create_vendor = extend_schema(
    operation_id="create_vendor",
    summary="Set a vendor up",
    description="A vendor is data: where its pages are, and what their parts look like. A selector "
    "that begins with `/` is XPath, any other CSS; `null` says that the shop has none; `{value}` "
    "stands for the chosen value of an option.",
    tags=["admin"],
    request=VendorSerializer,
    responses={201: VendorSerializer, **VENDOR_REFUSALS},
    examples=VENDOR_EXAMPLES,
)

update_vendor = extend_schema(
    operation_id="update_vendor",
    summary="Replace a vendor's data",
    description="The whole is replaced: what is not sent has its default again.",
    tags=["admin"],
    request=VendorSerializer,
    responses={
        200: VendorSerializer,
        404: refused("There is no such vendor.", ("NOT_FOUND", "There is nothing of this id.")),
        **VENDOR_REFUSALS,
    },
    examples=VENDOR_EXAMPLES,
)

ACCOUNT_ROW = {
    "id": ACCOUNT,
    "vendor_id": VENDOR,
    "vendor_name": "Vendor Co",
    "email": "account@example.com",
    "is_blocked": False,
    "daily_items_added": 12,
    "total_items_added": 450,
    "last_used_at": "2025-12-02T09:45:00Z",
    "created_at": "2025-11-01T10:00:00Z",
}

list_accounts = extend_schema(
    operation_id="list_accounts",
    summary="Accounts, by vendor and email",
    tags=["admin"],
    parameters=[AccountQuerySerializer],
    responses={
        200: AccountListSerializer,
        400: refused(
            "A parameter is wrong.",
            ("INVALID_REQUEST", "limit: Ensure this value is less than or equal to 100."),
        ),
        **ADMINS_ONLY,
    },
    examples=[response({"accounts": [ACCOUNT_ROW], "total": 1, "page": 1, "limit": 50})],
)

create_account = extend_schema(
    operation_id="create_account",
    summary="Add an account of a vendor",
    description="The password is stored encrypted and never given out again.",
    tags=["admin"],
    request=NewAccountSerializer,
    responses={
        201: NewAccountSerializer,
        400: refused("Nothing was stored.", INVALID_VENDOR),
        **ADMINS_ONLY,
        409: refused(
            "The account is there.",
            ("ACCOUNT_EXISTS", "This vendor has an account of this email."),
        ),
    },
    examples=[
        request({"vendor_id": VENDOR, "email": "account@example.com", "password": "••••••••"}),
        response(
            {
                "id": ACCOUNT,
                "vendor_id": VENDOR,
                "email": "account@example.com",
                "is_blocked": False,
                "created_at": "2025-12-02T10:00:00Z",
            }
        ),
    ],
)

get_account = extend_schema(
    operation_id="get_account",
    summary="An account and its use",
    tags=["admin"],
    responses={200: AccountSerializer, **ADMINS_ONLY, **NOT_FOUND},
    examples=[response(ACCOUNT_ROW)],
)

update_account = extend_schema(
    operation_id="update_account",
    summary="Change an account's email or password, set it aside or unblock it",
    description="What is not sent stays as it is. Items that waited for an account go on when one "
    "is unblocked.",
    tags=["admin"],
    request=ChangedAccountSerializer,
    responses={
        200: AccountSerializer,
        400: refused(
            "Nothing was stored.",
            ("INVALID_REQUEST", "blocked is not known here; use email, password, is_blocked."),
        ),
        409: refused(
            "Another account has this email.",
            ("ACCOUNT_EXISTS", "This vendor has an account of this email."),
        ),
        **ADMINS_ONLY,
        **NOT_FOUND,
    },
    examples=[
        request({"email": "account@example.com", "password": "••••••••", "is_blocked": False}),
        response(ACCOUNT_ROW),
    ],
)

delete_account = extend_schema(
    operation_id="delete_account",
    summary="Delete an account",
    description="Refused while it is at work, or when something was added to its cart.",
    tags=["admin"],
    responses={
        204: OpenApiResponse(description="It is gone."),
        409: refused(
            "It is needed.",
            (
                "ACCOUNT_IN_USE",
                "account@example.com is at work, or its cart holds what was added. Set is_blocked "
                "to true to have nothing more added by it.",
            ),
        ),
        **ADMINS_ONLY,
        **NOT_FOUND,
    },
)

delete_vendor = extend_schema(
    operation_id="delete_vendor",
    summary="Delete a vendor, with its accounts",
    description="Refused while items of it are in the queue or in its accounts' carts.",
    tags=["admin"],
    responses={
        204: OpenApiResponse(description="It is gone, and its accounts with it."),
        409: refused(
            "It is needed.",
            (
                "VENDOR_IN_USE",
                "Items of Vendor Co are in the queue or in its accounts' carts. Set can_automate "
                "to false to have nothing more added there.",
            ),
        ),
        **ADMINS_ONLY,
        **NOT_FOUND,
    },
)

"""The OpenAPI side of the checks."""

from drf_spectacular.utils import extend_schema

from accounts.api.schema import ADMINS_ONLY, refused, request, response
from vendors.api.checks_serializers import (
    AccountTestSerializer,
    NewCheckSerializer,
    VendorCheckSerializer,
)
from vendors.api.schema import ACCOUNT

JOB = "0198c0de-7a11-7000-8000-00000000000b"
NONE_YET = {
    404: refused(
        "Nothing has this id, or nothing was asked for yet.",
        ("NOT_FOUND", "There was no check yet; POST here asks for one."),
    )
}
NO_SUCH = {404: refused("Nothing has this id.", ("NOT_FOUND", "There is nothing of this id."))}
WAITS = {
    "success": True,
    "job_id": JOB,
    "status": "pending",
    "url": f"/jobs/{JOB}/",
    "result": None,
    "error_message": None,
    "error_code": None,
}

check_vendor = extend_schema(
    operation_id="check_vendor",
    summary="Try a vendor's data on its live site",
    description="A job looks at the shop as a stranger, logs in, and looks at a product's page and "
    "the cart, adding nothing. Its page shows the progress and a screenshot of each part that did "
    "not fit; GET here has the result. It runs while the vendor is paused, too.",
    tags=["admin"],
    request=NewCheckSerializer,
    responses={
        201: VendorCheckSerializer,
        400: refused(
            "Nothing was started.",
            (
                "FOREIGN_PRODUCT_URL",
                "product_url is not at Vendor Co (vendor.com). Send the full address of one of its "
                "products.",
            ),
            (
                "NO_ACCOUNT",
                "Vendor Co has no account to try its log-in with; add one first.",
            ),
        ),
        **NO_SUCH,
        **ADMINS_ONLY,
    },
    examples=[
        request(
            {
                "product_url": "https://vendor.com/product/123",
                "variant": {"Size": "L"},
                "account_id": ACCOUNT,
            }
        ),
        response(WAITS),
    ],
)

get_vendor_check = extend_schema(
    operation_id="get_vendor_check",
    summary="What the vendor's newest check has found",
    tags=["admin"],
    responses={200: VendorCheckSerializer, **NONE_YET, **ADMINS_ONLY},
    examples=[
        response(
            {
                **WAITS,
                "status": "completed",
                "result": {
                    "passed": False,
                    "failed_keys": ["add_to_cart"],
                    "findings": [
                        {
                            "step": "add_button",
                            "outcome": "failed",
                            "message": "The product page of Vendor Co does not show add_to_cart",
                            "key": "add_to_cart",
                            "selector": ".add-to-cart-btn",
                        }
                    ],
                    "account": "account@example.com",
                },
            }
        )
    ],
)

test_account = extend_schema(
    operation_id="test_account",
    summary="Log in as an account for real",
    description="A job logs in with the stored password, without the saved session, and saves the "
    "new one. If the shop refuses the log-in or has blocked the account, the job fails with that "
    "sentence and the account is set aside. An account that is set aside can be tested too; it "
    "stays set aside until somebody unblocks it.",
    tags=["admin"],
    request=None,
    responses={201: AccountTestSerializer, **NO_SUCH, **ADMINS_ONLY},
    examples=[response(WAITS)],
)

get_account_test = extend_schema(
    operation_id="get_account_test",
    summary="What the account's newest test has found",
    tags=["admin"],
    responses={200: AccountTestSerializer, **NONE_YET, **ADMINS_ONLY},
    examples=[
        response(
            {
                **WAITS,
                "status": "completed",
                "result": {
                    "account": "account@example.com",
                    "logged_in": True,
                    "session_saved": True,
                    "is_blocked": False,
                },
            }
        )
    ],
)

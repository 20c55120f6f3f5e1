"""The OpenAPI side of `setup.py`."""

from typing import Any

from drf_spectacular.utils import OpenApiResponse, extend_schema

from accounts.api.schema import ADMINS_ONLY, refused, request, response
from payments.api.setup_serializers import (
    CardSerializer,
    CardsSerializer,
    SiteAccountSerializer,
    SiteAccountsSerializer,
    SiteSerializer,
    SitesSerializer,
)

SITE = "0198c0de-7a11-7000-8000-0000000051e0"
ACCOUNT = "0198c0de-7a11-7000-8000-00000000acc1"
REDEEMER = "0198c0de-7a11-7000-8000-00000000acc2"
CARD = "0198c0de-7a11-7000-8000-00000000ca4d"
CREATED = {"created_at": "2025-12-02T10:00:00Z"}
TAGS = ["vouchers: set-up"]

SITE_TAKEN = ("SITE_EXISTS", "A site of this kind with this domain exists already.")
SITE_IN_USE = (
    "SITE_IN_USE",
    "There are log-ins at this site. Set is_active to false to have nothing begun there.",
)
ACCOUNT_TAKEN = ("ACCOUNT_EXISTS", "This site has a log-in of this email.")
ACCOUNT_IN_USE = (
    "ACCOUNT_IN_USE",
    "A card uses this log-in. Set is_active to false to have nothing begun with it.",
)
CARD_TAKEN = (
    "CARD_TYPE_TAKEN",
    "Another active card has this type. Give this one a type of its own, or deactivate the other.",
)
CARD_IN_USE = (
    "CARD_IN_USE",
    "Vouchers were bought with this card. Set is_active to false to have none bought any more.",
)


def wrong(*examples: tuple[str, str]) -> dict[int, Any]:
    """Refusals of what is sent, and of who sends it."""
    sentence = "Nothing was stored. `fields` has a sentence for each part that is wrong."
    return {400: refused(sentence, *examples), **ADMINS_ONLY}


def missing(path: str) -> dict[int, Any]:
    sentence = f"There is nothing at {path}; check the id."
    return {404: refused("Nothing has this id.", ("NOT_FOUND", sentence))}


def conflict(code: str, sentence: str) -> dict[int, Any]:
    return {409: refused("Not as things stand; nothing was changed.", (code, sentence))}


GONE = {204: OpenApiResponse(description="It is gone.")}

# ---- sites --------------------------------------------------------------------------------------

SITE_DATA = {
    "kind": "card_page",
    "name": "Card page",
    "domain": "pay.example",
    "data": {
        "allowed_domains": ["bank.example"],
        "otp_service": "amex",
        "selectors": {
            "card_number": "#number",
            "card_expiry": "#expiry",
            "card_cvv": "#cvv",
            "pay_button": "button.pay",
            "code_input": "#otp",
        },
        "texts": {
            "paid": "Payment successful",
            "declined": "declined",
            "link_expired": "link has expired",
        },
    },
    "is_active": True,
}
SITE_ROW = {"id": SITE, **SITE_DATA, **CREATED}
SITE_WRONG = wrong(
    ("INVALID_REQUEST", "data: selectors.pay_button: Give a selector for pay_button."),
)
SITE_EXAMPLES = [request(SITE_DATA), response(SITE_ROW)]

list_sites = extend_schema(
    operation_id="list_payment_sites",
    summary="Portals, card pages and redeeming shops",
    tags=TAGS,
    responses={200: SitesSerializer, **ADMINS_ONLY},
    examples=[response({"sites": [SITE_ROW]})],
)
create_site = extend_schema(
    operation_id="create_payment_site",
    summary="Set a site up",
    description="A site is data: where its pages are, and what their parts look like. "
    "docs/vouchers.md lists the keys of each kind.",
    tags=TAGS,
    request=SiteSerializer,
    responses={201: SiteSerializer, **SITE_WRONG, **conflict(*SITE_TAKEN)},
    examples=SITE_EXAMPLES,
)
update_site = extend_schema(
    operation_id="update_payment_site",
    summary="Change a site",
    description="What is not sent stays as it is; `data` is replaced as a whole.",
    tags=TAGS,
    request=SiteSerializer,
    responses={
        200: SiteSerializer,
        **SITE_WRONG,
        **conflict(*SITE_TAKEN),
        **missing(f"/api/admin/payment-sites/{SITE}"),
    },
    examples=SITE_EXAMPLES,
)
delete_site = extend_schema(
    operation_id="delete_payment_site",
    summary="Delete a site",
    tags=TAGS,
    responses={
        **GONE,
        **ADMINS_ONLY,
        **conflict(*SITE_IN_USE),
        **missing(f"/api/admin/payment-sites/{SITE}"),
    },
)

# ---- log-ins ------------------------------------------------------------------------------------

ACCOUNT_DATA = {
    "site_id": SITE,
    "email": "buyer@team.example",
    "phone_number": "+919876543210",
    "is_active": True,
}
ACCOUNT_ROW = {"id": ACCOUNT, **ACCOUNT_DATA, **CREATED}
ACCOUNT_WRONG = wrong(("INVALID_REQUEST", "password: This field is required."))
ACCOUNT_EXAMPLES = [request({**ACCOUNT_DATA, "password": "••••••••"}), response(ACCOUNT_ROW)]

list_accounts = extend_schema(
    operation_id="list_payment_accounts",
    summary="Log-ins at portals and redeeming shops",
    tags=TAGS,
    responses={200: SiteAccountsSerializer, **ADMINS_ONLY},
    examples=[response({"accounts": [ACCOUNT_ROW]})],
)
create_account = extend_schema(
    operation_id="create_payment_account",
    summary="Add a log-in",
    description="The password is stored encrypted and never given out again.",
    tags=TAGS,
    request=SiteAccountSerializer,
    responses={201: SiteAccountSerializer, **ACCOUNT_WRONG, **conflict(*ACCOUNT_TAKEN)},
    examples=ACCOUNT_EXAMPLES,
)
update_account = extend_schema(
    operation_id="update_payment_account",
    summary="Change a log-in",
    description="What is not sent stays as it is.",
    tags=TAGS,
    request=SiteAccountSerializer,
    responses={
        200: SiteAccountSerializer,
        **ACCOUNT_WRONG,
        **conflict(*ACCOUNT_TAKEN),
        **missing(f"/api/admin/payment-accounts/{ACCOUNT}"),
    },
    examples=ACCOUNT_EXAMPLES,
)
delete_account = extend_schema(
    operation_id="delete_payment_account",
    summary="Delete a log-in",
    tags=TAGS,
    responses={
        **GONE,
        **ADMINS_ONLY,
        **conflict(*ACCOUNT_IN_USE),
        **missing(f"/api/admin/payment-accounts/{ACCOUNT}"),
    },
)

# ---- cards --------------------------------------------------------------------------------------

CARD_DATA = {
    "card_type": "MRCC",
    "label": "Membership Rewards",
    "holder": "A BUYER",
    "phone_number": "+919876543210",
    "otp_service": "amex",
    "portal_account_id": ACCOUNT,
    "redeemer_account_id": REDEEMER,
    "transaction_limit": 10000,
    "currency": "INR",
    "is_active": True,
}
CARD_ROW = {"id": CARD, **CARD_DATA, "last4": "0126", **CREATED}
CARD_WRONG = wrong(
    (
        "CARD_NUMBER_INVALID",
        "number: This is no card's number: its last digit does not fit the others. Compare it with "
        "the card.",
    ),
    (
        "CARD_EXPIRY_INVALID",
        "expiry: Type the card's expiry as MM/YY, such as 08/29.",
    ),
)
CARD_EXAMPLES = [
    request({**CARD_DATA, "number": "•••• •••••• •0126", "expiry": "08/31"}),
    response(CARD_ROW),
]

list_cards = extend_schema(
    operation_id="list_cards",
    summary="Cards, by their last four digits",
    tags=TAGS,
    responses={200: CardsSerializer, **ADMINS_ONLY},
    examples=[response({"cards": [CARD_ROW]})],
)
create_card = extend_schema(
    operation_id="create_card",
    summary="Add a card",
    description="Number and expiry are stored encrypted and never given out again. A CVV is not "
    "stored at all.",
    tags=TAGS,
    request=CardSerializer,
    responses={201: CardSerializer, **CARD_WRONG, **conflict(*CARD_TAKEN)},
    examples=CARD_EXAMPLES,
)
update_card = extend_schema(
    operation_id="update_card",
    summary="Change a card",
    description="What is not sent stays as it is.",
    tags=TAGS,
    request=CardSerializer,
    responses={
        200: CardSerializer,
        **CARD_WRONG,
        **conflict(*CARD_TAKEN),
        **missing(f"/api/admin/cards/{CARD}"),
    },
    examples=CARD_EXAMPLES,
)
delete_card = extend_schema(
    operation_id="delete_card",
    summary="Delete a card",
    tags=TAGS,
    responses={
        **GONE,
        **ADMINS_ONLY,
        **conflict(*CARD_IN_USE),
        **missing(f"/api/admin/cards/{CARD}"),
    },
)

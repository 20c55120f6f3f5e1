"""The sites as data, for whoever automates them: `GET /_sandbox/site`, `GET /_sandbox/codes`.

A description is one that `automation.vouchers.sites` reads, and has no more keys than that; which
key means what is said there. `codes` says how the codes of a site arrive, as rules for one-time
codes have it: who sends them, and a pattern with `code` and `context`. The context is the
reference that the page shows beside the box for the code.
"""

from typing import Any

PORTAL_HOST = "vouchers.localhost"
CARD_PAGE_HOST = "pay.localhost"
BANK_HOST = "bank.localhost"
WALLET_HOST = "wallet.localhost"
PHONE_HOST = "phone.localhost"

LOG_IN_SELECTORS = {
    "email_input": "main form.log-in input[name='email']",
    "password_input": "main form.log-in input[name='password']",
    "login_button": "main form.log-in button[type='submit']",
    "login_error": "main form.log-in .form-error",
    "signed_in": "header form.log-out",
    "blocked": "main .account-suspended",
    "too_many_tries": "main .locked",
    "maintenance": "main.trouble",
}
CODE_SELECTORS = {
    "code_input": "form.one-time-code input[name='code']",
    "code_button": "form.one-time-code button.confirm",
    "code_error": "form.one-time-code .form-error",
    "code_dead": "form.one-time-code .form-error",
    "code_resend": "form.resend button",
    "code_sent_to": ".code-sent-to",
    "code_sent_at": ".code-sent-at",
    "code_context": ".code-context",
}
CODE_TEXTS = {"code_dead": r"has expired|no code to confirm"}


def describe_portal(port: int) -> dict[str, Any]:
    origin = f"http://{PORTAL_HOST}:{port}"
    return {
        "name": "Tokree Vouchers",
        "domain": PORTAL_HOST,
        "allow_private_network": True,
        "otp_service": "tokree",
        "urls": {
            "inventory": f"{origin}/vouchers/bazaar-lane",
            "login": f"{origin}/login",
            "availability": f"{origin}/buy",
            "buy": f"{origin}/buy",
            "orders": f"{origin}/orders",
            "find_orders": f"{origin}/orders?q={{value}}",
        },
        "selectors": {
            **LOG_IN_SELECTORS,
            **CODE_SELECTORS,
            "stock_row": ".denominations li, .availability tr",
            "stock_amount": ".denomination",
            "stock_count": ".stock:not(.stock--out)",
            "stock_sold_out": ".stock--out",
            "amount_input": "form.buy select[name='amount']",
            "reference_input": "form.buy input[name='reference']",
            "buy_button": "form.buy button.create-link",
            "buy_error": "main .flash[data-kind='error']",
            "limit_exceeded": "main .flash[data-kind='error']",
            "out_of_inventory": "main .flash[data-kind='error']",
            "link_url": "main .order a.pay-link",
            "link_order": "main .order .order-number",
            "link_expires": "main .order time.link-expires",
            "order_row": "main .orders .order-row",
            "order_number": ".order-number",
            "order_reference": ".order-reference",
            "order_amount": ".order-amount",
            "order_status": ".order-status",
            "order_link": "a.pay-link",
            "order_expires": "time.link-expires",
            "orders_next": "main nav.pager a[rel='next']",
            "orders_empty": "main .orders-empty",
            "voucher_code": ".voucher__code",
            "voucher_pin": ".voucher__pin",
            "voucher_expires": "time.voucher__expires",
        },
        "texts": {
            **CODE_TEXTS,
            "limit_exceeded": r"Exceeded limit",
            "out_of_inventory": r"out of stock",
            "status_unpaid": r"^Unpaid$",
            "status_processing": r"^Payment in process$",
            "status_paid": r"^Paid$",
            "status_issued": r"^Voucher issued$",
            "status_expired": r"^Link expired$",
            "status_failed": r"^Payment failed$",
        },
    }


def describe_card_page(port: int) -> dict[str, Any]:
    return {
        "name": "Setulane Payments",
        "domain": CARD_PAGE_HOST,
        # The bank asks for the code; from the result the buyer is sent back to the portal.
        "allowed_domains": [BANK_HOST, PORTAL_HOST],
        "allow_private_network": True,
        "otp_service": "sahyadri-bank",
        "selectors": {
            **CODE_SELECTORS,
            "maintenance": "main.trouble",
            "card_number": "form.card input[name='number']",
            "card_expiry": "form.card input[name='expiry']",
            "card_cvv": "form.card input[name='cvv']",
            "card_name": "form.card input[name='holder']",
            "card_error": "form.card .form-error",
            "pay_button": "form.card button.pay-now",
            "processing": ".payment-processing",
            "paid": ".payment-success",  # also at the portal, where the buyer is sent back to
            "paid_reference": ".payment-success .payment-reference",
            "declined": ".payment-declined .reason",
            "link_expired": ".link-is-expired, .link-is-closed, .link-is-unknown",
        },
        "texts": CODE_TEXTS,
    }


def describe_wallet(port: int) -> dict[str, Any]:
    origin = f"http://{WALLET_HOST}:{port}"
    return {
        "name": "Bazaar Lane",
        "domain": WALLET_HOST,
        "allow_private_network": True,
        "otp_service": "bazaar-lane",
        "urls": {
            "login": f"{origin}/login",
            "redeem": f"{origin}/balance/add",
            "history": f"{origin}/balance/history",
            "balance": f"{origin}/balance",
        },
        "selectors": {
            **LOG_IN_SELECTORS,
            **CODE_SELECTORS,
            "voucher_input": "form.redeem input[name='code']",
            "pin_input": "form.redeem input[name='pin']",
            "redeem_button": "form.redeem button.add-to-balance",
            "redeemed": "main .flash[data-kind='success']",
            "redeemed_amount": "main .flash[data-kind='success']",
            "redeem_error": "main .flash[data-kind='error']",
            "voucher_used": "main .flash[data-kind='error']",
            "voucher_invalid": "main .flash[data-kind='error']",
            "voucher_expired": "main .flash[data-kind='error']",
            "balance": ".balance .balance__amount",
            "history_row": "main .history .history-row",
            "history_code": ".history-code",
            "history_amount": ".history-amount",
            "history_at": "time.history-at",
            "history_next": "main nav.pager a[rel='next']",
            "history_empty": "main .history-empty",
        },
        "texts": {
            **CODE_TEXTS,
            "redeemed_amount": r"(₹[\d,]+)",
            "voucher_used": r"already (?:used|added)",
            "voucher_invalid": r"not a gift card code|PIN does not match",
            "voucher_expired": r"gift card expired",
        },
    }


SITES = {
    PORTAL_HOST: ("portal", describe_portal),
    CARD_PAGE_HOST: ("card_page", describe_card_page),
    WALLET_HOST: ("redeemer", describe_wallet),
}
"""By host: what the description is for, and what makes it. The bank's page is the card page's."""

REFERENCE = r"(?:.*?Ref (?P<context>[A-Z0-9]{6}))?"

CODES = {
    PORTAL_HOST: {
        "service": "tokree",
        "sender": "TOKREE",
        "origin": "",
        "pattern": r"\b(?P<code>\d{6}) is your Tokree log-in OTP" + REFERENCE,
    },
    BANK_HOST: {
        "service": "sahyadri-bank",
        "sender": "SHYDRI",
        "origin": "",
        "pattern": r"\b(?P<code>\d{6}) is the OTP for your payment" + REFERENCE,
    },
    WALLET_HOST: {
        "service": "bazaar-lane",
        "sender": "BZLANE",
        # The last line of the message: "@wallet.localhost #123456".
        "origin": WALLET_HOST,
        "pattern": r"\b(?P<code>\d{6}) is your Bazaar Lane code" + REFERENCE,
    },
}
"""By host of who sends: for the rules that find a code in a message and tell whose it is."""

"""What a person can do about a purchase that ended with a code. Its sentence says what happened;
this says where to put it right."""

from payments.models import VoucherPurchase

Status = VoucherPurchase.Status

ADVICE = {
    "limit_exceeded": "Wait for the next month, or buy with another card. Payment links that were "
    "made before expire by themselves.",
    "out_of_inventory": "Buy another amount, or come back when the portal has enough vouchers of "
    "this one.",
    "card_declined": "Ask the bank why, then run the purchase again: what was paid is not paid "
    "again.",
    "payment_keeps_failing": "Look at the evidence in the timeline, and run the purchase again "
    "when the cause is gone: what was paid is not paid again.",
    "unknown_card_page": "Have an admin set up a card page for the host that the payment link "
    "leads to, then run the purchase again.",
    "otp_expired": "Check that the phone forwards its messages, then run the purchase again.",
    "otp_rejected": "Sign in once by hand to see whether the account or the card is blocked, then "
    "run the purchase again.",
    "captcha": "Sign in once by hand, then run the purchase again.",
    "account_blocked": "Sign in by hand to see what the site wants, then run the purchase again.",
    "wrong_credentials": "Have an admin correct the log-in's password, then run the purchase "
    "again.",
    "page_changed": "Have an admin correct the site's description by the screenshot, then run the "
    "purchase again.",
    "maintenance": "Run the purchase again when the site is back: what was paid is not paid again.",
    "voucher_not_issued": "Ask the portal for the voucher of this order. Run the purchase again "
    "once its order page shows it: nothing is paid again.",
    "order_failed": "Ask the portal about this order: it was paid and then failed. Run the "
    "purchase again when that is settled.",
    "voucher_used": "Look at the account's history: if the voucher is there, mark it as redeemed. "
    "If not, ask the portal for another one.",
    "unknown_outcome": "Look at the portal's order page and the account's history, and say in the "
    "inbox what happened.",
}
ANY_FAILURE = (
    "See below what was paid and issued. Run the purchase again when the cause is gone: what was "
    "done is not done twice."
)


def decide_advice(status: str, error_code: str) -> str:
    """Empty where there is nothing to do."""
    if status not in (Status.FAILED, Status.MANUAL):
        return ""
    return ADVICE.get(error_code, ANY_FAILURE)

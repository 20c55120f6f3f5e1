"""What the sites write in their messages, as banks and portals in India write them."""

from automation.sandbox.vouchers.descriptions import WALLET_HOST

NEVER_SHARE = "Never share it, not even with our staff."


def write_portal_code(code: str, context: str, *, minutes: int, reference: bool) -> str:
    ref = f" Ref {context}." if reference else ""
    return f"{code} is your Tokree log-in OTP, valid for {minutes} min.{ref} {NEVER_SHARE} - TOKREE"


def write_payment_code(
    code: str, context: str, *, amount: int, card_tail: str, minutes: int, reference: bool
) -> str:
    ref = f" Ref {context}." if reference else ""
    return (
        f"{code} is the OTP for your payment of INR {amount:,}.00 at TOKREE on Sahyadri Bank card"
        f" XX{card_tail}, valid for {minutes} min.{ref} {NEVER_SHARE} Not you? Call 1800 555 0142"
    )


def write_wallet_code(code: str, context: str, *, reference: bool) -> str:
    """With an origin-bound last line, which browsers and phones can match to the site."""
    ref = f" Ref {context}." if reference else ""
    return (
        f"{code} is your Bazaar Lane code to sign in.{ref} Do not share it.\n\n"
        f"@{WALLET_HOST} #{code}"
    )

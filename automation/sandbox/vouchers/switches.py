"""How each of the sites misbehaves. README.md of the sandbox explains the switches.

What holds for everybody, one account, one card (its last four digits) or one phone: see `Scope` of
the shops' switches, whose `product` names the card here.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SiteSwitches:
    latency_ms: int = 0
    down: bool = False
    fail_next: int = 0
    lose_answers: int = 0
    forget_next: int = 0


@dataclass(frozen=True)
class CodeSwitches:
    """Of the sites that send codes."""

    code_seconds: int = 300
    most_wrong_codes: int = 3
    most_resends: int = 3
    resend_after_seconds: int = 0
    sms_reference: bool = True


@dataclass(frozen=True)
class MemberSwitches(SiteSwitches, CodeSwitches):
    """Of the sites that one logs in to."""

    login_code: bool = True
    lock_seconds: int = 300
    blocked: bool = False


@dataclass(frozen=True)
class PortalSwitches(MemberSwitches):
    inventory: int = 500
    monthly_limit: int = 0
    refuse_links: int = 0
    fail_links: int = 0
    hang_links: int = 0
    hang_seconds: int = 30
    link_delay_ms: int = 0
    link_seconds: int = 900
    processing_seconds: int = 0
    unpaid_lag_seconds: int = 0
    voucher_delay_seconds: int = 1
    voucher_never: bool = False
    issue_used: int = 0
    orders_per_page: int = 20


@dataclass(frozen=True)
class CardPageSwitches(SiteSwitches):
    double_pay_allowed: bool = True
    submit_delay_ms: int = 0
    hang_submits: int = 0
    hang_seconds: int = 30
    most_declined: int = 3
    return_seconds: int = 4


@dataclass(frozen=True)
class BankSwitches(SiteSwitches, CodeSwitches):
    frictionless: bool = False
    decline: Literal["no", "at_once", "after_code"] = "no"
    challenge_seconds: int = 600
    authorise_delay_ms: int = 0
    authorise_after_seconds: int = 0
    hang_codes: int = 0
    hang_seconds: int = 30


@dataclass(frozen=True)
class WalletSwitches(MemberSwitches):
    refuse_codes: Literal["no", "used", "unknown", "expired", "not_active"] = "no"
    redeem_delay_ms: int = 0
    hang_redeems: int = 0
    hang_seconds: int = 30
    history_per_page: int = 20


@dataclass(frozen=True)
class PhoneSwitches(SiteSwitches):
    delay_ms: int = 0
    copies: int = 1
    new_ids: bool = False
    shuffle_ms: int = 0
    wrong: int = 0
    never: bool = False
    lost_first: int = 0
    retry_first_ms: int = 10_000
    most_retries: int = 10

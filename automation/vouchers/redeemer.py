"""The flows at the shop where vouchers become balance: signing in, redeeming, what was redeemed.

A voucher is pressed through once. `before_press` is awaited right before it; whatever but
VoucherRefused is raised after it leaves the outcome open: the history tells it.
"""

from contextlib import aclosing

from automation.errors import VoucherFault, VoucherRefused
from automation.evidence import Mask
from automation.session import BrowserSession
from automation.vouchers.page import Look, Row, SitePage, visit
from automation.vouchers.reading import parse_moment, parse_rupees, read_tail
from automation.vouchers.sign_in import SignIn, open_signed_in
from automation.vouchers.sites import RedeemerSite
from automation.vouchers.states import (
    BeforePress,
    CodeAsked,
    CodeRefused,
    Login,
    Redeemed,
    Redemption,
    SignedIn,
)

PATIENCE = 30.0
"""Seconds for the answer to a press."""

FAULTS: dict[str, VoucherFault] = {
    "voucher_used": "already_used",
    "voucher_expired": "expired",
    "voucher_invalid": "invalid",
    "redeem_error": "other",
}
"""What each sign of a refusal means; the last is whatever the others are not."""

WHAT_TO_DO: dict[VoucherFault, str] = {
    "already_used": "If it is not in the account's history, ask the portal whose it was.",
    "expired": "Ask the portal for another one.",
    "invalid": "Compare code and PIN with the portal's order page.",
    "other": "Try again later, or redeem it by hand.",
}


async def sign_in(
    session: BrowserSession, site: RedeemerSite, login: Login, *, resend: bool = False
) -> SignedIn | CodeAsked:
    """As at the portal."""
    with visit(session, site) as page:
        return await SignIn(page, login).run(resend=resend)


async def give_code(
    session: BrowserSession, site: RedeemerSite, login: Login, code: str
) -> SignedIn | CodeRefused:
    """As at the portal."""
    with visit(session, site) as page:
        return await SignIn(page, login).give_code(code)


async def redeem(
    session: BrowserSession,
    site: RedeemerSite,
    code: str,
    pin: str,
    before_press: BeforePress,
    *,
    patience: float = PATIENCE,
) -> Redeemed:
    """Adds the voucher to the account's balance, with one press. `pin` may be empty.

    Raises SessionLost before the press where the account is not signed in, VoucherRefused where
    the answer is no, and OutcomeOpen where none came.
    """
    with visit(session, site) as page:
        session.phase(f"Redeeming a voucher at {site.name}")
        await open_signed_in(page, site.urls["redeem"])
        await page.fill("voucher_input", code, "The page to redeem on")
        before = await page.look()
        if pin and before.shows("pin_input"):
            await page.fill("pin_input", pin, "The page to redeem on")
        button = await page.require("redeem_button", "The page to redeem on")
        before = await page.look()
        target = page.locate("redeem_button", button)
        await page.press_once(target, "redeem_button", before_press)

        def answered(now: Look) -> bool:
            return any(now.shows_anew(key, before) for key in ("redeemed", *FAULTS))

        now = await page.await_outcome(answered, patience=patience)
        if now.shows_anew("redeemed", before):
            return Redeemed(_rupees(now, "redeemed_amount"), _rupees(now, "balance"))
        raise _refusal(page, now, before, Mask((code, pin)))


async def read_history(session: BrowserSession, site: RedeemerSite) -> tuple[Redemption, ...]:
    """What the account has redeemed, all pages of it, as listed.

    Raises SessionLost where it is not signed in.
    """
    with visit(session, site) as page:
        session.phase(f"Reading what was redeemed at {site.name}")
        await open_signed_in(page, site.urls["history"])
        found: list[Redemption] = []
        async with aclosing(
            page.read_list("history_row", "history_empty", "history_next")
        ) as looks:
            async for look in looks:
                found += _redemptions_in(page, look)
        return tuple(found)


async def read_balance(session: BrowserSession, site: RedeemerSite) -> int:
    """The account's balance in rupees. Raises SessionLost where it is not signed in."""
    with visit(session, site) as page:
        session.phase(f"Reading the balance at {site.name}")
        await open_signed_in(page, site.urls.get("balance") or site.urls["redeem"])
        part = await page.require("balance", "The balance page")
        balance = parse_rupees(part.text)
        if balance is None:
            raise page.page_changed("balance", "The balance is no plain amount in rupees")
        return balance


def _refusal(page: SitePage, look: Look, before: Look, mask: Mask) -> VoucherRefused:
    key = next(key for key in FAULTS if look.shows_anew(key, before))
    kind = FAULTS[key]
    said = look.text(key) or look.text("redeem_error") or "no reason given"
    return VoucherRefused(
        f"{page.site.name} refused the voucher: {mask(said).rstrip('.')}. {WHAT_TO_DO[kind]}",
        kind=kind,
    )


def _rupees(look: Look, key: str) -> int | None:
    part = look.find(key)
    return parse_rupees(part.text) if part else None


def _redemptions_in(page: SitePage, look: Look) -> list[Redemption]:
    """Rows without a code are something else, such as what the balance was spent on."""
    rows = [row for row in look.rows if row.find("history_code")]
    if look.rows and not rows and not page.site.texts.get("history_code"):
        raise page.page_changed("history_code", "No row of the history shows a code")
    return [_redemption_of(page, row) for row in rows]


def _redemption_of(page: SitePage, row: Row) -> Redemption:
    code, amount, at = map(row.find, ("history_code", "history_amount", "history_at"))
    assert code is not None
    rupees = parse_rupees(amount.text) if amount else None
    if rupees is None:
        raise page.page_changed("history_amount", "A row of the history shows no plain amount")
    moment = at and (at.moment or at.text)
    return Redemption(
        code_tail=read_tail(code.text),
        amount=rupees,
        at=parse_moment(moment, page.site.moment_formats, page.site.zone) if moment else None,
    )

"""The shop whose vouchers they are: a balance, codes that are added to it, and their history."""

import asyncio
from collections.abc import Callable, Mapping

from starlette.responses import Response

from automation.sandbox.vouchers.descriptions import WALLET_HOST
from automation.sandbox.vouchers.members import MemberSite
from automation.sandbox.vouchers.sales import NotRedeemed
from automation.sandbox.vouchers.site import Answer, Visit, read_whole, rupees
from automation.sandbox.vouchers.switches import WalletSwitches
from automation.sandbox.vouchers.texts import write_wallet_code

WalletVisit = Visit[WalletSwitches]


class Wallet(MemberSite[WalletSwitches]):
    host = WALLET_HOST
    name = "Bazaar Lane"
    templates = "wallet"
    sender = "JK-BZLANE"
    home_path = "/balance"

    def gets(self) -> Mapping[str, Callable[[WalletVisit], Answer]]:
        return {
            "/": self.home,
            "/balance": self.members_only(self.show_balance),
            "/balance/add": self.members_only(self.show_redeem),
            "/balance/history": self.members_only(self.show_history),
            **self.login_gets(),
        }

    def posts(self) -> Mapping[str, Callable[[WalletVisit], Answer]]:
        return {"/balance/add": self.members_only(self.redeem), **self.login_posts()}

    def write_code(self, code: str, context: str, switches: WalletSwitches) -> str:
        return write_wallet_code(code, context, reference=switches.sms_reference)

    async def home(self, visit: WalletVisit) -> Response:
        return self.render(visit, "home.html")

    async def show_balance(self, visit: WalletVisit) -> Response:
        member = self.member(visit)
        recent = self.sales.list_redeemed(member.email, (0, 3))
        return self.render(visit, "balance.html", member=member, recent=recent)

    async def show_redeem(self, visit: WalletVisit) -> Response:
        return self.render(visit, "redeem.html", member=self.member(visit))

    async def redeem(self, visit: WalletVisit) -> Response:
        """Answers with a redirect to the same page, whose message says what became of it."""
        account, switches = self.member(visit).email, visit.switches
        code, pin = visit.form.get("code", ""), visit.form.get("pin", "")
        await asyncio.sleep(switches.redeem_delay_ms / 1000)
        try:
            if switches.refuse_codes != "no":
                raise self.sales.refuse_redemption(account, code, switches.refuse_codes)
            voucher = self.sales.redeem(account, code, pin)
        except NotRedeemed as refusal:
            message = "error", str(refusal)
        else:
            message = "success", f"{rupees(voucher.amount)} is added to your balance."
        if self.switchboard.take("hang_redeems", visit.scope):
            await asyncio.sleep(switches.hang_seconds)
        return self.redirect_with("/balance/add", *message)

    async def show_history(self, visit: WalletVisit) -> Response:
        query = visit.request.query_params
        page = max(1, read_whole(query.get("page", "")) or 1)
        size = visit.switches.history_per_page
        member = self.member(visit)
        vouchers = self.sales.list_redeemed(member.email, ((page - 1) * size, size + 1))
        return self.render(
            visit,
            "history.html",
            member=member,
            vouchers=vouchers[:size],
            page=page,
            has_more=len(vouchers) > size,
        )

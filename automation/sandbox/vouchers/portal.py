"""The voucher portal: inventory for everybody; buying, orders and vouchers for who is logged in."""

import asyncio
from collections.abc import Callable, Mapping

from starlette.responses import Response

from automation.sandbox.vouchers.descriptions import CARD_PAGE_HOST, PORTAL_HOST
from automation.sandbox.vouchers.members import MemberSite
from automation.sandbox.vouchers.sales import DENOMINATIONS, NotSold
from automation.sandbox.vouchers.site import Answer, Visit, port_of, read_whole, redirect
from automation.sandbox.vouchers.switches import PortalSwitches
from automation.sandbox.vouchers.texts import write_portal_code

MOST_REFERENCE = 60  # letters

PortalVisit = Visit[PortalSwitches]


class Portal(MemberSite[PortalSwitches]):
    host = PORTAL_HOST
    name = "Tokree Vouchers"
    templates = "portal"
    sender = "VM-TOKREE"
    home_path = "/account"

    def gets(self) -> Mapping[str, Callable[[PortalVisit], Answer]]:
        return {
            "/": self.home,
            "/vouchers/bazaar-lane": self.show_inventory,
            "/payments/return": self.show_return,
            "/account": self.members_only(self.show_account),
            "/buy": self.members_only(self.show_buy),
            "/orders": self.members_only(self.list_orders),
            "/orders/{number}": self.members_only(self.show_order),
            **self.login_gets(),
        }

    def posts(self) -> Mapping[str, Callable[[PortalVisit], Answer]]:
        return {"/buy": self.members_only(self.buy), **self.login_posts()}

    def write_code(self, code: str, context: str, switches: PortalSwitches) -> str:
        minutes = max(1, switches.code_seconds // 60)
        return write_portal_code(code, context, minutes=minutes, reference=switches.sms_reference)

    async def home(self, visit: PortalVisit) -> Response:
        return self.render(visit, "home.html", denominations=DENOMINATIONS)

    async def show_inventory(self, visit: PortalVisit) -> Response:
        return self.render(visit, "inventory.html", denominations=DENOMINATIONS)

    async def show_account(self, visit: PortalVisit) -> Response:
        account = self.member(visit)
        left = self.sales.limit_left(account, visit.switches)
        orders = self.sales.list_orders(account.email, page=(0, 5))
        return self.render(visit, "account.html", member=account, limit_left=left, orders=orders)

    async def show_buy(self, visit: PortalVisit) -> Response:
        return self.render(
            visit,
            "buy.html",
            denominations=DENOMINATIONS,
            chosen=visit.request.query_params.get("amount", ""),
            limit_left=self.sales.limit_left(self.member(visit), visit.switches),
        )

    async def buy(self, visit: PortalVisit) -> Response:
        """Make an order with its payment link. Pressed twice, it makes two."""
        amount = read_whole(visit.form.get("amount", ""))
        reference = visit.form.get("reference", "").strip()[:MOST_REFERENCE]
        if self.switchboard.take("fail_links", visit.scope):
            text = "We could not make your payment link just now. Please try again."
            return self.redirect_with("/buy", "error", text)
        await asyncio.sleep(visit.switches.link_delay_ms / 1000)
        try:
            if amount is None:
                raise NotSold("amount", "Please choose the amount of the voucher.")
            if self.switchboard.take("refuse_links", visit.scope):
                raise NotSold("limit", "Exceeded limit: your monthly limit is used up.")
            order = self.sales.make_order(self.member(visit), amount, reference, visit.switches)
        except NotSold as refusal:
            path = f"/buy?amount={amount}" if amount else "/buy"
            return self.redirect_with(path, "error", str(refusal))
        if self.switchboard.take("hang_links", visit.scope):
            await asyncio.sleep(visit.switches.hang_seconds)
        return redirect(f"/orders/{order.number}")

    async def list_orders(self, visit: PortalVisit) -> Response:
        query = visit.request.query_params
        page = max(1, read_whole(query.get("page", "")) or 1)
        wanted = query.get("q", "").strip()
        size = visit.switches.orders_per_page
        orders = self.sales.list_orders(visit.account, wanted, ((page - 1) * size, size + 1))
        return self.render(
            visit,
            "orders.html",
            orders=orders[:size],
            wanted=wanted,
            page=page,
            has_more=len(orders) > size,
            pay_origin=self._pay_origin(visit),
        )

    async def show_order(self, visit: PortalVisit) -> Response:
        order = self.sales.find_order(visit.part("number"), visit.account)
        if order is None:
            return self.show_notice(
                visit, 404, "We don't have that order", "Your orders are all under Orders."
            )
        return self.render(visit, "order.html", order=order, pay_origin=self._pay_origin(visit))

    async def show_return(self, visit: PortalVisit) -> Response:
        """Where the payment page sends the buyer, who may be logged in elsewhere only."""
        number = visit.request.query_params.get("order", "")
        order = self.sales.find_order(number)
        if order is None or order.paid_at is None:
            return redirect("/orders")
        return self.render(visit, "return.html", order=order)

    def _pay_origin(self, visit: PortalVisit) -> str:
        return f"http://{CARD_PAGE_HOST}:{port_of(visit.request)}"

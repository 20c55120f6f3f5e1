"""Are there enough vouchers? Asked before anybody signs in, and once more as the account."""

from datetime import timedelta

from automation.session import BrowserSession, SessionSpec
from automation.vouchers import portal
from automation.vouchers.sites import PortalSite
from automation.vouchers.states import Inventory
from jobs.context import StepContext
from jobs.errors import BusinessError
from jobs.plans import Done, Outcome
from payments.models import VoucherPurchase
from payments.steps.desk import FLOW_TIME, network_of
from payments.steps.outcomes import voucher_step
from payments.steps.rows import PAID, get_purchase, portal_desk
from vendors import browsing


@voucher_step("inventory_check", time_limit=timedelta(seconds=90))
def inventory_check(context: StepContext) -> Outcome:
    purchase = get_purchase(context)
    needed = count_needed(purchase)
    if not needed:
        return Done({"needed": 0})
    site = purchase.card.portal_account.site.site()
    assert isinstance(site, PortalSite)

    async def look(session: BrowserSession) -> Inventory:
        return await portal.read_inventory(session, site, int(purchase.amount))

    inventory = browsing.get_browser_host().run(
        look,
        SessionSpec(key=f"inventory-{context.claim.id}", network=network_of(site)),
        timeout=FLOW_TIME,
        stop=context.stop,
        on_phase=browsing.PhaseReporter(context),
    )
    return _decide(purchase, inventory, needed)


@voucher_step("availability_check", time_limit=timedelta(seconds=180))
def availability_check(context: StepContext) -> Outcome:
    purchase = get_purchase(context)
    needed = count_needed(purchase)
    if not needed:
        return Done({"needed": 0})
    desk = portal_desk(context, purchase)

    async def look(session: BrowserSession) -> Inventory:
        return await portal.read_availability(session, desk.site, int(purchase.amount))

    return _decide(purchase, desk.visit(look), needed)


def count_needed(purchase: VoucherPurchase) -> int:
    """How many are still to be paid: fewer than were asked for, when it is run again."""
    return purchase.transactions.exclude(status__in=PAID).count()


def _decide(purchase: VoucherPurchase, inventory: Inventory, needed: int) -> Done:
    if inventory.suffices(needed):
        return Done({"needed": needed, "available": inventory.available})
    left = inventory.available or "no"
    raise BusinessError(
        "out_of_inventory",
        f"The portal has {left} {purchase.money} vouchers left, and {needed} are needed. Buy "
        "fewer, buy another amount, or try again when there are more.",
    )

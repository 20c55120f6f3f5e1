"""The voucher flows in a real browser against the sandbox, compared with the sandbox's ledger."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from automation.errors import (
    AccountBlocked,
    LimitExceeded,
    OutcomeOpen,
    OutOfInventory,
    RateLimited,
    SessionLost,
    SiteError,
    SiteTimeout,
    UnderMaintenance,
    VoucherRefused,
    WrongCredentials,
)
from automation.guard import NetworkPolicy
from automation.host import BrowserHost
from automation.parking import Parking
from automation.session import SessionSpec
from automation.vouchers import card_page, portal, redeemer
from automation.vouchers.states import (
    CardForm,
    CodeAsked,
    CodeRefused,
    Declined,
    Inventory,
    LinkExpired,
    Login,
    Paid,
    Processing,
    Redeemed,
    SignedIn,
)
from tests.automation.test_sandbox import sandbox_process
from tests.automation.voucher_world import World, browse

pytestmark = pytest.mark.browser

LIMIT = timedelta(seconds=60)


@pytest.fixture(scope="module")
def running_world(tmp_path_factory):
    with sandbox_process(tmp_path_factory.mktemp("sandbox") / "ledger.sqlite3") as (_, url):
        world = World(url)
        yield world
        world.close()


@pytest.fixture
def world(running_world):
    yield running_world
    running_world.reset()


@pytest.fixture
def person(world):
    return world.open_person()


@pytest.fixture
def visit(world, shared_host, person):
    """Runs a flow function with further arguments in a new browser of the person."""
    return Visitor(world, shared_host, person)


class Visitor:
    def __init__(self, world, host, person):
        self.world = world
        self.host = host
        self.person = person
        self.presses = []
        self.states = {}

    async def before_press(self):
        self.presses.append("pressed")

    def at(self, site, flow):
        """The flow in a browser that has what the person's last flow at the site has left."""

        async def play(session):
            result = await flow(session)
            self.states[site.domain] = await session.storage_state()
            return result

        return browse(self.host, site, play, storage_state=self.states.get(site.domain))

    def signs_in(self, name):
        """At `portal` or `redeemer`, without a code."""
        site = getattr(self.world, name)
        control = {"portal": "vouchers", "redeemer": "wallet"}[name]
        self.states[site.domain] = self.world.log_in(control, self.person)

    def makes_link(self, reference="ref-1", amount=1500):
        site = self.world.portal
        return self.at(site, lambda s: portal.create_link(s, site, amount, reference))

    def reads_orders(self, **wanted):
        site = self.world.portal
        return self.at(site, lambda s: portal.read_orders(s, site, **wanted))

    def redeems(self, voucher, **options):
        site = self.world.redeemer
        code, pin = voucher["code"], voucher["pin"]
        return self.at(
            site, lambda s: redeemer.redeem(s, site, code, pin, self.before_press, **options)
        )

    async def opens_payment(self, session, link, card=None, **options):
        site = self.world.card_page
        assert await card_page.open_link(session, site, link.url) == CardForm()
        card = card or self.person.card
        return await card_page.pay(session, site, card, self.before_press, **options)

    async def gives_code(self, session, code=None, **options):
        code = code or self.world.last_code("bank", phone=self.person.phone)
        site = self.world.card_page
        return await card_page.give_code(session, site, code, self.before_press, **options)

    def pays(self, flow):
        return browse(self.host, self.world.card_page, flow)

    def payments(self, link):
        return self.world.actions("pay", order_number=link.order) + self.world.actions(
            "bank", order_number=link.order
        )


@pytest.fixture
def link(world, person):
    return world.make_link(person, "ref-1")


def wrong(code):
    return f"{(int(code) + 1) % 10**6:06}"


# ---- the whole way ------------------------------------------------------------------------------


def test_a_voucher_is_bought_paid_and_redeemed_once(world, visit, person):
    world.switch("vouchers", voucher_delay_seconds=0)

    async def buy(session):
        asked = await portal.sign_in(session, world.portal, person.login)
        code = world.last_code("vouchers", account=person.email)
        signed_in = await portal.give_code(session, world.portal, person.login, code)
        return asked, signed_in, await portal.create_link(session, world.portal, 1500, "ref-1")

    async def pay(session):
        asked = await visit.opens_payment(session, link)
        return asked, await visit.gives_code(session)

    asked, signed_in, link = visit.at(world.portal, buy)
    asked_to_pay, paid = visit.pays(pay)
    (order,) = visit.reads_orders(wanted={"ref-1"})
    visit.signs_in("redeemer")
    redeemed = visit.redeems({"code": order.voucher.code, "pin": order.voucher.pin})

    assert (asked.sent_to, signed_in) == (f"+91 XXXXXX{person.phone[-4:]}", SignedIn())
    assert asked.sent_at < link.expires_at
    assert isinstance(asked_to_pay, CodeAsked)
    assert asked_to_pay.context not in ("", asked.context)
    assert isinstance(paid, Paid)
    assert (order.order, order.reference, order.amount) == (link.order, "ref-1", 1500)
    assert (order.status, order.voucher.amount) == ("issued", 1500)
    assert redeemed == Redeemed(1500, 1500)
    assert visit.presses == ["pressed"] * 3  # the card, its code, the voucher
    truth = world.controls["vouchers"].ask("truth", account=person.email)
    assert [(each["payments"], each["redemptions"]) for each in truth["orders"]] == [(1, 1)]


# ---- the inventory ------------------------------------------------------------------------------


def test_the_inventory_is_read_without_an_account(world, visit):
    def read(amount):
        return visit.at(world.portal, lambda s: portal.read_inventory(s, world.portal, amount))

    in_stock, not_sold = read(1500), read(1234)
    world.switch("vouchers", inventory=0)
    sold_out = read(1500)

    assert (in_stock, not_sold, sold_out) == (Inventory(500), Inventory(0), Inventory(0))
    assert in_stock.suffices(500)
    assert not in_stock.suffices(501)


def test_a_portal_that_is_down_says_so_in_its_own_words(world, visit):
    world.switch("vouchers", down=True)

    with pytest.raises(UnderMaintenance, match="Something went wrong"):
        visit.at(world.portal, lambda s: portal.read_inventory(s, world.portal, 1500))


def test_availability_is_for_who_is_signed_in(world, visit):
    def read():
        return visit.at(world.portal, lambda s: portal.read_availability(s, world.portal, 1500))

    with pytest.raises(SessionLost):
        read()
    visit.signs_in("portal")

    assert read() == Inventory(500)


# ---- signing in ---------------------------------------------------------------------------------


def test_a_page_from_before_does_not_count_as_being_signed_in(world, visit, person):
    world.switch("vouchers", account=person.email, login_code=False)

    async def play(session):
        first = await portal.sign_in(session, world.portal, person.login)
        world.controls["vouchers"].post("/_sandbox/expire", json={"account": person.email})
        return first, await portal.sign_in(session, world.portal, person.login)

    assert visit.at(world.portal, play) == (SignedIn(), SignedIn())
    assert world.actions("vouchers", account=person.email) == ["log_in", "log_in"]


def codes_sent(world, person):
    return world.actions("vouchers", account=person.email).count("code_sent")


def test_a_site_that_knows_us_is_not_signed_in_to_again(world, visit, person):
    visit.signs_in("portal")

    state = visit.at(world.portal, lambda s: portal.sign_in(s, world.portal, person.login))

    assert state == SignedIn()
    assert world.actions("vouchers", account=person.email) == ["log_in"]


def test_no_other_code_is_asked_for_while_one_is_awaited(world, visit, person):
    async def play(session):
        first = await portal.sign_in(session, world.portal, person.login)
        again = await portal.sign_in(session, world.portal, person.login)
        sent_without_asking = codes_sent(world, person)
        resent = await portal.sign_in(session, world.portal, person.login, resend=True)
        return first, again, sent_without_asking, resent

    first, again, sent_without_asking, resent = visit.at(world.portal, play)

    assert first == again
    assert sent_without_asking == 1
    assert codes_sent(world, person) == 2
    assert resent.sent_at > first.sent_at


def test_a_wrong_code_may_be_followed_by_the_right_one(world, visit, person):
    async def play(session):
        await portal.sign_in(session, world.portal, person.login)
        code = world.last_code("vouchers", account=person.email)
        first = await portal.give_code(session, world.portal, person.login, wrong(code))
        second = await portal.give_code(session, world.portal, person.login, wrong(code))
        return first, second, await portal.give_code(session, world.portal, person.login, code)

    first, second, third = visit.at(world.portal, play)

    assert first == CodeRefused("That code is not right. 2 attempts left.", may_try_again=True)
    assert second == CodeRefused("That code is not right. 1 attempt left.", may_try_again=True)
    assert third == SignedIn()


def test_a_code_that_came_too_late_has_the_next_sign_in_ask_for_another(world, visit, person):
    world.switch("vouchers", code_seconds=0)

    async def play(session):
        await portal.sign_in(session, world.portal, person.login)
        code = world.last_code("vouchers", account=person.email)
        late = await portal.give_code(session, world.portal, person.login, code)
        world.switch("vouchers", code_seconds=300)
        asked = await portal.sign_in(session, world.portal, person.login)
        code = world.last_code("vouchers", account=person.email)
        return late, asked, await portal.give_code(session, world.portal, person.login, code)

    late, asked, signed_in = visit.at(world.portal, play)

    assert late == CodeRefused("That code has expired. Ask for a new one.", may_try_again=False)
    assert not asked.is_over
    assert (codes_sent(world, person), signed_in) == (2, SignedIn())


def test_too_many_wrong_codes_are_a_limit_and_no_refused_password(world, visit, person):
    world.switch("vouchers", most_wrong_codes=1)

    async def play(session):
        await portal.sign_in(session, world.portal, person.login)
        code = world.last_code("vouchers", account=person.email)
        await portal.give_code(session, world.portal, person.login, wrong(code))

    with pytest.raises(RateLimited, match="tried too often"):
        visit.at(world.portal, play)


def test_a_code_that_is_asked_for_too_soon_is_a_limit(world, visit, person):
    world.switch("vouchers", resend_after_seconds=60)

    async def play(session):
        await portal.sign_in(session, world.portal, person.login)
        await portal.sign_in(session, world.portal, person.login, resend=True)

    with pytest.raises(RateLimited, match="sent no other code: Please wait"):
        visit.at(world.portal, play)
    assert codes_sent(world, person) == 1


def test_a_code_for_a_browser_that_waits_for_none_is_not_typed(world, visit, person):
    with pytest.raises(SessionLost, match="Sign in again"):
        visit.at(world.portal, lambda s: portal.give_code(s, world.portal, person.login, "123456"))
    assert world.actions("vouchers", account=person.email) == []


def test_a_refused_password_is_said_without_the_password(world, visit, person):
    login = Login(person.email, "wrong-Password")

    with pytest.raises(WrongCredentials, match="E-mail or password is wrong") as refused:
        visit.at(world.portal, lambda s: portal.sign_in(s, world.portal, login))
    assert "wrong-Password" not in str(refused.value)
    assert world.actions("vouchers", account=person.email) == ["log_in_failed"]


def test_a_suspended_account_is_blocked(world, visit, person):
    world.switch("vouchers", account=person.email, blocked=True)

    with pytest.raises(AccountBlocked, match="Account suspended"):
        visit.at(world.portal, lambda s: portal.sign_in(s, world.portal, person.login))


def test_the_redeemer_is_signed_in_to_alike(world, visit, person):
    async def play(session):
        asked = await redeemer.sign_in(session, world.redeemer, person.login)
        code = world.last_code("wallet", account=person.email)
        return asked, await redeemer.give_code(session, world.redeemer, person.login, code)

    asked, signed_in = visit.at(world.redeemer, play)

    assert asked.sent_to.endswith(person.phone[-4:])
    assert signed_in == SignedIn()


# ---- payment links ------------------------------------------------------------------------------


def test_a_link_of_the_same_reference_is_made_once(world, visit):
    visit.signs_in("portal")
    link = visit.makes_link()
    again = visit.makes_link()
    other = visit.makes_link("ref-2")

    assert again == link
    assert other.order != link.order
    made = world.actions("vouchers", account=visit.person.email).count("link_made")
    assert made == 2


def test_an_expired_link_is_made_anew(world, visit):
    visit.signs_in("portal")
    world.switch("vouchers", link_seconds=0)
    with pytest.raises(SiteError, match="no payment link"):
        visit.makes_link()  # it is over before it is shown
    world.switch("vouchers", link_seconds=900)

    assert visit.makes_link().order
    made = world.actions("vouchers", account=visit.person.email).count("link_made")
    assert made == 2


def test_an_exceeded_limit_ends_the_probe(world, visit):
    visit.signs_in("portal")
    world.switch("vouchers", refuse_links=1)

    with pytest.raises(LimitExceeded, match="Exceeded limit"):
        visit.makes_link()
    assert visit.makes_link("ref-2").order


def test_an_amount_that_is_sold_out_or_unknown_makes_no_link(world, visit):
    visit.signs_in("portal")
    with pytest.raises(OutOfInventory, match="₹1,234"):
        visit.makes_link(amount=1234)
    world.switch("vouchers", inventory=0)
    with pytest.raises(OutOfInventory, match="out of stock"):
        visit.makes_link()


def test_a_link_that_could_not_be_made_is_the_sites_error(world, visit):
    visit.signs_in("portal")
    world.switch("vouchers", fail_links=1)

    with pytest.raises(SiteError, match="could not make your payment link"):
        visit.makes_link()
    assert visit.makes_link().order


def test_a_link_whose_answer_was_late_is_found_by_its_reference(world, visit, monkeypatch):
    monkeypatch.setattr(portal, "ANSWER_PATIENCE", 0.5)
    visit.signs_in("portal")
    world.switch("vouchers", hang_links=1, hang_seconds=3)

    with pytest.raises(SiteTimeout):
        visit.makes_link()
    monkeypatch.undo()
    assert visit.makes_link().url
    made = world.actions("vouchers", account=visit.person.email).count("link_made")
    assert made == 1


# ---- orders -------------------------------------------------------------------------------------


def test_orders_are_read_over_all_pages(world, visit):
    world.switch("vouchers", orders_per_page=2)
    visit.signs_in("portal")
    links = [world.make_link(visit.person, f"ref-{number}") for number in range(5)]

    orders = visit.reads_orders()
    found = visit.reads_orders(wanted={"ref-1", links[0].order})
    seen = read_without_search(world, visit, wanted={"ref-4", links[3].order})

    assert [each.reference for each in orders] == ["ref-4", "ref-3", "ref-2", "ref-1", "ref-0"]
    assert {each.order: each.link for each in orders} == {each.order: each.url for each in links}
    assert {each.status for each in orders} == {"unpaid"}
    assert {each.reference for each in found} == {"ref-0", "ref-1"}
    assert {each.reference for each in seen} == {"ref-3", "ref-4"}


def read_without_search(world, visit, wanted):
    """Both are on the first page of the list, so that no other is opened."""
    urls = {key: url for key, url in world.portal.urls.items() if key != "find_orders"}
    site = replace(world.portal, urls=urls)
    visited = []

    async def flow(session):
        session.page.on("framenavigated", lambda frame: visited.append(frame.url))
        return await portal.read_orders(session, site, wanted=wanted)

    found = visit.at(site, flow)
    assert visited == [urls["orders"]]
    return found


def test_no_orders_are_none(visit):
    visit.signs_in("portal")

    assert visit.reads_orders() == ()
    assert visit.reads_orders(wanted={"ref-1"}) == ()


def test_a_forgotten_session_is_lost_and_not_an_empty_list(world, visit, person):
    visit.signs_in("portal")
    world.controls["vouchers"].post("/_sandbox/expire", json={"account": person.email})

    with pytest.raises(SessionLost):
        visit.reads_orders()


def test_a_voucher_is_in_no_text_of_its_order(world, visit, link):
    world.switch("vouchers", voucher_delay_seconds=0)

    async def pay(session):
        await visit.opens_payment(session, link)
        return await visit.gives_code(session)

    visit.pays(pay)
    visit.signs_in("portal")
    (order,) = visit.reads_orders()

    (entry,) = world.controls["vouchers"].ask("orders", account=visit.person.email)["orders"]
    assert (order.voucher.code, order.voucher.pin) == (
        entry["voucher"]["code"],
        entry["voucher"]["pin"],
    )
    assert order.voucher.expires.isoformat() == entry["voucher"]["expires_on"]
    assert order.voucher.code not in repr(order)
    assert order.voucher.pin not in repr(order)


# ---- paying -------------------------------------------------------------------------------------


def test_a_card_that_needs_no_code_is_paid_at_once(world, visit, link):
    world.switch("bank", frictionless=True)

    state = visit.pays(lambda s: visit.opens_payment(s, link))

    assert isinstance(state, Paid)
    assert visit.payments(link).count("payment_authorised") == 1


@pytest.mark.parametrize("when", ["at_once", "after_code"])
def test_a_declined_card_says_why(world, visit, link, when):
    world.switch("bank", decline=when)

    async def pay(session):
        state = await visit.opens_payment(session, link)
        return await visit.gives_code(session) if isinstance(state, CodeAsked) else state

    assert visit.pays(pay) == Declined("Your bank declined this payment.")
    assert "payment_authorised" not in visit.payments(link)


def test_a_card_that_the_form_refuses_never_reached_the_bank(world, visit, link):
    card = replace(visit.person.card, expires_year=2020)

    state = visit.pays(lambda s: visit.opens_payment(s, link, card))

    assert state == Declined("This card has expired. Please use another one.")
    assert visit.payments(link) == []


def test_a_payment_that_is_made_is_not_made_again(world, visit, link):
    world.switch("bank", frictionless=True)

    async def pay_twice(session):
        await visit.opens_payment(session, link)
        site, card = world.card_page, visit.person.card
        opened = await card_page.open_link(session, site, link.url)
        return opened, await card_page.pay(session, site, card, visit.before_press)

    opened, again = visit.pays(pay_twice)

    assert isinstance(opened, Paid)
    assert again == opened
    assert visit.presses == ["pressed"]


def test_an_expired_link_is_not_pressed(world, visit):
    world.switch("vouchers", link_seconds=0)
    expired = world.make_link(visit.person, "ref-1")

    async def pay(session):
        site, card = world.card_page, visit.person.card
        opened = await card_page.open_link(session, site, expired.url)
        return opened, await card_page.pay(session, site, card, visit.before_press)

    assert visit.pays(pay) == (LinkExpired(), LinkExpired())
    assert visit.presses == []


def test_a_step_that_may_not_go_on_presses_nothing(world, visit, link):
    class LeaseLost(Exception):
        pass

    async def refuse():
        raise LeaseLost

    async def pay(session):
        await card_page.open_link(session, world.card_page, link.url)
        await card_page.pay(session, world.card_page, visit.person.card, refuse)

    with pytest.raises(LeaseLost):
        visit.pays(pay)
    assert visit.payments(link) == []


def test_a_wrong_payment_code_counts_and_the_right_one_pays(world, visit, link):
    async def pay(session):
        await visit.opens_payment(session, link)
        code = world.last_code("bank", phone=visit.person.phone)
        refused = await visit.gives_code(session, wrong(code))
        looked = await card_page.look(session, world.card_page)
        return refused, looked, await visit.gives_code(session, code)

    refused, looked, paid = visit.pays(pay)

    assert refused == CodeRefused("That code is not right. 2 attempts left.", may_try_again=True)
    assert isinstance(looked, CodeAsked)
    assert isinstance(paid, Paid)


def test_too_many_wrong_payment_codes_decline(world, visit, link):
    world.switch("bank", most_wrong_codes=1)

    async def pay(session):
        await visit.opens_payment(session, link)
        return await visit.gives_code(session, wrong(world.last_code("bank")))

    assert visit.pays(pay) == Declined("The code was wrong too often.")


def test_another_payment_code_makes_the_first_worthless(world, visit, link):
    async def pay(session):
        first = await visit.opens_payment(session, link)
        old = world.last_code("bank", phone=visit.person.phone)
        second = await card_page.ask_again(session, world.card_page)
        refused = await visit.gives_code(session, old)
        return first, second, refused, await visit.gives_code(session)

    first, second, refused, paid = visit.pays(pay)

    assert second.sent_at > first.sent_at
    assert refused.may_try_again
    assert isinstance(paid, Paid)


def test_a_late_payment_code_needs_another(world, visit, link):
    world.switch("bank", code_seconds=0)

    async def pay(session):
        await visit.opens_payment(session, link)
        refused = await visit.gives_code(session)
        world.switch("bank", code_seconds=300)
        looked = await card_page.look(session, world.card_page)
        await card_page.ask_again(session, world.card_page)
        return refused, looked, await visit.gives_code(session)

    refused, looked, paid = visit.pays(pay)

    assert not refused.may_try_again
    assert looked.is_over
    assert isinstance(paid, Paid)


def test_a_card_whose_answer_is_late_leaves_the_outcome_open(world, visit, link):
    world.switch("pay", hang_submits=1, hang_seconds=2)

    async def pay(session):
        with pytest.raises(OutcomeOpen, match="looked up"):
            await visit.opens_payment(session, link, patience=0.5)
        return await card_page.look(session, world.card_page)

    assert isinstance(visit.pays(pay), CodeAsked)
    assert visit.presses == ["pressed"]


@pytest.mark.parametrize("site", ["pay", "bank"])
def test_a_payment_whose_answer_is_lost_leaves_the_outcome_open(world, visit, link, site):
    async def pay(session):
        if site == "pay":
            world.switch("pay", lose_answers=1)
        await visit.opens_payment(session, link)
        world.switch("bank", lose_answers=1)
        await visit.gives_code(session)

    with pytest.raises(OutcomeOpen, match="looked up"):
        visit.pays(pay)
    paid = visit.payments(link).count("payment_authorised")
    assert paid == (1 if site == "bank" else 0)


def test_a_payment_under_way_is_looked_at_until_it_is_paid(world, visit, link):
    world.switch("bank", authorise_after_seconds=2)

    async def pay(session):
        await visit.opens_payment(session, link)
        first = await visit.gives_code(session, patience=0.5)
        while isinstance(last := await card_page.look(session, world.card_page), Processing):
            await session.page.wait_for_timeout(100)
        return first, last

    first, last = visit.pays(pay)

    assert first == Processing()
    assert isinstance(last, Paid)


def test_a_new_browser_has_no_payment_page(world, visit):
    with pytest.raises(SessionLost, match="open the link"):
        visit.pays(lambda s: card_page.look(s, world.card_page))


# ---- in browsers that outlive their worker ------------------------------------------------------


@pytest.fixture
def parking_folder(tmp_path):
    folder = tmp_path / "parking"
    yield folder
    with BrowserHost(parking_folder=folder) as host:
        for key in ("payment", "portal"):
            host.end_parked(key)


def parked(site, key, storage_state=None):
    network = NetworkPolicy((site.domain, *site.allowed_domains), allow_private=True)
    return Parking(SessionSpec(key, network, storage_state), timedelta(minutes=1))


def test_a_code_is_typed_where_another_worker_has_paid(world, visit, link, parking_folder):
    payment = parked(world.card_page, "payment")

    async def open_again_and_give_code(session):
        state = await card_page.open_link(session, world.card_page, link.url)
        return session.is_new, state, await visit.gives_code(session)

    with BrowserHost(parking_folder=parking_folder) as host:
        asked = host.run_parked(lambda s: visit.opens_payment(s, link), payment, timeout=LIMIT)
    with BrowserHost(parking_folder=parking_folder) as host:
        is_new, found, paid = host.run_parked(open_again_and_give_code, payment, timeout=LIMIT)

    assert (is_new, found) == (False, asked)
    assert isinstance(paid, Paid)
    assert visit.payments(link).count("payment_authorised") == 1


def test_links_are_made_side_by_side_in_tabs(world, visit, parking_folder):
    site = world.portal
    spec = parked(site, "portal", world.log_in("vouchers", visit.person))

    def make(reference):
        def flow(session):
            return portal.create_link(session, site, 1500, reference)

        return host.run_parked(flow, spec, timeout=LIMIT, tab=True)

    with BrowserHost(parking_folder=parking_folder) as host, ThreadPoolExecutor() as threads:
        links = list(threads.map(make, ["ref-1", "ref-2", "ref-3"]))

    made = {each["order"]: each["reference"] for each in orders_of(world, visit.person)}
    assert made == {each.order: f"ref-{number}" for number, each in enumerate(links, start=1)}


def orders_of(world, person):
    return world.controls["vouchers"].ask("orders", account=person.email)["orders"]


# ---- redeeming ----------------------------------------------------------------------------------


def test_a_redeemed_voucher_is_in_history_and_balance(world, visit):
    world.switch("wallet", history_per_page=1)
    vouchers = [world.give_voucher(1500), world.give_voucher(500)]
    visit.signs_in("redeemer")

    redeemed = [visit.redeems(each) for each in vouchers]
    history, balance = visit.at(world.redeemer, lambda s: read_both(s, world.redeemer))

    assert redeemed == [Redeemed(1500, 1500), Redeemed(500, 2000)]
    assert balance == 2000
    assert [each.amount for each in history] == [500, 1500]
    assert history[1].is_of(vouchers[0]["code"])
    assert not history[1].is_of(vouchers[1]["code"])


async def read_both(session, site):
    return await redeemer.read_history(session, site), await redeemer.read_balance(session, site)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("used", "already_used"),
        ("unknown", "invalid"),
        ("expired", "expired"),
        ("not_active", "other"),
    ],
)
def test_a_refused_voucher_says_why_and_not_which(world, visit, fault, kind):
    voucher = world.give_voucher(1500)
    visit.signs_in("redeemer")
    world.switch("wallet", refuse_codes=fault)

    with pytest.raises(VoucherRefused) as refused:
        visit.redeems(voucher)
    assert refused.value.kind == kind
    assert voucher["code"] not in str(refused.value)
    history, balance = visit.at(world.redeemer, lambda s: read_both(s, world.redeemer))
    assert (history, balance) == ((), 0)


def test_a_voucher_pressed_twice_was_already_used(world, visit):
    voucher = world.give_voucher(1500)
    visit.signs_in("redeemer")
    visit.redeems(voucher)

    with pytest.raises(VoucherRefused) as refused:
        visit.redeems(voucher)
    assert refused.value.kind == "already_used"


def test_a_redemption_whose_answer_is_late_is_found_in_the_history(world, visit):
    voucher = world.give_voucher(1500)
    visit.signs_in("redeemer")
    world.switch("wallet", hang_redeems=1, hang_seconds=2)

    with pytest.raises(OutcomeOpen, match="looked up"):
        visit.redeems(voucher, patience=0.5)
    history, balance = visit.at(world.redeemer, lambda s: read_both(s, world.redeemer))

    assert [each.is_of(voucher["code"]) for each in history] == [True]
    assert balance == 1500


def test_who_is_not_signed_in_redeems_nothing(world, visit):
    with pytest.raises(SessionLost):
        visit.redeems(world.give_voucher(1500))
    assert visit.presses == []

"""Pages as other portals, payment pages and shops build them: each is data to the same flows."""

import pytest

from automation.errors import (
    CaptchaSeen,
    OutcomeOpen,
    PageChanged,
    RateLimited,
    SiteError,
    UnderMaintenance,
)
from automation.vouchers import card_page, page, portal, redeemer
from automation.vouchers.sites import KINDS
from automation.vouchers.states import (
    Card,
    CardForm,
    CodeAsked,
    CodeRefused,
    Declined,
    Inventory,
    Login,
    Paid,
    Redemption,
    SignedIn,
)
from tests.automation import little_site
from tests.automation.voucher_world import browse

pytestmark = pytest.mark.browser

LOGIN = Login("buyer@office.example", "right-Password")
CARD = Card("4532000000000017", 9, 2031, "123", "A Holder")
CODE = "482913"

FORM = """<form action=/welcome><input name=email><input name=password type=password>
<button class=log-in>Go</button></form>"""
WELCOME = "<p class=who>Hello buyer@office.example</p>"


def Page(body, *args):  # noqa: N802 - a page of the little site, which names no charset
    return little_site.Page(f"<meta charset=utf-8>{body}", *args)


def describe_portal(site, *, selectors=None, texts=None, **urls):
    return {
        "name": "Portal",
        "domain": "shop.localhost",
        "allow_private_network": True,
        "urls": {
            "inventory": site.url("/stock"),
            "login": site.url("/login"),
            "buy": site.url("/buy"),
            "orders": site.url("/orders"),
            **urls,
        },
        "selectors": {
            "email_input": "input[name=email]",
            "password_input": "input[name=password]",
            "login_button": "button.log-in",
            "signed_in": ".who",
            "code_input": "input.code",
            "captcha": ".captcha",
            "stock_row": "li",
            "amount_input": "[name=amount]",
            "buy_button": "button.buy",
            "link_url": "a.pay",
            "link_order": ".number",
            "order_row": "tr",
            "order_number": ".number",
            "order_amount": ".amount",
            "order_status": ".status",
            "orders_next": ".next",
            "voucher_code": ".code",
            "voucher_pin": ".pin",
            **(selectors or {}),
        },
        "texts": {
            "stock_amount": r"₹[\d,]+",
            "stock_count": r"(\d+) left",
            "stock_sold_out": r"sold out",
            "limit_exceeded": r"limit is used up",
            "maintenance": r"back at \d+",
            "status_unpaid": "^open$",
            "status_paid": "^paid$",
            "status_issued": "^sent$",
            **(texts or {}),
        },
    }


def describe_card_page(site, *, selectors=None, allowed_domains=()):
    return {
        "name": "Payments",
        "domain": "shop.localhost",
        "allowed_domains": list(allowed_domains),
        "allow_private_network": True,
        "selectors": {
            "card_number": "input.number",
            "card_expiry": "input.expiry",
            "card_cvv": "input.cvv",
            "pay_button": "//button[text()='Pay']",
            "code_input": "input.digit",
            "code_error": ".code-error",
            **(selectors or {}),
        },
        "texts": {"paid": r"payment (P\d+)", "paid_reference": r"payment (P\d+)"}
        | {"declined": "was declined", "link_expired": "link is over"},
    }


class Browser:
    def __init__(self, host, site):
        self.host = host
        self.site = site
        self.presses = []

    def at(self, kind, data, flow, **options):
        assert KINDS[kind].problems(data) == {}
        described = KINDS[kind].from_data(data)
        return browse(self.host, described, lambda s: flow(s, described), **options)

    def at_portal(self, flow, *, storage_state=None, **description):
        data = describe_portal(self.site, **description)
        return self.at("portal", data, flow, storage_state=storage_state)

    def signs_in(self, **options):
        return self.at_portal(lambda s, site: portal.sign_in(s, site, LOGIN), **options)

    def reads_orders(self, **description):
        return self.at_portal(portal.read_orders, **description)

    def makes_link(self, **description):
        return self.at_portal(lambda s, site: portal.create_link(s, site, 1500, "r"), **description)

    async def before_press(self):
        self.presses.append(list(self.site.hits))

    def pays(self, *more, **description):
        """Opens the link, presses pay, and does what `more` says; all their answers."""

        async def flow(session, site):
            answers = [await card_page.open_link(session, site, self.site.url("/pay"))]
            answers.append(await card_page.pay(session, site, CARD, self.before_press, patience=5))
            return answers + [await each(session, site) for each in more]

        return self.at("card_page", describe_card_page(self.site, **description), flow)

    def gives(self, code):
        return lambda s, site: card_page.give_code(s, site, code, self.before_press, patience=5)


@pytest.fixture
def browser(shared_host, site):
    return Browser(shared_host, site)


# ---- signing in ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (f"<div class=captcha></div>{FORM}", CaptchaSeen, "a person has to go on"),
        ("<p>We are back at 6</p>", UnderMaintenance, "cannot be used now: back at 6"),
        ("<p>Nothing here</p>", PageChanged, "email_input = 'input\\[name=email\\]'"),
    ],
)
def test_a_page_that_is_no_log_in_says_which(browser, site, body, error, words):
    site.pages["/login"] = Page(body)

    with pytest.raises(error, match=words):
        browser.signs_in()


def test_a_site_that_says_429_is_left_alone_for_as_long(browser, site):
    site.pages["/login"] = Page("slow down", 429, {"Retry-After": "7"})

    with pytest.raises(RateLimited, match="for 7 seconds") as limited:
        browser.signs_in()
    assert limited.value.retry_after_seconds == 7


def test_a_site_that_answers_with_an_error_has_not_changed_its_page(browser, site):
    site.pages["/login"] = Page("oops", 503)

    with pytest.raises(SiteError, match="503"):
        browser.signs_in()


def test_the_password_may_be_asked_for_after_the_e_mail(browser, site):
    site.pages["/login"] = Page(
        """<form action=/welcome><input name=email><input name=password type=password hidden>
        <button class=log-in>Next</button></form><script>
        document.forms[0].onsubmit = (event) => {
          const password = document.forms[0].elements.password;
          if (!password.hidden) return;
          event.preventDefault();
          setTimeout(() => { password.hidden = false; }, 100);
        };</script>"""
    )
    site.pages["/welcome"] = Page(WELCOME)

    assert browser.signs_in() == SignedIn()


def test_somebody_elses_session_is_left_first(browser, site):
    site.pages["/login"] = Page(
        f"""<div id=all></div><script>
        const page = document.cookie.includes("who=other")
          ? "<p class=who>Hello other@office.example</p>" : `{FORM}`;
        document.getElementById("all").innerHTML = page;</script>"""
    )
    site.pages["/welcome"] = Page(WELCOME)
    cookie = {"name": "who", "value": "other", "domain": "shop.localhost", "path": "/"}

    state = browser.signs_in(storage_state={"cookies": [cookie], "origins": []})

    assert state == SignedIn()
    assert "/welcome" in site.hits


def test_a_selector_that_no_browser_reads_is_named(browser, site):
    site.pages["/login"] = Page(FORM)

    with pytest.raises(PageChanged, match="login_button = 'button:says\\(Go\\)'"):
        browser.signs_in(selectors={"login_button": "button:says(Go)"})


# ---- stock, links, orders -----------------------------------------------------------------------


def test_stock_is_read_from_plain_texts(browser, site):
    site.pages["/stock"] = Page(
        "<ul><li>₹500 (9 left)<li>₹1,500 12 left<li>₹2,000 sold out<li>₹5,000</ul>"
    )

    def read(amount):
        return browser.at_portal(lambda s, described: portal.read_inventory(s, described, amount))

    assert [read(amount) for amount in (1500, 2000, 5000)] == [
        Inventory(12),
        Inventory(0),
        Inventory(None),
    ]


@pytest.mark.parametrize(
    ("control", "selectors", "urls"),
    [
        (
            """<label><input type=radio name=amount value=a>₹500</label>
            <label><input type=radio name=amount value=b>₹1,500</label>""",
            {},
            {},
        ),
        (
            "<select name=amount><option>₹500 - 3 left<option value=b>₹1,500 - 12 left</select>",
            {},
            {},
        ),
        ("<input name=amount type=number>", {}, {}),
        (
            """<input type=hidden name=amount><a href=# data-amount=1500
            onclick="document.forms[0].amount.value = 'b'; return false">₹1,500</a>""",
            {"amount_input": "[data-amount='{value}']"},
            {},
        ),
        ("<input type=hidden name=amount value=b>", {}, {"buy": "/buy?of={value}"}),
    ],
)
def test_an_amount_is_chosen_in_every_usual_way(browser, site, control, selectors, urls):
    chosen = []
    site.pages["/buy"] = Page(
        f"{WELCOME}<form action=/made onsubmit='this.action += this.amount.value'>{control}"
        "<button class=buy>Buy</button></form>"
    )
    for value in ("b", "1500"):
        made = f"{WELCOME}<b class=number>N1</b><a class=pay href=/p/1>Pay</a>"
        site.pages[f"/made{value}"] = Page(made)
    site.on_hit = chosen.append

    urls = {key: site.url(path) for key, path in urls.items()}
    link = browser.makes_link(selectors=selectors, **urls)

    assert (link.url, link.order, link.expires_at) == (site.url("/p/1"), "N1", None)
    assert chosen[-1] in ("/madeb", "/made1500")


def order(number, status, rest="", amount="₹1,500.00"):
    return f"""<tr><td class=number>{number}<td class=amount>{amount}<td class=status>{status}
    <td>{rest}"""


def orders(*rows, more=""):
    return Page(f"{WELCOME}<table>{''.join(rows)}</table>{more}")


def test_a_voucher_may_have_to_be_shown_first(browser, site):
    shown = "<b class=code hidden>AB12-CD34</b>"
    press = 'onclick="this.previousSibling.hidden = false"'
    site.pages["/orders"] = orders(
        order("N2", "sent", f"{shown}<button class=show {press}>Show</button>"),
        order("N1", "open"),
    )

    second, first = browser.reads_orders(selectors={"voucher_reveal": ".show"})

    assert (second.voucher.code, second.voucher.pin) == ("AB12-CD34", "")
    assert (first.status, first.voucher) == ("unpaid", None)


def test_a_voucher_may_be_on_a_page_of_its_own(browser, site):
    site.pages["/orders"] = orders(order("N1", "sent", "<a class=more href=/orders/1>more</a>"))
    site.pages["/orders/1"] = Page(
        f"{WELCOME}<b class=code>AB12-CD34</b><i class=pin>7788</i><time datetime=2027-11-21>"
    )

    (found,) = browser.reads_orders(selectors={"order_details": ".more"})

    assert (found.order, found.amount) == ("N1", 1500)
    assert (found.voucher.code, found.voucher.pin) == ("AB12-CD34", "7788")


def test_a_list_may_go_on_by_script(browser, site):
    site.pages["/orders"] = orders(
        order("N2", "open"),
        more="""<button class=next>More</button><script>
        document.querySelector(".next").onclick = () => setTimeout(() => {
          document.querySelector(".number").textContent = "N1";
          document.querySelector(".next").disabled = true;
        }, 100);</script>""",
    )

    assert [each.order for each in browser.reads_orders()] == ["N2", "N1"]


@pytest.mark.parametrize(
    ("row", "key"),
    [
        (order("N1", "sent", "<b class=code>AB12</b>", amount="₹1,5O0"), "order_amount"),
        (order("N1", "sent", "<b class=code>AB12</b>", amount="AB12-CD34"), "order_amount"),
        (order("N1", "gone"), "order_status"),
        (order("N1", "sent"), "voucher_code"),
    ],
)
def test_what_cannot_be_read_is_named_and_not_guessed(browser, site, row, key):
    site.pages["/orders"] = orders(row)

    with pytest.raises(PageChanged) as changed:
        browser.reads_orders()
    assert changed.value.key == key
    assert "AB12" not in str(changed.value)


def test_an_order_that_is_not_wanted_need_not_be_understood(browser, site):
    site.pages["/orders"] = orders(
        order("N3", "refunded"), order("N2", "open"), order("N1", "sent", "<b class=code>AB12</b>")
    )

    found = browser.at_portal(lambda s, site: portal.read_orders(s, site, wanted={"N2"}))

    assert [(each.order, each.status) for each in found] == [("N2", "unpaid")]


def test_a_history_has_more_in_it_than_redemptions(browser, site):
    site.pages["/history"] = Page(
        f"""{WELCOME}<table><tr><td class=code>XXXX-1A2B<td class=amount>+₹1,500.00
        <tr><td>Order 17<td class=amount>-₹300.00</table>"""
    )
    data = {
        "name": "Shop",
        "domain": "shop.localhost",
        "allow_private_network": True,
        "urls": {key: site.url(f"/{key}") for key in ("login", "redeem", "history")},
        "selectors": {
            "email_input": "input[name=email]",
            "password_input": "input[name=password]",
            "signed_in": ".who",
            "voucher_input": "input.voucher",
            "redeem_button": "button.redeem",
            "redeemed": ".done",
            "voucher_used": ".used",
            "history_row": "tr",
            "history_code": ".code",
            "history_amount": ".amount",
        },
    }

    assert browser.at("redeemer", data, redeemer.read_history) == (Redemption("1A2B", 1500, None),)


def test_evidence_of_orders_has_no_voucher_in_it(browser, site):
    site.pages["/orders"] = orders(
        order("N2", "sent", "<b class=code>AB12-CD34</b><i class=pin>7788</i>"), order("N1", "?")
    )

    with pytest.raises(PageChanged) as changed:
        browser.reads_orders()
    dom = changed.value.evidence.dom
    assert "N2" in dom
    assert "AB12-CD34" not in dom
    assert "7788" not in dom
    assert changed.value.evidence.screenshot is not None


# ---- paying -------------------------------------------------------------------------------------

CARD_FORM = """<form action=/bank><input class=number><input class=expiry><input class=cvv>
<button>Pay</button></form>"""
BOXES = "<input class=digit maxlength=1>" * 6


def test_fields_in_frames_and_lists_take_the_card(browser, site):
    site.pages["/pay"] = Page(
        """<iframe src=/card></iframe><button onclick="location = '/done?' +
        [...frames[0].document.querySelectorAll('input, select')].map((e) => e.value)
        .join('-')">Pay</button>"""
    )
    site.pages["/card"] = Page(
        """<input class=number oninput="this.value = this.value.replace(/(\\d{4})(?=\\d)/g, '$1 ')">
        <select class=month><option value=''>Month<option>01<option>09</select>
        <input class=year maxlength=2><input class=cvv>"""
    )
    site.pages["/done"] = Page("<p>payment P77 of ₹1,500</p><script></script>")
    selectors = {"card_expiry": None, "card_month": ".month", "card_year": ".year"}
    seen = []
    addresses = []

    async def where(session, _):
        addresses.append(session.page.url.partition("?")[2])

    seen = browser.pays(where, selectors=selectors)

    assert seen[:2] == [CardForm(), Paid("P77")]
    assert addresses == ["4532%200000%200000%200017-09-31-123"]


def test_a_code_that_is_sent_at_its_last_digit_is_sent_once(browser, site):
    site.pages["/pay"] = Page(CARD_FORM)
    site.pages["/bank"] = Page("<iframe src=/ask></iframe>")
    site.pages["/ask"] = Page(
        f"""{BOXES}<button class=confirm>OK</button><script>
        const boxes = [...document.querySelectorAll("input")];
        oninput = () => {{
          const code = boxes.map((each) => each.value).join("");
          if (code.length === 6) top.location = code === "{CODE}" ? "/done" : "/other";
        }};</script>"""
    )
    site.pages["/done"] = Page("<p>payment P77</p>")

    *_, asked, paid = browser.pays(browser.gives(CODE), selectors={"code_button": "button.confirm"})

    assert (asked, paid) == (CodeAsked(), Paid("P77"))
    assert site.hits.count("/done") == 1
    assert [hits[-1] for hits in browser.presses] == ["/pay", "/ask"]


def test_the_same_refusal_twice_is_an_answer_each_time(browser, site):
    site.pages["/pay"] = Page(CARD_FORM)
    site.pages["/bank"] = Page(
        f"""{BOXES}<button class=confirm>OK</button><p class=code-error></p><script>
        document.querySelector("button").onclick = async () => {{
          await fetch("/check");
          document.querySelector(".code-error").textContent = "Wrong code.";
        }};</script>"""
    )
    site.pages["/check"] = Page("no")

    answers = browser.pays(
        browser.gives("111111"),
        browser.gives("222222"),
        selectors={"code_button": "button.confirm"},
    )

    assert answers[2:] == [CodeRefused("Wrong code.", may_try_again=True)] * 2
    assert site.hits.count("/check") == 2


def test_a_bank_on_an_unknown_host_is_named(browser, site):
    bank = site.url("/bank", host="bank.localhost")
    site.pages["/pay"] = Page(CARD_FORM.replace("/bank", bank))
    site.pages["/bank"] = Page("<p>payment P77</p>")

    with pytest.raises(OutcomeOpen, match=r"bank\.localhost.*looked up"):
        browser.pays()
    assert "/bank" not in site.hits

    answers = browser.pays(allowed_domains=["bank.localhost"])
    assert answers[1] == Paid("P77")


def test_a_press_that_does_nothing_is_not_waited_for_long(browser, site, monkeypatch):
    monkeypatch.setattr(page, "NOTHING_SENT", 0.3)
    site.pages["/pay"] = Page(CARD_FORM.replace("<button>", "<button type=button>"))

    with pytest.raises(OutcomeOpen, match="looked up"):
        browser.pays()


def test_a_button_that_is_covered_is_not_pressed(browser, site, monkeypatch):
    monkeypatch.setattr(page, "PRESS_PATIENCE_MS", 300)
    cover = "<div style='position: fixed; inset: 0; z-index: 9'></div>"
    site.pages["/pay"] = Page(CARD_FORM + cover)

    with pytest.raises(PageChanged, match="pay_button"):
        browser.pays()
    assert browser.presses == []


def test_a_declined_card_is_declined_in_the_pages_words(browser, site):
    site.pages["/pay"] = Page(CARD_FORM)
    site.pages["/bank"] = Page("<p class=no>Your card was declined by the bank.</p>")

    answers = browser.pays(selectors={"declined": ".no"})

    assert answers[1] == Declined("Your card was declined by the bank.")

"""What pages of shops do (FACTS.md, section 10), one behaviour a test, on pages of a few lines."""

import asyncio
import json
import threading
import time

import pytest
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse

from automation.errors import (
    AccountBlocked,
    AddressRefused,
    CartMismatch,
    OptionUnavailable,
    OutOfStock,
    PageChanged,
    ProductNotFound,
    QuantityRefused,
    RateLimited,
    SessionLost,
    SiteError,
    WrongCredentials,
)
from automation.shop import AddIntent, CartLine, CartRequest
from tests.automation.buyer import Buyer
from tests.automation.rough_shop import (
    BUY_FORM,
    CART_ROW,
    EMAIL,
    LOGIN_FORM,
    RoughShop,
    back_to_product,
    redirect_to_cart,
    say_ok,
)

pytestmark = pytest.mark.browser

PRODUCT = "<h1>{name}</h1>"

# Sends the form by script; `done` and `failed` are what the page then does.
SEND = """<script>
  document.querySelector("#buy").addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new URLSearchParams(new FormData(event.target));
    const answer = await fetch("/add", { method: "POST", body });
    const said = answer.ok ? await answer.json() : { ok: false };
    said.ok ? done(said) : failed(said);
  });
  const say = (kind, text) => {
    const message = document.createElement("p");
    message.className = "message " + kind;
    message.textContent = text;
    document.body.prepend(message);
    return message;
  };
  var done = () => say("success", "Added");
  var failed = () => say("error", "Something went wrong");
</script>"""


@pytest.fixture(scope="module")
def running_shop():
    with RoughShop() as shop:
        yield shop


@pytest.fixture
def shop(running_shop):
    running_shop.reset()
    return running_shop


@pytest.fixture
def stranger(shared_host):
    """Has never been at the shop."""
    return Buyer(shared_host, email=EMAIL)


@pytest.fixture
def buyer(shop, stranger):
    """Is logged in at the shop, with an empty cart."""
    stranger.storage_state = shop.log_in_as(EMAIL)
    return stranger


def add(buyer, shop, slug="green-tea", quantity=1, variant=None, **options):
    vendor = options.pop("vendor", None) or shop.vendor()
    name = options.pop("product_name", None)
    options.setdefault("known_cart", ())
    request = CartRequest(shop.url(f"/p/{slug}"), quantity, variant, name)
    return buyer.add(vendor, request, **options)


# ---- page loads ---------------------------------------------------------------------------------


def test_a_warm_add_loads_no_page_more_than_needed(shop, buyer):
    shop.on_add = say_ok
    shop.parts.product += SEND

    result = add(buyer, shop, quantity=2)

    assert shop.visits == ["GET /p/green-tea", "POST /add", "GET /cart"]
    assert result.confirmed
    assert result.quantity_after == 2


def test_a_redirect_to_the_cart_is_read_where_it_led(shop, buyer):
    result = add(buyer, shop)

    assert shop.visits == ["GET /p/green-tea", "POST /add", "GET /cart"]
    assert result.confirmed


# ---- log-in -------------------------------------------------------------------------------------


def test_a_first_visit_logs_in_before_anything_else(shop, stranger):
    result = add(stranger, shop, known_cart=None)

    assert result.signed_in
    assert shop.visits[:3] == ["GET /login", "POST /login", "GET /account"]
    assert shop.count("POST /login") == 1
    assert shop.held == [("green-tea", "", 1)]


def test_the_right_one_of_several_forms_is_filled(shop, stranger):
    shop.parts.login = (
        "<form action=/search><input name=q><button type=submit>Search</button></form>"
        "<form style='display:none' method=post action=/trap><input name=email type=email>"
        "<input name=password type=password><button type=submit>Log in</button></form>"
        "<form method=post action=/newsletter><input name=email type=email>"
        "<button type=submit>Subscribe</button></form>"
        + LOGIN_FORM.replace("<input name=email>", "<input name=email type=email>")
    )
    vendor = shop.vendor(
        {
            "email_input": "input[type=email]",
            "password_input": "input[type=password]",
            "login_button": "button[type=submit], #login button",
        }
    )

    add(stranger, shop, vendor=vendor)

    assert shop.held == [("green-tea", "", 1)]
    assert "POST /trap" not in shop.visits
    assert "POST /newsletter" not in shop.visits


def test_the_password_may_be_asked_for_after_the_email(shop, stranger):
    shop.parts.login = """<form id=login method=post action=/login>
      <input name=email><input name=password type=password style="display:none">
      <button>Next</button></form>
      <script>
        const form = document.querySelector("#login");
        form.addEventListener("submit", (event) => {
          if (form.password.style.display !== "none") return;
          event.preventDefault();
          setTimeout(() => { form.password.style.display = "inline"; }, 200);
        });
      </script>"""

    add(stranger, shop)

    assert shop.held == [("green-tea", "", 1)]


def test_a_form_whose_button_has_no_selector_is_sent_with_enter(shop, stranger):
    add(stranger, shop, vendor=shop.vendor({"login_button": None}))

    assert shop.held == [("green-tea", "", 1)]


def test_a_form_that_is_emptied_by_a_script_is_filled_again(shop, stranger):
    shop.parts.login += """<script>
      const email = document.querySelector("#login input"), woken = () => { email.value = ""; };
      email.addEventListener("input", () => setTimeout(woken, 0), { once: true });
    </script>"""

    add(stranger, shop)

    assert shop.held == [("green-tea", "", 1)]


def test_a_button_that_waits_for_a_key_is_freed(shop, stranger):
    shop.parts.login = (
        LOGIN_FORM.replace("<button>", "<button disabled>")
        + """<script>
      const button = document.querySelector("#login button");
      document.addEventListener("keyup", () => { button.disabled = false; });
    </script>"""
    )

    add(stranger, shop)

    assert shop.held == [("green-tea", "", 1)]


def test_a_form_that_a_script_renders_late_is_waited_for(shop, stranger):
    shop.parts.login = f"""<div id=root></div><script>
      setTimeout(() => {{ document.querySelector("#root").innerHTML = `{LOGIN_FORM}`; }}, 600);
    </script>"""

    add(stranger, shop)

    assert shop.held == [("green-tea", "", 1)]


def test_one_who_is_logged_in_already_is_not_logged_in_again(shop, buyer):
    shop.parts.hello = ""  # the product page does not say it, the log-in page sends away
    shop.overrides["GET /login"] = lambda visit: RedirectResponse("/account", 303)
    shop.overrides["GET /account"] = lambda visit: "<p class=hello>Your account</p>"

    with pytest.raises(SessionLost, match="logged_in_indicator"):
        add(buyer, shop)

    assert shop.count("POST /login") == 0
    assert shop.held == []


def test_a_log_in_form_that_has_moved_is_named(shop, stranger):
    with pytest.raises(PageChanged, match="email_input"):
        add(stranger, shop, vendor=shop.vendor({"email_input": "#gone"}))


def test_without_an_indicator_the_log_in_page_tells(shop, buyer):
    shop.parts.hello = ""
    shop.overrides["GET /login"] = lambda visit: (
        RedirectResponse("/account", 303) if visit.email else shop.parts.login
    )
    vendor = shop.vendor({"logged_in_indicator": None})

    add(buyer, shop, vendor=vendor)
    assert shop.count("POST /login") == 0
    shop.sessions.clear()
    result = add(buyer, shop, vendor=vendor, known_cart=None)

    assert shop.count("POST /login") == 1
    assert (result.quantity_before, result.quantity_after) == (1, 2)


def test_an_indicator_may_be_attached_and_hidden(shop, buyer):
    shop.parts.hello = "<p class=hello style='display:none'>{email}</p>"

    add(buyer, shop, vendor=shop.vendor({"logged_in_indicator_is_hidden": True}))

    assert shop.count("GET /login") == 0


def test_an_indicator_that_comes_late_is_waited_for(shop, buyer):
    shop.parts.hello = """<p class=hello style="display:none">Hello</p><script>
      setTimeout(() => { document.querySelector(".hello").style.display = "block"; }, 500);
    </script>"""

    add(buyer, shop)

    assert shop.count("GET /login") == 0


def test_the_session_of_another_account_is_left(shop, buyer):
    shop.accounts["other@example.test"] = "x"
    buyer.storage_state = shop.log_in_as("other@example.test")

    result = add(buyer, shop)

    assert result.signed_in
    assert shop.held == [("green-tea", "", 1)]
    assert shop.carts["other@example.test"] == []


def test_a_wrong_password_is_tried_once(shop, stranger):
    shop.accounts[EMAIL] = "another"

    with pytest.raises(WrongCredentials, match="Wrong password"):
        add(stranger, shop)

    assert shop.count("POST /login") == 1


def test_a_silent_refusal_is_one_too(shop, stranger):
    shop.overrides["POST /login"] = lambda visit: RedirectResponse("/login", 303)

    with pytest.raises(WrongCredentials, match="form again"):
        add(stranger, shop)

    assert shop.count("POST /login") == 1


def test_a_block_told_at_the_log_in_is_no_wrong_password(shop, stranger):
    shop.overrides["POST /login"] = lambda visit: "<p class=blocked>Suspended</p>" + LOGIN_FORM

    with pytest.raises(AccountBlocked, match="Suspended"):
        add(stranger, shop)


def test_a_shop_without_log_in_is_used_as_a_guest(shop, stranger):
    shop.cart_of_session = True
    vendor = shop.vendor(login_required=False, login_url=None, cart_scope="session")

    first = add(stranger, shop, vendor=vendor, known_cart=None)
    second = add(stranger, shop, vendor=vendor, known_cart=first.cart)

    assert second.quantity_after == 2
    assert shop.count("GET /login") == 0


# ---- banners, and things in the way -------------------------------------------------------------

BANNER = """<div id=banner style="position:fixed;inset:0;background:#fff;z-index:9">
  <button id=ok onclick="this.parentElement.remove()">OK</button></div>"""


@pytest.mark.parametrize("delay", [0, 300, 1500])
def test_a_cookie_banner_is_accepted_whenever_it_comes(shop, buyer, delay):
    shop.parts.top = f"""<template>{BANNER}</template><script>
      setTimeout(() => {{
        if (document.cookie.includes("seen=1")) return;
        document.body.append(document.querySelector("template").content.cloneNode(true));
        ok.addEventListener("click", () => {{ document.cookie = "seen=1; path=/"; }});
      }}, {delay});
    </script>"""

    add(buyer, shop, vendor=shop.vendor({"cookie_accept": "#ok"}))

    assert shop.held == [("green-tea", "", 1)]


def test_a_pop_up_that_covers_the_button_is_closed_with_escape(shop, buyer):
    shop.parts.product += """<dialog>Our newsletter!</dialog>
      <script>document.querySelector("dialog").showModal()</script>
      <style>::backdrop { background: #000 }</style>"""

    add(buyer, shop)

    assert shop.held == [("green-tea", "", 1)]


def test_a_button_that_slips_away_under_the_mouse_has_nothing_else_pressed(shop, buyer):
    shop.parts.product += """<button id=other style="width:100%;height:90vh;display:none"
        onclick="fetch('/other', {method: 'POST'})">Buy it all now</button>
      <script>
        document.querySelector(".add").addEventListener("mouseover", () => {
          document.body.prepend(other);
          other.style.display = "block";
          setTimeout(() => { other.style.display = "none"; }, 400);
        }, { once: true });
      </script>"""

    result = add(buyer, shop)

    assert shop.held == [("green-tea", "", 1)]
    assert result.quantity_after == 1
    assert shop.count("POST /other") == 0


def test_a_button_in_motion_is_pressed_when_it_holds_still(shop, buyer):
    shop.parts.product += """<style>@keyframes in { from { margin-left: 60vw } }
      #buy { animation: in 1s }</style>"""

    add(buyer, shop)

    assert shop.held == [("green-tea", "", 1)]


def test_what_stays_in_the_way_is_named(shop, buyer):
    shop.parts.product += "<div class=veil style='position:fixed;inset:0'></div>"

    with pytest.raises(PageChanged, match=r"covered by div\.veil"):
        add(buyer, shop)

    assert shop.adds == []
    assert buyer.intents == []


# ---- confirmation, or none ----------------------------------------------------------------------


def test_a_text_that_is_always_there_is_no_confirmation(shop, buyer):
    shop.on_add = lambda visit: JSONResponse({"ok": False})
    shop.parts.product = (
        "<p id=note style='visibility:hidden' class='message success'>Added to cart</p>"
        + shop.parts.product
        + SEND
        + """<script>failed = () => {
          note.className = "message error"; note.style.visibility = "visible";
          note.textContent = "Only sold to dealers";
        }</script>"""
    )

    with pytest.raises(OutOfStock, match=r"Only sold to dealers.*cart is empty"):
        add(buyer, shop)

    assert shop.adds == []
    assert (len(buyer.intents), buyer.is_clear) == (1, True)


def test_the_message_of_the_add_before_is_no_confirmation(shop, buyer):
    shop.parts.product += "<p class='message success'>Added</p>"
    shop.on_add = lambda visit: RedirectResponse("/p/green-tea", 303)

    with pytest.raises(CartMismatch, match="not there"):
        add(buyer, shop)

    assert (len(buyer.intents), buyer.is_clear) == (1, False)


def test_a_chat_that_polls_for_ever_does_not_hold_the_add_up(shop, buyer):
    async def poll(visit):
        await asyncio.sleep(20)
        return JSONResponse({})

    shop.overrides["POST /poll"] = poll
    shop.on_add = say_ok
    shop.parts.product += (
        SEND
        + """<script>
      setInterval(() => fetch("/poll", { method: "POST" }), 1500);
      done = () => { say("success", "Added"); fetch("/poll", { method: "POST" }); };
    </script>"""
    )
    started = time.monotonic()

    result = add(buyer, shop)

    assert result.confirmed
    assert time.monotonic() - started < 9


def test_a_toast_before_the_answer_does_not_call_the_add_back(shop, buyer):
    shop.latency = 0.4
    shop.on_add = say_ok
    shop.parts.product += (
        SEND
        + """<script>
      document.querySelector("#buy").addEventListener("submit", () => say("success", "Added"));
    </script>"""
    )

    result = add(buyer, shop)

    assert result.confirmed
    assert shop.adds == [("green-tea", "", 1)]


def test_an_add_in_two_requests_is_let_finish(shop, buyer):
    shop.on_add = say_ok
    shop.overrides["POST /basket"] = lambda visit: JSONResponse({"ok": True})
    shop.latency = 0.3
    shop.parts.product += SEND.replace(
        "const body =", 'await fetch("/basket", { method: "POST" }); const body ='
    )

    add(buyer, shop, vendor=shop.vendor({"cart_confirmation": None}))

    assert shop.adds == [("green-tea", "", 1)]


def test_an_alert_is_answered(shop, buyer):
    shop.on_add = say_ok
    shop.parts.product += SEND + "<script>done = () => alert('Product added.')</script>"

    add(buyer, shop)

    assert shop.held == [("green-tea", "", 1)]


def test_a_confirmed_add_that_is_not_in_the_cart_is_not_done(shop, buyer):
    shop.on_add = lambda visit: JSONResponse({"ok": True})
    shop.parts.product += SEND

    with pytest.raises(CartMismatch, match="not there"):
        add(buyer, shop)


def test_an_add_that_a_queue_makes_a_little_later_is_found(shop, buyer):
    def later(visit):
        threading.Timer(1.5, shop.put_form, [visit]).start()
        return RedirectResponse("/p/green-tea", 303)

    shop.on_add = later

    add(buyer, shop)

    assert shop.adds == [("green-tea", "", 1)]


def test_a_page_that_adds_twice_is_noticed(shop, buyer):
    def twice(visit):
        shop.put_form(visit)
        return redirect_to_cart(visit)

    shop.on_add = twice

    with pytest.raises(CartMismatch, match="holds 2 of this product where 1"):
        add(buyer, shop)


def test_a_link_opened_in_a_new_tab_is_no_hindrance(shop, buyer):
    shop.parts.product = (
        PRODUCT + "<a id=buy class=add target=_blank href='/add?slug=green-tea'>Buy</a>"
    )
    shop.overrides["GET /add"] = lambda visit: (
        shop.put(visit, "green-tea") or RedirectResponse("/cart")
    )

    add(buyer, shop, vendor=shop.vendor({"add_to_cart": "a.add", "quantity_input": None}))

    assert shop.held == [("green-tea", "", 1)]


# ---- the cart -----------------------------------------------------------------------------------

LATE_CART = """<div id=cart>Loading…</div><script>
  (async () => {{
    cart.innerHTML = "<p class=empty>Your cart is empty</p>";
    const lines = await (await fetch("/cart.json")).json();
    await new Promise((resolve) => setTimeout(resolve, {delay}));
    if (lines.length) cart.innerHTML = lines.map((line) =>
      `<div class=row><a class=name href=/p/${{line.slug}}>${{line.name}}</a>
       <b class=quantity>${{line.quantity}}</b></div>`).join("");
  }})();
</script>"""


@pytest.mark.parametrize("known_cart", [None, ()])
def test_a_cart_that_first_says_empty_is_waited_for(shop, buyer, known_cart):
    shop.latency = 0.2
    shop.parts.cart = shop.parts.empty = LATE_CART.format(delay=300)
    if known_cart is None:
        shop.carts[EMAIL].append(["green-tea", "", 2])

    result = add(buyer, shop, known_cart=known_cart)

    before = 2 if known_cart is None else 0
    assert (result.quantity_before, result.quantity_after) == (before, before + 1)


@pytest.mark.parametrize(
    "quantity",
    [
        "<input class=quantity value={quantity}>",
        "<input class=quantity type=number value={quantity} readonly>",
        "<select class=quantity><option>1<option selected>{quantity}<option>9</select>",
        "<span class=quantity>× {quantity}</span>",
        "<span class=quantity>{quantity} x</span>",
        "<span class=quantity>Qty: {quantity}</span>",
        "<span class=quantity>{quantity}.00 pcs</span>",
        "<span class=quantity><button>-</button><input value={quantity}><button>+</button></span>",
        "<span class=quantity role=spinbutton aria-valuenow={quantity}><i>-</i><i>+</i></span>",
    ],
)
def test_a_quantity_is_read_however_it_is_written(shop, buyer, quantity):
    shop.parts.row = "<div class=row><a class=name href=/p/{slug}>{name}</a>" + quantity + "</div>"

    result = add(buyer, shop, quantity=3)

    assert result.quantity_after == 3


def test_a_cart_without_a_quantity_part_is_read_by_its_text_or_rows(shop, buyer):
    shop.parts.row = "<div class=row><a href=/p/{slug}>{name}</a> 2 × £4.50</div>"
    vendor = shop.vendor({"cart_quantity": None, "cart_row_name": None})

    result = add(buyer, shop, quantity=2, vendor=vendor)

    assert result.quantity_after == 2
    assert result.line.name == "Green Tea"


def test_rows_are_told_apart_without_a_selector_for_rows(shop, buyer):
    shop.carts[EMAIL].append(["blue-mug", "", 1])
    shop.parts.row = (
        "<p><a class=name href=/p/{slug}>{name}</a></p>".replace("<p>", "<section><p>")
        + "<input class=quantity value={quantity}></section>"
    )

    result = add(buyer, shop, quantity=2, vendor=shop.vendor({"cart_row": None}), known_cart=None)

    assert [(line.name, line.quantity) for line in result.cart] == [
        ("Blue Mug", 1),
        ("Green Tea", 2),
    ]


def test_a_heading_and_a_total_are_no_rows(shop, buyer):
    shop.parts.row = "<tr><td class=name>{name}<td class=quantity>{quantity}"
    shop.parts.cart = """<table id=cart><tr><th>Product<th>Pieces</th></tr>{rows}
      <tr><td>Total<td>£ 9.00</table>"""

    result = add(buyer, shop, quantity=2, vendor=shop.vendor({"cart_row": "#cart tr"}))

    assert [(line.name, line.quantity) for line in result.cart] == [("Green Tea", 2)]


def test_rows_of_a_closed_drawer_do_not_count(shop, buyer):
    shop.parts.cart = "<div style='display:none' id=drawer>{rows}</div><div id=cart>{rows}</div>"

    result = add(buyer, shop, vendor=shop.vendor({"cart_row": ".row"}))

    assert result.quantity_after == 1


def test_a_line_with_another_name_and_no_link_is_known_by_its_growth(shop, buyer):
    shop.carts[EMAIL].append(["blue-mug", "", 1])
    shop.parts.row = (
        "<div class=row><b class=name>Art. {slug}</b><b class=quantity>{quantity}</b></div>"
    )

    result = add(buyer, shop, quantity=2, known_cart=None)

    assert result.line.name == "Art. green-tea"
    assert (result.quantity_before, result.quantity_after) == (0, 2)


def test_a_product_that_moved_is_known_by_where_it_went(shop, buyer):
    shop.overrides["GET /p/old-tea"] = lambda visit: RedirectResponse("/p/green-tea", 301)

    result = add(buyer, shop, slug="old-tea")

    assert result.quantity_after == 1
    assert result.line.url == shop.url("/p/green-tea")


def test_lines_that_the_shop_does_not_join_are_counted_together(shop, buyer):
    shop.carts[EMAIL].append(["green-tea", "", 1])
    shop.on_add = lambda visit: (
        shop.carts[EMAIL].append(["green-tea", "", 1]) or RedirectResponse("/cart", 303)
    )

    result = add(buyer, shop, known_cart=None)

    assert (result.quantity_before, result.quantity_after) == (1, 2)


def test_a_cart_that_was_checked_out_meanwhile_is_no_mistake(shop, buyer):
    known = (CartLine("Green Tea", 4, (shop.url("/p/green-tea"),), "Green Tea 4"),)

    result = add(buyer, shop, quantity=2, known_cart=known)

    assert (result.quantity_before, result.quantity_after) == (0, 2)


def test_an_error_page_is_no_empty_cart(shop, buyer):
    shop.overrides["GET /cart"] = lambda visit: HTMLResponse("<h1>Oops</h1>", 503)

    with pytest.raises(SiteError, match="503"):
        add(buyer, shop, known_cart=None, vendor=shop.vendor({"cart_empty_indicator": None}))

    assert shop.adds == []


def test_a_cart_page_with_moved_rows_names_them(shop, buyer):
    shop.parts.cart = "<div id=basket>{rows}</div>"

    with pytest.raises(PageChanged, match="cart_row"):
        add(buyer, shop)


def test_a_cart_that_does_not_know_us_is_a_cart_of_nobody(shop, buyer):
    def forget_and_add(visit):
        shop.sessions.clear()
        return redirect_to_cart(visit)

    shop.on_add = forget_and_add

    with pytest.raises(SessionLost):
        add(buyer, shop)
    shop.on_add = redirect_to_cart
    result = add(buyer, shop, intent=buyer.intents[-1])

    assert shop.held == [("green-tea", "", 1)]
    assert result.signed_in


@pytest.mark.parametrize("known_cart", [None, ()])
def test_a_cart_page_without_the_indicator_sends_us_to_one_that_has_it(shop, buyer, known_cart):
    shop.overrides["GET /cart"] = lambda visit: HTMLResponse(shop.cart_html(visit))

    result = add(buyer, shop, known_cart=known_cart)

    assert result.quantity_after == 1
    assert shop.visits[-1] == "GET /p/green-tea"
    assert shop.count("POST /login") == 0


def test_a_cart_that_is_closed_to_strangers_tells_that_the_session_is_lost(shop, buyer):
    def forget(visit):
        shop.sessions.clear()
        return RedirectResponse("/login", 303)

    shop.on_add = forget
    shop.overrides["GET /cart"] = lambda visit: (
        shop.cart_html(visit) if visit.email else RedirectResponse("/login", 303)
    )

    with pytest.raises(SessionLost):
        add(buyer, shop)


def test_an_add_that_leads_to_the_log_in_page_tells_that_the_session_is_lost(shop, buyer):
    def forget(visit):
        shop.sessions.clear()
        return RedirectResponse("/login", 303)

    shop.on_add = forget

    with pytest.raises(SessionLost):
        add(buyer, shop)


# ---- quantity -----------------------------------------------------------------------------------


def test_a_preset_quantity_is_overwritten(shop, buyer):
    shop.parts.product = PRODUCT + BUY_FORM.replace("value=1", "value=6")

    add(buyer, shop)

    assert shop.held == [("green-tea", "", 1)]


def test_a_list_of_quantities_is_chosen_from(shop, buyer):
    options = "".join(f"<option value={n}>{n} pcs</option>" for n in range(1, 6))
    shop.parts.product = PRODUCT + BUY_FORM.replace(
        "<input name=quantity type=number value=1>", f"<select name=quantity>{options}</select>"
    )
    vendor = shop.vendor({"quantity_input": "#buy select"})

    add(buyer, shop, quantity=4, vendor=vendor)
    add(buyer, shop, slug="blue-mug", quantity=7, vendor=vendor, known_cart=None)

    assert shop.held == [("green-tea", "", 4), ("blue-mug", "", 7)]
    assert shop.adds == [("green-tea", "", 4), ("blue-mug", "", 5), ("blue-mug", "", 2)]


@pytest.mark.parametrize(("attribute", "quantity"), [("max=5", 6), ("min=6", 2), ("step=6", 4)])
def test_a_number_the_field_does_not_take_adds_nothing(shop, buyer, attribute, quantity):
    shop.parts.product = PRODUCT + BUY_FORM.replace("type=number", f"type=number {attribute}")

    with pytest.raises(QuantityRefused, match="Nothing was added"):
        add(buyer, shop, quantity=quantity)

    assert shop.adds == []
    assert buyer.intents == []


def test_without_a_quantity_field_the_button_is_pressed_again(shop, buyer):
    shop.parts.product = PRODUCT + BUY_FORM.replace("type=number value=1", "type=hidden value=1")

    result = add(buyer, shop, quantity=3, vendor=shop.vendor({"quantity_input": None}))

    assert shop.adds == [("green-tea", "", 1)] * 3
    assert result.quantity_after == 3
    assert len(buyer.intents) == 1


def test_a_button_that_can_be_pressed_once_refuses_the_rest(shop, buyer):
    shop.parts.product = PRODUCT + BUY_FORM
    shop.overrides["GET /p/green-tea"] = lambda visit: (
        PRODUCT + "<p>In your cart</p>" if visit.cart else shop.product_page(visit, "green-tea")
    )

    with pytest.raises(QuantityRefused, match="1 x Green Tea"):
        add(buyer, shop, quantity=2, vendor=shop.vendor({"quantity_input": None}))

    assert shop.adds == [("green-tea", "", 1)]


UPDATING_ROW = CART_ROW.replace(
    "<b class=quantity>{quantity}</b>",
    "<input class=quantity name=quantity.{id} value={quantity}>",
)


@pytest.mark.parametrize(
    ("update", "button"),
    [
        ("<button class=update>Update</button>", ".update"),
        ("<button class=update disabled>Update</button><script>"
         "cart.addEventListener('input', () => { cart.querySelector('.update').disabled = false })"
         "</script>", ".update"),
        ("<script>cart.addEventListener('change', () => cart.submit())</script>", None),
        ("<button>Sichern</button>", None),
    ],
)  # fmt: skip
def test_the_rest_is_written_into_the_cart(shop, buyer, update, button):
    shop.carts[EMAIL].append(["blue-mug", "", 1])
    shop.parts.row = UPDATING_ROW
    shop.parts.cart = "<form id=cart method=post action=/update>{rows}" + update + "</form>"
    vendor = shop.vendor({"quantity_input": None, "cart_update": button})

    result = add(buyer, shop, quantity=4, vendor=vendor, known_cart=None)

    assert shop.held == [("blue-mug", "", 1), ("green-tea", "", 4)]
    assert shop.adds == [("green-tea", "", 1)]
    assert (result.quantity_before, result.quantity_after) == (0, 4)


def test_a_number_between_plus_and_minus_is_made_up_for_in_the_cart(shop, buyer):
    shop.parts.product = (
        PRODUCT
        + """<div id=buy><input type=hidden name=slug value={slug}>
      <button>-</button><input name=quantity value=1 readonly><button>+</button>
      <form method=post action=/add><input type=hidden name=slug value={slug}>
      <button class=add>Add</button></form></div>"""
    )
    shop.parts.row = UPDATING_ROW
    shop.parts.cart = (
        "<form id=cart method=post action=/update>{rows}<button>Update</button></form>"
    )

    result = add(buyer, shop, quantity=4, vendor=shop.vendor({"cart_update": "#cart button"}))

    assert shop.held == [("green-tea", "", 4)]
    assert shop.adds == [("green-tea", "", 1)]
    assert result.quantity_after == 4


def test_a_cart_updated_by_a_script_is_read_anew(shop, buyer):
    shop.parts.row = UPDATING_ROW
    shop.parts.cart = """<div id=cart>{rows}</div><script>
      cart.addEventListener("change", (event) => fetch("/update", { method: "POST",
        body: new URLSearchParams([[event.target.name, event.target.value]]) }));
    </script>"""
    shop.latency = 0.1

    add(buyer, shop, quantity=3, vendor=shop.vendor({"quantity_input": None}))

    assert shop.held == [("green-tea", "", 3)]


def test_a_cart_that_only_shows_what_was_typed_is_not_believed(shop, buyer):
    shop.parts.row = UPDATING_ROW

    with pytest.raises(QuantityRefused, match="took 1 of the 3"):
        add(buyer, shop, quantity=3, vendor=shop.vendor({"quantity_input": None}))


def test_a_shop_that_lets_in_fewer_says_how_many(shop, buyer):
    shop.on_add = lambda visit: shop.put(visit, "green-tea", 5) or RedirectResponse("/cart", 303)

    with pytest.raises(QuantityRefused, match=r"took 5 of the 8.*5 x Green Tea"):
        add(buyer, shop, quantity=8)

    assert not buyer.is_clear


# ---- options ------------------------------------------------------------------------------------

COLOURS = """<option value="">Choose</option><option value=c1>Black</option>
  <option value=c2>Light Blue (+£2)</option><option value=c3>Red</option>"""


def with_options(shop, html):
    shop.parts.product = PRODUCT + BUY_FORM.replace("<button", html + "<button")


@pytest.mark.parametrize("value", ["Black", " black", "c1"])
def test_a_list_is_chosen_from_by_label_or_value(shop, buyer, value):
    with_options(shop, f"<select name=option id=colour>{COLOURS}</select>")
    variants = {"Colour": {"kind": "select", "selector": "#colour"}}

    add(buyer, shop, variant={"colour": value}, vendor=shop.vendor({"variants": variants}))

    assert shop.held == [("green-tea", "c1", 1)]


def test_a_label_may_go_on_with_a_price(shop, buyer):
    with_options(shop, f"<select name=option id=colour>{COLOURS}</select>")
    variants = {"Colour": {"kind": "select", "selector": "#colour"}}

    add(buyer, shop, variant="light blue", vendor=shop.vendor({"variants": variants}))

    assert shop.held == [("green-tea", "c2", 1)]


def test_a_wrapped_and_hidden_list_is_chosen_from(shop, buyer):
    with_options(
        shop,
        f"<div class=pretty><select name=option style='display:none'>{COLOURS}</select>"
        "<span>Choose…</span></div>",
    )
    variants = {"Colour": {"kind": "select", "selector": ".pretty"}}

    add(buyer, shop, variant="Red", vendor=shop.vendor({"variants": variants}))

    assert shop.held == [("green-tea", "c3", 1)]


def test_a_list_that_waits_for_another_choice_is_waited_for(shop, buyer):
    with_options(
        shop,
        f"""<select id=colour name=option1>{COLOURS}</select>
        <select id=size name=option2 disabled></select><script>
        colour.addEventListener("change", () => setTimeout(() => {{
          size.innerHTML = "<option></option><option>Large</option>"; size.disabled = false;
        }}, 700));</script>""",
    )
    variants = {
        "Size": {"kind": "select", "selector": "#size"},
        "Colour": {"kind": "select", "selector": "#colour"},
    }

    add(
        buyer,
        shop,
        variant={"Size": "Large", "Colour": "Red"},
        vendor=shop.vendor({"variants": variants}),
    )

    assert shop.held == [("green-tea", "c3, Large", 1)]


def test_a_choice_by_its_value_is_known_by_its_label_in_the_cart(shop, buyer):
    labels = {"c1": "Black", "c2": "Light Blue", "c3": "Red"}
    shop.on_add = lambda visit: (
        shop.put(visit, "green-tea", 1, labels[visit.form["option"]])
        or RedirectResponse("/cart", 303)
    )
    with_options(shop, f"<select name=option id=colour>{COLOURS}</select>")
    vendor = shop.vendor({"variants": {"Colour": {"kind": "select", "selector": "#colour"}}})

    add(buyer, shop, variant="c1", vendor=vendor)
    result = add(buyer, shop, variant="light blue", vendor=vendor, known_cart=None)

    assert shop.held == [("green-tea", "Black", 1), ("green-tea", "Light Blue", 1)]
    assert (result.quantity_before, result.quantity_after) == (0, 1)


@pytest.mark.parametrize("value", ["Purple", "Green"])
def test_a_value_that_is_not_there_or_off_is_refused_with_those_there_are(shop, buyer, value):
    with_options(
        shop,
        "<select name=option id=colour><option>Black<option disabled>Green</select>",
    )
    variants = {"Colour": {"kind": "select", "selector": "#colour"}}

    with pytest.raises(OptionUnavailable, match="Black, Green"):
        add(buyer, shop, variant=value, vendor=shop.vendor({"variants": variants}))

    assert shop.adds == []


SWATCHES = "".join(
    f"<button type=button title={name} data-size={name.lower()} onclick='chosen.value=this.title'>"
    f"<i></i>{text}</button>"
    for name, text in [("Small", "S"), ("Large", "L"), ("Extra", "XL")]
)


@pytest.mark.parametrize("selector", ["#buy button[type=button]", "button[data-size='{value}']"])
def test_swatches_are_pressed_by_name(shop, buyer, selector):
    with_options(shop, f"<input type=hidden name=option id=chosen>{SWATCHES}")
    variants = {"Size": {"kind": "click", "selector": selector}}

    add(buyer, shop, variant="LARGE", vendor=shop.vendor({"variants": variants}))

    assert shop.held == [("green-tea", "Large", 1)]


def test_swatches_that_are_not_there_are_named(shop, buyer):
    with_options(shop, f"<input type=hidden name=option id=chosen>{SWATCHES}")
    variants = {"Size": {"kind": "click", "selector": "#buy button[type=button]"}}

    with pytest.raises(OptionUnavailable, match="S, L, XL"):
        add(buyer, shop, variant="Huge", vendor=shop.vendor({"variants": variants}))


@pytest.mark.parametrize(
    "style", ["", "style='position:absolute;opacity:0;pointer-events:none'", "hidden"]
)
def test_radios_hidden_under_their_labels_are_chosen(shop, buyer, style):
    with_options(
        shop,
        f"<input type=radio name=option value=small id=s checked {style}><label for=s>Small</label>"
        f"<input type=radio name=option value=large id=l {style}><label for=l>Large</label>",
    )
    variants = {"Size": {"kind": "click", "selector": "input[name=option]"}}

    add(buyer, shop, variant="Large", vendor=shop.vendor({"variants": variants}))

    assert shop.held == [("green-tea", "large", 1)]


@pytest.mark.parametrize(("checked", "value", "held"), [
    ("checked", "yes", "wrap"), ("", "yes", "wrap"), ("checked", "no", ""), ("", "no", ""),
])  # fmt: skip
def test_a_ticked_box_is_left_ticked(shop, buyer, checked, value, held):
    with_options(
        shop, f"<label><input type=checkbox name=option value=wrap {checked}> Wrap</label>"
    )
    variants = {"Gift wrap": {"kind": "check", "selector": "input[type=checkbox]"}}

    add(buyer, shop, variant={"Gift wrap": value}, vendor=shop.vendor({"variants": variants}))

    assert shop.held == [("green-tea", held, 1)]


def test_a_pressed_toggle_is_left_pressed(shop, buyer):
    with_options(
        shop,
        "<input type=hidden name=option id=chosen value=Large><button type=button id=large "
        "aria-pressed=true onclick=\"chosen.value=''\">Large</button>",
    )
    variants = {"Size": {"kind": "click", "selector": "#large"}}

    add(buyer, shop, variant="Large", vendor=shop.vendor({"variants": variants}))

    assert shop.held == [("green-tea", "Large", 1)]


def test_rows_behind_a_button_are_revealed_and_take_the_quantity(shop, buyer):
    shop.parts.product = (
        PRODUCT
        + """<form id=buy method=post action=/add><input type=hidden name=slug value={slug}>
        <input type=hidden name=option id=chosen>
        <button type=button id=show onclick="table.hidden=false">Show sizes</button>
        <table id=table hidden>
          <tr><td>Small<td><input onchange="chosen.value='Small'; many.value=this.value">
          <tr><td>Large<td><input onchange="chosen.value='Large'; many.value=this.value">
        </table><input type=hidden id=many name=quantity><button class=add>Add</button></form>"""
    )
    variants = {
        "Size": {
            "kind": "quantity",
            "selector": "//tr[td[normalize-space()='{value}']]//input",
            "reveal": "#show",
        }
    }

    add(buyer, shop, quantity=3, variant="Large", vendor=shop.vendor({"variants": variants}))

    assert shop.held == [("green-tea", "Large", 3)]


@pytest.mark.parametrize("debounce", [0, 150])
def test_the_add_waits_until_a_choice_has_settled(shop, buyer, debounce):
    # The page looks settled before the choice, and for a moment after it.
    with_options(
        shop,
        f"""<select name=option id=colour>{COLOURS}</select><p id=stock class=ready>In stock</p>
        <script>
        let ready = false;
        colour.addEventListener("change", () => setTimeout(async () => {{
          stock.className = "";
          await fetch("/stock");
          await new Promise((resolve) => setTimeout(resolve, 400));
          stock.className = "ready"; ready = true;
        }}, {debounce}));
        buy.addEventListener("submit", (event) => {{ if (!ready) event.preventDefault(); }});
        </script>""",
    )
    variants = {"Colour": {"kind": "select", "selector": "#colour", "settled": "#stock.ready"}}

    add(buyer, shop, variant="Black", vendor=shop.vendor({"variants": variants}))

    assert shop.held == [("green-tea", "c1", 1)]


def test_a_choice_that_leads_to_another_page_is_followed(shop, buyer):
    with_options(
        shop,
        "<select id=kind onchange=\"location='/p/' + this.value\"><option value=green-tea>Tea"
        "<option value=blue-mug>Mug</select>",
    )
    variants = {"Kind": {"kind": "select", "selector": "#kind"}}

    result = add(buyer, shop, variant="Mug", vendor=shop.vendor({"variants": variants}))

    assert shop.held == [("blue-mug", "", 1)]
    assert result.line.url == shop.url("/p/blue-mug")


def test_a_variant_with_a_page_of_its_own_is_opened(shop, buyer):
    shop.parts.product += "<nav><a href=/p/green-tea>Green</a> <a href=/p/blue-mug>Blue</a></nav>"
    vendor = shop.vendor({"variant_link": "//nav/a[normalize-space()='{value}']"})

    add(buyer, shop, variant={"Colour": "blue"}, vendor=vendor)
    add(buyer, shop, variant="Green", vendor=vendor, known_cart=None)

    assert shop.held == [("blue-mug", "", 1), ("green-tea", "", 1)]
    with pytest.raises(OptionUnavailable):
        add(buyer, shop, variant="Red", vendor=vendor)


def test_the_line_of_another_variant_is_not_taken_for_ours(shop, buyer):
    shop.carts[EMAIL].append(["green-tea", "c2", 5])
    with_options(shop, f"<select name=option id=colour>{COLOURS}</select>")
    variants = {"Colour": {"kind": "select", "selector": "#colour"}}

    result = add(
        buyer, shop, variant="c1", vendor=shop.vendor({"variants": variants}), known_cart=None
    )

    assert (result.quantity_before, result.quantity_after) == (0, 1)


def test_a_page_that_forgets_the_choice_is_caught_in_the_cart(shop, buyer):
    def add_white(visit):
        shop.put(visit, "green-tea", 1, "White")
        return RedirectResponse("/cart", 303)

    shop.on_add = add_white
    with_options(
        shop, "<select name=option id=colour><option>White</option><option>Black</option></select>"
    )
    variants = {"Colour": {"kind": "select", "selector": "#colour"}}

    with pytest.raises(CartMismatch, match="shows 'White', but Black"):
        add(buyer, shop, variant="Black", vendor=shop.vendor({"variants": variants}))


# ---- selectors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "selector",
    [
        "//button[normalize-space()='Add to cart']",
        "(//form//button)[1]",
        "button:has-text('add to cart')",
        "#buy >> text=Add to cart",
        "form:has(input[name=slug]) button",
    ],
)
def test_selectors_of_every_kind_are_read(shop, buyer, selector):
    vendor = shop.vendor(
        {
            "add_to_cart": selector,
            "cart_row": "//div[@class='row']",
            "cart_row_name": "//a",
            "cart_quantity": "b:has-text('2')",
        }
    )

    result = add(buyer, shop, quantity=2, vendor=vendor)

    assert result.line.name == "Green Tea"


def test_a_selector_that_nobody_can_read_is_named(shop, buyer):
    with pytest.raises(PageChanged, match="cart_confirmation"):
        add(buyer, shop, vendor=shop.vendor({"cart_confirmation": "div:nonsense(1)"}))

    assert shop.adds == []


def test_parts_in_a_shadow_root_are_found(shop, buyer):
    shop.parts.product = """<h1>{name}</h1><buy-box></buy-box><script>
      const box = document.querySelector("buy-box").attachShadow({ mode: "open" });
      box.innerHTML = `"""
    shop.parts.product += (
        BUY_FORM
        + """`;
    </script>"""
    )

    add(buyer, shop, quantity=2)

    assert shop.held == [("green-tea", "", 2)]


# ---- other products, other pages ----------------------------------------------------------------


def test_among_several_buttons_the_products_own_is_pressed(shop, buyer):
    forms = "".join(
        f"<li><a href=/p/{slug}>{name}</a><form method=post action=/add>"
        f"<input type=hidden name=slug value={slug}><button class=add>Add</button></form></li>"
        for slug, name in [("tea-pot", "Tea Pot"), ("green-tea", "Green Tea")]
    )
    shop.overrides["GET /list"] = lambda visit: f"<ul id=buy>{forms}</ul>" + shop.cart_html(visit)
    shop.on_add = lambda visit: shop.put_form(visit) or RedirectResponse("/list?added=1#top", 303)
    vendor = shop.vendor({"quantity_input": None}, cart_url=shop.url("/list"))

    result = buyer.add(
        vendor, CartRequest(shop.url("/list"), product_name="Green Tea"), known_cart=()
    )

    assert shop.adds == [("green-tea", "", 1)]
    assert result.line.name == "Green Tea"


def test_a_product_that_sends_to_the_front_page_is_gone(shop, buyer):
    shop.overrides["GET /p/green-tea"] = lambda visit: RedirectResponse("/", 302)
    shop.overrides["GET /"] = lambda visit: "<h1>Home</h1>" + BUY_FORM.format(slug="blue-mug")

    with pytest.raises(ProductNotFound):
        add(buyer, shop)

    assert shop.adds == []


def test_a_page_that_does_not_exist_is_told_from_a_changed_one(shop, buyer):
    with pytest.raises(ProductNotFound, match="404"):
        add(buyer, shop, slug="no-such-thing")


def test_a_status_that_lies_is_no_hindrance(shop, buyer):
    shop.overrides["GET /p/green-tea"] = lambda visit: shop.page(
        visit, BUY_FORM.format(slug="green-tea"), 404
    )

    add(buyer, shop)

    assert shop.held == [("green-tea", "", 1)]


def test_a_redirect_to_another_site_is_refused(shop, buyer):
    shop.overrides["GET /p/green-tea"] = lambda visit: RedirectResponse("http://evil.localhost/")

    with pytest.raises(AddressRefused, match=r"evil\.localhost"):
        add(buyer, shop)


@pytest.mark.parametrize("button", ["", "<button class=add disabled>Sold out</button>"])
def test_sold_out_is_seen_on_the_page(shop, buyer, button):
    shop.parts.product = f"{PRODUCT}<form id=buy>{button}</form><p class=sold-out>Sold out</p>"

    with pytest.raises(OutOfStock, match="Sold out"):
        add(buyer, shop)

    assert buyer.intents == []


def test_a_button_that_stays_off_means_sold_out_where_nothing_else_says_it(shop, buyer):
    shop.parts.product = PRODUCT + "<form id=buy><button class=add disabled>Add</button></form>"

    with pytest.raises(OutOfStock):
        add(buyer, shop, vendor=shop.vendor({"out_of_stock_indicator": None}))


# ---- trouble ------------------------------------------------------------------------------------


def test_429_with_a_date_says_how_long_to_wait(shop, buyer):
    answer = HTMLResponse("slow down", 429, {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"})
    shop.overrides["GET /p/green-tea"] = lambda visit: answer

    with pytest.raises(RateLimited) as caught:
        add(buyer, shop)

    assert caught.value.retry_after_seconds > 1_000_000


def test_a_toast_under_a_429_is_no_refusal(shop, buyer):
    shop.on_add = lambda visit: JSONResponse({}, 429, {"Retry-After": "7"})
    shop.parts.product += SEND

    with pytest.raises(RateLimited) as caught:
        add(buyer, shop)

    assert caught.value.retry_after_seconds == 7
    assert not buyer.is_clear


def test_a_page_half_loaded_under_a_429_is_not_taken_for_a_changed_one(shop, buyer):
    shop.overrides["GET /api"] = lambda visit: JSONResponse({}, 429)
    shop.parts.product = "<h1>{name}</h1><script>fetch('/api')</script>"

    with pytest.raises(RateLimited):
        add(buyer, shop)


def test_a_button_that_has_not_woken_up_is_tried_in_a_later_attempt(shop, buyer):
    shop.parts.product += (
        "<script>buy.addEventListener('submit', (e) => e.preventDefault())</script>"
    )

    with pytest.raises(CartMismatch):
        add(buyer, shop)
    shop.parts.product = PRODUCT + BUY_FORM
    result = add(buyer, shop, intent=buyer.intents[-1])

    assert result.quantity_after == 1
    assert shop.adds == [("green-tea", "", 1)]


# ---- later attempts -----------------------------------------------------------------------------


def test_a_later_attempt_adds_only_what_is_missing(shop, buyer):
    shop.on_add = lambda visit: HTMLResponse("<h1>Oops</h1>", 500)
    shop.carts[EMAIL].append(["green-tea", "", 1])
    with pytest.raises(SiteError):
        add(buyer, shop, quantity=5, known_cart=None)
    shop.carts[EMAIL][0][2] = 3  # two of the five have come
    shop.on_add = redirect_to_cart

    result = add(buyer, shop, quantity=5, intent=buyer.intents[-1])

    assert shop.held == [("green-tea", "", 6)]
    assert (result.quantity_before, result.quantity_after) == (1, 6)


def test_a_third_attempt_adds_only_what_two_have_left_missing(shop, buyer):
    shop.on_add = lambda visit: HTMLResponse("<h1>Oops</h1>", 500)
    shop.carts[EMAIL].append(["green-tea", "", 1])
    with pytest.raises(SiteError):
        add(buyer, shop, quantity=5, known_cart=None)
    shop.carts[EMAIL][0][2] = 3  # two of the five have come
    with pytest.raises(SiteError):
        add(buyer, shop, quantity=5, intent=buyer.intents[-1])
    shop.carts[EMAIL][0][2] = 4  # and one more
    shop.on_add = redirect_to_cart

    result = add(buyer, shop, quantity=5, intent=buyer.intents[-1])

    assert shop.held == [("green-tea", "", 6)]
    assert (result.quantity_before, result.quantity_after) == (1, 6)


def test_a_later_attempt_finds_the_add_beside_what_others_have_added(shop, buyer):
    add(buyer, shop, quantity=2)
    shop.carts[EMAIL].append(["tea-pot", "", 2])

    result = add(buyer, shop, quantity=2, intent=buyer.intents[0])

    assert result.line.name == "Green Tea"
    assert shop.adds == [("green-tea", "", 2)]


def test_a_later_attempt_does_not_take_anothers_line_for_its_own(shop, buyer):
    shop.on_add = lambda visit: HTMLResponse("<h1>Oops</h1>", 500)
    with pytest.raises(SiteError):
        add(buyer, shop, quantity=2)
    shop.carts[EMAIL].append(["tea-pot", "", 2])
    shop.on_add = back_to_product

    add(buyer, shop, quantity=2, intent=buyer.intents[-1])

    assert shop.held == [("tea-pot", "", 2), ("green-tea", "", 2)]


def test_a_later_attempt_that_cannot_tell_adds_nothing(shop, buyer):
    add(buyer, shop, quantity=2)
    shop.carts[EMAIL][0][2] = 9
    shop.adds.clear()

    with pytest.raises(CartMismatch, match="may or may not"):
        add(buyer, shop, quantity=2, intent=buyer.intents[0])

    assert shop.adds == []


def test_what_is_committed_survives_json(shop, buyer):
    add(buyer, shop)
    intent = buyer.intents[0]

    assert AddIntent.from_data(json.loads(json.dumps(intent.to_data()))) == intent

"""Pages after the themes of common shop platforms, with the habits that break scripts.

Each test is one platform's product page, answer and cart, in the few lines that matter. Only the
vendor data differs: the flow is the same.
"""

import pytest
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse

from automation.errors import CartMismatch, OptionUnavailable, QuantityRefused
from automation.shop import CartRequest
from tests.automation.buyer import Buyer
from tests.automation.rough_shop import EMAIL, RoughShop, fill, say_ok

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def running_shop():
    with RoughShop() as shop:
        yield shop


@pytest.fixture
def shop(running_shop):
    running_shop.reset()
    return running_shop


@pytest.fixture
def buyer(shop, shared_host):
    signed_in = Buyer(shared_host, email=EMAIL)
    signed_in.storage_state = shop.log_in_as(EMAIL)
    return signed_in


def test_woocommerce(shop, buyer):
    """Stock by AJAX, the button off by a class only, remove links first, update off at first."""
    shop.parts.product = """<h1>{name}</h1><div class=woocommerce-notices-wrapper></div>
      <form id=buy method=post action=/add><input type=hidden name=slug value={slug}>
      <select id=pa_colour name=option><option value="">Choose an option</option>
        <option value=black>Black</option><option value=light-blue>Light blue</option></select>
      <p class=stock></p>
      <div class=quantity><input class=qty name=quantity type=number value=1></div>
      <button class="single_add disabled">Add to basket</button></form><script>
      const button = document.querySelector(".single_add");
      pa_colour.addEventListener("change", () => { setTimeout(async () => {
        await fetch("/variation");
        document.querySelector(".stock").innerHTML = "<i class=in-stock>In stock</i>";
        button.classList.remove("disabled");
      }, 100); });
      button.addEventListener("click", (event) => {
        if (!button.classList.contains("disabled")) return;
        event.preventDefault();
        alert("Please select some product options before adding this product to your basket.");
      });</script>"""
    shop.latency = 0.1
    shop.parts.row = """<tr class=cart_item><td><a href="/cart?remove={id}&_wpnonce=9f">×</a></td>
      <td class=product-name>
        <a href="/p/{slug}?attribute_pa_colour={variant}">{name} - {variant}</a>
      <td><label>Qty</label><input class=qty name=quantity.{id} value={quantity}></td></tr>"""
    shop.parts.cart = """<form class=cart-form method=post action=/update><table>{rows}</table>
      <button name=update_cart disabled>Update basket</button></form>"""
    vendor = shop.vendor(
        {
            "quantity_input": "form .quantity input.qty",
            "variants": {
                "Colour": {
                    "kind": "select",
                    "selector": "#pa_colour",
                    "settled": ".stock .in-stock",
                }
            },
            "add_to_cart": "button.single_add",
            "cart_confirmation": ".woocommerce-message",
            "cart_row": "tr.cart_item",
            "cart_row_name": "td.product-name a",
            "cart_quantity": "input.qty",
            "cart_update": "button[name=update_cart]",
            "cart_empty_indicator": ".empty",
        }
    )
    tea = shop.url("/p/green-tea")

    first = buyer.add(vendor, CartRequest(tea, 2, "Light Blue"), known_cart=())
    second = buyer.add(vendor, CartRequest(tea, 1, "Black"), known_cart=first.cart)

    assert shop.held == [("green-tea", "light-blue", 2), ("green-tea", "black", 1)]
    assert (second.quantity_before, second.quantity_after) == (0, 1)
    assert not any("_wpnonce" in link for line in second.cart for link in line.links)


def test_shopify(shop, buyer):
    """The product under a collection, a drawer that says empty, rows linked with ?variant=."""
    shop.on_add = say_ok
    shop.overrides["GET /collections/all/products/green-tea"] = lambda visit: fill(
        """<link rel=canonical href=/products/green-tea><h1>{name}</h1>
        <form id=buy><input type=hidden name=slug value={slug}><fieldset>
        <input type=radio name=option value=Small id=s checked class=hide><label for=s>Small</label>
        <input type=radio name=option value=Large id=l class=hide><label for=l>Large</label>
        </fieldset>
        <quantity-input><button type=button name=minus>-</button>
        <input name=quantity type=number value=1><button type=button name=plus>+</button>
        </quantity-input><button type=submit name=add><span>Add to cart</span></button></form>
        <cart-drawer id=drawer><p class=drawer-empty>Your cart is empty</p></cart-drawer>
        <style>.hide { position: absolute; clip-path: inset(50%); width: 1px; height: 1px }
        cart-drawer { visibility: hidden; position: fixed; inset: 0; background: #fff }
        cart-drawer.active { visibility: visible }</style><script>
        buy.addEventListener("submit", async (event) => {
          event.preventDefault();
          const body = new URLSearchParams(new FormData(buy));
          drawer.classList.add("active");
          await fetch("/add", { method: "POST", body });
          await fetch("/cart.json");
          drawer.innerHTML = "<p class=drawer-item>Green Tea</p>";
        });</script>""",
        slug="green-tea",
        name="Green Tea",
    )
    shop.latency = 0.1
    shop.parts.row = """<div class="row cart-item">
      <a class=name href="/products/{slug}?variant={id}7">{name}</a>
      <dl><dt>Size:</dt><dd>{variant}</dd></dl>
      <quantity-input class=quantity><button>-</button><input name=updates[] value={quantity}>
      <button>+</button></quantity-input></div>"""
    vendor = shop.vendor(
        {
            "quantity_input": "#buy quantity-input input",
            "variants": {
                "Size": {"kind": "click", "selector": "input[name=option][value='{value}']"}
            },
            "add_to_cart": "#buy button[name=add]",
            "cart_confirmation": "cart-drawer.active .drawer-item",
        }
    )
    url = shop.url("/collections/all/products/green-tea?ref=newsletter")

    first = buyer.add(vendor, CartRequest(url, 2, "Small"), known_cart=())
    second = buyer.add(vendor, CartRequest(url, 1, {"Size": "large"}), known_cart=first.cart)

    assert shop.held == [("green-tea", "Small", 2), ("green-tea", "Large", 1)]
    assert first.confirmed
    assert (second.quantity_before, second.quantity_after) == (0, 1)


def test_magento(shop, buyer):
    """Greeting and messages loaded by script, button off while it adds, a loader over the page."""
    shop.on_add = say_ok
    shop.parts.hello = """<p id=hello></p><script>setTimeout(async () => {
      await fetch("/customer/section"); hello.innerHTML = "<b class=hello>Welcome</b>";
    }, 200)</script>"""
    shop.parts.product = """<div class=messages></div><h1>{name}</h1>
      <div class=loader style="position:fixed;inset:0"></div><form id=buy>
      <input type=hidden name=slug value={slug}><input name=quantity type=number value=1>
      <button class=tocart disabled><span>Add to Cart</span></button></form><script>
      const button = document.querySelector(".tocart"), loader = document.querySelector(".loader");
      setTimeout(() => { loader.remove(); button.disabled = false; }, 700);
      buy.addEventListener("submit", async (event) => {
        event.preventDefault();
        button.disabled = true; button.firstChild.textContent = "Adding...";
        await fetch("/add", { method: "POST", body: new URLSearchParams(new FormData(buy)) });
        button.firstChild.textContent = "Added"; button.disabled = false;
        await fetch("/customer/section");
        document.querySelector(".messages").innerHTML =
          "<div class=message-success>You added Green Tea to your <a>shopping cart</a>.</div>";
      });</script>"""
    shop.latency = 0.15
    vendor = shop.vendor({"add_to_cart": "button.tocart", "cart_confirmation": ".message-success"})

    result = buyer.add(vendor, CartRequest(shop.url("/p/green-tea"), 2), known_cart=())

    assert shop.held == [("green-tea", "", 2)]
    assert result.confirmed
    assert not result.signed_in


def test_prestashop(shop, buyer):
    """Each choice replaces the whole form by AJAX, the quantity too; then a modal over the page."""
    form = """<input type=hidden name=slug value=green-tea><span>Size</span>
      <select name=option id=group_1 data-product-attribute=1>{sizes}</select>
      <input id=quantity_wanted name=quantity type=number value=1 min=1>
      <button class=add-to-cart>Add to cart</button>"""

    def sizes(chosen):
        return "".join(
            f"<option value={size} {'selected' if size == chosen else ''}>{size}</option>"
            for size in "SML"
        )

    shop.overrides["GET /refresh"] = lambda visit: HTMLResponse(
        fill(form, sizes=sizes(visit.query["size"]))
    )
    shop.on_add = say_ok
    shop.overrides["GET /en/home/7-green-tea.html"] = lambda visit: (
        "<h1>Green Tea</h1><form id=buy>"
        + fill(form, sizes=sizes("S"))
        + """</form><div id=modal class=modal hidden>Product successfully added</div>
        <style>.modal:not([hidden]) { position: fixed; inset: 0; background: #fff }</style><script>
        buy.addEventListener("change", async (event) => {
          if (event.target.id !== "group_1") return;
          const size = event.target.value;
          buy.innerHTML = await (await fetch("/refresh?size=" + size)).text();
          history.replaceState(null, "", "/en/home/7-green-tea.html#/2-size-" + size.toLowerCase());
        });
        buy.addEventListener("submit", async (event) => {
          event.preventDefault();
          await fetch("/add", { method: "POST", body: new URLSearchParams(new FormData(buy)) });
          modal.hidden = false;
        });</script>"""
    )
    shop.latency = 0.15
    shop.parts.row = """<li class=row>
      <a class=name href="/en/mugs/7-{slug}.html#/2-size-m">{name}</a>
      <div>Size: <span>{variant}</span></div>
      <span class=quantity><input value={quantity}><button>▲</button></span></li>"""
    vendor = shop.vendor(
        {
            "quantity_input": "#quantity_wanted",
            "variants": {"Size": {"kind": "select", "selector": "#group_1"}},
            "add_to_cart": "button.add-to-cart",
            "cart_confirmation": "#modal",
        }
    )

    result = buyer.add(
        vendor, CartRequest(shop.url("/en/home/7-green-tea.html"), 3, "M"), known_cart=()
    )

    assert shop.held == [("green-tea", "M", 3)]
    assert result.line.quantity == 3


def test_opencart(shop, buyer):
    """Products told apart by the query alone, a message that can be closed, a required option."""

    def index(visit):
        route = visit.query.get("route")
        if route == "checkout/cart":
            return shop.cart_html(visit)
        return fill(
            """<div id=alert></div><h1>{name}</h1><form id=product>
            <input type=hidden name=slug value={slug}>
            <input type=radio name=option value=15 id=a><label for=a>Small</label>
            <input type=radio name=option value=16 id=b><label for=b>Large (+£5.00)</label>
            <input name=quantity value=2>
            <button id=button-cart type=button>Add to Cart</button></form>
            <script>document.querySelector("#button-cart").onclick = async () => {
              const body = new URLSearchParams(new FormData(product));
              const said = await (await fetch("/add", { method: "POST", body })).json();
              document.querySelector("#alert").innerHTML = said.ok
                ? "<p class=alert-success>Success: You have added it to your cart!</p>"
                : "<p class=alert-danger>Size required!</p>";
            }</script>""",
            slug=visit.query["product_id"],
            name=visit.query["product_id"],
        )

    shop.on_add = lambda visit: (
        say_ok(visit) if visit.form.get("option") else JSONResponse({"ok": False})
    )
    shop.overrides["GET /index.php"] = index
    shop.carts[EMAIL].append(["tea-pot", "15", 4])
    shop.parts.row = """<tr class=row><td class=name><a
      href="/index.php?route=product/product&language=en&product_id={slug}">{name}</a><br>
      <small>Size: {variant}</small></td><td class=quantity><input value={quantity}>
      <a href="/index.php?route=checkout/cart&remove={id}">x</a></td></tr>"""
    shop.parts.cart = "<table id=cart>{rows}</table>"
    vendor = shop.vendor(
        {
            "quantity_input": "#product input[name=quantity]",
            "variants": {
                "Size": {"kind": "click", "selector": "//label[starts-with(., '{value}')]"}
            },
            "add_to_cart": "#button-cart",
            "cart_confirmation": ".alert-success",
            "cart_error": ".alert-danger",
        },
        cart_url=shop.url("/index.php?route=checkout/cart"),
    )
    tea = shop.url("/index.php?route=product/product&product_id=green-tea")

    with pytest.raises(QuantityRefused, match="Size required"):
        buyer.add(vendor, CartRequest(tea, 3))
    result = buyer.add(vendor, CartRequest(tea, 3, "Large"))

    assert shop.held == [("tea-pot", "15", 4), ("green-tea", "16", 3)]
    assert (result.quantity_before, result.quantity_after) == (0, 3)


SPA = """<div id=root></div><script>
  let cart = [];
  const load = async () => {{ cart = await (await fetch("/cart.json")).json(); }};
  const go = async (path) => {{ history.pushState(null, "", path); await show(); }};
  const pages = {{
    "/p/green-tea": () => `<h1>Green Tea</h1><button class="x1a">Save</button>
      <button class="x1a" onclick="addIt()">Add to bag</button>`,
    "/cart": () => cart.length ? cart.map((line) => `<div class="x9"><h3>${{line.name}}</h3>
      <div class="x8"><button aria-label="Less">-</button><span>${{line.quantity}}</span>
      <button aria-label="More">+</button></div></div>`).join("") : "<h2>Nothing here yet</h2>",
  }};
  const addIt = async () => {{
    const body = JSON.stringify({{ slug: "green-tea", quantity: 1 }});
    const headers = {{ "Content-Type": "application/json" }};
    await fetch("/add", {{ method: "POST", body, headers }});
    await go("/cart");
  }};
  const show = async () => {{
    root.innerHTML = "<div class=spinner>…</div>";
    await load();
    root.innerHTML = "<p class=hello></p><header>Hi, buyer</header>" + pages[location.pathname]();
  }};
  setTimeout(show, {hydration});
</script>"""


def test_a_single_page_shop(shop, buyer):
    """Saleor's or EverShop's kind: rendered by script, generated classes, routes without loads."""
    shop.on_add = say_ok
    shop.latency = 0.1
    shop.parts.hello = ""
    page = SPA.format(hydration=300)
    shop.overrides |= {"GET /p/green-tea": lambda _: page, "GET /cart": lambda _: page}
    vendor = shop.vendor(
        {
            "logged_in_indicator": "//header[contains(., 'Hi, ')]",
            "quantity_input": None,
            "add_to_cart": "//button[.='Add to bag']",
            "cart_confirmation": None,
            "cart_row": "//div[h3]",
            "cart_row_name": "//h3",
            "cart_quantity": "//button[@aria-label='Less']/following-sibling::span",
            "cart_empty_indicator": "//h2[.='Nothing here yet']",
        }
    )

    result = buyer.add(vendor, CartRequest(shop.url("/p/green-tea"), 3))

    assert shop.held == [("green-tea", "", 3)]
    assert result.quantity_after == 3
    assert shop.adds == [("green-tea", "", 1)] * 3


def test_evershop(shop, buyer):
    """The asked page is one variant's, a button loads another by AJAX under the same path."""
    shop.on_add = say_ok
    shop.overrides["GET /cups/cup-white"] = lambda visit: (
        """<h1>Cup - White</h1>
      <dl><dt>Colour</dt><dd>White</dd></dl><ul class=variants>
      <li><button type=button>White</button></li><li><button type=button>Black</button></li></ul>
      <p class=note></p><input name=qty type=number value=1 min=1 step=any>
      <button type=button class=add>Add to cart</button>
      <div role=dialog hidden>Added</div><script>
      const query = (selector) => document.querySelector(selector);
      let slug = null;
      query("ul").addEventListener("click", async (event) => {
        const colour = event.target.textContent;
        await fetch("/variant?colour=" + colour);
        slug = colour === "Black" ? "tea-pot" : "blue-mug";
        query("h1").textContent = "Cup - " + colour;
        query("dd").textContent = colour;
        history.replaceState(null, "", "?colour=" + colour);
      });
      query(".add").addEventListener("click", async () => {
        if (!slug) { query(".note").textContent = "Please select variant options"; return; }
        const body = new URLSearchParams({ slug, quantity: query("input").value });
        await fetch("/add", { method: "POST", body });
        query("[role=dialog]").hidden = false;
      });</script>"""
    )
    shop.latency = 0.1
    names = {"tea-pot": "black", "blue-mug": "white"}
    shop.overrides["GET /cart"] = lambda visit: (
        "<div id=cart>"
        + "".join(
            f"<div class=row><a class=name href=/cups/cup-{names[slug]}>"
            f"Cup - {names[slug].title()}</a>"
            f"<div>Colour: {names[slug].title()}</div><b class=quantity>{quantity}</b></div>"
            for slug, _, quantity in visit.cart
        )
    )
    vendor = shop.vendor(
        {
            "quantity_input": "input[name=qty]",
            "variants": {
                "Colour": {
                    "kind": "click",
                    "selector": "//ul[@class='variants']//button[.='{value}']",
                    "settled": "//dd[.='{value}']",
                }
            },
            "add_to_cart": "//button[.='Add to cart']",
            "cart_confirmation": "[role=dialog]",
            "cart_empty_indicator": None,
        }
    )
    cup = shop.url("/cups/cup-white")

    first = buyer.add(vendor, CartRequest(cup, 1, "White"), known_cart=())
    second = buyer.add(vendor, CartRequest(cup, 2, "black"), known_cart=first.cart)
    third = buyer.add(vendor, CartRequest(cup, 2, "black"), intent=buyer.intents[-1])

    assert shop.held == [("blue-mug", "", 1), ("tea-pot", "", 2)]
    assert (second.quantity_before, second.quantity_after) == (0, 2)
    assert (third.quantity_before, third.quantity_after) == (0, 2)
    with pytest.raises(CartMismatch, match="wants a choice"):
        buyer.add(vendor, CartRequest(cup, 1), known_cart=third.cart)


def test_a_server_rendered_shop_that_wakes_up_late(shop, buyer):
    """The button is there from the beginning and does nothing until the bundle has run."""
    shop.on_add = say_ok
    shop.overrides["GET /bundle.js"] = lambda visit: HTMLResponse(
        """document.querySelector(".add").addEventListener("click", () => fetch("/add", {
          method: "POST", body: new URLSearchParams({ slug: "green-tea" }) }));""",
        headers={"Content-Type": "text/javascript"},
    )
    shop.parts.product = """<h1>{name}</h1>
      <div id=buy><button type=button class=add>Add</button></div>
      <script src=/bundle.js async></script>"""
    shop.latency = 0.4
    vendor = shop.vendor({"quantity_input": None, "cart_confirmation": None})

    buyer.add(vendor, CartRequest(shop.url("/p/green-tea")), known_cart=())

    assert shop.held == [("green-tea", "", 1)]


def test_nopcommerce(shop, buyer):
    """A bar that is always in the page, AJAX with a throbber, a list that lacks a combination."""
    shop.on_add = lambda visit: (
        say_ok(visit)
        if visit.form.get("option") == "2"
        else JSONResponse({"ok": False, "message": "Not available in this colour"})
    )
    shop.parts.product = """<div id=bar class=bar-notification style="display:none"><p></p></div>
      <h1>{name}</h1><form id=buy><input type=hidden name=slug value={slug}>
      <dl><dt>Colour<dd><select name=option><option value=0>Please select<option value=1>Red
      <option value=2>Blue [+$5.00]</select></dl><input class=qty-input name=quantity value=1>
      <button type=button class=add-to-cart-button>Add to cart</button></form>
      <div class=throbber style="position:fixed;inset:0;display:none"></div><script>
      document.querySelector(".add-to-cart-button").onclick = async () => {
        const throbber = document.querySelector(".throbber");
        const body = new URLSearchParams(new FormData(buy));
        throbber.style.display = "block";
        const said = await (await fetch("/add", { method: "POST", body })).json();
        throbber.style.display = "none";
        bar.firstChild.textContent = said.message ?? "The product has been added";
        bar.className = "bar-notification " + (said.ok ? "success" : "error");
        bar.style.display = "block";
      }</script>"""
    shop.parts.row = """<tr class=row><td>SKU-{slug}<td class=name><a href=/p/{slug}>{name}</a>
      <div>Colour: {variant}</div><td><span>Qty.:</span><input class=quantity value={quantity}>"""
    shop.parts.cart = "<table id=cart>{rows}</table>"
    vendor = shop.vendor(
        {
            "quantity_input": ".qty-input",
            "variants": {"Colour": {"kind": "select", "selector": "#buy select"}},
            "add_to_cart": ".add-to-cart-button",
            "cart_confirmation": ".bar-notification.success",
            "cart_error": ".bar-notification.error",
        }
    )
    tea = shop.url("/p/green-tea")

    buyer.add(vendor, CartRequest(tea, 2, "blue"), known_cart=())
    with pytest.raises(OptionUnavailable, match="Not available in this colour"):
        buyer.add(vendor, CartRequest(tea, 1, "Red"))

    assert shop.held == [("green-tea", "2", 2)]


def test_a_cart_kept_in_the_browser(shop, buyer):
    """Nothing is sent on an add, and the button becomes its contrary."""
    shop.parts.product = """<h1>{name}</h1><div id=buy></div><script>
      const held = () => JSON.parse(localStorage.cart ?? "[]");
      const show = () => { buy.innerHTML = held().includes("{slug}")
        ? "<button onclick='localStorage.cart = `[]`; show()'>Remove</button>"
        : "<button onclick='put()'>Add to cart</button>"; };
      const put = () => { localStorage.cart = JSON.stringify([...held(), "{slug}"]); show(); };
      show();</script>"""
    shop.overrides["GET /cart"] = lambda visit: (
        """<div id=list></div><script>
      list.innerHTML = JSON.parse(localStorage.cart ?? "[]").map((slug) =>
        `<div class=row><a class=name href=/p/${slug}>Item</a><b class=quantity>1</b></div>`
      ).join("");</script>"""
    )
    vendor = shop.vendor(
        {
            "add_to_cart": "//button[.='Add to cart']",
            "quantity_input": None,
            "cart_confirmation": None,
            "cart_row": ".row",
            "cart_empty_indicator": None,
        },
        cart_scope="session",
    )
    tea, mug = (shop.url(f"/p/{slug}") for slug in ("green-tea", "blue-mug"))

    first = buyer.add(vendor, CartRequest(tea))
    buyer.forget_browser()
    second = buyer.add(vendor, CartRequest(mug), known_cart=first.cart)
    with pytest.raises(QuantityRefused, match="takes no more"):
        buyer.add(vendor, CartRequest(shop.url("/p/tea-pot"), 2), known_cart=second.cart)

    assert [line.url for line in second.cart] == [tea, mug]


def test_a_shop_on_one_page(shop, buyer):
    """List, product and cart at once; the chosen product is an option, the URL changes."""
    page = """<div id=shop><ul>
        <li data-slug=green-tea><h3>Green Tea</h3><button>Add</button></li>
        <li data-slug=blue-mug><h3>Blue Mug</h3><button>Add</button></li></ul></div>
      <aside id=cart></aside><script>
      const draw = async () => {
        const lines = await (await fetch("/cart.json")).json();
        const row = (line) => `<p class=row><b class=name>${line.name}</b>
          <i class=quantity>× ${line.quantity}</i></p>`;
        cart.innerHTML = lines.map(row).join("") || "<p class=empty>Empty</p>";
      };
      document.querySelector("#shop").addEventListener("click", async (event) => {
        const slug = event.target.closest("li")?.dataset.slug;
        if (event.target.tagName !== "BUTTON") return;
        await fetch("/add", { method: "POST", body: new URLSearchParams({ slug }) });
        history.pushState(null, "", "/shop?basket=" + slug);
        draw();
      });
      draw();</script>"""
    shop.on_add = say_ok
    shop.latency = 0.1
    shop.overrides["GET /shop"] = lambda visit: page
    vendor = shop.vendor(
        {
            "quantity_input": None,
            "add_to_cart": "#shop li button",
            "cart_confirmation": None,
        },
        cart_url=shop.url("/shop"),
    )

    result = buyer.add(
        vendor, CartRequest(shop.url("/shop"), 2, product_name="Blue Mug"), known_cart=()
    )

    assert shop.held == [("blue-mug", "", 2)]
    assert result.quantity_after == 2


def test_a_shop_with_a_cart_of_plain_text(shop, buyer):
    """No links, the option in brackets, the quantity within the text."""
    shop.parts.product = """<h1>{name}</h1><form id=buy method=post action=/add>
      <input type=hidden name=slug value={slug}>
      <select name=option><option>Mild<option>Strong</select>
      <input name=quantity value=1><button class=add>Kaufen</button></form>"""
    shop.parts.row = "<p class=row><span>{quantity} x</span> {name} ({variant})</p>"
    vendor = shop.vendor(
        {
            "variants": {"Taste": {"kind": "select", "selector": "#buy select"}},
            "cart_row_name": None,
            "cart_quantity": None,
        }
    )
    request = CartRequest(shop.url("/p/green-tea"), 2, "Strong")
    shop.carts[EMAIL].append(["green-tea", "Mild", 1])

    result = buyer.add(vendor, request)
    again = buyer.add(vendor, request, intent=buyer.intents[-1])

    assert shop.held == [("green-tea", "Mild", 1), ("green-tea", "Strong", 2)]
    assert (result.quantity_before, result.quantity_after) == (0, 2)
    assert (again.quantity_before, again.quantity_after) == (0, 2)
    assert len(buyer.intents) == 1


def test_a_redirect_after_a_pause_does_not_cut_the_way_to_the_cart(shop, buyer):
    page = """<p class="message success">Added</p>
      <script>setTimeout(() => { location = "/cart?from=add" }, 50)</script>"""
    shop.on_add = lambda visit: shop.put_form(visit) or page

    result = buyer.add(shop.vendor(), CartRequest(shop.url("/p/green-tea")), known_cart=())

    assert result.quantity_after == 1
    assert shop.adds == [("green-tea", "", 1)]


def test_an_upsell_page_between_product_and_cart(shop, buyer):
    shop.on_add = lambda visit: shop.put_form(visit) or RedirectResponse("/upsell", 303)
    shop.overrides["GET /upsell"] = lambda visit: (
        "<h1>Add a gift?</h1><button class=add>Add to cart</button>"
    )

    result = buyer.add(shop.vendor(), CartRequest(shop.url("/p/green-tea"), 2), known_cart=())

    assert result.quantity_after == 2

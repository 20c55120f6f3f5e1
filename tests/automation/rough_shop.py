"""A small shop on loopback whose pages the tests write, after shops that have been seen.

It keeps what must be true: sessions, carts, and a ledger of the adds that took effect. How it looks
and answers is `parts`: pieces of HTML that a test replaces, and `on_add`, its answer to an add.
"""

import asyncio
import json
import socket
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from urllib.parse import parse_qsl
from uuid import uuid4

import uvicorn
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from tests.automation.buyer import PASSWORD

EMAIL = "buyer@example.test"

GOODS = {"green-tea": "Green Tea", "blue-mug": "Blue Mug", "tea-pot": "Tea Pot"}

SELECTORS = {
    "email_input": "#login input[name=email]",
    "password_input": "#login input[name=password]",
    "login_button": "#login button",
    "logged_in_indicator": ".hello",
    "login_error": "#login .error",
    "quantity_input": "#buy input[name=quantity]",
    "add_to_cart": "#buy button.add",
    "cart_confirmation": ".message.success",
    "cart_error": ".message.error",
    "out_of_stock_indicator": ".sold-out",
    "cart_row": "#cart .row",
    "cart_row_name": ".name",
    "cart_quantity": ".quantity",
    "cart_update": None,
    "cart_empty_indicator": "#cart .empty",
    "blocked_indicator": ".blocked",
    "captcha_indicator": ".captcha",
}

LOGIN_FORM = """<form id=login method=post action=/login>
  <input name=email><input name=password type=password><button>Log in</button></form>"""

BUY_FORM = """<form id=buy method=post action=/add><input type=hidden name=slug value={slug}>
  <input name=quantity type=number value=1><button class=add>Add to cart</button></form>"""

CART_ROW = """<div class=row><a class=name href=/p/{slug}>{name}</a> <span>{variant}</span>
  <b class=quantity>{quantity}</b></div>"""


@dataclass
class Parts:
    """Pieces of the pages. `{slug}`, `{name}`, `{variant}`, `{quantity}`, `{id}` are filled in."""

    top: str = ""  # on every page
    hello: str = "<p class=hello>Hello {email}</p>"
    login: str = LOGIN_FORM
    product: str = "<h1>{name}</h1>" + BUY_FORM
    row: str = CART_ROW
    cart: str = "<div id=cart>{rows}</div>"
    empty: str = "<div id=cart><p class=empty>Your cart is empty</p></div>"


class Visit:
    """One request, by one visitor."""

    def __init__(self, shop, request, body):
        self.shop = shop
        self.request = request
        self.path = request.url.path
        self.session = request.cookies.get("sid") or uuid4().hex
        is_json = "json" in request.headers.get("content-type", "")
        self.form = json.loads(body) if is_json else dict(parse_qsl(body.decode()))
        self.query = dict(request.query_params)

    @property
    def email(self):
        return self.shop.sessions.get(self.session)

    @property
    def cart(self):
        by_account = self.email and not self.shop.cart_of_session
        return self.shop.carts[self.email if by_account else self.session]

    @property
    def wants_json(self):
        return "json" in self.request.headers.get("accept", "")


class RoughShop:
    def __init__(self):
        self.reset()
        self._listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(self, log_level="critical", lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],))

    def __enter__(self):
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *_):
        self._server.force_exit = True
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def reset(self):
        self.parts = Parts()
        self.on_add = redirect_to_cart
        self.accounts = {EMAIL: PASSWORD}
        self.sessions = {}
        self.carts = defaultdict(list)
        self.cart_of_session = False
        self.adds = []
        self.visits = []
        self.overrides = {}  # "GET /path": a function of the visit
        self.latency = 0.0

    # ---- what the tests ask ---------------------------------------------------------------------

    def url(self, path=""):
        return f"http://rough.localhost:{self._listener.getsockname()[1]}{path}"

    def vendor(self, selectors=None, **data):
        return {
            "name": "Rough Shop",
            "domain": "rough.localhost",
            "login_url": self.url("/login"),
            "cart_url": self.url("/cart"),
            "allow_private_network": True,
            **data,
            "selectors": {**SELECTORS, **(selectors or {})},
        }

    def log_in_as(self, email):
        """The storage state of a browser that is logged in."""
        self.sessions["known"] = email
        cookie = {"name": "sid", "value": "known", "domain": "rough.localhost", "path": "/"}
        flags = {"expires": -1, "httpOnly": False, "secure": False, "sameSite": "Lax"}
        return {"cookies": [cookie | flags], "origins": []}

    @property
    def held(self):
        """The cart of the account: (slug, variant, quantity), oldest first."""
        return [tuple(line) for line in self.carts[EMAIL]]

    def count(self, method_and_path):
        return self.visits.count(method_and_path)

    # ---- selling --------------------------------------------------------------------------------

    def put(self, visit, slug, quantity=1, variant=""):
        """Takes effect: one line for each product and variant."""
        self.adds.append((slug, variant, quantity))
        for line in visit.cart:
            if line[:2] == [slug, variant]:
                line[2] += quantity
                return
        visit.cart.append([slug, variant, quantity])

    def put_form(self, visit):
        variant = ", ".join(
            value for name, value in visit.form.items() if name.startswith("option") and value
        )
        self.put(visit, visit.form["slug"], int(visit.form.get("quantity") or 1), variant)

    # ---- answering ------------------------------------------------------------------------------

    async def __call__(self, scope, receive, send):
        request = Request(scope, receive)
        visit = Visit(self, request, await request.body())
        key = f"{request.method} {visit.path}"
        self.visits.append(key)
        await asyncio.sleep(self.latency)
        answer = self.overrides.get(key, self._answer)(visit)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, str):
            answer = self.page(visit, answer)
        answer.set_cookie("sid", visit.session)
        await answer(scope, receive, send)

    def _answer(self, visit):
        if visit.path == "/login":
            return self.log_in(visit) if visit.request.method == "POST" else self.parts.login
        if visit.path.startswith("/p/"):
            return self.product_page(visit, visit.path[3:])
        if visit.path == "/cart":
            return self.cart_html(visit)
        if visit.path == "/cart.json":
            return JSONResponse(self.cart_lines(visit))
        if visit.path == "/add":
            return self.on_add(visit)
        if visit.path == "/update":
            return self.update(visit)
        return HTMLResponse("<h1>Not found</h1>" if visit.path != "/" else "<h1>Home</h1>", 404)

    def page(self, visit, body, status=200):
        hello = self.parts.hello.replace("{email}", visit.email) if visit.email else ""
        html = f"<!doctype html><meta charset=utf-8>{hello}{self.parts.top}{body}"
        return HTMLResponse(html, status)

    def log_in(self, visit):
        if self.accounts.get(visit.form.get("email")) != visit.form.get("password"):
            return self.parts.login.replace("</form>", "<p class=error>Wrong password</p></form>")
        self.sessions[visit.session] = visit.form["email"]
        return RedirectResponse("/account", 303)

    def product_page(self, visit, slug):
        if slug not in GOODS:
            return self.page(visit, "<h1>Not found</h1>", 404)
        return fill(self.parts.product, slug=slug, name=GOODS[slug])

    def cart_lines(self, visit):
        return [
            {"id": index, "slug": slug, "name": GOODS[slug], "variant": variant, "quantity": count}
            for index, (slug, variant, count) in enumerate(visit.cart)
        ]

    def cart_html(self, visit):
        rows = "".join(fill(self.parts.row, **line) for line in self.cart_lines(visit))
        return fill(self.parts.cart, rows=rows) if rows else self.parts.empty

    def update(self, visit):
        for name, value in visit.form.items():
            if name.startswith("quantity."):
                visit.cart[int(name.partition(".")[2])][2] = int(value)
        return RedirectResponse("/cart", 303)


def fill(html, **values):
    for name, value in values.items():
        html = html.replace(f"{{{name}}}", str(value))
    return html


# ---- answers to an add --------------------------------------------------------------------------


def redirect_to_cart(visit):
    visit.shop.put_form(visit)
    return RedirectResponse("/cart", 303)


def back_to_product(visit):
    """To the product page again, without a word."""
    visit.shop.put_form(visit)
    return RedirectResponse(f"/p/{visit.form['slug']}", 303)


def say_ok(visit):
    visit.shop.put_form(visit)
    return JSONResponse({"ok": True, "count": sum(line[2] for line in visit.cart)})


def no_content(visit):
    visit.shop.put_form(visit)
    return Response(status_code=204)

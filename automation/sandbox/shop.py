"""One shop's pages. A visit is read first, then the switches decide what stands in its way."""

import asyncio
import base64
import json
import random
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from automation.sandbox.catalogue import Product
from automation.sandbox.fronts import INFORMATION, Front
from automation.sandbox.ledger import Ledger, Line, Session
from automation.sandbox.ordering import (
    Refused,
    check_order,
    check_quantity,
    read_order,
    read_quantity,
)
from automation.sandbox.pages import Pages
from automation.sandbox.switches import Scope, Switchboard, Switches

SESSION_COOKIE = "shop_session"
CSRF_COOKIE = "shop_csrf"
MESSAGE_COOKIE = "shop_message"
CONSENT_COOKIE = "shop_consent"
SESSION_SECONDS = 14 * 24 * 3600
# Enough that a double click is always among them, few enough to forget.
REMEMBERED_FORMS = 1000


@dataclass(slots=True)
class Visit:
    request: Request
    form: dict[str, str]
    session: Session | None
    product: Product | None
    scope: Scope
    switches: Switches
    csrf: str

    @property
    def account(self) -> str | None:
        return self.session.account if self.session else None

    @property
    def wants_json(self) -> bool:
        return "application/json" in self.request.headers.get("accept", "")


Handler = Callable[[Visit], Awaitable[Response]]


class Shop:
    def __init__(self, front: Front, ledger: Ledger) -> None:
        self.front = front
        self.ledger = ledger
        self.switchboard = Switchboard(front.switches)
        self._used_forms: OrderedDict[str, None] = OrderedDict()
        self._pages = Pages(front)

    def routes(self) -> list[Route]:
        front = self.front
        gets: dict[str, Handler] = {
            "/": self.home,
            "/search": self.search,
            "/challenge": self.challenge,
            "/about/{topic}": self.information,
            front.category_path + "/{category}": self.category,
            front.product_path + "/{slug}": self.show_product,
            front.product_path + "/{slug}/offer": self.offer,
            front.login_path: self.show_login,
            front.account_path: self.show_account,
            front.cart_path: self.show_cart,
            front.cart_path + "/drawer": self.show_drawer,
        }
        posts: dict[str, Handler] = {
            "/challenge": self.challenge,
            front.login_path: self.log_in,
            front.logout_path: self.log_out,
            front.cart_path + "/add": self.add,
            front.cart_path + "/update": self.update_cart,
        }
        return [
            Route("/assets/{name}", self.asset),
            *(Route(path, self._door(handler), methods=["GET"]) for path, handler in gets.items()),
            *(
                Route(path, self._door(handler), methods=["POST"])
                for path, handler in posts.items()
            ),
            Route("/{path:path}", self._door(self.not_found)),
        ]

    # The way in

    def _door(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def open_page(request: Request) -> Response:
            visit = await self._read_visit(request)
            response = await self._obstacle(visit)
            if response is None:
                response = await handler(visit)
            if CSRF_COOKIE not in request.cookies:
                response.set_cookie(CSRF_COOKIE, visit.csrf, samesite="lax")
            if visit.session and visit.session.token != request.cookies.get(SESSION_COOKIE):
                response.set_cookie(
                    SESSION_COOKIE,
                    visit.session.token,
                    max_age=SESSION_SECONDS,
                    httponly=True,
                    samesite="lax",
                )
            return response

        return open_page

    async def _read_visit(self, request: Request) -> Visit:
        form: dict[str, str] = {}
        if request.method == "POST":
            body = await request.body()
            form = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        token = request.cookies.get(SESSION_COOKIE)
        session = self.ledger.find_session(self.front.host, token) if token else None
        slug = request.path_params.get("slug") or form.get("product")
        scope = Scope(
            account=(session and session.account) or form.get("email", "").strip().lower() or None,
            product=slug if slug in self.front.products else None,
        )
        return Visit(
            request=request,
            form=form,
            session=session,
            product=self.front.products.get(slug) if slug else None,
            scope=scope,
            switches=self.switchboard.switches_for(scope),
            csrf=request.cookies.get(CSRF_COOKIE) or secrets.token_urlsafe(16),
        )

    async def _obstacle(self, visit: Visit) -> Response | None:
        switches, board = visit.switches, self.switchboard
        wait = board.seconds_to_wait("rate_limit", switches.rate_window_seconds, visit.scope)
        if wait is not None:
            return _too_many("Too Many Requests", wait)
        if switches.latency_ms:
            await asyncio.sleep(switches.latency_ms / 1000)
        if board.take("fail_next", visit.scope):
            return self._notice(visit, 500, "Something broke", "Our shop stumbled. Try again soon.")
        if visit.account and switches.blocked:
            return self._suspended(visit)
        if visit.request.method == "POST" and not secrets.compare_digest(
            visit.form.get("csrf", "").encode(), visit.csrf.encode()
        ):
            return self._notice(
                visit, 403, "This form is too old", "Go back, load the page again and resend it."
            )
        return None

    # Looking around

    async def home(self, visit: Visit) -> Response:
        goods = self._shelf()
        showcase = [goods[number * len(goods) // 4] for number in range(4)]
        return self._render(visit, "home.html", goods=goods, showcase=showcase)

    async def category(self, visit: Visit) -> Response:
        wanted = visit.request.path_params["category"]
        for category in self.front.categories:
            if category.lower() == wanted:
                goods = [item for item in self._shelf() if item.category == category]
                return self._render(visit, "list.html", title=category, goods=goods)
        return await self.not_found(visit)

    async def search(self, visit: Visit) -> Response:
        wanted = visit.request.query_params.get("q", "").strip()
        goods = [
            item for item in self._shelf() if wanted.lower() in f"{item.name} {item.slug}".lower()
        ]
        title = f"Results for “{wanted}”" if wanted else "All products"
        return self._render(visit, "list.html", title=title, goods=goods, wanted=wanted)

    async def information(self, visit: Visit) -> Response:
        topic = INFORMATION.get(visit.request.path_params["topic"])
        if topic is None:
            return await self.not_found(visit)
        return self._notice(visit, 200, *topic)

    async def not_found(self, visit: Visit) -> Response:
        return self._notice(
            visit, 404, "We don't have that page", "It may have moved. Search, or start over."
        )

    async def show_product(self, visit: Visit) -> Response:
        product, switches = visit.product, visit.switches
        if product is None:
            return await self.not_found(visit)
        if switches.redirect_to:
            return _redirect(switches.redirect_to, status=302)
        if switches.captcha == "product":
            return await self.challenge(visit)
        related = [
            other
            for other in self._shelf()
            if other.category == product.category and other.slug != product.slug
        ]
        return self._render(
            visit,
            "product.html",
            product=product,
            sold_out=product.stock == 0 or switches.out_of_stock == "shown",
            related=related[:4],
        )

    async def offer(self, visit: Visit) -> Response:
        """The AJAX answer to a choice: can it be had."""
        if visit.product is None:
            return await self.not_found(visit)
        await asyncio.sleep(visit.switches.variant_ajax_ms / 1000)
        query = visit.request.query_params
        variant = {
            option.name: query.get(f"option.{option.name}", "") for option in visit.product.options
        }
        return JSONResponse({"in_stock": visit.product.sells(variant)})

    # Accounts

    async def show_login(self, visit: Visit) -> Response:
        if visit.account and visit.switches.login_redirects:
            return _redirect(self.front.account_path)
        if visit.switches.captcha == "login":
            return await self.challenge(visit)
        return self._render(visit, "login.html")

    async def log_in(self, visit: Visit) -> Response:
        host, switches = self.front.host, visit.switches
        email = visit.form.get("email", "").strip().lower()
        limited = self.switchboard.seconds_to_wait(
            "login_limit", switches.login_window_seconds, visit.scope
        )
        if limited is not None:
            self.ledger.note(host, email, visit.session, "log_in_limited")
            return _too_many("Too many log-in attempts. Please try again later.", limited)
        if switches.captcha == "login":
            self.ledger.note(host, email, visit.session, "log_in_challenged")
            return await self.challenge(visit)
        if not self.ledger.has_password(host, email, visit.form.get("password", "")):
            self.ledger.note(host, email, visit.session, "log_in_failed")
            return self._render(visit, "login.html", email=email, error=True)
        if switches.blocked:
            self.ledger.note(host, email, visit.session, "log_in_blocked")
            return self._suspended(visit)
        if switches.captcha == "after_login":
            self.ledger.note(host, email, visit.session, "log_in_challenged")
            return _redirect("/challenge")
        session = visit.session or self.ledger.start_session(host)
        visit.session = self.ledger.log_in(host, session, email)
        return _redirect(self.front.account_path)

    async def log_out(self, visit: Visit) -> Response:
        if visit.session:
            self.ledger.note(self.front.host, visit.account, visit.session, "log_out")
            self.ledger.forget_session(visit.session)
            visit.session = None
        return _redirect("/")

    async def show_account(self, visit: Visit) -> Response:
        if not visit.account:
            return _redirect(self.front.login_path)
        return self._render(visit, "account.html")

    async def challenge(self, visit: Visit) -> Response:
        """A captcha that no answer satisfies."""
        letters = [
            {"letter": letter, "turn": random.randint(-28, 28), "drop": random.randint(-9, 9)}
            for letter in random.sample("ABDEFGHKMNPRSTXYZ346789", 6)
        ]
        return self._render(visit, "challenge.html", letters=letters, missed="answer" in visit.form)

    # The cart

    async def show_cart(self, visit: Visit) -> Response:
        return self._render(visit, "cart.html", lines=self._priced_cart(visit))

    async def show_drawer(self, visit: Visit) -> Response:
        return self._render(visit, "drawer.html", lines=self._priced_cart(visit))

    async def add(self, visit: Visit) -> Response:
        switches, scope, product = visit.switches, visit.scope, visit.product
        if product is None or product.is_family:
            return await self.not_found(visit)
        if switches.captcha == "add":
            return _redirect("/challenge")
        if visit.session and self.switchboard.take("expire_before_adds", scope):
            self.ledger.forget_session(visit.session)
            visit.session = None
        await asyncio.sleep(switches.add_delay_ms / 1000)

        host = self.front.host
        session = visit.session = visit.session or self.ledger.start_session(host)
        owner = session.cart_owner(switches.cart_scope)
        if not self._is_fresh(visit):
            self.ledger.note(host, session.account, session, "add_repeated", product=product.slug)
            return self._answer_add(visit, product, "success", "Added to your basket")
        if switches.variant_ajax_ms and product.settles and not visit.form.get("settled"):
            self.ledger.note(host, session.account, session, "add_ignored", product=product.slug)
            return self._answer_add(visit, product, "nothing", "")
        try:
            order = read_order(product, visit.form)
            if switches.out_of_stock != "no":
                raise Refused("stock", f"Sorry, {product.name} has just sold out.")
            check_order(product, order, self.ledger.cart(host, owner))
        except Refused as refusal:
            self.ledger.note(
                host, session.account, session, "add_refused", refusal.reason, product.slug
            )
            kind = "sold-out" if refusal.reason == "stock" else "error"
            return self._answer_add(visit, product, kind, str(refusal))
        self.ledger.add(host, session, owner, product.slug, order)
        if self.switchboard.take("hang_adds", scope):
            await asyncio.sleep(switches.hang_seconds)
        return self._answer_add(visit, product, "success", "Added to your basket")

    def _is_fresh(self, visit: Visit) -> bool:
        """False for the second submit of one form, which a double click sends."""
        token = visit.form.get("form_token")
        if token is None or visit.switches.double_click_adds:
            return True
        if token in self._used_forms:
            return False
        self._used_forms[token] = None
        if len(self._used_forms) > REMEMBERED_FORMS:
            self._used_forms.popitem(last=False)
        return True

    def _answer_add(self, visit: Visit, product: Product, kind: str, text: str) -> Response:
        message = {"kind": kind, "text": text, "name": product.name}
        by_redirect = visit.switches.confirmation == "redirect"
        response: Response
        if visit.wants_json:
            response = JSONResponse(
                message | {"count": self._count(visit), "form_token": secrets.token_urlsafe()}
            )
        elif by_redirect and kind == "success":
            response = _redirect(self.front.cart_path)
        else:
            response = _redirect(self.front.product_url(product))
        is_carried = not visit.wants_json or visit.switches.stale_message
        if is_carried and kind != "nothing" and not (by_redirect and kind == "success"):
            response.set_cookie(MESSAGE_COOKIE, _pack(message), samesite="lax")
        return response

    async def update_cart(self, visit: Visit) -> Response:
        session, host = visit.session, self.front.host
        response = _redirect(self.front.cart_path)
        if session is None:
            return response
        owner = session.cart_owner(visit.switches.cart_scope)
        for line in self.ledger.cart(host, owner):
            is_struck = visit.form.get("remove") == str(line.id)
            wanted = "0" if is_struck else visit.form.get(f"quantity.{line.id}")
            if wanted is None:
                continue
            product = self.front.products[line.product]
            try:
                quantity = read_quantity(wanted)
                check_quantity(product, quantity)
            except Refused as refusal:
                self.ledger.note(
                    host, session.account, session, "update_refused", refusal.reason, line.product
                )
                message = {"kind": "error", "text": str(refusal), "name": product.name}
                response.set_cookie(MESSAGE_COOKIE, _pack(message), samesite="lax")
                continue
            if quantity != line.quantity:
                self.ledger.set_quantity(host, session, owner, line, quantity)
        return response

    def _cart(self, visit: Visit) -> list[Line]:
        if visit.session is None:
            return []
        return self.ledger.cart(
            self.front.host, visit.session.cart_owner(visit.switches.cart_scope)
        )

    def _priced_cart(self, visit: Visit) -> list[dict[str, Any]]:
        return [
            {
                "id": line.id,
                "product": self.front.products[line.product],
                "variant": line.variant,
                "quantity": line.quantity,
                "total": line.quantity * self.front.products[line.product].price,
            }
            for line in self._cart(visit)
        ]

    def _count(self, visit: Visit) -> int:
        return sum(line.quantity for line in self._cart(visit))

    # Pages

    def _shelf(self) -> list[Product]:
        """What lists show: not the pages of single variants."""
        return [item for item in self.front.goods if item.is_family or not item.members]

    def _render(self, visit: Visit, template: str, status: int = 200, **values: Any) -> Response:
        packed = visit.request.cookies.get(MESSAGE_COOKIE)
        html = self._pages.render(
            template,
            account=visit.account,
            switches=visit.switches,
            csrf=visit.csrf,
            count=self._count(visit),
            has_consent=CONSENT_COOKIE in visit.request.cookies,
            message=_unpack(packed) if packed else None,
            **values,
        )
        response = HTMLResponse(html, status_code=status)
        if packed and not visit.switches.stale_message:
            response.delete_cookie(MESSAGE_COOKIE)
        return response

    def _notice(self, visit: Visit, status: int, title: str, text: str) -> Response:
        return self._render(visit, "notice.html", status, title=title, text=text)

    def _suspended(self, visit: Visit) -> Response:
        return self._render(visit, "suspended.html", 403)

    async def asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        content = self._pages.assets.get(name)
        if content is None:
            return PlainTextResponse("Not found", 404)
        kind = "text/css" if name.endswith("css") else "text/javascript"
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content, media_type=kind, headers=headers)


def _redirect(location: str, status: int = 303) -> Response:
    # Not RedirectResponse: that one rewrites the URL, and `redirect_to` must arrive as it was set.
    return Response(status_code=status, headers={"Location": location})


def _too_many(text: str, seconds: float) -> Response:
    headers = {"Retry-After": str(int(seconds) + 1)}
    return PlainTextResponse(text, status_code=429, headers=headers)


def _pack(message: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(message).encode()).decode()


def _unpack(packed: str) -> dict[str, str] | None:
    try:
        message = json.loads(base64.urlsafe_b64decode(packed))
    except ValueError:
        return None
    return message if isinstance(message, dict) else None

"""The control paths under /_sandbox: accounts, switches, and what really happened.

They are for tests, the demo and benchmarks; no page of a shop links to them. README.md has them
in a table.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from automation.sandbox.shop import Shop
from automation.sandbox.switches import Scope, SwitchRefused

Answer = tuple[int, dict[str, Any]]


class Refusal(Exception):
    """The text says what to send instead."""


class Control:
    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._host = shop.front.host
        self._ledger = shop.ledger

    def routes(self) -> list[Route]:
        paths: dict[tuple[str, str], Callable[[Request], Awaitable[Answer]]] = {
            ("GET", "vendor"): self.vendor,
            ("GET", "products"): self.products,
            ("POST", "accounts"): self.save_account,
            ("POST", "expire"): self.expire,
            ("GET", "switches"): self.show_switches,
            ("POST", "switches"): self.set_switches,
            ("DELETE", "switches"): self.reset_switches,
            ("GET", "ledger"): self.entries,
            ("GET", "cart"): self.cart,
            ("GET", "logins"): self.logins,
        }
        return [
            Route(f"/_sandbox/{path}", answering(handler), methods=[method])
            for (method, path), handler in paths.items()
        ]

    async def vendor(self, request: Request) -> Answer:
        switches = self._shop.switchboard.switches_for(Scope())
        return 200, self._shop.front.vendor_data(self._origin(request), switches)

    async def products(self, request: Request) -> Answer:
        front, origin = self._shop.front, self._origin(request)
        return 200, {
            "products": [
                {
                    "slug": product.slug,
                    "name": product.name,
                    "url": origin + front.product_url(product),
                    "price": product.price,
                    "options": {option.name: list(option.values) for option in product.options},
                    "unavailable": [dict(variant) for variant in product.unavailable],
                    "members": [label for label, _ in product.members],
                    "stock": product.stock,
                    "max_quantity": product.max_quantity,
                }
                for product in front.goods
            ]
        }

    async def save_account(self, request: Request) -> Answer:
        body = await read_object(request)
        email, password = body.get("email"), body.get("password")
        if not (isinstance(email, str) and "@" in email and isinstance(password, str) and password):
            raise Refusal("Send {email, password}: an e-mail address and a password.")
        email = email.strip().lower()
        is_new = self._ledger.save_account(self._host, email, password)
        return 201 if is_new else 200, {"email": email}

    async def expire(self, request: Request) -> Answer:
        body = await read_object(request)
        account = _normalise(body.get("account"))
        return 200, {"forgotten": self._ledger.forget_sessions(self._host, account)}

    async def show_switches(self, request: Request) -> Answer:
        board = self._shop.switchboard
        return 200, {
            "standing": {
                name: getattr(board.defaults, name) for name in type(board.defaults).__slots__
            },
            "settings": [
                {"account": scope.account, "product": scope.product, **values}
                for scope, values in board.settings.items()
                if values
            ],
        }

    async def set_switches(self, request: Request) -> Answer:
        body = await read_object(request)
        account, product = _normalise(body.pop("account", None)), body.pop("product", None)
        if product is not None and product not in self._shop.front.products:
            raise Refusal(f"{self._host} has no product {product!r}; see /_sandbox/products.")
        try:
            self._shop.switchboard.set(Scope(account, product), body)
        except SwitchRefused as error:
            raise Refusal(str(error)) from error
        return await self.show_switches(request)

    async def reset_switches(self, request: Request) -> Answer:
        self._shop.switchboard.reset()
        return await self.show_switches(request)

    async def entries(self, request: Request) -> Answer:
        after = request.query_params.get("after", "0")
        if not after.isdecimal():
            raise Refusal("`after` is the id of the last entry that you have.")
        account = _normalise(request.query_params.get("account"))
        return 200, {"entries": self._ledger.entries(self._host, account, int(after))}

    async def cart(self, request: Request) -> Answer:
        account = _normalise(request.query_params.get("account"))
        scope = self._shop.switchboard.switches_for(Scope(account=account)).cart_scope
        front, origin = self._shop.front, self._origin(request)
        carts = self._ledger.carts_of(self._host, account, scope)
        return 200, {
            "account": account,
            "cart_scope": scope,
            "lines": [
                {
                    "owner": owner,
                    "product": line.product,
                    "name": front.products[line.product].name,
                    "url": origin + front.product_url(front.products[line.product]),
                    "variant": line.variant,
                    "quantity": line.quantity,
                }
                for owner, lines in carts.items()
                for line in lines
            ],
        }

    async def logins(self, request: Request) -> Answer:
        account = _normalise(request.query_params.get("account"))
        logins = [
            {key: entry[key] for key in ("at", "account", "session", "action")}
            for entry in self._ledger.entries(self._host, account)
            if entry["action"].startswith("log_in")
        ]
        succeeded = sum(entry["action"] == "log_in" for entry in logins)
        return 200, {"logins": logins, "succeeded": succeeded}

    def _origin(self, request: Request) -> str:
        """The shop's own address, whatever name this request reached the port by."""
        return f"http://{self._host}:{request.scope['server'][1]}"


def answering(
    handler: Callable[[Request], Awaitable[Answer]],
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            status, content = await handler(request)
        except Refusal as refusal:
            status, content = 400, {"error": str(refusal), "code": "bad_request"}
        return JSONResponse(content, status_code=status)

    return answer


def _normalise(account: Any) -> str | None:
    """Accounts are known by their e-mail address in small letters."""
    return str(account).strip().lower() if account is not None else None


async def read_object(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise Refusal("Send a JSON object.") from error
    if not isinstance(body, dict):
        raise Refusal("Send a JSON object.")
    return body

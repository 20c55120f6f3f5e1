"""The shops and the voucher sites as one ASGI application, told apart by host name."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Host, Route, Router

from automation.sandbox.control import Control
from automation.sandbox.fronts import FRONTS
from automation.sandbox.ledger import Ledger
from automation.sandbox.shop import Shop
from automation.sandbox.vouchers.world import host_routes


def create_app(ledger_path: Path) -> Starlette:
    ledger = Ledger(ledger_path)
    shops = [Shop(front, ledger) for front in FRONTS]
    return Starlette(
        routes=[
            *(
                Host(shop.front.host, Router([*Control(shop).routes(), *shop.routes()]))
                for shop in shops
            ),
            *host_routes(ledger_path),
            Route("/", _list_shops),
        ]
    )


async def _list_shops(request: Request) -> Response:
    port = request.scope["server"][1]
    return PlainTextResponse("".join(f"http://{front.host}:{port}/\n" for front in FRONTS))

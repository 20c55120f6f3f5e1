"""A shop in memory, in place of the browser: what its accounts' carts hold, and how it answers."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from automation.errors import SiteError
from automation.session import Caller
from automation.shop import AddIntent, AddResult, CartLine, Credentials
from automation.shop.request import CartRequest, Product
from vendors import workflows


class Session:
    """What the flow is given: the thread that waits for it runs what it calls."""

    version = ""

    def __init__(self, caller: Caller) -> None:
        self.call = caller.call

    async def storage_state(self) -> Mapping[str, Any]:
        return {}


class Shop:
    """`before_press` and `after_press` may raise, by the account's e-mail."""

    def __init__(self) -> None:
        self.carts: Counter[str] = Counter()
        self.visits: list[str] = []
        self.clears = False
        self.before_press: Callable[[str], None] = lambda email: None
        self.after_press: Callable[[str], None] = lambda email: None

    def run(
        self, add: Callable[[Any], Any], spec: Any, *, timeout: timedelta, stop: Any, on_phase: Any
    ) -> Any:
        caller = Caller(on_phase)
        results: list[Any] = []

        def play() -> None:
            try:
                results.append(asyncio.run(add(Session(caller))))
            except BaseException as error:  # noqa: BLE001  raised where it was asked for
                results.append(error)
            finally:
                caller.finish()

        thread = threading.Thread(target=play)
        thread.start()
        caller.serve(None, lambda: None)
        thread.join()
        if isinstance(results[0], BaseException):
            raise results[0]
        return results[0]

    async def add_to_cart(
        self,
        session: Session,
        site: Any,
        credentials: Credentials,
        request: CartRequest,
        *,
        known_cart: Any,
        intent: AddIntent | None,
        checkpoint: Callable[[AddIntent | None], Any],
    ) -> AddResult:
        email = credentials.email
        self.visits.append(email)
        self.before_press(email)
        if not (intent and self.carts[email]):
            await checkpoint(AddIntent(Product((request.product_url,)), request.quantity, ()))
            try:
                self.carts[email] += request.quantity
                self.after_press(email)
            except Exception:
                if self.clears:
                    self.carts[email] -= request.quantity
                    await checkpoint(None)
                raise
        line = CartLine("Pen", self.carts[email])
        return AddResult(line, 0, line.quantity, True, False, (line,))


def fail_once(error: Exception) -> Callable[[str], None]:
    """Raises the error the first time, whoever comes."""
    left = [error]

    def fail(email: str) -> None:
        if left:
            raise left.pop()

    return fail


def site_error() -> SiteError:
    return SiteError("The shop broke.")


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop()
    monkeypatch.setattr(workflows, "get_browser_host", lambda: shop)
    monkeypatch.setattr(workflows.flow, "add_to_cart", shop.add_to_cart)
    return shop

"""The control paths of the voucher sites, under /_sandbox: as the shops' are, and with money.

Answered for the site that the `Host` header names; no page links to them. README.md has them in a
table.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict, fields
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from automation.sandbox.control import Answer, Refusal, answering, read_object
from automation.sandbox.switches import Scope, Switchboard, SwitchRefused
from automation.sandbox.vouchers.book import Book
from automation.sandbox.vouchers.card_page import has_check_digit, read_expiry, read_number
from automation.sandbox.vouchers.descriptions import (
    CARD_PAGE_HOST,
    CODES,
    PORTAL_HOST,
    SITES,
    WALLET_HOST,
)
from automation.sandbox.vouchers.people import People
from automation.sandbox.vouchers.phone import FORMATS, Phones, Target
from automation.sandbox.vouchers.sales import Card, Order, Sales
from automation.sandbox.vouchers.site import iso_time, port_of

MONTHLY_LIMIT = 50_000
PHONE = re.compile(r"\+\d{8,15}")

Handler = Callable[[Request], Awaitable[Answer]]


class Control:
    """What every site answers, whichever host is called: the ledger, cards, phones, truth."""

    def __init__(
        self,
        host: str,
        switchboard: Switchboard[Any],
        *,
        book: Book,
        people: People,
        sales: Sales,
        phones: Phones,
    ) -> None:
        self._host = host
        self._switchboard = switchboard
        self._book = book
        self._people = people
        self._sales = sales
        self._phones = phones

    def routes(self) -> list[Route]:
        paths: dict[tuple[str, str], Handler] = {
            ("GET", "site"): self.site,
            ("GET", "codes"): self.codes,
            ("POST", "accounts"): self.save_account,
            ("POST", "cards"): self.save_card,
            ("POST", "phones"): self.save_phone,
            ("POST", "messages"): self.send_message,
            ("GET", "messages"): self.list_messages,
            ("POST", "vouchers"): self.give_voucher,
            ("POST", "issue"): self.issue,
            ("POST", "expire"): self.expire,
            ("GET", "switches"): self.show_switches,
            ("POST", "switches"): self.set_switches,
            ("DELETE", "switches"): self.reset_switches,
            ("GET", "ledger"): self.entries,
            ("GET", "orders"): self.orders,
            ("GET", "balance"): self.balance,
            ("GET", "truth"): self.truth,
        }
        return [
            Route(f"/_sandbox/{path}", answering(self._settled(handler)), methods=[method])
            for (method, path), handler in paths.items()
        ]

    def _settled(self, handler: Handler) -> Handler:
        async def answer(request: Request) -> Answer:
            self._sales.settle()
            return await handler(request)

        return answer

    # Descriptions

    async def site(self, request: Request) -> Answer:
        if self._host not in SITES:
            raise Refusal(f"There is no description of {self._host}: ask {', '.join(SITES)}.")
        _, describe = SITES[self._host]
        return 200, describe(port_of(request))

    async def codes(self, request: Request) -> Answer:
        return 200, {"codes": list(CODES.values())}

    # Making things

    async def save_account(self, request: Request) -> Answer:
        if self._host not in (PORTAL_HOST, WALLET_HOST):
            raise Refusal(f"Accounts are at {PORTAL_HOST} and {WALLET_HOST}.")
        body = await read_object(request)
        email, password = body.get("email"), body.get("password")
        limit = body.get("monthly_limit", MONTHLY_LIMIT)
        if not (isinstance(email, str) and "@" in email and isinstance(password, str) and password):
            raise Refusal("Send {email, password, phone}: an e-mail address and a password.")
        if type(limit) is not int:
            raise Refusal("`monthly_limit` is whole rupees.")
        phone, email = _read_phone(body, "phone"), email.strip().lower()
        is_new = self._people.save_account(self._host, email, password, phone, limit)
        return 201 if is_new else 200, {"email": email}

    async def save_card(self, request: Request) -> Answer:
        body = await read_object(request)
        number = read_number(str(body.get("number", "")))
        expiry = read_expiry(str(body.get("expiry", "")))
        credit_limit = body.get("credit_limit")
        if not (number.isdecimal() and has_check_digit(number)):
            raise Refusal("`number` is 13 to 19 digits, the last of them the check digit (Luhn).")
        if expiry is None:
            raise Refusal("`expiry` is MM/YY.")
        if not re.fullmatch(r"\d{3,4}", str(body.get("cvv", ""))):
            raise Refusal("`cvv` is a text of 3 digits, or 4 when the number begins with 3.")
        if not isinstance(credit_limit, int | None):
            raise Refusal("`credit_limit` is whole rupees, or null for none.")
        card = Card(number, expiry, str(body["cvv"]), _read_phone(body, "phone"), credit_limit)
        return 201 if self._sales.save_card(card) else 200, {"last4": card.tail}

    async def save_phone(self, request: Request) -> Answer:
        body = await read_object(request)
        url, headers = body.get("url"), body.get("headers", {})
        if not (isinstance(url, str) and url.startswith(("http://", "https://"))):
            raise Refusal("Send {number, url}: `url` is where the messages are posted.")
        if body.get("format", FORMATS[0]) not in FORMATS:
            raise Refusal(f"`format` is one of {', '.join(FORMATS)}.")
        if not isinstance(headers, dict):
            raise Refusal('`headers` is an object, such as {"X-API-Key": …}.')
        target = Target(
            number=_read_phone(body, "number"),
            url=url,
            format=body.get("format", FORMATS[0]),
            headers={str(name): str(value) for name, value in headers.items()},
            secret=str(body.get("secret", "")),
        )
        return 201 if self._phones.save_target(target) else 200, {"number": target.number}

    async def send_message(self, request: Request) -> Answer:
        """Any other SMS: an advertisement, or a code that nobody asked for."""
        body = await read_object(request)
        sender, text, code = (str(body.get(name, "")) for name in ("sender", "text", "code"))
        if not (sender and text):
            raise Refusal("Send {number, sender, text}.")
        self._phones.send(_read_phone(body, "number"), sender, text, code)
        return 201, {}

    async def list_messages(self, request: Request) -> Answer:
        return 200, {"messages": self._phones.list_messages(request.query_params.get("number"))}

    async def give_voucher(self, request: Request) -> Answer:
        body = await read_object(request)
        if type(body.get("amount")) is not int:
            raise Refusal("Send {amount} in whole rupees.")
        voucher = self._sales.give_voucher(body["amount"])
        return 201, {"code": voucher.code, "pin": voucher.pin, "amount": voucher.amount}

    async def issue(self, request: Request) -> Answer:
        number = str((await read_object(request)).get("order", ""))
        if not self._sales.issue_now(number):
            raise Refusal(f"Order {number!r} is not paid, or has its voucher already.")
        return 200, {"order": number}

    async def expire(self, request: Request) -> Answer:
        body = await read_object(request)
        account = _normalise(body.get("account"))
        return 200, {"forgotten": self._people.forget_sessions(self._host, account)}

    # Switches

    async def show_switches(self, request: Request) -> Answer:
        board = self._switchboard
        return 200, {
            "standing": {
                each.name: getattr(board.defaults, each.name) for each in fields(board.defaults)
            },
            "settings": [
                {"account": scope.account, "card": scope.product, **values}
                for scope, values in board.settings.items()
                if values
            ],
        }

    async def set_switches(self, request: Request) -> Answer:
        body = await read_object(request)
        account, card = _normalise(body.pop("account", None)), body.pop("card", None)
        if card is not None and not re.fullmatch(r"\d{4}", str(card)):
            raise Refusal("`card` is the last four digits of a card, as a text.")
        try:
            self._switchboard.set(Scope(account, card), body)
        except SwitchRefused as error:
            raise Refusal(str(error)) from error
        return await self.show_switches(request)

    async def reset_switches(self, request: Request) -> Answer:
        self._switchboard.reset()
        return await self.show_switches(request)

    # What really happened

    async def entries(self, request: Request) -> Answer:
        query = request.query_params
        if not query.get("after", "0").isdecimal():
            raise Refusal("`after` is the id of the last entry that you have.")
        entries = self._book.entries(
            int(query.get("after", "0")),
            site=None if query.get("site") == "all" else self._host,
            account=_normalise(query.get("account")),
            order_number=query.get("order"),
            phone=query.get("phone"),
            action=query.get("action"),
        )
        return 200, {"entries": entries}

    async def orders(self, request: Request) -> Answer:
        query = request.query_params
        account = _normalise(query.get("account"))
        orders = self._sales.list_orders(account, query.get("reference", ""))
        port = port_of(request)
        return 200, {"orders": [_order_data(order, port) for order in reversed(orders)]}

    async def balance(self, request: Request) -> Answer:
        email = _normalise(request.query_params.get("account")) or ""
        account = self._people.find_account(WALLET_HOST, email)
        if account is None:
            raise Refusal(f"{WALLET_HOST} has no account {email!r}.")
        return 200, {"account": email, "balance": account.balance}

    async def truth(self, request: Request) -> Answer:
        """Per order what the ledger says: how often it was paid, issued and redeemed."""
        account = _normalise(request.query_params.get("account"))
        return 200, self._sales.sum_up(account)


def _order_data(order: Order, port: int) -> dict[str, Any]:
    return {
        "order": order.number,
        "account": order.account,
        "reference": order.reference,
        "amount": order.amount,
        "status": order.status,
        "link": f"http://{CARD_PAGE_HOST}:{port}/l/{order.link}",
        "expires_at": iso_time(order.expires_at),
        "payment_reference": order.payment_reference,
        "voucher": asdict(order.voucher) if order.voucher else None,
    }


def _read_phone(body: dict[str, Any], name: str) -> str:
    phone = str(body.get(name, ""))
    if not PHONE.fullmatch(phone):
        raise Refusal(f"`{name}` is a number such as +919000000001: a plus sign and digits.")
    return phone


def _normalise(account: Any) -> str | None:
    return str(account).strip().lower() if account is not None else None

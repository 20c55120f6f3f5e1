"""The demo: purchase requests over real HTTP, as ERPNext would send them, into a sandbox shop.

Everything it does goes through the doors that a user has: the REST API with an API key, and the
queue's websocket. At the end it asks the shops themselves what is in their carts, and compares.
"""

import json
import os
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from websockets.sync.client import connect

from config.demo_vouchers import VoucherDemo
from config.sandbox_site import SandboxSite

SHOPS = ("corner.localhost", "depot.localhost", "gate.localhost")
ACCOUNTS_PER_SHOP = 2
FINISHED = {"completed", "failed", "manual_required"}
PATIENCE_SECONDS = 180

CartLine = tuple[str, str, str]  # account, product URL, variant


@dataclass
class Wish:
    """A purchase request, and what became of it."""

    shop: str
    slug: str
    why: str
    quantity: int = 1
    variant: Mapping[str, str] | None = None
    vendor_id: str | None = None  # set for the one that has to be refused
    name: str = ""  # these two as the shop has them
    url: str = ""
    queue_id: str | None = None
    refusal: str | None = None
    row: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        options = f" ({', '.join(self.variant.values())})" if self.variant else ""
        return f"{self.quantity} × {self.name}{options}"

    @property
    def seconds_to_cart(self) -> float | None:
        created, completed = self.row.get("created_at"), self.row.get("completed_at")
        if not (created and completed):
            return None
        return (datetime.fromisoformat(completed) - datetime.fromisoformat(created)).total_seconds()


def wishes() -> list[Wish]:
    return [
        Wish("corner.localhost", "desktop-stapler", "an ordinary product"),
        Wish("corner.localhost", "copier-paper", "a quantity above 1", quantity=3),
        Wish("corner.localhost", "gel-pens", "a variant", quantity=2, variant={"Colour": "Blue"}),
        Wish(
            "corner.localhost",
            "linen-notebook",
            "two options",
            variant={"Ruling": "Dotted", "Cover": "Ink"},
        ),
        Wish("depot.localhost", "10244-mailer-box", "quantity set in the cart", quantity=4),
        Wish("corner.localhost", "drafting-lamp", "out of stock"),
        Wish("gate.localhost", "quiet-mouse", "the shop shows a captcha"),
        Wish("corner.localhost", "desktop-stapler", "no such vendor", vendor_id=str(uuid4())),
    ]


class Shop(SandboxSite):
    """What the demo asks of a shop."""

    def add_account(self, email: str, password: str) -> None:
        self.post("accounts", email=email, password=password)

    def product(self, slug: str) -> Any:
        products = self.get("products")["products"]
        return next(product for product in products if product["slug"] == slug)

    def cart(self, account: str) -> Counter[CartLine]:
        lines = self.get("cart", account=account)["lines"]
        return Counter(
            {(account, line["url"], _spelled(line["variant"])): line["quantity"] for line in lines}
        )


class Demo:
    def __init__(self, web_url: str, sandbox_url: str, console: Console) -> None:
        self.console = console
        self.web_url = web_url
        self.shops = {host: Shop(sandbox_url, host) for host in SHOPS}
        self.admin = httpx.Client(base_url=web_url, headers=service_key("demo-setup", "--admin"))
        self.erpnext_headers = service_key("demo-erpnext")
        self.erpnext = httpx.Client(base_url=web_url, headers=self.erpnext_headers)
        self.vendor_ids: dict[str, str] = {}
        self.accounts: list[tuple[str, str]] = []  # shop, e-mail

    def run(self) -> bool:
        """Whether every request ended as the shop's own ledger says it did."""
        self._set_up_vendors()
        before = self._carts()
        requests = wishes()
        for wish in requests:
            self._post(wish)
        self._follow([wish for wish in requests if wish.queue_id])
        return self._show_result(requests, gained=self._carts() - before)

    def _set_up_vendors(self) -> None:
        known = {v["domain"]: v["id"] for v in self._admin_get("/api/admin/vendors")["vendors"]}
        for host, shop in self.shops.items():
            vendor = {**shop.get("vendor"), "rate_limit_daily": 1000}
            if host in known:  # the sandbox may have another port this time
                self._admin("PUT", f"/api/admin/vendors/{known[host]}", vendor)
                self.vendor_ids[host] = known[host]
            else:
                self.vendor_ids[host] = self._admin("POST", "/api/admin/vendors", vendor)["id"]
            self._set_up_accounts(host, shop)
        self.console.print(
            f"{len(SHOPS)} vendors and {len(self.accounts)} accounts are set up over the REST API."
        )

    def _set_up_accounts(self, host: str, shop: Shop) -> None:
        path = f"/api/admin/accounts?vendor_id={self.vendor_ids[host]}&limit=100"
        emails = [account["email"] for account in self._admin_get(path)["accounts"]]
        for number in range(len(emails) + 1, ACCOUNTS_PER_SHOP + 1):
            email, password = f"buyer{number}@cartwright.example", secrets.token_urlsafe(12)
            shop.add_account(email, password)
            account = {"vendor_id": self.vendor_ids[host], "email": email, "password": password}
            self._admin("POST", "/api/admin/accounts", account)
            emails.append(email)
        self.accounts += [(host, email) for email in emails]

    def _admin_get(self, path: str) -> Any:
        return self._admin("GET", path)

    def _admin(self, method: str, path: str, body: object = None) -> Any:
        return self.admin.request(method, path, json=body).raise_for_status().json()

    def _carts(self) -> Counter[CartLine]:
        return sum((self.shops[host].cart(email) for host, email in self.accounts), Counter())

    def _post(self, wish: Wish) -> None:
        product = self.shops[wish.shop].product(wish.slug)
        wish.name, wish.url = product["name"], product["url"]
        answer = self.erpnext.post(
            "/api/cart/add",
            json={
                "user_id": "system",
                "vendor_id": wish.vendor_id or self.vendor_ids[wish.shop],
                "product_url": wish.url,
                "product_name": wish.name,
                "product_data": {"quantity": wish.quantity, "variant": wish.variant},
            },
        )
        body = answer.json()
        if answer.status_code == httpx.codes.OK:
            wish.queue_id = body["queue_id"]
        elif answer.status_code == httpx.codes.BAD_REQUEST:
            wish.refusal = f"400 {body['code']}"
        else:
            answer.raise_for_status()

    def _follow(self, followed: list[Wish]) -> None:
        """Returns when each has ended; shows how far each is meanwhile."""
        by_id = {wish.queue_id: wish for wish in followed}
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[phase]}", style="dim"),
        )
        with Progress(*columns, console=self.console) as progress:
            tasks = {wish.queue_id: _add_task(progress, wish) for wish in followed}
            for row in self._rows(",".join(str(key) for key in by_id)):
                by_id[row["id"]].row |= row
                done = row["status"] in FINISHED
                progress.update(
                    tasks[row["id"]],
                    completed=100 if done else row["progress"],
                    phase=row["status"].replace("_", " ") if done else row["phase"],
                )
                if all(wish.row.get("status") in FINISHED for wish in followed):
                    return

    def _rows(self, ids: str) -> Iterator[dict[str, Any]]:
        """Queue rows as the server pushes them, whenever one changes."""
        address = self.web_url.replace("http", "ws", 1) + f"/ws/queue/?ids={ids}"
        with connect(address, additional_headers=self.erpnext_headers) as socket:
            while True:
                message = json.loads(socket.recv(timeout=PATIENCE_SECONDS))
                yield from message.get("items", ())

    def _show_result(self, requests: list[Wish], gained: Counter[CartLine]) -> bool:
        table = Table(
            title="What was asked for, and what the shops' own ledgers say", padding=(0, 1)
        )
        table.add_column("Request", ratio=5)
        table.add_column("Became", ratio=5)
        table.add_column("In", justify="right", no_wrap=True)
        table.add_column("The shop's ledger", ratio=3)
        table.add_column("")
        agreed = True
        for wish in requests:
            account = wish.row.get("account_email")
            in_cart = gained.pop((account or "", wish.url, _variant(wish)), 0)
            expected = wish.quantity if wish.row.get("status") == "completed" else 0
            agreed &= in_cart == expected
            seconds = wish.seconds_to_cart
            table.add_row(
                f"{wish.label}\n[dim]{wish.shop}: {wish.why}[/dim]",
                wish.refusal or _became(wish.row),
                f"{seconds:.1f} s" if seconds is not None and expected else "–",
                f"{in_cart} in the cart" if in_cart else "nothing in a cart",
                "[green]✓[/green]" if in_cart == expected else "[red]✗[/red]",
            )
        self.console.print(table)
        count = f"{len(requests)} requests"
        self.console.print(
            f"[green]All {count} ended as the shops' ledgers say."
            if agreed and not gained
            else f"[red]Of {count} some did not end as the shops' ledgers say."
        )
        if gained:  # lines that no request accounts for
            self.console.print(f"[red]The shops also hold what nobody asked for: {dict(gained)}")
        return agreed and not gained


def _add_task(progress: Progress, wish: Wish) -> TaskID:
    return progress.add_task(wish.label, total=100, phase="queued")


def _became(row: Mapping[str, Any]) -> str:
    """The status, and below it the account or the reason."""
    below = row.get("error_message") or row.get("account_email") or ""
    return f"{str(row['status']).replace('_', ' ')}\n[dim]{below}[/dim]"


def _variant(wish: Wish) -> str:
    return _spelled(wish.variant or {})


def _spelled(variant: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in sorted(variant.items()))


def service_key(name: str, *options: str) -> dict[str, str]:
    """An Authorization header with a new API key, in place of the last run's."""
    key = _manage("create_api_key", name, "--quiet", "--replace", *options)
    return {"Authorization": f"token {key}"}


def _manage(*arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main(*, stays: bool) -> int:
    """Runs against PUBLIC_URL and SANDBOX_URL; 0 only if requests and ledgers agree. `stays`: all
    of it is still up afterwards."""
    console = Console()
    web_url = os.environ["PUBLIC_URL"]
    demo = Demo(web_url, os.environ["SANDBOX_URL"], console)
    agreed = demo.run()
    phones = service_key("demo-phones")
    vouchers = VoucherDemo(os.environ["SANDBOX_URL"], demo.admin, phones, console)
    agreed &= vouchers.run()
    if stays:
        password = _manage("create_admin", "demo", "--quiet")
        console.print(f"\nThe same, live: [bold]{web_url}/queue/[/bold]")
        console.print(f"and [bold]{web_url}/purchases/[/bold]")
        console.print(f"Log in as [bold]demo[/bold] with the password [bold]{password}[/bold]")
    return 0 if agreed else 1

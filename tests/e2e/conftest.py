import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.stack import ROOT, Stack, running_stack

PASSWORD = "correct horse battery"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e" in str(item.path):
            item.add_marker("e2e")


@dataclass
class SandboxShop:
    """One of the sandbox's shops: its control paths, and the vendor that stands for it."""

    host: str
    http: httpx.Client
    stack: Stack
    admin: httpx.Client
    vendor_id: str = ""

    def become_a_vendor(self, **changes: Any) -> None:
        vendor = {**self.http.get("vendor").json(), "rate_limit_daily": 1000, **changes}
        answer = self.admin.post("/api/admin/vendors", json=vendor)
        assert answer.status_code == 201, answer.text
        self.vendor_id = answer.json()["id"]

    def add_account(self, email: str, *, password: str = PASSWORD) -> str:
        """An account at the shop and here; here with `password`."""
        at_shop = {"email": email, "password": PASSWORD}
        assert self.http.post("accounts", json=at_shop).status_code in (200, 201)
        account = {"vendor_id": self.vendor_id, "email": email, "password": password}
        answer = self.admin.post("/api/admin/accounts", json=account)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def url_of(self, slug: str) -> str:
        products = self.http.get("products").json()["products"]
        return str(next(product["url"] for product in products if product["slug"] == slug))

    def switch(self, **switches: Any) -> None:
        self.http.post("switches", json=switches).raise_for_status()

    def cart(self, account: str) -> dict[tuple[str, str], int]:
        """(product slug, variant) -> quantity, from the shop's own ledger."""
        lines = self.http.get("cart", params={"account": account}).json()["lines"]
        return {
            (line["product"], ", ".join(line["variant"].values())): line["quantity"]
            for line in lines
        }

    def logins(self, account: str) -> int:
        return int(self.http.get("logins", params={"account": account}).json()["succeeded"])


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="session")
def admin(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client("--admin") as client:
        yield client


@pytest.fixture(scope="session")
def erpnext(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


@pytest.fixture(scope="session")
def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ledger = tmp_path_factory.mktemp("sandbox") / "ledger.sqlite3"
    command = [sys.executable, "-m", "automation.sandbox", "--port", "0", "--ledger", str(ledger)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.kill()


@contextmanager
def _shop(host: str, sandbox_url: str, stack: Stack, admin: httpx.Client) -> Iterator[SandboxShop]:
    headers = {"Host": f"{host}:{urlsplit(sandbox_url).port}"}
    with httpx.Client(base_url=f"{sandbox_url}/_sandbox/", headers=headers) as http:
        shop = SandboxShop(host, http, stack, admin)
        shop.become_a_vendor()
        yield shop


@pytest.fixture(scope="session")
def corner_vendor(sandbox_url: str, stack: Stack, admin: httpx.Client) -> Iterator[SandboxShop]:
    with _shop("corner.localhost", sandbox_url, stack, admin) as shop:
        yield shop


@pytest.fixture
def corner(corner_vendor: SandboxShop) -> Iterator[SandboxShop]:
    """The ordinary shop, well behaved before and after the test."""
    corner_vendor.http.delete("switches")
    yield corner_vendor
    corner_vendor.http.delete("switches")


@pytest.fixture(scope="session")
def gate(sandbox_url: str, stack: Stack, admin: httpx.Client) -> Iterator[SandboxShop]:
    with _shop("gate.localhost", sandbox_url, stack, admin) as shop:
        shop.add_account("alice@gate.example")
        yield shop


@pytest.fixture(scope="session")
def depot(sandbox_url: str, stack: Stack, admin: httpx.Client) -> Iterator[SandboxShop]:
    with _shop("depot.localhost", sandbox_url, stack, admin) as shop:
        shop.add_account("alice@depot.example")
        yield shop

"""What Cartwright is measured against: two scripts that fill carts at the sandbox's corner shop.

`Warm` is the fast script of a good engineer, `Naive` the one that people write first. Both are
written for this one shop, keep no record of what they do, and check the cart after each add.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from playwright.async_api import Browser, Page, Playwright, async_playwright

from automation.chromium import WITHOUT_IMAGES, find_chromium

Line = tuple[str, ...]  # of a cart: the product's slug and its options, each as the cart shows it


@dataclass(frozen=True)
class Item:
    """One thing to buy, as every contender is told it."""

    slug: str
    url: str
    quantity: int = 1
    variant: Mapping[str, str] = field(default_factory=dict)

    @property
    def line(self) -> Line:
        return self.slug, *(f"{name}: {value}" for name, value in sorted(self.variant.items()))


@dataclass(frozen=True)
class Account:
    email: str
    password: str


@dataclass(frozen=True)
class Added:
    """An add that a contender says it made, and when it had seen it in the cart."""

    account: str
    item: Item
    seen_at: float


class CartDiffers(Exception):
    """The cart page does not show what was added."""


class Customer:
    """A page at the shop; `basket` is what its account's cart holds so far."""

    def __init__(self, page: Page, shop: str, account: Account, basket: Counter[Line]) -> None:
        self._page = page
        self._shop = shop
        self._account = account
        self._basket = basket

    async def log_in(self) -> None:
        page = self._page
        await page.goto(f"{self._shop}/login", wait_until="domcontentloaded")
        await page.locator(".cookie-bar .accept").click()
        form = page.locator("main .login-form")
        await form.locator("input[name=email]").fill(self._account.email)
        await form.locator("input[name=password]").fill(self._account.password)
        await form.locator("button").click()
        await page.locator(".account-menu").wait_for()

    async def add(self, item: Item) -> Added:
        page = self._page
        await page.goto(item.url, wait_until="domcontentloaded")
        box = page.locator(".buybox")
        for name, value in item.variant.items():
            if name == "Colour":
                await box.locator("select").select_option(value)
            else:
                await box.locator(f"[data-option='{name}'][data-value='{value}']").click()
        await box.locator("input[name=quantity]").fill(str(item.quantity))
        await box.locator(".add-to-basket").click()
        await page.locator(".toast[data-kind=success]:not([hidden])").wait_for()
        self._basket[item.line] += item.quantity

        await page.goto(f"{self._shop}/cart", wait_until="domcontentloaded")
        link = page.locator(f".line__name[href$='/{item.slug}']")
        line = page.locator(".basket .line").filter(has=link)
        for option in item.line[1:]:
            line = line.filter(has_text=option)
        shown = int(await line.locator(".line__quantity").input_value())
        if shown != self._basket[item.line]:
            raise CartDiffers(f"{item.line}: {shown} in the cart, not {self._basket[item.line]}")
        return Added(self._account.email, item, time.time())


class Warm:
    """One Chromium that stays, with a page for each account. Use `async with Warm.start(...)`."""

    name = "warm"

    def __init__(self, customers: Sequence[Customer], chromium_version: str) -> None:
        self.chromium_version = chromium_version
        self._customers = customers

    @classmethod
    @asynccontextmanager
    async def start(cls, shop: str, accounts: Sequence[Account]) -> AsyncIterator[Self]:
        """All accounts are logged in from the start: no log-in is measured."""
        async with async_playwright() as playwright, await launch(playwright) as browser:
            customers = [
                Customer(await browser.new_page(), shop, account, Counter()) for account in accounts
            ]
            for customer in customers:
                await customer.log_in()
            yield cls(customers, browser.version)

    async def add_all(self, items: Sequence[Item]) -> list[Added]:
        waiting = deque(items)
        added: list[Added] = []

        async def go_shopping(customer: Customer) -> None:
            while waiting:
                added.append(await customer.add(waiting.popleft()))

        await asyncio.gather(*map(go_shopping, self._customers))
        return added


class Naive:
    """A new browser and a log-in for each add, one add after another."""

    name = "naive"

    def __init__(self, shop: str, account: Account) -> None:
        self._shop = shop
        self._account = account
        self._basket: Counter[Line] = Counter()

    async def add_all(self, items: Sequence[Item]) -> list[Added]:
        added = []
        async with async_playwright() as playwright:
            for item in items:
                async with await launch(playwright) as browser:
                    page = await browser.new_page()
                    customer = Customer(page, self._shop, self._account, self._basket)
                    await customer.log_in()
                    added.append(await customer.add(item))
        return added


async def launch(playwright: Playwright) -> Browser:
    """The Chromium that Cartwright uses, as lean as its own; without the arguments that serve its
    URL guard only."""
    return await playwright.chromium.launch(
        executable_path=find_chromium(), args=list(WITHOUT_IMAGES)
    )

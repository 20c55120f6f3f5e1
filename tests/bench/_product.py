"""Cartwright as a contender: asked over its REST API, followed in its database."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import httpx
import psycopg
from psycopg.rows import DictRow, dict_row

from config.demo import Shop
from config.demo import service_key as api_key_headers
from tests.bench._peers import Account, Added, Item

PATIENCE_SECONDS = 120
POLL_SECONDS = 0.1  # enters no result: when an add was done is read from its row

ENDED = """
SELECT q.id::text AS id, q.status, q.error_message, a.email,
    extract(epoch FROM s.started_at)::float8 AS started_at,
    extract(epoch FROM q.completed_at)::float8 AS completed_at
FROM cart_queue q
JOIN jobs_step s ON s.job_id = q.job_id AND s.name = 'add_to_cart'
LEFT JOIN vendor_accounts a ON a.id = q.assigned_account_id
WHERE q.id = ANY(%s::uuid[]) AND q.status NOT IN ('pending', 'processing')
"""


class AddFailed(Exception):
    """A request did not end in a cart."""


@dataclass(frozen=True)
class Served(Added):
    asked_at: float
    started_at: float  # of the step in the browser


class Cartwright:
    name = "cartwright"

    def __init__(
        self, http: httpx.AsyncClient, database: psycopg.AsyncConnection[DictRow], vendor_id: str
    ) -> None:
        self._http = http
        self._database = database
        self._vendor_id = vendor_id

    @classmethod
    @asynccontextmanager
    async def start(cls, shop: Shop, accounts: Sequence[Account]) -> AsyncIterator[Self]:
        """The product that is up, with the shop as a vendor. Its accounts are not logged in."""
        headers = api_key_headers("bench", "--admin")
        url, database_url = os.environ["PUBLIC_URL"], os.environ["DATABASE_URL"]
        async with (
            httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_SECONDS) as http,
            await psycopg.AsyncConnection.connect(
                database_url, autocommit=True, row_factory=dict_row
            ) as database,
        ):
            # The most that an account adds in a day is a rule for real shops.
            vendor = {**shop.get("vendor"), "rate_limit_daily": 100_000}
            vendor_id = (await _post(http, "/api/admin/vendors", vendor))["id"]
            for account in accounts:
                row = {"email": account.email, "password": account.password}
                await _post(http, "/api/admin/accounts", {"vendor_id": vendor_id, **row})
            yield cls(http, database, vendor_id)

    async def add_all(self, items: Sequence[Item]) -> list[Served]:
        """Asks for all of them at once; how many run at a time is the worker's affair."""
        asked = dict(await asyncio.gather(*map(self._ask, items)))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(rows := await self._ended(list(asked))) < len(items):
            if time.monotonic() > deadline:
                raise AddFailed(f"{len(items) - len(rows)} of {len(items)} adds do not end.")
            await asyncio.sleep(POLL_SECONDS)
        for row in rows:
            if row["status"] != "completed":
                raise AddFailed(f"An add ended as {row['status']}: {row['error_message']}")
        return [
            Served(row["email"], item, row["completed_at"], asked_at, row["started_at"])
            for row in rows
            for item, asked_at in [asked[row["id"]]]
        ]

    async def _ask(self, item: Item) -> tuple[str, tuple[Item, float]]:
        product_data = {"quantity": item.quantity, "variant": item.variant or None}
        body = {
            "vendor_id": self._vendor_id,
            "product_url": item.url,
            "product_data": product_data,
        }
        asked_at = time.time()
        answer = await _post(self._http, "/api/cart/add", body)
        return answer["queue_id"], (item, asked_at)

    async def _ended(self, queue_ids: list[str]) -> list[DictRow]:
        cursor = await self._database.execute(ENDED, [queue_ids])
        return await cursor.fetchall()


async def _post(http: httpx.AsyncClient, path: str, body: object) -> Any:
    answer = await http.post(path, json=body)
    return answer.raise_for_status().json()

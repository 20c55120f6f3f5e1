"""The websockets of purchases: one with all that its page shows, and the list. Their messages are
documented in docs/live-protocol.md."""

import asyncio
import uuid
from typing import Any

from django.utils import timezone

from accounts.models import User
from jobs.consumers import (
    GATHER_SECONDS,
    NOT_FOUND,
    ChangeReader,
    ListConsumer,
    LiveConsumer,
    Refused,
    read,
)
from payments import runs
from payments.models import VoucherPurchase
from payments.presentation import PurchaseListing


class PurchaseConsumer(LiveConsumer):
    """One purchase: its whole state, anew whenever it has changed. It is small, and comes from
    several jobs: its own, and those that redeem a voucher later."""

    @property
    def purchase_id(self) -> uuid.UUID:
        purchase_id: uuid.UUID = self.scope["url_route"]["kwargs"]["purchase_id"]
        return purchase_id

    def parse_query(self, query: dict[str, str]) -> None:
        self.sent: dict[str, Any] | None = None
        self.jobs: set[str] = set()

    def check_access(self, user: User) -> None:
        if not VoucherPurchase.objects.visible_to(user).filter(pk=self.purchase_id).exists():
            raise Refused(NOT_FOUND, "There is no such purchase in your workspace.")

    async def send_current(self) -> None:
        await self._send_run()
        await self.say({"type": "ping", "at": timezone.now()})

    async def send_news(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        self.woken.clear()
        await self._send_run()

    async def jobs_changed(self, message: dict[str, Any]) -> None:
        # None yet: the run is just being read, and this may be what it does not have.
        if not (self.jobs and self.jobs.isdisjoint(message["jobs"])):
            self.woken.set()

    async def _send_run(self) -> None:
        run = await read(self._read)
        self.jobs = find_jobs(run)
        if run != self.sent:
            await self.say({"type": "run", "run": run, "at": timezone.now()})
            self.sent = run

    def _read(self) -> dict[str, Any]:
        purchases = runs.purchases_to_show(VoucherPurchase.objects.filter(pk=self.purchase_id))
        return runs.read_run(purchases.get())


def find_jobs(run: dict[str, Any]) -> set[str]:
    """Those whose changes change the run."""
    vouchers = [each["voucher"] for each in run["transactions"] if each["voucher"]]
    return {str(job) for job in (run["id"], *(each["job_id"] for each in vouchers)) if job}


class PurchaseListConsumer(ListConsumer):
    """For everybody, of their own workspace."""

    listing = PurchaseListing()
    changes = ChangeReader(listing)

    def check_access(self, user: User) -> None:
        self.user = user

    async def _say_rows(
        self, rows: list[dict[str, Any]], stats: dict[str, int], *, complete: bool
    ) -> None:
        own = [row for row in rows if row["workspace"] == self.user.workspace_id]
        if own or complete:
            counted = await read(PurchaseListing(self.user.workspace_id).stats)
            await super()._say_rows(own, counted, complete=complete)

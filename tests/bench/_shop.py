"""The sandbox's corner shop: where all contenders buy, and whose ledger has the last word."""

import os
import secrets
from collections import Counter
from collections.abc import Iterable

from config.demo import Shop
from tests.bench._peers import Account, Added, Item


class LedgerDiffers(Exception):
    """A contender lost an add, or made one that it does not know of."""


class CornerShop(Shop):
    """The shop where all buy, its latency, and what its ledger has not told us yet."""

    def __init__(self) -> None:
        super().__init__(os.environ["SANDBOX_URL"], "corner.localhost")
        self._last_entry = 0
        self.url = str(self.product("desktop-stapler")["url"]).rpartition("/p/")[0]

    def set_latency(self, milliseconds: int) -> None:
        self.post("switches", latency_ms=milliseconds)

    def new_accounts(self, owner: str, count: int) -> list[Account]:
        accounts = [
            Account(f"{owner}{number}@bench.example", secrets.token_urlsafe(12))
            for number in range(1, count + 1)
        ]
        for account in accounts:
            self.add_account(account.email, account.password)
        return accounts

    def settle(self, added: Iterable[Added]) -> int:
        """How many log-ins the ledger has since last time; raises unless it has just these adds."""
        entries = self.get("ledger", after=str(self._last_entry))["entries"]
        if entries:
            self._last_entry = entries[-1]["id"]
        claimed = Counter((each.account, *each.item.line, each.item.quantity) for each in added)
        found = Counter(
            (
                entry["account"],
                *Item(entry["product"], "", variant=entry["variant"]).line,
                entry["quantity"],
            )
            for entry in entries
            if entry["action"] != "log_in"
        )
        if found != claimed:
            raise LedgerDiffers(
                f"Not in the shop's ledger: {dict(claimed - found)}. "
                f"Claimed by nobody: {dict(found - claimed)}."
            )
        return sum(entry["action"] == "log_in" for entry in entries)

"""An account's saved session: how a browser goes on as that account, and what its cart held.

It impersonates the account, so it stands sealed in `vendor_accounts.session_data`. Its version
tells a browser context that is still open from one that somebody else has gone on with since.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from django.utils import timezone

from automation.shop.request import CartLine
from vendors.models import VendorAccount

# People use the account too: after a while the cart is read again before anything is added.
CART_KNOWN_FOR = timedelta(minutes=10)


@dataclass(frozen=True)
class SavedSession:
    storage_state: Mapping[str, Any]  # Playwright's: cookies and local storage
    version: str
    cart: tuple[CartLine, ...]
    cart_read_at: datetime

    @classmethod
    def of(cls, account: VendorAccount) -> Self | None:
        data = account.session_data
        if data is None:
            return None
        return cls(
            storage_state=data["storage_state"],
            version=data["version"],
            cart=tuple(map(CartLine.from_data, data["cart"])),
            cart_read_at=datetime.fromisoformat(data["cart_read_at"]),
        )

    def save(self, account: VendorAccount) -> None:
        account.session_data = {
            "storage_state": self.storage_state,
            "version": self.version,
            "cart": [asdict(line) for line in self.cart],
            "cart_read_at": self.cart_read_at.isoformat(),
        }
        account.save(update_fields=["session_data"])

    def forget_cart(self, account: VendorAccount) -> None:
        """Has the cart read before the next add, whatever was known of it."""
        replace(self, cart_read_at=datetime.min.replace(tzinfo=UTC)).save(account)

    @property
    def known_cart(self) -> tuple[CartLine, ...] | None:
        """What the cart holds, unless it is too long ago that we looked."""
        return self.cart if timezone.now() - self.cart_read_at < CART_KNOWN_FOR else None

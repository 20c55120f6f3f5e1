"""What can go wrong between us and a site, classified where the fact is known.

The two families say only what the site told us: a `BusinessError` is its answer, and asking the
same again gets the same answer; `SiteTrouble` is a site, a network or a browser that did not work
this time. Whether work is retried, handed to a person or failed is decided by the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

VoucherFault = Literal["already_used", "invalid", "expired", "other"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the browser looked like when a flow failed; secrets are masked before it is made."""

    phase: str
    screenshot: bytes | None
    dom: str
    console: Sequence[Mapping[str, Any]]
    network: Sequence[Mapping[str, Any]]


class AutomationError(Exception):
    """Root of everything a flow raises. Its text is a sentence for the operator."""

    code: ClassVar[str] = "automation_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.evidence: Evidence | None = None


class BusinessError(AutomationError):
    """The site's own answer was no; the same request would be answered the same way."""


class SiteTrouble(AutomationError):
    """The site, the way to it or the browser did not work; another attempt may."""


class CaptchaSeen(BusinessError):
    code = "captcha"


class AccountBlocked(BusinessError):
    code = "account_blocked"


class WrongCredentials(BusinessError):
    code = "wrong_credentials"


class ProductNotFound(BusinessError):
    code = "product_not_found"


class OutOfStock(BusinessError):
    code = "out_of_stock"


class OptionUnavailable(BusinessError):
    code = "option_unavailable"


class QuantityRefused(BusinessError):
    code = "quantity_refused"


class AddressRefused(BusinessError):
    """The browser was asked to go to, or was sent to, an address outside the vendor's own."""

    code = "address_refused"


class RateLimited(SiteTrouble):
    """HTTP 429: neither a block nor a captcha. The caller waits and counts no attempt."""

    code = "rate_limited"

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class SiteError(SiteTrouble):
    code = "site_error"


class SiteTimeout(SiteTrouble):
    code = "site_timeout"


class PageChanged(SiteTrouble):
    """A part of the page that the vendor data names is not there, or cannot be used."""

    code = "page_changed"

    def __init__(self, message: str, *, key: str, selector: str) -> None:
        super().__init__(f"{message} (vendor data: {key} = {selector!r})")
        self.key = key
        self.selector = selector


class SessionLost(SiteTrouble):
    code = "session_lost"


class CartMismatch(SiteTrouble):
    """The cart does not say what was asked for, and the shop gave no reason."""

    code = "cart_mismatch"


class CartUnclear(CartMismatch):
    """Nobody can tell from the cart whether an earlier attempt's add is in it: a person has to."""


class BrowserDied(SiteTrouble):
    code = "browser_died"


class SessionBusy(SiteTrouble):
    """Another worker uses the parked browser of this session."""

    code = "session_busy"


class StepStopped(AutomationError):
    """A cancel or the step's time limit closed the browser context under the flow."""

    code = "stopped"


class UnderMaintenance(SiteTrouble):
    """The site says that it cannot be used for now."""

    code = "maintenance"


class OutOfInventory(BusinessError):
    code = "out_of_inventory"


class LimitExceeded(BusinessError):
    """The portal sells this account no more for now (the month's limit)."""

    code = "limit_exceeded"


class CardDeclined(BusinessError):
    code = "card_declined"


class CodeNotAccepted(BusinessError):
    """No code is taken any more, and no new one can be asked for."""

    code = "code_not_accepted"


class VoucherRefused(BusinessError):
    """The redeemer's answer to a voucher was no, and nothing was credited. `kind` says why."""

    code = "voucher_refused"

    def __init__(self, message: str, *, kind: VoucherFault) -> None:
        super().__init__(message)
        self.kind: VoucherFault = kind


class OutcomeOpen(SiteTrouble):
    """Pressed what cannot be taken back, and the site's answer did not come.

    What happened is found out by looking (the portal's orders, the redeemer's history), never by
    pressing again.
    """

    code = "outcome_open"

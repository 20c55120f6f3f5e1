"""What a page asks of its site's servers: is an answer still out, and did one say no?

Only documents and scripted requests (fetch, XHR) to the vendor's own hosts count: pictures tell
nothing, and somebody else's tracker must neither hold a flow up nor explain its failure.
"""

import email.utils
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page, Request, Response

from automation.errors import RateLimited, SiteError
from automation.site import Site

COUNTED = frozenset({"document", "xhr", "fetch"})

TOO_MANY_REQUESTS = 429

LONG_POLL_SECONDS = 5.0
"""A request that is out for longer does not count as activity: chats and tickers poll for ever."""


class Traffic:
    """Listens to one page while entered."""

    def __init__(self, page: Page, site: Site) -> None:
        # Of the context, where evidence is recorded from all along: a page's own events would
        # have to be asked for, and given up again, over the wire.
        self._context = page.context
        self._page = page
        self._site = site
        self._out: dict[Request, float] = {}
        self._last_activity = time.monotonic()
        self.mark()

    def __enter__(self) -> Self:
        self._context.on("request", self._sent)
        self._context.on("response", self._answered)
        self._context.on("requestfinished", self._ended)
        self._context.on("requestfailed", self._ended)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._context.remove_listener("request", self._sent)
        self._context.remove_listener("response", self._answered)
        self._context.remove_listener("requestfinished", self._ended)
        self._context.remove_listener("requestfailed", self._ended)

    def mark(self) -> None:
        """From now on `sent`, `awaited` and `refusal` tell of later requests only."""
        self._since_mark: set[Request] = set()
        self._refusals: list[Response] = []

    @property
    def sent(self) -> bool:
        """Whether the page has asked for anything since the mark."""
        return bool(self._since_mark)

    @property
    def awaited(self) -> bool:
        """Whether a request made since the mark is still without its answer."""
        return any(request in self._since_mark for request in self._out)

    @property
    def idle_seconds(self) -> float:
        """How long nothing was asked or answered; 0 while an answer is out."""
        now = time.monotonic()
        if any(now - sent_at < LONG_POLL_SECONDS for sent_at in self._out.values()):
            return 0.0
        return now - self._last_activity

    def refusal(self, *, acts_only: bool = False) -> RateLimited | SiteError | None:
        """What the shop's servers refused since the mark: a 429 before a 5xx.

        `acts_only` asks for the answer to a page or to a change, not to a script's mere look-up.
        """
        response = self.find_refusal(acts_only=acts_only)
        if response is None:
            return None
        is_limit = response.status == TOO_MANY_REQUESTS
        return rate_limited(response) if is_limit else site_error(response)

    def find_refusal(self, *, acts_only: bool = False) -> Response | None:
        """The answer that `refusal` is about."""
        refusals = [each for each in self._refusals if not acts_only or _is_act(each.request)]
        limits = (each for each in refusals if each.status == TOO_MANY_REQUESTS)
        return next(limits, None) or next(iter(refusals), None)

    def _counts(self, request: Request) -> bool:
        counts = request.resource_type in COUNTED and self._site.contains(request.url)
        return counts and self._is_of_page(request)

    def _is_of_page(self, request: Request) -> bool:
        """A parked browser's context has pages of other flows too."""
        try:
            return request.frame.page == self._page
        except PlaywrightError:
            return False  # a popup's first request: it has no frame yet

    def _sent(self, request: Request) -> None:
        if self._counts(request):
            self._last_activity = time.monotonic()
            self._out[request] = self._last_activity
            self._since_mark.add(request)

    def _answered(self, response: Response) -> None:
        refused = response.status == TOO_MANY_REQUESTS or response.status >= 500
        if refused and response.request in self._since_mark:
            self._refusals.append(response)

    def _ended(self, request: Request) -> None:
        if self._out.pop(request, None) is not None:
            self._last_activity = time.monotonic()


def _is_act(request: Request) -> bool:
    return request.method != "GET" or request.resource_type == "document"


def site_error(response: Response) -> SiteError:
    return SiteError(
        f"The shop answered {response.status} {response.status_text}".rstrip()
        + ". Try again later."
    )


def rate_limited(response: Response) -> RateLimited:
    seconds = retry_after_of(response)
    wait = f" for {seconds:.0f} seconds" if seconds is not None else ""
    return RateLimited(
        f"The shop answered 429 Too Many Requests: leave this account and shop alone{wait}.",
        retry_after_seconds=seconds,
    )


def retry_after_of(response: Response) -> float | None:
    return retry_after_seconds(response.headers.get("retry-after"), datetime.now(UTC))


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """The seconds that a Retry-After header (RFC 9110, section 10.2.3) asks to wait."""
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (moment - now).total_seconds()) if moment.tzinfo else None

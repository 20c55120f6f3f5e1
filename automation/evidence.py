"""What a failed flow leaves for the person who looks into it, with every secret masked.

`Recorder` listens to a context while a flow runs, `gather` takes the pictures when it failed, and
`Mask` is the one place that decides what is secret. Storing evidence is not done here.
"""

import html
import json
import re
import time
from collections import deque
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus, urlsplit

import structlog
from playwright.async_api import (
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Frame,
    Locator,
    Page,
    Request,
    Response,
    WebError,
)
from playwright.async_api import Error as PlaywrightError

from automation.errors import Evidence
from automation.guard import Refusal
from automation.site import is_xpath
from automation.waiting import settle_within

log = structlog.get_logger(__name__)

T = TypeVar("T")

MASKED = "[masked]"
MAX_DOM_CHARACTERS = 200_000
MAX_TEXT_CHARACTERS = 1_000  # of one console line or one URL
MAX_CONSOLE = 100
MAX_NETWORK = 200
MAX_FRAMES = 5
# Together four seconds: evidence is worth a short wait.
STOP_SECONDS = 0.5
DOM_SECONDS = 1.5
SCREENSHOT_SECONDS = 2

# Names of fields and parameters whose values let somebody in.
SENSITIVE_NAME = r"token|csrf|secret|session|passw|auth|otp|nonce|signature|credential|jwt|api_?key"
# Every repeat has a bound: the text is a stranger's, and must not keep the loop busy.
PARAMETER = re.compile(
    rf"([?&;#](?:[\w.%\[\]-]{{0,40}}(?:{SENSITIVE_NAME})[\w.%\[\]-]{{0,40}}|code|key|sid|sig)=)"
    r"[^&#;\s\"'<>]+",
    re.IGNORECASE,
)
USER_INFO = re.compile(r"(//)[^/@\s\"'<>]{1,200}@")
# What JSON web tokens and other random values are made of; `_without_random` looks at each.
LONG_WORD = re.compile(r"[\w-]{40,}")

SENSITIVE_INPUTS = ", ".join(
    (
        "input[type=password]",
        "input[autocomplete^=cc-]",
        "input[autocomplete=one-time-code]",
        "input[maxlength='1']",  # one box for each digit of a one-time password
    )
)

# Runs in the page on a copy that belongs to no window: nothing in it is loaded, run or upgraded.
TRIMMED_DOM = """([sensitive, secretName, limit, hidden]) => {
  const copy = document.implementation.createHTMLDocument("")
    .importNode(document.documentElement, true);
  const secret = new RegExp(secretName, "i");
  copy.querySelectorAll("script, style, template, noscript, link, x-pw-glass")
    .forEach((element) => element.remove());
  copy.querySelectorAll("svg").forEach((element) => element.replaceChildren());
  const comments = document.createNodeIterator(copy, NodeFilter.SHOW_COMMENT);
  for (let node; (node = comments.nextNode()); ) node.remove();
  for (const element of copy.querySelectorAll("*"))
    for (const { name, value } of [...element.attributes])
      if (secret.test(name)) element.setAttribute(name, "[masked]");
      else if (value.startsWith("data:")) element.setAttribute(name, "data:");
  const isToken = (element, value) =>
    secret.test(element.getAttribute("name") || "") || /^[^\\s]{16,}$/.test(value);
  copy.querySelectorAll("input[type=hidden][value], meta[content]").forEach((element) => {
    const name = element.localName === "meta" ? "content" : "value";
    const token = name === "content"
      ? secret.test(element.getAttribute("name") || "")
      : isToken(element, element.getAttribute(name));
    if (token) element.setAttribute(name, "[masked]");
  });
  copy.querySelectorAll(sensitive).forEach((element) => {
    if (element.hasAttribute("value")) element.setAttribute("value", "[masked]");
  });
  const find = (selector) => {
    if (!/^\\(*\\//.test(selector)) return Array.from(copy.querySelectorAll(selector));
    const found = document.evaluate(selector, copy, null, XPathResult.ORDERED_NODE_SNAPSHOT_TYPE);
    return Array.from({ length: found.snapshotLength }, (_, i) => found.snapshotItem(i));
  };
  for (const element of hidden.flatMap(find)) {
    element.textContent = "[masked]";
    if (element.hasAttribute("value")) element.setAttribute("value", "[masked]");
  }
  return copy.outerHTML.slice(0, limit);
}"""


class Mask:
    """Takes secrets out of text: the given ones in every usual spelling, and what looks like one.

    Called, it does both; `scrub` takes only the given secrets, out of an exception. `hidden` are
    selectors of what is secret on a page whatever it is.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self.hidden: set[str] = set()
        self.secrets = tuple(secret for secret in secrets if secret)
        spellings = {
            spelling
            for secret in self.secrets
            for spelling in (
                secret,
                html.escape(secret, quote=False),
                html.escape(secret, quote=False).replace('"', "&quot;"),  # in an attribute
                quote(secret, safe=""),
                quote_plus(secret),
                json.dumps(secret)[1:-1],
            )
        }
        # The longest first: a secret can be a part of another's spelling.
        ordered = sorted(spellings, key=len, reverse=True)
        self._given = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        text = PARAMETER.sub(rf"\1{MASKED}", self._without_given(text))
        text = USER_INFO.sub(rf"\1{MASKED}@", text)
        return LONG_WORD.sub(_without_random, text)

    def shows(self, value: str) -> bool:
        """Whether a field's value has a secret in it, or the beginning of one being typed."""
        return any(
            secret in value or (len(value) >= 3 and secret.startswith(value))
            for secret in self.secrets
        )

    def scrub(self, error: BaseException) -> None:
        """Masks the texts of an exception and of those it came from.

        Playwright's own errors tell what was being typed.
        """
        seen: set[int] = set()
        current: BaseException | None = error
        while current is not None and id(current) not in seen:
            seen.add(id(current))
            current.args = tuple(
                self._without_given(argument) if isinstance(argument, str) else argument
                for argument in current.args
            )
            current = current.__cause__ or current.__context__

    def _without_given(self, text: str) -> str:
        return self._given.sub(MASKED, text) if self._given else text


class Recorder:
    """The last console lines and requests of a context. No bodies, headers or cookies.

    It also knows which host the page's last navigation failed for, and answers dialogs, whose
    text is often the only thing that a shop says.
    """

    def __init__(self, context: BrowserContext, page: Page, *, is_shared: bool = False) -> None:
        """`is_shared`: other flows have pages in this context, which are no popups of ours."""
        source = page if is_shared else context
        self._page = page
        self._console: deque[dict[str, Any]] = deque(maxlen=MAX_CONSOLE)
        self._network: deque[dict[str, Any]] = deque(maxlen=MAX_NETWORK)
        self._pending: dict[Request, dict[str, Any]] = {}
        self.forget()
        source.on("console", self._on_console)
        source.on("request", self._on_request)
        source.on("response", self._on_response)
        source.on("requestfinished", self._on_finished)
        source.on("requestfailed", self._on_failed)
        context.on("weberror", self._on_error)
        # Of other flows' pages too: a dialog that nobody here listens to is refused.
        context.on("dialog", self._on_dialog)
        if is_shared:
            page.on("popup", self._on_popup)
        else:
            context.on("page", self._on_popup)
        page.on("crash", self._on_crash)

    def forget(self) -> None:
        """Starts anew, for the next user of a kept context."""
        self._began = time.monotonic()
        self.failed_navigation: str | None = None
        self.crashed = False
        for log_ in (self._console, self._network, self._pending):
            log_.clear()

    def console(self, mask: Mask) -> list[dict[str, Any]]:
        return [
            {**line, "text": mask(line["text"])[:MAX_TEXT_CHARACTERS]} for line in self._console
        ]

    def network(self, mask: Mask) -> list[dict[str, Any]]:
        return [{**line, "url": mask(line["url"])[:MAX_TEXT_CHARACTERS]} for line in self._network]

    def _seconds(self) -> float:
        return round(time.monotonic() - self._began, 3)

    def _say(self, kind: str, text: str) -> None:
        # Masked when it is read; cut here so that a page cannot fill the memory. Cutting could
        # leave half a secret, so far more is kept than is shown.
        self._console.append(
            {"at": self._seconds(), "type": kind, "text": text[: 10 * MAX_TEXT_CHARACTERS]}
        )

    def _on_console(self, message: ConsoleMessage) -> None:
        self._say(message.type, message.text)

    def _on_error(self, error: WebError) -> None:
        self._say("exception", str(error.error))

    def _on_crash(self, _: Page) -> None:
        self.crashed = True
        self._say("crash", "The page's process died.")

    async def _on_dialog(self, dialog: Dialog) -> None:
        self._say(f"dialog {dialog.type}", dialog.message)
        # It asks about what we have just pressed ("Add to cart?"), and we meant it.
        await _quietly(dialog.accept())

    async def _on_popup(self, popup: Page) -> None:
        if popup is not self._page:
            self._say("popup closed", popup.url)
            await _quietly(popup.close())

    def _on_request(self, request: Request) -> None:
        line = {
            "at": self._seconds(),
            "method": request.method,
            "url": request.url[: 10 * MAX_TEXT_CHARACTERS],
            "type": request.resource_type,
            "status": None,
            "failure": None,
            "seconds": None,
        }
        self._network.append(line)
        self._pending[request] = line
        if self._is_navigation(request):
            self.failed_navigation = None

    def _on_response(self, response: Response) -> None:
        line = self._pending.get(response.request)
        if line is not None:
            line["status"] = response.status
            line["seconds"] = round(self._seconds() - line["at"], 3)

    def _on_finished(self, request: Request) -> None:
        self._pending.pop(request, None)

    def _on_failed(self, request: Request) -> None:
        line = self._pending.pop(request, None)
        if line is not None:
            line["failure"] = request.failure
            line["seconds"] = round(self._seconds() - line["at"], 3)
        if self._is_navigation(request):
            self.failed_navigation = urlsplit(request.url).hostname

    def _is_navigation(self, request: Request) -> bool:
        try:
            return request.is_navigation_request() and request.frame == self._page.main_frame
        except PlaywrightError:
            return False  # a popup's first request: it has no frame yet


async def gather(
    page: Page,
    recorder: Recorder,
    mask: Mask,
    *,
    phase: str,
    refusals: Iterable[Refusal],
    stops_loading: bool = True,
) -> Evidence:
    """Evidence of the page as it is now, within four seconds. Never raises; ends navigations,
    unless they are to go on (`stops_loading`): then there may be less to see.

    What cannot be had is missing from it: a screenshot whose secrets could not be found is not
    taken, rather than shown.
    """
    if stops_loading:
        await _attempt("stop", STOP_SECONDS, _stop_loading(page))
    dom = await _attempt("dom", DOM_SECONDS, _trimmed_dom(page, mask))
    screenshot = await _attempt("screenshot", SCREENSHOT_SECONDS, _masked_screenshot(page, mask))
    network = [*recorder.network(mask), *map(_as_line, refusals)]
    return Evidence(
        phase=phase,
        screenshot=screenshot,
        dom=dom or "",
        console=recorder.console(mask),
        network=network,
    )


def _without_random(word: re.Match[str]) -> str:
    text = word.group()
    mixed = any(map(str.isdigit, text)) and any(map(str.isalpha, text))
    return MASKED if mixed else text


async def _attempt(part: str, seconds: float, call: Coroutine[Any, Any, T]) -> T | None:
    try:
        return await settle_within(seconds, call)
    except Exception as error:  # noqa: BLE001 - must not hide the error it is gathered for
        log.info("evidence_incomplete", part=part, error=type(error).__name__)
        return None


async def _stop_loading(page: Page) -> None:
    # While a navigation waits for the site, Playwright lets nobody look at the page.
    session = await page.context.new_cdp_session(page)
    await session.send("Page.stopLoading")


async def _trimmed_dom(page: Page, mask: Mask) -> str:
    longest = max(map(len, mask.secrets), default=0)
    found = []
    for frame in _frames(page):
        # Beyond the limit by a margin, so that no secret is cut in half before it is masked.
        limit = MAX_DOM_CHARACTERS + 6 * longest
        about = [SENSITIVE_INPUTS, SENSITIVE_NAME, limit, sorted(mask.hidden)]
        dom = await frame.evaluate(TRIMMED_DOM, about)
        found.append(mask(f"<!-- {frame.url} -->\n{dom}"))
    return "\n".join(found)[:MAX_DOM_CHARACTERS]


async def _masked_screenshot(page: Page, mask: Mask) -> bytes:
    hidden: list[Locator] = []
    for frame in page.frames:
        fields = frame.locator("input, textarea, select")
        values = await fields.evaluate_all("fields => fields.map(field => field.value)")
        hidden.append(frame.locator(SENSITIVE_INPUTS))
        hidden += [fields.nth(i) for i, value in enumerate(values) if mask.shows(str(value))]
        hidden += [frame.get_by_text(secret) for secret in mask.secrets]
        hidden += [
            frame.locator(f"xpath={each}" if is_xpath(each) else each) for each in mask.hidden
        ]
    return await page.screenshot(
        mask=hidden, mask_color="#444", animations="disabled", timeout=SCREENSHOT_SECONDS * 1000
    )


def _frames(page: Page) -> list[Frame]:
    inner = [frame for frame in page.frames if frame.url.startswith("http")]
    return [page.main_frame, *(frame for frame in inner if frame != page.main_frame)][:MAX_FRAMES]


def _as_line(refusal: Refusal) -> dict[str, Any]:
    return {
        "at": None,
        "method": "CONNECT",
        "url": f"{refusal.host}:{refusal.port}",
        "type": "guard",
        "status": None,
        "failure": f"refused: {refusal.host} {refusal.reason}",
        "seconds": None,
    }


async def _quietly(call: Coroutine[Any, Any, None]) -> None:
    with suppress(PlaywrightError):  # the page may have gone meanwhile
        await call

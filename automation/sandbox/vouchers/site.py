"""What all of the voucher sites have in common: how a visit comes in, and what stands in its way.

A visit is read first; then the switches decide. Every form carries a token that stands in a cookie
too, every page that changes something answers with a redirect, and `settle` runs before anything
is looked at.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from automation.sandbox.switches import Scope, Switchboard
from automation.sandbox.vouchers.people import People, Session
from automation.sandbox.vouchers.sales import Sales
from automation.sandbox.vouchers.switches import SiteSwitches

HERE = Path(__file__).parent
SESSION_COOKIE = "session"
CSRF_COOKIE = "csrf"
SESSION_SECONDS = 14 * 24 * 3600
MOST_MESSAGES = 1000  # those that nobody comes for are forgotten
INDIA = ZoneInfo("Asia/Kolkata")

S = TypeVar("S", bound=SiteSwitches)


@dataclass(slots=True)
class Visit(Generic[S]):
    request: Request
    form: dict[str, str]
    session: Session | None
    scope: Scope
    switches: S
    csrf: str

    @property
    def account(self) -> str | None:
        return self.session.account if self.session else None

    def part(self, name: str) -> str:
        """A named piece of the path."""
        return str(self.request.path_params[name])


Answer = Awaitable[Response]


class Site(Generic[S]):
    host: str
    name: str
    templates: str
    """The folder of its pages."""

    def __init__(self, switchboard: Switchboard[S], people: People, sales: Sales) -> None:
        self.switchboard = switchboard
        self.people = people
        self.sales = sales
        self._messages: dict[str, tuple[str, str]] = {}
        folder = HERE / "templates"
        self._environment = Environment(
            loader=FileSystemLoader([folder / self.templates, folder / "shared"]),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals.update(site=self.name)
        self._environment.filters.update(
            rupees=rupees, iso=iso_time, clock=clock_time, day=day_and_time
        )
        self._stylesheet = "".join(
            (HERE / "static" / f"{name}.css").read_text() for name in ("common", self.templates)
        )

    def gets(self) -> Mapping[str, Callable[[Visit[S]], Answer]]:
        raise NotImplementedError

    def posts(self) -> Mapping[str, Callable[[Visit[S]], Answer]]:
        raise NotImplementedError

    def scope_of(self, request: Request, form: Mapping[str, str], session: Session | None) -> Scope:
        """Whom the switches are asked for."""
        account = (session and (session.account or session.awaiting)) or form.get("email", "")
        return Scope(account=account.strip().lower() or None)

    def routes(self) -> list[Route]:
        return [
            Route("/site.css", self._send_stylesheet),
            *(Route(path, self._door(page), methods=["GET"]) for path, page in self.gets().items()),
            *(
                Route(path, self._door(page), methods=["POST"])
                for path, page in self.posts().items()
            ),
            Route("/{path:path}", self._door(self._show_missing)),
        ]

    # The way in

    def _door(
        self, handler: Callable[[Visit[S]], Answer]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def open_page(request: Request) -> Response:
            visit = await self._read_visit(request)
            if visit.switches.latency_ms:
                await asyncio.sleep(visit.switches.latency_ms / 1000)
            self.sales.settle()
            response = self._find_obstacle(visit)
            if response is None:
                response = await handler(visit)
                if request.method == "POST" and self.switchboard.take("lose_answers", visit.scope):
                    response = self._show_trouble(visit)
            self._set_cookies(visit, response)
            return response

        return open_page

    async def _read_visit(self, request: Request) -> Visit[S]:
        form: dict[str, str] = {}
        if request.method == "POST":
            body = await request.body()
            form = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        token = request.cookies.get(SESSION_COOKIE)
        session = self.people.find_session(self.host, token) if token else None
        scope = self.scope_of(request, form, session)
        if session and session.account and self.switchboard.take("forget_next", scope):
            self.people.end_session(session)
            session = None
        return Visit(
            request=request,
            form=form,
            session=session,
            scope=scope,
            switches=self.switchboard.switches_for(scope),
            csrf=request.cookies.get(CSRF_COOKIE) or secrets.token_urlsafe(16),
        )

    def _find_obstacle(self, visit: Visit[S]) -> Response | None:
        if visit.switches.down or self.switchboard.take("fail_next", visit.scope):
            return self._show_trouble(visit)
        if visit.request.method == "POST" and not secrets.compare_digest(
            visit.form.get("csrf", "").encode(), visit.csrf.encode()
        ):
            return self.show_notice(
                visit, 403, "This form is too old", "Go back, load the page again and resend it."
            )
        return None

    def _set_cookies(self, visit: Visit[S], response: Response) -> None:
        cookies = visit.request.cookies
        if CSRF_COOKIE not in cookies:
            response.set_cookie(CSRF_COOKIE, visit.csrf, samesite="lax")
        token = visit.session.token if visit.session else None
        if token and token != cookies.get(SESSION_COOKIE):
            response.set_cookie(
                SESSION_COOKIE, token, max_age=SESSION_SECONDS, httponly=True, samesite="lax"
            )

    # Pages

    def redirect_with(self, path: str, kind: str, text: str) -> Response:
        """To a page that shows the message, once: other windows of this visitor never do."""
        token = secrets.token_urlsafe(8)
        self._messages[token] = kind, text
        while len(self._messages) > MOST_MESSAGES:
            self._messages.pop(next(iter(self._messages)))
        return redirect(f"{path}{'&' if '?' in path else '?'}m={token}")

    def render(self, visit: Visit[S], template: str, status: int = 200, **values: Any) -> Response:
        html = self._environment.get_template(template).render(
            account=visit.account,
            csrf=visit.csrf,
            switches=visit.switches,
            flash=self._messages.pop(visit.request.query_params.get("m", ""), None),
            **values,
        )
        return HTMLResponse(html, status_code=status, headers={"Cache-Control": "no-store"})

    def show_notice(self, visit: Visit[S], status: int, title: str, text: str) -> Response:
        return self.render(visit, "notice.html", status, title=title, text=text)

    async def _show_missing(self, visit: Visit[S]) -> Response:
        return self.show_notice(
            visit, 404, "We don't have that page", "It may have moved. Please start over."
        )

    def _show_trouble(self, visit: Visit[S]) -> Response:
        return self.render(visit, "trouble.html", 500)

    async def _send_stylesheet(self, request: Request) -> Response:
        return PlainTextResponse(self._stylesheet, media_type="text/css")


def redirect(location: str) -> Response:
    return Response(status_code=303, headers={"Location": location})


def port_of(request: Request) -> int:
    return int(request.scope["server"][1])


def read_whole(typed: str) -> int | None:
    """A number of up to seven digits; None for anything else."""
    is_whole = typed.isascii() and typed.isdecimal() and len(typed) < 8
    return int(typed) if is_whole else None


def rupees(amount: int) -> str:
    """₹1,00,000: a comma before the last three digits, then one before every two."""
    digits = str(amount)
    head, last = digits[:-3], digits[-3:]
    groups: list[str] = []
    while head:
        head, group = head[:-2], head[-2:]
        groups.insert(0, group)
    return "₹" + ",".join([*groups, last])


def iso_time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")


def clock_time(moment: float) -> str:
    return datetime.fromtimestamp(moment, INDIA).strftime("%I:%M:%S %p").lstrip("0")


def day_and_time(moment: float) -> str:
    return datetime.fromtimestamp(moment, INDIA).strftime("%d %b %Y, %I:%M %p")

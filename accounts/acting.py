"""Who acts: the web request that is being answered, or the command that this process runs.

For the audit trail. No table is needed to note it, so that manage.py can before Django is set up.
"""

import getpass
import ipaddress
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

_request: ContextVar[HttpRequest | None] = ContextVar("acting_request", default=None)
_command: list[str] = []  # of the whole process, its threads too


@dataclass(frozen=True)
class Acting:
    user: Any = None  # None where no user of ours is known
    by: str = ""  # their name, or that of the system's user
    through: str = ""  # a page, an API key by its name, a command
    ip: str | None = None


def who_acts() -> Acting:
    if request := _request.get():
        user = getattr(request, "user", None)
        if user is None or not user.is_authenticated:
            return Acting(ip=_address(request))
        return Acting(user, user.get_username(), _way_in(request), _address(request))
    if _command:
        return Acting(by=_system_user(), through=f"manage.py {_command[0]}")
    return Acting()


def note_command(arguments: Sequence[str]) -> None:
    """`arguments` as in sys.argv. Only the command's name is kept: options may hold secrets."""
    _command[:] = arguments[1:2]


@sync_and_async_middleware
def acting_request(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """The request itself is noted, not its user: REST finds that only in the view."""
    if iscoroutinefunction(get_response):
        answer: Callable[[HttpRequest], Awaitable[HttpResponseBase]] = get_response

        async def middleware(request: HttpRequest) -> HttpResponseBase:
            with _acting(request):
                return await answer(request)

        return middleware

    def sync_middleware(request: HttpRequest) -> HttpResponseBase:
        with _acting(request):
            response: HttpResponseBase = get_response(request)
            return response

    return sync_middleware


@contextmanager
def _acting(request: HttpRequest) -> Iterator[None]:
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def _address(request: HttpRequest) -> str | None:
    """Where the caller is. Not read from X-Forwarded-For: whoever calls writes what he likes there.
    The server puts a proxy's word into REMOTE_ADDR if it trusts the proxy."""
    try:
        return str(ipaddress.ip_address(request.META.get("REMOTE_ADDR", "").partition("%")[0]))
    except ValueError:  # a socket of this machine
        return None


def _way_in(request: HttpRequest) -> str:
    from accounts.models import ApiKey

    auth = getattr(request, "auth", None)  # REST puts it there
    if isinstance(auth, ApiKey):
        return f"API key {auth}"
    return "page" if auth is None else "token"  # the token itself is a secret


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        return f"user {os.getuid()}"

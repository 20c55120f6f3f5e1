"""Websockets: at which paths, and whom a connection speaks for.

A machine names its API key in a header, which no page can make a browser send. A browser comes with
its session cookie, which every page can make it send: so its Origin must be our own, port and all,
for cookies do not know ports and another program on this host is a stranger.
"""

from functools import partial
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest, parse_cookie
from django.http.request import split_domain_port, validate_host
from django.urls import path, re_path

from accounts.api.authentication import KEYWORD, find_api_key
from accounts.models import User
from jobs.consumers import JobConsumer, JobListConsumer
from payments.consumers import PurchaseConsumer, PurchaseListConsumer
from vendors.consumers import QueueConsumer

websocket_patterns = [
    path("ws/jobs/", JobListConsumer.as_asgi()),
    path("ws/jobs/<uuid:job_id>/", JobConsumer.as_asgi()),
    path("ws/queue/", QueueConsumer.as_asgi()),
    path("ws/purchases/", PurchaseListConsumer.as_asgi()),
    path("ws/purchases/<uuid:purchase_id>/", PurchaseConsumer.as_asgi()),
    re_path("", WebsocketDenier.as_asgi()),  # else every stray request is an exception in the log
]


def with_identity(inner: Any) -> Any:
    """Gives the scope `find_user`: a function that asks the database anew who this connection
    speaks for, so that a socket does not outlive its session. Foreign pages get HTTP 403."""

    async def identify(scope: dict[str, Any], receive: Any, send: Any) -> Any:
        headers = {name: value.decode("latin1") for name, value in scope["headers"]}
        keyword, _, credentials = headers.get(b"authorization", "").partition(" ")
        if keyword.lower() == KEYWORD:
            find_user = partial(find_key_user, credentials.strip())
        elif is_our_own_page(headers.get(b"origin", ""), headers.get(b"host", "")):
            cookies = parse_cookie(headers.get(b"cookie", ""))
            find_user = partial(find_session_user, cookies.get(settings.SESSION_COOKIE_NAME))
        else:
            return await WebsocketDenier()(scope, receive, send)
        return await inner({**scope, "find_user": find_user}, receive, send)

    return identify


def is_our_own_page(origin: str, host: str) -> bool:
    """Django's rule for unsafe requests (CsrfViewMiddleware), which websockets do not pass."""
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    domain, _ = split_domain_port(host)
    return urlsplit(origin).netloc == host and validate_host(domain, settings.ALLOWED_HOSTS)


def find_key_user(credentials: str) -> User | None:
    api_key = find_api_key(credentials)
    if api_key is None:
        return None
    api_key.note_use()
    return api_key.user


class SessionContents(dict[str, Any]):
    """A session to look at. What `get_user` does to one that is no longer good is left to the next
    HTTP request: only that can set the cookie which belongs to it."""

    def flush(self) -> None:
        pass

    def cycle_key(self) -> None:
        pass


def find_session_user(session_key: str | None) -> User | None:
    if session_key is None:
        return None
    store = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    request: Any = HttpRequest()
    request.session = SessionContents(store.load())
    user = get_user(request)
    return user if isinstance(user, User) else None

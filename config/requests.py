"""Every web request has an id, in each of its log lines, in its answer, and on its span."""

import re
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from structlog.contextvars import bound_contextvars

from jobs import telemetry

HEADER = "X-Request-ID"
# A proxy or a caller may name the request. Whatever else they send does not get into our log.
NAME = re.compile(r"[\w.-]{8,64}", re.ASCII)

Answer = Callable[[HttpRequest], Any]
Finish = Callable[[HttpResponseBase], HttpResponseBase]


@sync_and_async_middleware
def request_identity(get_response: Answer) -> Answer:
    if iscoroutinefunction(get_response):
        answer: Callable[[HttpRequest], Awaitable[HttpResponseBase]] = get_response

        async def middleware(request: HttpRequest) -> HttpResponseBase:
            with _identified(request) as finish:
                return finish(await answer(request))

        return middleware

    def sync_middleware(request: HttpRequest) -> HttpResponseBase:
        with _identified(request) as finish:
            return finish(get_response(request))

    return sync_middleware


@contextmanager
def _identified(request: HttpRequest) -> Iterator[Finish]:
    given = request.headers.get(HEADER, "")
    request_id = given if NAME.fullmatch(given) else uuid.uuid4().hex
    attributes = {"http.request.method": request.method, "url.path": request.path}

    def finish(response: HttpResponseBase) -> HttpResponseBase:
        response[HEADER] = request_id
        if span:
            span.set_attribute("http.response.status_code", response.status_code)
            if match := request.resolver_match:
                span.set_attribute("http.route", match.route)
        return response

    with (
        bound_contextvars(request=request_id),
        telemetry.span(f"{request.method}", **attributes, **{"request.id": request_id}) as span,
    ):
        yield finish

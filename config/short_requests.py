"""Django for the requests that programs send in numbers: each is answered in one go, in one thread.

Django's own ASGI handler starts a thread for each request and walks through the middlewares in the
event loop, with a trip to that thread for each of them. For answers that are made at once and sent
whole, that costs more than the answers themselves. Pages, files and streams stay with it.
"""

from asyncio import wrap_future
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.exception import convert_exception_to_response
from django.db import connection
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix
from django.utils.module_loading import import_string

# What is under these answers soon, and never with a stream.
PATHS = ("/api/cart/", "/api/admin/", "/api/erpnext/")
# At a time. More would wait for each other: Python runs one, the database answers in a millisecond.
THREADS = 8


@dataclass(frozen=True)
class _Asked:
    scope: Any
    body: Any
    context: Context
    answer: Future[HttpResponseBase]


class ShortRequests(ASGIHandler):
    def __init__(self) -> None:
        super().__init__()
        self._threads = ThreadPoolExecutor(THREADS, "request")
        self._waiting: deque[_Asked] = deque()

    def load_middleware(self, is_async: bool = False) -> None:
        """The same middlewares, but those that only work asynchronously: they serve files."""
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        handler = convert_exception_to_response(self._get_response)  # type: ignore[attr-defined]
        for path in reversed(settings.MIDDLEWARE):
            middleware = import_string(path)
            if not getattr(middleware, "sync_capable", True):
                continue
            made: Any = middleware(handler)
            if hasattr(made, "process_view"):
                self._view_middleware.insert(0, made.process_view)
            if hasattr(made, "process_template_response"):
                self._template_response_middleware.append(made.process_template_response)
            if hasattr(made, "process_exception"):
                self._exception_middleware.append(made.process_exception)
            handler = convert_exception_to_response(made)
        self._middleware_chain = handler

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        asked = _Asked(scope, body, copy_context(), Future())
        self._waiting.append(asked)
        self._threads.submit(self._answer_all)
        await self.send_response(await wrap_future(asked.answer), send)

    def _answer_all(self) -> None:
        """Whatever waits, by this thread; the one database connection serves all of it. From the
        pool it would come to each only after a trip to the server that tries it."""
        while self._waiting:
            try:
                asked = self._waiting.popleft()
            except IndexError:  # another thread was faster
                break
            try:
                asked.answer.set_result(asked.context.run(self._answer, asked.scope, asked.body))
            except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
                asked.answer.set_exception(error)
            finally:
                asked.body.close()
        connection.close()

    def _answer(self, scope: Any, body: Any) -> HttpResponseBase:
        """Without Django's signals of a request's beginning and end: what listens there gives the
        connection back."""
        set_script_prefix(get_script_prefix(scope))
        if connection.errors_occurred:
            connection.close()
        request, refusal = self.create_request(scope, body)
        response = self.get_response(request) if request else refusal
        assert response
        assert not response.streaming, f"{scope['path']} is no short request: see PATHS."
        return response


def apart_from(others: Any) -> Any:
    """The application that answers short requests here, and has `others` answer all else."""
    short = ShortRequests()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        is_short = scope["path"].startswith(PATHS)
        await (short if is_short else others)(scope, receive, send)

    return application

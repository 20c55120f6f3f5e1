"""Many clients at once that send ready-made requests, one after the other each.

Written for little work a request: a client that costs as much as the server, on the same machine,
would measure itself.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import httptools

PATIENCE_SECONDS = 120


class RequestFailed(Exception):
    """A request was not answered with a success."""


@dataclass(frozen=True)
class Load:
    """What came of a run: how long it took, and each request's own time."""

    seconds: float
    took: Sequence[float]

    @property
    def per_second(self) -> float:
        return len(self.took) / self.seconds


@dataclass
class _Work:
    """What all clients of a run share."""

    requests: Iterator[bytes]
    done: asyncio.Future[None]
    waiting_for: int
    took: list[float] = field(default_factory=list)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class _Client(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._answer = httptools.HttpResponseParser(self)
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send_next(self) -> None:
        request = next(self._work.requests, None)
        if request is None:
            return
        self._sent_at = perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer.feed_data(data)

    def on_status(self, status: bytes) -> None:
        if self._answer.get_status_code() not in (200, 201):
            self._work.fail(RequestFailed(f"A request was refused: {status.decode('latin1')}"))

    def on_message_complete(self) -> None:
        work = self._work
        work.took.append(perf_counter() - self._sent_at)
        if len(work.took) == work.waiting_for and not work.done.done():
            work.done.set_result(None)
        self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._work.fail(RequestFailed(f"The server closed a connection: {exc}"))


async def send_all(
    url: str, headers: Mapping[str, str], bodies: Sequence[Mapping[str, Any]], *, clients: int
) -> Load:
    """Posts all of them to `url`; raises RequestFailed if one is not answered with a success."""
    parts = urlsplit(url)
    head = "".join(
        f"{line}\r\n"
        for line in (
            f"POST {parts.path} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Content-Type: application/json",
            *(f"{name}: {value}" for name, value in headers.items()),
        )
    )
    requests = [_request(head, body) for body in bodies]
    loop = asyncio.get_running_loop()
    work = _Work(iter(requests), loop.create_future(), len(requests))
    connected = [
        (await loop.create_connection(lambda: _Client(work), parts.hostname, parts.port))[1]
        for _ in range(clients)
    ]
    started = perf_counter()
    for client in connected:
        client.send_next()
    try:
        await asyncio.wait_for(work.done, PATIENCE_SECONDS)
        return Load(perf_counter() - started, work.took)
    finally:
        for client in connected:
            client.transport.close()


def _request(head: str, body: Mapping[str, Any]) -> bytes:
    written = json.dumps(body).encode()
    return f"{head}Content-Length: {len(written)}\r\n\r\n".encode() + written

"""What webhooks are sent to: a real HTTP server, which says what the test wants it to say."""

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

from accounts.models import FIRST_WORKSPACE, Workspace
from jobs.models import WebhookDelivery, WebhookEndpoint
from jobs.webhooks.deliveries import Answer, Message, claim_due, record
from jobs.webhooks.endpoints import add_endpoint
from jobs.webhooks.posting import Poster
from jobs.webhooks.sending import Sender


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """The payload, as the receiver's library takes it; raises what it raises."""
        return Webhook(secret).verify(self.body, self.headers)


class Receiver:
    """`status`, `headers` and `body` are what it answers, and drips after that if `is_endless`;
    `gate`, once cleared, holds it back."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.status, self.headers, self.body = 204, {}, b""
        self.is_endless = False
        self.gate = threading.Event()
        self.gate.set()
        self.received: list[Received] = []
        self.connections = self.waiting = self.most_waiting = 0
        self._lock = threading.Lock()
        self._server = _Server(self, context)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}/hooks"

    @property
    def ids(self) -> list[str]:
        return [received.id for received in self.received]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"])).decode()
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._lock:
            self.received.append(Received(handler.path, headers, body))
            self.waiting += 1
            self.most_waiting = max(self.waiting, self.most_waiting)
        self.gate.wait(30)
        with self._lock:
            self.waiting -= 1
        handler.send_response(self.status)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(self.body)
        while self.is_endless:
            handler.wfile.write(b"drip ")
            time.sleep(0.01)

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.is_endless = False
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, receiver: Receiver, context: ssl.SSLContext | None) -> None:
        self.receiver, self.context = receiver, context
        super().__init__(("127.0.0.1", 0), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.receiver.connections += 1
        if self.context is None:
            super().finish_request(request, client_address)
            return
        with self.context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that went away


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        self.server.receiver.answer(self)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def receiving(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    receiver = Receiver(context)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()


def endpoint_at(url: str = "https://erp.example/hooks", *events: str) -> WebhookEndpoint:
    workspace = Workspace.objects.get(pk=FIRST_WORKSPACE)
    return add_endpoint(workspace, url, events=events or ["*"])


def send(*messages: Message, **options: Any) -> list[Answer]:
    """Posts them at once, as the sender does."""

    async def post_all() -> list[Answer]:
        async with Poster(**{"allow_private": True, **options}) as poster:
            return list(await asyncio.gather(*map(poster.post, messages)))

    return asyncio.run(post_all())


def send_due(**options: Any) -> list[Answer]:
    """One round of the sender: claims what is due, posts it and records what came of it."""
    messages = claim_due(100)
    answers = [message.problem or send(message, **options)[0] for message in messages]
    for message, answer in zip(messages, answers, strict=True):
        assert record(message, answer)
    return answers


@contextmanager
def running_sender() -> Iterator[None]:
    """The sender's loop, in a thread, as in the scheduler's process."""
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def run() -> None:
        async with Poster(allow_private=True) as poster:
            task = asyncio.ensure_future(Sender(poster).run())
            loops.append((asyncio.get_running_loop(), task))
            await asyncio.wait([task])

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        yield
    finally:
        loop, task = loops[0]
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)
        assert not thread.is_alive()


def get_delivery() -> WebhookDelivery:
    return WebhookDelivery.objects.get()

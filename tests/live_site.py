"""The product's web server in this process, on the tests' database, for sockets and browsers.

A test module imports the fixtures it uses by name.
"""

import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from channels.layers import channel_layers
from django.conf import settings
from django.test import Client
from playwright.async_api import Page, async_playwright
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from accounts.models import ApiKey, User
from automation.chromium import find_chromium
from jobs.consumers import read
from tests.waiting import wait_until

run = read  # work of the test's own, in a thread: the test itself runs in an event loop


class LiveSite:
    """The server; stopped and started again it has the same address."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.host = f"localhost:{self.port}"
        self.url = f"http://{self.host}"

    def start(self) -> None:
        from config.asgi import application

        config = uvicorn.Config(
            application,
            port=self.port,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="live-site")
        self._thread.start()
        wait_until(lambda: self._server.started)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        channel_layers.backends.clear()  # its connections were of the server's event loop

    @asynccontextmanager
    async def socket(
        self, path: str, *, user: User | None = None, key: str = "", origin: str | None = "own"
    ) -> AsyncIterator["Connection"]:
        """A connection as a browser of `user` makes it, or with `key` as a machine does."""
        headers = {}
        if key:
            headers["Authorization"] = f"token {key}"
        elif user:
            headers["Cookie"] = f"{settings.SESSION_COOKIE_NAME}={await run(log_in, user)}"
        if origin == "own":
            origin = None if key else self.url
        uri = f"ws://{self.host}{path}"
        async with connect(uri, additional_headers=headers, origin=origin) as connection:
            yield Connection(connection)


class Connection:
    def __init__(self, connection: ClientConnection) -> None:
        self.raw = connection

    async def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.raw.recv())
        return message

    async def receive_until(self, is_last: Callable[[dict[str, Any]], bool]) -> list[Any]:
        """All messages up to the first for which `is_last`."""
        messages = [await self.receive()]
        while not is_last(messages[-1]):
            messages.append(await self.receive())
        return messages

    async def send(self, message: Any) -> None:
        await self.raw.send(json.dumps(message))

    async def close_code(self) -> int | None:
        """The code that the server closes with; what it still sends is passed over."""
        with suppress(ConnectionClosed):
            async for _ in self.raw:
                pass
        return self.raw.close_code


def log_in(user: User) -> str:
    """The key of a new session of `user`."""
    client = Client()
    client.force_login(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value


def make_key(user: User) -> str:
    api_key, secret = ApiKey.issue(user, "test")
    return f"{api_key.key}:{secret}"


@pytest.fixture
def live_site(transactional_db: None, broker: Any) -> Iterator[LiveSite]:
    site = LiveSite()
    site.start()
    yield site
    site.stop()


@pytest.fixture
def alice(transactional_db: None) -> User:
    """Staff: sees everything."""
    return User.objects.create_user("alice", is_staff=True, is_superuser=True)


@pytest.fixture
async def page(live_site: LiveSite, alice: User) -> AsyncIterator[Page]:
    """A browser's page, with Alice logged in."""
    session = await run(log_in, alice)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox"]
        )
        context = await browser.new_context(base_url=live_site.url)
        await context.add_cookies(
            [{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_site.url}]
        )
        page = await context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        await browser.close()
    assert errors == []

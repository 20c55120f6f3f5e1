"""One attempt: signed, to an address that was checked, within 15 seconds. Knows no database."""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from time import monotonic
from typing import Self

import httpx
from standardwebhooks import Webhook

from jobs.webhooks.addresses import check_address
from jobs.webhooks.deliveries import BODY_LENGTH, Answer, Message
from jobs.webhooks.errors import AddressRefused

TIMEOUT_SECONDS = (
    15.0  # Standard Webhooks: 15 to 30; of the whole attempt, name and answer included
)
CONNECT_SECONDS = 5.0  # of one address, where a name has several
READ_BYTES = 4 * BODY_LENGTH  # of an answer, which may be endless

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve_name(host: str, port: int) -> list[str]:
    """Its addresses, those that the system would try first first. Raises OSError."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def look_up() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            settle = partial(_settle, found, list(dict.fromkeys(str(i[4][0]) for i in infos)))
        except (OSError, UnicodeError) as error:
            settle = partial(_settle, found, error)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle)

    # Not asyncio's own: a name that does not resolve keeps its thread for as long as the resolver
    # likes, and the few threads of an executor would be waited for by the others, and at the end.
    threading.Thread(target=look_up, name="webhook-name", daemon=True).start()
    return await found


def _settle(found: "asyncio.Future[list[str]]", result: list[str] | Exception) -> None:
    if found.done():
        return  # nobody waits any more
    if isinstance(result, Exception):
        found.set_exception(result)
    else:
        found.set_result(result)


class Poster:
    """Posts messages, many at a time. Use it as an async context manager."""

    def __init__(
        self,
        *,
        allow_private: bool,
        resolve: Resolve = resolve_name,
        seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._allow_private = allow_private
        self._resolve = resolve
        self._seconds = seconds
        self._client = httpx.AsyncClient(
            # The proxy of the environment would look the name up itself, unchecked. Its
            # certificates (SSL_CERT_FILE) hold, for receivers with an authority of their own.
            trust_env=False,
            verify=httpx.create_ssl_context(trust_env=True),
            follow_redirects=False,
            # A kept connection is found by its address: another name may have that as well.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            # The rest is within the time of the whole: httpx's are for each read, and a receiver
            # may drip.
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.aclose()

    async def post(self, message: Message) -> Answer:
        """What came of it and how long it took; every failure is an Answer too."""
        begun_at = monotonic()
        answer = await self._try_to_post(message)
        return replace(answer, seconds=monotonic() - begun_at)

    async def _try_to_post(self, message: Message) -> Answer:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._post(message)
        except TimeoutError:
            return Answer(
                error=f"No whole answer within {self._seconds:g} s. The receiver has to answer "
                "first and do its work afterwards."
            )
        except AddressRefused as error:
            return Answer(error=str(error))
        except socket.gaierror as error:
            return Answer(
                error=f"The name cannot be resolved: {error.strerror}. Check the webhook's URL."
            )
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            return Answer(
                error=f"{type(error).__name__}: {str(error)[:300]}. Check that the receiver runs, "
                "its certificate, and the webhook's URL."
            )

    async def _post(self, message: Message) -> Answer:
        url = httpx.URL(message.url)
        host = url.raw_host.decode("ascii")
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await self._resolve(host, port)
        for address in addresses:
            # One that is forbidden condemns the name: an honest receiver has none.
            check_address(host, address, allow_private=self._allow_private)
        for address in addresses[:-1]:
            try:
                return await self._post_to(address, url, message)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # nothing was sent yet
        return await self._post_to(addresses[-1], url, message)

    async def _post_to(self, address: str, url: httpx.URL, message: Message) -> Answer:
        method, headers = self._method_and_headers(message)
        request = self._client.build_request(
            method,
            url.copy_with(host=address),
            content=message.body.encode(),
            headers={
                "Host": url.netloc.decode("ascii"),
                "Content-Type": "application/json",
                "User-Agent": "Cartwright",
                "Accept-Encoding": "identity",
                **headers,
            },
            # What the certificate must be for.
            extensions={} if _is_address(url.host) else {"sni_hostname": url.raw_host.decode()},
        )
        response = await self._client.send(request, stream=True)
        try:
            return await _read_answer(response)
        finally:
            await response.aclose()

    def _method_and_headers(self, message: Message) -> tuple[str, dict[str, str]]:
        """How the receiver is called, and how it knows us. Others than webhooks are called too."""
        return "POST", sign(message, datetime.now(UTC))


def sign(message: Message, now: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks; a signature for each secret that is valid."""
    signatures = [Webhook(secret).sign(message.id, now, message.body) for secret in message.secrets]
    return {
        "webhook-id": message.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


async def _read_answer(response: httpx.Response) -> Answer:
    read = b""
    async for part in response.aiter_raw():
        read += part
        if len(read) >= READ_BYTES:
            break
    # PostgreSQL's texts hold no NUL.
    text = read.decode(errors="replace").replace("\0", "�")[:BODY_LENGTH]
    error = ""
    if response.is_redirect:
        error = (
            "The receiver redirects, which is not followed. Change the webhook's URL to "
            f"{response.headers['location'][:300]} if that is right."
        )
    elif not response.is_success:
        error = f"The receiver answered {response.status_code} {response.reason_phrase}".strip()
    return Answer(response.status_code, text, error.replace("\0", ""), _retry_after(response))


def _retry_after(response: httpx.Response) -> timedelta | None:
    """RFC 9110: seconds, or a date."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal() and value.isascii():
        return timedelta(seconds=min(int(value[:9]), 10**8))
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        return None
    return max(at - datetime.now(UTC), timedelta(0))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

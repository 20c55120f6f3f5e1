"""The URL guard: a small SOCKS5 proxy that decides where a browser context may connect to.

Chromium hands it host *names*. The guard checks the name, resolves it, checks every address and
connects to the very address that it checked, so redirects, sub-resources, popups, websockets and
DNS rebinding all meet the same rule. What a page may do once connected is not decided here.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Self, cast

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str], Awaitable[list[str]]]
Connect = Callable[[asyncio.Protocol, str, int], Awaitable[asyncio.Transport]]

# Reply codes of RFC 1928, section 6.
SUCCEEDED, NOT_ALLOWED, HOST_UNREACHABLE, COMMAND_NOT_SUPPORTED = 0x00, 0x02, 0x04, 0x07

# Several addresses may be tried for one name; a page gives up on a host that takes longer.
CONNECT_SECONDS = 10
# A page full of trackers must not fill the memory; the first refusals tell the story.
MAX_REMEMBERED = 200

# NAT64 (RFC 6052): an IPv6 address that a gateway turns into the IPv4 address in its last 32 bits.
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# `is_private` is also true of documentation, benchmark and "this network" ranges, where no shop of
# anybody's own network lives.
OWN_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "fc00::/7",
        "::1/128",
    )
)


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Where a context may go: these domains and their subdomains, on any port.

    `allow_private` adds private and loopback addresses, for a shop on the own network. Link-local
    addresses (the metadata services of clouds), multicast and reserved ones stay refused.
    """

    domains: tuple[str, ...]
    allow_private: bool = False

    def refuse_host(self, host: str) -> str | None:
        """Why this host name (or address literal) is refused, or None."""
        name = _normal(host)
        for domain in map(_normal, self.domains):
            if name == domain or name.endswith("." + domain):
                return None
        return f"is not on {' or '.join(self.domains) or 'any allowed domain'}"

    def refuse_address(self, address: str) -> str | None:
        """Why an address that a name resolved to is refused, or None."""
        ip = _innermost(ipaddress.ip_address(address.partition("%")[0]))
        if ip.is_global and not ip.is_multicast:
            return None
        if any(ip in network for network in OWN_NETWORKS):
            return None if self.allow_private else f"resolves to the private address {ip}"
        return f"resolves to {ip}, which is no address of a public site"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A connection that was not made; `reason` goes on a sentence that begins with the host."""

    host: str
    port: int
    reason: str


class Refused(Exception):
    """The policy forbids this connection. It is in `Guard.refusals` too."""


class GuardLog:
    """What a guard did not let through, for whoever looks into a failure.

    `refusals` are connections that the policy forbids, `failures` those that the network did not
    give us; each host is in them once.
    """

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []
        self.failures: list[Refusal] = []

    def note_refusal(self, refusal: Refusal) -> None:
        _remember(self.refusals, refusal)

    def note_failure(self, failure: Refusal) -> None:
        _remember(self.failures, failure)

    def forget(self) -> None:
        """Starts the lists anew, for the next user of a kept context."""
        self.refusals.clear()
        self.failures.clear()

    def find_refusal(self, host: str) -> Refusal | None:
        return _find(self.refusals, host)

    def find_failure(self, host: str) -> Refusal | None:
        return _find(self.failures, host)


class Guard(GuardLog):
    """The proxy of one browser context. Use `await Guard.open(policy)`, and `close()` at the
    end."""

    def __init__(self, policy: NetworkPolicy, resolve: Resolve, connect: Connect) -> None:
        super().__init__()
        self.policy = policy
        self._resolve = resolve
        self._connect = connect
        self._tunnels: set[_Tunnel] = set()
        self._server: asyncio.Server | None = None

    @classmethod
    async def open(
        cls,
        policy: NetworkPolicy,
        *,
        resolve: Resolve | None = None,
        connect: Connect | None = None,
    ) -> Self:
        guard = cls(policy, resolve or resolve_name, connect or open_connection)
        loop = asyncio.get_running_loop()
        guard._server = await loop.create_server(partial(_Tunnel, guard), "127.0.0.1", 0)
        return guard

    @property
    def proxy_url(self) -> str:
        assert self._server is not None
        return f"socks5://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        """Ends every connection at once. Safe to repeat."""
        if self._server is not None:
            self._server.close()
        for tunnel in tuple(self._tunnels):
            tunnel.abort()

    async def connect(self, protocol: asyncio.Protocol, host: str, port: int) -> asyncio.Transport:
        """Raises Refused for what the policy forbids, OSError for what did not work."""
        reason = self.policy.refuse_host(host)
        if reason:
            raise self._refuse(host, port, reason)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                addresses = await self._resolve(host)
                # One forbidden address condemns the name: an honest shop has none, and a name
                # that mixes them is how rebinding looks.
                for address in addresses:
                    reason = self.policy.refuse_address(address)
                    if reason:
                        raise self._refuse(host, port, reason)
                return await self._connect_first(protocol, addresses, port)
        except OSError as error:
            self.note_failure(Refusal(_normal(host), port, _why(error)))
            raise

    async def _connect_first(
        self, protocol: asyncio.Protocol, addresses: list[str], port: int
    ) -> asyncio.Transport:
        failure: OSError = OSError("the name has no address")
        for address in addresses:
            try:
                return await self._connect(protocol, address, port)
            except OSError as error:
                failure = error
        raise failure

    def _refuse(self, host: str, port: int, reason: str) -> Refused:
        self.note_refusal(Refusal(_normal(host), port, reason))
        return Refused(f"{host} {reason}")


class _Tunnel(asyncio.Protocol):
    """One connection from Chromium: the SOCKS5 handshake (RFC 1928), then bytes both ways."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._received = bytearray()
        self._greeted = False
        self._connecting: asyncio.Task[None] | None = None
        self._upstream: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client = cast("asyncio.Transport", transport)
        self._guard._tunnels.add(self)

    def data_received(self, data: bytes) -> None:
        if self._upstream is not None:
            self._upstream.write(data)
            return
        self._received += data
        if self._connecting is None:
            try:
                self._shake_hands()
            except ValueError:
                self.abort()

    def _shake_hands(self) -> None:
        received = self._received
        if not self._greeted:
            if received[0] != 5:
                raise ValueError("not SOCKS5")
            if len(received) < 2 or len(received) < 2 + received[1]:
                return
            del received[: 2 + received[1]]
            self._greeted = True
            self._client.write(b"\x05\x00")  # no authentication: we listen on loopback only
        request = parse_request(received)
        if request is None:
            return
        host, port, length = request
        if received[1] != 1:  # BIND and UDP would go around the check
            self._reply(COMMAND_NOT_SUPPORTED)
            self._client.close()
            return
        del received[:length]
        self._connecting = asyncio.ensure_future(self._connect(host, port))

    async def _connect(self, host: str, port: int) -> None:
        try:
            upstream = await self._guard.connect(_Upstream(self._client), host, port)
        except Refused:
            self._reply(NOT_ALLOWED)
            self._client.close()
        except OSError:
            self._reply(HOST_UNREACHABLE)
            self._client.close()
        else:
            if self._client.is_closing():
                upstream.abort()
                return
            self._upstream = upstream
            self._reply(SUCCEEDED)
            if self._received:
                upstream.write(bytes(self._received))
                self._received.clear()

    def _reply(self, code: int) -> None:
        if not self._client.is_closing():
            self._client.write(bytes((5, code, 0, 1, 0, 0, 0, 0, 0, 0)))

    def eof_received(self) -> bool:
        if self._upstream is not None:
            self._upstream.write_eof()
            return True  # the answer may still be on its way
        return False

    def pause_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._guard._tunnels.discard(self)
        if self._connecting is not None:
            self._connecting.cancel()
        if self._upstream is not None:
            self._upstream.close()

    def abort(self) -> None:
        self._client.abort()
        if self._upstream is not None:
            self._upstream.abort()


class _Upstream(asyncio.Protocol):
    """The other end of a tunnel: what the site sends goes to Chromium."""

    def __init__(self, client: asyncio.Transport) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def eof_received(self) -> bool:
        if self._client.can_write_eof() and not self._client.is_closing():
            self._client.write_eof()
        return True

    def pause_writing(self) -> None:
        self._client.pause_reading()

    def resume_writing(self) -> None:
        self._client.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.close()


def parse_request(received: bytes | bytearray) -> tuple[str, int, int] | None:
    """Host, port and length of the SOCKS5 request at the start, or None while it is incomplete.

    Raises ValueError for what is no such request.
    """
    if len(received) < 5:
        return None
    if received[0] != 5:
        raise ValueError("not SOCKS5")
    kind = received[3]
    start, size = {1: (4, 4), 3: (5, received[4]), 4: (4, 16)}.get(kind, (0, 0))
    if not size:
        raise ValueError(f"unknown address type {kind}")
    length = start + size + 2
    if len(received) < length:
        return None
    address = bytes(received[start : start + size])
    host = address.decode("ascii") if kind == 3 else str(ipaddress.ip_address(address))
    return host, int.from_bytes(received[length - 2 : length], "big"), length


async def resolve_name(host: str) -> list[str]:
    """The addresses of a name, without duplicates. `*.localhost` is loopback (RFC 6761)."""
    name = _normal(host)
    if name == "localhost" or name.endswith(".localhost"):
        return ["127.0.0.1", "::1"]
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty or longer than DNS allows
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from error
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


async def open_connection(protocol: asyncio.Protocol, address: str, port: int) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(lambda: protocol, address, port)
    return transport


def _normal(host: str) -> str:
    """One spelling for a host: no brackets, no last dot, lower case, punycode."""
    name = host.strip("[]").rstrip(".").lower()
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return name  # no such name can be connected to, so it matches nothing


def _innermost(ip: IPAddress) -> IPAddress:
    """The IPv4 address that packets to this IPv6 address end up at, if there is one."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)
    return ip


def _remember(found: list[Refusal], refusal: Refusal) -> None:
    if len(found) < MAX_REMEMBERED and _find(found, refusal.host) is None:
        found.append(refusal)


def _find(found: list[Refusal], host: str) -> Refusal | None:
    name = _normal(host)
    return next((refusal for refusal in found if refusal.host == name), None)


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"did not answer within {CONNECT_SECONDS} seconds"
    if isinstance(error, socket.gaierror):
        return "has no address (the name does not resolve)"
    return f"could not be reached ({error.strerror or error})"

"""The URL guard by itself: what it lets through, spoken to over SOCKS5 without a browser."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from automation.guard import (
    COMMAND_NOT_SUPPORTED,
    HOST_UNREACHABLE,
    NOT_ALLOWED,
    SUCCEEDED,
    Guard,
    NetworkPolicy,
    Refusal,
    open_connection,
    parse_request,
    resolve_name,
)

SHOP = NetworkPolicy(("shop.example",))
PUBLIC = "93.184.216.34"
PUBLIC_TOO = "93.184.216.35"


class Network:
    """Names and connections as the test wants them; every connection really goes to `port`."""

    def __init__(self) -> None:
        self.names: dict[str, list[list[str]]] = {}
        self.unreachable: set[str] = set()
        self.port = 0
        self.looked_up: list[str] = []
        self.connected: list[tuple[str, int]] = []

    async def resolve(self, host: str) -> list[str]:
        self.looked_up.append(host)
        answers = self.names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def connect(
        self, protocol: asyncio.Protocol, address: str, port: int
    ) -> asyncio.Transport:
        if address in self.unreachable:
            raise ConnectionRefusedError(111, "Connection refused")
        self.connected.append((address, port))
        return await open_connection(protocol, "127.0.0.1", self.port)


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    """A network whose every address is a server that answers in capitals."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data.upper())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    found = Network()
    found.port = server.sockets[0].getsockname()[1]
    found.names = {"shop.example": [[PUBLIC]]}
    yield found
    server.close()
    await server.wait_closed()


Ask = Callable[..., Awaitable[tuple[int, asyncio.StreamReader, asyncio.StreamWriter]]]


@pytest.fixture
async def ask(network: Network) -> AsyncIterator[Ask]:
    """Asks a guard to connect, as Chromium does; gives its reply code and the streams."""
    writers: list[asyncio.StreamWriter] = []
    guards: list[Guard] = []

    async def ask_guard(
        guard: Guard, host: str, port: int = 443, command: int = 1
    ) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter]:
        guards.append(guard)
        reader, writer = await connect_to(guard)
        writers.append(writer)
        writer.write(b"\x05\x01\x00" + request(host, port, command))
        assert await reader.readexactly(2) == b"\x05\x00"
        return (await reader.readexactly(10))[1], reader, writer

    yield ask_guard
    for writer in writers:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    for guard in guards:
        guard.close()


async def connect_to(guard: Guard) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(guard.proxy_url.rpartition(":")[2]))


def request(host: str, port: int, command: int = 1) -> bytes:
    name = host.encode()
    return bytes((5, command, 0, 3, len(name))) + name + port.to_bytes(2, "big")


async def open_guard(network: Network, policy: NetworkPolicy = SHOP) -> Guard:
    return await Guard.open(policy, resolve=network.resolve, connect=network.connect)


async def test_allowed_host_is_connected_and_bytes_pass_both_ways(
    network: Network, ask: Ask
) -> None:
    guard = await open_guard(network)

    code, reader, writer = await ask(guard, "shop.example", 8443)
    writer.write(b"hello")
    answer = await reader.readexactly(5)

    assert (code, answer) == (SUCCEEDED, b"HELLO")
    assert network.connected == [(PUBLIC, 8443)]
    assert guard.refusals == []


async def test_large_transfer_arrives_whole_and_the_end_is_passed_on(
    network: Network, ask: Ask
) -> None:
    guard = await open_guard(network)
    sent = b"abcdefgh" * 500_000
    _, reader, writer = await ask(guard, "shop.example")

    writer.write(sent)
    writer.write_eof()
    received = await reader.read(-1)

    assert received == sent.upper()


@pytest.mark.parametrize(
    "host",
    [
        "other.example",
        "evilshop.example",
        "shop.example.evil.test",
        "example",
        "127.0.0.1",
        "::1",
        PUBLIC,
    ],
)
async def test_host_off_the_domains_is_refused_and_not_even_looked_up(
    network: Network, ask: Ask, host: str
) -> None:
    guard = await open_guard(network)

    code, *_ = await ask(guard, host, 80)

    assert code == NOT_ALLOWED
    assert guard.refusals == [Refusal(host, 80, "is not on shop.example")]
    assert (network.looked_up, network.connected) == ([], [])


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.shop.example", "shop.example"),
        ("a.b.shop.example", "shop.example"),
        ("SHOP.example.", "shop.example"),
        ("shop.example", "Shop.Example."),
        ("xn--bcher-kva.example", "bücher.example"),
        (PUBLIC, PUBLIC),
        ("2606:2800:220:1::1", "[2606:2800:220:1::1]"),
    ],
)
def test_host_on_a_domain_is_not_refused(host: str, domain: str) -> None:
    assert NetworkPolicy((domain,)).refuse_host(host) is None


def test_policy_without_domains_refuses_every_host() -> None:
    assert NetworkPolicy(()).refuse_host("shop.example") == "is not on any allowed domain"
    assert NetworkPolicy(("",)).refuse_host("shop.example") is not None


PRIVATE = [
    "127.0.0.1",
    "127.9.9.9",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "fd00::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "2002:a00:1::",
]
NOBODYS = [
    "0.0.0.0",
    "169.254.169.254",
    "fe80::1%eth0",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "240.0.0.1",
    "::",
    "192.0.2.1",
    "::ffff:169.254.169.254",
]


@pytest.mark.parametrize("address", PRIVATE + NOBODYS)
async def test_name_that_resolves_to_no_public_address_is_refused(
    network: Network, ask: Ask, address: str
) -> None:
    network.names["shop.example"] = [[address]]
    guard = await open_guard(network)

    code, *_ = await ask(guard, "shop.example")

    assert code == NOT_ALLOWED
    assert "resolves to " in guard.refusals[0].reason
    assert network.connected == []


@pytest.mark.parametrize("address", PRIVATE)
def test_private_address_is_allowed_to_a_shop_on_the_own_network(address: str) -> None:
    assert NetworkPolicy(("shop.example",), allow_private=True).refuse_address(address) is None


@pytest.mark.parametrize("address", NOBODYS)
def test_metadata_and_reserved_addresses_stay_refused_on_the_own_network(address: str) -> None:
    assert NetworkPolicy(("shop.example",), allow_private=True).refuse_address(address)


@pytest.mark.parametrize("address", [PUBLIC, "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
def test_public_address_is_allowed(address: str) -> None:
    assert SHOP.refuse_address(address) is None


async def test_one_private_address_among_public_ones_condemns_the_name(
    network: Network, ask: Ask
) -> None:
    network.names["shop.example"] = [[PUBLIC, "10.0.0.7"]]
    guard = await open_guard(network)

    code, *_ = await ask(guard, "shop.example")

    assert code == NOT_ALLOWED
    assert guard.refusals[0].reason == "resolves to the private address 10.0.0.7"
    assert network.connected == []


async def test_rebinding_name_is_connected_at_the_address_that_was_checked(
    network: Network, ask: Ask
) -> None:
    # A name whose second answer is private: who resolves it again for the connection is caught.
    network.names["shop.example"] = [[PUBLIC], ["127.0.0.1"]]
    guard = await open_guard(network)

    first, *_ = await ask(guard, "shop.example")
    second, *_ = await ask(guard, "shop.example")

    assert (first, second) == (SUCCEEDED, NOT_ALLOWED)
    assert network.connected == [(PUBLIC, 443)]
    assert network.looked_up == ["shop.example"] * 2


async def test_next_address_is_tried_when_the_first_does_not_answer(
    network: Network, ask: Ask
) -> None:
    network.names["shop.example"] = [[PUBLIC, PUBLIC_TOO]]
    network.unreachable = {PUBLIC}
    guard = await open_guard(network)

    code, *_ = await ask(guard, "shop.example")

    assert code == SUCCEEDED
    assert network.connected == [(PUBLIC_TOO, 443)]


async def test_unreachable_host_is_a_failure_and_no_refusal(network: Network, ask: Ask) -> None:
    network.unreachable = {PUBLIC}
    guard = await open_guard(network)

    code, *_ = await ask(guard, "shop.example")

    assert code == HOST_UNREACHABLE
    assert guard.refusals == []
    assert guard.failures == [
        Refusal("shop.example", 443, "could not be reached (Connection refused)")
    ]


async def test_name_that_does_not_resolve_is_a_failure(ask: Ask) -> None:
    label = "a" * 64  # longer than DNS allows, so nobody is asked
    guard = await Guard.open(NetworkPolicy((f"{label}.example",)))

    code, *_ = await ask(guard, f"{label}.example")

    assert code == HOST_UNREACHABLE
    assert guard.failures[0].reason == "has no address (the name does not resolve)"


async def test_a_host_refused_many_times_is_remembered_once(network: Network, ask: Ask) -> None:
    guard = await open_guard(network)

    for _ in range(3):
        await ask(guard, "tracker.test")

    assert [refusal.host for refusal in guard.refusals] == ["tracker.test"]


@pytest.mark.parametrize("command", [2, 3], ids=["bind", "udp"])
async def test_other_commands_are_refused(network: Network, ask: Ask, command: int) -> None:
    guard = await open_guard(network)

    code, *_ = await ask(guard, "shop.example", command=command)

    assert code == COMMAND_NOT_SUPPORTED
    assert network.connected == []


async def test_handshake_that_arrives_byte_by_byte_is_understood(network: Network) -> None:
    guard = await open_guard(network)
    reader, writer = await connect_to(guard)

    for byte in b"\x05\x01\x00" + request("shop.example", 443):
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0)
    await reader.readexactly(2)

    assert (await reader.readexactly(10))[1] == SUCCEEDED
    writer.close()
    guard.close()


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x05\x01\x00\x05\x01\x00\x09aaaaaaa"]
)
async def test_what_is_not_socks5_is_cut_off(network: Network, garbage: bytes) -> None:
    guard = await open_guard(network)
    reader, writer = await connect_to(guard)

    writer.write(garbage)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(12)

    assert network.connected == []
    writer.close()
    guard.close()


async def test_close_ends_open_connections(network: Network, ask: Ask) -> None:
    guard = await open_guard(network)
    _, reader, _ = await ask(guard, "shop.example")

    guard.close()

    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)


def test_addresses_in_binary_form_are_read() -> None:
    v4 = b"\x05\x01\x00\x01" + ipaddress.ip_address("10.0.0.1").packed + b"\x00\x50"
    v6 = b"\x05\x01\x00\x04" + ipaddress.ip_address("::1").packed + b"\x01\xbb"

    assert parse_request(v4) == ("10.0.0.1", 80, len(v4))
    assert parse_request(v6) == ("::1", 443, len(v6))
    assert parse_request(v6[:-1]) is None


async def test_localhost_names_are_loopback() -> None:
    assert await resolve_name("shop.localhost") == ["127.0.0.1", "::1"]
    assert await resolve_name("localhost") == ["127.0.0.1", "::1"]
    assert await resolve_name("127.0.0.1") == ["127.0.0.1"]

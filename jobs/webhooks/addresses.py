"""Where a webhook may go: decided by the address that is connected to, not by the name.

`automation/guard.py` decides the same for browsers. This is not it: `jobs` knows no browser, and
here there is no list of domains to go by.
"""

import ipaddress
from urllib.parse import urlsplit

import httpx

from jobs.webhooks.errors import AddressRefused, InvalidUrl

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

LONGEST_URL = 2000  # the column's
# NAT64 (RFC 6052): a gateway sends it on to the IPv4 address in its last 32 bits.
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# What WEBHOOKS_ALLOW_PRIVATE opens. Link-local stays closed: the metadata services of clouds are
# there, and nothing of anybody's own is.
OWN_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8"),
        *("fc00::/7", "::1/128"),
    )
)
HOW_TO_ALLOW = "Set WEBHOOKS_ALLOW_PRIVATE=true if your receiver is on your own network."


def check_address(host: str, address: str, *, allow_private: bool) -> None:
    """Raises AddressRefused unless webhooks may go to `address`, which `host` resolved to."""
    ip = _innermost(ipaddress.ip_address(address.partition("%")[0]))
    if any(ip.version == network.version and ip in network for network in OWN_NETWORKS):
        if not allow_private:
            raise AddressRefused(f"{host} is the private address {ip}. {HOW_TO_ALLOW}")
    elif not ip.is_global or ip.is_multicast:
        raise AddressRefused(f"{host} is {ip}, which is no address of a public site.")


def check_url(url: str, *, allow_private: bool) -> None:
    """Raises InvalidUrl for what could never be sent to. What a name resolves to is only checked
    when something is sent: it may be another address by then."""
    try:
        httpx.URL(url)
        parts = urlsplit(url)
        port = parts.port
    except (ValueError, httpx.InvalidURL) as error:
        raise InvalidUrl("This is no URL. Write it as https://erp.example/hooks.") from error
    host = parts.hostname or ""
    if len(url) > LONGEST_URL:
        raise InvalidUrl(f"The URL is too long; it may have {LONGEST_URL} characters.")
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise InvalidUrl("Write the whole URL, as in https://erp.example/hooks.")
    if parts.username is not None:
        raise InvalidUrl(
            "Leave out the user name and password: a URL is shown to everybody who may see the "
            "webhook. The signature says who calls."
        )
    if parts.scheme == "http" and not allow_private:
        raise InvalidUrl(
            "Use https: the messages would pass readable through the internet. "
            "WEBHOOKS_ALLOW_PRIVATE=true allows http, for a receiver on your own network."
        )
    _check_host(host.rstrip(".").lower(), allow_private=allow_private)


def _check_host(host: str, *, allow_private: bool) -> None:
    if not allow_private and (host == "localhost" or host.endswith(".localhost")):
        raise InvalidUrl(f"{host} is this machine itself. {HOW_TO_ALLOW}")
    try:
        check_address(host, host, allow_private=allow_private)
    except ValueError:
        return  # a name
    except AddressRefused as error:
        raise InvalidUrl(str(error)) from error


def _innermost(ip: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if not isinstance(ip, ipaddress.IPv6Address):
        return ip
    if ip in NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)

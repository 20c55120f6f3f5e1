"""Which addresses webhooks go to, and which URLs are refused before anything is sent."""

import pytest

from jobs.webhooks.addresses import check_address, check_url
from jobs.webhooks.errors import AddressRefused, InvalidUrl

PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
PRIVATE = [
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "127.255.0.1"),
    *("100.64.0.1", "::1", "fd00::1", "fc00::1"),
    *("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "::ffff:127.0.0.1"),
]
NEVER = [
    *("169.254.169.254", "fe80::1", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "ff02::1"),
    *("255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "2001:db8::1"),
    *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"),
]


def refuses(address: str, *, allow_private: bool) -> bool:
    try:
        check_address("erp.example", address, allow_private=allow_private)
    except AddressRefused:
        return True
    return False


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_is_allowed(address):
    assert not refuses(address, allow_private=False)
    assert not refuses(address, allow_private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_address_is_allowed_only_where_the_installation_says_so(address):
    assert refuses(address, allow_private=False)
    assert not refuses(address, allow_private=True)


@pytest.mark.parametrize("address", NEVER)
def test_link_local_and_special_addresses_are_never_allowed(address):
    assert refuses(address, allow_private=False)
    assert refuses(address, allow_private=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://erp.example",
        "https://erp.example/hooks?token=x",
        "https://erp.example:8443/hooks",
        "https://93.184.216.34/",
        "https://[2606:4700:4700::1111]:8443/",
        "https://bücher.example/",
    ],
)
def test_url_of_a_public_site_is_accepted(url):
    check_url(url, allow_private=False)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "whole URL"),
        ("erp.example/hooks", "whole URL"),
        ("ftp://erp.example/", "whole URL"),
        ("https:///hooks", "whole URL"),
        ("https://erp.example:0/", "whole URL"),
        ("https://erp.example:99999/", "no URL"),
        ("https://erp.example:port/", "no URL"),
        ("https://[::1/", "no URL"),
        ("https://erp.example/\x00", "no URL"),
        ("https://erp.example/" + "x" * 2000, "too long"),
        ("https://user:secret@erp.example/", "user name and password"),
        ("http://erp.example/", "Use https"),
        ("https://localhost/", "WEBHOOKS_ALLOW_PRIVATE"),
        ("https://LOCALHOST./", "WEBHOOKS_ALLOW_PRIVATE"),
        ("https://a.localhost/", "WEBHOOKS_ALLOW_PRIVATE"),
        ("https://127.0.0.1/", "WEBHOOKS_ALLOW_PRIVATE"),
        ("https://[::1]/", "WEBHOOKS_ALLOW_PRIVATE"),
        ("https://169.254.169.254/latest", "no address of a public site"),
    ],
)
def test_url_that_cannot_be_is_refused_with_what_to_do(url, says):
    with pytest.raises(InvalidUrl, match=says):
        check_url(url, allow_private=False)


@pytest.mark.parametrize(
    "url", ["http://erp.lan:8000/", "http://localhost/", "https://10.0.0.7/", "http://127.0.0.1:1/"]
)
def test_own_network_may_have_private_addresses_and_http(url):
    with pytest.raises(InvalidUrl):
        check_url(url, allow_private=False)
    check_url(url, allow_private=True)


def test_metadata_service_of_a_cloud_is_refused_on_the_own_network_too():
    with pytest.raises(InvalidUrl):
        check_url("http://169.254.169.254/", allow_private=True)

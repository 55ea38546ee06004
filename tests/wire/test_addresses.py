from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import Malformed
from tailbox.wire.addresses import (
    CHROMEOS_IPV4,
    SERVICE_IPV4,
    SERVICE_IPV6,
    TAILNET_IPV4,
    Endpoint,
    IPAddress,
    is_tailnet_address,
    parse_ip,
    parse_network,
)


@pytest.mark.parametrize(("text", "endpoint"), [
    ("192.0.2.1:41641", Endpoint(IPv4Address("192.0.2.1"), 41641)),
    ("[2001:db8::1]:443", Endpoint(IPv6Address("2001:db8::1"), 443)),
    ("0.0.0.0:0", Endpoint(IPv4Address("0.0.0.0"), 0)),
])  # fmt: skip
def test_endpoints_are_written_as_they_are_read(text: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(text) == endpoint
    assert str(endpoint) == text


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_endpoint_round_trips(ip: IPAddress, port: int) -> None:
    assert Endpoint.parse(str(Endpoint(ip, port))) == Endpoint(ip, port)


@pytest.mark.parametrize("text", [
    "", ":", "192.0.2.1", "192.0.2.1:", ":80", "192.0.2.1:65536", "192.0.2.1:-1", "192.0.2.1:+1", "192.0.2.1: 1",
    "192.0.2.1:²", "localhost:80", "2001:db8::1:443", "[2001:db8::1]", "[fe80::1%eth0]:1", "192.0.2.300:1",
])  # fmt: skip
def test_what_is_no_endpoint_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        Endpoint.parse(text)


@given(st.text(max_size=40))
def test_any_text_is_an_endpoint_or_malformed(text: str) -> None:
    try:
        Endpoint.parse(text)
    except Malformed:
        return
    assert text.rpartition(":")[2].isdigit()


@pytest.mark.parametrize("text", ["", "192.0.2", "192.0.2.1/32", "::g", "name"])
def test_what_is_no_address_is_malformed_and_named(text: str) -> None:
    with pytest.raises(Malformed, match="not an IP address"):
        parse_ip(text)


@pytest.mark.parametrize(("text", "written"), [
    ("192.0.2.0/24", "192.0.2.0/24"),
    ("192.0.2.1", "192.0.2.1/32"),
    ("2001:db8::", "2001:db8::/128"),
    ("0.0.0.0/0", "0.0.0.0/0"),
])  # fmt: skip
def test_prefixes_and_bare_addresses_are_networks(text: str, written: str) -> None:
    assert str(parse_network(text)) == written


@pytest.mark.parametrize("text", ["192.0.2.1/24", "192.0.2.0/33", "2001:db8::1/64", "", "/8"])
def test_host_bits_and_impossible_lengths_are_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_network(text)


@pytest.mark.parametrize(("text", "expected"), [
    ("100.64.0.0", True), ("100.127.255.255", True), ("100.63.255.255", False), ("100.128.0.0", False),
    ("fd7a:115c:a1e0::", True), ("fd7a:115c:a1e0:ffff:ffff:ffff:ffff:ffff", True), ("fd7a:115c:a1e1::", False),
    ("192.0.2.1", False), ("::1", False),
])  # fmt: skip
def test_the_overlay_begins_and_ends_where_upstream_says(text: str, *, expected: bool) -> None:
    assert is_tailnet_address(ip_address(text)) is expected


def test_service_addresses_belong_to_the_overlay() -> None:
    assert is_tailnet_address(SERVICE_IPV4)
    assert is_tailnet_address(SERVICE_IPV6)
    assert CHROMEOS_IPV4.subnet_of(IPv4Network(TAILNET_IPV4))

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import Malformed, Truncated, WireError
from tailbox.wire.udp import UdpDatagram

V4 = (IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2"))
V6 = (IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2"))
PORTS = st.integers(0, 65535)


@given(PORTS, PORTS, st.binary(max_size=100), st.sampled_from([V4, V6]), st.binary(max_size=9))
def test_datagrams_round_trip_and_padding_is_cut(
    source: int, destination: int, payload: bytes, addresses: tuple[IPv4Address, IPv4Address], padding: bytes
) -> None:
    datagram = UdpDatagram(source, destination, payload)
    assert UdpDatagram.decode(datagram.encode(*addresses) + padding, *addresses) == datagram


def test_truncation_at_every_length_is_told() -> None:
    message = UdpDatagram(1, 2, b"payload").encode(*V4)
    for length in range(len(message)):
        with pytest.raises(Truncated):
            UdpDatagram.decode(message[:length], *V4)


def test_a_missing_checksum_is_fine_over_ipv4_and_an_error_over_ipv6() -> None:
    message = bytes.fromhex("000100020009000061")
    assert UdpDatagram.decode(message, *V4).payload == b"a"
    with pytest.raises(Malformed):
        UdpDatagram.decode(message, *V6)


def test_a_computed_zero_travels_as_all_ones() -> None:
    zero = next(
        message
        for value in range(65536)
        if (message := UdpDatagram(1, 2, value.to_bytes(2, "big")).encode(*V4))[6:8] == b"\xff\xff"
    )
    assert UdpDatagram.decode(zero, *V4).source_port == 1


def test_lengths_below_the_header_and_wrong_checksums_are_malformed() -> None:
    with pytest.raises(Malformed):
        UdpDatagram.decode(bytes.fromhex("0001000200070000"), *V4)
    message = bytearray(UdpDatagram(1, 2, b"payload").encode(*V4))
    message[-1] ^= 1
    with pytest.raises(Malformed):
        UdpDatagram.decode(bytes(message), *V4)


@given(st.binary(max_size=40), st.sampled_from([V4, V6]))
def test_random_bytes_raise_nothing_but_wire_errors(data: bytes, addresses: tuple[IPv4Address, IPv4Address]) -> None:
    try:
        UdpDatagram.decode(data, *addresses)
    except WireError:
        pass

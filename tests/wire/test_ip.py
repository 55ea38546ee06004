from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import Malformed, Truncated, WireError
from tailbox.wire.addresses import IPAddress
from tailbox.wire.ip import (
    IPHeader,
    Protocol,
    build_packet,
    flow_of,
    internet_checksum,
    is_header_checksum_good,
    ones_complement_sum,
    summarize,
)
from tailbox.wire.tcp import TcpFlag, TcpSegment

V4 = (IPv4Address("100.64.0.1"), IPv4Address("100.64.0.2"))
V6 = (IPv6Address("fd7a:115c:a1e0::1"), IPv6Address("fd7a:115c:a1e0::2"))


def word_by_word_checksum(data: bytes) -> int:
    """RFC 1071 §4.1, literally."""
    total = 0
    for index in range(0, len(data) - 1, 2):
        total += data[index] << 8 | data[index + 1]
    if len(data) & 1:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_the_sum_of_rfc_1071_section_3() -> None:
    assert ones_complement_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


def test_the_header_of_a_well_known_example() -> None:
    """Wikipedia "Internet checksum": checksum b861, a UDP packet of 115 bytes."""
    header = bytes.fromhex("45000073000040004011b861c0a80001c0a800c7")
    assert is_header_checksum_good(header)
    decoded = IPHeader.decode(header + bytes(95))
    assert decoded.encode() == header
    assert (str(decoded.source), str(decoded.destination)) == ("192.168.0.1", "192.168.0.199")
    assert decoded.protocol == Protocol.UDP


@given(st.binary(min_size=1, max_size=200).filter(any))
def test_the_checksum_is_that_of_the_plain_loop(data: bytes) -> None:
    assert internet_checksum(data) == word_by_word_checksum(data)


@given(
    st.sampled_from([V4, V6]),
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(1, 255),
    st.integers(0, 1000),
)
def test_headers_round_trip(
    addresses: tuple[IPAddress, IPAddress], protocol: int, traffic_class: int, hop_limit: int, size: int
) -> None:
    if addresses is V6 and protocol == 44:
        protocol = 6
    header = IPHeader(*addresses, protocol, size, hop_limit, traffic_class)
    encoded = header.encode()
    decoded = IPHeader.decode(encoded + bytes(size) + b"padding")
    assert decoded.header_bytes == len(encoded)
    assert decoded.encode() == encoded
    assert is_header_checksum_good(encoded)


@pytest.mark.parametrize("addresses", [V4, V6])
def test_truncation_at_every_length_is_told(addresses: tuple[IPAddress, IPAddress]) -> None:
    packet = build_packet(*addresses, Protocol.UDP, bytes(20))
    for length in range(len(packet)):
        with pytest.raises(Truncated):
            IPHeader.decode(packet[:length])


@pytest.mark.parametrize("first", [0x00, 0x35, 0x55, 0x75, 0x44, 0x4F])
def test_versions_and_header_lengths_that_make_no_sense_are_malformed(first: int) -> None:
    packet = bytearray(build_packet(*V4, Protocol.UDP, bytes(20)))
    packet[0] = first
    with pytest.raises(Malformed):
        IPHeader.decode(bytes(packet))


@given(st.binary(max_size=120))
def test_random_bytes_raise_nothing_but_wire_errors(data: bytes) -> None:
    try:
        IPHeader.decode(data)
    except WireError:
        pass
    summarize(data)


@given(st.binary(max_size=80), st.sampled_from([4, 6]))
def test_random_packets_never_break_the_summary(data: bytes, version: int) -> None:
    packet = bytes([version << 4 | 5]) + data
    summary = summarize(packet)
    assert summary is None or summary.header_bytes <= summary.total_bytes <= len(packet)


def tcp_packet(addresses: tuple[IPAddress, IPAddress]) -> bytes:
    segment = TcpSegment(1000, 80, 7, flags=TcpFlag.SYN).encode(*addresses)
    return build_packet(*addresses, Protocol.TCP, segment)


@pytest.mark.parametrize("addresses", [V4, V6])
def test_the_summary_of_a_syn(addresses: tuple[IPAddress, IPAddress]) -> None:
    packet = tcp_packet(addresses)
    summary = summarize(packet + bytes(12))
    assert summary is not None
    assert summary.total_bytes == len(packet)
    assert summary.tcp_flags == TcpFlag.SYN
    flow = flow_of(packet)
    assert flow is not None
    assert (flow.source.port, flow.destination.port) == (1000, 80)
    assert flow.reversed().reversed() == flow


def fragment(offset_blocks: int, *, more: bool, protocol: int, payload: int) -> bytes:
    header = IPHeader(*V4, protocol, payload, dont_fragment=False, more_fragments=more, fragment_blocks=offset_blocks)
    return header.encode() + bytes(payload)


@pytest.mark.parametrize(
    ("packet", "protocol"),
    [
        (fragment(0, more=True, protocol=Protocol.UDP, payload=8), Protocol.UDP),  # first, header complete
        (fragment(0, more=True, protocol=Protocol.TCP, payload=16), None),  # first, header cut short
        (fragment(9, more=True, protocol=Protocol.UDP, payload=8), None),  # could overwrite a header
        (fragment(10, more=False, protocol=Protocol.UDP, payload=8), Protocol.FRAGMENT),
        (fragment(0, more=True, protocol=Protocol.TSMP, payload=16), None),
        (fragment(10, more=False, protocol=Protocol.TSMP, payload=16), None),
        (fragment(0, more=False, protocol=255, payload=16), None),
        (fragment(0, more=False, protocol=Protocol.SCTP, payload=12), Protocol.SCTP),
        (fragment(0, more=False, protocol=Protocol.TSMP, payload=16), Protocol.TSMP),
        (fragment(0, more=False, protocol=Protocol.ICMP, payload=8), Protocol.ICMP),
        (fragment(0, more=False, protocol=47, payload=8), None),
        (build_packet(*V6, 0, bytes(16)), None),  # hop-by-hop options
        (build_packet(*V6, Protocol.ICMPV6, bytes(8)), Protocol.ICMPV6),
        (build_packet(*V6, 44, bytes([6, 0, 0, 1, 0, 0, 0, 9]) + bytes(20)), Protocol.TCP),  # leading fragment header
        (build_packet(*V6, 44, bytes([6, 0, 0, 8, 0, 0, 0, 9]) + bytes(20)), None),
        (build_packet(*V6, 44, bytes([6, 0, 0, 80, 0, 0, 0, 9]) + bytes(20)), Protocol.FRAGMENT),
    ],
)
def test_the_decoder_rules_of_upstream(packet: bytes, protocol: int | None) -> None:
    summary = summarize(packet)
    assert (summary.flow.protocol if summary else None) == protocol

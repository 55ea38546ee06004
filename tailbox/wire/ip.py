"""IPv4 and IPv6 headers, the Internet checksum, and what a packet filter wants to know of a packet.

```text
IPv4   0 version, header words | 1 DSCP, ECN | 2 total length | 4 identification | 6 flags (3 bits), offset (13)
       8 hop limit | 9 protocol | 10 header checksum | 12 source | 16 destination | 20 options
IPv6   0 version, traffic class, flow label | 4 payload length | 6 next header | 7 hop limit | 8 source | 24 destination
```

Sources: RFC 791 §3.1, RFC 8200 §3 and §4.5, RFC 1071. `summarize` follows tailscale net/packet/packet.go, whose rules
are security relevant: what it calls unknown, the filter drops.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from tailbox.errors import Malformed, Truncated, WireError
from tailbox.wire.addresses import Endpoint, IPAddress

IPV4_HEADER = struct.Struct(">BBHHHBBH4s4s")
IPV6_HEADER = struct.Struct(">IHBB16s16s")
IPV6_FRAGMENT = struct.Struct(">BBHI")
IPV4_HEADER_BYTES = IPV4_HEADER.size
IPV6_HEADER_BYTES = IPV6_HEADER.size
DONT_FRAGMENT = 0x4000
MORE_FRAGMENTS = 0x2000
FRAGMENT_OFFSET_MASK = 0x1FFF
MIN_FRAGMENT_BLOCKS = (
    10  # packet.go minFragBlks: a later fragment that starts sooner could overwrite a transport header
)
DEFAULT_HOP_LIMIT = 64
IPV6_FRAGMENT_HEADER = 44


class Protocol(IntEnum):
    """Numbers of the IPv4 protocol and IPv6 next header fields that matter here. Source: IANA; types/ipproto."""

    UNKNOWN = 0
    ICMP = 1
    TCP = 6
    UDP = 17
    ICMPV6 = 58
    TSMP = 99  # Tailscale's own messages inside the tunnel
    SCTP = 132
    FRAGMENT = 255  # ours as upstream's: a later fragment, whatever is in it


def ones_complement_sum(data: bytes | memoryview) -> int:
    """The 16-bit one's complement sum, odd data padded with a zero. Congruent to the folded sum modulo 65535."""
    total = int.from_bytes(data, "big")
    return (total << 8 if len(data) & 1 else total) % 0xFFFF


def internet_checksum(data: bytes | memoryview, initial: int = 0) -> int:
    """What goes into the checksum field, with 0 standing there while this is computed. Source: RFC 1071.

    `initial` is a sum to include, a pseudo-header's for instance. Nothing that we checksum is all zeros, so a sum of
    0 modulo 65535 means 0xffff, whose complement is 0.
    """
    return -(ones_complement_sum(data) + initial) % 0xFFFF


def pseudo_header_sum(source: bytes, destination: bytes, protocol: int, length: int) -> int:
    """The sum over the pseudo-header: packed addresses, protocol, transport length. Source: RFC 9293 §3.1."""
    return ones_complement_sum(source) + ones_complement_sum(destination) + protocol + length


def transport_checksum(source: IPAddress, destination: IPAddress, protocol: int, message: bytes | memoryview) -> int:
    """The checksum of a TCP segment, UDP datagram or ICMPv6 message whose checksum field holds zero."""
    return internet_checksum(message, pseudo_header_sum(source.packed, destination.packed, protocol, len(message)))


@dataclass(frozen=True, slots=True)
class IPHeader:
    """An IPv4 or IPv6 header without options, or extensions but IPv6's fragment header."""

    source: IPAddress
    destination: IPAddress
    protocol: int
    payload_bytes: int
    hop_limit: int = DEFAULT_HOP_LIMIT
    traffic_class: int = 0
    identification: int = 0
    dont_fragment: bool = True  # IPv4 only
    more_fragments: bool = False
    fragment_blocks: int = 0  # offset in units of eight bytes
    header_bytes: int = 0  # where the payload starts; filled in by decode

    def encode(self) -> bytes:
        """The header alone. IPv6 fragments are decoded but not made. IPv4: 20 bytes, IPv6: 40."""
        if isinstance(self.source, IPv6Address):
            word = 6 << 28 | self.traffic_class << 20
            packed = (word, self.payload_bytes, self.protocol, self.hop_limit)
            return IPV6_HEADER.pack(*packed, self.source.packed, self.destination.packed)
        flags = DONT_FRAGMENT * self.dont_fragment | MORE_FRAGMENTS * self.more_fragments | self.fragment_blocks
        total = IPV4_HEADER_BYTES + self.payload_bytes
        before = (0x45, self.traffic_class, total, self.identification, flags, self.hop_limit, self.protocol)
        header = IPV4_HEADER.pack(*before, 0, self.source.packed, self.destination.packed)
        return header[:10] + internet_checksum(header).to_bytes(2, "big") + header[12:]

    @classmethod
    def decode(cls, packet: bytes | memoryview) -> Self:
        """Read the header of a packet that may have padding behind it. Raises Truncated, Malformed."""
        if not packet:
            raise Truncated("empty packet")
        version = packet[0] >> 4
        if version == 4:
            return cls._decode_ipv4(packet)
        if version == 6:
            return cls._decode_ipv6(packet)
        raise Malformed(f"IP version {version}")

    @classmethod
    def _decode_ipv4(cls, packet: bytes | memoryview) -> Self:
        if len(packet) < IPV4_HEADER_BYTES:
            raise Truncated(f"IPv4 header in {len(packet)} bytes")
        first, traffic_class, total, identification, flags, hop_limit, protocol, _, source, destination = (
            IPV4_HEADER.unpack_from(packet)
        )
        header_bytes = (first & 0xF) * 4
        if not IPV4_HEADER_BYTES <= header_bytes <= total:
            raise Malformed(f"IPv4 header of {header_bytes} bytes in a packet of {total}")
        if total > len(packet):
            raise Truncated(f"IPv4 packet of {total} bytes in {len(packet)}")
        return cls(
            IPv4Address(source),
            IPv4Address(destination),
            protocol,
            total - header_bytes,
            hop_limit,
            traffic_class,
            identification,
            bool(flags & DONT_FRAGMENT),
            bool(flags & MORE_FRAGMENTS),
            flags & FRAGMENT_OFFSET_MASK,
            header_bytes,
        )

    @classmethod
    def _decode_ipv6(cls, packet: bytes | memoryview) -> Self:
        if len(packet) < IPV6_HEADER_BYTES:
            raise Truncated(f"IPv6 header in {len(packet)} bytes")
        word, payload_bytes, protocol, hop_limit, source, destination = IPV6_HEADER.unpack_from(packet)
        if IPV6_HEADER_BYTES + payload_bytes > len(packet):
            raise Truncated(f"IPv6 payload of {payload_bytes} bytes in a packet of {len(packet)}")
        header_bytes, identification, offset_and_more = IPV6_HEADER_BYTES, 0, 0
        if protocol == IPV6_FRAGMENT_HEADER:
            if payload_bytes < IPV6_FRAGMENT.size:
                raise Malformed("IPv6 fragment header cut short")
            protocol, _, offset_and_more, identification = IPV6_FRAGMENT.unpack_from(packet, IPV6_HEADER_BYTES)
            header_bytes += IPV6_FRAGMENT.size
            payload_bytes -= IPV6_FRAGMENT.size
        return cls(
            IPv6Address(source),
            IPv6Address(destination),
            protocol,
            payload_bytes,
            hop_limit,
            word >> 20 & 0xFF,
            identification,
            True,
            bool(offset_and_more & 1),
            offset_and_more >> 3,
            header_bytes,
        )


def is_header_checksum_good(packet: bytes | memoryview) -> bool:
    """Whether an IPv4 header adds up; IPv6 has no checksum of its own. The header must have been decoded before."""
    if packet[0] >> 4 == 6:
        return True
    return ones_complement_sum(packet[: (packet[0] & 0xF) * 4]) == 0


def build_packet(
    source: IPAddress,
    destination: IPAddress,
    protocol: int,
    payload: bytes | memoryview,
    *,
    hop_limit: int = DEFAULT_HOP_LIMIT,
) -> bytes:
    """A whole packet around a transport message."""
    header = IPHeader(source, destination, protocol, len(payload), hop_limit)
    return header.encode() + payload


@dataclass(frozen=True, slots=True)
class Flow:
    """Who talks to whom, over what. Ports are 0 for protocols without, ICMP among them."""

    protocol: int
    source: Endpoint
    destination: Endpoint

    def reversed(self) -> Flow:
        return Flow(self.protocol, self.destination, self.source)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a packet filter sees of a packet."""

    flow: Flow
    total_bytes: int  # by the packet's own length field, padding excluded
    header_bytes: int  # where the transport header starts
    tcp_flags: int = 0


def summarize(packet: bytes | memoryview) -> Summary | None:
    """What the filter needs to know, or None for what it has to drop unseen ("unknown" upstream). Never raises.

    Unknown are: lengths that contradict the buffer, transport headers cut short, fragments that start inside another
    one's transport header, IPv6 extension headers but a leading fragment header, fragmented TSMP, protocol 255.
    """
    try:
        header = IPHeader.decode(packet)
    except WireError:
        return None
    if header.protocol == Protocol.FRAGMENT:
        return None
    if header.fragment_blocks:
        if header.fragment_blocks < MIN_FRAGMENT_BLOCKS or header.protocol == Protocol.TSMP:
            return None
        return _summary(header, Protocol.FRAGMENT, 0, 0)
    if header.protocol == Protocol.TSMP and header.more_fragments:
        return None
    needed = _TRANSPORT_HEADER_BYTES.get((header.source.version, header.protocol))
    if needed is None:
        return _summary(header, header.protocol, 0, 0) if header.protocol == Protocol.TSMP else None
    if header.payload_bytes < needed:
        return None
    if header.protocol in (Protocol.ICMP, Protocol.ICMPV6):
        return _summary(header, header.protocol, 0, 0)
    source_port, destination_port = _PORTS.unpack_from(packet, header.header_bytes)
    flags = packet[header.header_bytes + 13] if header.protocol == Protocol.TCP else 0
    return _summary(header, header.protocol, source_port, destination_port, flags)


_PORTS = struct.Struct(">HH")
_TRANSPORT_HEADER_BYTES: dict[tuple[int, int], int] = {
    (4, Protocol.ICMP): 4,
    (4, Protocol.TCP): 20,
    (4, Protocol.UDP): 8,
    (4, Protocol.SCTP): 12,
    (6, Protocol.ICMPV6): 4,
    (6, Protocol.TCP): 20,
    (6, Protocol.UDP): 8,
    (6, Protocol.SCTP): 12,
}


def _summary(header: IPHeader, protocol: int, source_port: int, destination_port: int, flags: int = 0) -> Summary:
    flow = Flow(protocol, Endpoint(header.source, source_port), Endpoint(header.destination, destination_port))
    return Summary(flow, header.header_bytes + header.payload_bytes, header.header_bytes, flags)


def flow_of(packet: bytes | memoryview) -> Flow | None:
    """The flow of a packet, None where `summarize` gives None."""
    summary = summarize(packet)
    return summary.flow if summary else None

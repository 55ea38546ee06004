"""What the data path reads of an IP packet: family, protocol, addresses, ports, flags.

The rules are those of wire.ip.summarize, on packed addresses and for whole trains at once; they are security relevant:
what cannot be judged is `None` and is dropped. Source: tailscale net/packet/packet.go:
IPv4 total length beyond the buffer, a first fragment too short for its transport header, a later fragment with an
offset below 80 bytes, IPv6 extension headers other than a leading fragment header, and protocol 255 are unknown.
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tailbox.wire.addresses import Endpoint, IPAddress
from tailbox.wire.ip import IPV6_FRAGMENT_HEADER, MIN_FRAGMENT_BLOCKS, Protocol
from tailbox.wire.train import Train

MINIMUM_LATER_OFFSET_BYTES = 8 * MIN_FRAGMENT_BLOCKS
NEVER_FRAGMENTED = (Protocol.TSMP, Protocol.FRAGMENT)  # the latter is a number of ours, never one on the wire


class TcpFlag(IntEnum):
    """RFC 9293 §3.1, the ones the filter looks at."""

    SYN = 0x02
    RST = 0x04
    ACK = 0x10


class PacketHead(NamedTuple):
    """One packet's or one train's head. Addresses are packed bytes."""

    protocol: int
    source: bytes
    destination: bytes
    source_port: int  # 0 where the protocol has none
    destination_port: int
    transport_at: int  # where the transport header starts
    tcp_flags: int = 0
    icmp_type: int = -1

    @property
    def is_tcp_syn(self) -> bool:
        """A pure SYN: the only TCP segment the filter judges."""
        return self.protocol == Protocol.TCP and self.tcp_flags & (TcpFlag.SYN | TcpFlag.ACK) == TcpFlag.SYN

    def __str__(self) -> str:
        source, destination = (
            Endpoint(address_of(ip), port)
            for ip, port in ((self.source, self.source_port), (self.destination, self.destination_port))
        )
        return f"{protocol_name(self.protocol)} {source} → {destination}"


def address_of(packed: bytes) -> IPAddress:
    """The address object of 4 or 16 bytes."""
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def protocol_name(protocol: int) -> str:
    try:
        return Protocol(protocol).name
    except ValueError:
        return f"protocol {protocol}"


def read_head(packet: bytes | memoryview) -> PacketHead | None:
    """The head of one packet, or None for what cannot be judged."""
    if len(packet) < 20:
        return None
    version = packet[0] >> 4
    if version == 4:
        return _read_ipv4(packet)
    return _read_ipv6(packet) if version == 6 else None


def shared_head(train: Train) -> PacketHead | None:
    """The head that stands for every packet of a train, or None where they have to be judged one by one.

    Equal are: version and header length, fragment word (must be 0), protocol, addresses, ports, and for TCP the SYN
    and RST bits, which must be clear. That is the bulk of a transfer; everything else is rare.
    """
    data, stride = train.data, train.stride
    first = read_head(data[:stride])
    if len(data) <= stride or first is None:
        return first if len(data) <= stride else None
    if first.protocol not in (Protocol.TCP, Protocol.UDP):
        return None
    width = first.transport_at + (16 if first.protocol == Protocol.TCP else 8)
    full, rest = divmod(len(data), stride)
    if (first.transport_at != (20 if len(first.source) == 4 else 40)) or stride % 4 or (rest and rest < width):
        return None
    words = np.frombuffer(data, np.uint32, full * stride // 4).reshape(full, stride // 4)
    if not _rows_agree(words, first):
        return None
    if rest and not _rows_agree(
        np.vstack((words[:1, : width // 4], _words_at(data, full * stride, width // 4))), first
    ):
        return None
    return first


def flow_runs(train: Train) -> tuple[Train, ...]:
    """The train, cut where the flow changes: streams side by side share a sender, and so a train.

    A hint for speed that judges nothing: packets of one part may still differ. A shorter last packet is a part of its
    own; a single part is the train itself.
    """
    data, stride = train.data, train.stride
    full = len(data) // stride
    if full < 2 or stride % 4 or stride < _IPV6_MASK.nbytes:
        return (train,)
    words = np.frombuffer(data, np.uint32, full * stride // 4).reshape(full, stride // 4)
    mask = _IPV6_MASK if data[0] >> 4 == 6 else _IPV4_MASK
    heads = words[:, : len(mask)] & mask
    edges = [0, *((heads[1:] != heads[:-1]).any(axis=1).nonzero()[0] + 1).tolist(), full]
    if full * stride < len(data):
        edges.append(full + 1)
    if len(edges) == 2:
        return (train,)
    view = memoryview(data)
    parts = [view[start * stride : stop * stride] for start, stop in pairwise(edges)]
    return tuple(Train(part, min(stride, len(part))) for part in parts)


_Words = np.ndarray[tuple[int, int], np.dtype[np.uint32]]


def _mask(*ranges: tuple[int, int], width: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """Which bytes of a header have to be equal in every row, as words."""
    octets = np.zeros(width, np.uint8)
    for start, end in ranges:
        octets[start:end] = 0xFF
    return octets.view(np.uint32)


_IPV4_MASK = _mask((0, 1), (6, 8), (9, 10), (12, 24), width=24)  # version and length, fragment, protocol, flow
_IPV6_MASK = _mask((0, 1), (6, 7), (8, 44), width=44)  # version, next header, flow


def _rows_agree(words: _Words, first: PacketHead) -> bool:
    mask = _IPV4_MASK if len(first.source) == 4 else _IPV6_MASK
    heads = words[:, : len(mask)]
    if ((heads ^ heads[0]) & mask).any():
        return False
    if len(first.source) == 4 and int(heads[0, 1]) & _FRAGMENT_BITS:
        return False
    if first.protocol == Protocol.TCP:
        return not (words[:, first.transport_at // 4 + 3] & _SYN_OR_RST).any()
    return True


_FRAGMENT_BITS = int(np.array([0, 0, 0x3F, 0xFF], np.uint8).view(np.uint32)[0])  # of bytes 4 to 7
_SYN_OR_RST = np.array([0, TcpFlag.SYN | TcpFlag.RST, 0, 0], np.uint8).view(np.uint32)[0]  # of TCP's bytes 12 to 15


def _words_at(data: bytes | memoryview, offset: int, count: int) -> _Words:
    return np.frombuffer(data, np.uint32, count, offset).reshape(1, count)


def _read_ipv4(packet: bytes | memoryview) -> PacketHead | None:
    header_bytes = (packet[0] & 0x0F) * 4
    total = packet[2] << 8 | packet[3]
    if header_bytes < 20 or total > len(packet) or total < header_bytes:
        return None
    fragment = packet[6] << 8 | packet[7]
    offset_bytes = (fragment & 0x1FFF) * 8
    source, destination = bytes(packet[12:16]), bytes(packet[16:20])
    if offset_bytes:
        if offset_bytes < MINIMUM_LATER_OFFSET_BYTES or packet[9] in NEVER_FRAGMENTED:
            return None
        return PacketHead(Protocol.FRAGMENT, source, destination, 0, 0, header_bytes)
    if fragment & 0x2000 and packet[9] == Protocol.TSMP:
        return None  # a fragmented TSMP message is never ours
    return _with_transport(packet, packet[9], source, destination, header_bytes, total)


def _read_ipv6(packet: bytes | memoryview) -> PacketHead | None:
    if len(packet) < 40:
        return None
    total = 40 + (packet[4] << 8 | packet[5])
    if total > len(packet):
        return None
    protocol, at = packet[6], 40
    source, destination = bytes(packet[8:24]), bytes(packet[24:40])
    if protocol == IPV6_FRAGMENT_HEADER:
        if total < 48:
            return None
        protocol, at = packet[40], 48
        offset_bytes = (packet[42] << 8 | packet[43]) & 0xFFF8
        if offset_bytes:
            if offset_bytes < MINIMUM_LATER_OFFSET_BYTES or protocol in NEVER_FRAGMENTED:
                return None
            return PacketHead(Protocol.FRAGMENT, source, destination, 0, 0, at)
        if protocol == Protocol.TSMP:
            return None
    return _with_transport(packet, protocol, source, destination, at, total)


_TRANSPORT_BYTES = {
    Protocol.TCP: 20,
    Protocol.UDP: 8,
    Protocol.SCTP: 12,
    Protocol.ICMP: 4,
    Protocol.ICMPV6: 4,
    Protocol.TSMP: 7,
}
_EXTENSION_HEADERS = frozenset({0, 43, 44, 50, 51, 59, 60, 135, 139, 140, 255})  # 255 is `unknown` by itself


def _with_transport(
    packet: bytes | memoryview, protocol: int, source: bytes, destination: bytes, at: int, total: int
) -> PacketHead | None:
    if protocol in (Protocol.UNKNOWN, Protocol.FRAGMENT) or (len(source) == 16 and protocol in _EXTENSION_HEADERS):
        return None
    if protocol == (Protocol.ICMPV6 if len(source) == 4 else Protocol.ICMP):
        return None  # the other family's
    if total - at < _TRANSPORT_BYTES.get(protocol, 0):  # type: ignore[call-overload]
        return None
    if protocol in (Protocol.ICMP, Protocol.ICMPV6):
        return PacketHead(protocol, source, destination, 0, 0, at, icmp_type=packet[at])
    if protocol not in (Protocol.TCP, Protocol.UDP, Protocol.SCTP):
        return PacketHead(protocol, source, destination, 0, 0, at)
    source_port = packet[at] << 8 | packet[at + 1]
    destination_port = packet[at + 2] << 8 | packet[at + 3]
    flags = packet[at + 13] if protocol == Protocol.TCP else 0
    return PacketHead(protocol, source, destination, source_port, destination_port, at, flags)

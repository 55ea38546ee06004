"""Packets of TCP flows, made and read fast: one by one with integers, whole trains with numpy.

A flow's headers differ from packet to packet in sequence number and checksum only: the IP identification is 0 with DF
set (RFC 6864 §4.1), options travel only outside bulk data. So a train is one header copied to every row, one column of
sequence numbers, one of checksums, and one strided copy of the payload. Reading goes the other way: the rows are
compared with the first one in a single operation.

One's complement sums do not care about byte order (RFC 1071 §2B): rows are summed as little-endian 32-bit words, and
the 16-bit result lands in the packet in the same order. `wire.ip` and `wire.tcp` hold the readable forms.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tailbox.userspace_stack.events import DropReason
from tailbox.wire.addresses import Endpoint
from tailbox.wire.ip import DEFAULT_HOP_LIMIT, Protocol
from tailbox.wire.train import Train

Bytes2D = npt.NDArray[np.uint8]
MIN_BATCH = 3  # packets from which the numpy forms are the faster ones, both ways; bench/stack.py
MAX_ROWS = 256  # four trains
ACK, PSH, SYN, FIN, RST, URG = 0x10, 0x08, 0x02, 0x01, 0x04, 0x20

_IPV4_TCP = struct.Struct(">HHHHHH12sIIHHHH")  # words before the addresses; addresses and ports in one piece
_IPV6_TCP = struct.Struct(">IHBB36sIIHHHH")
_TCP_FIELDS = struct.Struct(">IIBBH")  # sequence, acknowledgment, offset, flags, window: at 4 in the TCP header
_BIG = np.uint64(0xFFFF << 32)  # a multiple of 65535 above any row's sum
_65535 = np.uint64(0xFFFF)
_ROW_NUMBERS = np.arange(MAX_ROWS, dtype=np.uint32)
_TAIL_WEIGHTS = np.array([1, 256, 1], dtype=np.uint64)


@dataclass(slots=True)
class Arrival:
    """One segment, or a contiguous run of them, as TCP sees it. `payload` and `rows` are views into the train."""

    sequence: int
    acknowledgment: int
    flags: int
    window: int  # as on the wire
    size: int  # bytes of payload
    options: bytes | memoryview = b""
    payload: memoryview | None = None
    rows: Bytes2D | None = None  # payload of a run, a row a segment
    segments: int = 1

    def contiguous(self) -> memoryview:
        """The payload in one piece; copies a run."""
        if self.rows is not None:
            return memoryview(self.rows.tobytes())
        return self.payload if self.payload is not None else memoryview(b"")


class FlowTemplate:
    """Makes the packets of one flow, from us to the remote end."""

    __slots__ = (
        "_addresses_and_ports",
        "_ip_sum",
        "_is_ipv6",
        "_tcp_sum",
        "header_bytes",
        "key",
        "loops",
    )

    def __init__(self, local: Endpoint, remote: Endpoint, *, loops: bool = False) -> None:
        ports = (local.port << 16 | remote.port).to_bytes(4, "big")
        reverse_ports = (remote.port << 16 | local.port).to_bytes(4, "big")
        self._addresses_and_ports = local.ip.packed + remote.ip.packed + ports
        self.key = remote.ip.packed + local.ip.packed + reverse_ports  # as incoming packets spell it
        self.loops = loops  # the remote end is this very stack
        self._is_ipv6 = local.ip.version == 6
        self.header_bytes = 60 if self._is_ipv6 else 40
        addresses = int.from_bytes(self._addresses_and_ports[:-4], "big")
        self._ip_sum = (0x4500 + 0x4000 + (DEFAULT_HOP_LIMIT << 8 | Protocol.TCP) + addresses) % 0xFFFF
        self._tcp_sum = (addresses + Protocol.TCP + int.from_bytes(ports, "big")) % 0xFFFF

    def segment(
        self,
        sequence: int,
        acknowledgment: int,
        flags: int,
        window: int,
        *,
        options: bytes = b"",
        payload: bytes | memoryview = b"",
    ) -> bytes:
        """One whole IP packet. `options` is padded to words already."""
        sequence &= 0xFFFFFFFF
        acknowledgment &= 0xFFFFFFFF
        length = 20 + len(options) + len(payload)
        offset_and_flags = (20 + len(options) << 10) | flags
        total = self._tcp_sum + length + sequence + acknowledgment + offset_and_flags + window
        if options:
            total += int.from_bytes(options, "big")
        if payload:
            total += int.from_bytes(payload, "big") << (len(payload) & 1) * 8
        header = self._header(length, sequence, acknowledgment, offset_and_flags, window, -total % 0xFFFF)
        return b"".join((header, options, payload))

    def _header(
        self, length: int, sequence: int, acknowledgment: int, offset_and_flags: int, window: int, checksum: int
    ) -> bytes:
        tail = (self._addresses_and_ports, sequence, acknowledgment, offset_and_flags, window, checksum, 0)
        if self._is_ipv6:
            return _IPV6_TCP.pack(0x60000000, length, Protocol.TCP, DEFAULT_HOP_LIMIT, *tail)
        total = 20 + length
        ip_checksum = -(self._ip_sum + total) % 0xFFFF
        return _IPV4_TCP.pack(0x4500, total, 0, 0x4000, DEFAULT_HOP_LIMIT << 8 | Protocol.TCP, ip_checksum, *tail)

    def fill_rows(
        self,
        rows: Bytes2D,
        payload: memoryview,
        *,
        sequence: int,
        acknowledgment: int,
        window: int,
        last_flags: int,
    ) -> None:
        """Make one packet a row: equal payloads, in order. All but the last carry ACK alone, that one `last_flags`."""
        count, stride = rows.shape
        start = self.header_bytes
        size = stride - start
        offset_and_flags = 20 << 10 | ACK
        # One numpy operation costs as much as five packets: the fewer, the better.
        header = self._header(20 + size, 0, acknowledgment & 0xFFFFFFFF, offset_and_flags, window, 0)
        rows[:, :start] = np.frombuffer(header, np.uint8)
        rows[-1, start - 7] = last_flags
        numbers = _ROW_NUMBERS[:count] * np.uint32(size)
        numbers += np.uint32(sequence & 0xFFFFFFFF)
        rows[:, start - 16 : start - 12].view(">u4")[:, 0] = numbers
        rows[:, start:] = np.frombuffer(payload, np.uint8).reshape(count, size)
        sums = row_sums(rows, 8 if self._is_ipv6 else 12, stride)
        sums += np.uint64(_swapped(Protocol.TCP + 20 + size))
        np.subtract(_BIG, sums, out=sums)
        sums %= _65535
        rows[:, start - 4 : start - 2].view("<u2")[:, 0] = sums


def _swapped(value: int) -> int:
    """A 16-bit number with its bytes exchanged."""
    return (value & 0xFF) << 8 | value >> 8


def row_sums(rows: Bytes2D, start: int, end: int) -> npt.NDArray[np.uint64]:
    """For each row, a number congruent modulo 65535 to the byte-swapped sum of columns [start, end)."""
    words = (end - start) // 4
    middle = start + 4 * words
    wide = rows[:, start:middle].view("<u4").astype(np.uint64)  # half as expensive as a reduction that casts
    sums: npt.NDArray[np.uint64] = np.add.reduce(wide, axis=1)
    if middle < end:
        sums += rows[:, middle:end] @ _TAIL_WEIGHTS[: end - middle]
    return sums


@dataclass(slots=True)
class PacketBounds:
    """Where things are in one packet."""

    protocol: int
    header_bytes: int  # the IP header's
    total_bytes: int  # without padding
    addresses_at: int  # source and destination, back to back, end right before byte `addresses_end`
    addresses_end: int


def bounds_of(packet: memoryview) -> PacketBounds | DropReason:
    """Check the IP header of one packet. Fragments are refused; IPv6 extension headers are an unknown protocol."""
    length = len(packet)
    version = packet[0] >> 4 if length else 0
    if version == 4 and length >= 20:
        header_bytes = (packet[0] & 0xF) * 4
        total = packet[2] << 8 | packet[3]
        if not 20 <= header_bytes <= total <= length or packet[8] == 0:
            return DropReason.MALFORMED
        if (packet[6] & 0x3F) | packet[7]:
            return DropReason.FRAGMENT
        if int.from_bytes(packet[:header_bytes], "big") % 0xFFFF:
            return DropReason.BAD_CHECKSUM
        return PacketBounds(packet[9], header_bytes, total, 12, 20)
    if version == 6 and length >= 40:
        total = 40 + (packet[4] << 8 | packet[5])
        if total > length or packet[7] == 0:
            return DropReason.MALFORMED
        if packet[6] == 44:
            return DropReason.FRAGMENT
        return PacketBounds(packet[6], 40, total, 8, 40)
    return DropReason.MALFORMED


def is_transport_sum_good(packet: memoryview, bounds: PacketBounds) -> bool:
    """Whether a TCP, UDP or ICMPv6 message adds up together with its pseudo-header."""
    length = bounds.total_bytes - bounds.header_bytes
    odd = (length & 1) * 8
    if bounds.header_bytes == bounds.addresses_end:  # one run from the addresses to the end
        total = int.from_bytes(packet[bounds.addresses_at : bounds.total_bytes], "big") << odd
    else:
        total = int.from_bytes(packet[bounds.header_bytes : bounds.total_bytes], "big") << odd
        total += int.from_bytes(packet[bounds.addresses_at : bounds.addresses_end], "big")
    return (total + bounds.protocol + length) % 0xFFFF == 0


def parse_segment(packet: memoryview, bounds: PacketBounds) -> tuple[bytes, Arrival] | DropReason:
    """The flow key and the segment of one TCP packet."""
    start, total = bounds.header_bytes, bounds.total_bytes
    if total - start < 20:
        return DropReason.MALFORMED
    sequence, acknowledgment, offset, flags, window = _TCP_FIELDS.unpack_from(packet, start + 4)
    data_at = start + (offset >> 4) * 4
    if not start + 20 <= data_at <= total:
        return DropReason.MALFORMED
    if not is_transport_sum_good(packet, bounds):
        return DropReason.BAD_CHECKSUM
    if start == bounds.addresses_end:
        key = bytes(packet[bounds.addresses_at : start + 4])
    else:
        key = bytes(packet[bounds.addresses_at : bounds.addresses_end]) + bytes(packet[start : start + 4])
    options = packet[start + 20 : data_at] if data_at > start + 20 else b""
    payload = packet[data_at:total]
    return key, Arrival(sequence, acknowledgment, flags & 0x3F, window, total - data_at, options, payload)


@dataclass(frozen=True, slots=True)
class _Layout:
    """What must be equal in all rows of a bulk train: a mask for each 32-bit word of the headers, little-endian."""

    words: int
    addresses_at: int
    masks: tuple[int, ...]


def _masks(*words: int) -> tuple[int, ...]:
    return tuple(int.from_bytes(word.to_bytes(4, "big"), "little") for word in words)


_EQUAL = 0xFFFFFFFF
_OFFSET_AND_FLAGS = 0xFFF70000  # equal but for PSH and the window
_IPV4_LAYOUT = _Layout(
    10,
    12,
    # version to length; fragmentation but not identification; protocol but not hop limit; addresses; ports; …
    _masks(_EQUAL, 0x0000BFFF, 0x00FF0000, _EQUAL, _EQUAL, _EQUAL, 0, 0, _OFFSET_AND_FLAGS, 0),
)
_IPV6_LAYOUT = _Layout(
    15,
    8,
    _masks(0xF0000000, 0xFFFFFF00, *[_EQUAL] * 8, _EQUAL, 0, 0, _OFFSET_AND_FLAGS, 0),
)


def parse_rows(train: Train) -> tuple[bytes, list[Arrival]] | None:
    """Read all packets of full stride as runs of one bulk TCP flow, or None if they are anything else.

    Bulk means: same flow, no options, ACK and PSH the only flags, equal sizes, correct checksums. Then a gap in the
    sequence numbers only starts another run. None is not an error: the packets are then read one by one.
    """
    stride = train.stride
    count = len(train.data) // stride
    if count < MIN_BATCH or stride < 61:
        return None
    flat = np.frombuffer(train.data, np.uint8, count * stride)
    first = memoryview(train.data)[:stride]
    bounds = bounds_of(first)
    if isinstance(bounds, DropReason) or bounds.protocol != Protocol.TCP or bounds.header_bytes != bounds.addresses_end:
        return None
    start, total = bounds.header_bytes, bounds.total_bytes
    data_at = start + 20
    if total <= data_at or first[start + 12] != 0x50 or first[start + 13] & ~PSH != ACK:
        return None
    rows = flat.reshape(count, stride)
    layout = _IPV6_LAYOUT if start == 40 else _IPV4_LAYOUT
    words = rows[:, : layout.words * 4].view("<u4")
    varying: list[int] = np.bitwise_or.reduce(words ^ words[0], axis=0).tolist()
    if any(bits & mask for bits, mask in zip(varying, layout.masks, strict=True)):
        return None
    # The first packet's IPv4 header is good; so are the others if they are the same.
    if not _are_sums_good(rows, bounds) or (any(varying[:3]) and not _are_header_sums_good(words, bounds)):
        return None
    key = bytes(first[layout.addresses_at : start + 4])
    return key, _runs(rows, start, total)


def _are_sums_good(rows: Bytes2D, bounds: PacketBounds) -> bool:
    sums = row_sums(rows, bounds.addresses_at, bounds.total_bytes)
    sums += np.uint64(_swapped(Protocol.TCP + bounds.total_bytes - bounds.header_bytes))
    sums %= _65535
    return not sums.any()


def _are_header_sums_good(words: npt.NDArray[np.uint32], bounds: PacketBounds) -> bool:
    if bounds.header_bytes != 20:
        return True  # IPv6 headers have no checksum
    sums = np.add.reduce(words[:, :5], axis=1, dtype=np.uint64)
    sums %= _65535
    return not sums.any()


def _runs(rows: Bytes2D, start: int, total: int) -> list[Arrival]:
    """Cut rows of one flow where sequence numbers do not continue."""
    count = len(rows)
    data_at = start + 20
    size = total - data_at
    numbers: list[int] = rows[:, start + 4 : start + 8].view(">u4")[:, 0].tolist()
    edges = [0, count]
    if numbers != list(range(numbers[0], numbers[0] + count * size, size)):
        gaps = [row for row in range(1, count) if (numbers[row] - numbers[row - 1]) & 0xFFFFFFFF != size]
        edges = [0, *gaps, count]
    arrivals = []
    for begin, end in pairwise(edges):
        # The last segment of a run has the newest acknowledgment and window.
        _, acknowledgment, _, flags, window = _TCP_FIELDS.unpack_from(rows[end - 1], start + 4)
        arrival = Arrival(numbers[begin], acknowledgment, flags, window, size * (end - begin), segments=end - begin)
        arrival.rows = rows[begin:end, data_at:total]
        arrivals.append(arrival)
    return arrivals

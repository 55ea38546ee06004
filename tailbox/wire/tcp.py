"""TCP segments: header, options, payload. Sources: RFC 9293 §3.1 and §3.2, RFC 7323 §2 and §3, RFC 2018 §2 and §3.

```text
 0 source port | 2 destination port | 4 sequence number | 8 acknowledgment number
12 data offset in words (4 bits), reserved (4) | 13 flags | 14 window | 16 checksum | 18 urgent pointer | 20 options
```

This is the readable, per-packet form. The stack's own fast forms (`userspace_stack.segments`) are held equal to it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Self

from tailbox.errors import Malformed, Truncated
from tailbox.wire.addresses import IPAddress
from tailbox.wire.ip import Protocol, transport_checksum

TCP_HEADER = struct.Struct(">HHIIBBHHH")
TCP_HEADER_BYTES = TCP_HEADER.size
MAX_OPTION_BYTES = 40
MAX_WINDOW_SCALE = 14  # RFC 7323 §2.3: larger shift counts are used as 14
END_OF_OPTIONS, NO_OPERATION = 0, 1
MAXIMUM_SEGMENT_SIZE, WINDOW_SCALE, SACK_PERMITTED, SACK, TIMESTAMPS = 2, 3, 4, 5, 8
MAX_SACK_BLOCKS = 4


class TcpFlag(IntFlag):
    """The control bits, from the lowest."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80


@dataclass(frozen=True, slots=True)
class TcpOptions:
    """The options we know. What a segment does not carry is None, False or empty."""

    maximum_segment_size: int | None = None
    window_scale: int | None = None
    sack_permitted: bool = False
    sack_blocks: tuple[tuple[int, int], ...] = ()  # left edge, right edge (exclusive)
    timestamps: tuple[int, int] | None = None  # value, echo reply

    def encode(self) -> bytes:
        """Padded with no-operations in front of each option to whole words. Raises ValueError beyond 40 bytes."""
        data = b""
        if self.maximum_segment_size is not None:
            data += struct.pack(">BBH", MAXIMUM_SEGMENT_SIZE, 4, self.maximum_segment_size)
        if self.window_scale is not None:
            data += struct.pack(">BBBB", NO_OPERATION, WINDOW_SCALE, 3, self.window_scale)
        if self.sack_permitted:
            data += struct.pack(">BBBB", NO_OPERATION, NO_OPERATION, SACK_PERMITTED, 2)
        if self.timestamps is not None:
            data += struct.pack(">BBBBII", NO_OPERATION, NO_OPERATION, TIMESTAMPS, 10, *self.timestamps)
        if self.sack_blocks:
            data += struct.pack(">BBBB", NO_OPERATION, NO_OPERATION, SACK, 2 + 8 * len(self.sack_blocks))
            data += b"".join(struct.pack(">II", left, right) for left, right in self.sack_blocks)
        if len(data) > MAX_OPTION_BYTES:
            raise ValueError(f"{len(data)} bytes of TCP options")
        return data

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Self:
        """Never raises: unknown options are skipped by length, and a bad length ends the list (RFC 9293 MUST-7)."""
        found: dict[int, bytes] = {}
        position, end = 0, len(data)
        while position < end and data[position] != END_OF_OPTIONS:
            if data[position] == NO_OPERATION:
                position += 1
                continue
            length = data[position + 1] if position + 1 < end else 0
            if length < 2 or position + length > end:
                break
            found.setdefault(data[position], bytes(data[position + 2 : position + length]))
            position += length
        return cls._of(found)

    @classmethod
    def _of(cls, found: dict[int, bytes]) -> Self:
        """Options whose body has the wrong size count as absent."""
        size, scale = found.get(MAXIMUM_SEGMENT_SIZE, b""), found.get(WINDOW_SCALE, b"")
        sack, stamps = found.get(SACK, b""), found.get(TIMESTAMPS, b"")
        return cls(
            int.from_bytes(size, "big") if len(size) == 2 else None,
            min(scale[0], MAX_WINDOW_SCALE) if len(scale) == 1 else None,
            found.get(SACK_PERMITTED) == b"",
            tuple(struct.iter_unpack(">II", sack)) if len(sack) % 8 == 0 else (),
            (int.from_bytes(stamps[:4], "big"), int.from_bytes(stamps[4:], "big")) if len(stamps) == 8 else None,
        )


NO_OPTIONS = TcpOptions()


@dataclass(frozen=True, slots=True)
class TcpSegment:
    """One segment, without the IP header."""

    source_port: int
    destination_port: int
    sequence: int
    acknowledgment: int = 0
    flags: TcpFlag = TcpFlag(0)  # noqa: RUF009  # an immutable value
    window: int = 0  # as on the wire, not scaled
    urgent_pointer: int = 0
    options: TcpOptions = NO_OPTIONS
    payload: bytes = field(default=b"", repr=False)  # application data does not belong in traces by accident

    @property
    def sequence_length(self) -> int:
        """How many sequence numbers it uses: its bytes, and one each for SYN and FIN."""
        return len(self.payload) + bool(self.flags & TcpFlag.SYN) + bool(self.flags & TcpFlag.FIN)

    def encode(self, source: IPAddress, destination: IPAddress) -> bytes:
        """With its checksum."""
        options = self.options.encode()
        header = TCP_HEADER.pack(
            self.source_port,
            self.destination_port,
            self.sequence,
            self.acknowledgment,
            (TCP_HEADER_BYTES + len(options)) // 4 << 4,
            self.flags,
            self.window,
            0,
            self.urgent_pointer,
        )
        whole = header + options + self.payload
        checksum = transport_checksum(source, destination, Protocol.TCP, whole)
        return whole[:16] + checksum.to_bytes(2, "big") + whole[18:]

    @classmethod
    def decode(cls, message: bytes | memoryview, source: IPAddress, destination: IPAddress) -> Self:
        """Raises Truncated, and Malformed for a bad checksum or data offset."""
        if len(message) < TCP_HEADER_BYTES:
            raise Truncated(f"TCP header in {len(message)} bytes")
        source_port, destination_port, sequence, acknowledgment, offset, flags, window, _, urgent = (
            TCP_HEADER.unpack_from(message)
        )
        data_offset = (offset >> 4) * 4
        if not TCP_HEADER_BYTES <= data_offset <= len(message):
            raise Malformed(f"TCP data offset {data_offset} in a segment of {len(message)}")
        if transport_checksum(source, destination, Protocol.TCP, message):
            raise Malformed("TCP checksum")
        options = TcpOptions.decode(message[TCP_HEADER_BYTES:data_offset])
        ports_and_numbers = (source_port, destination_port, sequence, acknowledgment)
        return cls(*ports_and_numbers, TcpFlag(flags), window, urgent, options, bytes(message[data_offset:]))

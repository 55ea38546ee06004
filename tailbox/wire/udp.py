"""UDP datagrams: source port (2 bytes), destination port (2), length (2), checksum (2), payload. Source: RFC 768."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

from tailbox.errors import Malformed, Truncated
from tailbox.wire.addresses import IPAddress
from tailbox.wire.ip import Protocol, transport_checksum

UDP_HEADER = struct.Struct(">HHHH")
UDP_HEADER_BYTES = UDP_HEADER.size
NO_CHECKSUM = 0  # over IPv4 only: "the transmitter generated no checksum"


@dataclass(frozen=True, slots=True)
class UdpDatagram:
    """One datagram, without the IP header."""

    source_port: int
    destination_port: int
    payload: bytes

    def encode(self, source: IPAddress, destination: IPAddress) -> bytes:
        """With its checksum; a computed 0 travels as 0xffff."""
        length = UDP_HEADER_BYTES + len(self.payload)
        ports = (self.source_port, self.destination_port, length)
        checksum = transport_checksum(source, destination, Protocol.UDP, UDP_HEADER.pack(*ports, 0) + self.payload)
        return UDP_HEADER.pack(*ports, checksum or 0xFFFF) + self.payload

    @classmethod
    def decode(cls, message: bytes | memoryview, source: IPAddress, destination: IPAddress) -> Self:
        """Trimmed to its own length field. Raises Truncated, and Malformed for a bad checksum or length.

        Over IPv6 a checksum of zero is an error (RFC 8200 §8.1).
        """
        if len(message) < UDP_HEADER_BYTES:
            raise Truncated(f"UDP header in {len(message)} bytes")
        source_port, destination_port, length, checksum = UDP_HEADER.unpack_from(message)
        if length < UDP_HEADER_BYTES:
            raise Malformed(f"UDP length {length}")
        if length > len(message):
            raise Truncated(f"UDP datagram of {length} bytes in {len(message)}")
        if checksum == NO_CHECKSUM:
            if source.version == 6:
                raise Malformed("UDP over IPv6 without checksum")
        elif transport_checksum(source, destination, Protocol.UDP, message[:length]):
            raise Malformed("UDP checksum")
        return cls(source_port, destination_port, bytes(message[UDP_HEADER_BYTES:length]))

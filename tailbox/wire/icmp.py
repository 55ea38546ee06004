"""ICMP and ICMPv6: echo, and the errors a host sends and obeys.

```text
type (1) | code (1) | checksum (2) | identifier (2), sequence (2)          | payload           echo
                                   | unused (2), MTU (2); v6: MTU (4)      | quoted packet     errors
```

Sources: RFC 792, RFC 1191 §4, RFC 4443. ICMPv6's checksum covers the pseudo-header, ICMP's does not.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from tailbox.errors import Malformed, Truncated, UnsupportedVersion
from tailbox.wire.addresses import IPAddress
from tailbox.wire.ip import Protocol, internet_checksum, transport_checksum

ICMP_HEADER = struct.Struct(">BBHHH")
ICMP_HEADER_BYTES = ICMP_HEADER.size
MIN_IPV4_MTU = 576  # RFC 1191 §3 speaks of 68; nothing real is below what every host must reassemble
MIN_IPV6_MTU = 1280
QUOTED_IPV4_BYTES = 548  # RFC 1812 §4.3.2.3: as much as fits in 576 bytes
QUOTED_IPV6_BYTES = 1232  # RFC 4443 §2.4(c): as much as fits in 1280 bytes


@dataclass(frozen=True, slots=True)
class Echo:
    """A ping or its answer."""

    is_reply: bool
    identifier: int
    sequence: int
    payload: bytes


class Unreachable(Enum):
    """Why a destination cannot be reached: (ICMP code, ICMPv6 code)."""

    NETWORK = (0, 0)
    HOST = (1, 3)
    PROTOCOL = (2, None)
    PORT = (3, 4)
    PROHIBITED = (13, 1)
    OTHER = (None, None)


@dataclass(frozen=True, slots=True)
class DestinationUnreachable:
    """An error about a packet of ours, quoted from its IP header on."""

    reason: Unreachable
    quoted: bytes


@dataclass(frozen=True, slots=True)
class PacketTooBig:
    """ICMPv6 type 2, or ICMP's "fragmentation needed and DF set". `mtu` is 0 from routers older than RFC 1191."""

    mtu: int
    quoted: bytes


@dataclass(frozen=True, slots=True)
class OtherError:
    """Time exceeded, parameter problem, source quench: noted, never fatal (RFC 9293 MUST-56)."""

    kind: int
    code: int
    quoted: bytes


IcmpMessage: TypeAlias = Echo | DestinationUnreachable | PacketTooBig | OtherError

_ECHO_TYPES = {4: (8, 0), 6: (128, 129)}  # request, reply
_UNREACHABLE_TYPE = {4: 3, 6: 1}
_FRAGMENTATION_NEEDED = 4  # code of ICMP type 3
_TOO_BIG_TYPE = 2  # ICMPv6
_OTHER_ERRORS = {4: (4, 5, 11, 12), 6: (3, 4)}


def encode_icmp(message: IcmpMessage, source: IPAddress, destination: IPAddress) -> bytes:
    """The message with its checksum, for the addresses' IP version. Quoted packets are cut to what may be quoted."""
    version = source.version
    kind, code, first, second, body = _fields_of(message, version)
    header = ICMP_HEADER.pack(kind, code, 0, first, second)
    if version == 6:
        checksum = transport_checksum(source, destination, Protocol.ICMPV6, header + body)
    else:
        checksum = internet_checksum(header + body)
    return ICMP_HEADER.pack(kind, code, checksum, first, second) + body


def _fields_of(message: IcmpMessage, version: int) -> tuple[int, int, int, int, bytes]:
    """Type, code, the two halves of the second word, body."""
    if isinstance(message, Echo):
        kind = _ECHO_TYPES[version][message.is_reply]
        return kind, 0, message.identifier, message.sequence, message.payload
    quoted = message.quoted[: QUOTED_IPV6_BYTES if version == 6 else QUOTED_IPV4_BYTES]
    if isinstance(message, PacketTooBig):
        if version == 6:
            return _TOO_BIG_TYPE, 0, message.mtu >> 16, message.mtu & 0xFFFF, quoted
        return _UNREACHABLE_TYPE[4], _FRAGMENTATION_NEEDED, 0, message.mtu, quoted
    if isinstance(message, DestinationUnreachable):
        code = message.reason.value[version == 6]
        return _UNREACHABLE_TYPE[version], 0 if code is None else code, 0, 0, quoted
    return message.kind, message.code, 0, 0, quoted


def decode_icmp(message: bytes | memoryview, source: IPAddress, destination: IPAddress) -> IcmpMessage:
    """Raises Truncated, Malformed for a bad checksum, UnsupportedVersion for types that mean nothing to a host here."""
    version = source.version
    if len(message) < ICMP_HEADER_BYTES:
        raise Truncated(f"ICMP header in {len(message)} bytes")
    if version == 6:
        remainder = transport_checksum(source, destination, Protocol.ICMPV6, message)
    else:
        remainder = internet_checksum(message)
    if remainder:
        raise Malformed("ICMP checksum")
    kind, code, _, first, second = ICMP_HEADER.unpack_from(message)
    body = bytes(message[ICMP_HEADER_BYTES:])
    if kind in _ECHO_TYPES[version] and code == 0:
        return Echo(kind == _ECHO_TYPES[version][1], first, second, body)
    if version == 6 and kind == _TOO_BIG_TYPE:
        return PacketTooBig(first << 16 | second, body)
    if version == 4 and kind == _UNREACHABLE_TYPE[4] and code == _FRAGMENTATION_NEEDED:
        return PacketTooBig(second, body)
    if kind == _UNREACHABLE_TYPE[version]:
        return DestinationUnreachable(_reason_of(code, version), body)
    if kind in _OTHER_ERRORS[version]:
        return OtherError(kind, code, body)
    raise UnsupportedVersion(f"ICMP type {kind}")


def _reason_of(code: int, version: int) -> Unreachable:
    return next((reason for reason in Unreachable if reason.value[version == 6] == code), Unreachable.OTHER)

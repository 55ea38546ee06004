"""STUN binding requests and responses, as Tailscale's clients and servers speak them.

```text
header        type 2 · length 2, without the header · cookie 21 12 a4 42 · transaction id 12
attribute     type 2 · length 2 · value, padded to 4
request       SOFTWARE "tailnode", FINGERPRINT last: 40 bytes
response      XOR-MAPPED-ADDRESS: 32 bytes for IPv4, 44 for IPv6
address       00 · family (1 IPv4, 2 IPv6) · port XOR 21 12 · address XOR (cookie, transaction id)
```

The tag and the checksum keep strangers' requests from being answered: a server that speaks only this form is no use
to anybody else. Source: RFC 8489 §5, §14; tailscale net/stun/stun.go; vectors in RFC 5769.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from tailbox.errors import Malformed, Truncated
from tailbox.wire.addresses import Endpoint, IPAddress

HEADER = struct.Struct(">HHI12s")
ATTRIBUTE = struct.Struct(">HH")
COOKIE = 0x2112A442  # RFC 8489 §5
COOKIE_BYTES = COOKIE.to_bytes(4, "big")
TRANSACTION_BYTES = 12
FINGERPRINT_XOR = 0x5354554E  # RFC 8489 §14.7
SOFTWARE_NAME = b"tailnode"  # stun.go: what a request must carry
REQUEST_BYTES = 40
MAX_MESSAGE_BYTES = 1500  # ours: nothing of this protocol comes near


class MessageType(IntEnum):
    """The two messages in use. RFC 8489 §18.1."""

    BINDING_REQUEST = 0x0001
    BINDING_RESPONSE = 0x0101


class AttributeType(IntEnum):
    """What we read or write. RFC 8489 §18.3; 0x8020 is what servers of the draft years sent."""

    MAPPED_ADDRESS = 0x0001
    XOR_MAPPED_ADDRESS = 0x0020
    SOFTWARE = 0x8022
    FINGERPRINT = 0x8028
    XOR_MAPPED_ADDRESS_DRAFT = 0x8020


class AddressFamily(IntEnum):
    """RFC 8489 §14.1."""

    IPV4 = 1
    IPV6 = 2


def is_stun(datagram: bytes | memoryview) -> bool:
    """Whether a datagram has the shape of STUN: the two top bits clear, and the cookie in its place."""
    return len(datagram) >= HEADER.size and datagram[0] & 0xC0 == 0 and datagram[4:8] == COOKIE_BYTES


@dataclass(frozen=True, slots=True)
class BindingRequest:
    """Ask a server which address it sees."""

    transaction_id: bytes

    def encode(self) -> bytes:
        """40 bytes: SOFTWARE first, as the kernel fast path of upstream's server wants it."""
        software = ATTRIBUTE.pack(AttributeType.SOFTWARE, len(SOFTWARE_NAME)) + SOFTWARE_NAME
        length = len(software) + ATTRIBUTE.size + 4
        covered = HEADER.pack(MessageType.BINDING_REQUEST, length, COOKIE, self.transaction_id) + software
        return covered + ATTRIBUTE.pack(AttributeType.FINGERPRINT, 4) + fingerprint(covered).to_bytes(4, "big")

    @classmethod
    def decode(cls, datagram: bytes) -> Self:
        """Read a request of a Tailscale client.

        Raises Truncated and Malformed, also for well-formed requests of other programs: without the SOFTWARE name or
        a right FINGERPRINT at the end there must be no answer.
        """
        transaction_id, body = _split(datagram, MessageType.BINDING_REQUEST)
        named, offset, last = False, HEADER.size, 0
        for kind, value in _attributes(body):
            named = named or (kind == AttributeType.SOFTWARE and value == SOFTWARE_NAME)
            if kind == AttributeType.FINGERPRINT and value != fingerprint(datagram[:offset]).to_bytes(4, "big"):
                raise Malformed("STUN fingerprint does not match")
            offset += ATTRIBUTE.size + _padded(len(value))
            last = kind
        if not named:
            raise Malformed("STUN request of another program")
        if last != AttributeType.FINGERPRINT:
            raise Malformed("STUN request does not end in a fingerprint")
        return cls(transaction_id)


@dataclass(frozen=True, slots=True)
class BindingResponse:
    """The address that a server saw a request come from."""

    transaction_id: bytes
    mapped: Endpoint

    def encode(self) -> bytes:
        """One XOR-MAPPED-ADDRESS and nothing else. IPv4-mapped IPv6 addresses are written as IPv4."""
        ip = _unmapped(self.mapped.ip)
        family = AddressFamily.IPV4 if ip.version == 4 else AddressFamily.IPV6
        masked = _xor(ip.packed, COOKIE_BYTES + self.transaction_id)
        value = struct.pack(">BBH", 0, family, self.mapped.port ^ (COOKIE >> 16)) + masked
        length = ATTRIBUTE.size + len(value)
        return b"".join(
            (
                HEADER.pack(MessageType.BINDING_RESPONSE, length, COOKIE, self.transaction_id),
                ATTRIBUTE.pack(AttributeType.XOR_MAPPED_ADDRESS, len(value)),
                value,
            )
        )

    @classmethod
    def decode(cls, datagram: bytes) -> Self:
        """Read any server's response; the plain MAPPED-ADDRESS counts only where there is no other.

        Raises Truncated and Malformed.
        """
        transaction_id, body = _split(datagram, MessageType.BINDING_RESPONSE)
        plain: Endpoint | None = None
        for kind, value in _attributes(body):
            if kind in (AttributeType.XOR_MAPPED_ADDRESS, AttributeType.XOR_MAPPED_ADDRESS_DRAFT):
                return cls(transaction_id, _address(value, COOKIE_BYTES + transaction_id))
            if kind == AttributeType.MAPPED_ADDRESS and plain is None:
                plain = _address(value, bytes(16))
        if plain is None:
            raise Malformed("STUN response without an address")
        return cls(transaction_id, plain)


def fingerprint(covered: bytes) -> int:
    """The value of FINGERPRINT for all bytes before that attribute. RFC 8489 §14.7."""
    return zlib.crc32(covered) ^ FINGERPRINT_XOR


def answer_any(datagram: bytes, mapped: Endpoint) -> bytes:
    """Answer a binding request of any program, also the kind without a cookie: RFC 3489 knew no XOR-MAPPED-ADDRESS.

    Raises Truncated and Malformed. For servers that mean to be open: such answers are larger than their requests.
    """
    if len(datagram) < HEADER.size:
        raise Truncated(f"STUN message of {len(datagram)} bytes")
    kind, length, cookie, transaction_id = HEADER.unpack_from(datagram)
    if kind != MessageType.BINDING_REQUEST or length != len(datagram) - HEADER.size or length % 4:
        raise Malformed("not a STUN binding request")
    for _ in _attributes(datagram[HEADER.size :]):
        pass
    if cookie == COOKIE:
        return BindingResponse(transaction_id, mapped).encode()
    ip = _unmapped(mapped.ip)
    family = AddressFamily.IPV4 if ip.version == 4 else AddressFamily.IPV6
    value = struct.pack(">BBH", 0, family, mapped.port) + ip.packed
    header = HEADER.pack(MessageType.BINDING_RESPONSE, ATTRIBUTE.size + len(value), cookie, transaction_id)
    return header + ATTRIBUTE.pack(AttributeType.MAPPED_ADDRESS, len(value)) + value


def _split(datagram: bytes, wanted: MessageType) -> tuple[bytes, bytes]:
    """Transaction id and attributes. Bytes beyond the stated length are ignored, as upstream does."""
    if len(datagram) < HEADER.size:
        raise Truncated(f"STUN message of {len(datagram)} bytes")
    if not is_stun(datagram):
        raise Malformed("not STUN")
    kind, length, _, transaction_id = HEADER.unpack_from(datagram)
    if kind != wanted:
        raise Malformed(f"STUN message of type {kind:#06x}, wanted {wanted.value:#06x}")
    if len(datagram) < HEADER.size + length:
        raise Truncated(f"STUN attributes of {len(datagram) - HEADER.size} bytes, {length} announced")
    return transaction_id, datagram[HEADER.size : HEADER.size + length]


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(body):
        if len(body) - offset < ATTRIBUTE.size:
            raise Truncated("STUN attribute header cut short")
        kind, length = ATTRIBUTE.unpack_from(body, offset)
        offset += ATTRIBUTE.size
        if len(body) - offset < length:
            raise Truncated(f"STUN attribute {kind:#06x} cut short")
        yield kind, body[offset : offset + length]
        offset += _padded(length)


def _address(value: bytes, mask: bytes) -> Endpoint:
    if len(value) < 4:
        raise Truncated("STUN address cut short")
    _, family, port = struct.unpack_from(">BBH", value)
    size = {AddressFamily.IPV4: 4, AddressFamily.IPV6: 16}.get(family)
    if size is None:
        raise Malformed(f"STUN address family {family}")
    if len(value) < 4 + size:
        raise Truncated("STUN address cut short")
    raw = _xor(value[4 : 4 + size], mask)
    ip: IPAddress = IPv4Address(raw) if size == 4 else _unmapped(IPv6Address(raw))
    return Endpoint(ip, port ^ int.from_bytes(mask[:2], "big"))


def _unmapped(ip: IPAddress) -> IPAddress:
    """Upstream's dual-stack servers call an IPv4 client ::ffff:a.b.c.d."""
    return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip


def _xor(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    return (int.from_bytes(data, "big") ^ int.from_bytes(mask[:size], "big")).to_bytes(size, "big")


def _padded(length: int) -> int:
    return (length + 3) & ~3

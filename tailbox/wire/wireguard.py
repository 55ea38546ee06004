"""WireGuard's four messages. All integers are little-endian. Source: WireGuard paper §5.4.

```text
every message          0: type (1 B), three zero bytes
HandshakeInitiation    4: sender index (4)    8: ephemeral (32)   40: sealed static (48)   88: sealed timestamp (28)
      (148 B)        116: mac1 (16)         132: mac2 (16)
HandshakeResponse      4: sender index (4)    8: receiver index (4)   12: ephemeral (32)   44: sealed nothing (16)
       (92 B)         60: mac1 (16)          76: mac2 (16)
CookieReply            4: receiver index (4)  8: nonce (24)       32: sealed cookie (32)
       (64 B)
TransportData          4: receiver index (4)  8: counter (8)      16: sealed packet (16 or more)
```

An index names a handshake or a session at the end that chose it. Both MACs cover the bytes in front of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from tailbox.errors import Malformed, Truncated, UnsupportedVersion

INITIATION = struct.Struct("<II32s48s28s16s16s")
RESPONSE = struct.Struct("<III32s16s16s16s")
COOKIE_REPLY = struct.Struct("<II24s32s")
TRANSPORT_HEADER = struct.Struct("<IIQ")
TYPE = struct.Struct("<I")

INITIATION_BYTES = INITIATION.size
RESPONSE_BYTES = RESPONSE.size
COOKIE_REPLY_BYTES = COOKIE_REPLY.size
TRANSPORT_HEADER_BYTES = TRANSPORT_HEADER.size
TAG_BYTES = 16
TRANSPORT_OVERHEAD_BYTES = TRANSPORT_HEADER_BYTES + TAG_BYTES
PADDING_BYTES = 16  # §5.4.6: plaintext is padded to a multiple of this
MAC_BYTES = 16
MACS_BYTES = 2 * MAC_BYTES
NO_MAC = bytes(MAC_BYTES)
SHORTEST_MESSAGE_BYTES = TRANSPORT_OVERHEAD_BYTES  # a keepalive


class MessageType(IntEnum):
    """The first four bytes as one little-endian integer: the type and its three zero bytes."""

    INITIATION = 1
    RESPONSE = 2
    COOKIE_REPLY = 3
    TRANSPORT_DATA = 4


@dataclass(frozen=True, slots=True)
class HandshakeInitiation:
    """First message of a handshake, from the initiator."""

    sender_index: int
    ephemeral: bytes
    sealed_static: bytes
    sealed_timestamp: bytes
    mac1: bytes = NO_MAC
    mac2: bytes = NO_MAC

    def encode(self) -> bytes:
        return INITIATION.pack(
            MessageType.INITIATION,
            self.sender_index,
            self.ephemeral,
            self.sealed_static,
            self.sealed_timestamp,
            self.mac1,
            self.mac2,
        )

    @classmethod
    def decode(cls, message: bytes | memoryview) -> Self:
        """Raises Truncated, Malformed."""
        _expect(message, MessageType.INITIATION, INITIATION_BYTES)
        return cls(*INITIATION.unpack(message)[1:])


@dataclass(frozen=True, slots=True)
class HandshakeResponse:
    """Second message of a handshake, from the responder."""

    sender_index: int
    receiver_index: int
    ephemeral: bytes
    sealed_nothing: bytes
    mac1: bytes = NO_MAC
    mac2: bytes = NO_MAC

    def encode(self) -> bytes:
        return RESPONSE.pack(
            MessageType.RESPONSE,
            self.sender_index,
            self.receiver_index,
            self.ephemeral,
            self.sealed_nothing,
            self.mac1,
            self.mac2,
        )

    @classmethod
    def decode(cls, message: bytes | memoryview) -> Self:
        """Raises Truncated, Malformed."""
        _expect(message, MessageType.RESPONSE, RESPONSE_BYTES)
        return cls(*RESPONSE.unpack(message)[1:])


@dataclass(frozen=True, slots=True)
class CookieReply:
    """What a loaded endpoint answers to a handshake message without a valid mac2."""

    receiver_index: int
    nonce: bytes
    sealed_cookie: bytes

    def encode(self) -> bytes:
        return COOKIE_REPLY.pack(MessageType.COOKIE_REPLY, self.receiver_index, self.nonce, self.sealed_cookie)

    @classmethod
    def decode(cls, message: bytes | memoryview) -> Self:
        """Raises Truncated, Malformed."""
        _expect(message, MessageType.COOKIE_REPLY, COOKIE_REPLY_BYTES)
        return cls(*COOKIE_REPLY.unpack(message)[1:])


@dataclass(frozen=True, slots=True)
class TransportData:
    """One sealed IP packet, or a sealed nothing: a keepalive."""

    receiver_index: int
    counter: int
    sealed: bytes

    def encode(self) -> bytes:
        return TRANSPORT_HEADER.pack(MessageType.TRANSPORT_DATA, self.receiver_index, self.counter) + self.sealed

    @classmethod
    def decode(cls, message: bytes | memoryview) -> Self:
        """Raises Truncated, Malformed."""
        if len(message) < TRANSPORT_OVERHEAD_BYTES:
            raise Truncated(f"TransportData of {len(message)} bytes, wanted at least {TRANSPORT_OVERHEAD_BYTES}")
        kind, receiver_index, counter = TRANSPORT_HEADER.unpack_from(message)
        if kind != MessageType.TRANSPORT_DATA:
            raise Malformed(f"type {kind:#x} is not TransportData")
        return cls(receiver_index, counter, bytes(message[TRANSPORT_HEADER_BYTES:]))

    @property
    def is_keepalive(self) -> bool:
        return len(self.sealed) == TAG_BYTES


Message = HandshakeInitiation | HandshakeResponse | CookieReply | TransportData


def message_type(message: bytes | memoryview) -> MessageType | None:
    """Tell messages apart by their first four bytes; None for anything else, reserved bytes set included."""
    if len(message) < TYPE.size:
        return None
    (kind,) = TYPE.unpack_from(message)
    return MessageType(kind) if 1 <= kind <= 4 else None


def decode(message: bytes | memoryview) -> Message:
    """Read any of the four. Raises Truncated, Malformed, and UnsupportedVersion for an unknown type."""
    match message_type(message):
        case MessageType.INITIATION:
            return HandshakeInitiation.decode(message)
        case MessageType.RESPONSE:
            return HandshakeResponse.decode(message)
        case MessageType.COOKIE_REPLY:
            return CookieReply.decode(message)
        case MessageType.TRANSPORT_DATA:
            return TransportData.decode(message)
        case None:
            if len(message) < TYPE.size:
                raise Truncated(f"WireGuard message of {len(message)} bytes")
            raise UnsupportedVersion(f"WireGuard message of type {bytes(message[:4]).hex()}")


def padded_length(count: int) -> int:
    """`count` rounded up to the padding unit."""
    return -(-count // PADDING_BYTES) * PADDING_BYTES


def _expect(message: bytes | memoryview, kind: MessageType, size: int) -> None:
    if len(message) < size:
        raise Truncated(f"{kind.name} of {len(message)} bytes, wanted {size}")
    if len(message) > size:
        raise Malformed(f"{kind.name} of {len(message)} bytes, wanted {size}")
    if TYPE.unpack_from(message) != (kind,):
        raise Malformed(f"type {bytes(message[:4]).hex()} is not {kind.name}")

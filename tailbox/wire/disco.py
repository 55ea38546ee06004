"""Disco: how nodes probe paths to each other. An envelope around a sealed message.

```text
envelope        magic 54 53 f0 9f 92 ac · sender's disco key 32 · sealed: nonce 24, tag 16, ciphertext
message         type 1 · version 1 (0) · body
01 Ping         transaction 12 · node key 32 (absent from very old senders) · zero padding
02 Pong         transaction 12 · address where the ping came from 18
03 CallMeMaybe  n × address 18
address         IP 16 (IPv4 as ::ffff:a.b.c.d) · port 2, big-endian
```

Trailing bytes are tolerated, unknown types are for the reader to ignore. Sealing is no business of this module. Source:
tailscale disco/disco.go.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from tailbox.errors import Malformed, Truncated
from tailbox.wire.addresses import Endpoint
from tailbox.wire.keys import KEY_BYTES, DiscoPublicKey, NodePublicKey

MAGIC = b"TS\xf0\x9f\x92\xac"  # disco.go Magic: "TS💬"
NONCE_BYTES = 24
MIN_ENVELOPE_BYTES = len(MAGIC) + KEY_BYTES + NONCE_BYTES  # disco.go: the shortest thing recognised
TRANSACTION_BYTES = 12
VERSION = 0
MESSAGE_HEADER = struct.Struct(">BB")
ADDRESS = struct.Struct(">16sH")
_MAPPED_PREFIX = bytes(10) + b"\xff\xff"


class MessageType(IntEnum):
    """disco.go MessageType. Those after CALL_ME_MAYBE serve peer relays."""

    PING = 0x01
    PONG = 0x02
    CALL_ME_MAYBE = 0x03
    BIND_UDP_RELAY_ENDPOINT = 0x04
    BIND_UDP_RELAY_ENDPOINT_CHALLENGE = 0x05
    BIND_UDP_RELAY_ENDPOINT_ANSWER = 0x06
    CALL_ME_MAYBE_VIA = 0x07
    ALLOCATE_UDP_RELAY_ENDPOINT_REQUEST = 0x08
    ALLOCATE_UDP_RELAY_ENDPOINT_RESPONSE = 0x09


def is_disco(datagram: bytes | memoryview) -> bool:
    """Whether the datagram is an envelope. WireGuard and STUN never begin like this."""
    return len(datagram) >= MIN_ENVELOPE_BYTES and datagram[: len(MAGIC)] == MAGIC


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sealed a message, and the sealed message."""

    sender: DiscoPublicKey
    sealed: bytes

    def encode(self) -> bytes:
        return MAGIC + self.sender.raw + self.sealed

    @classmethod
    def decode(cls, datagram: bytes) -> Self:
        """Raises Truncated or Malformed."""
        if len(datagram) < MIN_ENVELOPE_BYTES:
            raise Truncated(f"disco envelope of {len(datagram)} bytes, wanted {MIN_ENVELOPE_BYTES}")
        if datagram[: len(MAGIC)] != MAGIC:
            raise Malformed("not a disco envelope")
        end_of_key = len(MAGIC) + KEY_BYTES
        return cls(DiscoPublicKey(datagram[len(MAGIC) : end_of_key]), datagram[end_of_key:])


@dataclass(frozen=True, slots=True)
class Ping:
    """Is this path open? `padding_bytes` of zeros make it as large as the path is to prove."""

    transaction: bytes
    node_key: NodePublicKey | None = None  # a hint: the sealing key alone is proven
    padding_bytes: int = 0

    def encode(self) -> bytes:
        node_key = self.node_key.raw if self.node_key is not None else b""
        return MESSAGE_HEADER.pack(MessageType.PING, VERSION) + self.transaction + node_key + bytes(self.padding_bytes)

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        """Raises Truncated. Padding is counted, whatever it consists of."""
        transaction = _transaction(body, "ping")
        rest = body[TRANSACTION_BYTES:]
        if len(rest) < KEY_BYTES:
            return cls(transaction, None, len(rest))
        return cls(transaction, NodePublicKey(rest[:KEY_BYTES]), len(rest) - KEY_BYTES)


@dataclass(frozen=True, slots=True)
class Pong:
    """The path is open, and the ping came from `source` as seen here."""

    transaction: bytes
    source: Endpoint

    def encode(self) -> bytes:
        return MESSAGE_HEADER.pack(MessageType.PONG, VERSION) + self.transaction + encode_address(self.source)

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        """Raises Truncated."""
        transaction = _transaction(body, "pong")
        if len(body) < TRANSACTION_BYTES + ADDRESS.size:
            raise Truncated(f"disco pong body of {len(body)} bytes, wanted {TRANSACTION_BYTES + ADDRESS.size}")
        return cls(transaction, decode_address(body, TRANSACTION_BYTES))


@dataclass(frozen=True, slots=True)
class CallMeMaybe:
    """Ping me at these addresses: I have pinged yours, so my NAT lets you in. Travels by relay only."""

    endpoints: tuple[Endpoint, ...] = ()

    def encode(self) -> bytes:
        addresses = b"".join(encode_address(endpoint) for endpoint in self.endpoints)
        return MESSAGE_HEADER.pack(MessageType.CALL_ME_MAYBE, VERSION) + addresses

    @classmethod
    def decode_body(cls, body: bytes) -> Self:
        """A length that is no multiple of an address means "no endpoints", as upstream reads it."""
        if len(body) % ADDRESS.size:
            return cls()
        return cls(tuple(decode_address(body, offset) for offset in range(0, len(body), ADDRESS.size)))


@dataclass(frozen=True, slots=True)
class UnknownMessage:
    """A type that this module does not read: to be ignored."""

    message_type: int
    version: int
    body: bytes

    def encode(self) -> bytes:
        return MESSAGE_HEADER.pack(self.message_type, self.version) + self.body


DiscoMessage = Ping | Pong | CallMeMaybe | UnknownMessage


def decode_message(plaintext: bytes) -> DiscoMessage:
    """Read what an envelope sealed. Raises Truncated."""
    if len(plaintext) < MESSAGE_HEADER.size:
        raise Truncated(f"disco message of {len(plaintext)} bytes, wanted {MESSAGE_HEADER.size}")
    message_type, version = MESSAGE_HEADER.unpack_from(plaintext)
    body = plaintext[MESSAGE_HEADER.size :]
    if message_type == MessageType.PING:
        return Ping.decode_body(body)
    if message_type == MessageType.PONG:
        return Pong.decode_body(body)
    if message_type == MessageType.CALL_ME_MAYBE:
        return CallMeMaybe.decode_body(body) if version == VERSION else CallMeMaybe()
    return UnknownMessage(message_type, version, body)


def encode_address(endpoint: Endpoint) -> bytes:
    """IP 16, IPv4 mapped into IPv6, and port 2."""
    packed = endpoint.ip.packed
    return ADDRESS.pack(packed if len(packed) == 16 else _MAPPED_PREFIX + packed, endpoint.port)


def decode_address(data: bytes, offset: int = 0) -> Endpoint:
    """The 18 bytes at `offset`, which the caller has checked to be there."""
    packed, port = ADDRESS.unpack_from(data, offset)
    if packed.startswith(_MAPPED_PREFIX):
        return Endpoint(IPv4Address(packed[12:]), port)
    return Endpoint(IPv6Address(packed), port)


def _transaction(body: bytes, name: str) -> bytes:
    if len(body) < TRANSACTION_BYTES:
        raise Truncated(f"disco {name} body of {len(body)} bytes, wanted {TRANSACTION_BYTES}")
    return body[:TRANSACTION_BYTES]

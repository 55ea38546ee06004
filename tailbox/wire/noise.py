"""The control channel's messages: two handshake messages, an error in clear text, records.

```text
initiation, 101 bytes          response, 51 bytes              error, before the session only
 0  u16 BE  version             0  u8     0x02                  0  u8     0x03
 2  u8      0x01                1  u16 BE 48                    1  u16 BE length
 3  u16 BE  96                  3  [32]   server ephemeral      3  UTF-8 text, in clear
 5  [32]    client ephemeral   35  [16]   tag
37  [48]    sealed static      record
85  [16]    tag                 0  u8     0x04
                                1  u16 BE ciphertext length: plaintext + 16, at most 4093
                                3  ciphertext
```

Source: tailscale control/controlbase/{messages,conn}.go.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from tailbox.errors import Malformed, Truncated

PROTOCOL_NAME = b"Noise_IK_25519_ChaChaPoly_BLAKE2s"
PROLOGUE_PREFIX = b"Tailscale Control Protocol v"
KEY_BYTES = 32
TAG_BYTES = 16

MAX_RECORD_BYTES = 4096  # controlbase conn.go maxMessageSize: header included
HEADER = struct.Struct(">BH")
MAX_CIPHERTEXT_BYTES = MAX_RECORD_BYTES - HEADER.size  # 4093
MAX_PLAINTEXT_BYTES = MAX_CIPHERTEXT_BYTES - TAG_BYTES  # 4077

_INITIATION = struct.Struct(">HBH32s48s16s")
_RESPONSE = struct.Struct(">BH32s16s")
INITIATION_BYTES = _INITIATION.size  # 101
RESPONSE_BYTES = _RESPONSE.size  # 51
_INITIATION_PAYLOAD_BYTES = 96
_RESPONSE_PAYLOAD_BYTES = 48


class MessageType(IntEnum):
    INITIATION = 1
    RESPONSE = 2
    ERROR = 3
    RECORD = 4


def prologue(version: int) -> bytes:
    """What both ends mix in first: the client's capability version in decimal."""
    return PROLOGUE_PREFIX + str(version).encode()


@dataclass(frozen=True, slots=True)
class Initiation:
    """The client's first message. The version is in clear; the prologue binds it."""

    version: int
    ephemeral: bytes
    sealed_static: bytes
    tag: bytes

    def encode(self) -> bytes:
        return _INITIATION.pack(
            self.version,
            MessageType.INITIATION,
            _INITIATION_PAYLOAD_BYTES,
            self.ephemeral,
            self.sealed_static,
            self.tag,
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises Truncated, Malformed."""
        if len(data) < INITIATION_BYTES:
            raise Truncated(f"initiation of {len(data)} bytes, wanted {INITIATION_BYTES}")
        if len(data) > INITIATION_BYTES:
            raise Malformed(f"initiation of {len(data)} bytes, wanted {INITIATION_BYTES}")
        version, kind, length, ephemeral, sealed_static, tag = _INITIATION.unpack(data)
        if kind != MessageType.INITIATION or length != _INITIATION_PAYLOAD_BYTES:
            raise Malformed(f"initiation of type {kind} and length {length}")
        return cls(version, ephemeral, sealed_static, tag)


@dataclass(frozen=True, slots=True)
class Response:
    """The server's answer."""

    ephemeral: bytes
    tag: bytes

    def encode(self) -> bytes:
        return _RESPONSE.pack(MessageType.RESPONSE, _RESPONSE_PAYLOAD_BYTES, self.ephemeral, self.tag)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises Truncated, Malformed."""
        if len(data) < RESPONSE_BYTES:
            raise Truncated(f"response of {len(data)} bytes, wanted {RESPONSE_BYTES}")
        if len(data) > RESPONSE_BYTES:
            raise Malformed(f"response of {len(data)} bytes, wanted {RESPONSE_BYTES}")
        kind, length, ephemeral, tag = _RESPONSE.unpack(data)
        if kind != MessageType.RESPONSE or length != _RESPONSE_PAYLOAD_BYTES:
            raise Malformed(f"response of type {kind} and length {length}")
        return cls(ephemeral, tag)


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """Why the server will not shake hands, in clear text and proven by nobody."""

    text: str

    def encode(self) -> bytes:
        body = self.text.encode()[:MAX_CIPHERTEXT_BYTES]
        return HEADER.pack(MessageType.ERROR, len(body)) + body


@dataclass(frozen=True, slots=True)
class HandshakeAnswer:
    """What the server's first bytes hold: an answer, and how many bytes it took."""

    message: Response | ErrorMessage
    consumed: int


def decode_answer(data: bytes) -> HandshakeAnswer | None:
    """The message at the start of a server's bytes; None until it is complete. Raises Malformed."""
    if len(data) < HEADER.size:
        return None
    kind, length = HEADER.unpack_from(data)
    end = HEADER.size + length
    if kind == MessageType.RESPONSE:
        if length != _RESPONSE_PAYLOAD_BYTES:
            raise Malformed(f"response of length {length}")
    elif kind != MessageType.ERROR or length > MAX_CIPHERTEXT_BYTES:
        raise Malformed(f"handshake answer of type {kind} and length {length}")
    if len(data) < end:
        return None
    if kind == MessageType.ERROR:
        return HandshakeAnswer(ErrorMessage(data[HEADER.size : end].decode(errors="replace")), end)
    return HandshakeAnswer(Response.decode(data[:end]), end)


def record_ciphertext_bytes(header: bytes | bytearray) -> int:
    """The ciphertext length that a record header announces. Raises Malformed for anything but a legal record."""
    kind, length = HEADER.unpack_from(header)
    if kind != MessageType.RECORD:
        raise Malformed(f"record of type {kind}")
    if not TAG_BYTES <= length <= MAX_CIPHERTEXT_BYTES:
        raise Malformed(f"record of {length} bytes")
    return int(length)

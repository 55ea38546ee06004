"""The early payload: optional plaintext of the server's before its HTTP/2 preface.

```text
ff ff ff 'T' 'S' | u32 BE length | JSON {"nodeKeyChallenge":"chalpub:<64 hex>"}
```

The magic is no HTTP/2 frame header: it would announce a frame of 16 MiB. Source: tailscale control/ts2021/conn.go,
tailcfg.EarlyNoise.
"""

from __future__ import annotations

import struct

import msgspec

from tailbox.errors import Malformed, RemoteProtocolError
from tailbox.wire.keys import ChallengePublicKey

MAGIC = b"\xff\xff\xffTS"
LENGTH = struct.Struct(">I")
HEADER_BYTES = len(MAGIC) + LENGTH.size  # 9, as many as an HTTP/2 frame header has
MAX_PAYLOAD_BYTES = 64 * 1024  # ours; upstream accepts 10 MiB, tailscale-rs 1024 bytes


class _EarlyNoise(msgspec.Struct, frozen=True, rename="camel"):
    node_key_challenge: str = ""


def encode_early_payload(challenge: ChallengePublicKey) -> bytes:
    """What a server may send first."""
    body = msgspec.json.encode(_EarlyNoise(challenge.text))
    return MAGIC + LENGTH.pack(len(body)) + body


class EarlyPayloadReader:
    """Takes the early payload, if there is one, off the start of the server's stream.

    An unreadable challenge is ignored, since nothing uses it; an absurd length is a violation and sets `error`.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_done = False
        self.challenge: ChallengePublicKey | None = None
        self.error: RemoteProtocolError | None = None

    def receive_bytes(self, data: bytes) -> bytes:
        """What belongs to HTTP/2."""
        if self._is_done:
            return data
        self._buffer += data
        if not self._starts_like_magic():
            return self._rest(0)
        if len(self._buffer) < HEADER_BYTES:
            return b""
        (length,) = LENGTH.unpack_from(self._buffer, len(MAGIC))
        if length > MAX_PAYLOAD_BYTES:
            self.error = RemoteProtocolError(f"early payload of {length} bytes")
            self._rest(0)
            return b""
        end = HEADER_BYTES + int(length)
        if len(self._buffer) < end:
            return b""
        self.challenge = _challenge_of(bytes(self._buffer[HEADER_BYTES:end]))
        return self._rest(end)

    def _starts_like_magic(self) -> bool:
        length = min(len(self._buffer), len(MAGIC))
        return self._buffer[:length] == MAGIC[:length]

    def _rest(self, start: int) -> bytes:
        rest = bytes(self._buffer[start:])
        self._buffer.clear()
        self._is_done = True
        return rest


def _challenge_of(body: bytes) -> ChallengePublicKey | None:
    try:
        return ChallengePublicKey.parse(msgspec.json.decode(body, type=_EarlyNoise).node_key_challenge)
    except (msgspec.DecodeError, Malformed):
        return None

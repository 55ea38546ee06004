"""Sealed records: a byte stream in each direction after the handshake.

A record holds at most 4077 plaintext bytes. The nonce is 4 zero bytes and a **big-endian** counter, one counter for
each direction (the Noise specification has it little-endian; upstream has not). There is no rekey: any failure ends the
connection. Source: tailscale control/controlbase/conn.go.
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tailbox.errors import LocalProtocolError, Malformed, RemoteProtocolError
from tailbox.wire.noise import HEADER, MAX_PLAINTEXT_BYTES, TAG_BYTES, MessageType, record_ciphertext_bytes

NONCE = struct.Struct(">4xQ")
LAST_COUNTER = 2**64 - 1  # conn.go invalidNonce: never used


class RecordSealer:
    """Plaintext in, records out."""

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._counter = 0

    def seal(self, plaintext: bytes | memoryview) -> bytes:
        """As many records as it takes; none for no bytes. Raises LocalProtocolError when the counter is used up."""
        view = memoryview(plaintext)
        parts: list[bytes] = []
        for start in range(0, len(view), MAX_PLAINTEXT_BYTES):
            piece = view[start : start + MAX_PLAINTEXT_BYTES]
            if self._counter == LAST_COUNTER:
                raise LocalProtocolError("control channel used up its nonces")
            parts.append(HEADER.pack(MessageType.RECORD, len(piece) + TAG_BYTES))
            parts.append(self._cipher.encrypt(NONCE.pack(self._counter), piece, None))
            self._counter += 1
        return b"".join(parts)


class RecordOpener:
    """Records in, plaintext out. After a violation `error` is set and later bytes are ignored."""

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._counter = 0
        self._buffer = bytearray()
        self.error: RemoteProtocolError | None = None

    def receive_bytes(self, data: bytes) -> bytes:
        """The plaintext of all records that `data` completes, up to the first bad one."""
        if self.error is not None:
            return b""
        self._buffer += data
        opened: list[bytes] = []
        start = 0
        try:
            while len(self._buffer) - start >= HEADER.size:
                end = start + HEADER.size + record_ciphertext_bytes(self._buffer[start : start + HEADER.size])
                if end > len(self._buffer):
                    break
                opened.append(self._open(bytes(self._buffer[start + HEADER.size : end])))
                start = end
        except Malformed as error:
            self.error = RemoteProtocolError(str(error))
        except InvalidTag:
            self.error = RemoteProtocolError("record does not decrypt")
        del self._buffer[:start]
        return b"".join(opened)

    def _open(self, ciphertext: bytes) -> bytes:
        if self._counter == LAST_COUNTER:
            raise Malformed("record beyond the last nonce")
        plaintext = self._cipher.decrypt(NONCE.pack(self._counter), ciphertext, None)
        self._counter += 1
        return plaintext

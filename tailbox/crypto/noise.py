"""The symmetric state of a Noise handshake: chaining key, hash, and the key of the moment.

Both users of Noise_IK with 25519, ChaChaPoly and BLAKE2s share it: the control channel and WireGuard. The handshake
nonce is always zero, since both protocols use each key once. Source: noiseprotocol.org revision 34, §5.2.
"""

from __future__ import annotations

from tailbox.crypto import aead
from tailbox.crypto.kdf import blake2s, hkdf2, hkdf3

ZERO_NONCE = bytes(aead.NONCE_BYTES)


class SymmetricState:
    """`h` and `ck` of the specification, and the key that the last mixing gave."""

    __slots__ = ("_key", "chaining_key", "handshake_hash")

    def __init__(self, protocol_name: bytes) -> None:
        """Start from a name longer than 32 bytes, which is hashed."""
        self.chaining_key = blake2s(protocol_name)
        self.handshake_hash = self.chaining_key
        self._key = b""

    def mix_hash(self, data: bytes) -> None:
        self.handshake_hash = blake2s(self.handshake_hash, data)

    def mix_key(self, material: bytes) -> None:
        self.chaining_key, self._key = hkdf2(self.chaining_key, material)

    def mix_chaining_key(self, material: bytes) -> None:
        """WireGuard's mixing of ephemeral keys: the chaining key alone (paper §5.4.2)."""
        self.chaining_key, _ = hkdf2(self.chaining_key, material)

    def mix_key_and_hash(self, material: bytes) -> None:
        """A pre-shared key: chaining key, hash and key at once."""
        self.chaining_key, extra, self._key = hkdf3(self.chaining_key, material)
        self.mix_hash(extra)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        sealed = aead.seal(self._key, ZERO_NONCE, plaintext, self.handshake_hash)
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed: bytes) -> bytes:
        """Raises AuthenticationError, and leaves the state as it was."""
        plaintext = aead.open_sealed(self._key, ZERO_NONCE, sealed, self.handshake_hash)
        self.mix_hash(sealed)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The transport keys: initiator to responder, responder to initiator."""
        return hkdf2(self.chaining_key, b"")

"""NaCl boxes: X25519, XSalsa20, Poly1305. For disco messages and the relay's login, never for data.

A box travels as nonce (24 B) followed by tag (16 B) and ciphertext. Source: nacl.cr.yp.to/box.html; tailscale
types/key/node.go, disco.go.
"""

from __future__ import annotations

from nacl.bindings import (
    crypto_box_afternm,
    crypto_box_beforenm,
    crypto_box_open_afternm,
)
from nacl.exceptions import CryptoError

from tailbox.errors import AuthenticationError
from tailbox.randomness import RandomSource
from tailbox.wire.keys import PrivateKey, PublicKey

NONCE_BYTES = 24
TAG_BYTES = 16
OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES


class SharedBox:
    """The key that two key pairs agree on, computed once."""

    __slots__ = ("_key",)

    def __init__(self, private: PrivateKey, public: PublicKey) -> None:
        """Raises AuthenticationError for a public key of low order."""
        try:
            self._key = crypto_box_beforenm(public.raw, private.raw)
        except CryptoError:
            raise AuthenticationError from None

    def seal(self, plaintext: bytes, random: RandomSource) -> bytes:
        """Nonce, tag, ciphertext."""
        nonce = random.bytes(NONCE_BYTES)
        return nonce + crypto_box_afternm(plaintext, nonce, self._key)

    def open(self, sealed: bytes) -> bytes:
        """Raises AuthenticationError, for short input too."""
        if len(sealed) < OVERHEAD_BYTES:
            raise AuthenticationError
        try:
            return crypto_box_open_afternm(sealed[NONCE_BYTES:], sealed[:NONCE_BYTES], self._key)
        except CryptoError:
            raise AuthenticationError from None

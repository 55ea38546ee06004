"""Sealing and opening disco messages, with the shared key of each peer computed once."""

from __future__ import annotations

from tailbox.crypto.box import SharedBox
from tailbox.crypto.x25519 import disco_public
from tailbox.randomness import RandomSource
from tailbox.wire.disco import DiscoMessage, Envelope
from tailbox.wire.keys import DiscoPrivateKey, DiscoPublicKey


class DiscoSeal:
    """Our disco identity. Holds a box for every disco key in use; `forget` drops one."""

    def __init__(self, private_key: DiscoPrivateKey, random: RandomSource) -> None:
        self._private_key = private_key
        self._random = random
        self._boxes: dict[DiscoPublicKey, SharedBox] = {}
        self.public_key = disco_public(private_key)

    def seal(self, message: DiscoMessage, recipient: DiscoPublicKey) -> bytes:
        """The whole datagram. Raises AuthenticationError for keys of low order."""
        return Envelope(self.public_key, self._box(recipient).seal(message.encode(), self._random)).encode()

    def open(self, envelope: Envelope) -> bytes:
        """The plaintext message. Raises AuthenticationError."""
        return self._box(envelope.sender).open(envelope.sealed)

    def forget(self, peer: DiscoPublicKey) -> None:
        self._boxes.pop(peer, None)

    def _box(self, peer: DiscoPublicKey) -> SharedBox:
        box = self._boxes.get(peer)
        if box is None:
            box = self._boxes[peer] = SharedBox(self._private_key, peer)
        return box

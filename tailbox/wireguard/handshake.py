"""The handshake Noise_IKpsk2 in two messages: who they are, in secret, and the keys of a session.

Pure steps over bytes; timers, indices and MACs belong to the peer. Source: WireGuard paper §5.4.1 to §5.4.5.

```text
initiator                                                        responder
   Initiation: ephemeral, {static public key}, {timestamp}  ─→
                                         ←─  Response: ephemeral, {} under the pre-shared key
   first transport message: proves that the initiator has the keys  ─→
```
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from tailbox.crypto import x25519
from tailbox.crypto.kdf import blake2s
from tailbox.crypto.noise import SymmetricState
from tailbox.errors import AuthenticationError
from tailbox.wire.keys import NodePrivateKey, NodePublicKey
from tailbox.wire.wireguard import HandshakeInitiation, HandshakeResponse

CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
LABEL_MAC1 = b"mac1----"
LABEL_COOKIE = b"cookie--"
NO_PRESHARED_KEY = bytes(32)


class Identity:
    """Our static key pair."""

    __slots__ = ("private", "public")

    def __init__(self, private: NodePrivateKey) -> None:
        self.private = private.raw
        self.public = x25519.node_public(private)

    def shared_with(self, peer: NodePublicKey) -> bytes:
        """The static–static secret. Raises AuthenticationError for points of low order."""
        return x25519.exchange(self.private, peer.raw)

    def __repr__(self) -> str:
        return f"Identity({self.public.short()})"


@dataclass(frozen=True, slots=True)
class TransportKeys:
    """The outcome of a handshake, from one end's view."""

    sending: bytes = field(repr=False)
    receiving: bytes = field(repr=False)
    local_index: int
    remote_index: int


class PendingInitiation:
    """Our initiation that waits for its response. Any number of bad responses leave it as it was."""

    __slots__ = ("_ephemeral", "_identity", "_state", "local_index", "message")

    def __init__(
        self,
        identity: Identity,
        peer: NodePublicKey,
        *,
        static_shared: bytes,
        ephemeral: bytes,
        local_index: int,
        timestamp: bytes,
    ) -> None:
        """`ephemeral`: 32 fresh random bytes. Raises AuthenticationError for a peer key of low order."""
        self._identity = identity
        self._ephemeral = ephemeral
        self.local_index = local_index
        self._state = state = _begin(peer)
        ephemeral_public = x25519.public_bytes(ephemeral)
        state.mix_chaining_key(ephemeral_public)
        state.mix_hash(ephemeral_public)
        state.mix_key(x25519.exchange(ephemeral, peer.raw))
        sealed_static = state.encrypt_and_hash(identity.public.raw)
        state.mix_key(static_shared)
        sealed_timestamp = state.encrypt_and_hash(timestamp)
        self.message = HandshakeInitiation(local_index, ephemeral_public, sealed_static, sealed_timestamp)

    def accept(self, response: HandshakeResponse, preshared_key: bytes) -> TransportKeys:
        """The session's keys. Raises AuthenticationError."""
        state = copy.copy(self._state)
        state.mix_chaining_key(response.ephemeral)
        state.mix_hash(response.ephemeral)
        state.mix_chaining_key(x25519.exchange(self._ephemeral, response.ephemeral))
        state.mix_chaining_key(x25519.exchange(self._identity.private, response.ephemeral))
        state.mix_key_and_hash(preshared_key)
        state.decrypt_and_hash(response.sealed_nothing)
        sending, receiving = state.split()
        return TransportKeys(sending, receiving, self.local_index, response.sender_index)


class ReceivedInitiation:
    """A peer's initiation, opened step by step, so that strangers cost one Diffie–Hellman and no more."""

    __slots__ = ("_message", "_state", "claimed_peer")

    def __init__(self, identity: Identity, message: HandshakeInitiation) -> None:
        """Learn who it claims to come from. Raises AuthenticationError."""
        self._message = message
        self._state = state = _begin(identity.public)
        state.mix_chaining_key(message.ephemeral)
        state.mix_hash(message.ephemeral)
        state.mix_key(x25519.exchange(identity.private, message.ephemeral))
        self.claimed_peer = NodePublicKey(state.decrypt_and_hash(message.sealed_static))

    def authenticate(self, static_shared: bytes) -> bytes:
        """The timestamp, which proves the claim. Call once. Raises AuthenticationError."""
        self._state.mix_key(static_shared)
        return self._state.decrypt_and_hash(self._message.sealed_timestamp)

    def respond(
        self, *, ephemeral: bytes, local_index: int, preshared_key: bytes
    ) -> tuple[HandshakeResponse, TransportKeys]:
        """The answer and the session's keys. Call once, after `authenticate`. Raises AuthenticationError."""
        state, message = self._state, self._message
        ephemeral_public = x25519.public_bytes(ephemeral)
        state.mix_chaining_key(ephemeral_public)
        state.mix_hash(ephemeral_public)
        state.mix_chaining_key(x25519.exchange(ephemeral, message.ephemeral))
        state.mix_chaining_key(x25519.exchange(ephemeral, self.claimed_peer.raw))
        state.mix_key_and_hash(preshared_key)
        sealed_nothing = state.encrypt_and_hash(b"")
        receiving, sending = state.split()
        response = HandshakeResponse(local_index, message.sender_index, ephemeral_public, sealed_nothing)
        return response, TransportKeys(sending, receiving, local_index, message.sender_index)


def _begin(responder: NodePublicKey) -> SymmetricState:
    """Both ends start from the protocol's names and the responder's public key."""
    if responder.is_zero:
        raise AuthenticationError
    state = SymmetricState(CONSTRUCTION)
    state.mix_hash(IDENTIFIER)
    state.mix_hash(responder.raw)
    return state


def mac1_key(receiver: NodePublicKey) -> bytes:
    """What mac1 of messages to `receiver` is keyed with (§5.4.4)."""
    return blake2s(LABEL_MAC1, receiver.raw)


def cookie_key(sender: NodePublicKey) -> bytes:
    """What cookie replies from `sender` are sealed with (§5.4.7)."""
    return blake2s(LABEL_COOKIE, sender.raw)

"""The control channel's Noise handshake: IK, empty payloads, version in the prologue.

Tokens: initiation `e, es, s, ss`; response `e, ee, se`. Pre-message: the responder's static key. Split: the first key
is client → server. Source: tailscale control/controlbase/handshake.go; noiseprotocol.org revision 34 §7.5.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tailbox.crypto import x25519
from tailbox.crypto.noise import SymmetricState
from tailbox.errors import AuthenticationError
from tailbox.randomness import RandomSource
from tailbox.wire.keys import KEY_BYTES, MachinePrivateKey, MachinePublicKey
from tailbox.wire.noise import PROTOCOL_NAME, Initiation, Response, prologue


@dataclass(frozen=True, slots=True)
class Session:
    """A completed handshake."""

    peer: MachinePublicKey  # proven
    version: int  # the client's capability version, agreed upon through the prologue
    sending_key: bytes = field(repr=False)
    receiving_key: bytes = field(repr=False)
    handshake_hash: bytes = field(repr=False)


class Initiator:
    """The client's end. `initiation` goes out, the response comes back to `finish`."""

    def __init__(
        self,
        private_key: MachinePrivateKey,
        server_key: MachinePublicKey,
        *,
        version: int,
        random: RandomSource,
    ) -> None:
        """Raises AuthenticationError if the server key is a point of low order."""
        self._private_key = private_key
        self._server_key = server_key
        self._version = version
        self._ephemeral = random.bytes(KEY_BYTES)
        self._state = _start(server_key, version)
        self.initiation = self._initiate().encode()

    def finish(self, response: Response) -> Session:
        """Raises AuthenticationError: a wrong server key, a wrong version on the way, or damage."""
        state = self._state
        state.mix_hash(response.ephemeral)
        state.mix_key(x25519.exchange(self._ephemeral, response.ephemeral))
        state.mix_key(x25519.exchange(self._private_key.raw, response.ephemeral))
        state.decrypt_and_hash(response.tag)
        to_server, to_client = state.split()
        return Session(self._server_key, self._version, to_server, to_client, state.handshake_hash)

    def _initiate(self) -> Initiation:
        state = self._state
        ephemeral = x25519.public_bytes(self._ephemeral)
        state.mix_hash(ephemeral)
        state.mix_key(x25519.exchange(self._ephemeral, self._server_key.raw))
        sealed_static = state.encrypt_and_hash(x25519.machine_public(self._private_key).raw)
        state.mix_key(x25519.exchange(self._private_key.raw, self._server_key.raw))
        return Initiation(self._version, ephemeral, sealed_static, state.encrypt_and_hash(b""))


def respond(
    private_key: MachinePrivateKey, initiation: Initiation, *, random: RandomSource
) -> tuple[Response, Session]:
    """The server's end. Raises AuthenticationError, having told the client nothing."""
    state = _start(x25519.machine_public(private_key), initiation.version)
    state.mix_hash(initiation.ephemeral)
    state.mix_key(x25519.exchange(private_key.raw, initiation.ephemeral))
    client = state.decrypt_and_hash(initiation.sealed_static)
    if not any(client):
        raise AuthenticationError
    state.mix_key(x25519.exchange(private_key.raw, client))
    state.decrypt_and_hash(initiation.tag)

    ephemeral = random.bytes(KEY_BYTES)
    ephemeral_public = x25519.public_bytes(ephemeral)
    state.mix_hash(ephemeral_public)
    state.mix_key(x25519.exchange(ephemeral, initiation.ephemeral))
    state.mix_key(x25519.exchange(ephemeral, client))
    response = Response(ephemeral_public, state.encrypt_and_hash(b""))
    to_server, to_client = state.split()
    return response, Session(MachinePublicKey(client), initiation.version, to_client, to_server, state.handshake_hash)


def _start(server_key: MachinePublicKey, version: int) -> SymmetricState:
    state = SymmetricState(PROTOCOL_NAME)
    state.mix_hash(prologue(version))
    state.mix_hash(server_key.raw)
    return state

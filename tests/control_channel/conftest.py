"""Two ends of a channel with a wire between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from tailbox.control_channel.channel import ChannelEvent, ClientChannel, HandshakeDone, ServerChannel
from tailbox.control_channel.handshake import Initiator, respond
from tailbox.control_channel.http2 import Http2Event
from tailbox.crypto.x25519 import machine_public
from tailbox.randomness import SeededRandom
from tailbox.wire.keys import ChallengePublicKey, MachinePrivateKey
from tailbox.wire.noise import Initiation

SERVER = MachinePrivateKey(b"\x11" * 32)
MACHINE = MachinePrivateKey(b"\x22" * 32)
Chunks = Callable[[bytes], Iterable[bytes]]


def whole(data: bytes) -> Iterator[bytes]:
    yield data


class Wire:
    """A shaken-hands pair; `exchange` moves bytes both ways until both are silent."""

    def __init__(self, *, challenge: ChallengePublicKey | None = None, chunks: Chunks = whole) -> None:
        random = SeededRandom("wire")
        initiator = Initiator(MACHINE, machine_public(SERVER), version=145, random=random)
        response, session = respond(SERVER, Initiation.decode(initiator.initiation), random=random)
        self.client = ClientChannel(initiator)
        self.server = ServerChannel(session, challenge=challenge)
        self.at_client: list[ChannelEvent] = []
        self.at_server: list[Http2Event] = []
        self._chunks = chunks
        self._to_client = response.encode()

    def exchange(self) -> None:
        while True:
            to_client = self._to_client + self.server.bytes_to_send()
            self._to_client = b""
            for chunk in self._chunks(to_client):
                self.at_client += self.client.receive_bytes(chunk)
            to_server = self.client.bytes_to_send()
            for chunk in self._chunks(to_server):
                self.at_server += self.server.receive_bytes(chunk)
            if not to_client and not to_server:
                return


@pytest.fixture
def wire() -> Wire:
    pair = Wire()
    pair.exchange()
    assert isinstance(pair.at_client.pop(0), HandshakeDone)
    assert pair.at_client == pair.at_server == []
    return pair


@pytest.fixture
def make_wire() -> Callable[..., Wire]:
    return Wire

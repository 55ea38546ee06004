"""The Noise handshake against known answers (control protocol notes §3.4) and against itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.control_channel.handshake import Initiator, respond
from tailbox.crypto.x25519 import machine_public
from tailbox.errors import AuthenticationError
from tailbox.randomness import SeededRandom
from tailbox.wire.keys import MachinePrivateKey, MachinePublicKey
from tailbox.wire.noise import Initiation, Response

SERVER = MachinePrivateKey(b"\x11" * 32)
MACHINE = MachinePrivateKey(b"\x22" * 32)
SERVER_PUBLIC = "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13"
MACHINE_PUBLIC = "0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20"
INITIATION = (
    "00910100607b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14b903b541e3810f9a9f788541"
    "f1d8f2ec482568e39b9f0f56a9f4a7a56450f31a9dc60bcb4e75254359f9460a6bc3abd2a01b3a2deff662afe0b9497bec"
    "b6a113"
)
RESPONSE = "020030ff2ee45601ec1b67310c7790404585ae697331eee1c1f8cf2419731c1fff3e6bb724869747b9edde7346ebd00e8c83be"
TO_SERVER = "97bb1ff1b3c0030ed1e8f7d54ad3728ad885ba618751ae88d5a752c3c5f31027"
TO_CLIENT = "67e4e0ae881d024a7aef742740ca594e486443a61ac5362959c6b1350e8e5ab0"
HANDSHAKE_HASH = "06c59e2c9cf61b04919795c127f29cd25363c67a77723b7299ba3118c8f04886"


class FixedRandom:
    """Gives one byte over and over."""

    def __init__(self, byte: int) -> None:
        self._byte = byte

    def bytes(self, count: int) -> bytes:
        return bytes([self._byte]) * count

    def uniform(self, low: float, high: float) -> float:
        return low


def initiator(*, server: MachinePrivateKey = SERVER, version: int = 145) -> Initiator:
    return Initiator(MACHINE, machine_public(server), version=version, random=FixedRandom(0x33))


def test_both_roles_give_the_known_answers() -> None:
    assert (machine_public(SERVER).raw.hex(), machine_public(MACHINE).raw.hex()) == (SERVER_PUBLIC, MACHINE_PUBLIC)
    client = initiator()
    assert client.initiation.hex() == INITIATION
    response, at_server = respond(SERVER, Initiation.decode(client.initiation), random=FixedRandom(0x44))
    assert response.encode().hex() == RESPONSE
    at_client = client.finish(response)
    assert (at_client.sending_key.hex(), at_client.receiving_key.hex()) == (TO_SERVER, TO_CLIENT)
    assert (at_server.sending_key.hex(), at_server.receiving_key.hex()) == (TO_CLIENT, TO_SERVER)
    assert at_client.handshake_hash.hex() == at_server.handshake_hash.hex() == HANDSHAKE_HASH
    assert (at_server.peer, at_server.version) == (machine_public(MACHINE), 145)
    assert at_client.peer == machine_public(SERVER)


@settings(max_examples=20)
@given(st.integers(), st.integers(0, 65535))
def test_any_two_keys_and_any_version_agree(seed: int, version: int) -> None:
    random = SeededRandom(seed)
    server, machine = MachinePrivateKey(random.bytes(32)), MachinePrivateKey(random.bytes(32))
    client = Initiator(machine, machine_public(server), version=version, random=random)
    response, at_server = respond(server, Initiation.decode(client.initiation), random=random)
    at_client = client.finish(Response.decode(response.encode()))
    assert (at_server.peer, at_server.version) == (machine_public(machine), version)
    assert at_client.sending_key == at_server.receiving_key
    assert at_client.receiving_key == at_server.sending_key


def test_another_servers_key_is_noticed_by_the_server() -> None:
    client = initiator(server=MachinePrivateKey(b"\x55" * 32))
    with pytest.raises(AuthenticationError):
        respond(SERVER, Initiation.decode(client.initiation), random=FixedRandom(0x44))


@pytest.mark.parametrize("position", [0, 1, *range(5, 101, 8), 100])
def test_any_changed_byte_of_the_initiation_is_noticed(position: int) -> None:
    damaged = bytearray(initiator().initiation)
    damaged[position] ^= 1
    with pytest.raises(AuthenticationError):
        respond(SERVER, Initiation.decode(bytes(damaged)), random=FixedRandom(0x44))


@pytest.mark.parametrize("position", [*range(3, 51, 5), 50])
def test_any_changed_byte_of_the_response_is_noticed(position: int) -> None:
    client = initiator()
    response, _ = respond(SERVER, Initiation.decode(client.initiation), random=FixedRandom(0x44))
    damaged = bytearray(response.encode())
    damaged[position] ^= 1
    with pytest.raises(AuthenticationError):
        client.finish(Response.decode(bytes(damaged)))


def test_points_of_low_order_are_refused() -> None:
    zero = bytes(32)
    with pytest.raises(AuthenticationError):
        respond(SERVER, Initiation(145, zero, bytes(48), bytes(16)), random=FixedRandom(0x44))
    with pytest.raises(AuthenticationError):
        initiator().finish(Response(zero, bytes(16)))
    with pytest.raises(AuthenticationError):
        Initiator(MACHINE, MachinePublicKey(zero), version=145, random=FixedRandom(0x33))


def test_a_session_prints_no_key() -> None:
    _, session = respond(SERVER, Initiation.decode(initiator().initiation), random=FixedRandom(0x44))
    shown = repr(session)
    assert TO_SERVER not in shown
    assert repr(session.sending_key) not in shown

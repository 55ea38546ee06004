from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.crypto.x25519 import disco_public, exchange, generate, machine_public, node_public, public_bytes
from tailbox.errors import AuthenticationError
from tailbox.randomness import SeededRandom
from tailbox.wire.keys import DiscoPrivateKey, DiscoPublicKey, MachinePrivateKey, NodePrivateKey, NodePublicKey

# RFC 7748 §6.1.
ALICE_PRIVATE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB_PRIVATE = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


@pytest.mark.parametrize(("private", "public"), [(ALICE_PRIVATE, ALICE_PUBLIC), (BOB_PRIVATE, BOB_PUBLIC)])
def test_public_keys_of_rfc_7748(private: bytes, public: bytes) -> None:
    assert public_bytes(private) == public
    assert node_public(NodePrivateKey(private)).raw == public  # clamping at construction changes nothing


@pytest.mark.parametrize(("private", "public"), [(ALICE_PRIVATE, BOB_PUBLIC), (BOB_PRIVATE, ALICE_PUBLIC)])
def test_the_shared_secret_of_rfc_7748(private: bytes, public: bytes) -> None:
    assert exchange(private, public) == SHARED


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_both_ends_agree(one: bytes, other: bytes) -> None:
    assert exchange(one, public_bytes(other)) == exchange(other, public_bytes(one))


@pytest.mark.parametrize("low", [
    bytes(32),
    (1).to_bytes(32, "little"),
    ((1 << 255) - 20).to_bytes(32, "little"),  # p − 1
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),  # order 8
])  # fmt: skip
def test_points_of_low_order_agree_on_nothing(low: bytes) -> None:
    with pytest.raises(AuthenticationError):
        exchange(ALICE_PRIVATE, low)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_public_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(AuthenticationError):
        exchange(ALICE_PRIVATE, bytes(length))


def test_keys_are_of_the_kind_asked_for() -> None:
    random = SeededRandom("keys")
    assert isinstance(generate(MachinePrivateKey, random), MachinePrivateKey)
    assert machine_public(MachinePrivateKey(ALICE_PRIVATE)).text == f"mkey:{ALICE_PUBLIC.hex()}"
    assert disco_public(DiscoPrivateKey(ALICE_PRIVATE)) == DiscoPublicKey(ALICE_PUBLIC) != NodePublicKey(ALICE_PUBLIC)


def test_keys_come_from_the_given_randomness() -> None:
    assert generate(NodePrivateKey, SeededRandom(1)) == generate(NodePrivateKey, SeededRandom(1))
    assert generate(NodePrivateKey, SeededRandom(1)) != generate(NodePrivateKey, SeededRandom(2))

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.crypto.kdf import blake2s, hkdf2, hkdf3
from tailbox.crypto.noise import SymmetricState
from tailbox.errors import AuthenticationError

# WireGuard paper §5.4; the constants are those of wireguard-go device/noise-protocol.go, as its init() computes them.
CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
INITIAL_CHAIN_KEY = bytes.fromhex("60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36")
INITIAL_HASH = bytes.fromhex("2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3")


def keyed() -> SymmetricState:
    state = SymmetricState(CONSTRUCTION)
    state.mix_key(b"secret")
    return state


def test_a_state_starts_as_wireguards_does() -> None:
    state = SymmetricState(CONSTRUCTION)
    state.mix_hash(IDENTIFIER)
    assert (state.chaining_key, state.handshake_hash) == (INITIAL_CHAIN_KEY, INITIAL_HASH)


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4))
def test_two_ends_stay_equal_and_read_each_other(messages: list[bytes]) -> None:
    sender, receiver = keyed(), keyed()
    for message in messages:
        assert receiver.decrypt_and_hash(sender.encrypt_and_hash(message)) == message
        assert receiver.handshake_hash == sender.handshake_hash
        sender.mix_key(message)
        receiver.mix_key(message)
    assert sender.split() == receiver.split()


def test_a_refused_message_leaves_the_state_as_it_was() -> None:
    sender, receiver = keyed(), keyed()
    sealed = sender.encrypt_and_hash(b"hello")
    before = receiver.handshake_hash, receiver.chaining_key
    for index in range(len(sealed)):
        with pytest.raises(AuthenticationError):
            receiver.decrypt_and_hash(sealed[:index] + bytes((sealed[index] ^ 1,)) + sealed[index + 1 :])
    assert (receiver.handshake_hash, receiver.chaining_key) == before
    assert receiver.decrypt_and_hash(sealed) == b"hello"


def test_the_hash_binds_what_was_said_before() -> None:
    sender, receiver = keyed(), keyed()
    sender.mix_hash(b"prologue")
    with pytest.raises(AuthenticationError):
        receiver.decrypt_and_hash(sender.encrypt_and_hash(b"hello"))


def test_each_mixing_is_the_one_of_the_specification() -> None:
    # Noise revision 34 §5.2, and WireGuard's mixing of ephemeral keys, which sets no key.
    start = blake2s(CONSTRUCTION)
    chained, preshared, plain = (SymmetricState(CONSTRUCTION) for _ in range(3))
    chained.mix_chaining_key(b"ephemeral")
    assert (chained.chaining_key, chained.handshake_hash) == (hkdf2(start, b"ephemeral")[0], start)
    preshared.mix_key_and_hash(b"psk")
    expected_key, extra, _ = hkdf3(start, b"psk")
    assert (preshared.chaining_key, preshared.handshake_hash) == (expected_key, blake2s(start + extra))
    plain.mix_key(b"secret")
    assert plain.chaining_key == hkdf2(start, b"secret")[0]
    assert plain.split() == hkdf2(plain.chaining_key, b"")

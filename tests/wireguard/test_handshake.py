"""The handshake: against a computation from the paper, and both ends against each other."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.errors import AuthenticationError
from tailbox.wire.keys import NodePrivateKey, NodePublicKey
from tailbox.wire.wireguard import HandshakeInitiation, HandshakeResponse
from tailbox.wireguard.cookies import CookieJar
from tailbox.wireguard.handshake import Identity, PendingInitiation, ReceivedInitiation

INITIATOR, RESPONDER = bytes([0x11] * 32), bytes([0x22] * 32)
INITIATOR_EPHEMERAL, RESPONDER_EPHEMERAL = bytes([0x33] * 32), bytes([0x44] * 32)
PRESHARED_KEY = bytes([0x55] * 32)
TIMESTAMP = bytes.fromhex("400000006553f10a0f000000")


# The paper's functions (§5.4), on hashlib, hmac and cryptography alone; nothing below is shared with the package.


def paper_hash(data: bytes) -> bytes:
    return hashlib.blake2s(data).digest()


def paper_kdf(key: bytes, data: bytes, count: int) -> list[bytes]:
    secret = hmac.new(key, data, hashlib.blake2s).digest()
    outputs = [b""]
    for number in range(1, count + 1):
        outputs.append(hmac.new(secret, outputs[-1] + bytes([number]), hashlib.blake2s).digest())
    return outputs[1:]


def paper_dh(private: bytes, public: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


def paper_public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def paper_aead(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(bytes(12), plaintext, associated)


def paper_mac1(receiver_public: bytes, body: bytes) -> bytes:
    key = paper_hash(b"mac1----" + receiver_public)
    return hashlib.blake2s(body, key=key, digest_size=16).digest()


def paper_handshake() -> tuple[bytes, bytes, bytes, bytes]:
    """§5.4.2 and §5.4.3, line by line: both messages with mac1, and the two transport keys."""
    s_i, s_r = paper_public(INITIATOR), paper_public(RESPONDER)
    e_i, e_r = paper_public(INITIATOR_EPHEMERAL), paper_public(RESPONDER_EPHEMERAL)
    c = paper_hash(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
    h = paper_hash(c + b"WireGuard v1 zx2c4 Jason@zx2c4.com")
    h = paper_hash(h + s_r)
    (c,) = paper_kdf(c, e_i, 1)
    h = paper_hash(h + e_i)
    c, k = paper_kdf(c, paper_dh(INITIATOR_EPHEMERAL, s_r), 2)
    sealed_static = paper_aead(k, s_i, h)
    h = paper_hash(h + sealed_static)
    c, k = paper_kdf(c, paper_dh(INITIATOR, s_r), 2)
    sealed_timestamp = paper_aead(k, TIMESTAMP, h)
    h = paper_hash(h + sealed_timestamp)
    first = b"\1\0\0\0" + (7).to_bytes(4, "little") + e_i + sealed_static + sealed_timestamp
    first += paper_mac1(s_r, first) + bytes(16)

    (c,) = paper_kdf(c, e_r, 1)
    h = paper_hash(h + e_r)
    (c,) = paper_kdf(c, paper_dh(RESPONDER_EPHEMERAL, e_i), 1)
    (c,) = paper_kdf(c, paper_dh(RESPONDER_EPHEMERAL, s_i), 1)
    c, t, k = paper_kdf(c, PRESHARED_KEY, 3)
    h = paper_hash(h + t)
    sealed_nothing = paper_aead(k, b"", h)
    second = b"\2\0\0\0" + (9).to_bytes(4, "little") + (7).to_bytes(4, "little") + e_r + sealed_nothing
    second += paper_mac1(s_i, second) + bytes(16)
    to_responder, to_initiator = paper_kdf(c, b"", 2)
    return first, second, to_responder, to_initiator


def identity(private: bytes) -> Identity:
    return Identity(NodePrivateKey(private))


def begin(**changed: bytes) -> PendingInitiation:
    initiator, responder = identity(INITIATOR), identity(RESPONDER)
    return PendingInitiation(
        initiator,
        responder.public,
        static_shared=initiator.shared_with(responder.public),
        ephemeral=changed.get("ephemeral", INITIATOR_EPHEMERAL),
        local_index=7,
        timestamp=TIMESTAMP,
    )


def receive(message: HandshakeInitiation) -> ReceivedInitiation:
    responder = identity(RESPONDER)
    received = ReceivedInitiation(responder, message)
    assert received.authenticate(responder.shared_with(received.claimed_peer)) == TIMESTAMP
    return received


def test_messages_and_keys_are_those_of_the_paper() -> None:
    """Known answer: computed above from the paper's text, without the package's own primitives."""
    first, second, to_responder, to_initiator = paper_handshake()
    pending = begin()
    jar = CookieJar(identity(RESPONDER).public)
    assert jar.add_macs(pending.message.encode(), now=0.0) == first
    received = receive(HandshakeInitiation.decode(first))
    assert received.claimed_peer == identity(INITIATOR).public
    response, keys = received.respond(ephemeral=RESPONDER_EPHEMERAL, local_index=9, preshared_key=PRESHARED_KEY)
    assert CookieJar(identity(INITIATOR).public).add_macs(response.encode(), now=0.0) == second
    assert (keys.sending, keys.receiving) == (to_initiator, to_responder)
    assert (keys.local_index, keys.remote_index) == (9, 7)
    own = pending.accept(HandshakeResponse.decode(second), PRESHARED_KEY)
    assert (own.sending, own.receiving) == (to_responder, to_initiator)
    assert (own.local_index, own.remote_index) == (7, 9)


def test_the_known_answer_stays_what_it_is() -> None:
    """The same computation, frozen, lest both sides of the test change together."""
    digest = hashlib.sha256(b"".join(paper_handshake())).hexdigest()
    assert digest == "0170152fca5ad1396cdadc52356b6d49c1fb17aa7656b8e23827f8b3568149dc"


@settings(deadline=None, max_examples=40)
@given(position=st.integers(0, 115), bit=st.integers(0, 7))
def test_any_flipped_bit_of_an_initiation_is_refused(position: int, bit: int) -> None:
    tampered = bytearray(begin().message.encode())
    tampered[position] ^= 1 << bit
    if position in range(4):
        return  # the type; refused before it comes here
    if position in range(4, 8):
        return  # the sender index is covered by mac1 alone
    if position == 39 and bit == 7:
        return  # X25519 ignores the top bit, but the hash does not; see below
    with pytest.raises(AuthenticationError):
        receive(HandshakeInitiation.decode(bytes(tampered)))


def test_the_unused_bit_of_an_ephemeral_is_covered_by_the_hash() -> None:
    tampered = bytearray(begin().message.encode())
    tampered[39] ^= 0x80
    with pytest.raises(AuthenticationError):
        receive(HandshakeInitiation.decode(bytes(tampered)))


@settings(deadline=None, max_examples=30)
@given(position=st.integers(12, 59), bit=st.integers(0, 7))
def test_a_forged_response_leaves_the_handshake_waiting_for_the_true_one(position: int, bit: int) -> None:
    pending = begin()
    response, keys = receive(pending.message).respond(
        ephemeral=RESPONDER_EPHEMERAL, local_index=9, preshared_key=PRESHARED_KEY
    )
    tampered = bytearray(response.encode())
    tampered[position] ^= 1 << bit
    with pytest.raises(AuthenticationError):
        pending.accept(HandshakeResponse.decode(bytes(tampered)), PRESHARED_KEY)
    assert pending.accept(response, PRESHARED_KEY).sending == keys.receiving


def test_a_wrong_preshared_key_is_refused() -> None:
    pending = begin()
    response, _ = receive(pending.message).respond(
        ephemeral=RESPONDER_EPHEMERAL, local_index=9, preshared_key=PRESHARED_KEY
    )
    with pytest.raises(AuthenticationError):
        pending.accept(response, bytes(32))


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31)], ids=["zero", "one"])
def test_points_of_low_order_are_refused(point: bytes) -> None:
    with pytest.raises(AuthenticationError):
        identity(INITIATOR).shared_with(NodePublicKey(point))
    message = begin().message
    with pytest.raises(AuthenticationError):
        ReceivedInitiation(
            identity(RESPONDER),
            HandshakeInitiation(7, point, message.sealed_static, message.sealed_timestamp),
        )
    with pytest.raises(AuthenticationError):
        begin().accept(HandshakeResponse(9, 7, point, bytes(16)), PRESHARED_KEY)
    with pytest.raises(AuthenticationError):
        PendingInitiation(
            identity(INITIATOR),
            NodePublicKey(point),
            static_shared=bytes(32),
            ephemeral=INITIATOR_EPHEMERAL,
            local_index=1,
            timestamp=TIMESTAMP,
        )


def test_secrets_do_not_show() -> None:
    pending = begin()
    _, keys = receive(pending.message).respond(
        ephemeral=RESPONDER_EPHEMERAL, local_index=9, preshared_key=PRESHARED_KEY
    )
    shown = repr(keys) + repr(identity(INITIATOR)) + repr(pending)
    for secret in (keys.sending, keys.receiving, INITIATOR, INITIATOR_EPHEMERAL):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.crypto.box import NONCE_BYTES, OVERHEAD_BYTES, SharedBox
from tailbox.crypto.x25519 import generate, node_public
from tailbox.errors import AuthenticationError
from tailbox.randomness import SeededRandom
from tailbox.wire.keys import NodePrivateKey, NodePublicKey

# "Cryptography in NaCl" §2 and §10: the keys of RFC 7748 §6.1, a nonce, a text and its box.
ALICE = NodePrivateKey(bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
BOB = NodePrivateKey(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
NONCE = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
PLAINTEXT = bytes.fromhex(
    "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c0123356"
    "1f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60"
    "902e52f0a089bc76897040e082f937763848645e0705"
)
BOX = bytes.fromhex(
    "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce"
    "87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732b"
    "c0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5"
)


class FixedRandom:
    """Randomness that is known beforehand, for vectors."""

    def bytes(self, count: int) -> bytes:
        return NONCE[:count]

    def uniform(self, low: float, high: float) -> float:
        return low


def test_the_box_of_the_nacl_paper() -> None:
    assert SharedBox(ALICE, node_public(BOB)).seal(PLAINTEXT, FixedRandom()) == NONCE + BOX
    assert SharedBox(BOB, node_public(ALICE)).open(NONCE + BOX) == PLAINTEXT


@given(st.binary(max_size=200))
def test_either_end_opens_what_the_other_sealed(plaintext: bytes) -> None:
    sealed = SharedBox(ALICE, node_public(BOB)).seal(plaintext, SeededRandom(1))
    assert len(sealed) == len(plaintext) + OVERHEAD_BYTES
    assert SharedBox(BOB, node_public(ALICE)).open(sealed) == plaintext


def test_every_box_has_a_nonce_of_its_own() -> None:
    box, random = SharedBox(ALICE, node_public(BOB)), SeededRandom(1)
    assert len({box.seal(b"same", random)[:NONCE_BYTES] for _ in range(20)}) == 20


def test_changed_cut_and_foreign_boxes_do_not_open() -> None:
    box = SharedBox(BOB, node_public(ALICE))
    sealed = SharedBox(ALICE, node_public(BOB)).seal(b"text", SeededRandom(1))
    wrong = [sealed[:length] for length in range(len(sealed))]
    wrong += [sealed[:i] + bytes((sealed[i] ^ 1,)) + sealed[i + 1 :] for i in range(len(sealed))]
    wrong.append(SharedBox(generate(NodePrivateKey, SeededRandom(2)), node_public(BOB)).seal(b"text", SeededRandom(3)))
    for data in wrong:
        with pytest.raises(AuthenticationError):
            box.open(data)


def test_a_public_key_of_low_order_makes_no_box() -> None:
    with pytest.raises(AuthenticationError):
        SharedBox(ALICE, NodePublicKey.zero())

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import Malformed
from tailbox.wire.keys import (
    KEY_BYTES,
    ChallengePublicKey,
    DiscoPrivateKey,
    DiscoPublicKey,
    MachinePrivateKey,
    MachinePublicKey,
    NetworkLockPublicKey,
    NodePrivateKey,
    NodePublicKey,
    PrivateKey,
    PublicKey,
)

PUBLIC = pytest.mark.parametrize(("kind", "prefix"), [
    (MachinePublicKey, "mkey:"),
    (NodePublicKey, "nodekey:"),
    (DiscoPublicKey, "discokey:"),
    (ChallengePublicKey, "chalpub:"),
    (NetworkLockPublicKey, "nlpub:"),
])  # fmt: skip
PRIVATE = pytest.mark.parametrize("kind", [MachinePrivateKey, NodePrivateKey, DiscoPrivateKey])
RAW = bytes(range(KEY_BYTES))


@PUBLIC
def test_the_text_form_of_a_public_key_round_trips_in_either_case(kind: type[PublicKey], prefix: str) -> None:
    key = kind(RAW)
    assert str(key) == key.text == prefix + RAW.hex()
    assert kind.parse(key.text) == kind.parse(prefix + RAW.hex().upper()) == key


@PUBLIC
def test_text_that_is_no_key_is_malformed_and_not_repeated(kind: type[PublicKey], prefix: str) -> None:
    digits = RAW.hex()
    for text in ("", prefix, digits, prefix + digits[:-1], prefix + digits + "0", "x" + digits, prefix + "zz" * 32):
        with pytest.raises(Malformed) as raised:
            kind.parse(text)
        assert digits[:-1] not in str(raised.value)


@given(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES))
def test_any_32_bytes_are_a_public_key(raw: bytes) -> None:
    assert NodePublicKey.parse(NodePublicKey(raw).text).raw == raw


@given(st.text(max_size=80))
def test_any_text_is_a_key_or_malformed(text: str) -> None:
    try:
        assert NodePublicKey.parse("nodekey:" + text).raw.hex() == text.lower()
    except Malformed:
        assert len(text) != 2 * KEY_BYTES or not set(text) <= set("0123456789abcdefABCDEF")


@pytest.mark.parametrize("length", [0, 31, 33])
@pytest.mark.parametrize("kind", [NodePublicKey, NodePrivateKey])
def test_keys_have_32_bytes(kind: type[NodePublicKey | NodePrivateKey], length: int) -> None:
    with pytest.raises(Malformed, match=str(length)):
        kind(bytes(length))


def test_keys_of_different_kinds_are_never_equal() -> None:
    assert NodePublicKey(RAW) == NodePublicKey(RAW)
    assert NodePublicKey(RAW) != DiscoPublicKey(RAW)
    assert NodePublicKey(RAW) != RAW
    assert len({NodePublicKey(RAW), NodePublicKey(RAW), DiscoPublicKey(RAW)}) == 2


def test_the_zero_key_means_none() -> None:
    assert NodePublicKey.zero().is_zero
    assert NodePublicKey.zero().text == "nodekey:" + "0" * 64
    assert not NodePublicKey(RAW).is_zero


def test_the_form_for_logs_is_upstreams() -> None:
    # tailscale types/key/node.go ShortString, disco.go ShortString.
    assert NodePublicKey(RAW).short() == "[AAECA]"
    assert DiscoPublicKey(RAW).short() == "d:0001020304050607"
    assert repr(NodePublicKey(RAW)) == "NodePublicKey([AAECA])"


@PRIVATE
def test_a_private_key_shows_nowhere_but_where_it_is_asked_for(kind: type[PrivateKey]) -> None:
    key = kind(RAW)
    for shown in (str(key), repr(key), f"{key}", f"{[key]!r}"):
        assert "[redacted]" in shown
        assert key.raw.hex()[2:60] not in shown
    assert key.reveal() == "privkey:" + key.raw.hex()
    assert kind.parse(key.reveal()) == key


@given(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES))
def test_private_keys_are_clamped_as_rfc_7748_has_it(raw: bytes) -> None:
    key = NodePrivateKey(raw)
    assert key.raw[0] & 7 == 0
    assert key.raw[31] >> 6 == 1
    assert key.raw[1:31] == raw[1:31]
    assert NodePrivateKey(key.raw) == key


@given(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES))
def test_equal_keys_have_equal_hashes(raw: bytes) -> None:
    assert hash(NodePrivateKey(raw)) == hash(NodePrivateKey(NodePrivateKey(raw).raw))
    assert hash(NodePublicKey(raw)) == hash(NodePublicKey(raw))

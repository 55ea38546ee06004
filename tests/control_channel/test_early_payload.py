"""The early payload, present or absent, in any chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.control_channel.early_payload import MAGIC, EarlyPayloadReader, encode_early_payload
from tailbox.wire.keys import ChallengePublicKey

CHALLENGE = ChallengePublicKey(bytes(range(32)))
PREFACE = b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)


def test_the_payload_is_magic_length_and_json() -> None:
    data = encode_early_payload(CHALLENGE)
    assert data[:5] == b"\xff\xff\xffTS"
    assert int.from_bytes(data[5:9], "big") == len(data) - 9
    assert data[9:] == b'{"nodeKeyChallenge":"chalpub:' + CHALLENGE.raw.hex().encode() + b'"}'


@pytest.mark.parametrize("with_payload", [True, False])
@given(size=st.integers(1, 40))
def test_http2_starts_behind_it_whatever_the_chunks(with_payload: bool, size: int) -> None:
    data = (encode_early_payload(CHALLENGE) if with_payload else b"") + PREFACE
    reader = EarlyPayloadReader()
    rest = b"".join(reader.receive_bytes(data[start : start + size]) for start in range(0, len(data), size))
    assert rest == PREFACE
    assert reader.challenge == (CHALLENGE if with_payload else None)


@pytest.mark.parametrize("body", [b"", b"{}", b"nonsense", b'{"nodeKeyChallenge":"nodekey:00"}', b"[1]", b"\xff"])
def test_an_unreadable_challenge_is_ignored(body: bytes) -> None:
    reader = EarlyPayloadReader()
    assert reader.receive_bytes(MAGIC + len(body).to_bytes(4, "big") + body + PREFACE) == PREFACE
    assert reader.challenge is None
    assert reader.error is None


def test_an_absurd_length_is_a_violation() -> None:
    reader = EarlyPayloadReader()
    assert reader.receive_bytes(MAGIC + b"\x7f\xff\xff\xff") == b""
    assert reader.error is not None


@given(st.binary(max_size=100))
def test_random_bytes_never_raise(data: bytes) -> None:
    EarlyPayloadReader().receive_bytes(data)

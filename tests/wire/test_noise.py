"""The control channel's messages. Bytes: control protocol notes §3.4, both roles computed independently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import Malformed, Truncated, WireError
from tailbox.wire.noise import (
    HEADER,
    INITIATION_BYTES,
    MAX_CIPHERTEXT_BYTES,
    MAX_PLAINTEXT_BYTES,
    RESPONSE_BYTES,
    ErrorMessage,
    Initiation,
    Response,
    decode_answer,
    prologue,
    record_ciphertext_bytes,
)

INITIATION = bytes.fromhex(
    "00910100607b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14b903b541e3810f9a9f788541"
    "f1d8f2ec482568e39b9f0f56a9f4a7a56450f31a9dc60bcb4e75254359f9460a6bc3abd2a01b3a2deff662afe0b9497bec"
    "b6a113"
)
RESPONSE = bytes.fromhex(
    "020030ff2ee45601ec1b67310c7790404585ae697331eee1c1f8cf2419731c1fff3e6bb724869747b9edde7346ebd00e8c83be"
)


def test_sizes_are_those_of_the_protocol() -> None:
    assert (INITIATION_BYTES, RESPONSE_BYTES) == (101, 51)
    assert (MAX_CIPHERTEXT_BYTES, MAX_PLAINTEXT_BYTES) == (4093, 4077)


def test_the_known_initiation_decodes_to_its_fields() -> None:
    message = Initiation.decode(INITIATION)
    assert message.version == 145
    assert message.ephemeral == INITIATION[5:37]
    assert message.sealed_static == INITIATION[37:85]
    assert message.tag == INITIATION[85:]
    assert message.encode() == INITIATION


def test_the_known_response_decodes_to_its_fields() -> None:
    message = Response.decode(RESPONSE)
    assert (message.ephemeral, message.tag) == (RESPONSE[3:35], RESPONSE[35:])
    assert message.encode() == RESPONSE


def test_the_prologue_has_the_version_in_decimal() -> None:
    assert prologue(145) == b"Tailscale Control Protocol v145"


@given(st.integers(0, 65535), st.binary(min_size=96, max_size=96))
def test_initiations_survive_a_round_trip(version: int, body: bytes) -> None:
    message = Initiation(version, body[:32], body[32:80], body[80:])
    assert Initiation.decode(message.encode()) == message


@pytest.mark.parametrize("length", range(INITIATION_BYTES))
def test_a_cut_initiation_is_truncated(length: int) -> None:
    with pytest.raises(Truncated):
        Initiation.decode(INITIATION[:length])


@pytest.mark.parametrize("length", range(RESPONSE_BYTES))
def test_a_cut_response_is_truncated_or_incomplete(length: int) -> None:
    with pytest.raises(Truncated):
        Response.decode(RESPONSE[:length])
    assert decode_answer(RESPONSE[:length]) is None


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(Malformed):
        Initiation.decode(INITIATION + b"\0")
    with pytest.raises(Malformed):
        Response.decode(RESPONSE + b"\0")


@pytest.mark.parametrize("position", [2, 3, 4])
def test_a_wrong_type_or_length_is_refused(position: int) -> None:
    damaged = bytearray(INITIATION)
    damaged[position] ^= 0xFF
    with pytest.raises(Malformed):
        Initiation.decode(bytes(damaged))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_response_of_wrong_type_or_length_is_refused(position: int) -> None:
    damaged = bytearray(RESPONSE)
    damaged[position] ^= 0xF0
    with pytest.raises(Malformed):
        Response.decode(bytes(damaged))
    with pytest.raises(Malformed):
        decode_answer(bytes(damaged))


def test_an_answer_may_be_followed_by_records() -> None:
    answer = decode_answer(RESPONSE + b"\x04\x00\x10")
    assert answer is not None
    assert (answer.message, answer.consumed) == (Response.decode(RESPONSE), RESPONSE_BYTES)


def test_an_error_is_an_answer_too() -> None:
    data = ErrorMessage("wrong key, sorry").encode()
    assert data[:3] == b"\x03\x00\x10"
    answer = decode_answer(data)
    assert answer is not None
    assert answer.message == ErrorMessage("wrong key, sorry")


def test_an_error_of_bad_utf8_is_shown_as_far_as_possible() -> None:
    answer = decode_answer(HEADER.pack(3, 3) + b"a\xffb")
    assert answer is not None
    assert answer.message == ErrorMessage("a\ufffdb")


@given(st.binary(max_size=200))
def test_random_bytes_are_never_more_than_a_wire_error(data: bytes) -> None:
    for decode in (Initiation.decode, Response.decode, decode_answer):
        try:
            decode(data)
        except WireError:
            pass


@pytest.mark.parametrize(("length", "legal"), [(0, False), (15, False), (16, True), (4093, True), (4094, False)])
def test_record_lengths_have_bounds(length: int, legal: bool) -> None:
    header = HEADER.pack(4, length)
    if legal:
        assert record_ciphertext_bytes(header) == length
    else:
        with pytest.raises(Malformed):
            record_ciphertext_bytes(header)


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 5, 255])
def test_only_records_are_records(kind: int) -> None:
    with pytest.raises(Malformed):
        record_ciphertext_bytes(HEADER.pack(kind, 100))

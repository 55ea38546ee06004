"""WireGuard's messages: layouts, round trips, bad input."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import Malformed, Truncated, UnsupportedVersion, WireError
from tailbox.wire.wireguard import (
    CookieReply,
    HandshakeInitiation,
    HandshakeResponse,
    Message,
    MessageType,
    TransportData,
    decode,
    message_type,
    padded_length,
)

indices = st.integers(0, 2**32 - 1)


def raw(count: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=count, max_size=count)


messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(HandshakeInitiation, indices, raw(32), raw(48), raw(28), raw(16), raw(16)),
    st.builds(HandshakeResponse, indices, indices, raw(32), raw(16), raw(16), raw(16)),
    st.builds(CookieReply, indices, raw(24), raw(32)),
    st.builds(TransportData, indices, st.integers(0, 2**64 - 1), st.binary(min_size=16, max_size=80)),
)


def test_fields_lie_where_the_paper_puts_them() -> None:
    """Built by hand from the tables of paper §5.4.2, §5.4.3, §5.4.6, §5.4.7."""
    initiation = HandshakeInitiation(0x04030201, b"E" * 32, b"S" * 48, b"T" * 28, b"1" * 16, b"2" * 16)
    expected = b"\1\0\0\0\1\2\3\4" + b"E" * 32 + b"S" * 48 + b"T" * 28 + b"1" * 16 + b"2" * 16
    assert initiation.encode() == expected
    assert len(expected) == 148
    response = HandshakeResponse(0x04030201, 0x08070605, b"E" * 32, b"N" * 16, b"1" * 16, b"2" * 16)
    expected = b"\2\0\0\0\1\2\3\4\5\6\7\x08" + b"E" * 32 + b"N" * 16 + b"1" * 16 + b"2" * 16
    assert response.encode() == expected
    assert len(expected) == 92
    cookie_reply = CookieReply(0x04030201, b"N" * 24, b"C" * 32)
    assert cookie_reply.encode() == b"\3\0\0\0\1\2\3\4" + b"N" * 24 + b"C" * 32
    assert len(cookie_reply.encode()) == 64
    data = TransportData(0x04030201, 0x0C0B0A0908070605, b"P" * 32)
    assert data.encode() == b"\4\0\0\0\1\2\3\4\5\6\7\x08\x09\x0a\x0b\x0c" + b"P" * 32
    assert TransportData(1, 2, b"t" * 16).is_keepalive
    assert not data.is_keepalive


@given(messages)
def test_messages_survive_the_wire(message: Message) -> None:
    assert decode(message.encode()) == message
    assert decode(memoryview(message.encode())) == message


@given(messages)
def test_a_message_cut_short_is_truncated_at_every_length(message: Message) -> None:
    shortest = 32 if isinstance(message, TransportData) else len(message.encode())
    for length in range(shortest):
        with pytest.raises(Truncated):
            decode(message.encode()[:length])


@given(messages.filter(lambda message: not isinstance(message, TransportData)))
def test_bytes_behind_a_handshake_message_are_an_error(message: Message) -> None:
    with pytest.raises(Malformed):
        decode(message.encode() + b"\0")


@given(messages, st.integers(1, 3), st.integers(1, 255))
def test_reserved_bytes_must_be_zero(message: Message, position: int, value: int) -> None:
    tampered = bytearray(message.encode())
    tampered[position] = value
    assert message_type(bytes(tampered)) is None
    with pytest.raises(UnsupportedVersion):
        decode(bytes(tampered))
    with pytest.raises(Malformed):
        type(message).decode(bytes(tampered))


@given(st.binary(max_size=200))
def test_random_bytes_decode_or_are_a_wire_error(data: bytes) -> None:
    try:
        message = decode(data)
    except WireError:
        return
    assert message.encode() == data


def test_types_are_told_apart_by_their_first_four_bytes() -> None:
    assert [message_type(bytes([kind, 0, 0, 0])) for kind in range(6)] == [None, *MessageType, None]
    assert message_type(b"\1\0\0") is None
    assert message_type(b"TS\xf0\x9f\x92\xac") is None  # the magic of disco messages


def test_padding_rounds_up_to_sixteen() -> None:
    assert [padded_length(count) for count in (0, 1, 15, 16, 17, 1280)] == [0, 16, 16, 16, 32, 1280]

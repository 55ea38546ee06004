"""Disco messages. Vectors: tailscale disco/disco_test.go TestMarshalAndParse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import Malformed, Truncated, WireError
from tailbox.wire.addresses import Endpoint
from tailbox.wire.disco import (
    MAGIC,
    MIN_ENVELOPE_BYTES,
    CallMeMaybe,
    DiscoMessage,
    Envelope,
    Ping,
    Pong,
    UnknownMessage,
    decode_address,
    decode_message,
    encode_address,
    is_disco,
)
from tailbox.wire.keys import DiscoPublicKey, NodePublicKey

TRANSACTION = bytes(range(1, 13))
NODE_KEY = NodePublicKey(bytes((0, 1, 2)) + bytes(27) + bytes((30, 31)))
NODE_KEY_HEX = "000102" + "00" * 27 + "1e1f"
TRANSACTION_HEX = "0102030405060708090a0b0c"

VECTORS: list[tuple[DiscoMessage, str]] = [
    (Ping(TRANSACTION), "0100" + TRANSACTION_HEX),
    (Ping(TRANSACTION, NODE_KEY), "0100" + TRANSACTION_HEX + NODE_KEY_HEX),
    (Ping(TRANSACTION, None, 3), "0100" + TRANSACTION_HEX + "000000"),
    (Ping(TRANSACTION, NODE_KEY, 3), "0100" + TRANSACTION_HEX + NODE_KEY_HEX + "000000"),
    (Pong(TRANSACTION, Endpoint.parse("2.3.4.5:1234")), "0200" + TRANSACTION_HEX + "00" * 10 + "ffff0203040504d2"),
    (Pong(TRANSACTION, Endpoint.parse("[fed0::12]:6666")), "0200" + TRANSACTION_HEX + "fed0" + "00" * 13 + "121a0a"),
    (CallMeMaybe(), "0300"),
    (
        CallMeMaybe((Endpoint.parse("1.2.3.4:567"), Endpoint.parse("[2001::3456]:789"))),
        "0300" + "00" * 10 + "ffff010203040237" + "2001" + "00" * 12 + "34560315",
    ),
]


@pytest.mark.parametrize(("message", "hexadecimal"), VECTORS, ids=lambda value: str(value)[:30])
def test_messages_have_upstreams_bytes(message: DiscoMessage, hexadecimal: str) -> None:
    assert message.encode().hex() == hexadecimal
    assert decode_message(bytes.fromhex(hexadecimal)) == message


def test_sizes_on_the_wire_are_upstreams() -> None:
    envelope_and_box = MIN_ENVELOPE_BYTES + 16
    assert len(Ping(TRANSACTION, NODE_KEY).encode()) + envelope_and_box == 124
    assert len(Pong(TRANSACTION, Endpoint.parse("2.3.4.5:1234")).encode()) + envelope_and_box == 110
    assert len(CallMeMaybe((Endpoint.parse("2.3.4.5:1"),) * 10).encode()) + envelope_and_box == 260


def test_trailing_bytes_of_a_pong_are_ignored() -> None:
    pong = Pong(TRANSACTION, Endpoint.parse("2.3.4.5:1234"))
    assert decode_message(pong.encode() + b"more") == pong


def test_call_me_maybe_of_odd_length_or_another_version_names_nothing() -> None:
    encoded = CallMeMaybe((Endpoint.parse("1.2.3.4:567"),)).encode()
    assert decode_message(encoded + b"\0") == CallMeMaybe()
    assert decode_message(bytes((3, 1)) + encoded[2:]) == CallMeMaybe()


def test_unknown_types_are_carried() -> None:
    message = UnknownMessage(0x77, 2, b"body")
    assert decode_message(message.encode()) == message


@pytest.mark.parametrize("message", [Ping(TRANSACTION), Pong(TRANSACTION, Endpoint.parse("2.3.4.5:1"))])
def test_truncated_messages_do_not_decode(message: Ping | Pong) -> None:
    encoded = message.encode()
    for length in range(len(encoded)):
        with pytest.raises(Truncated):
            decode_message(encoded[:length])


def test_an_envelope_is_recognised_by_magic_and_length() -> None:
    envelope = Envelope(DiscoPublicKey(bytes(range(32))), bytes(24))
    encoded = envelope.encode()
    assert encoded[:6] == bytes.fromhex("5453f09f92ac") == MAGIC
    assert is_disco(encoded)
    assert Envelope.decode(encoded) == envelope
    for length in range(MIN_ENVELOPE_BYTES):
        assert not is_disco(encoded[:length])
        with pytest.raises(Truncated):
            Envelope.decode(encoded[:length])
    with pytest.raises(Malformed):
        Envelope.decode(b"X" + encoded[1:])


@given(ip=st.ip_addresses(), port=st.integers(0, 65535))
def test_addresses_survive_a_round_trip(ip: object, port: int) -> None:
    endpoint = Endpoint.parse(f"[{ip}]:{port}") if ":" in str(ip) else Endpoint.parse(f"{ip}:{port}")
    decoded = decode_address(encode_address(endpoint))
    mapped = getattr(endpoint.ip, "ipv4_mapped", None)
    assert decoded == (Endpoint(mapped, port) if mapped else endpoint)


@given(st.binary(max_size=200))
def test_random_bytes_decode_or_raise_a_wire_error(data: bytes) -> None:
    try:
        message = decode_message(data)
    except WireError:
        return
    if not isinstance(message, CallMeMaybe | Pong):  # those tolerate bytes that they do not keep
        assert len(message.encode()) == len(data)

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import Malformed, Truncated, UnsupportedVersion, WireError
from tailbox.wire.icmp import (
    DestinationUnreachable,
    Echo,
    IcmpMessage,
    OtherError,
    PacketTooBig,
    Unreachable,
    decode_icmp,
    encode_icmp,
)
from tailbox.wire.ip import internet_checksum

V4 = (IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2"))
V6 = (IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2"))
Addresses = tuple[IPv4Address, IPv4Address]
u16 = st.integers(0, 65535)
MESSAGES = st.one_of(
    st.builds(Echo, st.booleans(), u16, u16, st.binary(max_size=80)),
    st.builds(PacketTooBig, u16, st.binary(max_size=80)),
    st.builds(
        DestinationUnreachable,
        st.sampled_from([Unreachable.NETWORK, Unreachable.HOST, Unreachable.PORT, Unreachable.PROHIBITED]),
        st.binary(max_size=80),
    ),
)


@given(MESSAGES, st.sampled_from([V4, V6]))
def test_messages_round_trip(message: IcmpMessage, addresses: Addresses) -> None:
    assert decode_icmp(encode_icmp(message, *addresses), *addresses) == message


def test_the_bytes_of_a_ping() -> None:
    """RFC 792: type 8, code 0, identifier and sequence number; checksum by RFC 1071."""
    encoded = encode_icmp(Echo(False, 0x1234, 1, b"abcd"), *V4)
    assert encoded[:2] == b"\x08\x00"
    assert encoded[4:] == bytes.fromhex("12340001") + b"abcd"
    assert internet_checksum(encoded) == 0


def test_truncation_at_every_length_is_told() -> None:
    encoded = encode_icmp(Echo(False, 1, 2, b""), *V4)
    for length in range(len(encoded)):
        with pytest.raises(Truncated):
            decode_icmp(encoded[:length], *V4)


@pytest.mark.parametrize("addresses", [V4, V6])
def test_a_flipped_bit_is_noticed(addresses: Addresses) -> None:
    encoded = bytearray(encode_icmp(Echo(False, 1, 2, b"payload"), *addresses))
    encoded[9] ^= 4
    with pytest.raises(Malformed):
        decode_icmp(bytes(encoded), *addresses)


def test_quotes_are_cut_to_what_may_be_quoted() -> None:
    assert len(encode_icmp(DestinationUnreachable(Unreachable.PORT, bytes(2000)), *V4)) == 556
    assert len(encode_icmp(PacketTooBig(1280, bytes(2000)), *V6)) == 1240


@pytest.mark.parametrize(("kind", "addresses"), [(11, V4), (12, V4), (4, V4), (3, V6), (4, V6)])
def test_soft_errors_are_told_apart_from_hard_ones(kind: int, addresses: Addresses) -> None:
    message = OtherError(kind, 0, bytes(28))
    assert decode_icmp(encode_icmp(message, *addresses), *addresses) == message


def test_unknown_types_are_unsupported_and_unknown_codes_are_not() -> None:
    with pytest.raises(UnsupportedVersion):
        decode_icmp(encode_icmp(OtherError(42, 0, b""), *V4), *V4)
    odd = encode_icmp(OtherError(3, 9, b""), *V4)
    assert decode_icmp(odd, *V4) == DestinationUnreachable(Unreachable.OTHER, b"")


@given(st.binary(max_size=60), st.sampled_from([V4, V6]))
def test_random_bytes_raise_nothing_but_wire_errors(data: bytes, addresses: Addresses) -> None:
    try:
        decode_icmp(data, *addresses)
    except WireError:
        pass

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import Malformed, Truncated, WireError
from tailbox.wire.tcp import NO_OPTIONS, TcpFlag, TcpOptions, TcpSegment

V4 = (IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2"))
V6 = (IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2"))
u32 = st.integers(0, 2**32 - 1)


@st.composite
def options(draw: st.DrawFn) -> TcpOptions:
    syn = draw(st.booleans())
    if syn:
        size, scale = draw(st.none() | st.integers(0, 65535)), draw(st.none() | st.integers(0, 14))
        return TcpOptions(size, scale, draw(st.booleans()), (), draw(st.none() | st.tuples(u32, u32)))
    return TcpOptions(sack_blocks=tuple(draw(st.lists(st.tuples(u32, u32), max_size=4))))


@st.composite
def segments(draw: st.DrawFn) -> TcpSegment:
    ports = st.integers(0, 65535)
    return TcpSegment(
        draw(ports),
        draw(ports),
        draw(u32),
        draw(u32),
        TcpFlag(draw(st.integers(0, 255))),
        draw(ports),
        draw(ports),
        draw(options()),
        draw(st.binary(max_size=64)),
    )


@given(segments(), st.sampled_from([V4, V6]))
def test_segments_round_trip(segment: TcpSegment, addresses: tuple[IPv4Address, IPv4Address]) -> None:
    assert TcpSegment.decode(segment.encode(*addresses), *addresses) == segment


def test_truncation_at_every_length_is_told() -> None:
    segment = TcpSegment(1, 2, 3, flags=TcpFlag.SYN, options=TcpOptions(1240, 7, True)).encode(*V4)
    for length in range(len(segment)):
        with pytest.raises((Truncated, Malformed)):
            TcpSegment.decode(segment[:length], *V4)


@given(segments(), st.data())
def test_a_flipped_bit_is_noticed(segment: TcpSegment, data: st.DataObject) -> None:
    encoded = bytearray(segment.encode(*V4))
    bit = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WireError):
        TcpSegment.decode(bytes(encoded), *V4)


@given(st.binary(max_size=100))
def test_random_bytes_raise_nothing_but_wire_errors(data: bytes) -> None:
    try:
        TcpSegment.decode(data, *V4)
    except WireError:
        pass


@given(st.binary(max_size=40))
def test_any_option_bytes_decode(data: bytes) -> None:
    TcpOptions.decode(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", NO_OPTIONS),
        ("00020405b4", NO_OPTIONS),  # nothing counts behind the end of the list
        ("0101020405b4", TcpOptions(1460)),
        ("fe05aabbcc020405b4", TcpOptions(1460)),  # unknown, skipped by its length
        ("fe00020405b4", NO_OPTIONS),  # length 0 would loop
        ("fe01020405b4", NO_OPTIONS),
        ("0204", NO_OPTIONS),  # runs over the end
        ("02", NO_OPTIONS),
        ("020305", NO_OPTIONS),  # wrong size
        ("03030f", TcpOptions(window_scale=14)),  # RFC 7323 §2.3: use 14
        ("0402", TcpOptions(sack_permitted=True)),
        ("050a0000000100000002", TcpOptions(sack_blocks=((1, 2),))),
        ("080a0000000100000002", TcpOptions(timestamps=(1, 2))),
    ],
)
def test_options_are_read_as_rfc_9293_wants(data: str, expected: TcpOptions) -> None:
    assert TcpOptions.decode(bytes.fromhex(data)) == expected


def test_too_many_options_are_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="bytes of TCP options"):
        TcpOptions(1460, 7, True, ((1, 2),) * 4, (1, 2)).encode()


def test_a_segment_says_how_much_of_the_sequence_it_uses() -> None:
    assert TcpSegment(1, 2, 3, flags=TcpFlag.SYN | TcpFlag.FIN, payload=b"ab").sequence_length == 4


def test_payload_stays_out_of_representations() -> None:
    assert "secret" not in repr(TcpSegment(1, 2, 3, payload=b"secret"))

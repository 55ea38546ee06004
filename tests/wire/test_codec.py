from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import Malformed, Truncated
from tailbox.wire.codec import Reader, Writer


@given(st.integers(0, 255), st.integers(0, 65535), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.binary())
def test_what_was_written_is_read(a: int, b: int, c: int, d: int, rest: bytes) -> None:
    data = Writer().u8(a).u16(b).u32(c).u64(d).zeros(3).put(rest).finish()
    reader = Reader(data)
    assert (reader.u8(), reader.u16(), reader.u32(), reader.u64()) == (a, b, c, d)
    reader.skip(3)
    assert reader.remaining == len(rest)
    assert reader.rest() == rest
    reader.finish()


def test_numbers_are_big_endian() -> None:
    assert Writer().u16(0x0102).u32(0x03040506).finish() == bytes([1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("length", range(15))
def test_truncation_at_every_length_is_told(length: int) -> None:
    reader = Reader(bytes(length))
    with pytest.raises(Truncated):
        (reader.u8(), reader.u16(), reader.u32(), reader.u64())


def test_trailing_bytes_are_malformed_where_none_are_allowed() -> None:
    reader = Reader(b"ab")
    reader.take(1)
    with pytest.raises(Malformed):
        reader.finish()


def test_a_negative_count_reads_nothing() -> None:
    with pytest.raises(Truncated):
        Reader(b"ab").take(-1)

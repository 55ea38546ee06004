"""Length-prefixed messages, plain and compressed, in any chunks."""

from __future__ import annotations

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tailbox.wire.control.framing import LENGTH_PREFIX, FrameDecoder, encode_frame

KEEP_ALIVE = b'{"KeepAlive":true}'


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    pieces, start = [], 0
    for cut in cuts:
        pieces.append(data[start : start + cut])
        start += cut
    return [*pieces, data[start:]]


def test_the_length_is_little_endian() -> None:
    assert encode_frame(KEEP_ALIVE, compress=False) == b"\x12\x00\x00\x00" + KEEP_ALIVE


def test_a_compressed_frame_is_one_independent_zstd_frame() -> None:
    first, second = (encode_frame(KEEP_ALIVE, compress=True) for _ in range(2))
    assert first == second
    assert zstandard.ZstdDecompressor().decompress(first[4:]) == KEEP_ALIVE


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.lists(st.integers(1, 50)), st.booleans())
def test_chunk_boundaries_are_invisible(payloads: list[bytes], cuts: list[int], compress: bool) -> None:
    data = b"".join(encode_frame(payload, compress=compress) for payload in payloads)
    decoder = FrameDecoder(compressed=compress)
    assert [message for piece in split(data, cuts) for message in decoder.feed(piece)] == payloads
    assert decoder.error is None
    assert not decoder.is_mid_frame


def test_a_stream_cut_short_is_noticed() -> None:
    decoder = FrameDecoder(compressed=False)
    frame = encode_frame(KEEP_ALIVE, compress=False)
    for length in range(1, len(frame)):
        decoder = FrameDecoder(compressed=False)
        assert decoder.feed(frame[:length]) == []
        assert decoder.is_mid_frame
        assert decoder.error is None


@pytest.mark.parametrize("length", [0, 101, 2**32 - 1])
def test_lengths_out_of_bounds_end_the_stream(length: int) -> None:
    decoder = FrameDecoder(compressed=False, max_bytes=100)
    good = encode_frame(b"x", compress=False)
    assert decoder.feed(good + LENGTH_PREFIX.pack(length) + good) == [b"x"]
    assert decoder.error is not None
    assert decoder.feed(good) == []


def test_a_frame_that_claims_a_huge_content_is_refused_before_it_is_decompressed() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1_000_000))
    assert len(bomb) < 1000
    decoder = FrameDecoder(compressed=True, max_bytes=1000)
    assert decoder.feed(LENGTH_PREFIX.pack(len(bomb)) + bomb) == []
    assert decoder.error is not None


def test_a_frame_that_hides_its_content_size_is_bounded_too() -> None:
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    bomb, fair = compressor.compress(bytes(1_000_000)), compressor.compress(bytes(900))
    decoder = FrameDecoder(compressed=True, max_bytes=1000)
    assert decoder.feed(LENGTH_PREFIX.pack(len(fair)) + fair) == [bytes(900)]
    assert decoder.feed(LENGTH_PREFIX.pack(len(bomb)) + bomb) == []
    assert decoder.error is not None


@pytest.mark.parametrize("length", range(1, 20))
def test_a_cut_zstd_frame_is_an_error_and_no_short_message(length: int) -> None:
    whole = zstandard.ZstdCompressor().compress(b"a message that is long enough to be cut")
    cut = whole[:-length]
    decoder = FrameDecoder(compressed=True)
    assert decoder.feed(LENGTH_PREFIX.pack(len(cut)) + cut) == []
    assert decoder.error is not None


@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_never_raise(data: bytes, compressed: bool) -> None:
    decoder = FrameDecoder(compressed=compressed, max_bytes=150)
    for message in decoder.feed(data):
        assert len(message) <= 150

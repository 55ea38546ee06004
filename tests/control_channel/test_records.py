"""Records against known answers (control protocol notes §3.4), any chunking, and damage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.control_channel.records import LAST_COUNTER, RecordOpener, RecordSealer
from tailbox.errors import LocalProtocolError
from tailbox.wire.noise import HEADER, MAX_PLAINTEXT_BYTES, MAX_RECORD_BYTES

TO_SERVER = bytes.fromhex("97bb1ff1b3c0030ed1e8f7d54ad3728ad885ba618751ae88d5a752c3c5f31027")
TO_CLIENT = bytes.fromhex("67e4e0ae881d024a7aef742740ca594e486443a61ac5362959c6b1350e8e5ab0")


def test_the_counter_is_big_endian() -> None:
    sealer = RecordSealer(TO_SERVER)
    assert sealer.seal(b"hello").hex() == "04001514a9f922c148802d01a653ad5bc589a481c5458acc"
    assert sealer.seal(b"hello").hex() == "0400152383fda3ae9709b771c7e70e177f2d20b9151658f9"
    assert RecordSealer(TO_CLIENT).seal(b"world").hex() == "040015802be2c5f48f79b51d7f71ac7854b5410a453f476c"


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=6000), max_size=4), st.lists(st.integers(1, 3000)))
def test_chunk_boundaries_are_invisible(writes: list[bytes], cuts: list[int]) -> None:
    sealer, opener = RecordSealer(TO_SERVER), RecordOpener(TO_SERVER)
    data = b"".join(sealer.seal(write) for write in writes)
    received, start = b"", 0
    for cut in cuts:
        received += opener.receive_bytes(data[start : start + cut])
        start += cut
    received += opener.receive_bytes(data[start:])
    assert received == b"".join(writes)
    assert opener.error is None


def test_no_record_is_longer_than_the_protocol_allows() -> None:
    sealed = RecordSealer(TO_SERVER).seal(bytes(10_000))
    lengths, start = [], 0
    while start < len(sealed):
        _, length = HEADER.unpack_from(sealed, start)
        lengths.append(HEADER.size + length)
        start += HEADER.size + length
    assert max(lengths) == MAX_RECORD_BYTES
    assert len(lengths) == -(-10_000 // MAX_PLAINTEXT_BYTES)


def test_an_empty_record_delivers_nothing_and_counts() -> None:
    sealer, opener = RecordSealer(TO_SERVER), RecordOpener(TO_SERVER)
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    empty = b"\x04\x00\x10" + ChaCha20Poly1305(TO_SERVER).encrypt(bytes(12), b"", None)
    sealer._counter = 1
    assert opener.receive_bytes(empty + sealer.seal(b"next")) == b"next"


@given(st.integers(0, 2), st.integers(0, 20), st.integers(1, 255))
def test_a_damaged_record_ends_the_stream_after_the_good_ones(record: int, position: int, flip: int) -> None:
    sealer, opener = RecordSealer(TO_SERVER), RecordOpener(TO_SERVER)
    records = [bytearray(sealer.seal(b"hello")) for _ in range(3)]
    if position < 3 and record == 2:
        position = 3  # a longer length in the last record only waits for more
    records[record][position] ^= flip
    opened = opener.receive_bytes(b"".join(records))
    assert opened == b"hello" * record
    if opener.error is None:  # the damaged length swallows what follows, and waits
        opened += opener.receive_bytes(bytes(5000))
    assert opener.error is not None
    assert opener.receive_bytes(sealer.seal(b"more")) == b""
    assert opened == b"hello" * record


def test_a_repeated_or_reordered_record_ends_the_stream() -> None:
    sealer = RecordSealer(TO_SERVER)
    first, second = sealer.seal(b"1"), sealer.seal(b"2")
    repeated, reordered = RecordOpener(TO_SERVER), RecordOpener(TO_SERVER)
    assert repeated.receive_bytes(first + first) == b"1"
    assert repeated.error is not None
    assert reordered.receive_bytes(second) == b""
    assert reordered.error is not None


def test_the_last_counter_is_never_used() -> None:
    sealer, opener = RecordSealer(TO_SERVER), RecordOpener(TO_SERVER)
    sealer._counter = opener._counter = LAST_COUNTER - 1
    last = sealer.seal(b"last")
    with pytest.raises(LocalProtocolError):
        sealer.seal(b"x")
    assert opener.receive_bytes(last) == b"last"
    assert opener.error is None
    opener.receive_bytes(RecordSealer(TO_SERVER).seal(b"x"))
    assert opener.error is not None


@given(st.binary(max_size=300))
def test_random_bytes_never_raise(data: bytes) -> None:
    assert RecordOpener(TO_SERVER).receive_bytes(data) == b""

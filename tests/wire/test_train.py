from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.wire.train import Train


@given(st.binary(max_size=300), st.integers(1, 300))
def test_a_train_is_its_packets_back_to_back(data: bytes, stride: int) -> None:
    stride = min(stride, max(1, len(data)))
    train = Train(data, stride)
    packets = [bytes(packet) for packet in train]
    assert b"".join(packets) == data
    assert len(train) == len(packets)
    assert all(len(packet) == stride for packet in packets[:-1])
    assert all(0 < len(packet) <= stride for packet in packets)


def test_packets_are_views_and_not_copies() -> None:
    buffer = bytearray(b"aabbc")
    packets = list(Train(memoryview(buffer), 2))
    buffer[0:2] = b"xx"
    assert [bytes(packet) for packet in packets] == [b"xx", b"bb", b"c"]


def test_a_copy_outlives_the_makers_next_use_of_the_buffer() -> None:
    buffer = bytearray(b"aabbc")
    train = Train(memoryview(buffer), 2)
    copy = train.copied()
    assert copy == train
    buffer[:] = bytes(5)
    assert copy != train
    assert bytes(copy.data) == b"aabbc"


def test_a_single_packet_is_a_train_of_one() -> None:
    train = Train.of(b"packet")
    assert (len(train), train.stride) == (1, 6)
    assert [bytes(packet) for packet in train] == [b"packet"]


def test_the_stride_is_part_of_a_train() -> None:
    assert Train(b"aaaa", 2) == Train(memoryview(b"aaaa"), 2)
    assert Train(b"aaaa", 2) != Train(b"aaaa", 4)
    assert Train(b"aaaa", 2) != b"aaaa"


def test_trains_are_no_keys_of_dictionaries() -> None:
    with pytest.raises(TypeError):
        hash(Train.of(b"packet"))


@pytest.mark.parametrize("stride", [0, -1, 4])
def test_a_stride_without_meaning_is_our_own_bug(stride: int) -> None:
    with pytest.raises(AssertionError):
        Train(b"abc", stride)


def test_its_repr_tells_its_shape_and_not_its_content() -> None:
    assert repr(Train(b"secret!", 3)) == "Train(3 × 3 B)"

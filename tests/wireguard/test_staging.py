"""Packets that wait."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.wire.train import MAX_TRAIN_BYTES, MAX_TRAIN_PACKETS, Train
from tailbox.wireguard.batches import sealable_parts
from tailbox.wireguard.staging import MAX_STAGED_BYTES, MAX_STAGED_PACKETS, StagedPackets


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 50)), max_size=12))
def test_the_newest_stay_in_order_within_the_bounds(trains: list[tuple[int, int]]) -> None:
    staged = StagedPackets()
    sent: list[bytes] = []
    dropped = 0
    for number, (size, count) in enumerate(trains):
        packets = [bytes([number, row]) + bytes(size) for row in range(count)]
        sent += packets
        dropped += staged.add(Train(b"".join(packets), size + 2))
        assert len(staged) <= MAX_STAGED_PACKETS
    assert len(staged) == len(sent) - dropped
    taken = staged.take()
    assert [bytes(packet) for train in taken for packet in train] == sent[dropped:]
    assert sum(len(train.data) for train in taken) <= MAX_STAGED_BYTES
    for train in taken:
        assert len(train) <= MAX_TRAIN_PACKETS
        assert len(train.data) <= MAX_TRAIN_BYTES
        assert sealable_parts(train) == (train,)
    assert len(staged) == 0
    assert staged.take() == []


def test_packets_are_copied() -> None:
    buffer = bytearray(b"first")
    staged = StagedPackets()
    staged.add(Train(memoryview(buffer), 5))
    buffer[:] = b"other"
    assert staged.take() == [Train(b"first", 5)]


def test_clearing_counts() -> None:
    staged = StagedPackets()
    staged.add(Train(b"abcdef", 2))
    assert staged.clear() == 3
    assert staged.clear() == 0

"""Both forms of sealing and opening give the same, whatever arrives."""

from __future__ import annotations

from unittest import mock

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.wire.train import LONGEST_TRAIN_BYTES, LONGEST_TRAIN_PACKETS, MAX_TRAIN_BYTES, Train
from tailbox.wire.wireguard import TransportData, decode
from tailbox.wireguard import batches
from tailbox.wireguard.batches import (
    MAX_LAYOUTS,
    Opened,
    TrainOpener,
    TrainSealer,
    open_packets,
    read_headers,
    seal_packets,
    sealable_parts,
    sealed_length,
)
from tailbox.wireguard.replay_window import ReplayWindow

CIPHER = ChaCha20Poly1305(bytes(range(32)))
SEALER, OPENER = TrainSealer(), TrainOpener()  # one for all examples: buffers hold what earlier ones left there


@st.composite
def trains(draw: st.DrawFn, *, least: int = 1) -> Train:
    stride = draw(st.integers(1, 200) | st.sampled_from([1280, 1276, 640]))
    most = min(LONGEST_TRAIN_PACKETS, LONGEST_TRAIN_BYTES // sealed_length(stride))
    count = draw(st.integers(least, min(most, 64)) | st.integers(least, most))
    last = draw(st.integers(1, stride) | st.just(stride))
    length = (count - 1) * stride + last
    seed = draw(st.binary(min_size=1, max_size=16))
    return Train((seed * (length // len(seed) + 1))[:length], min(stride, length))


def outcome(opened: Opened) -> tuple[list[Train], int, int, int, int]:
    trains = [train.copied() for train in opened.trains]
    return trains, opened.data_packets, opened.keepalives, opened.forged, opened.replayed


def open_both_ways(train: Train, span: tuple[int, int] | None = None) -> tuple[list[Train], int, int, int, int]:
    """Open by packet and as a matrix, insist that both agree, and return the result."""
    start, stop = span or (0, len(train))
    _, counters = read_headers(train)
    windows = ReplayWindow(), ReplayWindow()
    by_packet = open_packets(CIPHER, windows[0], list(train)[start:stop], counters[start:stop])
    with mock.patch.object(batches, "OPEN_AS_MATRIX_FROM", 1):
        as_matrix = OPENER.open(CIPHER, windows[1], train, (start, stop), counters[start:stop])
    assert outcome(by_packet) == outcome(as_matrix)
    assert [windows[0].accept(counter) for counter in range(300)] == [
        windows[1].accept(counter) for counter in range(300)
    ]
    return outcome(as_matrix)


@settings(deadline=None, max_examples=60)
@given(trains(), st.integers(0, 2**64 - 100), st.integers(0, 2**32 - 1))
def test_matrix_seals_what_packets_seal(train: Train, counter: int, index: int) -> None:
    with mock.patch.object(batches, "SEAL_AS_MATRIX_FROM", 1):
        assert SEALER.seal(CIPHER, index, counter, train) == seal_packets(CIPHER, index, counter, train)


@settings(deadline=None, max_examples=40)
@given(trains())
def test_sealed_packets_are_the_messages_of_the_paper(train: Train) -> None:
    sealed = SEALER.seal(CIPHER, 0xDEADBEEF, 5, train)
    assert len(sealed) == len(train)
    for row, (packet, message) in enumerate(zip(train, sealed, strict=True)):
        data = decode(message)
        assert isinstance(data, TransportData)
        assert (data.receiver_index, data.counter) == (0xDEADBEEF, 5 + row)
        plain = CIPHER.decrypt(bytes(4) + data.counter.to_bytes(8, "little"), data.sealed, None)
        assert len(plain) % 16 == 0
        assert plain == bytes(packet).ljust(len(plain), b"\0")


@settings(deadline=None, max_examples=60)
@given(trains())
def test_a_train_comes_back_whole_behind_its_padding(train: Train) -> None:
    sealed = seal_packets(CIPHER, 1, 0, train)
    opened, data_packets, *others = open_both_ways(sealed)
    assert len(opened) == 1
    assert opened[0].stride == sealed.stride - 32 or len(train) == 1
    assert [bytes(packet).rstrip(b"\0") for packet in opened[0]] == [bytes(packet).rstrip(b"\0") for packet in train]
    assert (data_packets, *others) == (len(train), 0, 0, 0)


@settings(deadline=None, max_examples=80)
@given(trains(least=2), st.data())
def test_bad_packets_drop_themselves_and_nothing_else(train: Train, data: st.DataObject) -> None:
    count = len(train)
    sealed = seal_packets(CIPHER, 1, 0, train)
    buffer = bytearray(sealed.data)
    rows = [memoryview(buffer)[row * sealed.stride : (row + 1) * sealed.stride] for row in range(count)]
    forged = data.draw(st.sets(st.integers(0, count - 1), max_size=4))
    repeats = data.draw(st.sets(st.integers(1, count - 1), max_size=4)) - forged
    for row in forged:
        rows[row][data.draw(st.integers(8, len(rows[row]) - 1))] ^= 0x40
    repeated = {row for row in repeats if row - 1 not in forged | repeats and len(rows[row]) == len(rows[row - 1])}
    for row in repeated:
        rows[row][:] = rows[row - 1]
    opened, data_packets, keepalives, forgeries, replays = open_both_ways(Train(bytes(buffer), sealed.stride))
    assert (forgeries, replays) == (len(forged), len(repeated))
    assert (data_packets, keepalives) == (count - len(forged) - len(repeated), 0)
    survivors = [bytes(packet).rstrip(b"\0") for row, packet in enumerate(train) if row not in forged | repeated]
    assert [bytes(packet).rstrip(b"\0") for opened_train in opened for packet in opened_train] == survivors


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(20)))
def test_order_of_arrival_does_not_matter(order: list[int]) -> None:
    sealed = list(seal_packets(CIPHER, 1, 0, Train(bytes(320), 16)))
    shuffled = Train(b"".join(bytes(sealed[row]) for row in order), 48)
    _, data_packets, *others = open_both_ways(shuffled)
    assert (data_packets, *others) == (20, 0, 0, 0)


@pytest.mark.parametrize("count", [1, 7, 8, 20])
def test_keepalives_give_nothing_to_the_stack(count: int) -> None:
    keepalives = b"".join(bytes(seal_packets(CIPHER, 1, row, Train(b"", 1)).data) for row in range(count))
    assert open_both_ways(Train(keepalives, 32)) == ([], 0, count, 0, 0)


def test_a_keepalive_may_end_a_train() -> None:
    data = seal_packets(CIPHER, 1, 0, Train(bytes(1280 * 10), 1280))
    keepalive = seal_packets(CIPHER, 1, 10, Train(b"", 1))
    opened, *counts = open_both_ways(Train(bytes(data.data) + bytes(keepalive.data), data.stride))
    assert [len(train) for train in opened] == [10]
    assert counts == [10, 1, 0, 0]


def test_spans_of_one_train_do_not_disturb_each_other() -> None:
    plain = Train(b"".join(bytes([row]) * 64 for row in range(30)), 64)
    sealed = seal_packets(CIPHER, 1, 0, plain)
    _, counters = read_headers(sealed)
    window = ReplayWindow()
    first = OPENER.open(CIPHER, window, sealed, (0, 12), counters[:12])
    second = OPENER.open(CIPHER, window, sealed, (12, 30), counters[12:])
    assert bytes(first.trains[0].data) + bytes(second.trains[0].data) == plain.data


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=400), st.integers(1, 64))
def test_headers_are_read_alike_at_any_count(data: bytes, stride: int) -> None:
    train = Train(data, min(stride, len(data)))
    readable = [bytes(packet) for packet in train if len(packet) >= 16]
    heads, counters = read_headers(train)
    assert heads == [int.from_bytes(packet[:8], "little") for packet in readable]
    assert counters == [int.from_bytes(packet[8:16], "little") for packet in readable]


def test_trains_beyond_the_longest_are_cut() -> None:
    whole = Train(bytes(1280 * 4 * 49), 1280)
    assert sealable_parts(whole) == (whole,)
    parts = sealable_parts(Train(bytes(1280 * 400 + 7), 1280))
    assert [(len(part), part.stride) for part in parts] == [(199, 1280), (199, 1280), (3, 1280)]
    assert [len(part) for part in sealable_parts(Train(bytes(300), 1))] == [256, 44]
    assert [(len(part), part.stride) for part in sealable_parts(Train(bytes(1280 * 199 + 7), 1280))] == [
        (199, 1280),
        (1, 7),
    ]
    assert sealable_parts(Train.of(bytes(MAX_TRAIN_BYTES))) == ()
    assert len(sealable_parts(Train.of(bytes(MAX_TRAIN_BYTES - 48)))) == 1


def test_ready_made_layouts_stay_few() -> None:
    sealer, opener = TrainSealer(), TrainOpener()
    for stride in range(16, 16 * 60, 16):
        sealed = sealer.seal(CIPHER, 1, 0, Train(bytes(stride * 10), stride))
        _, counters = read_headers(sealed)
        assert opener.open(CIPHER, ReplayWindow(), sealed, (0, 10), counters).data_packets == 10
        assert len(sealer._layouts) <= MAX_LAYOUTS
        assert len(opener._layouts) <= MAX_LAYOUTS

"""The fast forms of packets and the readable ones are the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.userspace_stack.events import DropReason
from tailbox.userspace_stack.outbox import Outbox, train_packets
from tailbox.userspace_stack.segments import (
    ACK,
    FIN,
    PSH,
    SYN,
    Arrival,
    FlowTemplate,
    bounds_of,
    parse_rows,
    parse_segment,
    row_sums,
)
from tailbox.wire.addresses import Endpoint
from tailbox.wire.ip import IPHeader, Protocol, build_packet, is_header_checksum_good, ones_complement_sum
from tailbox.wire.tcp import TcpFlag, TcpOptions, TcpSegment
from tailbox.wire.train import Train
from tests.userspace_stack.conftest import ADDRESSES

u32 = st.integers(0, 2**32 - 1)
u16 = st.integers(0, 65535)


def endpoints(version: int) -> tuple[Endpoint, Endpoint]:
    here, there = ADDRESSES[version]
    return Endpoint(here, 50001), Endpoint(there, 443)


def readable(version: int, segment: TcpSegment) -> bytes:
    here, there = ADDRESSES[version]
    packet = bytearray(build_packet(here, there, Protocol.TCP, segment.encode(here, there)))
    return bytes(packet)


@given(
    st.sampled_from([4, 6]), u32, u32, st.sampled_from([ACK, ACK | PSH, SYN, ACK | FIN]), u16, st.binary(max_size=99)
)
def test_one_segment_is_the_readable_one(
    version: int, sequence: int, acknowledgment: int, flags: int, window: int, payload: bytes
) -> None:
    options = TcpOptions(sack_blocks=((sequence, acknowledgment),))
    made = FlowTemplate(*endpoints(version)).segment(
        sequence, acknowledgment, flags, window, options=options.encode(), payload=payload
    )
    fields = (50001, 443, sequence, acknowledgment, TcpFlag(flags), window, 0, options, payload)
    assert made == readable(version, TcpSegment(*fields))
    bounds = bounds_of(memoryview(made))
    assert not isinstance(bounds, DropReason)
    parsed = parse_segment(memoryview(made), bounds)
    assert not isinstance(parsed, DropReason)
    arrival = parsed[1]
    assert (arrival.sequence, arrival.acknowledgment, arrival.flags, arrival.window) == fields[2:6]
    assert TcpOptions.decode(arrival.options) == options
    assert arrival.contiguous() == payload


@dataclass(frozen=True)
class Stream:
    """A recipe, so that failures print short."""

    size: int
    count: int
    rest: int
    fill: int  # 0 and 255: all bytes are that; otherwise random

    def bytes(self) -> bytes:
        total = self.size * self.count + self.rest % self.size
        return bytes([self.fill]) * total if self.fill in (0, 255) else np.random.default_rng(self.fill).bytes(total)


STREAMS = st.builds(
    Stream,
    st.sampled_from([21, 88, 536, 1220, 1240, 1241, 1242, 1243]),
    st.integers(3, 40),  # one train at every size
    st.integers(0, 2000),
    st.integers(0, 255),
)


def build(version: int, stream: bytes, size: int, sequence: int, window: int = 77, flags: int = ACK | PSH) -> Train:
    outbox = Outbox()
    outbox.start()
    outbox.post_stream(
        FlowTemplate(*endpoints(version)),
        memoryview(stream),
        segment_bytes=size,
        sequence=sequence,
        acknowledgment=99,
        window=window,
        last_flags=flags,
    )
    (train,) = outbox.take()
    return train


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([4, 6]), STREAMS, u32 | st.integers(2**32 - 60_000, 2**32 - 1), u16)
def test_a_train_is_its_packets_made_one_by_one(version: int, recipe: Stream, sequence: int, window: int) -> None:
    stream, size = recipe.bytes(), recipe.size
    packets = [bytes(packet) for packet in build(version, stream, size, sequence, window)]
    starts = range(0, len(stream), size)
    assert packets == [
        readable(
            version,
            TcpSegment(
                50001,
                443,
                (sequence + start) % 2**32,
                99,
                TcpFlag(ACK | PSH if start + size >= len(stream) else ACK),
                window,
                payload=stream[start : start + size],
            ),
        )
        for start in starts
    ]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([4, 6]), STREAMS, u32, st.integers(0, 15))
def test_a_train_is_read_as_one_run(version: int, recipe: Stream, sequence: int, padding: int) -> None:
    stream, size = recipe.bytes(), recipe.size
    stream = stream[: len(stream) // size * size]
    train = build(version, stream, size, sequence)
    padded = b"".join(bytes(packet) + b"x" * padding for packet in train)
    parsed = parse_rows(Train(padded, train.stride + padding))
    assert parsed is not None
    key, arrivals = parsed
    assert key == FlowTemplate(*reversed(endpoints(version))).key
    assert sum(arrival.size for arrival in arrivals) == len(stream)
    assert b"".join(bytes(arrival.contiguous()) for arrival in arrivals) == stream
    assert arrivals[0].sequence == sequence
    assert arrivals[-1].flags == ACK | PSH
    if sequence + len(stream) < 2**32:
        assert len(arrivals) == 1


def test_a_gap_starts_another_run() -> None:
    packets = [bytes(p) for p in build(4, bytes(1240 * 10), 1240, 1000)]
    del packets[4]
    parsed = parse_rows(Train(b"".join(packets), 1280))
    assert parsed is not None
    assert [(a.sequence, a.segments) for a in parsed[1]] == [(1000, 4), (1000 + 5 * 1240, 5)]


@pytest.mark.parametrize("version", [4, 6])
def test_any_changed_header_byte_is_noticed_or_harmless(version: int) -> None:
    """Every single-byte change of one packet either ends the batch reading, or changes neither flow nor stream."""
    original = build(version, bytes(range(256)) * 8, 256, 5000, flags=ACK)
    header_bytes = 60 if version == 6 else 40
    first = parse_rows(original)
    assert first is not None
    for position in range(header_bytes):
        data = bytearray(original.data)
        data[3 * original.stride + position] ^= 0x11
        assert parse_rows(Train(bytes(data), original.stride)) is None or (version == 6 and position in (0, 1, 2, 3, 7))


def test_payload_changes_are_noticed() -> None:
    train = build(4, bytes(1240 * 5), 1240, 1)
    data = bytearray(train.data)
    data[2 * 1280 + 700] ^= 1
    assert parse_rows(Train(bytes(data), 1280)) is None


@given(st.integers(2, 40), st.integers(0, 8), st.integers(0, 11), st.integers(0, 2**32 - 1))
def test_row_sums_are_swapped_sums(width: int, start: int, cut: int, seed: int) -> None:
    width, start = width + 20, start & ~1
    rows = np.random.default_rng(seed).integers(0, 256, (4, width), dtype=np.uint8)
    for row, total in zip(rows, row_sums(rows, start, width - cut).tolist(), strict=True):
        expected = ones_complement_sum(row[start : width - cut].tobytes())
        assert int(total) % 65535 == ((expected & 0xFF) << 8 | expected >> 8) % 65535


@given(st.binary(max_size=100), st.integers(1, 60))
def test_random_trains_are_read_without_exceptions(data: bytes, stride: int) -> None:
    if data:
        parse_rows(Train(data * 5, min(stride * 5, len(data) * 5)))


def header_with(**changes: int) -> bytes:
    packet = bytearray(readable(4, TcpSegment(1, 2, 3, flags=TcpFlag.ACK)))
    for name, value in changes.items():
        packet[int(name[1:])] = value
    header = bytes(packet[:10]) + b"\0\0" + bytes(packet[12:20])
    total = -ones_complement_sum(header) % 0xFFFF
    return header[:10] + total.to_bytes(2, "big") + header[12:] + bytes(packet[20:])


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", DropReason.MALFORMED),
        (b"\x45", DropReason.MALFORMED),
        (header_with(_0=0x44), DropReason.MALFORMED),
        (header_with(_0=0x4F), DropReason.MALFORMED),  # options longer than the packet
        (header_with(_3=200), DropReason.MALFORMED),
        (header_with(_8=0), DropReason.MALFORMED),  # hop limit 0
        (header_with(_6=0x20), DropReason.FRAGMENT),
        (header_with(_7=1), DropReason.FRAGMENT),
        (b"\x45" + b"\1" + header_with()[2:], DropReason.BAD_CHECKSUM),
    ],
)
def test_bad_headers_are_told_apart(packet: bytes, reason: DropReason) -> None:
    assert bounds_of(memoryview(packet)) is reason


def test_ip_options_are_skipped() -> None:
    here, there = ADDRESSES[4]
    message = TcpSegment(7, 8, 9, flags=TcpFlag.ACK, payload=b"data").encode(here, there)
    plain = IPHeader(here, there, Protocol.TCP, len(message) + 4).encode()
    header = bytes([0x46]) + plain[1:10] + b"\0\0" + plain[12:] + b"\1\1\1\0"
    total = -ones_complement_sum(header) % 0xFFFF
    packet = header[:10] + total.to_bytes(2, "big") + header[12:] + message
    assert is_header_checksum_good(packet)
    bounds = bounds_of(memoryview(packet))
    assert not isinstance(bounds, DropReason)
    parsed = parse_segment(memoryview(packet), bounds)
    assert not isinstance(parsed, DropReason)
    assert parsed[0] == here.packed + there.packed + bytes([0, 7, 0, 8])
    assert bytes(parsed[1].contiguous()) == b"data"


def test_trains_fit_one_datagram_batch_when_sealed() -> None:
    assert train_packets(1280) == 49
    assert train_packets(8192) == 7
    assert train_packets(100) == 64
    assert train_packets(65000) == 1


def test_an_arrival_without_payload_is_empty() -> None:
    assert len(Arrival(1, 2, ACK, 3, 0).contiguous()) == 0

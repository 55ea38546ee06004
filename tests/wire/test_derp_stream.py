from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.wire.derp import (
    FRAME_HEADER,
    Frame,
    FrameType,
    Health,
    KeepAlive,
    Ping,
    SendPacket,
    UnknownFrame,
    decode_frame,
)
from tailbox.wire.derp_stream import FrameSplitter
from tailbox.wire.keys import NodePublicKey

KEY = NodePublicKey(bytes(range(32)))


@given(st.lists(st.integers(1, 400), max_size=60), st.booleans())
@settings(max_examples=50)
def test_any_chunking_gives_the_same_frames(cuts: list[int], bytewise: bool) -> None:
    frames: list[Frame] = [
        KeepAlive(),
        Ping(b"12345678"),
        SendPacket(KEY, b"packet"),
        UnknownFrame(0x66, b"later"),
        Health(""),
    ]
    stream = b"".join(frame.encode() for frame in frames)
    splitter = FrameSplitter({})
    found: list[tuple[int, bytes]] = []
    sizes = [1] * len(stream) if bytewise else [*cuts, len(stream)]
    offset = 0
    for size in sizes:
        found += splitter.feed(stream[offset : offset + size])
        offset += size
    assert [decode_frame(*pair) for pair in found] == frames
    assert splitter.pending_bytes == 0


def test_a_frame_above_its_limit_fails_before_its_body_comes() -> None:
    splitter = FrameSplitter({FrameType.PING: 1000}, other_limit=10)
    assert splitter.feed(KeepAlive().encode() + FRAME_HEADER.pack(FrameType.PING, 1001)) == [
        (FrameType.KEEP_ALIVE, b"")
    ]
    assert splitter.has_failed
    assert splitter.feed(KeepAlive().encode()) == []
    assert FrameSplitter({}, other_limit=10).feed(FRAME_HEADER.pack(0x66, 0xFFFFFFFF)) == []


@given(st.lists(st.integers(1, 300), max_size=30))
@settings(max_examples=50)
def test_unwanted_frames_are_thrown_away_as_they_come(cuts: list[int]) -> None:
    splitter = FrameSplitter({FrameType.PING: 8}, keep_others=False)
    stream = UnknownFrame(0x66, bytes(1000)).encode() + Ping(b"12345678").encode() + UnknownFrame(0x67, b"").encode()
    found: list[tuple[int, bytes]] = []
    offset = 0
    for size in [*cuts, len(stream)]:
        found += splitter.feed(stream[offset : offset + size])
        offset += size
        assert splitter.pending_bytes < 5 + 8
    assert found == [(0x66, b""), (FrameType.PING, b"12345678"), (0x67, b"")]

"""DERP frames: byte examples of upstream's tests, round trips, and streams cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.errors import Malformed, Truncated, WireError
from tailbox.wire.addresses import Endpoint
from tailbox.wire.derp import (
    FRAME_HEADER,
    MAX_PACKET_BYTES,
    ClientInfo,
    ClosePeer,
    ForwardPacket,
    Frame,
    FrameType,
    Health,
    KeepAlive,
    NotePreferred,
    PeerGone,
    PeerGoneReason,
    PeerPresent,
    Ping,
    Pong,
    PresenceFlags,
    RecvPacket,
    Restarting,
    SendPacket,
    ServerInfo,
    ServerKey,
    UnknownFrame,
    WatchConns,
    decode_frame,
)
from tailbox.wire.keys import NodePublicKey

KEY = NodePublicKey(bytes(range(32)))
OTHER = NodePublicKey(bytes(range(32, 64)))
FRAMES: list[Frame] = [
    ServerKey(KEY),
    ClientInfo(KEY, bytes(60)),
    ServerInfo(bytes(60)),
    SendPacket(KEY, b"packet"),
    SendPacket(KEY, b""),
    RecvPacket(KEY, bytes(MAX_PACKET_BYTES)),
    KeepAlive(),
    NotePreferred(True),
    NotePreferred(False),
    PeerGone(KEY, PeerGoneReason.NOT_HERE),
    PeerPresent(KEY, Endpoint.parse("1.2.3.4:5"), PresenceFlags.REGULAR),
    PeerPresent(KEY, Endpoint.parse("[2001:db8::1]:5"), PresenceFlags.PROBER | PresenceFlags.NOT_IDEAL),
    PeerPresent(KEY),
    ForwardPacket(KEY, OTHER, b"packet"),
    WatchConns(),
    ClosePeer(KEY),
    Ping(b"12345678"),
    Pong(b"12345678"),
    Health("no route"),
    Health(""),
    Restarting(0.25, 30.0),
    UnknownFrame(0x66, b"later"),
]


@pytest.mark.parametrize(("frame", "wire"), [
    (Ping(bytes(range(1, 9))), "12000000080102030405060708"),
    (Pong(bytes(range(1, 9))), "13000000080102030405060708"),
    (KeepAlive(), "0600000000"),
    (NotePreferred(True), "070000000101"),
    (Health("BAD"), "1400000003424144"),
    (Restarting(0.001, 0.002), "15000000080000000100000002"),
    (ServerKey(KEY), "0100000028" + "44455250f09f9491" + KEY.raw.hex()),
    (PeerGone(KEY), "0800000021" + KEY.raw.hex() + "00"),
])  # fmt: skip
def test_byte_examples(frame: Frame, wire: str) -> None:
    """From derp/derp_test.go (TestClientRecv, TestClientSendPing …)."""
    assert frame.encode() == bytes.fromhex(wire)


def test_send_packet_header() -> None:
    assert SendPacket(KEY, bytes(992)).encode()[:5] == bytes.fromhex("0400000400")


def test_peer_present_has_51_bytes() -> None:
    assert len(PeerPresent(KEY, Endpoint.parse("1.2.3.4:5")).encode()) == 5 + 51


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_round_trip(frame: Frame) -> None:
    wire = frame.encode()
    frame_type, length = FRAME_HEADER.unpack_from(wire)
    assert length == len(wire) - 5
    assert decode_frame(frame_type, wire[5:]) == frame


SHORTEST = {
    ServerKey: 40, ClientInfo: 56, ServerInfo: 24, SendPacket: 32, RecvPacket: 32, NotePreferred: 1, PeerGone: 32,
    PeerPresent: 32, ForwardPacket: 64, ClosePeer: 32, Ping: 8, Pong: 8, Restarting: 8,
}  # fmt: skip


@pytest.mark.parametrize("frame", FRAMES[:5] + FRAMES[7:], ids=lambda frame: type(frame).__name__)
def test_truncation_at_every_length(frame: Frame) -> None:
    payload = frame.encode()[5:]
    for length in range(len(payload)):
        if length < SHORTEST.get(type(frame), 0):
            with pytest.raises((Truncated, Malformed)):
                decode_frame(frame.encode()[0], payload[:length])
        else:
            decode_frame(frame.encode()[0], payload[:length])


def test_what_is_too_long_is_refused() -> None:
    for frame_type, payload in (
        (FrameType.SEND_PACKET, bytes(32 + MAX_PACKET_BYTES + 1)),
        (FrameType.FORWARD_PACKET, bytes(64 + MAX_PACKET_BYTES + 1)),
        (FrameType.NOTE_PREFERRED, b"12"),
        (FrameType.WATCH_CONNS, b"1"),
        (FrameType.CLOSE_PEER, bytes(33)),
    ):
        with pytest.raises(Malformed):
            decode_frame(frame_type, payload)


def test_old_and_new_relays_are_understood() -> None:
    assert decode_frame(FrameType.PEER_GONE, KEY.raw) == PeerGone(KEY, PeerGoneReason.DISCONNECTED)
    assert decode_frame(FrameType.PEER_GONE, KEY.raw + b"\x77") == PeerGone(KEY, PeerGoneReason.DISCONNECTED)
    assert decode_frame(FrameType.PEER_PRESENT, KEY.raw) == PeerPresent(KEY)
    assert decode_frame(FrameType.SERVER_KEY, b"DERP\xf0\x9f\x94\x91" + KEY.raw + b"more") == ServerKey(KEY)
    assert decode_frame(FrameType.PING, b"12345678more") == Ping(b"12345678")
    assert decode_frame(FrameType.HEALTH, b"\xff") == Health("\ufffd")


@given(st.integers(0, 255), st.binary(max_size=120))
@settings(max_examples=100)
def test_random_payloads_give_wire_errors_only(frame_type: int, payload: bytes) -> None:
    try:
        decode_frame(frame_type, payload)
    except WireError:
        pass

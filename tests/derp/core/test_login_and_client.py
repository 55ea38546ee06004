"""Both ends of the login back to back, and the client after it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.crypto.box import SharedBox
from tailbox.crypto.x25519 import generate, node_public
from tailbox.derp.core.client import (
    MAX_HEAD_BYTES,
    ClientState,
    DerpClient,
    HttpUpgrade,
    LoggedIn,
    PacketsReceived,
    PeerViolation,
    Received,
    encode_train,
    metacert_key,
)
from tailbox.derp.core.login import (
    MAX_CLIENT_INFO_BYTES,
    ClientClaims,
    ClientProven,
    LoginFailed,
    ServerClaims,
    ServerLogin,
    ServerLoginState,
)
from tailbox.errors import LocalProtocolError, Malformed
from tailbox.randomness import SeededRandom
from tailbox.wire.derp import (
    ClientInfo,
    Frame,
    FrameType,
    Health,
    KeepAlive,
    NotePreferred,
    PeerGone,
    Ping,
    RecvPacket,
    Restarting,
    SendPacket,
    ServerInfo,
    ServerKey,
    UnknownFrame,
    encode_frame,
)
from tailbox.wire.keys import NodePrivateKey, NodePublicKey
from tailbox.wire.train import Train

RANDOM = SeededRandom("login")
RELAY = generate(NodePrivateKey, RANDOM)
CLIENT = generate(NodePrivateKey, RANDOM)
PEER = node_public(generate(NodePrivateKey, RANDOM))
HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"


def ready_client() -> DerpClient:
    client, login = DerpClient(CLIENT, random=RANDOM), ServerLogin(RELAY, random=RANDOM)
    client.receive_bytes(login.greeting())
    login.receive_bytes(client.data_to_send())
    assert client.receive_bytes(login.admit(ServerClaims())) == [LoggedIn(node_public(RELAY), ServerClaims())]
    return client


@given(cuts=st.lists(st.integers(1, 200), max_size=20), fast_start=st.booleans())
@settings(max_examples=50)
def test_login_completes_under_any_chunking(cuts: list[int], fast_start: bool) -> None:
    login = ServerLogin(RELAY, random=RANDOM)
    client = DerpClient(
        CLIENT,
        random=RANDOM,
        upgrade=HttpUpgrade("relay.test", ideal_node="1a"),
        server_key=node_public(RELAY) if fast_start else None,
        claims=ClientClaims(can_ack_pings=True, is_prober=True, app_name="test"),
    )
    request, _, sent = client.data_to_send().partition(b"\r\n\r\n")
    assert request.startswith(b"GET /derp HTTP/1.1\r\nHost: relay.test\r\n")
    assert (b"Derp-Fast-Start: 1" in request) == fast_start
    to_client = login.greeting() if fast_start else HEAD + login.greeting()
    events: list[object] = []
    for piece in pieces(to_client, cuts):
        events += client.receive_bytes(piece)
    sent += client.data_to_send()
    early = SendPacket(PEER, b"early").encode()
    outcomes = [login.receive_bytes(piece) for piece in pieces(sent + early, cuts)]
    proven = [outcome for outcome in outcomes if outcome is not None]
    assert proven == [ClientProven(node_public(CLIENT), ClientClaims(2, b"", True, True, "test"))]
    assert login.take_rest() == early
    for piece in pieces(login.admit(ServerClaims(2, 10, 20)) + KeepAlive().encode(), cuts):
        events += client.receive_bytes(piece)
    assert events == [LoggedIn(node_public(RELAY), ServerClaims(2, 10, 20)), Received(KeepAlive())]
    assert client.state is ClientState.READY


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    found, offset = [], 0
    for cut in [*cuts, len(data)]:
        found.append(data[offset : offset + cut])
        offset += cut
    return found


@pytest.mark.parametrize(("text", "claims"), [
    (b'{"Version":5,"MeshKey":"' + b"ab" * 32 + b'"}', ClientClaims(5, bytes([0xAB]) * 32)),
    (b'{"meshKey":"","version":2,"CANACKPINGS":true,"new":[1]}', ClientClaims(2, b"", True)),
    (b'{"can_ack_pings":true,"is_prober":false,"mesh_key":"","version":2}', ClientClaims(2)),
    (b"{}", ClientClaims(0)),
    (b'{"version":null}', ClientClaims(0)),
])  # fmt: skip
def test_client_information_of_other_programs(text: bytes, claims: ClientClaims) -> None:
    assert ClientClaims.decode(text) == claims


@pytest.mark.parametrize("text", [
    b"", b"[]", b"{", b"\xff", b'{"version":"2"}', b'{"version":true}', b'{"meshKey":"ab"}', b'{"meshKey":"zz"}',
    b'{"CanAckPings":1}', b"[" * 5000,
])  # fmt: skip
def test_wrong_information_is_malformed(text: bytes) -> None:
    for kind in (ClientClaims, ServerClaims):
        try:
            decoded = kind.decode(text)
        except Malformed:
            continue
        assert kind is ServerClaims  # it has fewer fields to get wrong
        assert decoded.version == 0


def test_claims_round_trip() -> None:
    claims = ClientClaims(2, bytes(range(32)), True, True, "app")
    assert ClientClaims.decode(claims.encode()) == claims
    assert ServerClaims.decode(ServerClaims(2, 1, 2).encode()) == ServerClaims(2, 1, 2)
    assert b"TokenBucket" not in ServerClaims().encode()
    assert "0001" not in repr(claims)


@pytest.mark.parametrize("data", [
    KeepAlive().encode(),
    encode_frame(FrameType.CLIENT_INFO, bytes(55)),
    encode_frame(FrameType.CLIENT_INFO, bytes(56)),
    ClientInfo(NodePublicKey.zero(), bytes(100)).encode(),
    ClientInfo(node_public(CLIENT), bytes(100)).encode(),
    ClientInfo(PEER, SharedBox(CLIENT, node_public(RELAY)).seal(b'{"version":2}', RANDOM)).encode(),
    ClientInfo(node_public(CLIENT), SharedBox(CLIENT, node_public(RELAY)).seal(b"nonsense", RANDOM)).encode(),
    bytes((FrameType.CLIENT_INFO,)) + (MAX_CLIENT_INFO_BYTES + 1).to_bytes(4, "big"),
])  # fmt: skip
def test_a_login_that_proves_nothing_fails(data: bytes) -> None:
    login = ServerLogin(RELAY, random=RANDOM)
    assert isinstance(login.receive_bytes(data), LoginFailed)
    assert login.state is ServerLoginState.FAILED
    assert login.receive_bytes(data) is None


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_random_bytes_never_raise(data: bytes) -> None:
    ServerLogin(RELAY, random=RANDOM).receive_bytes(data)
    DerpClient(CLIENT, random=RANDOM).receive_bytes(data)
    DerpClient(CLIENT, random=RANDOM, upgrade=HttpUpgrade("x")).receive_bytes(HEAD + data)
    ready_client().receive_bytes(data)


@pytest.mark.parametrize("data", [
    KeepAlive().encode(),
    encode_frame(FrameType.SERVER_KEY, bytes(40)),
    encode_frame(FrameType.SERVER_KEY, b"DERP"),
    ServerKey(NodePublicKey.zero()).encode(),
    ServerKey(PEER).encode() + ServerInfo(bytes(100)).encode(),
    ServerKey(PEER).encode() + RecvPacket(PEER, b"").encode(),
    encode_frame(FrameType.SERVER_KEY, bytes(1025)),
])  # fmt: skip
def test_a_relay_that_greets_wrongly_is_left(data: bytes) -> None:
    client = DerpClient(CLIENT, random=RANDOM)
    events = client.receive_bytes(data)
    assert isinstance(events[-1], PeerViolation)
    assert client.state is ClientState.FAILED
    assert client.receive_bytes(KeepAlive().encode()) == []
    with pytest.raises(LocalProtocolError):
        client.send(NotePreferred(True))


@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 426 Upgrade Required\r\n\r\n",
    b"HTTP/2 101 x\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"x" * (MAX_HEAD_BYTES + 1),
])  # fmt: skip
def test_only_101_upgrades(answer: bytes) -> None:
    client = DerpClient(CLIENT, random=RANDOM, upgrade=HttpUpgrade("x"))
    assert [type(event) for event in client.receive_bytes(answer)] == [PeerViolation]


def test_packets_of_one_peer_come_as_a_run() -> None:
    client = ready_client()
    other = node_public(CLIENT)
    frames: list[Frame] = [
        RecvPacket(PEER, b"1"),
        RecvPacket(PEER, b"2"),
        KeepAlive(),
        RecvPacket(PEER, b"3"),
        RecvPacket(other, b""),
    ]
    assert client.receive_bytes(b"".join(frame.encode() for frame in frames)) == [
        PacketsReceived(PEER, (b"1", b"2")),
        Received(KeepAlive()),
        PacketsReceived(PEER, (b"3",)),
        PacketsReceived(other, (b"",)),
    ]


def test_short_and_unknown_frames_are_skipped() -> None:
    client = ready_client()
    short = [UnknownFrame(kind, b"x").encode() for kind in (0x05, 0x08, 0x09, 0x12, 0x13, 0x15)]
    wire = b"".join(short) + UnknownFrame(0x66, b"").encode() + ServerKey(PEER).encode() + Health("x").encode()
    assert client.receive_bytes(wire) == [Received(Health("x"))]
    assert client.skipped_frames == len(short) + 2


def test_a_frame_of_four_gigabytes_is_a_violation_at_its_header() -> None:
    client = ready_client()
    events = client.receive_bytes(PeerGone(PEER).encode() + b"\x66\xff\xff\xff\xff")
    assert events[0] == Received(PeerGone(PEER))
    assert isinstance(events[1], PeerViolation)


def test_restart_hints_are_clamped() -> None:
    assert ready_client().receive_bytes(Restarting(4000.0, 4000.0).encode()) == [Received(Restarting(30.0, 300.0))]


def test_ping_is_left_to_the_owner() -> None:
    client = ready_client()
    assert client.receive_bytes(Ping(b"12345678").encode()) == [Received(Ping(b"12345678"))]
    assert client.data_to_send() == b""


@given(count=st.integers(1, 20), stride=st.integers(1, 300), last=st.integers(1, 300))
@settings(max_examples=50)
def test_a_train_is_as_many_send_packets(count: int, stride: int, last: int) -> None:
    packets = [bytes((number,)) * stride for number in range(count)] + [bytes(min(last, stride))]
    wire = encode_train(PEER, Train(b"".join(packets), stride))
    assert wire == b"".join(SendPacket(PEER, packet).encode() for packet in packets)


def test_the_metacert_names_the_relay() -> None:
    assert metacert_key("derpkey" + PEER.raw.hex(), 2) == PEER
    for name, serial in (("derpkey" + "00" * 31, 2), (PEER.raw.hex(), 2), ("derpkey" + PEER.raw.hex(), 256)):
        assert metacert_key(name, serial) is None

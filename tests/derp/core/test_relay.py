"""The relay's core without a network: deliveries, notices, duplicates."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.derp.core.connection import Connection, DuplicatePolicy
from tailbox.derp.core.counters import DropReason, PacketKind, RelayCounters
from tailbox.derp.core.login import ClientClaims
from tailbox.derp.core.relay import MAX_CONNECTIONS_PER_KEY, Relay, RelayEffects
from tailbox.derp.core.token_bucket import TokenBucket
from tailbox.wire.derp import (
    ClosePeer,
    ForwardPacket,
    Frame,
    NotePreferred,
    PeerGone,
    PeerGoneReason,
    Ping,
    RecvPacket,
    SendPacket,
    WatchConns,
)
from tailbox.wire.keys import NodePublicKey

KEYS = [NodePublicKey(bytes([number]) * 32) for number in range(1, 9)]
A, B, C = KEYS[:3]
DISCO = b"TS\xf0\x9f\x92\xac" + bytes(10)


class World:
    """A relay with a clock."""

    def __init__(self, policy: DuplicatePolicy = DuplicatePolicy.LAST_WRITER) -> None:
        self.counters = RelayCounters()
        self.relay = Relay(self.counters, policy=policy)
        self.now = 0.0

    def join(self, key: NodePublicKey) -> Connection:
        return self.relay.register(key, ClientClaims(), now=self.now)[0]

    def send(self, source: Connection, *frames: Frame) -> RelayEffects:
        return self.relay.receive_bytes(source, b"".join(frame.encode() for frame in frames), now=self.now)

    def receiver_of(self, source: Connection, key: NodePublicKey) -> Connection | None:
        deliveries = self.send(source, SendPacket(key, b"x")).deliveries
        return deliveries[0].destination if deliveries else None


def test_a_delivery_is_the_packet_with_the_sources_key() -> None:
    world = World()
    one, two = world.join(A), world.join(B)
    effects = world.send(one, SendPacket(B, b"12"), SendPacket(B, b"3"), SendPacket(B, DISCO), SendPacket(A, b""))
    assert [(each.destination, each.is_disco, each.packets) for each in effects.deliveries] == [
        (two, False, (b"12", b"3")),
        (two, True, (DISCO,)),
        (one, False, (b"",)),
    ]
    assert b"".join(effects.deliveries[0].pieces) == RecvPacket(A, b"12").encode() + RecvPacket(A, b"3").encode()
    assert world.counters.bytes_received == 3 + len(DISCO)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=40)), max_size=30),
    st.lists(st.integers(1, 90), max_size=40),
)
@settings(max_examples=60)
def test_every_packet_reaches_its_destination_once_and_in_order(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    world = World()
    connections = [world.join(key) for key in KEYS[:4]]
    stream = b"".join(SendPacket(KEYS[to], packet).encode() for to, packet in sent)
    received: dict[Connection, list[bytes]] = {connection: [] for connection in connections}
    offset = 0
    for cut in [*cuts, len(stream)]:
        for delivery in world.relay.receive_bytes(connections[0], stream[offset : offset + cut], now=0.0).deliveries:
            received[delivery.destination] += delivery.packets
        offset += cut
    for number, connection in enumerate(connections):
        assert received[connection] == [packet for to, packet in sent if to == number]


def test_unknown_destinations_are_answered_for_disco_up_to_three_then_one_a_second() -> None:
    world = World()
    one = world.join(A)
    assert world.send(one, SendPacket(B, b"x")).frames == ()
    notice = PeerGone(B, PeerGoneReason.NOT_HERE).encode()
    assert world.send(one, *[SendPacket(B, DISCO)] * 5).frames == ((one, notice),) * 3
    world.now = 1.0
    assert world.send(one, *[SendPacket(B, DISCO)] * 5).frames == ((one, notice),)
    assert world.counters.packets_dropped[DropReason.UNKNOWN_DESTINATION, PacketKind.DISCO] == 10
    assert world.counters.packets_dropped[DropReason.UNKNOWN_DESTINATION, PacketKind.OTHER] == 1


def test_only_those_who_heard_a_peer_hear_that_it_left() -> None:
    world = World()
    one, two, three = world.join(A), world.join(B), world.join(C)
    world.send(one, SendPacket(B, b"x"))
    world.send(three, SendPacket(B, b"x"))
    notice = PeerGone(A, PeerGoneReason.DISCONNECTED).encode()
    assert world.relay.unregister(one).frames == ((two, notice),)
    assert world.relay.unregister(one) == RelayEffects()
    again = world.join(A)
    assert world.relay.unregister(again).frames == ()
    assert world.relay.unregister(two).frames == ()
    assert world.relay.unregister(three).frames == ()
    assert world.relay.keys == 0
    assert world.counters.current_connections == 0


def test_a_peer_with_another_connection_has_not_left() -> None:
    world = World()
    first, second, listener = world.join(A), world.join(A), world.join(B)
    world.send(first, SendPacket(B, b"x"))
    assert world.relay.unregister(first).frames == ()
    assert [each for each, _ in world.relay.unregister(second).frames] == [listener]


@pytest.mark.parametrize("frame", [WatchConns(), ClosePeer(B), ForwardPacket(A, B, b"x")])
def test_mesh_frames_close_the_connection_of_a_client(frame: Frame) -> None:
    world = World()
    one = world.join(A)
    world.join(B)
    effects = world.send(one, SendPacket(B, b"before"), frame, SendPacket(B, b"after"))
    assert [delivery.packets for delivery in effects.deliveries] == [(b"before",)]
    assert [connection for connection, _ in effects.close] == [one]


def test_nothing_is_read_after_a_stream_broke_its_limits() -> None:
    world = World()
    one = world.join(A)
    world.join(B)
    assert world.relay.receive_bytes(one, b"\x66\xff\xff\xff\xff", now=0.0).close
    assert world.send(one, SendPacket(B, b"x")) == RelayEffects()


@given(st.binary(max_size=400))
@settings(max_examples=100)
def test_random_bytes_never_raise(data: bytes) -> None:
    world = World()
    world.relay.receive_bytes(world.join(A), data, now=0.0)


def test_pings_are_answered_within_reason() -> None:
    world = World()
    one = world.join(A)
    assert len(world.send(one, *[Ping(b"12345678")] * 50).pongs) == 10
    world.now = 1.0
    assert len(world.send(one, *[Ping(b"12345678")] * 50).pongs) == 5


def test_home_is_a_gauge_and_late_changes_are_moves() -> None:
    world = World()
    one = world.join(A)
    world.send(one, NotePreferred(True), NotePreferred(True))
    assert (world.counters.current_home_connections, world.counters.home_moves_in) == (1, 0)
    world.now = 6.0
    world.send(one, NotePreferred(False))
    world.send(one, NotePreferred(True))
    assert (world.counters.home_moves_in, world.counters.home_moves_out) == (1, 1)
    world.relay.unregister(one)
    assert world.counters.current_home_connections == 0


def test_the_last_writer_is_active() -> None:
    world = World()
    sender, old, new = world.join(A), world.join(B), world.join(B)
    assert world.receiver_of(sender, B) is new
    world.send(old, NotePreferred(True))
    assert world.receiver_of(sender, B) is old
    world.send(new, NotePreferred(True))
    assert world.receiver_of(sender, B) is new
    third = world.join(B)
    assert world.receiver_of(sender, B) is third
    assert world.counters.current_duplicate_connections == 3
    world.relay.unregister(third)
    assert world.receiver_of(sender, B) is new
    world.relay.unregister(new)
    assert world.receiver_of(sender, B) is old
    counters = world.counters
    assert (counters.current_duplicate_keys, counters.current_duplicate_connections) == (0, 0)
    assert counters.total_duplicate_connections == 2


def test_connections_that_fight_are_silent_for_half_a_minute() -> None:
    world = World()
    sender, old, new = world.join(A), world.join(B), world.join(B)
    for number in range(4):
        world.send((old, new)[number % 2], NotePreferred(True))
    assert world.receiver_of(sender, B) is None
    assert world.counters.duplicate_fights == 1
    assert world.counters.packets_dropped[DropReason.DUPLICATE_CLIENT, PacketKind.OTHER] == 1
    world.now = 29.0
    world.send(old, NotePreferred(True))
    assert world.receiver_of(sender, B) is None
    world.now = 31.0
    assert world.receiver_of(sender, B) is new
    world.send(old, NotePreferred(True))
    assert world.receiver_of(sender, B) is old


def test_slow_turns_are_no_fight() -> None:
    world = World()
    sender, old, new = world.join(A), world.join(B), world.join(B)
    for number in range(20):
        world.now += 25.0
        world.send((old, new)[number % 2], NotePreferred(True))
        assert world.receiver_of(sender, B) is (old, new)[number % 2]


def test_the_other_policy_disables_fighters_until_one_is_left() -> None:
    world = World(DuplicatePolicy.DISABLE_FIGHTERS)
    sender, old, new = world.join(A), world.join(B), world.join(B)
    world.send(new, NotePreferred(True))
    assert world.receiver_of(sender, B) is new
    world.send(old, NotePreferred(True))
    assert world.receiver_of(sender, B) is None
    world.now = 1000.0
    assert world.receiver_of(sender, B) is None
    world.relay.unregister(new)
    assert world.receiver_of(sender, B) is old


def test_a_newcomer_ends_a_fight() -> None:
    world = World(DuplicatePolicy.DISABLE_FIGHTERS)
    sender, old, new = world.join(A), world.join(B), world.join(B)
    world.send(new, NotePreferred(True))
    world.send(old, NotePreferred(True))
    third = world.join(B)
    assert world.receiver_of(sender, B) is third


def test_a_key_has_a_bounded_number_of_connections() -> None:
    world = World()
    first = world.join(A)
    for _ in range(MAX_CONNECTIONS_PER_KEY - 1):
        world.join(A)
    _, effects = world.relay.register(A, ClientClaims(), now=0.0)
    assert [connection for connection, _ in effects.close] == [first]


def test_a_token_bucket_fills_and_empties() -> None:
    bucket = TokenBucket(10.0, 5.0, now=0.0)
    assert [bucket.take(now=0.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.take(now=0.1)
    assert not bucket.is_full(now=0.2)
    assert bucket.is_full(now=10.0)
    assert bucket.charge(25.0, now=10.0) == pytest.approx(2.0)
    assert bucket.charge(0.0, now=13.0) == 0.0
    unlimited = TokenBucket(0.0, 0.0, now=0.0)
    assert unlimited.take(now=0.0)
    assert unlimited.charge(1e9, now=0.0) == 0.0

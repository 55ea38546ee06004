"""The endpoint: two of them back to back, over a wire that loses, repeats, reorders and forges."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.randomness import SeededRandom
from tailbox.wire.keys import NodePublicKey
from tailbox.wire.train import Train
from tailbox.wire.wireguard import INITIATION_BYTES, MessageType, message_type
from tailbox.wireguard.events import (
    Dropped,
    DropReason,
    HandshakeAbandoned,
    HandshakeCompleted,
    HandshakeStarted,
    SessionExpired,
    TunnelEffects,
)
from tailbox.wireguard.session import Session
from tailbox.wireguard.staging import MAX_STAGED_PACKETS
from tailbox.wireguard.tunnels import MAX_PEERS_PER_DEADLINE, PeerSettings, PeerStatus, Tunnels
from tests.wireguard.pair import UNIX_OFFSET_S, End, Pair

PACKET = b"sixteen bytes ok" * 4


def current_session(end: End, peer: End) -> Session:
    session = end.tunnels._peers[peer.public]._keys.current
    assert session is not None
    return session


def starts(end: End) -> int:
    return sum(isinstance(event, HandshakeStarted) for event in end.events)


def completions(end: End) -> list[bool]:
    """Who initiated each completed handshake: True for us."""
    return [event.initiated_by_us for event in end.events if isinstance(event, HandshakeCompleted)]


def black_hole(sender: End, train: Train) -> Iterable[Train]:
    return []


# Handshake and data


@pytest.mark.parametrize("preshared_key", [None, bytes(range(32))])
def test_the_first_packet_starts_a_handshake_and_arrives(preshared_key: bytes | None) -> None:
    pair = Pair(preshared_key=preshared_key)
    pair.send(pair.alice, PACKET)
    assert pair.bob.received == [(pair.alice.public, PACKET)]
    assert (completions(pair.alice), completions(pair.bob)) == ([True], [False])
    assert pair.bob.public in pair.alice.heard
    assert pair.alice.public in pair.bob.heard
    pair.send(pair.bob, PACKET)
    assert pair.alice.received == [(pair.bob.public, PACKET)]
    assert starts(pair.bob) == 0
    assert not pair.alice.tunnels.drops
    assert not pair.bob.tunnels.drops


def test_different_preshared_keys_never_meet() -> None:
    pair = Pair(preshared_key=bytes(32))
    settings_of_bob = {pair.alice.public: PeerSettings(preshared_key=bytes([1] * 32))}
    pair.bob.note(pair.bob.tunnels.set_peers(settings_of_bob, now=pair.now))
    pair.send(pair.alice, PACKET)
    assert pair.alice.tunnels.drops[DropReason.BAD_HANDSHAKE] == 1
    assert pair.bob.received == []


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 64), st.integers(1, 1280)), max_size=8))
def test_trains_of_any_shape_arrive_in_order(trains: list[tuple[bool, int, int]]) -> None:
    pair = Pair()
    expected: dict[bool, list[bytes]] = {True: [], False: []}
    for number, (from_alice, count, size) in enumerate(trains):
        count = min(count, 65_507 // (size + 48))
        packets = [bytes([number + 1, row + 1]).ljust(size, b"x")[:size] for row in range(count)]
        pair.send(pair.alice if from_alice else pair.bob, *packets)
        expected[from_alice] += packets
    assert [packet.rstrip(b"\0") for _, packet in pair.bob.received] == expected[True]
    assert [packet.rstrip(b"\0") for _, packet in pair.alice.received] == expected[False]


def test_a_bulk_train_goes_in_one_piece_each_way() -> None:
    pair = Pair()
    pair.send(pair.alice, PACKET)
    plain = Train(bytes(1280 * 49), 1280)
    effects = pair.alice.tunnels.seal(pair.bob.public, plain, now=pair.now)
    ((peer, sealed),) = effects.to_network
    assert (peer, len(sealed), sealed.stride) == (pair.bob.public, 49, 1312)
    opened = pair.bob.tunnels.open(sealed, source=b"", now=pair.now)
    assert opened.to_stack == ((pair.alice.public, plain),)
    assert opened.heard == (pair.alice.public,)
    assert opened.events == ()


def test_packets_waiting_for_a_handshake_are_copied_and_the_oldest_dropped() -> None:
    pair = Pair()
    buffer = bytearray()
    pair.tamper = black_hole
    for number in range(MAX_STAGED_PACKETS + 22):
        buffer[:] = bytes([number]) * 64
        pair.exchange(pair.alice, pair.alice.tunnels.seal(pair.bob.public, Train.of(bytes(buffer)), now=pair.now))
    assert pair.alice.tunnels.drops == {DropReason.STAGING_FULL: 22}
    assert starts(pair.alice) == 1
    pair.tamper = lambda sender, train: [train]
    pair.run_for(6.0)
    assert [packet[0] for _, packet in pair.bob.received] == list(range(22, MAX_STAGED_PACKETS + 22))


def test_packets_for_strangers_and_giants_are_dropped() -> None:
    pair = Pair()
    stranger = NodePublicKey(bytes([9] * 32))
    effects = pair.alice.tunnels.seal(stranger, Train(bytes(128), 64), now=pair.now)
    assert effects == TunnelEffects(events=(Dropped(DropReason.UNKNOWN_PEER, 2, stranger),))
    pair.send(pair.alice, bytes(65_507))
    pair.send(pair.alice, PACKET)
    pair.send(pair.alice, bytes(65_507))
    assert pair.alice.tunnels.drops[DropReason.TOO_BIG] == 2
    assert pair.bob.received == [(pair.alice.public, PACKET)]
    assert pair.alice.tunnels.seal(pair.bob.public, Train(b"", 1), now=pair.now) == TunnelEffects()


def test_a_peer_key_of_low_order_is_never_spoken_to() -> None:
    pair = Pair()
    point = NodePublicKey(b"\1" + bytes(31))
    effects = pair.alice.tunnels.set_peers({point: PeerSettings(persistent_keepalive_s=5.0)}, now=pair.now)
    assert effects.events == (Dropped(DropReason.BAD_HANDSHAKE, 1, point),)
    assert pair.alice.tunnels.seal(point, Train.of(PACKET), now=pair.now).to_network == ()


# Hostile input


def test_bad_packets_in_a_train_drop_themselves_alone() -> None:
    pair = Pair()
    pair.send(pair.alice, PACKET)
    sealed = pair.alice.tunnels.seal(pair.bob.public, Train(bytes(64 * 30), 64), now=pair.now).to_network[0][1]
    data = bytearray(sealed.data)
    data[10 * 96 + 50] ^= 1  # forged
    data[20 * 96 : 21 * 96] = data[19 * 96 : 20 * 96]  # repeated
    data[25 * 96 + 4 : 25 * 96 + 8] = b"\0\0\0\0"  # no such index
    data[27 * 96] = 9  # no such type
    effects = pair.bob.tunnels.open(Train(bytes(data), 96), source=b"", now=pair.now)
    assert [len(train) for _, train in effects.to_stack] == [10, 9, 4, 1, 2]
    expected = dict.fromkeys((DropReason.FORGED, DropReason.REPLAYED, DropReason.UNKNOWN_INDEX), 1)
    assert pair.bob.tunnels.drops == expected | {DropReason.UNKNOWN_TYPE: 1}
    again = pair.bob.tunnels.open(Train(bytes(data), 96), source=b"", now=pair.now)
    assert again.to_stack == ()
    assert again.heard == ()
    assert pair.bob.tunnels.drops[DropReason.REPLAYED] == 1 + 27


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_random_trains_are_counted_and_answered_by_silence(data: st.DataObject) -> None:
    pair = Pair()
    pair.send(pair.alice, PACKET)
    index = current_session(pair.bob, pair.alice).local_index.to_bytes(4, "little")
    head = data.draw(st.sampled_from([b"", b"\1\0\0\0", b"\2\0\0\0", b"\3\0\0\0", b"\4\0\0\0", b"\4\0\0\0" + index]))
    body = data.draw(st.binary(min_size=1, max_size=160))
    stride = data.draw(st.integers(1, 160))
    junk = (head + body) * data.draw(st.integers(1, 10))
    before = pair.bob.tunnels.drops.total()
    train = Train(junk, min(stride, len(junk)))
    effects = pair.bob.tunnels.open(train, source=b"x", now=pair.now)
    assert pair.bob.tunnels.drops.total() - before == len(train)
    assert (effects.to_network, effects.to_source, effects.to_stack, effects.heard) == ((), (), (), ())


def test_empty_trains_and_runts_do_no_harm() -> None:
    tunnels = Pair().alice.tunnels
    assert tunnels.open(Train(b"", 1), source=b"", now=0.0) == TunnelEffects()
    tunnels.open(Train(b"\7", 1), source=b"", now=0.0)
    tunnels.open(Train(bytes(40), 4), source=b"", now=0.0)
    tunnels.open(Train(bytes(148 + 20), 148), source=b"", now=0.0)
    assert tunnels.drops == {DropReason.RUNT: 12, DropReason.UNKNOWN_TYPE: 1}


@settings(deadline=None, max_examples=30)
@given(flips=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10_000), st.integers(0, 7)), min_size=1, max_size=3))
def test_a_flipped_bit_anywhere_never_raises_and_the_next_attempt_succeeds(flips: list[tuple[int, int, int]]) -> None:
    """T-MITM-BYTE: messages are tampered with one by one, then left alone."""
    pair = Pair()
    seen = 0

    def tamper(sender: End, train: Train) -> list[Train]:
        nonlocal seen
        data = bytearray(train.data)
        for number, position, bit in flips:
            if number == seen:
                data[position % len(data)] ^= 1 << bit
        seen += 1
        return [Train(bytes(data), train.stride)]

    pair.tamper = tamper
    pair.send(pair.alice, PACKET)
    pair.run_for(30.0)
    pair.send(pair.alice, b"fresh")
    pair.run_for(10.0)
    assert pair.bob.received[-1][1].rstrip(b"\0") == b"fresh"


def test_a_replayed_initiation_is_refused() -> None:
    pair = Pair()
    captured = pair.capture(deliver=True)
    pair.send(pair.alice, PACKET)
    assert message_type(captured[0].data) is MessageType.INITIATION
    effects = pair.bob.tunnels.open(captured[0], source=b"attacker", now=pair.now + 30)
    assert effects == TunnelEffects(events=(Dropped(DropReason.REPLAYED_HANDSHAKE, 1, pair.alice.public),))
    replayed_response = pair.alice.tunnels.open(captured[1], source=b"attacker", now=pair.now + 30)
    assert replayed_response == TunnelEffects(events=(Dropped(DropReason.UNKNOWN_INDEX, 1),))


def test_initiations_of_one_peer_are_answered_every_20_ms_at_most() -> None:
    pair = Pair()
    captured = pair.capture(deliver=False)
    for _ in range(3):
        pair.send(pair.alice, PACKET)
        pair.run_for(6.0)
    initiations = [train for train in captured if len(train.data) == INITIATION_BYTES][:3]
    moments = (pair.now, pair.now + 0.019, pair.now + 0.021)
    answers = [
        len(pair.bob.tunnels.open(train, source=b"", now=moment).to_network)
        for train, moment in zip(initiations, moments, strict=True)
    ]
    assert answers == [1, 0, 1]
    assert pair.bob.tunnels.drops == {DropReason.HANDSHAKE_FLOOD: 1}


def test_strangers_get_no_answer_and_leave_nothing_behind() -> None:
    pair = Pair()
    eve = End("eve")
    eve.note(eve.tunnels.set_peers({pair.bob.public: PeerSettings()}, now=pair.now))
    (initiation,) = eve.note(eve.tunnels.seal(pair.bob.public, Train.of(PACKET), now=pair.now))
    effects = pair.bob.tunnels.open(initiation, source=b"", now=pair.now)
    assert effects == TunnelEffects(events=(Dropped(DropReason.UNKNOWN_PEER, 1),))
    assert pair.bob.tunnels._peers == {}
    assert len(pair.bob.tunnels._local.indices) == 0


def test_under_load_a_cookie_is_asked_for_and_then_the_handshake_succeeds() -> None:
    pair = Pair()
    flooders = [End(f"flood {number}") for number in range(4)]
    for round_ in range(40):
        for flooder in flooders:
            flooder.note(flooder.tunnels.set_peers({}, now=pair.now))
            flooder.note(flooder.tunnels.set_peers({pair.bob.public: PeerSettings()}, now=pair.now))
            (initiation,) = flooder.note(
                flooder.tunnels.seal(pair.bob.public, Train.of(PACKET), now=pair.now + round_ / 1000)
            )
            reply = pair.bob.tunnels.open(initiation, source=flooder.source, now=pair.now)
            assert all(len(message) == 64 for message in reply.to_source)
    assert pair.bob.tunnels.drops[DropReason.COOKIE_WANTED] > 0
    asked_before = pair.bob.tunnels.drops[DropReason.COOKIE_WANTED]
    pair.send(pair.alice, PACKET)
    assert pair.bob.tunnels.drops[DropReason.COOKIE_WANTED] == asked_before + 1
    assert pair.bob.received == []
    peer = pair.alice.tunnels.next_deadline()
    assert peer is not None
    pair.bob.tunnels._load._loaded_until = float("inf")  # the flood goes on
    pair.run_for(6.0)
    assert pair.bob.received == [(pair.alice.public, PACKET)]
    assert not pair.alice.tunnels.drops


def test_under_load_responses_need_cookies_too_and_forged_cookies_are_counted() -> None:
    pair = Pair()
    pair.alice.tunnels._load._loaded_until = float("inf")
    pair.send(pair.alice, PACKET)
    assert pair.alice.tunnels.drops == {DropReason.COOKIE_WANTED: 1}
    pair.run_for(6.0)
    assert pair.bob.received == [(pair.alice.public, PACKET)]
    index = current_session(pair.alice, pair.bob).local_index.to_bytes(4, "little")
    pair.alice.tunnels.open(Train.of(b"\3\0\0\0" + index + bytes(56)), source=b"", now=pair.now)
    pair.alice.tunnels.open(Train.of(b"\3\0\0\0" + bytes(60)), source=b"", now=pair.now)
    assert pair.alice.tunnels.drops[DropReason.BAD_COOKIE] == 1
    assert pair.alice.tunnels.drops[DropReason.UNKNOWN_INDEX] == 1


def test_one_source_with_a_cookie_still_has_a_limit() -> None:
    pair = Pair()
    tunnels = pair.bob.tunnels
    tunnels._load._loaded_until = float("inf")
    captured = pair.capture(deliver=True)
    pair.send(pair.alice, PACKET)
    pair.run_for(6.0)  # the second attempt shows the cookie
    shown = next(train for train in captured[1:] if len(train.data) == INITIATION_BYTES)
    for _ in range(10):
        tunnels.open(shown, source=pair.alice.source, now=pair.now)
    assert tunnels.drops[DropReason.RATE_LIMITED] == 5
    assert tunnels.drops[DropReason.REPLAYED_HANDSHAKE] == 5


# Time


def test_the_receiver_of_data_answers_with_a_keepalive_after_ten_seconds() -> None:
    pair = Pair()
    pair.send(pair.alice, PACKET)
    sent_before = pair.bob.tunnels.peer_status(pair.alice.public).sent_bytes
    pair.run_for(9.9)
    assert pair.bob.tunnels.peer_status(pair.alice.public).sent_bytes == sent_before
    pair.run_for(0.2)
    assert pair.bob.tunnels.peer_status(pair.alice.public).sent_bytes == sent_before + 32
    assert pair.alice.received == []
    pair.run_for(100.0)
    assert pair.bob.tunnels.peer_status(pair.alice.public).sent_bytes == sent_before + 32
    assert starts(pair.alice) == 1


def test_data_without_any_answer_starts_a_handshake_after_fifteen_seconds() -> None:
    pair = Pair()
    pair.send(pair.alice, PACKET)
    pair.run_for(20.0)
    pair.tamper = black_hole
    pair.send(pair.alice, PACKET)
    pair.run_for(14.9)
    assert starts(pair.alice) == 1
    pair.run_for(0.5)
    assert starts(pair.alice) == 2


def test_attempts_go_on_every_five_seconds_and_end_after_ninety() -> None:
    pair = Pair()
    pair.tamper = black_hole
    began = pair.now
    pair.send(pair.alice, PACKET, PACKET)
    moments = [pair.now]
    while (deadline := pair.alice.tunnels.next_deadline()) is not None:
        assert deadline.reason == "handshake retry"
        moments.append(deadline.at)
        pair.run_until(deadline.at)
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert all(5.0 <= gap < 5.34 for gap in gaps)
    assert len(set(gaps)) > 10  # jitter
    assert 90.0 <= pair.now - began < 95.4
    assert 17 <= starts(pair.alice) <= 18
    assert pair.alice.events[-1] == HandshakeAbandoned(pair.bob.public, 2)
    assert pair.alice.tunnels.drops == {DropReason.HANDSHAKE_ABANDONED: 2}
    assert len(pair.alice.tunnels._local.indices) == 0
    pair.tamper = lambda sender, train: [train]
    pair.send(pair.alice, b"later")
    assert [packet.rstrip(b"\0") for _, packet in pair.bob.received] == [b"later"]


def test_the_initiator_rekeys_after_two_minutes_of_sending_without_losing_a_packet() -> None:
    pair = Pair()
    for number in range(300):
        pair.send(pair.alice, number.to_bytes(2, "big") * 8)
        pair.send(pair.bob, number.to_bytes(2, "big") * 8)
        pair.run_for(1.0)
    numbers = list(range(300))
    assert [int.from_bytes(packet[:2], "big") for _, packet in pair.bob.received] == numbers
    assert [int.from_bytes(packet[:2], "big") for _, packet in pair.alice.received] == numbers
    assert completions(pair.alice) == [True] * 3
    assert completions(pair.bob) == [False] * 3
    assert not pair.alice.tunnels.drops
    assert len(pair.alice.tunnels._local.indices) <= 3


def test_an_initiator_that_only_listens_rekeys_too() -> None:
    pair = Pair()
    pair.send(pair.alice, PACKET)
    for _ in range(340):
        pair.run_for(1.0)
        pair.send(pair.bob, PACKET)
    assert len(pair.alice.received) == 340
    assert len(completions(pair.alice)) >= 2


def test_sessions_end_after_three_minutes_and_are_forgotten() -> None:
    pair = Pair()
    pair.send(pair.alice, PACKET)
    captured = pair.capture(deliver=False)
    pair.run_for(100.0)
    pair.send(pair.alice, b"too late, as it will turn out...")
    pair.run_for(79.0)
    late = next(train for train in captured if len(train.data) == 64)
    assert pair.bob.tunnels.peer_status(pair.alice.public).has_session
    effects = pair.bob.tunnels.open(late, source=b"", now=pair.now + 1.5)
    assert effects.events == (Dropped(DropReason.SESSION_EXPIRED, 1, pair.alice.public),)
    pair.run_for(5.0)
    for end, other in ((pair.alice, pair.bob), (pair.bob, pair.alice)):
        assert SessionExpired(other.public) in end.events
        assert not end.tunnels.peer_status(other.public).has_session
    pair.run_for(200.0)
    assert len(pair.alice.tunnels._local.indices) == len(pair.bob.tunnels._local.indices) == 0
    assert pair.alice.tunnels.next_deadline() is None


def test_counters_near_their_end_bring_a_new_session() -> None:
    pair = Pair()
    pair.send(pair.alice, PACKET)
    pair.run_for(6.0)
    session = current_session(pair.alice, pair.bob)
    session.next_counter = (1 << 64) - (1 << 13) - 3
    pair.send(pair.alice, b"a" * 16, b"b" * 16)
    assert current_session(pair.alice, pair.bob) is not session
    pair.send(pair.alice, b"c" * 16)
    assert [packet[:1] for _, packet in pair.bob.received[1:]] == [b"a", b"b", b"c"]
    reply_index = session.remote_index.to_bytes(4, "little")
    beyond = b"\4\0\0\0" + reply_index + b"\xff" * 8 + bytes(32)
    effects = pair.bob.tunnels.open(Train.of(beyond), source=b"", now=pair.now)
    assert effects.events == (Dropped(DropReason.SESSION_EXPIRED, 1, pair.alice.public),)


def test_persistent_keepalives_connect_by_themselves_and_keep_going() -> None:
    pair = Pair(persistent_keepalive_s=25.0)
    assert completions(pair.alice) == [True]
    for _ in range(40):
        pair.run_for(25.0)
    assert len(completions(pair.alice)) >= 8
    assert pair.bob.received == []
    pair.alice.note(pair.alice.tunnels.set_peers({pair.bob.public: PeerSettings()}, now=pair.now))
    pair.run_for(200.0)
    assert pair.alice.tunnels.next_deadline() is None


def test_turning_persistent_keepalives_on_speaks_at_once() -> None:
    pair = Pair()
    pair.send(pair.alice, PACKET)
    settings_of_bob = {pair.bob.public: PeerSettings(persistent_keepalive_s=5.0)}
    effects = pair.alice.tunnels.set_peers(settings_of_bob, now=pair.now)
    assert [len(train.data) for _, train in effects.to_network] == [32]


def test_a_listener_in_a_stream_keeps_sending_keepalives() -> None:
    pair = Pair()
    pair.send(pair.alice, PACKET)
    for _ in range(10):
        pair.run_for(3.0)
        pair.send(pair.alice, PACKET)
    assert pair.bob.tunnels.peer_status(pair.alice.public).sent_bytes == 3 * 32  # after 10, 20 and 30 s
    pair.run_for(10.1)
    assert pair.bob.tunnels.peer_status(pair.alice.public).sent_bytes == 4 * 32
    pair.run_for(50.0)  # one more, for data that came while the last one was due; then silence
    assert pair.bob.tunnels.peer_status(pair.alice.public).sent_bytes == 5 * 32


def test_an_initiator_refreshes_an_old_session_when_it_receives() -> None:
    pair = Pair()
    pair.send(pair.alice, PACKET)
    pair.run_for(166.0)
    assert starts(pair.alice) == 1
    pair.send(pair.bob, PACKET)
    assert completions(pair.alice) == [True, True]


def test_both_ends_starting_at_once_settle() -> None:
    pair = Pair()
    crossing = [
        (end, train)
        for end in (pair.alice, pair.bob)
        for train in end.note(end.tunnels.seal(pair.other(end).public, Train.of(PACKET), now=pair.now))
    ]
    for sender, train in crossing:
        receiver = pair.other(sender)
        pair.exchange(receiver, receiver.tunnels.open(train, source=sender.source, now=pair.now))
    pair.run_for(6.0)
    for number in range(10):
        pair.send(pair.alice, bytes([number + 1]) * 16)
        pair.send(pair.bob, bytes([number + 1]) * 16)
        pair.run_for(1.0)
    assert [packet for _, packet in pair.bob.received] == [PACKET] + [bytes([n + 1]) * 16 for n in range(10)]
    assert [packet for _, packet in pair.alice.received] == [PACKET] + [bytes([n + 1]) * 16 for n in range(10)]


def test_a_lost_response_does_not_strand_the_responders_packets() -> None:
    pair = Pair()
    pair.tamper = lambda sender, train: [train] if sender is pair.alice else []
    pair.send(pair.alice, PACKET)
    pair.tamper = black_hole
    pair.send(pair.bob, b"from the responder")
    pair.tamper = lambda sender, train: [train] if sender is pair.bob else []
    pair.run_for(5.5)
    pair.tamper = lambda sender, train: [train]
    pair.run_for(6.0)
    assert [packet.rstrip(b"\0") for _, packet in pair.alice.received] == [b"from the responder"]


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32))
def test_a_bad_network_delivers_nothing_twice_and_recovers(seed: int) -> None:
    """Loss, repetition and reordering under virtual time; connectivity then returns (reliability §5, model 1)."""
    random = SeededRandom(seed)
    pair = Pair()
    held: list[tuple[End, Train]] = []

    def tamper(sender: End, train: Train) -> list[Train]:
        fate = random.uniform(0.0, 1.0)
        if fate < 0.3:
            return []
        if fate < 0.5:
            held.append((sender, train))
            return [train for owner, train in held if owner is sender and random.uniform(0, 1) < 0.5]
        return [train] if fate < 0.8 else [train, train]

    pair.tamper = tamper
    for number in range(60):
        sender = pair.alice if random.uniform(0, 1) < 0.5 else pair.bob
        pair.send(sender, number.to_bytes(2, "big") * 8)
        pair.run_for(random.uniform(0.0, 9.0))
    for end in (pair.alice, pair.bob):
        assert len({packet for _, packet in end.received}) == len(end.received)
    pair.tamper = lambda sender, train: [train]
    pair.run_for(95.0)
    pair.send(pair.alice, b"alive")
    pair.send(pair.bob, b"alive")
    pair.run_for(6.0)
    for end in (pair.alice, pair.bob):
        assert end.received[-1][1].rstrip(b"\0") == b"alive"


def test_deadlines_are_harmless_early_and_twice() -> None:
    pair = Pair()
    pair.send(pair.alice, PACKET)
    assert pair.alice.tunnels.handle_deadline(now=pair.now) == TunnelEffects()
    deadline = pair.bob.tunnels.next_deadline()
    assert deadline is not None
    assert len(pair.bob.tunnels.handle_deadline(now=deadline.at).to_network) == 1
    assert pair.bob.tunnels.handle_deadline(now=deadline.at) == TunnelEffects()


# Many peers, and their coming and going


def test_configured_peers_cost_nothing_until_used() -> None:
    end = End("busy")
    peers = {NodePublicKey(number.to_bytes(32, "little")): PeerSettings() for number in range(9, 5009)}
    end.tunnels.set_peers(peers, now=0.0)
    assert end.tunnels._peers == {}
    assert end.tunnels.next_deadline() is None
    first = next(iter(peers))
    assert end.tunnels.peer_status(first) == PeerStatus()
    end.tunnels.seal(first, Train.of(PACKET), now=0.0)
    assert list(end.tunnels._peers) == [first]


def test_many_due_peers_are_served_in_bounded_portions() -> None:
    end = End("busy")
    count = MAX_PEERS_PER_DEADLINE + 10
    keys = [NodePublicKey(number.to_bytes(32, "little")) for number in range(9, 9 + count)]
    end.tunnels.set_peers(dict.fromkeys(keys, PeerSettings()), now=0.0)
    for key in keys:
        end.tunnels.seal(key, Train.of(PACKET), now=0.0)
    portions = [len(end.tunnels.handle_deadline(now=6.0).to_network) for _ in range(3)]
    assert portions == [MAX_PEERS_PER_DEADLINE, 10, 0]


def test_failed_handshakes_leave_no_objects_behind() -> None:
    end = End("busy")
    key = NodePublicKey((9).to_bytes(32, "little"))
    for round_ in range(200):
        end.tunnels.set_peer(key, PeerSettings(), now=float(round_))
        end.tunnels.seal(key, Train.of(PACKET), now=float(round_))
        end.tunnels.remove_peer(key, now=float(round_))
        assert len(end.tunnels._local.indices) == 0
        assert len(end.tunnels._schedule) < 70
    assert end.tunnels.drops == {DropReason.PEER_REMOVED: 200}
    assert end.tunnels.next_deadline() is None


def test_a_removed_peer_is_a_stranger_and_an_unchanged_one_notices_nothing() -> None:
    pair = Pair()
    pair.send(pair.alice, PACKET)
    same = {pair.alice.public: PeerSettings(), pair.bob.public: PeerSettings()}
    assert pair.bob.tunnels.set_peers(same, now=pair.now) == TunnelEffects()
    pair.send(pair.alice, PACKET)
    assert len(pair.bob.received) == 2
    pair.bob.tunnels.set_peers({}, now=pair.now)
    pair.send(pair.alice, PACKET)
    assert len(pair.bob.received) == 2
    assert pair.bob.tunnels.drops == {DropReason.UNKNOWN_INDEX: 1}
    assert pair.bob.tunnels.peer_status(pair.alice.public) == PeerStatus()


def test_our_own_key_is_no_peer() -> None:
    end = End("narcissus")
    end.tunnels.set_peer(end.public, PeerSettings(persistent_keepalive_s=1.0), now=0.0)
    end.tunnels.seal(end.public, Train.of(PACKET), now=0.0)
    assert end.tunnels.drops == {DropReason.UNKNOWN_PEER: 1}


def test_a_reset_peer_shakes_hands_again_at_once() -> None:
    pair = Pair()
    pair.send(pair.alice, PACKET)
    pair.run_for(1.0)
    pair.alice.tunnels.reset_peer(pair.bob.public, now=pair.now)
    pair.alice.tunnels.reset_peer(NodePublicKey(bytes([5] * 32)), now=pair.now)
    assert not pair.alice.tunnels.peer_status(pair.bob.public).has_session
    pair.send(pair.alice, PACKET)
    assert len(pair.bob.received) == 2
    assert completions(pair.alice) == [True, True]


def test_status_tells_handshake_and_bytes() -> None:
    pair = Pair()
    pair.send(pair.alice, bytes(100))
    status = pair.alice.tunnels.peer_status(pair.bob.public)
    assert status == PeerStatus(last_handshake_at=pair.now, sent_bytes=144, received_bytes=0, has_session=True)
    assert pair.bob.tunnels.peer_status(pair.alice.public).received_bytes == 144


def test_settings_are_checked_and_secrets_do_not_show() -> None:
    with pytest.raises(ValueError, match="pre-shared key of 3 bytes"):
        PeerSettings(preshared_key=b"abc")
    with pytest.raises(ValueError, match="persistent keepalive"):
        PeerSettings(persistent_keepalive_s=-1.0)
    assert "secret" not in repr(PeerSettings(preshared_key=b"secret".ljust(32)))


def test_seeds_replay_exactly() -> None:
    def first_message() -> bytes:
        end = End("alice")
        key = NodePublicKey((9).to_bytes(32, "little"))
        tunnels = Tunnels(end.private, random=SeededRandom(1), unix_offset_s=UNIX_OFFSET_S)
        tunnels.set_peer(key, PeerSettings(), now=0.0)
        return bytes(tunnels.seal(key, Train.of(PACKET), now=0.0).to_network[0][1].data)

    assert first_message() == first_message()

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tailbox.crypto.x25519 import generate, node_public
from tailbox.paths.disco_seal import DiscoSeal
from tailbox.paths.events import (
    DiscoDropReason,
    FreshEndpointsWanted,
    PathChanged,
    PathChangeReason,
    PathEffects,
    PingPurpose,
    PingTimedOut,
    PongReceived,
)
from tailbox.paths.path import Direct, PeerReach, Relayed
from tailbox.paths.path_finder import PathFinder
from tailbox.randomness import SeededRandom
from tailbox.wire.addresses import Endpoint
from tailbox.wire.disco import CallMeMaybe, Envelope, Ping, Pong, UnknownMessage
from tailbox.wire.keys import DiscoPrivateKey, DiscoPublicKey, NodePrivateKey, NodePublicKey

if TYPE_CHECKING:
    from tests.paths.conftest import Host, Network

REGION = 900
RELAY = Relayed(REGION)
A4, B4 = "10.0.0.1:41641", "10.0.0.2:41641"
B6 = "[2001:db8::2]:41641"


def pair(network: Network, *, home: int = REGION, with_endpoints: bool = True) -> tuple[Host, Host]:
    a, b = network.host("a", A4, "[2001:db8::1]:41641"), network.host("b", B4, B6)
    network.introduce(home=home, with_endpoints=with_endpoints)
    return a, b


def test_traffic_starts_by_relay_and_moves_to_the_direct_path(network: Network) -> None:
    a, b = pair(network)
    assert a.finder.path_to(b.node_key) == RELAY
    network.talk(a, b, until=0.1)
    path = a.finder.path_to(b.node_key)
    assert path == Direct(Endpoint.parse(B4))  # equal latency: private addresses have ten points more than IPv6
    assert a.finder.paths_to(b.node_key) == (path,)
    assert [change.why for change in a.changes()][:2] == [PathChangeReason.PEER_ADDED, PathChangeReason.PONG]


def test_call_me_maybe_makes_the_silent_side_ping_too(network: Network) -> None:
    a, b = pair(network)
    network.talk(a, b, until=0.2)
    assert b.finder.path_to(a.node_key) != RELAY
    assert {path for _, path in b.sent if isinstance(path, Direct)} == {Direct(endpoint) for endpoint in a.endpoints}


def test_a_direct_path_is_found_without_any_endpoint_in_the_network_map(network: Network) -> None:
    a, b = pair(network, with_endpoints=False)
    network.talk(a, b, until=1.0)
    assert isinstance(a.finder.path_to(b.node_key), Direct)
    assert isinstance(b.finder.path_to(a.node_key), Direct)


def test_heartbeats_keep_the_path_while_traffic_flows(network: Network) -> None:
    a, b = pair(network)
    network.talk(a, b, until=40.0)
    changes = len(a.changes())
    network.talk(a, b, until=120.0)
    assert len(a.changes()) == changes
    heartbeats = [at for at, event in a.events if isinstance(event, PongReceived) and at > 60]
    assert 18 <= len(heartbeats) <= 30  # one in three seconds, and a round a minute


def test_an_idle_session_falls_silent_and_returns_to_the_relay(network: Network) -> None:
    a, b = pair(network)
    network.talk(a, b, until=1.0)
    network.run_until(60.0)
    assert a.finder.path_to(b.node_key) == RELAY
    assert a.changes()[-1].why is PathChangeReason.IDLE
    sent = len(a.sent) + len(b.sent)
    network.run_until(600.0)
    assert len(a.sent) + len(b.sent) == sent
    assert a.finder.next_deadline() is None


def test_a_dead_direct_path_falls_back_to_the_relay_within_trust_time(network: Network) -> None:
    a, b = pair(network)
    network.talk(a, b, until=10.0)
    network.blocks = lambda source, destination: True
    network.talk(a, b, until=17.5)
    assert a.finder.path_to(b.node_key) == RELAY
    assert a.finder.paths_to(b.node_key)[0] == RELAY
    assert PathChangeReason.TRUST_EXPIRED in [change.why for change in a.changes()]
    network.talk(a, b, until=30.0)
    assert a.finder.paths_to(b.node_key) == (RELAY,)
    snapshot = a.finder.peer_snapshot(b.node_key)
    assert snapshot is not None
    assert snapshot.direct is None
    network.blocks = lambda source, destination: False
    network.talk(a, b, until=40.0)
    assert isinstance(a.finder.path_to(b.node_key), Direct)


def test_while_a_path_is_doubted_packets_take_both_ways(network: Network) -> None:
    a, b = pair(network)
    network.talk(a, b, until=1.0)
    direct = a.finder.path_to(b.node_key)
    network.run_until(60.0)
    assert a.finder.paths_to(b.node_key) == (RELAY, direct)


def test_without_a_relay_the_doubted_direct_path_stays(network: Network) -> None:
    a, b = pair(network, home=0)
    assert a.finder.path_to(b.node_key) is None
    network.talk(a, b, until=1.0)
    direct = a.finder.path_to(b.node_key)
    assert isinstance(direct, Direct)
    network.run_until(60.0)
    assert a.finder.paths_to(b.node_key) == (direct,)


def test_a_faster_path_takes_over_at_the_next_full_round(network: Network) -> None:
    a, b = pair(network)
    network.latency_s = {Endpoint.parse(B4): 0.1, Endpoint.parse(B6): 0.2}
    network.talk(a, b, until=5.0)
    assert a.finder.path_to(b.node_key) == Direct(Endpoint.parse(B4))
    network.latency_s = {Endpoint.parse(B4): 0.1, Endpoint.parse(B6): 0.01}
    network.talk(a, b, until=75.0)
    assert a.finder.path_to(b.node_key) == Direct(Endpoint.parse(B6))


def test_old_own_endpoints_are_asked_for_before_a_call_me_maybe(network: Network) -> None:
    a, b = pair(network)
    network.run_until(100.0)
    effects = a.finder.note_traffic(b.node_key, now=100.0)
    assert FreshEndpointsWanted() in effects.events
    assert not any(path == RELAY for path, _, _ in effects.to_network)
    called = a.finder.set_own_endpoints(a.endpoints, now=100.2)
    assert [path for path, _, _ in called.to_network] == [RELAY]


def test_a_call_is_made_with_old_endpoints_if_no_fresh_ones_come(network: Network) -> None:
    a, b = pair(network)
    network.run_until(100.0)
    network.blocks = lambda source, destination: True
    network.talk(a, b, until=102.0)
    assert [at for at, path in a.sent if path == RELAY] == [101.0]


def test_pings_are_answered_where_they_came_from(network: Network) -> None:
    a, b = pair(network)
    elsewhere = Direct(Endpoint.parse("192.0.2.77:9"))
    ping = seal_from(network, a, b, Ping(bytes(12), a.node_key))
    effects = b.finder.handle_disco(ping, elsewhere, relay_peer=None, now=0.0)
    assert [path for path, _, _ in effects.to_network] == [elsewhere]
    snapshot = b.finder.peer_snapshot(a.node_key)
    assert snapshot is not None
    assert elsewhere.endpoint in snapshot.candidates
    by_relay = b.finder.handle_disco(ping, RELAY, relay_peer=a.node_key, now=0.0)
    assert [(path, peer) for path, peer, _ in by_relay.to_network] == [(RELAY, a.node_key)]


def test_an_address_heard_in_a_ping_is_used_at_once_when_it_is_wanted(network: Network) -> None:
    a, b = pair(network, with_endpoints=False)
    network.blocks = lambda source, destination: True
    network.talk(b, a, until=1.0)
    new = Direct(Endpoint.parse("192.0.2.77:9"))
    effects = b.finder.handle_disco(seal_from(network, a, b, Ping(bytes(12))), new, relay_peer=None, now=1.0)
    assert [path for path, _, _ in effects.to_network] == [new, new]  # pong, and a ping of our own


def test_authenticated_traffic_teaches_where_a_peer_is(network: Network) -> None:
    a, b = pair(network, home=0, with_endpoints=False)
    new = Direct(Endpoint.parse("192.0.2.77:9"))
    effects = a.finder.heard(b.node_key, new, now=1.0)
    assert effects.events == (PathChanged(b.node_key, new, PathChangeReason.HEARD),)
    assert a.finder.heard(b.node_key, new, now=1.1) == PathEffects()
    heard = a.finder.heard(b.node_key, Relayed(7), now=2.0)
    assert heard.events == (PathChanged(b.node_key, Relayed(7), PathChangeReason.HEARD),)
    gone = a.finder.relay_gone(b.node_key, 7, now=3.0)
    assert gone.events == (PathChanged(b.node_key, new, PathChangeReason.RELAY_GONE),)


def test_a_peer_without_disco_is_sent_to_where_the_network_map_says() -> None:
    finder, _ = lone_finder()
    peer = NodePublicKey(bytes(range(32)))
    endpoint = Endpoint.parse("192.0.2.1:5")
    finder.set_peers({peer: PeerReach(DiscoPublicKey.zero(), (endpoint,))}, now=0.0)
    assert finder.path_to(peer) == Direct(endpoint)
    assert finder.note_traffic(peer, now=0.0) == PathEffects()
    assert finder.ping(peer, now=0.0) == PathEffects()


def test_a_command_ping_goes_by_relay_and_directly(network: Network) -> None:
    a, b = pair(network)
    a.perform(a.finder.ping(b.node_key, now=0.0))
    network.run_until(1.0)
    pongs = [event for _, event in a.events if isinstance(event, PongReceived) if event.purpose is PingPurpose.COMMAND]
    assert {pong.path for pong in pongs} == {RELAY, *(Direct(endpoint) for endpoint in b.endpoints)}
    relayed = next(pong for pong in pongs if pong.path == RELAY)
    assert abs(relayed.latency_s - 2 * network.relay_latency_s) < 1e-6
    trusted = a.finder.ping(b.node_key, now=1.0)
    assert [path for path, _, _ in trusted.to_network] == [a.finder.path_to(b.node_key)]


def test_a_command_ping_without_answer_times_out(network: Network) -> None:
    a, b = pair(network)
    network.blocks = lambda source, destination: True
    network.relay_works = False
    a.perform(a.finder.ping(b.node_key, now=0.0))
    network.run_until(5.1)
    assert PingTimedOut(b.node_key, RELAY) in [event for _, event in a.events]


def test_a_restarted_peer_loses_its_direct_path(network: Network) -> None:
    a, b = pair(network)
    network.talk(a, b, until=1.0)
    reborn = PeerReach(DiscoPublicKey(bytes(range(32))), tuple(b.endpoints), REGION)
    effects = a.finder.set_peers({b.node_key: reborn}, now=1.0)
    assert PathChanged(b.node_key, RELAY, PathChangeReason.DISCO_KEY_CHANGED) in effects.events


def test_removed_peers_are_forgotten(network: Network) -> None:
    a, b = pair(network)
    network.talk(a, b, until=1.0)
    a.finder.set_peers({}, now=1.0)
    assert a.finder.path_to(b.node_key) is None
    assert a.finder.peer_snapshot(b.node_key) is None
    assert a.finder.heard(b.node_key, RELAY, now=1.0) == PathEffects()
    network.run_until(100.0)
    assert a.finder.next_deadline() is None


def test_rebinding_forgets_direct_paths_and_searches_anew(network: Network) -> None:
    a, b = pair(network)
    network.talk(a, b, until=1.0)
    effects = a.finder.rebind(now=1.0)
    assert PathChanged(b.node_key, RELAY, PathChangeReason.REBIND) in effects.events
    a.perform(effects)
    network.talk(a, b, until=2.0)
    assert isinstance(a.finder.path_to(b.node_key), Direct)


def test_a_refused_address_is_left_at_once(network: Network) -> None:
    a, b = pair(network)
    network.talk(a, b, until=1.0)
    other = a.finder.endpoint_failed(b.node_key, Endpoint.parse("192.0.2.9:9"), now=1.0)
    assert other == PathEffects()
    effects = a.finder.endpoint_failed(b.node_key, Endpoint.parse(B4), now=1.0)
    assert effects.events == (PathChanged(b.node_key, RELAY, PathChangeReason.ENDPOINT_FAILED),)


def test_a_pong_counts_for_the_address_pinged_and_only_once(network: Network) -> None:
    a, b = pair(network)
    effects = a.finder.note_traffic(b.node_key, now=0.0)
    transactions = opened_pings(network, b, a, effects)
    pong = seal_from(network, b, a, Pong(transactions[Direct(Endpoint.parse(B4))], Endpoint.parse(A4)))
    strange = Direct(Endpoint.parse("192.0.2.9:9"))
    a.finder.handle_disco(pong, strange, relay_peer=None, now=0.05)
    assert a.finder.path_to(b.node_key) == Direct(Endpoint.parse(B4))
    a.finder.handle_disco(pong, strange, relay_peer=None, now=0.06)
    assert a.finder.drops[DiscoDropReason.UNKNOWN_PONG] == 1


def test_another_peer_cannot_answer_in_ones_place(network: Network) -> None:
    a, b = network.host("a", A4), network.host("b", B4)
    mallory = network.host("mallory", "10.0.0.3:1")
    network.introduce()
    effects = a.finder.note_traffic(b.node_key, now=0.0)
    transaction = opened_pings(network, b, a, effects)[Direct(Endpoint.parse(B4))]
    forged = seal_from(network, mallory, a, Pong(transaction, Endpoint.parse(A4)))
    a.finder.handle_disco(forged, Direct(Endpoint.parse(B4)), relay_peer=None, now=0.1)
    assert a.finder.path_to(b.node_key) == RELAY
    assert a.finder.drops[DiscoDropReason.UNKNOWN_PONG] == 1


def test_hostile_disco_is_counted_and_changes_nothing(network: Network) -> None:
    a, b = pair(network)
    good = seal_from(network, a, b, Ping(bytes(12)))
    stranger, _ = lone_finder()
    source = Direct(Endpoint.parse(A4))
    cases = [
        (good[:40], None, DiscoDropReason.MALFORMED),
        (good[:6] + stranger.disco_key.raw + good[38:], None, DiscoDropReason.UNKNOWN_SENDER),
        (good[:-1] + bytes((good[-1] ^ 1,)), None, DiscoDropReason.NOT_AUTHENTIC),
        (seal_from(network, a, b, UnknownMessage(9, 0, b"")), None, DiscoDropReason.UNKNOWN_TYPE),
        (seal_from(network, a, b, CallMeMaybe((Endpoint.parse(A4),))), None, DiscoDropReason.WRONG_TRANSPORT),
    ]
    for datagram, relay_peer, reason in cases:
        before = b.finder.drops[reason]
        assert b.finder.handle_disco(datagram, source, relay_peer=relay_peer, now=0.0) == PathEffects()
        assert b.finder.drops[reason] == before + 1
    call = seal_from(network, a, b, CallMeMaybe((Endpoint.parse(A4),)))
    forwarded = b.finder.handle_disco(call, RELAY, relay_peer=stranger_key(), now=0.0)
    assert forwarded == PathEffects()
    assert b.finder.drops[DiscoDropReason.WRONG_TRANSPORT] == 2


def test_ping_floods_are_answered_at_a_bounded_rate(network: Network) -> None:
    a, b = pair(network)
    ping = seal_from(network, a, b, Ping(bytes(12)))
    answers = sum(
        len(b.finder.handle_disco(ping, Direct(Endpoint.parse(A4)), relay_peer=None, now=0.0).to_network)
        for _ in range(1000)
    )
    assert answers == 128
    assert b.finder.drops[DiscoDropReason.RATE_LIMITED] == 1000 - 128


def test_call_me_maybes_cannot_make_us_ping_the_world(network: Network) -> None:
    a, b = pair(network, with_endpoints=False)
    bad = ["0.0.0.0:1", "224.0.0.1:5", "1.2.3.4:0", "[fe80::1]:5", "255.255.255.255:7"]
    world = tuple(Endpoint.parse(text) for text in bad) + tuple(
        Endpoint.parse(f"192.0.2.{index % 250}:{index + 1}") for index in range(3000)
    )
    call = seal_from(network, a, b, CallMeMaybe(world))
    first = b.finder.handle_disco(call, RELAY, relay_peer=a.node_key, now=0.0)
    assert len(first.to_network) == 36
    assert b.finder.drops[DiscoDropReason.UNUSABLE_ENDPOINT] == len(bad)
    assert b.finder.drops[DiscoDropReason.TOO_MANY_ENDPOINTS] == 3000 - 36
    for _ in range(50):
        b.finder.handle_disco(call, RELAY, relay_peer=a.node_key, now=0.0)
    assert b.finder.drops[DiscoDropReason.RATE_LIMITED] == 46


def test_addresses_heard_of_are_bounded(network: Network) -> None:
    a, b = pair(network, with_endpoints=False)
    for port in range(1, 200):
        b.finder.heard(a.node_key, Direct(Endpoint.parse(f"192.0.2.1:{port}")), now=0.0)
    snapshot = b.finder.peer_snapshot(a.node_key)
    assert snapshot is not None
    assert len(snapshot.candidates) <= 17


def test_nodes_that_share_a_disco_key_are_told_apart(network: Network) -> None:
    a, b = pair(network)
    twin = stranger_key()
    both = {a.node_key: a.reach(), twin: PeerReach(a.finder.disco_key, (), REGION)}
    b.finder.set_peers(both, now=0.0)
    source = Direct(Endpoint.parse("192.0.2.3:3"))
    b.finder.handle_disco(seal_from(network, a, b, Ping(bytes(12), twin)), source, relay_peer=None, now=0.0)
    snapshot = b.finder.peer_snapshot(twin)
    assert snapshot is not None
    assert snapshot.candidates == (source.endpoint,)
    unnamed = seal_from(network, a, b, Ping(bytes(12)))
    assert len(b.finder.handle_disco(unnamed, source, relay_peer=None, now=0.0).to_network) == 1
    b.finder.set_peers({twin: both[twin]}, now=1.0)
    assert len(b.finder.handle_disco(unnamed, source, relay_peer=None, now=1.0).to_network) == 1


def test_a_disco_key_of_low_order_costs_nothing_but_a_count() -> None:
    finder, _ = lone_finder()
    peer = stranger_key()
    low_order = DiscoPublicKey(b"\1" + bytes(31))
    finder.set_peers({peer: PeerReach(low_order, (Endpoint.parse(B4),), REGION)}, now=0.0)
    assert finder.note_traffic(peer, now=0.0).to_network == ()
    assert finder.drops[DiscoDropReason.NOT_AUTHENTIC] > 0
    finder.handle_disco(Envelope(low_order, bytes(80)).encode(), RELAY, relay_peer=peer, now=0.0)


@given(data=st.binary(max_size=300), by_relay=st.booleans())
def test_random_disco_never_raises(data: bytes, by_relay: bool) -> None:
    finder, random = lone_finder()
    other = DiscoSeal(generate(DiscoPrivateKey, random), random)
    key = stranger_key()
    finder.set_peers({key: PeerReach(other.public_key, (), 1)}, now=0.0)
    raw = other._box(finder.disco_key).seal(data, random)
    source = Relayed(1) if by_relay else Direct(Endpoint.parse(A4))
    for datagram in (data, Envelope(other.public_key, raw).encode()):
        finder.handle_disco(datagram, source, relay_peer=key if by_relay else None, now=0.0)


def test_thousands_of_idle_peers_cost_no_deadlines() -> None:
    finder, random = lone_finder()
    peers = {
        NodePublicKey(random.bytes(32)): PeerReach(DiscoPublicKey(random.bytes(32)), (Endpoint.parse(B4),), 1)
        for _ in range(2000)
    }
    finder.set_peers(peers, now=0.0)
    assert finder.next_deadline() is None
    busy = next(iter(peers))
    assert finder.note_traffic(busy, now=0.0).to_network
    assert finder.note_traffic(busy, now=0.1) == PathEffects()
    assert finder.next_deadline() is not None


# Forging what hosts would send.


def key_of(host: Host) -> tuple[DiscoPrivateKey, SeededRandom]:
    return host.finder._seal._private_key, SeededRandom("forger")


def seal_from(
    network: Network, source: Host, target: Host, message: Ping | Pong | CallMeMaybe | UnknownMessage
) -> bytes:
    return DiscoSeal(*key_of(source)).seal(message, target.finder.disco_key)


def opened_pings(network: Network, reader: Host, sender: Host, effects: PathEffects) -> dict[object, bytes]:
    """Transactions of the pings in the effects, by path."""
    seal = DiscoSeal(*key_of(reader))
    opened = {path: seal.open(Envelope.decode(datagram)) for path, _, datagram in effects.to_network}
    return {path: plaintext[2:14] for path, plaintext in opened.items() if plaintext[0] == 1}


def lone_finder() -> tuple[PathFinder, SeededRandom]:
    random = SeededRandom("lone")
    node_key = node_public(generate(NodePrivateKey, random))
    return PathFinder(generate(DiscoPrivateKey, random), node_key, random=random), random


def stranger_key() -> NodePublicKey:
    return NodePublicKey(bytes(range(100, 132)))

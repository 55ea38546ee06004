"""An engine follows its netmap: small news is cheap and changes only what it names, the rest makes a new view."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as change

from tailbox.crypto.x25519 import node_public
from tailbox.node.core.engine import Engine
from tailbox.node.core.netmap import Netmap
from tailbox.node.core.netmap_follower import NetmapFollower
from tailbox.node.core.netmap_view import ViewPreferences, engine_view
from tailbox.paths.path import PeerReach, Relayed
from tailbox.randomness import SeededRandom
from tailbox.wire.addresses import Endpoint
from tailbox.wire.control.dns import DNSConfig
from tailbox.wire.control.filter import FilterRule, NetPortRange, PortRange
from tailbox.wire.control.node import Node
from tailbox.wire.control.timestamp import Timestamp
from tailbox.wire.keys import DiscoPrivateKey, DiscoPublicKey, NodePrivateKey, NodePublicKey

NOW = 2_000_000_000.0


def node(number: int, **fields: Any) -> Node:
    whole: dict[str, Any] = {
        "id": number,
        "key": NodePublicKey(bytes([number]) * 32),
        "disco_key": DiscoPublicKey(bytes([number + 100]) * 32),
        "name": f"n{number}.example.net.",
        "addresses": (f"100.64.0.{number}/32",),
        "endpoints": (f"192.0.2.{number}:1",),
        "home_derp": 1,
        "machine_authorized": True,
    }
    return Node(**(whole | fields))


def netmap(*peers: Node, **fields: Any) -> Netmap:
    return Netmap(node(1), {peer.id: peer for peer in peers}, **fields)


class Followed:
    """A follower with an engine, at rest."""

    def __init__(self) -> None:
        random = SeededRandom("follower")
        key = NodePrivateKey(random.bytes(32))
        self.engine = Engine(
            key,
            DiscoPrivateKey(random.bytes(32)),
            node_public(key),
            transmit=lambda path, peer, train: None,
            random=random,
            unix_offset_s=0.0,
        )
        self.follower = NetmapFollower(self.engine)

    def take(self, taken: Netmap, *, at: float = NOW, **preferences: Any) -> bool:
        """Whether the engine was told anything."""
        return self.follower.apply(taken, ViewPreferences(**preferences), now_unix_s=at, now=1.0) is not None

    def reach(self, number: int) -> PeerReach:
        return self.engine._view.reach[NodePublicKey(bytes([number]) * 32)]


@pytest.fixture
def followed() -> Followed:
    made = Followed()
    assert made.take(netmap(node(2), node(3)))
    return made


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"endpoints": ("198.51.100.7:9",)}, PeerReach(node(2).disco_key, (Endpoint.parse("198.51.100.7:9"),), 1)),  # type: ignore[arg-type]
        ({"home_derp": 7}, PeerReach(node(2).disco_key, (Endpoint.parse("192.0.2.2:1"),), 7)),  # type: ignore[arg-type]
        (
            {"disco_key": DiscoPublicKey(b"z" * 32)},
            PeerReach(DiscoPublicKey(b"z" * 32), (Endpoint.parse("192.0.2.2:1"),), 1),
        ),
    ],
)
def test_a_peer_that_moved_is_all_that_changes(
    followed: Followed, changed: dict[str, Any], expected: PeerReach
) -> None:
    routes, other = followed.engine.dataplane.routes, followed.reach(3)
    assert followed.take(netmap(node(2, **changed), node(3)))
    assert followed.follower.whole_views == 1
    assert followed.reach(2) == expected
    assert followed.reach(3) == other
    assert followed.engine.dataplane.routes is routes
    assert followed.engine.paths.path_to(node(2).key) == Relayed(expected.home_region)
    whole = engine_view(netmap(node(2, **changed), node(3)), ViewPreferences(), now_unix_s=NOW)
    assert dict(followed.engine._view.reach) == dict(whole.reach)


@pytest.mark.parametrize("changed", [{"online": True}, {"last_seen": Timestamp.from_unix(NOW)}, {"cap": 120}])
def test_what_no_engine_looks_at_tells_them_little(followed: Followed, changed: dict[str, Any]) -> None:
    followed.take(netmap(node(2, **changed), node(3)))
    assert followed.follower.whole_views == 1
    assert not followed.take(netmap(node(2, **changed), node(3), health=("ill",)))


@pytest.mark.parametrize(
    "after",
    [
        netmap(node(2)),
        netmap(node(2), node(3), node(4)),
        netmap(node(2), node(4)),
        netmap(node(2, key=NodePublicKey(b"k" * 32)), node(3)),
        netmap(node(2, addresses=("100.64.0.9/32",)), node(3)),
        netmap(node(2, allowed_ips=("100.64.0.2/32", "10.0.0.0/8")), node(3)),
        netmap(node(2, name="other.example.net."), node(3)),
        netmap(node(2, disco_key=None), node(3)),
        netmap(node(2, is_jailed=True), node(3)),
        netmap(node(2, expired=True), node(3)),
        netmap(node(2), node(3), dns=DNSConfig(proxied=True)),
        netmap(
            node(2),
            node(3),
            rules=(FilterRule(src_ips=("*",), dst_ports=(NetPortRange(ip="*", ports=PortRange(first=0, last=9)),)),),
        ),
        replace(netmap(node(2), node(3)), self_node=node(1, addresses=("100.64.0.8/32",))),
        netmap(node(2), node(3), clock_skew_s=4000.0),
    ],
)
def test_any_other_change_makes_a_new_view(followed: Followed, after: Netmap) -> None:
    assert followed.take(after)
    assert followed.follower.whole_views == 2
    assert followed.engine._view.reach == engine_view(after, ViewPreferences(), now_unix_s=NOW).reach


def test_preferences_and_a_lost_engine_make_a_new_view(followed: Followed) -> None:
    same = netmap(node(2), node(3))
    assert followed.take(same, always_relay=True)
    assert followed.reach(2).endpoints == ()
    followed.take(netmap(node(2, endpoints=("198.51.100.7:9",)), node(3)), always_relay=True)
    assert followed.reach(2).endpoints == ()
    followed.follower.invalidate()
    assert followed.take(same, always_relay=True)
    assert followed.follower.whole_views == 3


def test_a_key_that_runs_out_makes_a_new_view() -> None:
    followed = Followed()
    mortal = netmap(node(2, key_expiry=Timestamp.from_unix(NOW + 100)), node(3))
    followed.take(mortal)
    assert not followed.take(mortal, at=NOW + 99)
    assert followed.take(mortal, at=NOW + 100)
    assert followed.follower.whole_views == 2
    assert followed.engine.dataplane.routes.peer_for(bytes((100, 64, 0, 2))) is None
    assert not followed.take(mortal, at=NOW + 200), "and once only"
    moved = netmap(change(mortal.peers[2], endpoints=("198.51.100.7:9",)), node(3))
    assert not followed.take(moved, at=NOW + 200), "news of a peer that gets no traffic"


def test_without_a_tailnet_there_are_no_peers(followed: Followed) -> None:
    followed.follower.forget(now=1.0)
    assert not followed.engine._view.reach
    assert followed.take(netmap(node(2), node(3)))
    assert followed.reach(2).home_region == 1

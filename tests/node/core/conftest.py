"""Two engines, back to back, without any network."""

from __future__ import annotations

from collections import deque
from ipaddress import ip_address

import pytest

from tailbox.crypto.x25519 import disco_public, generate, node_public
from tailbox.node.core.dataplane import DataplaneView
from tailbox.node.core.engine import Engine, EngineEffects, EngineView
from tailbox.node.core.magic_dns import Zone
from tailbox.node.core.overlay_routes import OverlayRoutes
from tailbox.node.core.tap import PacketTap
from tailbox.paths.path import Path, PeerReach, Relayed
from tailbox.policy.match import CompiledFilter, compile_filter
from tailbox.randomness import SeededRandom
from tailbox.wire.addresses import IPAddress, parse_network
from tailbox.wire.control.filter import FilterRule, NetPortRange, PortRange
from tailbox.wire.keys import DiscoPrivateKey, NodePrivateKey, NodePublicKey
from tailbox.wire.train import Train

ALLOW_ALL = compile_filter(
    [FilterRule(src_ips=("*",), dst_ports=(NetPortRange(ip="*", ports=PortRange(first=0, last=65535)),))]
)
REGION = 900


class EngineHost:
    """An engine with its keys, its addresses, and a mailbox for what it sends."""

    def __init__(self, number: int, *, tap: PacketTap | None = None) -> None:
        random = SeededRandom(f"engine {number}")
        self.private = generate(NodePrivateKey, random)
        self.key: NodePublicKey = node_public(self.private)
        self.disco = generate(DiscoPrivateKey, random)
        self.addresses: tuple[IPAddress, ...] = (
            ip_address(f"100.64.0.{number}"),
            ip_address(f"fd7a:115c:a1e0::{number}"),
        )
        self.name = f"host{number}.example.net"
        self.sent: deque[tuple[Path, NodePublicKey, Train]] = deque()
        self.effects: list[EngineEffects] = []
        self.engine = Engine(
            self.private,
            self.disco,
            self.key,
            transmit=lambda path, peer, train: self.sent.append((path, peer, train.copied())),
            random=random,
            unix_offset_s=1_700_000_000.0,
            tap=tap,
        )


class Pair:
    """Two hosts that know each other by way of one relay."""

    def __init__(self, *, rules: CompiledFilter = ALLOW_ALL, tap: PacketTap | None = None) -> None:
        self.now = 1.0
        self.a, self.b = EngineHost(1, tap=tap), EngineHost(2)
        self.set_views(rules)

    def set_views(self, rules: CompiledFilter, *, shields_up: bool = False) -> None:
        for host, other in ((self.a, self.b), (self.b, self.a)):
            networks = tuple(parse_network(str(address)) for address in other.addresses)
            view = EngineView(
                DataplaneView(
                    addresses=host.addresses,
                    routes=OverlayRoutes({other.key: networks}),
                    rules=rules,
                    shields_up=shields_up and host is self.b,
                ),
                reach={other.key: PeerReach(disco_public(other.disco), (), REGION)},
                zone=Zone({self.a.name: self.a.addresses, self.b.name: self.b.addresses}, "example.net"),
            )
            host.effects.append(host.engine.set_view(view, now=self.now))

    def run(self, rounds: int = 200) -> None:
        """Carry datagrams to and fro until there are none."""
        for _ in range(rounds):
            moved = False
            for host, other in ((self.a, self.b), (self.b, self.a)):
                host.effects.append(host.engine.flush(now=self.now))
                while host.sent:
                    _, peer, train = host.sent.popleft()
                    if peer == other.key:
                        moved = True
                        arrived = other.engine.handle_train(train, Relayed(REGION), relay_peer=host.key, now=self.now)
                        other.effects.append(arrived)
                deadline = host.engine.next_deadline()
                if deadline is not None and deadline.at <= self.now:
                    host.effects.append(host.engine.handle_deadline(now=self.now))
                    moved = True
            if not moved:
                return

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for host in (self.a, self.b):
            host.effects.append(host.engine.handle_deadline(now=self.now))
        self.run()


@pytest.fixture
def pair() -> Pair:
    return Pair()

"""A network of path finders in virtual time: addresses without NAT, one relay region, and a switch for each."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import pytest

from tailbox.crypto.x25519 import generate, node_public
from tailbox.paths.events import PathChanged, PathEffects, PathEvent
from tailbox.paths.path import Direct, Path, PeerReach, Relayed
from tailbox.paths.path_finder import PathFinder
from tailbox.randomness import SeededRandom
from tailbox.wire.addresses import Endpoint
from tailbox.wire.keys import DiscoPrivateKey, NodePrivateKey, NodePublicKey

REGION = 900


class Host:
    """A path finder with addresses."""

    def __init__(self, network: Network, name: str, *addresses: str) -> None:
        self.name = name
        self.network = network
        self.endpoints = [Endpoint.parse(address) for address in addresses]
        self.node_key: NodePublicKey = node_public(generate(NodePrivateKey, network.random))
        disco_key = generate(DiscoPrivateKey, network.random)
        self.finder = PathFinder(disco_key, self.node_key, random=network.random)
        self.events: list[tuple[float, PathEvent]] = []
        self.sent: list[tuple[float, Path]] = []

    def reach(self, *, endpoints: tuple[Endpoint, ...] | None = None, home: int = REGION) -> PeerReach:
        told = tuple(self.endpoints) if endpoints is None else endpoints
        return PeerReach(self.finder.disco_key, told, home)

    def perform(self, effects: PathEffects) -> None:
        self.events += [(self.network.now, event) for event in effects.events]
        for path, peer, datagram in effects.to_network:
            self.sent.append((self.network.now, path))
            self.network.carry(self, path, peer, datagram)

    def changes(self) -> list[PathChanged]:
        return [event for _, event in self.events if isinstance(event, PathChanged)]


class Network:
    """Carries disco datagrams between hosts."""

    def __init__(self) -> None:
        self.random = SeededRandom("paths")
        self.now = 0.0
        self.hosts: list[Host] = []
        self.latency_s: dict[Endpoint, float] = {}
        self.relay_latency_s = 0.03
        self.blocks: Callable[[Host, Endpoint], bool] = lambda source, destination: False
        self.relay_works = True
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def host(self, name: str, *addresses: str) -> Host:
        host = Host(self, name, *addresses)
        self.hosts.append(host)
        return host

    def introduce(self, *, home: int = REGION, with_endpoints: bool = True) -> None:
        for host in self.hosts:
            told = None if with_endpoints else ()
            peers = {o.node_key: o.reach(endpoints=told, home=home) for o in self.hosts if o is not host}
            host.perform(host.finder.set_peers(peers, now=self.now))
            host.perform(host.finder.set_own_endpoints(host.endpoints, now=self.now))

    def carry(self, source: Host, path: Path, peer: NodePublicKey, datagram: bytes) -> None:
        if isinstance(path, Relayed):
            target = next((host for host in self.hosts if host.node_key == peer), None)
            if target is not None and self.relay_works:
                found = target
                self.at(
                    self.now + self.relay_latency_s,
                    lambda: found.perform(
                        found.finder.handle_disco(datagram, path, relay_peer=source.node_key, now=self.now)
                    ),
                )
            return
        destination = path.endpoint
        target = next((host for host in self.hosts if destination in host.endpoints), None)
        if target is None or self.blocks(source, destination):
            return
        found = target
        seen = Direct(next(e for e in source.endpoints if e.ip.version == destination.ip.version))
        delay_s = self.latency_s.get(destination, 0.01)
        self.at(
            self.now + delay_s,
            lambda: found.perform(found.finder.handle_disco(datagram, seen, relay_peer=None, now=self.now)),
        )

    def at(self, when: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, action))

    def run_until(self, end: float) -> None:
        """Deliver, and keep every deadline, in order."""
        while True:
            due = [(deadline.at, host) for host in self.hosts if (deadline := host.finder.next_deadline())]
            next_deadline = min((at for at, _ in due), default=float("inf"))
            next_delivery = self._queue[0][0] if self._queue else float("inf")
            at = min(next_deadline, next_delivery)
            if at > end:
                self.now = end
                return
            self.now = max(self.now, at)
            if next_delivery <= next_deadline:
                heapq.heappop(self._queue)[2]()
            else:
                host = min(due, key=lambda item: item[0])[1]
                host.perform(host.finder.handle_deadline(now=self.now))

    def talk(self, source: Host, target: Host, *, until: float, every_s: float = 0.5) -> None:
        """Keep traffic going from one to the other."""
        while self.now < until:
            source.perform(source.finder.note_traffic(target.node_key, now=self.now))
            self.run_until(min(until, self.now + every_s))


@pytest.fixture
def network() -> Network:
    return Network()

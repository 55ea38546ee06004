"""Two engines with UDP sockets between them in one process, and no event loop: who calls whom when is the caller's."""

from __future__ import annotations

import socket
from collections.abc import Callable
from time import monotonic

from tailbox.crypto.x25519 import disco_public, generate, node_public
from tailbox.node.core.dataplane import DataplaneView
from tailbox.node.core.engine import Engine, EngineView
from tailbox.node.core.overlay_routes import OverlayRoutes
from tailbox.node.udp_socket import TrainSocket
from tailbox.paths.path import Direct, Path, PeerReach
from tailbox.policy.match import compile_filter
from tailbox.randomness import SeededRandom
from tailbox.runtime.network import HostNetwork, UdpSocket
from tailbox.userspace_stack.stack import TcpSocket
from tailbox.wire.addresses import Endpoint, IPAddress, parse_ip, parse_network
from tailbox.wire.control.filter import FilterRule, NetPortRange, PortRange
from tailbox.wire.keys import DiscoPrivateKey, NodePrivateKey, NodePublicKey
from tailbox.wire.train import Train

LOCALHOST = parse_ip("127.0.0.1")
REGION = 900
PORT = 80
EVERYTHING = FilterRule(src_ips=("*",), dst_ports=(NetPortRange(ip="*", ports=PortRange(first=0, last=65535)),))


class LoopFreeNetwork(HostNetwork):
    """Real sockets whose readiness nobody watches: `readable` is called by hand."""

    def __init__(self) -> None:
        self.readable: Callable[[], None] = lambda: None

    def watch_readable(self, watched: UdpSocket, callback: Callable[[], None] | None) -> None:
        self.readable = callback or (lambda: None)

    def watch_writable(self, watched: UdpSocket, callback: Callable[[], None] | None) -> None:
        pass


class End:
    """One engine with its socket."""

    def __init__(self, number: int, mtu: int) -> None:
        random = SeededRandom(f"bench {number}")
        private = generate(NodePrivateKey, random)
        self.disco = generate(DiscoPrivateKey, random)
        self.key: NodePublicKey = node_public(private)
        self.address: IPAddress = parse_ip(f"100.64.0.{number}")
        self.network = LoopFreeNetwork()
        self.udp = TrainSocket(self.network, socket.AF_INET, 0, on_train=self._on_train, on_event=lambda event: None)
        self.other = Direct(Endpoint(LOCALHOST, 1))
        self.engine = Engine(
            private, self.disco, self.key, transmit=self._transmit, random=random, unix_offset_s=1.7e9, mtu=mtu
        )

    def know(self, other: End, now: float) -> None:
        """The netmap: one peer, everything allowed. Its path is its socket, whatever path discovery finds."""
        self.other = Direct(Endpoint(LOCALHOST, other.udp.port))
        routes = OverlayRoutes({other.key: (parse_network(str(other.address)),)})
        dataplane = DataplaneView((self.address,), routes=routes, rules=compile_filter([EVERYTHING]))
        self.engine.set_view(
            EngineView(dataplane, {other.key: PeerReach(disco_public(other.disco), (), REGION)}), now=now
        )

    def turn(self) -> None:
        """What a wake-up of the loop does: take in what came, then send what follows from it."""
        self.network.readable()
        self.engine.flush(now=monotonic())

    def tick(self) -> None:
        deadline = self.engine.next_deadline()
        if deadline is not None and deadline.at <= monotonic():
            self.engine.handle_deadline(now=monotonic())

    def _transmit(self, path: Path, peer: NodePublicKey, train: Train) -> None:
        self.udp.send(train, self.other.endpoint)

    def _on_train(self, train: Train, source: Direct) -> None:
        self.engine.handle_train(train, source, relay_peer=None, now=monotonic())


def connect(mtu: int) -> tuple[End, End, TcpSocket, TcpSocket]:
    """Two ends that have a session and a TCP connection: its sockets come with them."""
    left, right = End(1, mtu), End(2, mtu)
    left.know(right, monotonic())
    right.know(left, monotonic())
    listener = right.engine.stack.listen_tcp(PORT)
    client = left.engine.stack.connect_tcp(Endpoint(right.address, PORT), now=monotonic())
    for _ in range(20):
        left.turn()
        right.turn()
    server = listener.accept()
    assert server is not None
    return left, right, client, server

"""The node without sockets: stack, data path, tunnels and paths, wired.

One mediator: the four engines never know each other. Inputs come from the underlay (`handle_train`), from whoever used
a stack socket (`flush`), from the netmap (`set_view`) and from time; each returns all its effects, but for datagrams:
those are handed to `transmit` one train after the other, since the tunnels seal the next one into the same buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tailbox.clock import Deadline, earliest
from tailbox.node.core.dataplane import Dataplane, DataplaneView
from tailbox.node.core.disco_tap import DiscoTap
from tailbox.node.core.dns_service import DnsService
from tailbox.node.core.magic_dns import MagicDns, Zone
from tailbox.node.core.tap import PacketTap, TapPoint
from tailbox.paths.events import PathEffects, PathEvent
from tailbox.paths.path import Direct, Path, PeerReach
from tailbox.paths.path_finder import PathFinder
from tailbox.paths.peer_path import PeerPathSnapshot
from tailbox.randomness import RandomSource
from tailbox.userspace_stack.events import EchoReply, EchoRequested
from tailbox.userspace_stack.stack import PendingConnection, PendingFlow, Socket, Stack, StackEffects
from tailbox.wire.addresses import SERVICE_IPV4, SERVICE_IPV6, Endpoint, IPAddress
from tailbox.wire.keys import DiscoPrivateKey, NodePrivateKey, NodePublicKey
from tailbox.wire.train import Train
from tailbox.wireguard.events import TunnelEffects, TunnelEvent
from tailbox.wireguard.tunnels import PeerSettings, PeerStatus, Tunnels

HANDSHAKE_INITIATION = 1  # WireGuard paper §5.4.2
DISCO_MAGIC = b"TS\xf0\x9f\x92\xac"  # tailscale disco/disco.go
STUN_COOKIE = b"\x21\x12\xa4\x42"  # RFC 8489 §5, bytes 4 to 7
MAX_LOOPBACK_ROUNDS = 8  # ours: turns of packets from us to us before the network gets its turn


Transmit = Callable[[Path, NodePublicKey, Train], None]  # done with the train when it returns; never blocks


@dataclass(frozen=True, slots=True)
class TsmpPong:
    """A peer's data path answered `tsmp_ping`."""

    peer: NodePublicKey
    data: bytes


EngineEvent = PathEvent | TunnelEvent | TsmpPong | EchoReply | EchoRequested


@dataclass(frozen=True, slots=True)
class EngineView:
    """What the netmap and the preferences say of the engines."""

    dataplane: DataplaneView = field(default_factory=DataplaneView)
    reach: Mapping[NodePublicKey, PeerReach] = field(default_factory=dict)
    zone: Zone = field(default_factory=Zone)


@dataclass(frozen=True, slots=True)
class EngineEffects:
    """What one input leads to."""

    to_source: tuple[bytes, ...] = ()  # for the sender of the train just handled, the way it came
    stun: tuple[bytes, ...] = ()  # STUN messages, for netcheck
    ready: tuple[Socket, ...] = ()  # stack sockets whose owner should look
    pending: tuple[PendingConnection | PendingFlow, ...] = ()  # for the forwarder
    events: tuple[EngineEvent, ...] = ()


class _Builder:
    """Collects the effects of one input."""

    __slots__ = ("events", "pending", "ready", "stun", "to_source")

    def __init__(self) -> None:
        self.to_source: list[bytes] = []
        self.stun: list[bytes] = []
        self.ready: list[Socket] = []
        self.pending: list[PendingConnection | PendingFlow] = []
        self.events: list[EngineEvent] = []

    def finish(self) -> EngineEffects:
        return EngineEffects(
            tuple(self.to_source),
            tuple(self.stun),
            tuple(self.ready),
            tuple(self.pending),
            tuple(self.events),
        )


class Engine:
    """One node's packets, from sockets of the stack to datagrams and back."""

    def __init__(
        self,
        private_key: NodePrivateKey,
        disco_key: DiscoPrivateKey,
        node_key: NodePublicKey,
        *,
        transmit: Transmit,
        random: RandomSource,
        unix_offset_s: float,
        mtu: int = 1280,
        tap: PacketTap | None = None,
    ) -> None:
        self._transmit = transmit
        self._random = random
        self._unix_offset_s = unix_offset_s
        self._disco_key = disco_key
        self._tap = tap
        self._disco_tap = DiscoTap(tap, disco_key) if tap is not None else None
        self.stack = Stack(random=random, mtu=mtu)
        self.names = MagicDns()
        self.dataplane = Dataplane(tap=tap)
        self._dns = DnsService(self.stack, self.names)
        self._view = EngineView()
        self._looped: list[Train] = []
        self._waiting_for_path: dict[NodePublicKey, Train] = {}
        self.unreachable_packets = 0  # for a peer without any path
        self.runts = 0  # datagrams that are nothing we know
        self.set_identity(private_key, node_key)

    # Inputs.

    def set_identity(self, private_key: NodePrivateKey, node_key: NodePublicKey) -> None:
        """A new node key: sessions and paths start over, sockets of the stack stay. Call `set_view` next."""
        self.tunnels = Tunnels(private_key, random=self._random, unix_offset_s=self._unix_offset_s)
        self.paths = PathFinder(self._disco_key, node_key, random=self._random)

    def set_view(self, view: EngineView, *, now: float) -> EngineEffects:
        """Take a new netmap: addresses, peers, routes, rules, names."""
        effects = _Builder()
        self._view = view
        if view.dataplane.addresses:
            self.stack.set_addresses((*view.dataplane.addresses, SERVICE_IPV4, SERVICE_IPV6))
            self._dns.start()
        self.names.set_zone(view.zone)
        self.dataplane.set_view(view.dataplane)
        self._on_paths(self.paths.set_peers(view.reach, now=now), effects, now)
        settings = {peer: PeerSettings() for peer in view.reach}
        self._on_tunnels(self.tunnels.set_peers(settings, now=now), effects, now)
        self._send_what_waited(now)
        return self._settle(effects, now)

    def update_reach(self, changed: Mapping[NodePublicKey, PeerReach], *, now: float) -> EngineEffects:
        """Take news of where some peers are; everything else of the view stays. Cheap, whatever their number."""
        effects = _Builder()
        self._view = replace(self._view, reach={**self._view.reach, **changed})
        for peer, reach in changed.items():
            self._on_paths(self.paths.set_peer(peer, reach, now=now), effects, now)
        self._send_what_waited(now)
        return self._settle(effects, now)

    def handle_train(
        self, train: Train, source: Path, *, relay_peer: NodePublicKey | None, now: float
    ) -> EngineEffects:
        """Datagrams from one source, straight or by way of a relay that names the sender.

        What the stack makes of them comes with the next `flush`: several trains may share one acknowledgement.
        """
        effects = _Builder()
        data = train.data
        if (data[0] == 4 and len(data) <= train.stride) or self._is_all_transport(train):
            self._on_wireguard(train, source, relay_peer, effects, now)
        else:
            for datagram in train:
                self._on_datagram(datagram, source, relay_peer, effects, now)
        return effects.finish()

    def flush(self, *, now: float) -> EngineEffects:
        """Whoever wrote to, read from, opened or closed a socket of the stack calls this."""
        return self._settle(_Builder(), now)

    def handle_deadline(self, *, now: float) -> EngineEffects:
        """Harmless early, late or twice."""
        effects = _Builder()
        self.stack.handle_deadline(now=now)
        self._on_tunnels(self.tunnels.handle_deadline(now=now), effects, now)
        self._on_paths(self.paths.handle_deadline(now=now), effects, now)
        return self._settle(effects, now)

    def set_own_endpoints(self, endpoints: Sequence[Endpoint], *, now: float) -> EngineEffects:
        return self._paths_only(self.paths.set_own_endpoints(endpoints, now=now), now)

    def ping(self, peer: NodePublicKey, *, now: float) -> EngineEffects:
        """Disco ping over the present path; the answer is a PongReceived or PingTimedOut event."""
        return self._paths_only(self.paths.ping(peer, now=now), now)

    def tsmp_ping(self, destination: IPAddress, data: bytes, *, now: float) -> EngineEffects:
        """Ping the peer's data path through the tunnel; the answer is a TsmpPong event with the same eight bytes."""
        effects = _Builder()
        peer = self.dataplane.routes.peer_for(destination.packed)
        source = next((ip for ip in self._view.dataplane.addresses if ip.version == destination.version), None)
        if peer is not None and source is not None:
            self._seal(peer, self.dataplane.tsmp_ping(source, destination, data), effects, now)
        return self._settle(effects, now)

    def relay_gone(self, peer: NodePublicKey, region_id: int, *, now: float) -> EngineEffects:
        return self._paths_only(self.paths.relay_gone(peer, region_id, now=now), now)

    def endpoint_failed(self, peer: NodePublicKey, endpoint: Endpoint, *, now: float) -> EngineEffects:
        return self._paths_only(self.paths.endpoint_failed(peer, endpoint, now=now), now)

    def rebind(self, *, now: float) -> EngineEffects:
        return self._paths_only(self.paths.rebind(now=now), now)

    # What may be asked.

    def next_deadline(self) -> Deadline | None:
        if self._looped:
            return Deadline(0.0, "loopback")
        return earliest((self.stack.next_deadline(), self.tunnels.next_deadline(), self.paths.next_deadline()))

    def peer_status(self, peer: NodePublicKey) -> tuple[PeerStatus, PeerPathSnapshot | None]:
        return self.tunnels.peer_status(peer), self.paths.peer_snapshot(peer)

    # Inside.

    def _is_all_transport(self, train: Train) -> bool:
        """Whether every datagram of a longer train is a WireGuard transport message: the bulk of all traffic."""
        data, stride = train.data, train.stride
        return bytes(data[::stride]).count(4) == len(train)

    def _on_datagram(
        self, datagram: memoryview, source: Path, relay_peer: NodePublicKey | None, effects: _Builder, now: float
    ) -> None:
        head = bytes(datagram[:8])
        if len(head) >= 4 and 1 <= head[0] <= 4 and head[1:4] == b"\0\0\0":
            self._on_wireguard(Train.of(datagram), source, relay_peer, effects, now)
        elif head[:6] == DISCO_MAGIC:
            if self._disco_tap is not None:
                self._disco_tap.received(relay_peer, bytes(datagram), source, now=now)
            found = self.paths.handle_disco(bytes(datagram), source, relay_peer=relay_peer, now=now)
            self._on_paths(found, effects, now)
        elif head[4:8] == STUN_COOKIE and head[0] < 0x40:
            effects.stun.append(bytes(datagram))
        else:
            self.runts += 1

    def _on_wireguard(
        self, train: Train, source: Path, relay_peer: NodePublicKey | None, effects: _Builder, now: float
    ) -> None:
        if self._tap is not None:
            self._tap.record(TapPoint.WIREGUARD_RECEIVED, relay_peer, train.data, detail=str(source), now=now)
        opened = self.tunnels.open(train, source=_source_bytes(source, relay_peer), now=now)
        for peer in opened.heard:
            self._on_paths(self.paths.heard(peer, source, now=now), effects, now)
        effects.to_source += opened.to_source
        self._on_tunnels(opened, effects, now)

    def _on_tunnels(self, found: TunnelEffects, effects: _Builder, now: float) -> None:
        effects.events += found.events
        for peer, train in found.to_network:
            self._send_datagrams(peer, train, now)
        for peer, train in found.to_stack:
            self._deliver(peer, train, effects, now)

    def _deliver(self, peer: NodePublicKey, train: Train, effects: _Builder, now: float) -> None:
        judged = self.dataplane.inbound(peer, train, now=now)
        for accepted in judged.to_stack:
            if self._tap is not None:
                self._tap.record(TapPoint.PACKET_RECEIVED, peer, accepted.data, detail="", now=now)
            self.stack.receive(accepted, now=now)
        effects.events += [TsmpPong(peer, data) for data in judged.pongs]
        for reply in judged.replies:
            self._seal(peer, reply, effects, now)

    def _on_paths(self, found: PathEffects, effects: _Builder, now: float) -> None:
        effects.events += found.events
        for path, peer, datagram in found.to_network:
            if self._disco_tap is not None:
                reach = self._view.reach.get(peer)
                self._disco_tap.sent(peer, reach.disco_key if reach else None, datagram, path, now=now)
            self._transmit(path, peer, Train.of(datagram))

    def _paths_only(self, found: PathEffects, now: float) -> EngineEffects:
        effects = _Builder()
        self._on_paths(found, effects, now)
        return effects.finish()

    def _settle(self, effects: _Builder, now: float) -> EngineEffects:
        """Everything that the stack has to say, and what follows from packets of us to us."""
        self._on_stack(self.stack.collect(now=now), effects, now)
        for _ in range(MAX_LOOPBACK_ROUNDS):
            looped, self._looped = self._looped, []
            if not looped:
                break
            for train in looped:
                self.stack.receive(train, now=now)
            self._on_stack(self.stack.collect(now=now), effects, now)
        return effects.finish()

    def _on_stack(self, found: StackEffects, effects: _Builder, now: float) -> None:
        for train in found.to_network:
            self._send(train, effects, now)
        served = False
        for socket in found.ready:
            if self._dns.handle_ready(socket):
                served = True
            else:
                effects.ready.append(socket)
        for event in found.events:
            if isinstance(event, PendingConnection | PendingFlow):
                served = self._offer(event, effects, now) or served
            else:
                effects.events.append(event)
        if served:
            self._on_stack(self.stack.collect(now=now), effects, now)

    def _offer(self, pending: PendingConnection | PendingFlow, effects: _Builder, now: float) -> bool:
        """The service addresses never reach the forwarder. Says whether the stack has been called."""
        if pending.local.ip not in (SERVICE_IPV4, SERVICE_IPV6):
            effects.pending.append(pending)
            return False
        if isinstance(pending, PendingConnection):
            pending.refuse(now)
        else:
            pending.drop()
        return True

    def _send(self, train: Train, effects: _Builder, now: float) -> None:
        out = self.dataplane.outbound(train, now=now)
        if self._tap is not None:
            self._tap.record(TapPoint.PACKET_SENT, out.peer, train.data, detail="", now=now)
        if out.is_loopback:
            self._looped.append(train.copied())
        elif out.peer is not None:
            self._seal(out.peer, train, effects, now)

    def _seal(self, peer: NodePublicKey, train: Train, effects: _Builder, now: float) -> None:
        sealed = self.tunnels.seal(peer, train, now=now)
        self._on_tunnels(sealed, effects, now)
        noted = self.paths.note_traffic(peer, now=now)
        if noted.to_network or noted.events:
            self._on_paths(noted, effects, now)

    def _send_what_waited(self, now: float) -> None:
        """Initiations made before there was any path: the next would come five seconds after the first."""
        waiting, self._waiting_for_path = self._waiting_for_path, {}
        for peer, train in waiting.items():
            self._send_datagrams(peer, train, now)

    def _send_datagrams(self, peer: NodePublicKey, train: Train, now: float) -> None:
        ways = self.paths.paths_to(peer)
        if not ways:
            self.unreachable_packets += len(train)
            if train.data[0] == HANDSHAKE_INITIATION and peer in self._view.reach:
                self._waiting_for_path[peer] = train.copied()
        for path in ways:
            if self._tap is not None:
                self._tap.record(TapPoint.WIREGUARD_SENT, peer, train.data, detail=str(path), now=now)
            self._transmit(path, peer, train)


def _source_bytes(source: Path, relay_peer: NodePublicKey | None) -> bytes:
    """What cookies are bound to."""
    if isinstance(source, Direct):
        return source.endpoint.ip.packed + source.endpoint.port.to_bytes(2, "big")
    return source.region_id.to_bytes(4, "big") + (relay_peer.raw if relay_peer else b"")

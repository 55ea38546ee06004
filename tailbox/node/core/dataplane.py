"""Between stack and tunnels: checks on the way in, routing on the way out, a train at a time.

A train whose packets share addresses, ports and protocol is judged once. One that holds several flows is cut where the
flow changes, and what is left is judged packet by packet. Order of the inbound steps: tailscale net/tstun/wrap.go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tailbox.node.core.overlay_routes import OverlayRoutes
from tailbox.node.core.packet_filter import PacketFilter, Verdict
from tailbox.node.core.packet_head import PacketHead, address_of, flow_runs, read_head, shared_head
from tailbox.node.core.tap import PacketTap, TapPoint
from tailbox.policy.address_set import AddressSet, PackedRange
from tailbox.policy.match import NOTHING_ALLOWED, CompiledFilter
from tailbox.wire.addresses import SERVICE_IPV4, SERVICE_IPV6, IPAddress
from tailbox.wire.ip import Protocol, build_packet
from tailbox.wire.keys import NodePublicKey
from tailbox.wire.train import Train

TSMP_PING, TSMP_PONG, TSMP_REJECT = b"p", b"o", b"!"  # net/packet/tsmp.go
TSMP_PING_BYTES = 9  # type, 8 opaque bytes
REJECTED_BY_ACL, REJECTED_BY_SHIELDS = b"A", b"S"
SERVICE_ADDRESSES = frozenset({SERVICE_IPV4.packed, SERVICE_IPV6.packed})


@dataclass(frozen=True, slots=True)
class DataplaneView:
    """What the netmap and the preferences say of the data path."""

    addresses: tuple[IPAddress, ...] = ()  # our own
    served: tuple[PackedRange, ...] = ()  # approved routes that we serve besides
    routes: OverlayRoutes = field(default_factory=lambda: OverlayRoutes({}))
    rules: CompiledFilter = NOTHING_ALLOWED
    shields_up: bool = False
    jailed: frozenset[NodePublicKey] = frozenset()


@dataclass(frozen=True, slots=True)
class Inbound:
    """What one opened train leads to."""

    to_stack: tuple[Train, ...] = ()
    replies: tuple[Train, ...] = ()  # TSMP messages for the peer it came from
    dropped: tuple[tuple[Verdict, int], ...] = ()
    pongs: tuple[bytes, ...] = ()  # the eight bytes of TSMP pongs


@dataclass(frozen=True, slots=True)
class Outbound:
    """Where one train of the stack goes: to a peer, back to the stack, or nowhere."""

    peer: NodePublicKey | None = None
    is_loopback: bool = False


class Dataplane:
    """Filter, routes and checks of one node."""

    def __init__(self, *, tap: PacketTap | None = None) -> None:
        self._filter = PacketFilter()
        self._view = DataplaneView()
        self._own: frozenset[bytes] = frozenset()
        self._jailed: Collection[NodePublicKey] = ()
        self._tap = tap
        self.inbound_drops: Counter[Verdict] = Counter()
        self.outbound_drops: Counter[Verdict] = Counter()

    def set_view(self, view: DataplaneView) -> None:
        self._view = view
        own = [address.packed for address in view.addresses]
        self._own = frozenset(own) | SERVICE_ADDRESSES
        local = AddressSet([*((packed, packed) for packed in own), *view.served])
        self._filter.set_rules(view.rules, local=local, shields_up=view.shields_up)

    @property
    def rules(self) -> CompiledFilter:
        return self._view.rules

    @property
    def routes(self) -> OverlayRoutes:
        return self._view.routes

    def is_own(self, packed: bytes) -> bool:
        """Whether packets to this address stay in the node, the service addresses included."""
        return packed in self._own

    def inbound(self, peer: NodePublicKey, train: Train, *, now: float) -> Inbound:
        """Judge what a peer sent. The trains that come out view the one that went in."""
        head = shared_head(train)
        if head is not None and head.protocol != Protocol.TSMP:
            verdict = self._judge(peer, head)
            if self._tap is not None:
                self._tap.record(TapPoint.FILTER, peer, train.data, detail=f"{verdict.value}: {head}", now=now)
            if verdict is Verdict.ACCEPT:
                return Inbound((train,))
            return self._refused(head, verdict, len(train))
        parts = flow_runs(train)
        if len(parts) == 1:
            return self._inbound_one_by_one(peer, train, now)
        return _joined([self.inbound(peer, part, now=now) for part in parts])

    def outbound(self, train: Train, *, now: float) -> Outbound:
        """Route what our own stack made: one flow a train, so its first packet speaks for all."""
        head = read_head(memoryview(train.data)[: train.stride])
        if head is None:
            return self._lost(Verdict.UNKNOWN, len(train))
        if head.destination in self._own:
            return Outbound(is_loopback=True)
        verdict = self._filter.judge_outbound(head)
        if verdict is not Verdict.ACCEPT:
            return self._lost(verdict, len(train))
        peer = self._view.routes.peer_for(head.destination)
        if peer is None:
            return self._lost(Verdict.NO_PEER, len(train))
        self._filter.note_outbound(head)
        return Outbound(peer)

    def tsmp_ping(self, source: IPAddress, destination: IPAddress, data: bytes) -> Train:
        """A ping that the peer's data path answers; `data` is eight bytes of ours."""
        return Train.of(build_packet(source, destination, Protocol.TSMP, TSMP_PING + data))

    def _lost(self, verdict: Verdict, count: int) -> Outbound:
        self.outbound_drops[verdict] += count
        return Outbound()

    def _judge(self, peer: NodePublicKey, head: PacketHead) -> Verdict:
        if not self._view.routes.source_ok(peer, head.source):
            return Verdict.BAD_SOURCE
        return self._filter.judge_inbound(head, is_jailed=peer in self._view.jailed)

    def _inbound_one_by_one(self, peer: NodePublicKey, train: Train, now: float) -> Inbound:
        """Neighbours with one verdict leave as one train, so that a short last packet keeps its place."""
        accepted: list[Train] = []
        replies: list[Train] = []
        pongs: list[bytes] = []
        dropped: Counter[Verdict] = Counter()
        for packet in train:
            head = read_head(packet)
            verdict = Verdict.UNKNOWN if head is None else self._judge(peer, head)
            if self._tap is not None:
                self._tap.record(TapPoint.FILTER, peer, packet, detail=f"{verdict.value}: {head}", now=now)
            if head is not None and verdict is Verdict.ACCEPT:
                if head.protocol == Protocol.TSMP:
                    self._on_tsmp(head, packet, replies, pongs)
                else:
                    accepted.append(Train.of(packet))
            elif head is None:
                dropped[verdict] += 1
            else:
                refused = self._refused(head, verdict, 1, count=False)
                replies += refused.replies
                dropped[verdict] += 1
        self.inbound_drops.update(dropped)
        return Inbound(tuple(accepted), tuple(replies), tuple(dropped.items()), tuple(pongs))

    def _refused(self, head: PacketHead, verdict: Verdict, packets: int, *, count: bool = True) -> Inbound:
        """Upstream tells the sender of an IPv4 SYN that rules refused, with a TSMP reject."""
        if count:
            self.inbound_drops[verdict] += packets
        replies: tuple[Train, ...] = ()
        if verdict in _REJECT_REASONS and head.is_tcp_syn and len(head.source) == 4:
            ports = head.source_port.to_bytes(2, "big") + head.destination_port.to_bytes(2, "big")
            body = TSMP_REJECT + bytes((head.protocol,)) + _REJECT_REASONS[verdict] + ports
            replies = (_answer(head, body),)
        return Inbound(replies=replies, dropped=((verdict, packets),))

    def _on_tsmp(self, head: PacketHead, packet: memoryview, replies: list[Train], pongs: list[bytes]) -> None:
        body = bytes(packet[head.transport_at :])
        if len(body) < TSMP_PING_BYTES:
            return
        if body[:1] == TSMP_PING:
            no_peer_api = bytes(2)
            replies.append(_answer(head, TSMP_PONG + body[1:TSMP_PING_BYTES] + no_peer_api))
        elif body[:1] == TSMP_PONG:
            pongs.append(body[1:TSMP_PING_BYTES])


_REJECT_REASONS: Mapping[Verdict, bytes] = {Verdict.ACL: REJECTED_BY_ACL, Verdict.SHIELDS: REJECTED_BY_SHIELDS}


def _joined(results: list[Inbound]) -> Inbound:
    """What the parts of a train lead to, in order."""
    return Inbound(
        tuple(train for result in results for train in result.to_stack),
        tuple(reply for result in results for reply in result.replies),
        tuple(drop for result in results for drop in result.dropped),
        tuple(pong for result in results for pong in result.pongs),
    )


def _answer(head: PacketHead, body: bytes) -> Train:
    return Train.of(build_packet(address_of(head.destination), address_of(head.source), Protocol.TSMP, body))

"""The WireGuard endpoint of a node: all its peers, known by key and not by address.

Trains of IP packets go in and trains of messages come out, and the other way round. Where a peer is, whether its
packets may carry the addresses they do, and who wants to know, is for the caller.

**Ownership**: a train in `to_network` is valid until the next `seal`, one in `to_stack` until the next `open`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tailbox.clock import Deadline
from tailbox.errors import AuthenticationError, WireError
from tailbox.randomness import RandomSource
from tailbox.wire.keys import NodePrivateKey, NodePublicKey
from tailbox.wire.train import Train
from tailbox.wire.wireguard import (
    SHORTEST_MESSAGE_BYTES,
    CookieReply,
    HandshakeInitiation,
    HandshakeResponse,
    MessageType,
)
from tailbox.wireguard.admission import LoadMeter, SourceLimiter
from tailbox.wireguard.batches import TrainOpener, read_headers
from tailbox.wireguard.cookies import CookieIssuer
from tailbox.wireguard.events import DropReason, EffectsBuilder, TunnelEffects, TunnelEvent
from tailbox.wireguard.handshake import Identity, PendingInitiation, ReceivedInitiation
from tailbox.wireguard.peer import LocalEnd, Peer, PeerSettings, PeerStatus
from tailbox.wireguard.session import Session
from tailbox.wireguard.timers import REJECT_AFTER_MESSAGES, Schedule

__all__ = ["PeerSettings", "PeerStatus", "TunnelEffects", "TunnelEvent", "Tunnels"]

MAX_PEERS_PER_DEADLINE = 64  # ours: about 10 ms of handshakes; the rest is due at once again
TYPE_MASK = 0xFFFF_FFFF


class Tunnels:
    """Seals for and opens from many peers. Peers cannot raise: what is wrong with a packet is counted in `drops`."""

    def __init__(self, private_key: NodePrivateKey, *, random: RandomSource, unix_offset_s: float) -> None:
        """`unix_offset_s`: Unix time minus `now`, for the timestamps of handshakes."""
        self.drops: Counter[DropReason] = Counter()
        self._local = LocalEnd(Identity(private_key), random, unix_offset_s)
        self._issuer = CookieIssuer(self._local.identity.public, random)
        self._load = LoadMeter()
        self._limiter = SourceLimiter()
        self._opener = TrainOpener()
        self._settings: dict[NodePublicKey, PeerSettings] = {}
        self._peers: dict[NodePublicKey, Peer] = {}  # those with whom there has been something to do
        self._schedule = Schedule()

    # Configuration

    def set_peers(self, peers: Mapping[NodePublicKey, PeerSettings], *, now: float) -> TunnelEffects:
        """Replace the whole set. Removed peers forget their sessions, unchanged ones notice nothing."""
        out = EffectsBuilder(self.drops)
        for key in self._settings.keys() - peers.keys():
            self._remove(key, out)
        for key, settings in peers.items():
            if self._settings.get(key) != settings:
                self._set(key, settings, now=now, out=out)
        return out.finish()

    def set_peer(self, peer: NodePublicKey, settings: PeerSettings, *, now: float) -> TunnelEffects:
        """Add or change one peer, at a cost that does not grow with their number. Our own key is ignored."""
        out = EffectsBuilder(self.drops)
        self._set(peer, settings, now=now, out=out)
        return out.finish()

    def remove_peer(self, peer: NodePublicKey, *, now: float) -> TunnelEffects:
        """Forget one peer with all its sessions; harmless if it is not there."""
        out = EffectsBuilder(self.drops)
        self._remove(peer, out)
        return out.finish()

    def reset_peer(self, peer: NodePublicKey, *, now: float) -> TunnelEffects:
        """Forget the sessions of a peer that is known to have restarted; the next packet starts a handshake."""
        out = EffectsBuilder(self.drops)
        live = self._peers.get(peer)
        if live is not None:
            live.forget(DropReason.PEER_REMOVED, out)
            live.timers.traversed(now=now)
            self._schedule.update(live.timers)
        return out.finish()

    def peer_status(self, peer: NodePublicKey) -> PeerStatus:
        live = self._peers.get(peer)
        return PeerStatus() if live is None else live.status()

    def _set(self, key: NodePublicKey, settings: PeerSettings, *, now: float, out: EffectsBuilder) -> None:
        if key == self._local.identity.public:
            return
        self._settings[key] = settings
        live = self._peers.get(key)
        if live is not None:
            live.configure(settings, now=now, out=out)
        elif settings.persistent_keepalive_s:
            live = self._activate(key, 0, out)
            if live is not None:
                live.send_keepalive(now=now, out=out)
        if live is not None:
            self._schedule.update(live.timers)

    def _remove(self, key: NodePublicKey, out: EffectsBuilder) -> None:
        self._settings.pop(key, None)
        live = self._peers.pop(key, None)
        if live is not None:
            live.forget(DropReason.PEER_REMOVED, out)
            self._schedule.forget(live.timers)

    def _activate(self, key: NodePublicKey, packets: int, out: EffectsBuilder) -> Peer | None:
        """Make the machine of a configured peer; otherwise drop the packets that were for it."""
        settings = self._settings.get(key)
        if settings is None:
            out.drop(DropReason.UNKNOWN_PEER, packets, key)
            return None
        try:
            static_shared = self._local.identity.shared_with(key)
        except AuthenticationError:
            out.drop(DropReason.BAD_HANDSHAKE, max(packets, 1), key)
            return None
        peer = self._peers[key] = Peer(key, settings, self._local, static_shared=static_shared)
        return peer

    # Outbound

    def seal(self, peer: NodePublicKey, train: Train, *, now: float) -> TunnelEffects:
        """Seal IP packets for a peer. Without a session they are copied and wait, and a handshake starts."""
        out = EffectsBuilder(self.drops)
        live = self._peers.get(peer) or self._activate(peer, len(train), out)
        if live is not None and train.data:
            live.send(train, now=now, out=out)
            self._schedule.update(live.timers)
        return out.finish()

    # Inbound

    def open(self, train: Train, *, source: bytes, now: float) -> TunnelEffects:
        """Take WireGuard messages that one sender sent.

        `source`: the sender's address as bytes, for cookies; the last two should be its port, which handshake rate
        limits leave out. Whose address it is matters nothing otherwise.
        """
        out = EffectsBuilder(self.drops)
        heads, counters = read_headers(train)
        rows = self._without_runts(train, len(heads), out)
        start = 0
        while start < rows:
            head = heads[start]
            stop = rows if heads.count(head) == len(heads) else _end_of_run(heads, start, rows)
            if head & TYPE_MASK == MessageType.TRANSPORT_DATA:
                self._open_data(train, (start, stop), head >> 32, counters[start:stop], now=now, out=out)
            else:
                for row in range(start, stop):
                    message = bytes(train.data[row * train.stride : (row + 1) * train.stride])
                    self._open_message(message, head & TYPE_MASK, source, now=now, out=out)
            start = stop
        return out.finish()

    def _without_runts(self, train: Train, readable: int, out: EffectsBuilder) -> int:
        """How many leading packets are long enough to be messages; the others are counted."""
        count = len(train)
        if train.stride < SHORTEST_MESSAGE_BYTES:
            out.drop(DropReason.RUNT, count)
            return 0
        last = len(train.data) - (count - 1) * train.stride
        rows = readable if last >= SHORTEST_MESSAGE_BYTES else count - 1
        out.drop(DropReason.RUNT, count - rows)
        return rows

    def _open_data(
        self,
        train: Train,
        span: tuple[int, int],
        index: int,
        counters: list[int],
        *,
        now: float,
        out: EffectsBuilder,
    ) -> None:
        start, stop = span
        key, holder = self._local.indices.get(index) or (None, None)
        if key is None or not isinstance(holder, Session):
            out.drop(DropReason.UNKNOWN_INDEX, stop - start)
            return
        if now >= holder.rejected_at or max(counters) >= REJECT_AFTER_MESSAGES:
            out.drop(DropReason.SESSION_EXPIRED, stop - start, key)
            return
        peer = self._peers[key]
        opened = self._opener.open(holder.receiving_cipher, holder.window, train, span, counters)
        wire_bytes = min(stop * train.stride, len(train.data)) - start * train.stride
        peer.accept_opened(holder, opened, wire_bytes, now=now, out=out)
        self._schedule.update(peer.timers)

    def _open_message(self, message: bytes, kind: int, source: bytes, *, now: float, out: EffectsBuilder) -> None:
        """Everything but data. Cheap checks first: length, mac1, load, and only then public keys."""
        try:
            if kind == MessageType.COOKIE_REPLY:
                self._open_cookie_reply(CookieReply.decode(message), now=now, out=out)
            elif kind == MessageType.INITIATION:
                initiation = HandshakeInitiation.decode(message)
                if self._admits(message, source, now=now, out=out):
                    self._open_initiation(initiation, now=now, out=out)
            elif kind == MessageType.RESPONSE:
                response = HandshakeResponse.decode(message)
                if self._admits(message, source, now=now, out=out):
                    self._open_response(response, now=now, out=out)
            else:
                out.drop(DropReason.UNKNOWN_TYPE)
        except WireError:
            out.drop(DropReason.WRONG_LENGTH)
        except AuthenticationError:
            out.drop(DropReason.BAD_HANDSHAKE)

    def _admits(self, message: bytes, source: bytes, *, now: float, out: EffectsBuilder) -> bool:
        """Whether a handshake message deserves public-key work."""
        if not self._issuer.has_valid_mac1(message):
            out.drop(DropReason.BAD_MAC1)
            return False
        if not self._load.note_arrival(now=now):
            return True
        if not self._issuer.has_valid_mac2(message, source, now=now):
            out.drop(DropReason.COOKIE_WANTED)
            out.to_source.append(self._issuer.reply(message, source, now=now).encode())
            return False
        if not self._limiter.allows(source, now=now):
            out.drop(DropReason.RATE_LIMITED)
            return False
        return True

    def _open_initiation(self, message: HandshakeInitiation, *, now: float, out: EffectsBuilder) -> None:
        """Raises AuthenticationError. Nothing is kept of an initiation that does not authenticate."""
        received = ReceivedInitiation(self._local.identity, message)
        key = received.claimed_peer
        if key not in self._settings:
            out.drop(DropReason.UNKNOWN_PEER)
            return
        live = self._peers.get(key)
        static_shared = self._local.identity.shared_with(key) if live is None else live.static_shared
        timestamp = received.authenticate(static_shared)
        if live is None:
            live = self._peers[key] = Peer(key, self._settings[key], self._local, static_shared=static_shared)
        live.accept_initiation(received, timestamp, now=now, out=out)
        self._schedule.update(live.timers)

    def _open_response(self, message: HandshakeResponse, *, now: float, out: EffectsBuilder) -> None:
        """Raises AuthenticationError, and then the handshake goes on waiting for the true response."""
        key, holder = self._local.indices.get(message.receiver_index) or (None, None)
        if key is None or not isinstance(holder, PendingInitiation):
            out.drop(DropReason.UNKNOWN_INDEX)
            return
        peer = self._peers[key]
        peer.accept_response(holder, message, now=now, out=out)
        self._schedule.update(peer.timers)

    def _open_cookie_reply(self, message: CookieReply, *, now: float, out: EffectsBuilder) -> None:
        key, _ = self._local.indices.get(message.receiver_index) or (None, None)
        if key is None:
            out.drop(DropReason.UNKNOWN_INDEX)
        else:
            self._peers[key].accept_cookie(message, now=now, out=out)

    # Time

    def next_deadline(self) -> Deadline | None:
        return self._schedule.next()

    def handle_deadline(self, *, now: float) -> TunnelEffects:
        """Do what is due, for a bounded number of peers; harmless early, late or twice."""
        out = EffectsBuilder(self.drops)
        for timers in self._schedule.take_due(now=now, limit=MAX_PEERS_PER_DEADLINE):
            self._peers[timers.peer].handle_deadline(now=now, out=out)
            self._schedule.update(timers)
        return out.finish()


def _end_of_run(heads: list[int], start: int, rows: int) -> int:
    """Where the run of packets of one type and index ends."""
    stop = start + 1
    while stop < rows and heads[stop] == heads[start]:
        stop += 1
    return stop

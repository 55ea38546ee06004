"""Which way to each peer: the entry of the package.

Traffic starts by relay. A round of pings to every known address of the peer, and a call-me-maybe by relay that makes
the peer do the same, opens both NATs; the first pong makes its address the direct path, and heartbeats keep it. See
peer_path.py for the states of a path. Source: paths.md §4, §6; tailscale wgengine/magicsock.

The owner asks `paths_to`, reports traffic, and sends what the effects say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tailbox.clock import Deadline
from tailbox.errors import AuthenticationError, WireError
from tailbox.paths.candidates import MAX_FROM_CALL_ME_MAYBE, Candidates, is_usable
from tailbox.paths.disco_seal import DiscoSeal
from tailbox.paths.events import (
    NOTHING,
    DiscoDropReason,
    PathChanged,
    PathChangeReason,
    PathEffects,
    PingPurpose,
    PingTimedOut,
    PongReceived,
)
from tailbox.paths.outbox import Outbox
from tailbox.paths.path import Direct, Path, PeerReach, Relayed
from tailbox.paths.peer_path import HEARTBEAT_S, PeerPath, PeerPathSnapshot
from tailbox.paths.prober import Prober
from tailbox.paths.probes import Probe
from tailbox.paths.ranking import MeasuredPath
from tailbox.paths.schedule import Schedule
from tailbox.randomness import RandomSource
from tailbox.wire.addresses import Endpoint
from tailbox.wire.disco import CallMeMaybe, Envelope, Ping, Pong, decode_message
from tailbox.wire.keys import DiscoPrivateKey, DiscoPublicKey, NodePublicKey

HEARD_AGAIN_AFTER_S = 1.0  # ours: how often traffic from an unchanged place is looked at


class PathFinder:
    """Finds and keeps the best path to every peer. `drops` counts what strangers and peers sent in vain."""

    def __init__(self, disco_key: DiscoPrivateKey, node_key: NodePublicKey, *, random: RandomSource) -> None:
        self._seal = DiscoSeal(disco_key, random)
        self._peers: dict[NodePublicKey, PeerPath] = {}
        self._by_disco_key: dict[DiscoPublicKey, list[NodePublicKey]] = {}
        self._paths: dict[NodePublicKey, tuple[Path, ...]] = {}
        self._schedule = Schedule()
        self.drops: Counter[DiscoDropReason] = Counter()
        self._prober = Prober(self._seal, node_key, random, self.drops)

    # What the owner reads.

    @property
    def disco_key(self) -> DiscoPublicKey:
        return self._seal.public_key

    def path_to(self, peer: NodePublicKey) -> Path | None:
        """The one path most likely to work now. None: no way, or no such peer."""
        paths = self._paths.get(peer)
        return paths[0] if paths else None

    def paths_to(self, peer: NodePublicKey) -> tuple[Path, ...]:
        """All paths that a packet should take: two while a direct path is doubted (paths.md §6.4), else one."""
        return self._paths.get(peer, ())

    def peer_snapshot(self, peer: NodePublicKey) -> PeerPathSnapshot | None:
        """None: no such peer."""
        found = self._peers.get(peer)
        return found.snapshot(self.path_to(peer)) if found is not None else None

    # What the owner tells.

    def set_peers(self, peers: Mapping[NodePublicKey, PeerReach], *, now: float) -> PathEffects:
        """Take the network map's peers; those not in it are forgotten."""
        outbox = Outbox()
        for key in self._peers.keys() - peers.keys():
            self._remove_peer(key)
        for key, reach in peers.items():
            self._set_peer(key, reach, now, outbox)
        return outbox.effects()

    def set_peer(self, key: NodePublicKey, reach: PeerReach, *, now: float) -> PathEffects:
        """Add or change one peer, at a cost that does not grow with their number."""
        outbox = Outbox()
        self._set_peer(key, reach, now, outbox)
        return outbox.effects()

    def set_own_endpoints(self, endpoints: Sequence[Endpoint], *, now: float) -> PathEffects:
        """What peers are told in call-me-maybes. Call it after every STUN round, changed or not: age counts."""
        outbox = Outbox()
        self._prober.set_own_endpoints(endpoints, now=now)
        self._prober.send_waiting_calls(self._peers, outbox)
        return outbox.effects()

    def note_traffic(self, key: NodePublicKey, *, now: float) -> PathEffects:
        """Data goes to the peer: keep discovery and heartbeats going. Cheap while heartbeats run."""
        peer = self._peers.get(key)
        if peer is None:
            return NOTHING
        peer.active_at = now
        if peer.heartbeat_at is not None or not peer.speaks_disco:
            return NOTHING
        outbox = Outbox()
        self._heartbeat(peer, now, outbox)
        self._settle(peer, PathChangeReason.TRUST_EXPIRED, now, outbox)
        return outbox.effects()

    def heard(self, key: NodePublicKey, source: Path, *, now: float) -> PathEffects:
        """Authenticated WireGuard traffic of the peer came from there. Cheap if it did a moment ago."""
        peer = self._peers.get(key)
        if peer is None:
            return NOTHING
        last_source, last_at = peer.last_heard
        if now - last_at < HEARD_AGAIN_AFTER_S and (source is last_source or source == last_source):
            return NOTHING
        peer.last_heard = (source, now)
        outbox = Outbox()
        if isinstance(source, Relayed):
            peer.heard_region = source.region_id
        elif is_usable(source.endpoint):
            peer.heard_direct = source.endpoint
            self._hear_directly(peer, source, now, outbox)
        self._settle(peer, PathChangeReason.HEARD, now, outbox)
        return outbox.effects()

    def ping(self, key: NodePublicKey, *, now: float) -> PathEffects:
        """Measure the present path; answers are PongReceived or PingTimedOut events with purpose COMMAND.

        Counts as traffic. Without a trusted direct path, the relay and every address are pinged.
        """
        peer = self._peers.get(key)
        if peer is None or not peer.speaks_disco:
            return NOTHING
        outbox = Outbox()
        peer.active_at = now
        if peer.best is not None:
            self._prober.ping(peer, Direct(peer.best.endpoint), PingPurpose.COMMAND, now, outbox)
        if not peer.is_trusted(now=now):
            if (relay := peer.relay()) is not None:
                self._prober.ping(peer, relay, PingPurpose.COMMAND, now, outbox)
            self._prober.search(peer, PingPurpose.COMMAND, now, outbox)
        if peer.heartbeat_at is None:
            peer.heartbeat_at = now + HEARTBEAT_S
        self._settle(peer, PathChangeReason.TRUST_EXPIRED, now, outbox)
        return outbox.effects()

    def endpoint_failed(self, key: NodePublicKey, endpoint: Endpoint, *, now: float) -> PathEffects:
        """The system refused to send there (EHOSTUNREACH and kin)."""
        peer = self._peers.get(key)
        if peer is None or peer.best is None or peer.best.endpoint != endpoint:
            return NOTHING
        outbox = Outbox()
        peer.drop_best()
        self._settle(peer, PathChangeReason.ENDPOINT_FAILED, now, outbox)
        return outbox.effects()

    def relay_gone(self, key: NodePublicKey, region_id: int, *, now: float) -> PathEffects:
        """A relay says that the peer is not, or no longer, connected there."""
        peer = self._peers.get(key)
        if peer is None or peer.heard_region != region_id:
            return NOTHING
        outbox = Outbox()
        peer.heard_region = 0
        self._settle(peer, PathChangeReason.RELAY_GONE, now, outbox)
        return outbox.effects()

    def rebind(self, *, now: float) -> PathEffects:
        """Our network changed: forget what was learned of paths, and search anew for peers in use."""
        outbox = Outbox()
        self._prober.doubt_own_endpoints()
        for peer in self._peers.values():
            peer.drop_best()
            peer.candidates.forget_probes()
            if peer.is_active(now=now) and peer.speaks_disco:
                self._prober.search(peer, PingPurpose.DISCOVERY, now, outbox)
            self._settle(peer, PathChangeReason.REBIND, now, outbox)
        return outbox.effects()

    def handle_disco(
        self, datagram: bytes, source: Path, *, relay_peer: NodePublicKey | None, now: float
    ) -> PathEffects:
        """A disco datagram; `relay_peer` is the sender that the relay names, None for direct ones."""
        outbox = Outbox()
        reason = self._handle_disco(datagram, source, relay_peer, now, outbox)
        if reason is not None:
            self.drops[reason] += 1
        return outbox.effects()

    # Time.

    def next_deadline(self) -> Deadline | None:
        peer_at = self._schedule.next_at()
        timeout_at = self._prober.probes.next_timeout_at()
        earliest = Deadline(peer_at, "heartbeat") if peer_at is not None else None
        if timeout_at is not None and (earliest is None or timeout_at < earliest.at):
            earliest = Deadline(timeout_at, "ping timeout")
        if self._prober.call_anyway_at is not None and (earliest is None or self._prober.call_anyway_at < earliest.at):
            earliest = Deadline(self._prober.call_anyway_at, "call me maybe")
        return earliest

    def handle_deadline(self, *, now: float) -> PathEffects:
        outbox = Outbox()
        for probe in self._prober.probes.take_timed_out(now=now):
            self._give_up(probe, now, outbox)
        if self._prober.call_anyway_at is not None and now >= self._prober.call_anyway_at:
            self._prober.send_waiting_calls(self._peers, outbox)
        for peer in self._schedule.take_due(self._peers, now=now):
            self._attend(peer, now, outbox)
        return outbox.effects()

    # Peers come, change and go.

    def _set_peer(self, key: NodePublicKey, reach: PeerReach, now: float, outbox: Outbox) -> None:
        peer = self._peers.get(key)
        if peer is None:
            self._add_peer(PeerPath(key, reach), now, outbox)
        elif peer.reach != reach:
            self._update_peer(peer, reach, now, outbox)

    def _add_peer(self, peer: PeerPath, now: float, outbox: Outbox) -> None:
        self._peers[peer.key] = peer
        self._by_disco_key.setdefault(peer.reach.disco_key, []).append(peer.key)
        self._settle(peer, PathChangeReason.PEER_ADDED, now, outbox)

    def _remove_peer(self, key: NodePublicKey) -> None:
        peer = self._peers.pop(key)
        self._paths.pop(key, None)
        self._prober.forget(key)
        self._forget_disco_key(peer)

    def _update_peer(self, peer: PeerPath, reach: PeerReach, now: float, outbox: Outbox) -> None:
        old, why = peer.reach, PathChangeReason.HOME_RELAY_CHANGED
        if old.disco_key != reach.disco_key:
            why = PathChangeReason.DISCO_KEY_CHANGED
            self._forget_disco_key(peer)
            self._by_disco_key.setdefault(reach.disco_key, []).append(peer.key)
            peer.drop_best()
            peer.candidates = Candidates()
        peer.reach = reach
        is_news = peer.candidates.set_from_network_map(reach.endpoints)
        peer.expire_candidates(now=now)
        if is_news and peer.heartbeat_at is not None and not peer.is_trusted(now=now):
            self._prober.search(peer, PingPurpose.DISCOVERY, now, outbox)
        self._settle(peer, why, now, outbox)

    def _forget_disco_key(self, peer: PeerPath) -> None:
        sharers = self._by_disco_key[peer.reach.disco_key]
        sharers.remove(peer.key)
        if not sharers:
            del self._by_disco_key[peer.reach.disco_key]
            self._seal.forget(peer.reach.disco_key)

    # What is due.

    def _attend(self, peer: PeerPath, now: float, outbox: Outbox) -> None:
        is_active = peer.is_active(now=now)
        if not peer.is_doubt_known and now >= peer.trusted_until:
            peer.is_doubt_known = True
            why = PathChangeReason.TRUST_EXPIRED if is_active else PathChangeReason.IDLE
            self._settle(peer, why, now, outbox)
        if peer.heartbeat_at is not None and now >= peer.heartbeat_at:
            if is_active:
                self._heartbeat(peer, now, outbox)
            else:
                peer.heartbeat_at = None
        self._settle(peer, PathChangeReason.TRUST_EXPIRED, now, outbox)

    def _heartbeat(self, peer: PeerPath, now: float, outbox: Outbox) -> None:
        """Keep the best path alive; search if there is none, or a better one may exist."""
        peer.heartbeat_at = now + HEARTBEAT_S
        if peer.best is not None:
            self._prober.ping(peer, Direct(peer.best.endpoint), PingPurpose.HEARTBEAT, now, outbox)
        if peer.wants_full_round(now=now):
            self._prober.search(peer, PingPurpose.DISCOVERY, now, outbox)

    def _give_up(self, probe: Probe, now: float, outbox: Outbox) -> None:
        """A ping timed out. The best path is given up only when it is in doubt already."""
        if probe.purpose is PingPurpose.COMMAND:
            outbox.events.append(PingTimedOut(probe.peer, probe.path))
        peer = self._peers.get(probe.peer)
        if peer is None or peer.best is None or peer.is_trusted(now=now):
            return
        if isinstance(probe.path, Direct) and probe.path.endpoint == peer.best.endpoint:
            peer.drop_best()
            self._settle(peer, PathChangeReason.PING_TIMED_OUT, now, outbox)

    def _settle(self, peer: PeerPath, why: PathChangeReason, now: float, outbox: Outbox) -> None:
        """Make `path_to` say what the peer's state means, and note when to look at the peer again."""
        paths, before = peer.choose(now=now), self._paths.get(peer.key, ())
        if paths != before:
            self._paths[peer.key] = paths
            if paths[:1] != before[:1]:
                outbox.events.append(PathChanged(peer.key, paths[0] if paths else None, why))
        self._schedule.enter(peer)

    def _hear_directly(self, peer: PeerPath, source: Direct, now: float, outbox: Outbox) -> None:
        """The peer showed itself at an address: a candidate, pinged at once if a direct path is wanted."""
        candidate = peer.candidates.hear(source.endpoint, now=now)
        is_wanted = peer.heartbeat_at is not None and not peer.is_trusted(now=now) and peer.speaks_disco
        if is_wanted and candidate.is_due(now=now):
            self._prober.ping(peer, source, PingPurpose.DISCOVERY, now, outbox)

    # Disco messages. Each handler returns why the message was dropped, None if it was not.

    def _handle_disco(
        self, datagram: bytes, source: Path, relay_peer: NodePublicKey | None, now: float, outbox: Outbox
    ) -> DiscoDropReason | None:
        try:
            envelope = Envelope.decode(datagram)
            sharers = self._by_disco_key.get(envelope.sender)
            if sharers is None or envelope.sender.is_zero:
                return DiscoDropReason.UNKNOWN_SENDER
            message = decode_message(self._seal.open(envelope))
        except AuthenticationError:
            return DiscoDropReason.NOT_AUTHENTIC
        except WireError:
            return DiscoDropReason.MALFORMED
        if isinstance(source, Relayed) and relay_peer is None:
            return DiscoDropReason.WRONG_TRANSPORT
        match message:
            case Ping():
                return self._on_ping(message, sharers, source, relay_peer, now, outbox)
            case Pong():
                return self._on_pong(message, sharers, now, outbox)
            case CallMeMaybe():
                return self._on_call_me_maybe(message, sharers, source, relay_peer, now, outbox)
            case _:
                return DiscoDropReason.UNKNOWN_TYPE

    def _on_ping(
        self,
        ping: Ping,
        sharers: list[NodePublicKey],
        source: Path,
        relay_peer: NodePublicKey | None,
        now: float,
        outbox: Outbox,
    ) -> DiscoDropReason | None:
        peer = self._sender(sharers, relay_peer, ping.node_key)
        answered = peer or self._peers[sharers[0]]
        if not answered.pongs_allowed.take(now=now):
            return DiscoDropReason.RATE_LIMITED
        recipient = relay_peer if isinstance(source, Relayed) and relay_peer is not None else answered.key
        self._prober.pong(ping, source, recipient, answered.reach.disco_key, outbox)
        if peer is not None and isinstance(source, Direct) and is_usable(source.endpoint):
            self._hear_directly(peer, source, now, outbox)
        return None

    def _on_pong(self, pong: Pong, sharers: list[NodePublicKey], now: float, outbox: Outbox) -> DiscoDropReason | None:
        """Credit goes to the address that was pinged, wherever the pong came from (paths.md §6.7)."""
        probe = self._prober.probes.get(pong.transaction)
        if probe is None or probe.peer not in sharers:
            return DiscoDropReason.UNKNOWN_PONG
        self._prober.probes.remove(pong.transaction)
        latency_s = max(0.0, now - probe.sent_at)
        outbox.events.append(PongReceived(probe.peer, probe.path, latency_s, probe.purpose))
        if isinstance(probe.path, Direct):
            peer = self._peers[probe.peer]
            peer.take_pong(MeasuredPath(probe.path.endpoint, latency_s), now=now)
            self._settle(peer, PathChangeReason.PONG, now, outbox)
        return None

    def _on_call_me_maybe(
        self,
        call: CallMeMaybe,
        sharers: list[NodePublicKey],
        source: Path,
        relay_peer: NodePublicKey | None,
        now: float,
        outbox: Outbox,
    ) -> DiscoDropReason | None:
        """Ping what it names, at once and without calling back: the caller has pinged us (paths.md §6.5)."""
        if not isinstance(source, Relayed) or relay_peer not in sharers:
            return DiscoDropReason.WRONG_TRANSPORT
        peer = self._peers[relay_peer]
        if not peer.calls_allowed.take(now=now):
            return DiscoDropReason.RATE_LIMITED
        usable = [endpoint for endpoint in call.endpoints if is_usable(endpoint)]
        self.drops[DiscoDropReason.UNUSABLE_ENDPOINT] += len(call.endpoints) - len(usable)
        self.drops[DiscoDropReason.TOO_MANY_ENDPOINTS] += max(0, len(usable) - MAX_FROM_CALL_ME_MAYBE)
        peer.candidates.set_from_call_me_maybe(usable)
        peer.expire_candidates(now=now)
        for candidate in peer.candidates.all():
            self._prober.ping(peer, Direct(candidate.endpoint), PingPurpose.DISCOVERY, now, outbox)
        self._settle(peer, PathChangeReason.TRUST_EXPIRED, now, outbox)
        return None

    def _sender(
        self, sharers: list[NodePublicKey], relay_peer: NodePublicKey | None, hint: NodePublicKey | None
    ) -> PeerPath | None:
        """Which node sealed a message: nodes of one process may share a disco key. None: cannot be told."""
        for key in (relay_peer, hint, sharers[0] if len(sharers) == 1 else None):
            if key is not None and key in sharers:
                return self._peers[key]
        return None

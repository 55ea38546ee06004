"""Which way to each peer: the entry of the package. Skeleton of signatures; behaviour follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tailbox.clock import Deadline
from tailbox.paths.events import NOTHING, PathEffects
from tailbox.paths.path import Path, PeerReach
from tailbox.randomness import RandomSource
from tailbox.wire.addresses import Endpoint
from tailbox.wire.keys import DiscoPrivateKey, NodePublicKey


@dataclass(frozen=True, slots=True)
class PeerPathSnapshot:
    """How a peer is reached, for status pages."""

    path: Path | None
    direct: Endpoint | None  # best direct address, trusted or not
    latency_s: float | None  # of the last pong over it
    is_active: bool  # traffic within the last 45 s
    candidates: tuple[Endpoint, ...]


class PathFinder:
    """Finds and keeps the best path to every peer."""

    def __init__(self, disco_key: DiscoPrivateKey, node_key: NodePublicKey, *, random: RandomSource) -> None:
        self._paths: dict[NodePublicKey, Path] = {}

    def set_peers(self, peers: Mapping[NodePublicKey, PeerReach], *, now: float) -> PathEffects:
        """Take the network map's peers; those not in it are forgotten."""
        return NOTHING

    def set_own_endpoints(self, endpoints: Sequence[Endpoint], *, now: float) -> PathEffects:
        """What peers are told in call-me-maybe messages; call it after every STUN round, changed or not."""
        return NOTHING

    def path_to(self, peer: NodePublicKey) -> Path | None:
        """The one path most likely to work now."""
        return self._paths.get(peer)

    def paths_to(self, peer: NodePublicKey) -> tuple[Path, ...]:
        """All paths that a packet should take: two while a direct path is doubted (paths.md §6.4), else one."""
        return ()

    def note_traffic(self, peer: NodePublicKey, *, now: float) -> PathEffects:
        """Data goes to the peer: keep discovery and heartbeats going. Cheap when nothing is due."""
        return NOTHING

    def handle_disco(
        self, datagram: bytes, source: Path, *, relay_peer: NodePublicKey | None, now: float
    ) -> PathEffects:
        """A disco datagram; `relay_peer` is the sender that the relay names, None for direct ones."""
        return NOTHING

    def heard(self, peer: NodePublicKey, source: Path, *, now: float) -> PathEffects:
        """Authenticated WireGuard traffic of the peer came from there."""
        return NOTHING

    def ping(self, peer: NodePublicKey, *, now: float) -> PathEffects:
        """Measure the present path; the answer is a PongReceived or PingTimedOut with purpose COMMAND."""
        return NOTHING

    def endpoint_failed(self, peer: NodePublicKey, endpoint: Endpoint, *, now: float) -> PathEffects:
        """The system refused to send there (EHOSTUNREACH and kin)."""
        return NOTHING

    def relay_gone(self, peer: NodePublicKey, region_id: int, *, now: float) -> PathEffects:
        """A relay says that the peer is not, or no longer, connected there."""
        return NOTHING

    def lost_direct_paths(self, *, now: float) -> PathEffects:
        """Our UDP sockets are gone: fall back to relays."""
        return NOTHING

    def rebind(self, *, now: float) -> PathEffects:
        """Our network changed: forget what was learned of paths and search anew."""
        return NOTHING

    def peer_snapshot(self, peer: NodePublicKey) -> PeerPathSnapshot | None:
        return None

    def next_deadline(self) -> Deadline | None:
        return None

    def handle_deadline(self, *, now: float) -> PathEffects:
        return NOTHING

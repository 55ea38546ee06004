"""The WireGuard endpoint: all peers of a node, by key. Skeleton of the public surface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tailbox.clock import Deadline
from tailbox.randomness import RandomSource
from tailbox.wire.keys import NodePrivateKey, NodePublicKey
from tailbox.wire.train import Train
from tailbox.wireguard.events import DropReason, TunnelEffects, TunnelEvent

__all__ = ["PeerSettings", "PeerStatus", "TunnelEffects", "TunnelEvent", "Tunnels"]


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """What is configured of a peer."""

    preshared_key: bytes | None = None
    persistent_keepalive_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What may be shown of a peer."""

    last_handshake_at: float | None = None  # monotonic seconds
    sent_bytes: int = 0
    received_bytes: int = 0
    has_session: bool = False


class Tunnels:
    """Seals and opens trains of packets for many peers."""

    drops: Counter[DropReason]

    def __init__(self, private_key: NodePrivateKey, *, random: RandomSource, unix_offset_s: float) -> None:
        raise NotImplementedError

    def set_peers(self, peers: Mapping[NodePublicKey, PeerSettings], *, now: float) -> TunnelEffects:
        raise NotImplementedError

    def set_peer(self, peer: NodePublicKey, settings: PeerSettings, *, now: float) -> TunnelEffects:
        raise NotImplementedError

    def remove_peer(self, peer: NodePublicKey, *, now: float) -> TunnelEffects:
        raise NotImplementedError

    def reset_peer(self, peer: NodePublicKey, *, now: float) -> TunnelEffects:
        raise NotImplementedError

    def seal(self, peer: NodePublicKey, train: Train, *, now: float) -> TunnelEffects:
        raise NotImplementedError

    def open(self, train: Train, *, source: bytes, now: float) -> TunnelEffects:
        raise NotImplementedError

    def next_deadline(self) -> Deadline | None:
        raise NotImplementedError

    def handle_deadline(self, *, now: float) -> TunnelEffects:
        raise NotImplementedError

    def peer_status(self, peer: NodePublicKey) -> PeerStatus:
        raise NotImplementedError

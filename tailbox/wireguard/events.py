"""What the WireGuard engine says: effects for its caller, events for observers, reasons for drops."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum

from tailbox.wire.keys import NodePublicKey
from tailbox.wire.train import Train


class DropReason(Enum):
    """Why a packet went no further. The value is the metric's label."""

    RUNT = "runt"  # shorter than any message; upstream sends such bytes on purpose (magicsock, NeverGSOEqualTail)
    UNKNOWN_TYPE = "unknown_type"
    WRONG_LENGTH = "wrong_length"
    BAD_MAC1 = "bad_mac1"
    COOKIE_WANTED = "cookie_wanted"  # under load: answered with a cookie reply
    RATE_LIMITED = "rate_limited"  # under load: this source, or all of them together, ask for too many handshakes
    BAD_HANDSHAKE = "bad_handshake"  # does not authenticate
    UNKNOWN_PEER = "unknown_peer"
    REPLAYED_HANDSHAKE = "replayed_handshake"  # timestamp not newer than the last one
    HANDSHAKE_FLOOD = "handshake_flood"  # same peer, too soon after the last one
    UNKNOWN_INDEX = "unknown_index"
    BAD_COOKIE = "bad_cookie"
    SESSION_EXPIRED = "session_expired"
    FORGED = "forged"
    REPLAYED = "replayed"
    STAGING_FULL = "staging_full"  # oldest packet that waited for a handshake, pushed out by a newer one
    HANDSHAKE_ABANDONED = "handshake_abandoned"  # waited for a handshake that never completed
    PEER_REMOVED = "peer_removed"
    TOO_BIG = "too_big"  # does not fit a datagram


@dataclass(frozen=True, slots=True)
class HandshakeStarted:
    """An initiation goes out; `attempt` counts from 1 since there was a reason to send."""

    peer: NodePublicKey
    attempt: int


@dataclass(frozen=True, slots=True)
class HandshakeCompleted:
    """Both ends have the keys of a new session, and each has proved it to the other."""

    peer: NodePublicKey
    initiated_by_us: bool


@dataclass(frozen=True, slots=True)
class HandshakeAbandoned:
    """No answer for REKEY_ATTEMPT_TIME_S. What had waited is dropped; the next packet starts over."""

    peer: NodePublicKey
    dropped_packets: int


@dataclass(frozen=True, slots=True)
class SessionExpired:
    """The last usable key pair of a peer reached REJECT_AFTER_TIME_S and is forgotten."""

    peer: NodePublicKey


@dataclass(frozen=True, slots=True)
class Dropped:
    """Packets of one call that went no further. `peer` is None where nobody authenticated."""

    reason: DropReason
    count: int
    peer: NodePublicKey | None = None


TunnelEvent = HandshakeStarted | HandshakeCompleted | HandshakeAbandoned | SessionExpired | Dropped


@dataclass(frozen=True, slots=True)
class TunnelEffects:
    """What one call wants done. Perform `heard` first, so that answers take the path just learned."""

    to_network: tuple[tuple[NodePublicKey, Train], ...] = ()  # WireGuard messages for a peer, whatever its path is
    to_source: tuple[bytes, ...] = ()  # replies to the sender of the train just opened: cookie replies
    to_stack: tuple[tuple[NodePublicKey, Train], ...] = ()  # opened IP packets; the source check is the caller's
    heard: tuple[NodePublicKey, ...] = ()  # peers that authenticated themselves in this call
    events: tuple[TunnelEvent, ...] = ()


class EffectsBuilder:
    """Collects the effects of one call."""

    __slots__ = ("_drops", "events", "heard", "to_network", "to_source", "to_stack")

    def __init__(self, drops: Counter[DropReason]) -> None:
        self._drops = drops
        self.to_network: list[tuple[NodePublicKey, Train]] = []
        self.to_source: list[bytes] = []
        self.to_stack: list[tuple[NodePublicKey, Train]] = []
        self.heard: list[NodePublicKey] = []
        self.events: list[TunnelEvent] = []

    def drop(self, reason: DropReason, count: int = 1, peer: NodePublicKey | None = None) -> None:
        """Count packets that go no further, and say so once."""
        if count:
            self._drops[reason] += count
            self.events.append(Dropped(reason, count, peer))

    def hear(self, peer: NodePublicKey) -> None:
        if peer not in self.heard:
            self.heard.append(peer)

    def finish(self) -> TunnelEffects:
        return TunnelEffects(
            tuple(self.to_network), tuple(self.to_source), tuple(self.to_stack), tuple(self.heard), tuple(self.events)
        )

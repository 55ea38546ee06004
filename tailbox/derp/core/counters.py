"""What the relay counts. Plain attributes, because the data path adds to them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum


class DropReason(Enum):
    """Why a packet went nowhere. The values are upstream's metric labels (derpserver.go)."""

    UNKNOWN_DESTINATION = "unknown_dest"
    GONE_DISCONNECTED = "gone_disconnected"
    QUEUE_HEAD = "queue_head"  # the oldest made place for a newer one
    QUEUE_TAIL = "queue_tail"  # there was no place to make
    DUPLICATE_CLIENT = "dup_client"


class PacketKind(Enum):
    """All that a relay can tell of a packet."""

    DISCO = "disco"
    OTHER = "other"


@dataclass(slots=True)
class RelayCounters:
    """Totals since the start; names that begin with `current` go down again."""

    accepts: int = 0
    websocket_accepts: int = 0
    current_connections: int = 0
    current_home_connections: int = 0
    current_not_ideal_connections: int = 0
    current_duplicate_keys: int = 0
    current_duplicate_connections: int = 0
    total_duplicate_connections: int = 0
    duplicate_fights: int = 0  # sets of connections with one key that were silenced for a while
    home_moves_in: int = 0
    home_moves_out: int = 0
    bytes_received: int = 0  # packets, without framing
    bytes_sent: int = 0
    packets_received_disco: int = 0
    packets_received_other: int = 0
    packets_sent: int = 0
    got_ping: int = 0
    sent_pong: int = 0
    peer_gone_disconnected_frames: int = 0
    peer_gone_not_here_frames: int = 0
    unknown_frames: int = 0
    client_violations: int = 0
    write_timeouts: int = 0
    read_timeouts: int = 0
    rate_limit_waits: int = 0
    flushes: int = 0  # writes that carried packets; with packets_sent: how well they were coalesced
    packets_dropped: Counter[tuple[DropReason, PacketKind]] = field(default_factory=Counter)
    bytes_dropped: Counter[tuple[DropReason, PacketKind]] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)  # connections not let in, by reason

    def drop(self, reason: DropReason, kind: PacketKind, *, packets: int, size_bytes: int) -> None:
        self.packets_dropped[reason, kind] += packets
        self.bytes_dropped[reason, kind] += size_bytes

"""When each of thousands of peers wants attention: a heap with one live entry a peer.

Moving a peer's time later leaves its entry where it is; the peer is looked at early, found idle, and entered anew.
"""

from __future__ import annotations

import heapq

from tailbox.paths.peer_path import PeerPath
from tailbox.wire.keys import NodePublicKey


class Schedule:
    """Peers by the time of their next deadline."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, NodePublicKey]] = []
        self._entered = 0  # breaks ties, since keys have no order

    def enter(self, peer: PeerPath) -> None:
        """Take note of `peer.next_due()`, if it is earlier than what is noted."""
        at = peer.next_due()
        if at is None or (peer.scheduled_at is not None and peer.scheduled_at <= at):
            return
        peer.scheduled_at = at
        self._entered += 1
        heapq.heappush(self._heap, (at, self._entered, peer.key))

    def next_at(self) -> float | None:
        """No later than the earliest deadline."""
        return self._heap[0][0] if self._heap else None

    def take_due(self, peers: dict[NodePublicKey, PeerPath], *, now: float) -> list[PeerPath]:
        """Remove and return peers whose entry is due. Entries of forgotten peers and superseded ones are skipped."""
        due: list[PeerPath] = []
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            peer = peers.get(key)
            if peer is not None and peer.scheduled_at == at:
                peer.scheduled_at = None
                due.append(peer)
        return due

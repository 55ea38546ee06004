"""When a peer wants to be called, and which peer first. Source: WireGuard paper §6; wireguard-go device/timers.go.

| Timer | Set by | Cleared by | When due |
|---|---|---|---|
| retransmit | an initiation sent | a handshake completed | send another, or give up |
| unanswered | data sent | anything received | start a handshake: the session may be gone |
| keepalive | data received | anything sent | send a keepalive |
| persistent | anything either way | | send a keepalive |
| expiry | a session made | | forget sessions past REJECT_AFTER_TIME_S |

Upstream wipes keys after three times REJECT_AFTER_TIME_S, when nothing has replaced them. Here a session is forgotten
as soon as it may neither send nor receive, and an unanswered handshake when it is given up, so no such timer is left.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from tailbox.clock import Deadline
from tailbox.wire.keys import NodePublicKey

REKEY_AFTER_MESSAGES = 1 << 60  # §6.1
REJECT_AFTER_MESSAGES = (1 << 64) - (1 << 13) - 1  # §6.1
REKEY_AFTER_TIME_S = 120.0  # §6.1
REJECT_AFTER_TIME_S = 180.0  # §6.1
REKEY_ATTEMPT_TIME_S = 90.0  # §6.1
REKEY_TIMEOUT_S = 5.0  # §6.1
KEEPALIVE_TIMEOUT_S = 10.0  # §6.1
RETRY_JITTER_S = 0.333  # wireguard-go RekeyTimeoutJitterMaxMs
REKEY_ON_RECEIVE_AFTER_S = REJECT_AFTER_TIME_S - KEEPALIVE_TIMEOUT_S - REKEY_TIMEOUT_S  # §6.2
UNANSWERED_AFTER_S = KEEPALIVE_TIMEOUT_S + REKEY_TIMEOUT_S  # §6.5

NEVER = float("inf")


class PeerTimers:
    """The deadlines of one peer; NEVER where none is set."""

    __slots__ = (
        "expiry_at",
        "jitter_s",
        "keepalive_at",
        "peer",
        "persistent_at",
        "persistent_keepalive_s",
        "queued_at",
        "retransmit_at",
        "unanswered_at",
        "wants_another_keepalive",
    )

    def __init__(self, peer: NodePublicKey) -> None:
        self.peer = peer
        self.jitter_s = 0.0  # drawn anew for every initiation, and used until the next
        self.persistent_keepalive_s = 0.0
        self.queued_at = NEVER  # belongs to the Schedule
        self.clear()

    def clear(self) -> None:
        self.retransmit_at = self.unanswered_at = self.keepalive_at = self.persistent_at = self.expiry_at = NEVER
        self.wants_another_keepalive = False

    def initiation_sent(self, *, now: float) -> None:
        self.retransmit_at = now + REKEY_TIMEOUT_S + self.jitter_s

    def data_sent(self, *, now: float) -> None:
        if self.unanswered_at == NEVER:
            self.unanswered_at = now + UNANSWERED_AFTER_S + self.jitter_s

    def data_received(self, *, now: float) -> None:
        if self.keepalive_at == NEVER:
            self.keepalive_at = now + KEEPALIVE_TIMEOUT_S
        else:
            self.wants_another_keepalive = True

    def authenticated_sent(self, *, now: float) -> None:
        """Anything that the peer can authenticate, handshakes included."""
        self.keepalive_at = NEVER
        self.traversed(now=now)

    def authenticated_received(self, *, now: float) -> None:
        self.unanswered_at = NEVER
        self.traversed(now=now)

    def traversed(self, *, now: float) -> None:
        if self.persistent_keepalive_s:
            self.persistent_at = now + self.persistent_keepalive_s

    def earliest_at(self) -> float:
        return min(self.retransmit_at, self.unanswered_at, self.keepalive_at, self.persistent_at, self.expiry_at)

    def earliest(self) -> Deadline | None:
        """The first deadline with its reason."""
        at, reason = min(
            (self.retransmit_at, "handshake retry"),
            (self.unanswered_at, "data unanswered"),
            (self.keepalive_at, "keepalive"),
            (self.persistent_at, "persistent keepalive"),
            (self.expiry_at, "session expiry"),
        )
        return None if at == NEVER else Deadline(at, reason)


class Schedule:
    """Which of many peers is due first, without looking at all of them.

    A heap of hints: `queued_at` is never later than the peer's real deadline. Deadlines that move away, as most do
    with every packet, cost nothing until the hint comes up; deadlines that come nearer queue a second hint.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, PeerTimers]] = []
        self._sequence = 0
        self._peers = 0

    def __len__(self) -> int:
        return len(self._heap)

    def update(self, timers: PeerTimers) -> None:
        """To be called after anything that may bring a deadline nearer."""
        at = timers.earliest_at()
        if at < timers.queued_at:
            self._push(timers, at)

    def forget(self, timers: PeerTimers) -> None:
        self._peers -= timers.queued_at != NEVER
        timers.queued_at = NEVER

    def next(self) -> Deadline | None:
        """The earliest deadline of all."""
        while self._heap:
            at, _, timers = self._heap[0]
            if at != timers.queued_at:
                heappop(self._heap)
                continue
            deadline = timers.earliest()
            if deadline is not None and deadline.at <= at:
                return deadline
            self._requeue(timers)
        return None

    def take_due(self, *, now: float, limit: int) -> list[PeerTimers]:
        """Up to `limit` peers with a deadline that has passed. Each must be given to `update` afterwards."""
        due: list[PeerTimers] = []
        while len(due) < limit:
            deadline = self.next()
            if deadline is None or deadline.at > now:
                break
            timers = heappop(self._heap)[2]
            self.forget(timers)
            due.append(timers)
        return due

    def _requeue(self, timers: PeerTimers) -> None:
        heappop(self._heap)
        self.forget(timers)
        self.update(timers)

    def _push(self, timers: PeerTimers, at: float) -> None:
        self._peers += timers.queued_at == NEVER
        timers.queued_at = at
        self._sequence += 1
        heappush(self._heap, (at, self._sequence, timers))
        if len(self._heap) > 2 * self._peers + 64:
            self._heap = [entry for entry in self._heap if entry[0] == entry[2].queued_at]
            heapify(self._heap)

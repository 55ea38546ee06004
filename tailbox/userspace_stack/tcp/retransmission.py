"""When to send again, and what: the timeout of RFC 6298, and loss recovery by selective acknowledgements.

Recovery follows RFC 6675 with one scoreboard for three situations, told apart by `lost_edge`: everything below it that
was not acknowledged selectively counts as lost.

- selective acknowledgements: more than two segments' worth of bytes, or three islands, lie above the edge;
- none to be had (NewReno, RFC 6582): the first unacknowledged segment only;
- after a timeout: all that was under way.

Positions are sequence numbers unwrapped to integers that only grow.
"""

from __future__ import annotations

from bisect import bisect_left
from enum import Enum

INITIAL_RTO_S = 1.0  # RFC 6298 §2.1
MIN_RTO_S = 0.2  # Linux and gVisor; RFC 6298 §2.4 would have 1 s
MAX_RTO_S = 60.0  # RFC 6298 §2.5
CLOCK_GRANULARITY_S = 0.001
DUPLICATE_THRESHOLD = 3  # RFC 5681 §3.2
MAX_SACKED_RANGES = 100  # gVisor's scoreboard; more are forgotten, which costs a retransmission at worst
MIN_PROBE_TIMEOUT_S = 0.01  # RFC 8985 §7.2
DELAYED_ACK_ALLOWANCE_S = 0.2  # RFC 8985 §7.2 WCDelAckT: a lone segment's acknowledgement may be delayed that long


class RetransmissionTimeout:
    """SRTT, RTTVAR and RTO. Source: RFC 6298 §2."""

    __slots__ = ("rto_s", "smoothed_rtt_s", "variation_s")

    def __init__(self) -> None:
        self.rto_s = INITIAL_RTO_S
        self.smoothed_rtt_s = 0.0  # 0: no measurement yet
        self.variation_s = 0.0

    def measured(self, rtt_s: float) -> None:
        """Take in a round trip of a segment that was sent once only (Karn's rule, RFC 6298 §3)."""
        if self.smoothed_rtt_s:
            self.variation_s = 0.75 * self.variation_s + 0.25 * abs(self.smoothed_rtt_s - rtt_s)
            self.smoothed_rtt_s = 0.875 * self.smoothed_rtt_s + 0.125 * rtt_s
        else:
            self.smoothed_rtt_s, self.variation_s = max(rtt_s, 1e-6), rtt_s / 2
        self.settle()

    def settle(self) -> None:
        """Compute the RTO from the measurements, forgetting backoff."""
        if self.smoothed_rtt_s:
            rto = self.smoothed_rtt_s + max(CLOCK_GRANULARITY_S, 4 * self.variation_s)
            self.rto_s = min(max(rto, MIN_RTO_S), MAX_RTO_S)

    def back_off(self) -> None:
        """RFC 6298 §5.5."""
        self.rto_s = min(2 * self.rto_s, MAX_RTO_S)

    def probe_timeout_s(self, *, lone_segment: bool) -> float:
        """How long to wait for an acknowledgement of the tail before probing it. Source: RFC 8985 §7.2."""
        if not self.smoothed_rtt_s:
            return self.rto_s
        wait = max(2 * self.smoothed_rtt_s, MIN_PROBE_TIMEOUT_S)
        return min(wait + DELAYED_ACK_ALLOWANCE_S * lone_segment, self.rto_s)


class Phase(Enum):
    OPEN = "open"
    RECOVERY = "recovery"  # fast: until everything sent before its start is acknowledged
    TIMED_OUT = "timed out"  # slow start over what was under way


class Recovery:
    """The scoreboard of one connection's sender."""

    __slots__ = (
        "_segment",
        "duplicates",
        "high_retransmitted",
        "is_selective",
        "lost_edge",
        "phase",
        "recovery_point",
        "sacked",
    )

    def __init__(self, segment: int) -> None:
        self._segment = segment
        self.is_selective = False  # both ends permit SACK
        self.phase = Phase.OPEN
        self.sacked: list[tuple[int, int]] = []  # sorted, disjoint, above the first unacknowledged position
        self.duplicates = 0  # acknowledgements in a row that acknowledged nothing new
        self.lost_edge = 0
        self.high_retransmitted = 0  # everything lost below this was sent again
        self.recovery_point = 0

    def resize(self, segment: int) -> None:
        self._segment = segment

    def add_sacked(self, start: int, end: int) -> bool:
        """Note a range that the peer holds; True if that was news."""
        ranges = self.sacked
        low = bisect_left(ranges, start, key=lambda known: known[1])
        high = low
        before = 0
        while high < len(ranges) and ranges[high][0] <= end:
            known_start, known_end = ranges[high]
            before += known_end - known_start
            start, end = min(start, known_start), max(end, known_end)
            high += 1
        if end - start == before or (low == high and len(ranges) >= MAX_SACKED_RANGES):
            return False
        ranges[low:high] = [(start, end)]
        return True

    def forget_below(self, position: int) -> None:
        """The first unacknowledged position moved up."""
        while self.sacked and self.sacked[0][1] <= position:
            del self.sacked[0]
        if self.sacked and self.sacked[0][0] < position:
            self.sacked[0] = (position, self.sacked[0][1])

    def sees_loss(self, first_unacknowledged: int) -> bool:
        """Whether the first unacknowledged segment counts as lost (RFC 6675 IsLost, or three duplicates)."""
        return self.duplicates >= DUPLICATE_THRESHOLD or self._selective_edge() > first_unacknowledged

    def _selective_edge(self) -> int:
        above = 0
        for islands, (start, end) in enumerate(reversed(self.sacked), start=1):
            above += end - start
            if above > (DUPLICATE_THRESHOLD - 1) * self._segment or islands >= DUPLICATE_THRESHOLD:
                return start
        return 0

    def start_fast(self, first: int, next_new: int) -> None:
        """Enter fast recovery."""
        self.phase = Phase.RECOVERY
        self.recovery_point = next_new
        self.high_retransmitted = first
        self.lost_edge = first
        self.update_edge(first)

    def start_after_timeout(self, first: int, next_new: int, *, again: bool) -> None:
        """Everything under way counts as lost. A second timeout in a row distrusts the scoreboard (RFC 2018 §8)."""
        self.phase = Phase.TIMED_OUT
        self.recovery_point = self.lost_edge = next_new
        self.high_retransmitted = first
        self.duplicates = 0
        if again:
            self.sacked.clear()

    def update_edge(self, first: int) -> None:
        """See what counts as lost now, in fast recovery."""
        edge = self._selective_edge()
        if edge <= first and first >= self.lost_edge:
            edge = min(first + self._segment, self.recovery_point)
        self.lost_edge = max(self.lost_edge, edge)

    def progressed(self, first: int) -> None:
        """New data was acknowledged up to `first`."""
        self.forget_below(first)
        self.duplicates = 0
        self.high_retransmitted = max(self.high_retransmitted, first)
        if self.phase is Phase.OPEN:
            return
        if first >= self.recovery_point:
            self.phase = Phase.OPEN
        elif self.phase is Phase.RECOVERY:
            self.update_edge(first)

    def next_hole(self, first: int) -> tuple[int, int] | None:
        """The first stretch that was lost and not sent again yet."""
        if self.phase is Phase.OPEN:
            return None
        start = max(first, self.high_retransmitted)
        for known_start, known_end in self.sacked:
            if known_end <= start:
                continue
            if known_start > start:
                return (start, min(known_start, self.lost_edge)) if start < self.lost_edge else None
            start = known_end
        return (start, self.lost_edge) if start < self.lost_edge else None

    def pipe(self, first: int, next_new: int) -> int:
        """Bytes believed to be on the path (RFC 6675 SetPipe, without counting a retransmission twice)."""
        total = next_new - first
        if self.phase is Phase.OPEN and not self.sacked and not self.duplicates:
            return total
        if self.phase is not Phase.OPEN:
            gap_start, gap_end = max(self.high_retransmitted, first), self.lost_edge
            total -= max(gap_end - gap_start, 0)
        else:
            gap_start = gap_end = 0
        for start, end in self.sacked:
            total -= end - start
            total += max(min(end, gap_end) - max(start, gap_start), 0)  # not to be subtracted twice
        if not self.is_selective:
            total -= self.duplicates * self._segment  # each says that one segment left the path
        return max(total, 0)

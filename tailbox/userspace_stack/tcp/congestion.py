"""How much may be under way: Reno (RFC 5681, RFC 6582) and CUBIC (RFC 9438), counted in bytes.

Acknowledgements cover whole trains here, so growth counts the bytes acknowledged (RFC 3465) and not acknowledgements;
its limit L of two segments would starve a path that acknowledges trains of 49, so L is one train. A peer gains nothing
by dividing acknowledgements, and acknowledging what was never sent is refused before it gets here.
"""

from __future__ import annotations

from typing import Protocol

INITIAL_WINDOW_SEGMENTS = 10  # RFC 6928
MIN_WINDOW_SEGMENTS = 2  # RFC 5681 equation 4
MAX_GROWTH_SEGMENTS = 49  # ours: L of RFC 3465, a full train at MTU 1280
CUBIC_BETA = 0.7  # RFC 9438 §4.6
CUBIC_C = 0.4  # RFC 9438 §5.1
UNLIMITED = 1 << 40


class Congestion(Protocol):
    """What a connection asks of its controller. Attributes are bytes."""

    window: int
    slow_start_threshold: int
    segment: int

    def acknowledged(self, count: int, *, now: float, rtt_s: float) -> None:
        """New data was acknowledged while the window was in use, outside of fast recovery."""
        ...

    def lost(self, in_flight: int, *, now: float) -> None:
        """Loss was noticed by duplicate acknowledgements; once per window of data."""
        ...

    def timed_out(self, in_flight: int, *, now: float) -> None:
        """The retransmission timer expired."""
        ...

    def restart(self) -> None:
        """The connection was idle for longer than a timeout (RFC 5681 §4.1)."""
        ...


class Reno:
    """Slow start, then one segment a round trip; half the window at a loss."""

    __slots__ = ("_counted", "segment", "slow_start_threshold", "window")

    def __init__(self, segment: int) -> None:
        self.segment = segment
        self.window = INITIAL_WINDOW_SEGMENTS * segment
        self.slow_start_threshold = UNLIMITED
        self._counted = 0  # bytes acknowledged towards the next segment of growth

    def acknowledged(self, count: int, *, now: float, rtt_s: float) -> None:
        if self.window < self.slow_start_threshold:
            self.window += min(count, MAX_GROWTH_SEGMENTS * self.segment)
            return
        self._counted += count
        if self._counted >= self.window:
            self._counted -= self.window
            self.window += self.segment

    def lost(self, in_flight: int, *, now: float) -> None:
        self.slow_start_threshold = max(in_flight // 2, MIN_WINDOW_SEGMENTS * self.segment)
        self.window = self.slow_start_threshold
        self._counted = 0

    def timed_out(self, in_flight: int, *, now: float) -> None:
        self.lost(in_flight, now=now)
        self.window = self.segment

    def restart(self) -> None:
        self.window = min(self.window, INITIAL_WINDOW_SEGMENTS * self.segment)


class Cubic:
    """A cubic function of the time since the last loss, never slower than Reno would be."""

    __slots__ = ("_epoch", "_k", "_reno", "_w_max", "segment", "slow_start_threshold", "window")

    def __init__(self, segment: int) -> None:
        self.segment = segment
        self.window = INITIAL_WINDOW_SEGMENTS * segment
        self.slow_start_threshold = UNLIMITED
        self._w_max = 0.0  # segments, at the last loss
        self._epoch = -1.0  # when this growth began; negative: not yet
        self._k = 0.0  # seconds until w_max is reached again
        self._reno = 0.0  # W_est, segments

    def acknowledged(self, count: int, *, now: float, rtt_s: float) -> None:
        if self.window < self.slow_start_threshold:
            self.window += min(count, MAX_GROWTH_SEGMENTS * self.segment)
            return
        current = self.window / self.segment
        if self._epoch < 0:
            self._epoch = now
            self._reno = current
            self._w_max = max(self._w_max, current)
            self._k = ((self._w_max - current) / CUBIC_C) ** (1 / 3)
        acknowledged = count / self.segment
        # α_cubic of RFC 9438 §4.3, until W_est is back at w_max
        alpha = 3 * (1 - CUBIC_BETA) / (1 + CUBIC_BETA) if self._reno < self._w_max else 1.0
        self._reno += alpha * acknowledged / current
        target = CUBIC_C * (now - self._epoch + rtt_s - self._k) ** 3 + self._w_max
        target = min(max(target, current), 1.5 * current)  # RFC 9438 §4.2
        grown = max(current + (target - current) * acknowledged / current, self._reno)
        # An acknowledgement never shrinks the window, and grows it by no more than it acknowledged.
        self.window = int(min(max(grown, current), current + acknowledged) * self.segment)

    def lost(self, in_flight: int, *, now: float) -> None:
        current = self.window / self.segment
        # Fast convergence, RFC 9438 §4.7
        self._w_max = current * (1 + CUBIC_BETA) / 2 if current < self._w_max else current
        self.slow_start_threshold = max(int(in_flight * CUBIC_BETA), MIN_WINDOW_SEGMENTS * self.segment)
        self.window = self.slow_start_threshold
        self._epoch = -1.0

    def timed_out(self, in_flight: int, *, now: float) -> None:
        self.lost(in_flight, now=now)
        self.window = self.segment

    def restart(self) -> None:
        self.window = min(self.window, INITIAL_WINDOW_SEGMENTS * self.segment)
        self._epoch = -1.0

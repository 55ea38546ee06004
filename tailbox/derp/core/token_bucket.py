"""A token bucket: so much a second, with a reserve."""

from __future__ import annotations


class TokenBucket:
    """Starts full. A rate of zero or below never runs dry."""

    __slots__ = ("_at", "_level", "burst", "rate_per_s")

    def __init__(self, rate_per_s: float, burst: float, *, now: float) -> None:
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._level = burst
        self._at = now

    def take(self, *, now: float, amount: float = 1.0) -> bool:
        """Whether there was enough; if not, nothing is taken."""
        if self.rate_per_s <= 0:
            return True
        self._fill(now)
        if self._level < amount:
            return False
        self._level -= amount
        return True

    def charge(self, amount: float, *, now: float) -> float:
        """Take it in any case; returns the seconds to wait until the debt is paid, 0.0 without debt."""
        if self.rate_per_s <= 0:
            return 0.0
        self._fill(now)
        self._level -= amount
        return max(0.0, -self._level / self.rate_per_s)

    def is_full(self, *, now: float) -> bool:
        """Whether it has nothing to remember: a table of buckets may forget it."""
        self._fill(now)
        return self._level >= self.burst

    def _fill(self, now: float) -> None:
        self._level = min(self.burst, self._level + max(0.0, now - self._at) * self.rate_per_s)
        self._at = now

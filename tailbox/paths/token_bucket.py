"""How often something may happen: a burst at once, then a steady rate."""

from __future__ import annotations


class TokenBucket:
    """Full at first; refilled by time."""

    __slots__ = ("_at", "_burst", "_rate_per_s", "_tokens")

    def __init__(self, *, rate_per_s: float, burst: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = float("-inf")

    def take(self, *, now: float) -> bool:
        """Whether it may happen now; if so, it is taken to have happened."""
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate_per_s)
            self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

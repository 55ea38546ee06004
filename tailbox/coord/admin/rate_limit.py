"""How often one address may try something: a token bucket each, in a bounded table.

Pure: time is an argument. The table forgets the address that was idle longest, so that a flood from many addresses
costs bounded memory; a bucket for everybody together bounds what such a flood can try.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from tailbox.coord.admin.errors import TooManyRequests

MAX_ADDRESSES = 4096  # ours: buckets kept; the longest idle goes first


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float

    def take(self, *, capacity: float, per_second: float, now: float) -> float:
        """Take one token: 0.0 if there was one, else the seconds until there is."""
        self.tokens = min(capacity, self.tokens + (now - self.at) * per_second)
        self.at = now
        if self.tokens < 1.0:
            return (1.0 - self.tokens) / per_second
        self.tokens -= 1.0
        return 0.0


class RateLimit:
    """`burst` tries at once, then `per_minute`; `crowd` times as many for all addresses together."""

    def __init__(self, *, burst: int, per_minute: float, crowd: int = 20) -> None:
        self._burst = float(burst)
        self._per_second = per_minute / 60.0
        self._crowd = crowd
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._everybody = _Bucket(self._burst * crowd, 0.0)

    def check(self, address: str, *, now: float) -> None:
        """Count one try. Raises TooManyRequests, which says when to come back."""
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = _Bucket(self._burst, now)
            if len(self._buckets) > MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(address)
        wait_s = bucket.take(capacity=self._burst, per_second=self._per_second, now=now)
        if wait_s == 0.0:
            wait_s = self._everybody.take(
                capacity=self._burst * self._crowd, per_second=self._per_second * self._crowd, now=now
            )
        if wait_s > 0.0:
            raise TooManyRequests(wait_s)

"""When handshakes become too many, and who may still have one. Source: wireguard-go device/receive.go, ratelimiter/.

Arrivals fill a bucket that drains at the rate we can afford. Once it is full the endpoint is under load, and stays so
for a second after it was last full: then only senders that show a cookie are served, each at a modest rate.
"""

from __future__ import annotations

AFFORDABLE_HANDSHAKES_PER_S = 500.0  # ours: about 200 µs each, a tenth of one core
LOAD_THRESHOLD = 128.0  # wireguard-go: an eighth of its queue of 1024
UNDER_LOAD_AFTER_S = 1.0  # wireguard-go UnderLoadAfterTime

SOURCE_RATE_PER_S = 20.0  # ratelimiter.go packetsPerSecond
SOURCE_BURST = 5.0  # ratelimiter.go packetsBurstable
SOURCE_FORGET_S = 1.0  # ratelimiter.go garbageCollectTime
MAX_SOURCES = 65_536  # ours
PORT_BYTES = 2


class LoadMeter:
    """Tells whether handshake messages arrive faster than we can afford."""

    __slots__ = ("_level", "_loaded_until", "_measured_at")

    def __init__(self) -> None:
        self._level = 0.0
        self._measured_at = float("-inf")
        self._loaded_until = float("-inf")

    def note_arrival(self, *, now: float) -> bool:
        """Count one message. True while under load."""
        drained = max(0.0, now - self._measured_at) * AFFORDABLE_HANDSHAKES_PER_S
        self._level = min(max(0.0, self._level - drained) + 1.0, LOAD_THRESHOLD)
        self._measured_at = now
        if self._level >= LOAD_THRESHOLD:
            self._loaded_until = now + UNDER_LOAD_AFTER_S
        return now < self._loaded_until


class SourceLimiter:
    """A token bucket for each source that showed a cookie, and one for all of them together."""

    __slots__ = ("_buckets", "_shared", "_swept_at")

    def __init__(self) -> None:
        self._buckets: dict[bytes, tuple[float, float]] = {}  # host → tokens, when counted
        self._shared = (LOAD_THRESHOLD, float("-inf"))
        self._swept_at = float("-inf")

    def __len__(self) -> int:
        return len(self._buckets)

    def allows(self, source: bytes, *, now: float) -> bool:
        """Spend a token of the source's, then one of everybody's. Ports of one host share a bucket."""
        self._sweep(now)
        host = source[:-PORT_BYTES]
        if host not in self._buckets and len(self._buckets) >= MAX_SOURCES:
            return False
        tokens = _refilled(self._buckets.get(host), SOURCE_BURST, SOURCE_RATE_PER_S, now)
        shared = _refilled(self._shared, LOAD_THRESHOLD, AFFORDABLE_HANDSHAKES_PER_S, now)
        allowed = tokens >= 1.0 and shared >= 1.0
        self._buckets[host] = (tokens - allowed, now)
        self._shared = (shared - allowed, now)
        return allowed

    def _sweep(self, now: float) -> None:
        """Forget sources whose bucket has been full for a while; at most once a second."""
        if now - self._swept_at < SOURCE_FORGET_S:
            return
        self._swept_at = now
        self._buckets = {host: bucket for host, bucket in self._buckets.items() if now - bucket[1] < SOURCE_FORGET_S}


def _refilled(bucket: tuple[float, float] | None, burst: float, rate: float, now: float) -> float:
    if bucket is None:
        return burst
    tokens, counted_at = bucket
    return min(burst, tokens + max(0.0, now - counted_at) * rate)

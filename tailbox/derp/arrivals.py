"""How many may come: connections a second, by address and in all, logins under way, and clients.

Source: tailscale cmd/derper/derper.go (accept limit); spec: derp.md §12.3, reliability-and-security.md §2.3.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from tailbox.clock import Clock
from tailbox.derp.config import DerpConfig
from tailbox.derp.core.counters import RelayCounters
from tailbox.derp.core.token_bucket import TokenBucket

BURST_SECONDS = 10.0  # ours: a site behind one address comes back all at once after an outage
MAX_ADDRESSES = 10_000  # ours: buckets kept; the one not seen for longest goes
IPV6_SITE_BITS = 64  # a host has all of it


class ArrivalLimits:
    """Decides before anything is read or computed for a newcomer."""

    def __init__(self, config: DerpConfig, counters: RelayCounters, *, clock: Clock) -> None:
        self._config = config
        self._counters = counters
        self._clock = clock
        rate = config.accepts_per_s
        self._all = TokenBucket(rate, rate * BURST_SECONDS, now=clock.monotonic())
        self._by_address: OrderedDict[str, TokenBucket] = OrderedDict()
        self._logins = 0

    def refusal(self, host: str | None) -> str | None:
        """Why a newcomer must be turned away, or None. Counts."""
        reason = self._reason(host)
        if reason is not None:
            self._counters.refused[reason] += 1
        return reason

    @contextmanager
    def login_under_way(self) -> Iterator[None]:
        """Occupies one of the places for those who have not proven anything yet."""
        self._logins += 1
        try:
            yield
        finally:
            self._logins -= 1

    def _reason(self, host: str | None) -> str | None:
        if self._counters.current_connections >= self._config.max_connections:
            return "too_many_connections"
        if self._logins >= self._config.max_logins_under_way:
            return "too_many_logins"
        now = self._clock.monotonic()
        if host is not None and not self._bucket_of(host, now).take(now=now):
            return "address_rate"
        return None if self._all.take(now=now) else "rate"

    def _bucket_of(self, host: str, now: float) -> TokenBucket:
        site = _site(host)
        bucket = self._by_address.get(site)
        if bucket is None:
            rate = self._config.accepts_per_address_per_s
            bucket = self._by_address[site] = TokenBucket(rate, rate * BURST_SECONDS, now=now)
            if len(self._by_address) > MAX_ADDRESSES:
                self._by_address.popitem(last=False)
        self._by_address.move_to_end(site)
        return bucket


def _site(host: str) -> str:
    """An IPv6 host is counted by its /64."""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if ip.version == 6 and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, IPV6_SITE_BITS), strict=False))
    return str(ip)

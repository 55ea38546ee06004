"""Addresses at which a peer may be found: where each comes from, how old it is, when it was last pinged.

| origin | gone when |
|---|---|
| network map | no longer in it |
| heard: a ping, or WireGuard traffic, came from there | 45 s after the last |
| call-me-maybe | absent from the next one |

Source: paths.md §6.3; tailscale endpoint.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Flag, auto
from ipaddress import IPv6Address

from tailbox.paths.ranking import MeasuredPath
from tailbox.wire.addresses import Endpoint

HEARD_FOR_S = 45.0  # endpoint.go sessionActiveTimeout
PING_SPACING_S = 5.0  # endpoint.go discoPingInterval: per candidate
# Ours, by origin: together the hundred above which upstream prunes. A peer must not make us ping the world.
MAX_FROM_NETWORK_MAP = 48
MAX_FROM_CALL_ME_MAYBE = 36
MAX_HEARD = 16


class Origin(Flag):
    """Who named the address; several may."""

    NETWORK_MAP = auto()
    HEARD = auto()
    CALL_ME_MAYBE = auto()


@dataclass(slots=True)
class Candidate:
    """One address of a peer."""

    endpoint: Endpoint
    origins: Origin
    heard_at: float = float("-inf")
    pinged_at: float = float("-inf")
    answered: MeasuredPath | None = None

    def is_due(self, *, now: float) -> bool:
        """Whether it may be pinged again."""
        return now - self.pinged_at >= PING_SPACING_S


class Candidates:
    """All addresses of one peer."""

    def __init__(self) -> None:
        self._by_endpoint: dict[Endpoint, Candidate] = {}

    def __contains__(self, endpoint: object) -> bool:
        return endpoint in self._by_endpoint

    def __len__(self) -> int:
        return len(self._by_endpoint)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(self._by_endpoint)

    def get(self, endpoint: Endpoint) -> Candidate | None:
        return self._by_endpoint.get(endpoint)

    def set_from_network_map(self, endpoints: Iterable[Endpoint]) -> bool:
        """Replace what the network map named. Returns whether there is a new address."""
        return self._replace(Origin.NETWORK_MAP, endpoints, MAX_FROM_NETWORK_MAP)

    def set_from_call_me_maybe(self, endpoints: Iterable[Endpoint]) -> bool:
        """Replace what the last call-me-maybe named. Returns whether there is a new address."""
        return self._replace(Origin.CALL_ME_MAYBE, endpoints, MAX_FROM_CALL_ME_MAYBE)

    def hear(self, endpoint: Endpoint, *, now: float) -> Candidate:
        """The peer has shown itself there."""
        candidate = self._by_endpoint.get(endpoint)
        if candidate is None:
            candidate = self._by_endpoint[endpoint] = Candidate(endpoint, Origin.HEARD)
            self._bound_heard(keep=candidate)
        candidate.origins |= Origin.HEARD
        candidate.heard_at = now
        return candidate

    def expire(self, *, now: float, keep: Endpoint | None = None) -> None:
        """Drop addresses that nobody names any more, `keep` excepted."""
        for candidate in list(self._by_endpoint.values()):
            if Origin.HEARD in candidate.origins and now - candidate.heard_at >= HEARD_FOR_S:
                candidate.origins &= ~Origin.HEARD
            if not candidate.origins and candidate.endpoint != keep:
                del self._by_endpoint[candidate.endpoint]

    def all(self) -> list[Candidate]:
        return list(self._by_endpoint.values())

    def due(self, *, now: float) -> list[Candidate]:
        """What was not pinged lately."""
        return [candidate for candidate in self._by_endpoint.values() if candidate.is_due(now=now)]

    def forget_probes(self) -> None:
        """Forget when each was pinged and what it answered: all are due."""
        for candidate in self._by_endpoint.values():
            candidate.pinged_at = float("-inf")
            candidate.answered = None

    def _replace(self, origin: Origin, endpoints: Iterable[Endpoint], limit: int) -> bool:
        named = list(dict.fromkeys(endpoint for endpoint in endpoints if is_usable(endpoint)))[:limit]
        for candidate in self._by_endpoint.values():
            candidate.origins &= ~origin
        is_news = False
        for endpoint in named:
            candidate_or_none = self._by_endpoint.get(endpoint)
            if candidate_or_none is None:
                self._by_endpoint[endpoint] = Candidate(endpoint, origin)
                is_news = True
            else:
                candidate_or_none.origins |= origin
        return is_news

    def _bound_heard(self, *, keep: Candidate) -> None:
        heard = [c for c in self._by_endpoint.values() if c.origins == Origin.HEARD and c is not keep]
        if len(heard) >= MAX_HEARD:
            oldest = min(heard, key=lambda candidate: candidate.heard_at)
            del self._by_endpoint[oldest.endpoint]


def is_usable(endpoint: Endpoint) -> bool:
    """Whether a unicast datagram can go there at all. IPv6 link-local addresses need a zone, which nobody sends."""
    ip = endpoint.ip
    if endpoint.port == 0 or ip.is_unspecified or ip.is_multicast:
        return False
    if isinstance(ip, IPv6Address):
        return not ip.is_link_local and ip.ipv4_mapped is None
    return ip.packed != b"\xff\xff\xff\xff"

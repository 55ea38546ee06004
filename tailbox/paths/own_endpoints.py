"""Our own addresses as peers are told them: in order, with their origin, and remembered for a while.

Source: paths.md §6.2; tailscale magicsock.go determineEndpoints, endpoint_tracker.go, tailcfg EndpointType.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from tailbox.paths.netcheck import NetReport
from tailbox.wire.addresses import Endpoint

REMEMBERED_FOR_S = 310.0  # endpoint_tracker.go: 5 min 10 s, so that short flaps change nothing
MAX_REMEMBERED_PER_IP = 6  # endpoint_tracker.go


class EndpointKind(IntEnum):
    """tailcfg EndpointType: how an address was found."""

    LOCAL = 1
    STUN = 2
    PORT_MAPPED = 3
    STUN4_LOCAL_PORT = 4  # hard NAT: the mapped address with our port, which may be forwarded by hand
    EXPLICIT = 5


@dataclass(frozen=True, slots=True)
class OwnEndpoint:
    """An address of ours."""

    endpoint: Endpoint
    kind: EndpointKind


class OwnEndpoints:
    """Puts together what reports and interfaces say."""

    def __init__(self) -> None:
        self._seen: dict[Endpoint, tuple[float, EndpointKind]] = {}
        self.current: tuple[OwnEndpoint, ...] = ()

    def update(
        self, local: Sequence[Endpoint], report: NetReport | None, *, fixed_port: int = 0, now: float
    ) -> tuple[OwnEndpoint, ...]:
        """The new list. `fixed_port`: the IPv4 port if it was configured, 0 if any was taken."""
        found: dict[Endpoint, EndpointKind] = {}
        if report is not None:
            for endpoint in report.global_endpoints:
                found.setdefault(endpoint, EndpointKind.STUN)
            if fixed_port and report.mapping_varies_by_destination and report.global_ipv4 is not None:
                found.setdefault(Endpoint(report.global_ipv4.ip, fixed_port), EndpointKind.STUN4_LOCAL_PORT)
        for endpoint, kind in self._remembered(now):
            found.setdefault(endpoint, kind)
        for endpoint in local:
            found.setdefault(endpoint, EndpointKind.LOCAL)
        for endpoint, kind in found.items():
            if kind is EndpointKind.STUN and report is not None and endpoint in report.global_endpoints:
                self._seen[endpoint] = (now, kind)
        self.current = tuple(OwnEndpoint(endpoint, kind) for endpoint, kind in found.items())
        return self.current

    def forget(self) -> None:
        """The network changed: what was seen before is wrong."""
        self._seen.clear()

    def _remembered(self, now: float) -> list[tuple[Endpoint, EndpointKind]]:
        """Seen lately, newest first, a few per address."""
        newest_first = sorted(self._seen.items(), key=lambda item: -item[1][0])
        per_ip: Counter[object] = Counter()
        kept: dict[Endpoint, tuple[float, EndpointKind]] = {}
        for endpoint, (seen_at, kind) in newest_first:
            per_ip[endpoint.ip] += 1
            if now - seen_at < REMEMBERED_FOR_S and per_ip[endpoint.ip] <= MAX_REMEMBERED_PER_IP:
                kept[endpoint] = (seen_at, kind)
        self._seen = kept
        return [(endpoint, kind) for endpoint, (_, kind) in kept.items()]

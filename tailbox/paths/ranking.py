"""Which of two direct paths is better: one pure function. Source: paths.md §6.8, tailscale endpoint.go betterAddr."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network

from tailbox.wire.addresses import Endpoint, IPAddress

LOOPBACK_POINTS = 50  # endpoint.go betterAddr
LINK_LOCAL_POINTS = 30
PRIVATE_POINTS = 20
IPV6_POINTS = 10
HYSTERESIS_POINTS = 1  # a lead of one percent is no reason to move
DEFAULT_WIRE_MTU = 1360  # paths.md §4.5: what a ping without size is credited with
_PRIVATE_IPV4 = (IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16"))  # RFC 1918
_PRIVATE_IPV6 = IPv6Network("fc00::/7")  # RFC 4193


@dataclass(frozen=True, slots=True)
class MeasuredPath:
    """A direct path that has answered."""

    endpoint: Endpoint
    latency_s: float
    wire_mtu: int = DEFAULT_WIRE_MTU


def is_better(a: MeasuredPath, b: MeasuredPath | None) -> bool:
    """Whether to leave `b` for `a`. Latency counts in percent, kinds of address by fixed points."""
    if b is None:
        return True
    if a.endpoint == b.endpoint:
        return a.wire_mtu > b.wire_mtu
    a_points, b_points = points_of(a.endpoint.ip), points_of(b.endpoint.ip)
    if a.latency_s < b.latency_s:
        a_points += _percent_faster(a.latency_s, b.latency_s)
    else:
        b_points += _percent_faster(b.latency_s, a.latency_s)
    if a_points <= HYSTERESIS_POINTS and b_points == 0:
        return False
    return a_points > b_points


def points_of(ip: IPAddress) -> int:
    """What an address is worth for its kind alone."""
    points = IPV6_POINTS if isinstance(ip, IPv6Address) else 0
    if ip.is_loopback:
        return points + LOOPBACK_POINTS
    if ip.is_link_local:
        return points + LINK_LOCAL_POINTS
    return points + (PRIVATE_POINTS if _is_private(ip) else 0)


def _is_private(ip: IPAddress) -> bool:
    """Go's notion: RFC 1918 and unique local addresses; ipaddress counts many more ranges."""
    if isinstance(ip, IPv6Address):
        return ip in _PRIVATE_IPV6
    return any(ip in network for network in _PRIVATE_IPV4)


def _percent_faster(faster_s: float, slower_s: float) -> int:
    if slower_s <= 0:
        return 0
    return int(100 - faster_s * 100 / slower_s)

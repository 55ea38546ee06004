"""Which addresses of this machine are worth telling peers. Source: paths.md §6.2; tailscale net/netmon/state.go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv6Address

from tailbox.runtime.network import InterfaceAddress
from tailbox.wire.addresses import CHROMEOS_IPV4, IPAddress, is_tailnet_address

MAX_IPV6_PER_SUBNET = 2  # magicsock.go: privacy addresses pile up
SUBNET_BITS = 64


def usable_addresses(found: Iterable[InterfaceAddress], *, include_loopback: bool) -> tuple[IPAddress, ...]:
    """Regular addresses, IPv4 first. IPv4 link-local ones only without others, loopback only without any or if asked.

    Left out: addresses of the tailnet's own ranges, which another client on this machine may hold, and IPv6 link-local
    ones, which mean nothing without their interface.
    """
    regular: list[IPAddress] = []
    link_local: list[IPAddress] = []
    loopback: list[IPAddress] = []
    subnets: Counter[int] = Counter()
    for ip in sorted({address.ip for address in found}, key=lambda ip: (ip.version, int(ip))):
        if ip.is_loopback:
            loopback.append(ip)
        elif ip.is_link_local:
            if ip.version == 4:
                link_local.append(ip)
        elif not ip.is_unspecified and not ip.is_multicast and not _is_overlay(ip):
            if isinstance(ip, IPv6Address):
                subnet = int(ip) >> SUBNET_BITS
                subnets[subnet] += 1
                if subnets[subnet] > MAX_IPV6_PER_SUBNET:
                    continue
            regular.append(ip)
    offered = regular or link_local or loopback
    if include_loopback and offered is not loopback:
        offered = offered + loopback
    return tuple(offered)


def _is_overlay(ip: IPAddress) -> bool:
    return is_tailnet_address(ip) and ip not in CHROMEOS_IPV4

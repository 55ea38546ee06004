"""Tailnet addresses: one counter gives both families, and never goes back.

Number N is 100.64.0.0 + N and fd7a:115c:a1e0:: + N. Numbers whose IPv4 address is reserved, or was chosen by an
administrator once, are skipped. Source: tailscale net/tsaddr/tsaddr.go; headscale hscontrol/db/ip.go.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import msgspec

from tailbox.coord.core.records import Counters, TailnetNode
from tailbox.coord.core.tailnet import Tailnet
from tailbox.errors import Conflict, Invalid, Malformed
from tailbox.wire.addresses import CHROMEOS_IPV4, SERVICE_IPV4, SERVICE_IPV6, TAILNET_IPV4, TAILNET_IPV6, parse_ip

FIRST_IPV4 = int(TAILNET_IPV4.network_address)
FIRST_IPV6 = int(TAILNET_IPV6.network_address)
LAST_NUMBER = TAILNET_IPV4.num_addresses - 2  # the last address is the broadcast address


def is_assignable(address: IPv4Address) -> bool:
    """Whether a node may have the address at all."""
    number = int(address) - FIRST_IPV4
    return 1 <= number <= LAST_NUMBER and address != SERVICE_IPV4 and address not in CHROMEOS_IPV4


def next_addresses(counters: Counters) -> tuple[str, str, Counters]:
    """An IPv4 and an IPv6 address that nobody ever had. Raises Conflict when the range is used up."""
    number = counters.address
    while (number := number + 1) <= LAST_NUMBER:
        ipv4, ipv6 = IPv4Address(FIRST_IPV4 + number), IPv6Address(FIRST_IPV6 + number)
        if is_assignable(ipv4) and ipv6 != SERVICE_IPV6 and str(ipv4) not in counters.manual_ipv4:
            return str(ipv4), str(ipv6), msgspec.structs.replace(counters, address=number)
    raise Conflict("the tailnet has no free address left")


def choose_ipv4(tailnet: Tailnet, node: TailnetNode, text: str) -> tuple[str, Counters]:
    """An address of an administrator's choice. Raises Invalid outside the pool, Conflict if anybody has or had it."""
    try:
        address = parse_ip(text)
    except Malformed as error:
        raise Invalid(str(error)) from None
    if not isinstance(address, IPv4Address) or not is_assignable(address):
        raise Invalid(f"{text} is not an address that devices can have")
    counters, canonical = tailnet.counters, str(address)
    if canonical == node.ipv4:
        return canonical, counters
    if int(address) - FIRST_IPV4 <= counters.address or canonical in counters.manual_ipv4:
        raise Conflict(f"{text} belongs to a device, or did once")
    return canonical, msgspec.structs.replace(counters, manual_ipv4=(*counters.manual_ipv4, canonical))

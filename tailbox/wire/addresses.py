"""Addresses: endpoints on the underlay, and the ranges of the overlay.

Source: tailscale net/tsaddr/tsaddr.go.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Self

from tailbox.errors import Malformed

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

TAILNET_IPV4 = IPv4Network("100.64.0.0/10")
TAILNET_IPV6 = IPv6Network("fd7a:115c:a1e0::/48")
SERVICE_IPV4 = IPv4Address("100.100.100.100")  # MagicDNS and friends, in every node
SERVICE_IPV6 = IPv6Address("fd7a:115c:a1e0::53")
CHROMEOS_IPV4 = IPv4Network("100.115.92.0/23")  # ChromeOS uses it inside; nobody gets an address from it


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and a port, TCP or UDP: `1.2.3.4:41641`, `[2001:db8::1]:41641`."""

    ip: IPAddress
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form. Raises Malformed for zones, names and ports out of range."""
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise Malformed(f"not an endpoint: {text!r}")
        if not colon or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535 or "%" in host:
            raise Malformed(f"not an endpoint: {text!r}")
        return cls(parse_ip(host), int(port))

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if self.ip.version == 6 else f"{self.ip}:{self.port}"


def parse_ip(text: str) -> IPAddress:
    """Raises Malformed."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise Malformed(f"not an IP address: {text!r}") from None


def parse_network(text: str) -> IPNetwork:
    """Read a CIDR prefix without host bits; a bare address is its /32 or /128. Raises Malformed."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise Malformed(f"not an IP prefix: {text!r}") from None


def is_tailnet_address(ip: IPAddress) -> bool:
    """Whether the address belongs to the overlay's ranges."""
    return ip in TAILNET_IPV4 if isinstance(ip, IPv4Address) else ip in TAILNET_IPV6

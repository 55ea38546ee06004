"""Packet filter rules as JSON: allow-only, without order. Source: tailscale tailcfg/tailcfg.go; control reference §7.1.

`SrcBits` and `Bits` void the whole filter at the receiver: they are read so that a node can see them, never written.
"""

from __future__ import annotations

from msgspec import field

from tailbox.wire.control.json import CompleteStruct, WireStruct
from tailbox.wire.control.node import CapabilityMap


class PortRange(CompleteStruct, frozen=True, kw_only=True):
    """Both ends included."""

    first: int = 0
    last: int = 0


EVERY_PORT = PortRange(first=0, last=65535)


class NetPortRange(WireStruct, frozen=True, kw_only=True):
    """Where traffic may go: `*`, an address, a CIDR or a range, and ports."""

    ip: str
    bits: int | None = None
    ports: PortRange = field(default_factory=PortRange)


class CapGrant(WireStruct, frozen=True, kw_only=True):
    """Application capabilities that the sources have at the destinations."""

    dsts: tuple[str, ...] = ()
    caps: tuple[str, ...] = ()  # the old form of cap_map
    cap_map: CapabilityMap = field(default_factory=dict)


class FilterRule(WireStruct, frozen=True, kw_only=True):
    """Either ports or grants; tailscale-rs refuses a rule with both or neither."""

    src_ips: tuple[str, ...] = field(default_factory=lambda: ())  # a default never omitted: tailscale-rs needs it
    src_bits: tuple[int, ...] = ()
    dst_ports: tuple[NetPortRange, ...] = ()
    ip_proto: tuple[int, ...] = ()  # (): TCP, UDP, ICMP and ICMPv6
    cap_grant: tuple[CapGrant, ...] = ()


ALLOW_ALL = (FilterRule(src_ips=("*",), dst_ports=(NetPortRange(ip="*", ports=EVERY_PORT),)),)

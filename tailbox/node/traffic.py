"""Counts WireGuard messages by the kind of path they took, a train at a time.

Disco and STUN do not count, as with upstream's metrics of the same purpose. Source: node reference §23.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address

from tailbox.paths.path import Direct, Path
from tailbox.wire.train import Train

WIREGUARD_HEADS = frozenset(bytes((kind, 0, 0, 0)) for kind in range(1, 5))  # WireGuard paper §5.4: type, reserved


class PathKind(StrEnum):
    """The value is the metric's label."""

    DIRECT_IPV4 = "direct_ipv4"
    DIRECT_IPV6 = "direct_ipv6"
    DERP = "derp"


@dataclass(slots=True)
class Tally:
    """Packets and their bytes, WireGuard's own included."""

    packets: int = 0
    bytes: int = 0


class Traffic:
    """Both directions of one node."""

    def __init__(self) -> None:
        self.inbound = {kind: Tally() for kind in PathKind}
        self.outbound = {kind: Tally() for kind in PathKind}

    def note_inbound(self, train: Train, source: Path) -> None:
        if _is_wireguard(train):
            tally = self.inbound[_kind_of(source)]
            tally.packets += len(train)
            tally.bytes += len(train.data)

    def note_outbound(self, train: Train, path: Path) -> None:
        if _is_wireguard(train):
            tally = self.outbound[_kind_of(path)]
            tally.packets += len(train)
            tally.bytes += len(train.data)


def _is_wireguard(train: Train) -> bool:
    """By the first datagram: sockets join what has one sender and one size, so a train seldom mixes protocols."""
    return bytes(train.data[:4]) in WIREGUARD_HEADS


def _kind_of(path: Path) -> PathKind:
    if type(path) is Direct:
        return PathKind.DIRECT_IPV6 if type(path.endpoint.ip) is IPv6Address else PathKind.DIRECT_IPV4
    return PathKind.DERP

"""Sets of IP addresses as sorted disjoint ranges.

Addresses are their packed bytes (4 or 16): bytes of one length compare like the numbers they stand for, so look-ups on
the data path need no conversion.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Self

from tailbox.errors import Malformed
from tailbox.wire.addresses import IPNetwork, parse_ip, parse_network

PackedRange = tuple[bytes, bytes]  # first and last, both included, of one family

EVERY_IPV4: PackedRange = (bytes(4), b"\xff" * 4)
EVERY_IPV6: PackedRange = (bytes(16), b"\xff" * 16)


class AddressSet:
    """An immutable set of addresses of both families. `packed in addresses` is one bisection."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[PackedRange] = ()) -> None:
        self._starts: dict[int, list[bytes]] = {4: [], 16: []}
        self._ends: dict[int, list[bytes]] = {4: [], 16: []}
        for first, last in sorted(ranges):
            assert len(first) == len(last)
            assert first <= last
            starts, ends = self._starts[len(first)], self._ends[len(first)]
            if ends and (first <= ends[-1] or int.from_bytes(first, "big") == int.from_bytes(ends[-1], "big") + 1):
                ends[-1] = max(ends[-1], last)
            else:
                starts.append(first)
                ends.append(last)

    @classmethod
    def of_networks(cls, networks: Iterable[IPNetwork]) -> Self:
        return cls((network.network_address.packed, network.broadcast_address.packed) for network in networks)

    def __contains__(self, packed: bytes) -> bool:
        starts = self._starts[len(packed)]
        place = bisect_right(starts, packed) - 1
        return place >= 0 and packed <= self._ends[len(packed)][place]

    def __bool__(self) -> bool:
        return bool(self._starts[4] or self._starts[16])

    @property
    def ranges(self) -> tuple[PackedRange, ...]:
        return tuple((a, b) for size in (4, 16) for a, b in zip(self._starts[size], self._ends[size], strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AddressSet) and self.ranges == other.ranges

    def __hash__(self) -> int:
        return hash(self.ranges)

    def __repr__(self) -> str:
        return f"AddressSet({len(self.ranges)} ranges)"


def parse_ranges(text: str) -> tuple[PackedRange, ...]:
    """Read `*`, an address, a CIDR prefix without host bits, or `first-last`. Raises Malformed.

    Source: tailscale wgengine/filter/tailcfg.go.
    """
    if text == "*":
        return EVERY_IPV4, EVERY_IPV6
    if "-" in text:
        left, _, right = text.partition("-")
        first, last = parse_ip(left), parse_ip(right)
        if first.version != last.version or first.packed > last.packed:
            raise Malformed(f"not an address range: {text!r}")
        return ((first.packed, last.packed),)
    network = parse_network(text)
    return ((network.network_address.packed, network.broadcast_address.packed),)

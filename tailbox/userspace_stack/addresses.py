"""Which addresses are ours, which we stand in for, and which no packet may come from."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from functools import lru_cache

from tailbox.wire.addresses import IPAddress

IPV4_BROADCAST = b"\xff\xff\xff\xff"


@lru_cache(maxsize=4096)
def address_of(packed: bytes) -> IPAddress:
    """The address of 4 or 16 bytes."""
    return ipaddress.ip_address(packed)


def is_unicast(packed: bytes) -> bool:
    """Whether a packet may come from here or a connection go there: not unspecified, multicast, broadcast, loopback."""
    if len(packed) == 4:
        return packed[0] not in (0, 127) and packed[0] < 224
    return packed[0] != 0xFF and any(packed[:15])  # ::/120 holds the unspecified and the loopback address


class LocalAddresses:
    """The stack's addresses and its forwarding switches."""

    def __init__(self) -> None:
        self.own: frozenset[IPAddress] = frozenset()
        self.forwards_own = False
        self.forwards_other = False
        self._packed: frozenset[bytes] = frozenset()
        self._default: dict[int, IPAddress] = {}

    def set(self, addresses: Collection[IPAddress]) -> None:
        """The first of each family is the default source."""
        self.own = frozenset(addresses)
        self._packed = frozenset(address.packed for address in addresses)
        self._default = {}
        for address in addresses:
            self._default.setdefault(address.version, address)

    def is_own(self, address: IPAddress) -> bool:
        return address in self.own

    def is_own_packed(self, packed: bytes) -> bool:
        return packed in self._packed

    def takes(self, packed: bytes) -> bool:
        """Whether packets to this address are for us at all."""
        return packed in self._packed or (self.forwards_other and is_unicast(packed))

    def forwards(self, packed: bytes) -> bool:
        """Whether flows to this address go to the forwarder where no socket of ours wants them."""
        return self.forwards_own if packed in self._packed else self.forwards_other

    def source_for(self, destination: IPAddress) -> IPAddress | None:
        """An own destination is its own source, so that both ends of a looping flow are on one address."""
        return destination if destination in self.own else self._default.get(destination.version)

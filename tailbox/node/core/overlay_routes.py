"""Which peer carries which address: longest prefix first, exact addresses in one look-up; and the reverse check.

Source: tailscale wgengine/userspace.go (exact node addresses before prefixes), WireGuard paper §3 (cryptokey routing).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from tailbox.policy.address_set import AddressSet
from tailbox.wire.addresses import IPNetwork
from tailbox.wire.keys import NodePublicKey


class OverlayRoutes:
    """Destination → peer, and whether a peer may use a source address. Immutable; built anew for each netmap."""

    def __init__(self, allowed: Mapping[NodePublicKey, Collection[IPNetwork]]) -> None:
        self._exact: dict[bytes, NodePublicKey] = {}
        self._by_length: dict[int, dict[int, dict[int, NodePublicKey]]] = {4: {}, 16: {}}
        self._ranges: dict[NodePublicKey, AddressSet] = {}
        for peer, networks in allowed.items():
            wide = [network for network in networks if network.prefixlen < network.max_prefixlen]
            for network in networks:
                if network.prefixlen == network.max_prefixlen:
                    self._exact[network.network_address.packed] = peer
            if wide:
                self._add_prefixes(peer, wide)
                self._ranges[peer] = AddressSet.of_networks(networks)
        self._lengths = {family: sorted(tables, reverse=True) for family, tables in self._by_length.items()}

    def peer_for(self, destination: bytes) -> NodePublicKey | None:
        """Who carries packets to this packed address, or None."""
        exact = self._exact.get(destination)
        if exact is not None:
            return exact
        lengths = self._lengths[len(destination)]
        if not lengths:
            return None
        number, bits = int.from_bytes(destination, "big"), 8 * len(destination)
        for length in lengths:
            found = self._by_length[len(destination)][length].get(number >> (bits - length))
            if found is not None:
                return found
        return None

    def source_ok(self, peer: NodePublicKey, source: bytes) -> bool:
        """Whether packets with this source may come from the peer."""
        if self._exact.get(source) == peer:
            return True
        ranges = self._ranges.get(peer)
        return ranges is not None and source in ranges

    def _add_prefixes(self, peer: NodePublicKey, networks: Iterable[IPNetwork]) -> None:
        for network in networks:
            family, length = len(network.network_address.packed), network.prefixlen
            prefix = int(network.network_address) >> (8 * family - length)
            self._by_length[family].setdefault(length, {})[prefix] = peer

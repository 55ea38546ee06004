"""From the netmap and the preferences to what the engines need.

One bad address or prefix costs that entry, never the netmap. Expired peers, and peers without a disco key, get no
traffic. Source: tailscale wgengine/wgcfg/nmcfg/nmcfg.go, types/netmap/netmap.go, ipn/ipnlocal/node_backend.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from msgspec import UNSET

from tailbox.errors import Malformed
from tailbox.node.core.dataplane import DataplaneView
from tailbox.node.core.engine import EngineView
from tailbox.node.core.magic_dns import Zone
from tailbox.node.core.netmap import Netmap
from tailbox.node.core.overlay_routes import OverlayRoutes
from tailbox.paths.path import PeerReach
from tailbox.policy.match import compile_filter
from tailbox.wire.addresses import Endpoint, IPAddress, IPNetwork, parse_ip, parse_network
from tailbox.wire.control.capability import MAGIC_DNS_AAAA
from tailbox.wire.control.node import Node
from tailbox.wire.keys import NodePublicKey

CACHED_TEXTS = 65_536  # ours: addresses, prefixes and endpoints remembered parsed


@dataclass(frozen=True, slots=True)
class ViewPreferences:
    """What the user wants of the netmap."""

    accept_routes: bool = False
    shields_up: bool = False
    advertise_routes: tuple[str, ...] = ()
    always_relay: bool = False


def engine_view(netmap: Netmap, preferences: ViewPreferences, *, now_unix_s: float) -> EngineView:
    """Routes, reach, rules and names. An expired self node has no peers."""
    usable = () if netmap.is_expired(netmap.self_node, now_unix_s=now_unix_s) else usable_peers(netmap, now_unix_s)
    own = addresses_of(netmap.self_node)
    holders = cache(lambda: _capability_holders(netmap))  # few filters ask
    approved = {str(network) for network in _networks(netmap.self_node.effective_allowed_ips)}
    served = [network for network in _networks(preferences.advertise_routes) if str(network) in approved]
    return EngineView(
        dataplane=DataplaneView(
            addresses=own,
            served=tuple((net.network_address.packed, net.broadcast_address.packed) for net in served),
            routes=OverlayRoutes({peer.key: _routed_to(peer, preferences) for peer in usable}),
            rules=compile_filter(netmap.rules, holders=lambda name: holders().get(name, ())),
            shields_up=preferences.shields_up,
            jailed=frozenset(peer.key for peer in usable if peer.is_jailed),
        ),
        reach=reach_of(usable, always_relay=preferences.always_relay),
        zone=zone_of(netmap),
    )


def usable_peers(netmap: Netmap, now_unix_s: float) -> tuple[Node, ...]:
    """Peers that may get traffic. Of two with one key, the later ID wins."""
    by_key: dict[NodePublicKey, Node] = {}
    for _, peer in sorted(netmap.peers.items()):
        if peer.disco_key is not None and not netmap.is_expired(peer, now_unix_s=now_unix_s):
            by_key[peer.key] = peer
    by_key.pop(netmap.self_node.key, None)
    return tuple(by_key.values())


def addresses_of(node: Node) -> tuple[IPAddress, ...]:
    """A node's own addresses, as the coordinator orders them."""
    return _addresses(node.addresses)


def zone_of(netmap: Netmap) -> Zone:
    """Names of every node, and the extra records."""
    names: dict[str, tuple[IPAddress, ...]] = {}
    for node in (netmap.self_node, *netmap.peers.values()):
        name = node.name.rstrip(".").lower()
        if name:
            names[name] = addresses_of(node)
    for record in netmap.dns.extra_records:
        try:
            address = parse_ip(record.value)
        except Malformed:
            continue
        if record.type in ("", "A", "AAAA"):
            name = record.name.rstrip(".").lower()
            names[name] = (*names.get(name, ()), address)
    has_ipv4 = any(address.version == 4 for address in addresses_of(netmap.self_node))
    return Zone(
        names=names,
        suffix=netmap.suffix,
        search_domains=tuple(domain.rstrip(".").lower() for domain in netmap.dns.domains),
        answers_ipv6=MAGIC_DNS_AAAA in netmap.self_node.cap_map or not has_ipv4,
    )


def _routed_to(peer: Node, preferences: ViewPreferences) -> tuple[IPNetwork, ...]:
    """Own addresses always, subnet routes if accepted; default routes only through a chosen exit node."""
    allowed = _networks(peer.effective_allowed_ips)
    if tuple(peer.effective_allowed_ips) == tuple(peer.addresses):
        return allowed
    own = set(_networks(peer.addresses))
    return tuple(
        network for network in allowed if network in own or (preferences.accept_routes and network.prefixlen > 0)
    )


def reach_of(peers: Iterable[Node], *, always_relay: bool) -> Mapping[NodePublicKey, PeerReach]:
    """Where peers are; each must have a disco key."""
    found = {}
    for peer in peers:
        assert peer.disco_key is not None
        texts = () if peer.endpoints is UNSET or always_relay else peer.endpoints
        home = peer.home_derp or _legacy_home(peer.legacy_derp_string)
        found[peer.key] = PeerReach(peer.disco_key, tuple(_endpoints(texts)), home)
    return found


def _legacy_home(text: str) -> int:
    """`127.3.3.40:N`, what coordinators before capability version 111 send."""
    port = text.removeprefix("127.3.3.40:")
    return int(port) if port != text and port.isascii() and port.isdigit() and len(port) <= 5 else 0


def _endpoints(texts: Iterable[str]) -> Iterable[Endpoint]:
    return (endpoint for endpoint in map(_endpoint, texts) if endpoint is not None)


# Addresses and prefixes repeat from netmap to netmap, and parsing one costs microseconds.


@lru_cache(maxsize=CACHED_TEXTS)
def _endpoint(text: str) -> Endpoint | None:
    try:
        return Endpoint.parse(text)
    except Malformed:
        return None


@lru_cache(maxsize=CACHED_TEXTS)
def _addresses(texts: tuple[str, ...]) -> tuple[IPAddress, ...]:
    return tuple(network.network_address for network in _networks(texts) if network.prefixlen == network.max_prefixlen)


@lru_cache(maxsize=CACHED_TEXTS)
def _network(text: str) -> IPNetwork | None:
    try:
        return parse_network(text)
    except Malformed:
        return None


def _networks(texts: Iterable[str]) -> tuple[IPNetwork, ...]:
    return tuple(network for network in map(_network, texts) if network is not None)


def _capability_holders(netmap: Netmap) -> Mapping[str, list[bytes]]:
    holders: dict[str, list[bytes]] = {}
    for node in (netmap.self_node, *netmap.peers.values()):
        for name in (*node.cap_map, *node.capabilities):
            holders.setdefault(name, []).extend(address.packed for address in addresses_of(node))
    return holders

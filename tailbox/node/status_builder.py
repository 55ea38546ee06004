"""Collects a NodeStatus from the parts of a running node."""

from __future__ import annotations

from collections.abc import Mapping

from tailbox.node.backend import Backend
from tailbox.node.core.netmap import Netmap
from tailbox.node.core.status import ACTIVE_FOR_S, BackendState, NodeStatus, PeerStatus
from tailbox.node.host_information import VERSION_TEXT
from tailbox.paths.path import Direct
from tailbox.wire.control.derp_map import DERPRegion
from tailbox.wire.control.node import Node


def build_status(backend: Backend) -> NodeStatus:
    netmap = backend.netmap
    base = NodeStatus(
        version=VERSION_TEXT,
        state=backend.state,
        self_status=None,
        key=backend.public_key,
        has_node_key=backend.session.has_node_key,
        auth_url=backend.session.auth_url,
        hostname=backend.state_on_disk.hostname,
        health=health_of(backend),
    )
    if netmap is None:
        return base
    return NodeStatus(
        version=base.version,
        state=base.state,
        self_status=_self_status(backend, netmap),
        key=base.key,
        has_node_key=base.has_node_key,
        auth_url=base.auth_url,
        hostname=base.hostname,
        peers=tuple(_peer_status(backend, netmap, peer) for peer in netmap.peers.values()),
        health=base.health,
        suffix=netmap.suffix,
        tailnet=netmap.domain,
        magic_dns=netmap.dns.proxied,
        cert_domains=netmap.dns.cert_domains,
        users=netmap.users,
    )


def health_of(backend: Backend) -> tuple[str, ...]:
    """What is wrong, in sentences for people."""
    found: list[str] = []
    session, netmap = backend.session, backend.netmap
    if session.last_error:
        found.append(f"not logged in, last login error={session.last_error}")
    if netmap is not None:
        found += netmap.health
        found += [f"{message.title}: {message.text}" for message in netmap.messages.values()]
        if backend.state is BackendState.RUNNING and not backend.control.is_polling:
            found.append("not in map poll: the coordination server is out of reach; known peers stay reachable")
        if backend.state is BackendState.RUNNING and not backend.underlay.connected_regions and _regions(netmap):
            found.append("no relay is connected: peers without a direct path are out of reach")
    if backend.filter_problems:
        found.append(f"invalid packet filter: {backend.filter_problems[0]}")
    return tuple(found)


def _regions(netmap: Netmap) -> Mapping[int, DERPRegion]:
    regions = netmap.derp_map.regions
    return regions if isinstance(regions, Mapping) else {}


def _relay_code(netmap: Netmap, region_id: int) -> str:
    region = _regions(netmap).get(region_id)
    return region.region_code if region else ""


def _self_status(backend: Backend, netmap: Netmap) -> PeerStatus:
    result = backend.netcheck.last_result
    return PeerStatus(
        netmap.self_node,
        is_self=True,
        relay=_relay_code(netmap, result.home_region if result else 0),
        candidates=tuple(endpoint for endpoint, _ in backend.session.endpoints),
        is_online=backend.control.is_polling,
    )


def _peer_status(backend: Backend, netmap: Netmap, peer: Node) -> PeerStatus:
    tunnel, way = backend.driver.engine.peer_status(peer.key)
    now, unix_s = backend.clock.monotonic(), backend.clock.unix_time()
    offset = unix_s - now
    active_at = way.active_at if way else None
    direct = way.path if way and isinstance(way.path, Direct) else None
    return PeerStatus(
        peer,
        current_address=str(direct.endpoint) if direct else "",
        relay=_relay_code(netmap, peer.home_derp),
        candidates=tuple(map(str, way.candidates)) if way else (),
        received_bytes=tunnel.received_bytes,
        sent_bytes=tunnel.sent_bytes,
        is_active=active_at is not None and now - active_at < ACTIVE_FOR_S,
        is_online=bool(peer.online),
        is_expired=netmap.is_expired(peer, now_unix_s=unix_s),
        last_handshake_unix_s=None if tunnel.last_handshake_at is None else tunnel.last_handshake_at + offset,
        last_write_unix_s=None if active_at is None else active_at + offset,
        has_session=tunnel.has_session,
    )

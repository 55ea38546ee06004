"""From a node of the snapshot to the device that the REST API shows.

Source: Tailscale OpenAPI v2, schema `Device`; api-and-console reference §2. Routes are sorted by address as a number.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from msgspec import UNSET

from tailbox.coord.admin.device_schema import ClientConnectivity, ClientSupports, Device, Distro, RegionLatency
from tailbox.coord.core.records import TailnetNode
from tailbox.coord.core.tailnet import Tailnet
from tailbox.wire.control.node import NetInfo
from tailbox.wire.control.timestamp import Timestamp

ZERO_TIME = "0001-01-01T00:00:00Z"  # "never", where the upstream shape has no way to leave a time out


def api_time(unix_s: float) -> str:
    """Whole seconds, in UTC."""
    return str(Timestamp.from_unix(float(int(unix_s))))


def sorted_routes(routes: Iterable[str]) -> tuple[str, ...]:
    """By family, then by address as a number, then by length. What is no prefix comes last, as it is."""
    return tuple(sorted(routes, key=_route_order))


def device_view(tailnet: Tailnet, node: TailnetNode, *, is_complete: bool = False) -> Device:
    """The device. `is_complete`: with the members of `fields=all`."""
    info = node.hostinfo
    owner = tailnet.users.get(node.user_id)
    expiry = node.effective_expiry_unix_s
    return Device(
        addresses=node.addresses,
        id=str(node.id),
        node_id=node.stable_id,
        user=owner.login_name if owner is not None else "",
        name=tailnet.fqdn(node),
        hostname=info.hostname,
        client_version=info.ipn_version,
        update_available=False,
        os=info.os,
        created=api_time(node.created_unix_s),
        connected_to_control=node.is_online,
        key_expiry_disabled=node.is_key_expiry_disabled or expiry is None,
        expires=ZERO_TIME if expiry is None else api_time(expiry),
        authorized=node.is_authorized,
        is_external=False,
        is_ephemeral=node.is_ephemeral,
        multiple_connections=node.sessions > 1,
        machine_key=node.machine_key.text,
        node_key=node.node_key.text,
        blocks_incoming_connections=info.shields_up,
        tailnet_lock_key=node.lock_key.text if node.lock_key is not None else "",
        tailnet_lock_error="",
        last_seen=UNSET if node.is_online or node.last_seen_unix_s is None else api_time(node.last_seen_unix_s),
        tags=node.tags or UNSET,
        enabled_routes=sorted_routes(node.approved_routes) if is_complete else UNSET,
        advertised_routes=sorted_routes(node.announced_routes) if is_complete else UNSET,
        client_connectivity=_connectivity(node) if is_complete else UNSET,
        ssh_enabled=bool(info.ssh_host_keys) if is_complete else UNSET,
        distro=Distro(info.distro, info.distro_version, info.distro_code_name)
        if is_complete and info.distro
        else UNSET,
    )


def _connectivity(node: TailnetNode) -> ClientConnectivity:
    network = node.hostinfo.net_info or NetInfo()
    return ClientConnectivity(
        endpoints=node.endpoints,
        derp=str(network.preferred_derp) if network.preferred_derp else "",
        latency=_latencies(network),
        client_supports=ClientSupports(
            ipv6=network.working_ipv6,
            pcp=network.pcp,
            pmp=network.pmp,
            udp=network.working_udp,
            upnp=network.upnp,
        ),
        mapping_varies_by_dest_ip=network.mapping_varies_by_dest_ip,
    )


def _latencies(network: NetInfo) -> dict[str, RegionLatency]:
    """By region number: the better of the two families (`"1-v4"`, `"1-v6"`)."""
    best_s: dict[str, float] = {}
    for name, seconds in network.derp_latency.items():
        region = name.partition("-")[0]
        best_s[region] = min(seconds, best_s.get(region, seconds))
    return {
        region: RegionLatency(seconds * 1000.0, preferred=True if region == str(network.preferred_derp) else UNSET)
        for region, seconds in best_s.items()
    }


def _route_order(route: str) -> tuple[int, int, int, str]:
    try:
        network = ipaddress.ip_network(route, strict=False)
    except ValueError:
        return (9, 0, 0, route)
    return (network.version, int(network.network_address), network.prefixlen, route)

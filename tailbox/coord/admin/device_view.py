"""From a node of the snapshot to the device that the REST API shows.

Routes are sorted by address as a number. Relay regions go by their names, as upstream has it: `"Dallas"`, not `9`.
Source: Tailscale OpenAPI v2, schema `Device`; api-and-console reference §2.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import UNSET

from tailbox.coord.admin.device_schema import ClientConnectivity, ClientSupports, Device, Distro, RegionLatency
from tailbox.coord.core.records import TailnetNode
from tailbox.coord.core.tailnet import Tailnet
from tailbox.wire.control.derp_map import DERPMap
from tailbox.wire.control.node import NetInfo
from tailbox.wire.control.timestamp import Timestamp

ZERO_TIME = "0001-01-01T00:00:00Z"  # "never", where the upstream shape has no way to leave a time out


def api_time(unix_s: float) -> str:
    """Whole seconds, in UTC."""
    return str(Timestamp.from_unix(float(int(unix_s))))


def sorted_routes(routes: Iterable[str]) -> tuple[str, ...]:
    """By family, then by address as a number, then by length. What is no prefix comes last, as it is."""
    return tuple(sorted(routes, key=_route_order))


def region_names(derp_map: DERPMap) -> Mapping[int, str]:
    """What each relay region is called: its name, else its code; with its number where that is not the only one."""
    regions = {} if derp_map.regions is UNSET else derp_map.regions
    names = {number: region.region_name or region.region_code or str(number) for number, region in regions.items()}
    count = Counter(names.values())
    return {number: name if count[name] == 1 else f"{name} ({number})" for number, name in names.items()}


def device_view(
    tailnet: Tailnet, node: TailnetNode, *, regions: Mapping[int, str], is_complete: bool = False
) -> Device:
    """The device. `is_complete`: with the members of `fields=all`; `regions`: see `region_names`."""
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
        client_connectivity=_connectivity(node, regions) if is_complete else UNSET,
        ssh_enabled=bool(info.ssh_host_keys) if is_complete else UNSET,
        distro=Distro(info.distro, info.distro_version, info.distro_code_name)
        if is_complete and info.distro
        else UNSET,
    )


def _connectivity(node: TailnetNode, regions: Mapping[int, str]) -> ClientConnectivity:
    network = node.hostinfo.net_info or NetInfo()
    return ClientConnectivity(
        endpoints=node.endpoints,
        derp=_region_name(str(network.preferred_derp), regions) if network.preferred_derp else "",
        latency=_latencies(network, regions),
        client_supports=ClientSupports(
            ipv6=network.working_ipv6,
            pcp=network.pcp,
            pmp=network.pmp,
            udp=network.working_udp,
            upnp=network.upnp,
        ),
        mapping_varies_by_dest_ip=network.mapping_varies_by_dest_ip,
    )


def _latencies(network: NetInfo, regions: Mapping[int, str]) -> dict[str, RegionLatency]:
    """By region: the better of the two families (`"1-v4"`, `"1-v6"`)."""
    best_s: dict[str, float] = {}
    for name, seconds in network.derp_latency.items():
        region = name.partition("-")[0]
        best_s[region] = min(seconds, best_s.get(region, seconds))
    home = str(network.preferred_derp)
    return {
        _region_name(region, regions): RegionLatency(seconds * 1000.0, preferred=True if region == home else UNSET)
        for region, seconds in best_s.items()
    }


def _region_name(number: str, regions: Mapping[int, str]) -> str:
    """The number itself for a region that is not, or no longer, ours: a device says what it likes."""
    is_number = number.isascii() and number.isdigit() and len(number) < 10
    return regions.get(int(number), number) if is_number else number


def _route_order(route: str) -> tuple[int, int, int, str]:
    try:
        network = ipaddress.ip_network(route, strict=False)
    except ValueError:
        return (9, 0, 0, route)
    return (network.version, int(network.network_address), network.prefixlen, route)

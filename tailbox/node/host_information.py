"""Hostinfo: what the node says of its host."""

from __future__ import annotations

import platform
import socket
import sys
from collections.abc import Mapping

from tailbox import __version__
from tailbox.node.config import NodeConfig
from tailbox.node.netcheck_runner import NetcheckResult
from tailbox.wire.control.node import Hostinfo, NetInfo

UPSTREAM_VERSION = "1.103.0"  # whose behaviour we follow; the real CLI warns where this differs from its own
VERSION_TEXT = f"{UPSTREAM_VERSION}-tailbox{__version__}"


def host_information(config: NodeConfig, *, hostname: str, log_id: str, netcheck: NetcheckResult | None) -> Hostinfo:
    return Hostinfo(
        ipn_version=VERSION_TEXT,
        backend_log_id=log_id,  # the coordinator of the service insists on one; nothing is ever logged there
        os=platform.system().lower(),
        os_version=platform.release(),
        app="tailbox",
        hostname=hostname,
        shields_up=config.shields_up,
        machine=platform.machine(),
        go_arch={"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        go_version=f"python{sys.version_info.major}.{sys.version_info.minor}",
        routable_ips=config.advertise_routes,
        request_tags=config.advertise_tags,
        userspace=True,
        userspace_router=True,
        net_info=net_information(netcheck),
    )


def host_name(config: NodeConfig, remembered: str = "") -> str:
    """The wanted name, the one of last time, or this machine's."""
    return config.hostname or remembered or socket.gethostname().partition(".")[0] or "node"


def net_information(result: NetcheckResult | None) -> NetInfo | None:
    """What the last netcheck found, as the coordinator wants it."""
    if result is None:
        return None
    report = result.report
    latency = {f"{region}-v4": seconds for region, seconds in report.region_ipv4_latency_s.items()}
    latency |= {f"{region}-v6": seconds for region, seconds in report.region_ipv6_latency_s.items()}
    return NetInfo(
        mapping_varies_by_dest_ip=report.mapping_varies_by_destination,
        working_ipv6=report.ipv6,
        os_has_ipv6=report.ipv6_can_send,
        working_udp=report.udp,
        preferred_derp=result.home_region,
        derp_latency=latency,
    )


def netcheck_json(result: NetcheckResult, *, now: str) -> dict[str, object]:
    """A report in the shape of `tailscale netcheck --format=json`; latencies in nanoseconds."""
    report = result.report

    def nanoseconds(by_region: Mapping[int, float]) -> dict[str, int] | None:
        return {str(region): round(seconds * 1e9) for region, seconds in by_region.items()} or None

    return {
        "Now": now,
        "UDP": report.udp,
        "IPv6": report.ipv6,
        "IPv4": report.ipv4,
        "IPv6CanSend": report.ipv6_can_send,
        "IPv4CanSend": report.ipv4_can_send,
        "OSHasIPv6": report.ipv6_can_send,
        "ICMPv4": False,
        "MappingVariesByDestIP": report.mapping_varies_by_destination,
        "UPnP": None,
        "PMP": None,
        "PCP": None,
        "PreferredDERP": result.home_region,
        "RegionLatency": nanoseconds(report.region_latency_s),
        "RegionV4Latency": nanoseconds(report.region_ipv4_latency_s),
        "RegionV6Latency": nanoseconds(report.region_ipv6_latency_s),
        "GlobalV4Counters": {str(at): count for at, count in report.mapped_seen.items() if at.ip.version == 4},
        "GlobalV6Counters": {str(at): count for at, count in report.mapped_seen.items() if at.ip.version == 6},
        "GlobalV4": str(report.global_ipv4 or ""),
        "GlobalV6": str(report.global_ipv6 or ""),
        "CaptivePortal": None,
    }

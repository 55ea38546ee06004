"""`tailbox netcheck`: what kind of network this is. Layout: tailscale cmd/tailscale/cli/netcheck.go.

The node measures all the time; the command asks it for a fresh report (our LocalAPI endpoint `netcheck`), so that what
is printed is what the node's own sockets see.
"""

from __future__ import annotations

import json
from typing import Any

from tailbox.cli.local_client import LocalClient, call
from tailbox.cli.output import fail, go_duration, show


def print_netcheck(client: LocalClient, *, output_format: str) -> None:
    """Raises CommandFailed for formats that do not exist."""
    if output_format not in ("", "json", "json-line"):
        fail(f"unknown output format {output_format!r}")
    report = call(client, "GET", "netcheck", timeout_s=30.0)
    if output_format == "json":
        show(json.dumps(report, indent="\t"))
    elif output_format == "json-line":
        show(json.dumps(report, separators=(",", ":")))
    else:
        regions = (call(client, "GET", "derpmap") or {}).get("Regions") or {}
        show("\n".join(report_lines(report, regions)))


def report_lines(report: dict[str, Any], regions: dict[str, Any]) -> list[str]:
    """The text form: a fact a line."""
    lines = ["", "Report:"]
    lines.append(f"\t* Time: {report['Now']}")
    lines.append(f"\t* UDP: {_word(report['UDP'])}")
    lines.append(f"\t* IPv4: {_family(report.get('IPv4'), report.get('GlobalV4'))}")
    if report.get("IPv6") or report.get("OSHasIPv6") is not False:
        ipv6 = _family(report.get("IPv6"), report.get("GlobalV6")) if report.get("IPv6") else "no, but OS has support"
        lines.append(f"\t* IPv6: {ipv6}")
    else:
        lines.append("\t* IPv6: no, unavailable in OS")
    lines.append(f"\t* MappingVariesByDestIP: {_word(report.get('MappingVariesByDestIP'))}")
    lines.append(f"\t* PortMapping: {_port_mapping(report)}")
    if report.get("CaptivePortal") is not None:
        lines.append(f"\t* CaptivePortal: {_word(report['CaptivePortal'])}")
    latencies = report.get("RegionLatency") or {}
    nearest = regions.get(str(report.get("PreferredDERP") or 0))
    lines.append(f"\t* Nearest DERP: {nearest['RegionName'] if nearest else 'unknown (no response to latency probes)'}")
    if latencies:
        lines.append("\t* DERP latency:")
    for region_id, nanoseconds in sorted(latencies.items(), key=lambda item: item[1]):
        region = regions.get(region_id, {"RegionCode": region_id, "RegionName": "unknown"})
        latency = go_duration(nanoseconds / 1e9, resolution_s=1e-4)
        lines.append(f"\t\t- {region['RegionCode']:>3}: {latency:<7} ({region['RegionName']})")
    return lines


def _word(value: bool | None) -> str:
    return "" if value is None else str(value).lower()


def _family(works: bool | None, address: str | None) -> str:
    if address:
        return f"yes, {address}"
    return "(no addr found)" if works or works is None else "no"


def _port_mapping(report: dict[str, Any]) -> str:
    names = {"UPnP": "UPnP", "PMP": "NAT-PMP", "PCP": "PCP"}
    if all(report.get(key) is None for key in names):
        return "not checked"
    return ", ".join(name for key, name in names.items() if report.get(key))

"""Which STUN servers to ask, when. Source: paths.md §2.2; tailscale net/netcheck/netcheck.go makeProbePlan."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tailbox.wire.control.derp_map import DERPNode, DERPRegion

INITIAL_TRIES = 3  # netcheck.go: full reports, each family
INITIAL_RETRANSMIT_S = 0.1  # netcheck.go defaultInitialRetransmitTime
RETRANSMIT_S = 0.2  # netcheck.go defaultActiveRetransmitTime: for regions of unknown latency
FASTEST_REGIONS = 3  # netcheck.go numIncrementalRegions
LATENCY_FACTOR = 1.2  # netcheck.go: how long an answer may take this time
LATER_TRIES_EXTRA_S = 0.05  # netcheck.go: per try after the second
HOME_TRIES = 4


@dataclass(frozen=True, slots=True)
class PlannedProbe:
    """A request to be sent `delay_s` after the start."""

    delay_s: float
    region_id: int
    node_name: str
    host: str  # an address if the map has one, else the name to look up
    port: int
    ip_version: int


def plan_all(regions: Mapping[int, DERPRegion], *, ip_versions: Sequence[int]) -> list[PlannedProbe]:
    """Three tries by each family to every region that may be measured."""
    plan: list[PlannedProbe] = []
    for region in regions.values():
        if region.no_measure_no_home:
            continue
        for attempt in range(INITIAL_TRIES):
            plan += _probes(region, attempt, attempt * INITIAL_RETRANSMIT_S, ip_versions)
    return plan


def plan_fastest(
    regions: Mapping[int, DERPRegion],
    last_latency_s: Mapping[int, float],
    *,
    home_region: int,
    ip_versions: Sequence[int],
    ipv6_has_worked: bool,
) -> list[PlannedProbe]:
    """The three regions that answered fastest last time, and home, which is asked most persistently."""
    measurable = [region for region in regions.values() if not region.no_measure_no_home]
    ranked = sorted(measurable, key=lambda region: last_latency_s.get(region.region_id, float("inf")))
    candidates = [region for region in ranked if not region.avoid or region.region_id == home_region]
    chosen = candidates[:FASTEST_REGIONS]
    chosen += [region for region in candidates[FASTEST_REGIONS:] if region.region_id == home_region]
    plan: list[PlannedProbe] = []
    for index, region in enumerate(chosen):
        is_home = region.region_id == home_region
        tries = HOME_TRIES if is_home else 2 if index < 2 else 1
        families = list(ip_versions)
        if len(families) > 1 and index >= 2 and not is_home:
            families = [6 if index % 2 else 4]
        last = last_latency_s.get(region.region_id)
        step_s = RETRANSMIT_S if last is None else last * LATENCY_FACTOR
        for attempt in range(tries):
            delay_s = attempt * step_s + (attempt * LATER_TRIES_EXTRA_S if attempt > 1 else 0.0)
            wanted = families
            if not ipv6_has_worked and (attempt > 0 or not (is_home or index < 2)):
                wanted = [version for version in families if version != 6]
            plan += _probes(region, attempt, delay_s, wanted)
    return plan


def _probes(region: DERPRegion, attempt: int, delay_s: float, ip_versions: Sequence[int]) -> Iterator[PlannedProbe]:
    """One try by each family: node `attempt` modulo their number, if it answers STUN by that family."""
    nodes = [node for node in region.nodes if node.effective_stun_port is not None]
    if not nodes:
        return
    node = nodes[attempt % len(nodes)]
    for version in ip_versions:
        host = _host_of(node, version)
        port = node.effective_stun_port
        if host and port is not None:
            yield PlannedProbe(delay_s, region.region_id, node.name, host, port, version)


def _host_of(node: DERPNode, version: int) -> str:
    """The map's literal, else the name. Empty: the node does not use this family ("none")."""
    literal = node.stun_test_ip or (node.ipv4 if version == 4 else node.ipv6)
    for text, is_final in ((literal, True), (node.host_name, False)):
        if not text:
            continue
        try:
            return text if ipaddress.ip_address(text).version == version else ""
        except ValueError:
            return "" if is_final else text
    return ""

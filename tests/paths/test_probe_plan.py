from __future__ import annotations

import pytest

from tailbox.paths.probe_plan import plan_all, plan_fastest
from tailbox.wire.control.derp_map import DERPNode, DERPRegion


def node(region_id: int, **settings: str | int | bool) -> DERPNode:
    return DERPNode(**{"name": "n", "region_id": region_id, "host_name": "relay.example", **settings})  # type: ignore[arg-type]


def one(found: DERPNode) -> dict[int, DERPRegion]:
    return {1: DERPRegion(region_id=1, nodes=(found,))}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, {(4, "relay.example", 3478), (6, "relay.example", 3478)}),
        ({"ipv4": "192.0.2.1", "ipv6": "none"}, {(4, "192.0.2.1", 3478)}),
        ({"host_name": "127.0.0.1", "stun_port": 99}, {(4, "127.0.0.1", 99)}),
        ({"host_name": "::1"}, {(6, "::1", 3478)}),
        ({"stun_port": -1}, set()),
        ({"stun_test_ip": "127.0.0.1", "ipv4": "192.0.2.1"}, {(4, "127.0.0.1", 3478)}),
    ],
)
def test_the_map_says_where_requests_go(settings: dict[str, str | int], wanted: set[tuple[int, str, int]]) -> None:
    plan = plan_all(one(node(1, **settings)), ip_versions=(4, 6))
    assert {(probe.ip_version, probe.host, probe.port) for probe in plan} == wanted


def test_full_plans_try_three_times_and_every_node() -> None:
    nodes = (node(1, name="a"), node(1, name="b"), node(1, name="c", stun_port=-1))
    plan = plan_all({1: DERPRegion(region_id=1, nodes=nodes)}, ip_versions=(4,))
    assert [(probe.delay_s, probe.node_name) for probe in plan] == [(0.0, "a"), (0.1, "b"), (0.2, "a")]


def test_incremental_plans_ask_home_most() -> None:
    regions = {key: DERPRegion(region_id=key, nodes=(node(key),)) for key in range(1, 6)}
    latencies = {key: key / 100 for key in regions}
    plan = plan_fastest(regions, latencies, home_region=5, ip_versions=(4, 6), ipv6_has_worked=True)
    tries = {(p.region_id, p.ip_version): 0 for p in plan}
    for probe in plan:
        tries[probe.region_id, probe.ip_version] += 1
    assert tries == {(1, 4): 2, (1, 6): 2, (2, 4): 2, (2, 6): 2, (3, 4): 1, (5, 4): 4, (5, 6): 4}
    first_home = [probe.delay_s for probe in plan if probe.region_id == 5 and probe.ip_version == 4]
    assert first_home == pytest.approx([0.0, 0.06, 0.22, 0.33])


def test_a_family_that_never_worked_is_tried_once() -> None:
    regions = {key: DERPRegion(region_id=key, nodes=(node(key),)) for key in range(1, 5)}
    plan = plan_fastest(regions, {}, home_region=1, ip_versions=(4, 6), ipv6_has_worked=False)
    ipv6 = [probe.region_id for probe in plan if probe.ip_version == 6]
    assert ipv6 == [1, 2]

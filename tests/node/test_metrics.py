"""Metrics by upstream's names, of two nodes that have talked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from tailbox.node.metrics import NodeMetrics
from tailbox.node.node import Node

if TYPE_CHECKING:
    from tests.node.conftest import Tailnet

Eventually = Callable[[Callable[[], bool]], Any]


def values(node: Node) -> dict[tuple[str, str], float]:
    """By sample name and its one label's value, "" without a label."""
    text = NodeMetrics(node._running()).text()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, next(iter(sample.labels.values()), "")): sample.value for sample in samples}


async def test_traffic_counts_by_path_and_drops_by_reason(tailnet: Tailnet, eventually: Eventually) -> None:
    alpha = await tailnet.node("alpha")
    beta = await tailnet.node("beta", always_relay=True, shields_up=True)
    assert (await alpha.ping("beta")).error == ""
    for _ in range(2):
        try:
            async with asyncio.timeout(0.3):
                await alpha.open_connection("beta", 7)
        except (TimeoutError, OSError):
            pass
    await eventually(lambda: values(beta)["tailscaled_inbound_dropped_packets_total", "acl"] > 0)
    for node in (alpha, beta):
        found = values(node)
        assert found["tailscaled_inbound_packets_total", "derp"] > 0
        assert found["tailscaled_outbound_packets_total", "derp"] > 0
        assert found["tailscaled_outbound_bytes_total", "derp"] >= 92
        assert found["tailscaled_inbound_packets_total", "direct_ipv4"] == 0
        assert found["tailscaled_home_derp_region_id", ""] == 900
        assert found["tailscaled_approved_routes", ""] == 0
    assert values(beta)["tailbox_inbound_filter_dropped_packets_total", "shields_up"] > 0

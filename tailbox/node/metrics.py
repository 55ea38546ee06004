"""The node's metrics, under upstream's names where it has them.

Source: tailscale util/usermetric/metrics.go, wgengine/magicsock/magicsock.go; node reference §23.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tailbox.node.backend import Backend
from tailbox.node.status_builder import health_of


class NodeMetrics:
    """Counters read from the parts when somebody asks: nothing is counted twice."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def text(self) -> str:
        return generate_latest(self.registry).decode()

    def describe(self) -> Iterable[Metric]:
        """Without it the registry would collect at once, before there is anything to see."""
        return ()

    def collect(self) -> Iterable[Metric]:
        backend = self._backend
        engine = backend.driver.engine
        yield _labelled(
            "tailscaled_inbound_dropped_packets",
            "Packets from peers that the node refused.",
            "reason",
            {verdict.value: count for verdict, count in engine.dataplane.inbound_drops.items()},
        )
        yield _labelled(
            "tailscaled_outbound_dropped_packets",
            "Packets of this node that went nowhere.",
            "reason",
            {verdict.value: count for verdict, count in engine.dataplane.outbound_drops.items()},
        )
        yield _labelled(
            "tailbox_wireguard_dropped_packets",
            "WireGuard messages that went no further.",
            "reason",
            {reason.value: count for reason, count in engine.tunnels.drops.items()},
        )
        yield _labelled(
            "tailbox_stack_dropped_packets",
            "IP packets that the stack refused.",
            "reason",
            {reason.value: count for reason, count in engine.stack.drops.items()},
        )
        runts = CounterMetricFamily("tailbox_unknown_datagrams", "Datagrams that are nothing we know.")
        runts.add_metric([], engine.runts)
        yield runts
        result = backend.netcheck.last_result
        yield _gauge("tailscaled_home_derp_region_id", "Home relay region.", result.home_region if result else 0)
        yield _gauge("tailbox_state", "State of the node: 6 is running.", int(backend.state))
        yield _gauge(
            "tailscaled_advertised_routes", "Routes that this node offers.", len(backend.config.advertise_routes)
        )
        health = GaugeMetricFamily("tailscaled_health_messages", "Health warnings.", labels=["type"])
        health.add_metric(["warning"], len(health_of(backend)))
        yield health


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family

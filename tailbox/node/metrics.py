"""The node's metrics, under upstream's names where it has them.

Source: tailscale util/usermetric/metrics.go, wgengine/magicsock/magicsock.go; node reference §23.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tailbox.node.backend import Backend
from tailbox.node.core.packet_filter import Verdict
from tailbox.node.status_builder import health_of
from tailbox.node.traffic import Traffic


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
        yield from _traffic(backend.traffic)
        yield _labelled(
            "tailscaled_inbound_dropped_packets",
            "Packets from peers that the node refused.",
            "reason",
            inbound_drops(backend),
        )
        yield _labelled(
            "tailscaled_outbound_dropped_packets",
            "Packets of this node that went nowhere.",
            "reason",
            outbound_drops(backend),
        )
        yield _labelled(
            "tailbox_inbound_filter_dropped_packets",
            "Packets from peers that the filter refused, by its own words.",
            "reason",
            {verdict.value: count for verdict, count in engine.dataplane.inbound_drops.items()},
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
        yield _gauge("tailscaled_approved_routes", "Of these, routes that may be used.", approved_routes(backend))
        health = GaugeMetricFamily("tailscaled_health_messages", "Health warnings.", labels=["type"])
        health.add_metric(["warning"], len(health_of(backend)))
        yield health


_FILTERED = frozenset({Verdict.ACL, Verdict.SHIELDS, Verdict.NOT_LOCAL, Verdict.MULTICAST, Verdict.LINK_LOCAL})
_OUTBOUND_REASONS = frozenset({Verdict.MULTICAST, Verdict.LINK_LOCAL, Verdict.UNKNOWN})  # upstream's labels are ours


def inbound_drops(backend: Backend) -> dict[str, int]:
    """Upstream's two reasons: the filter refused, or the packet was not in order."""
    engine = backend.driver.engine
    found = {"acl": 0, "error": sum(engine.tunnels.drops.values()) + sum(engine.stack.drops.values())}
    for verdict, count in engine.dataplane.inbound_drops.items():
        found["acl" if verdict in _FILTERED else "error"] += count
    return found


def outbound_drops(backend: Backend) -> dict[str, int]:
    """`error`: nobody carries the destination, there is no path to the peer, or no room on the way."""
    engine, underlay = backend.driver.engine, backend.underlay.snapshot()
    lost = underlay.unroutable_packets + underlay.relays.dropped_full + underlay.relays.dropped_oversized
    found = {"error": engine.unreachable_packets + lost}
    for verdict, count in engine.dataplane.outbound_drops.items():
        label = verdict.value if verdict in _OUTBOUND_REASONS else "error"
        found[label] = found.get(label, 0) + count
    return found


def approved_routes(backend: Backend) -> int:
    """How many of the offered routes the coordinator routes to us."""
    netmap = backend.netmap
    return len(set(backend.config.advertise_routes) & set(netmap.self_node.effective_allowed_ips)) if netmap else 0


def _traffic(traffic: Traffic) -> Iterable[Metric]:
    for direction, tallies in (("inbound", traffic.inbound), ("outbound", traffic.outbound)):
        packets = {kind.value: tally.packets for kind, tally in tallies.items()}
        sizes = {kind.value: tally.bytes for kind, tally in tallies.items()}
        text = f"WireGuard messages, {direction}, by path."
        yield _labelled(f"tailscaled_{direction}_packets", text, "path", packets)
        yield _labelled(f"tailscaled_{direction}_bytes", f"Bytes of {text}", "path", sizes)


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family

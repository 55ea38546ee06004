"""The relay's numbers for Prometheus, under upstream's names.

The data path adds to plain attributes; they are read when somebody asks. Counters get the suffix `_total`, which
Prometheus wants and upstream leaves out.
Source: tailscale derp/derpserver/derpserver.go (ExpVar), net/stunserver/stunserver.go; spec: derp.md §18.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tailbox.derp.core.counters import RelayCounters
from tailbox.derp.session import QueueBudget
from tailbox.derp.stun_responder import StunCounters

GAUGES = (
    ("derp_current_connections", "current_connections", "Clients' connections"),
    ("derp_current_home_connections", "current_home_connections", "Connections of clients that call this relay home"),
    ("derp_current_notideal_connections", "current_not_ideal_connections", "Connections that wanted another node"),
    ("derp_current_dup_client_keys", "current_duplicate_keys", "Keys with more than one connection"),
    ("derp_current_dup_client_conns", "current_duplicate_connections", "Connections that share their key"),
)  # fmt: skip
COUNTERS = (
    ("derp_accepts", "accepts", "Logins"),
    ("derp_websocket_accepts", "websocket_accepts", "Logins over WebSocket"),
    ("derp_total_dup_client_conns", "total_duplicate_connections", "Logins with a key that was connected"),
    ("derp_duplicate_fights", "duplicate_fights", "Keys silenced because their connections took turns too often"),
    ("derp_home_moves_in", "home_moves_in", "Clients that made this relay their home later"),
    ("derp_home_moves_out", "home_moves_out", "Clients that went home elsewhere"),
    ("derp_bytes_received", "bytes_received", "Bytes of packets from clients"),
    ("derp_bytes_sent", "bytes_sent", "Bytes of packets to clients"),
    ("derp_packets_sent", "packets_sent", "Packets to clients"),
    ("derp_got_ping", "got_ping", "Pings from clients"),
    ("derp_sent_pong", "sent_pong", "Answers to them"),
    ("derp_peer_gone_disconnected_frames", "peer_gone_disconnected_frames", "Notices that a peer has left"),
    ("derp_peer_gone_not_here_frames", "peer_gone_not_here_frames", "Notices that a peer is unknown"),
    ("derp_unknown_frames", "unknown_frames", "Frames of unknown types, thrown away"),
    ("derp_client_violations", "client_violations", "Connections closed for malformed frames"),
    ("derp_sclient_write_timeouts", "write_timeouts", "Connections closed because the client did not read"),
    ("derp_read_timeouts", "read_timeouts", "Connections closed because the client did not answer pings"),
    ("derp_rate_limit_per_client_waited", "rate_limit_waits", "Times that reading paused for the rate limit"),
    ("derp_buffered_writes", "flushes", "Writes that frames were gathered for"),
)


class RelayCollector(Collector):
    """Reads the counters when asked."""

    def __init__(
        self, counters: RelayCounters, stun: StunCounters, budget: QueueBudget, keys: Callable[[], int]
    ) -> None:
        self._counters = counters
        self._stun = stun
        self._budget = budget
        self._keys = keys

    def collect(self) -> Iterator[Metric]:
        counters = self._counters
        for name, attribute, text in GAUGES:
            yield GaugeMetricFamily(name, text, value=getattr(counters, attribute))
        yield GaugeMetricFamily("derp_clients_local", "Different keys connected", value=self._keys())
        yield GaugeMetricFamily("derp_queued_bytes", "Bytes waiting for slow clients", value=self._budget.used_bytes)
        for name, attribute, text in COUNTERS:
            yield CounterMetricFamily(name, text, value=getattr(counters, attribute))
        yield self._received()
        yield from self._dropped()
        refused = CounterMetricFamily("derp_refused", "Connections not let in", labels=["reason"])
        for reason, count in counters.refused.items():
            refused.add_metric([reason], count)
        yield refused
        yield from self._stun_families()

    def _received(self) -> Metric:
        family = CounterMetricFamily("derp_packets_received", "Packets from clients", labels=["kind"])
        family.add_metric(["disco"], self._counters.packets_received_disco)
        family.add_metric(["other"], self._counters.packets_received_other)
        return family

    def _dropped(self) -> Iterator[Metric]:
        for name, counts in (
            ("derp_packets_dropped", self._counters.packets_dropped),
            ("derp_bytes_dropped", self._counters.bytes_dropped),
        ):
            family = CounterMetricFamily(name, "Lost on the way through", labels=["reason", "kind"])
            for (reason, kind), count in counts.items():
                family.add_metric([reason.value, kind.value], count)
            yield family

    def _stun_families(self) -> Iterator[Metric]:
        for name, label, counts in (
            ("stun_requests", "disposition", self._stun.dispositions),
            ("stun_addrfamily", "family", self._stun.families),
        ):
            family = CounterMetricFamily(name, "STUN datagrams", labels=[label])
            for value, count in counts.items():
                family.add_metric([value], count)
            yield family


def relay_registry(collector: RelayCollector) -> CollectorRegistry:
    """A registry of the relay's own."""
    registry = CollectorRegistry()
    registry.register(collector)
    return registry

"""What the coordinator counts, for `/metrics`. Source of names: api-and-console reference §17, prefix `tailbox_`."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class CoordMetrics:
    """Counters and gauges of one coordinator, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.nodes = Gauge("tailbox_nodes", "Nodes of the tailnet.", registry=self.registry)
        self.nodes_online = Gauge("tailbox_nodes_online", "Nodes with an open map stream.", registry=self.registry)
        self.store_failures = Gauge(
            "tailbox_store_failures", "Commits that failed since the start.", registry=self.registry
        )
        self.map_streams = Gauge("tailbox_map_streams", "Open map streams.", registry=self.registry)
        self.map_messages = Counter(
            "tailbox_map_messages", "Map messages sent, by kind.", ["kind"], registry=self.registry
        )
        self.map_bytes = Counter("tailbox_map_bytes", "Bytes of map frames sent.", registry=self.registry)
        self.map_streams_ended = Counter(
            "tailbox_map_streams_ended", "Map streams that ended, by reason.", ["reason"], registry=self.registry
        )
        self.map_requests = Counter("tailbox_map_requests", "Map requests, by kind.", ["kind"], registry=self.registry)
        self.registrations = Counter(
            "tailbox_registrations", "Answers to register requests, by result.", ["result"], registry=self.registry
        )
        self.sign_ins = Counter("tailbox_sign_ins", "Console sign-ins, by result.", ["result"], registry=self.registry)
        self.event_streams = Gauge("tailbox_event_streams", "Open event streams (SSE).", registry=self.registry)
        self.requests = Counter(
            "tailbox_http_requests", "REST requests.", ["route", "method", "status"], registry=self.registry
        )
        self.request_duration = Histogram(
            "tailbox_http_request_duration_seconds",
            "Time to the answer of a REST request.",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )

    def watch(
        self, *, nodes: Callable[[], float], nodes_online: Callable[[], float], store_failures: Callable[[], float]
    ) -> None:
        """Read these gauges from the coordinator whenever somebody asks."""
        self.nodes.set_function(nodes)
        self.nodes_online.set_function(nodes_online)
        self.store_failures.set_function(store_failures)

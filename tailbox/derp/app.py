"""The relay as a service: `/derp` in its three forms, probes and pages, STUN, metrics, health.

```text
Upgrade: DERP, or an old client's "websocket" without a key → raw stream, 101 unless Derp-Fast-Start
WebSocket with subprotocol derp                             → the same bytes in binary messages
anything else on /derp                                      → 426
```
Source: tailscale derp/derpserver/{handler,websocket}.go, cmd/derper/derper.go; spec: derp.md §2, §4.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from tailbox.clock import Clock
from tailbox.derp.admission import Admission, AdmissionByAll, AdmissionByUrl, OpenAdmission
from tailbox.derp.config import DerpConfig
from tailbox.derp.metrics import RelayCollector, relay_registry
from tailbox.derp.pages import relay_routes
from tailbox.derp.relay_server import RelayServer
from tailbox.derp.stun_responder import StunResponder
from tailbox.randomness import RandomSource
from tailbox.runtime.network import Network
from tailbox.runtime.service import Address, AddressInUse, ListenError, Service
from tailbox.runtime.status_routes import Health
from tailbox.runtime.upgrade import ByteStream, UpgradeRequest, accept, refuse
from tailbox.runtime.websocket import websocket_route
from tailbox.telemetry.events import EventLog
from tailbox.wire.derp import PROTOCOL_VERSION
from tailbox.wire.keys import NodePrivateKey

UPGRADE_TOKENS = ("derp", "websocket")  # handler.go
BOOTSTRAP_REFRESH_S = 600.0  # bootstrap_dns.go
RETRY_AFTER_S = 5  # ours: for newcomers beyond the limits


class DerpRole:
    """A relay with its surroundings. `service` goes to the composition root."""

    def __init__(
        self,
        config: DerpConfig,
        private_key: NodePrivateKey,
        *,
        network: Network,
        clock: Clock,
        random: RandomSource,
        admission: Admission | None = None,
        events: EventLog | None = None,
    ) -> None:
        """`admission`: asked besides `verify_client_url`, if that is set; without either everybody may come."""
        self.config = config
        self._network = network
        self._by_url = (
            AdmissionByUrl(config.verify_client_url, clock=clock, fail_open=config.verify_client_url_fail_open)
            if config.verify_client_url
            else None
        )
        rules = [rule for rule in (admission, self._by_url) if rule is not None]
        self.server = RelayServer(
            config,
            private_key,
            admission=AdmissionByAll(rules) if rules else OpenAdmission(),
            clock=clock,
            random=random,
            events=events,
        )
        self.stun = StunResponder(network, port=max(0, config.stun_port), answers_any=config.answers_any_stun)
        self._bootstrap: Mapping[str, Sequence[str]] = {}

    def service(self) -> Service:
        """Routes, upgrades, registry and lifespan."""
        server = self.server
        collector = RelayCollector(server.counters, self.stun.counters, server.budget, lambda: server.keys)
        return Service(
            name="derp",
            routes=[
                websocket_route("/derp", self._serve_websocket, subprotocol="derp"),
                *relay_routes(self.config.home_page, lambda: self._bootstrap),
            ],
            upgrades={"/derp": self._serve_upgrade},
            lifespan=self._lifespan,
            registry=relay_registry(collector),
            health=self._health,
        )

    def _health(self) -> Health:
        wants_stun = self.config.stun_port >= 0
        return Health(
            is_healthy=not wants_stun or bool(self.stun.ports),
            details={"connections": self.server.counters.current_connections, "stun": bool(self.stun.ports)},
        )

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        if self.config.stun_port >= 0:
            self._start_stun()
        refresher = asyncio.create_task(self._refresh_bootstrap(), name="derp bootstrap names")
        try:
            yield
        finally:
            refresher.cancel()
            await asyncio.wait([refresher])
            self.server.close()
            self.stun.close()
            if self._by_url is not None:
                await self._by_url.close()

    def _start_stun(self) -> None:
        """Raises AddressInUse, ListenError."""
        try:
            self.stun.start()
        except OSError as error:
            kind = AddressInUse if error.errno == errno.EADDRINUSE else ListenError
            why = f"{error.strerror or error} (UDP, for STUN; stun_port sets another)"
            raise kind(Address("", self.config.stun_port), why) from None

    async def _serve_upgrade(self, request: UpgradeRequest, stream: ByteStream) -> None:
        if request.protocol not in UPGRADE_TOKENS:
            stream.write(refuse(426, "DERP requires connection upgrade\n", {"Upgrade": "DERP"}))
            return
        is_fast_start = request.headers.get("derp-fast-start") == "1"
        if self.server.arrivals.refusal(request.peer[0] if request.peer else None) is not None:
            if not is_fast_start:
                stream.write(refuse(503, "relay is busy\n", {"Retry-After": str(RETRY_AFTER_S)}))
            return
        if not is_fast_start:
            fields = {"Derp-Version": str(PROTOCOL_VERSION), "Derp-Public-Key": self.server.public_key.raw.hex()}
            stream.write(accept("DERP", fields))
        await self.server.serve(stream, peer=request.peer, is_ideal=not request.headers.get("ideal-node"))

    async def _serve_websocket(self, request: UpgradeRequest, stream: ByteStream) -> None:
        if self.server.arrivals.refusal(request.peer[0] if request.peer else None) is None:
            is_ideal = not request.headers.get("ideal-node")
            await self.server.serve(stream, peer=request.peer, is_ideal=is_ideal, is_websocket=True)

    async def _refresh_bootstrap(self) -> None:
        """Names that stay unresolved keep the addresses they had."""
        while self.config.bootstrap_dns_names:
            found = dict(self._bootstrap)
            for name in self.config.bootstrap_dns_names:
                ipv4 = await self._network.resolve(name, socket.AF_INET)
                addresses = ipv4 + await self._network.resolve(name, socket.AF_INET6)
                if addresses:
                    found[name] = addresses
            self._bootstrap = found
            await asyncio.sleep(BOOTSTRAP_REFRESH_S)

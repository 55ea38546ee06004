"""Underlay, engine, netcheck and forwarder of one node, wired to each other: everything that packets touch."""

from __future__ import annotations

from collections.abc import Callable

from tailbox.clock import Clock
from tailbox.node.core.engine import Engine, EngineEvent, Transmit
from tailbox.node.core.tap import PacketTap
from tailbox.node.driver import EngineDriver
from tailbox.node.forwarder import Forwarder
from tailbox.node.netcheck_runner import NetcheckRunner
from tailbox.node.traffic import Traffic
from tailbox.node.underlay import Underlay
from tailbox.node.underlay_events import EndpointUnreachable, UnderlayEvent
from tailbox.paths.events import FreshEndpointsWanted
from tailbox.paths.path import Direct, Path, Relayed
from tailbox.wire.control.derp_map import DERPMap
from tailbox.wire.keys import NodePrivateKey, NodePublicKey
from tailbox.wire.train import Train


class DataPath:
    """Made by its owner in the order underlay, engine, netcheck, since each needs the former."""

    def __init__(
        self,
        clock: Clock,
        *,
        make_underlay: Callable[[DataPath], Underlay],
        make_engine: Callable[[Transmit], Engine],
        make_netcheck: Callable[[Underlay], NetcheckRunner],
        forward_to: str,
        relays_only: bool,
        tap: PacketTap | None,
        on_engine_event: Callable[[EngineEvent], None],
        on_underlay_event: Callable[[UnderlayEvent], None],
    ) -> None:
        """The callables hear of events after what follows from them here has been done.

        `relays_only`: nothing leaves directly, pongs included, so that no peer takes a direct path to us either.
        """
        self._relays_only = relays_only
        self._tell_engine_event = on_engine_event
        self._tell_underlay_event = on_underlay_event
        self.traffic = Traffic()
        self.underlay = make_underlay(self)
        self.driver = EngineDriver(
            make_engine(self._transmit),
            clock,
            on_event=self._on_engine_event,
            on_pending=lambda pending: self.forwarder.offer(pending),
            on_stun=self._on_stun,
            reply=self._reply,
        )
        self.forwarder = Forwarder(self.driver, host=forward_to, tap=tap)
        self.netcheck = make_netcheck(self.underlay)

    def set_derp_map(self, derp_map: DERPMap | None) -> None:
        """Where relays are."""
        self.underlay.set_derp_map(derp_map)
        self.netcheck.set_derp_map(derp_map)

    def set_identity(self, key: NodePrivateKey, public_key: NodePublicKey) -> None:
        """Another node key: sessions and relay links start over."""
        self.driver.engine.set_identity(key, public_key)
        self.underlay.set_private_key(key)

    async def rebind(self) -> None:
        """The network changed: new sockets, and every path is searched anew. Raises OSError."""
        await self.underlay.rebind()
        self.driver.perform(self.driver.engine.rebind(now=self.driver.now))
        self.netcheck.network_changed()

    async def close(self) -> None:
        self.netcheck.close()
        self.driver.close()
        await self.underlay.close()

    # What the underlay calls.

    def on_train(self, train: Train, source: Path, relay_peer: NodePublicKey | None) -> None:
        self.traffic.note_inbound(train, source)
        if type(source) is Relayed:
            self.netcheck.heard_relay(source.region_id)
        self.driver.on_train(train, source, relay_peer)

    def on_underlay_event(self, event: UnderlayEvent) -> None:
        if isinstance(event, EndpointUnreachable):
            now = self.driver.now
            self.driver.perform(self.driver.engine.endpoint_failed(event.peer, event.endpoint, now=now))
        self._tell_underlay_event(event)

    def on_peer_gone(self, peer: NodePublicKey, region_id: int) -> None:
        self.driver.perform(self.driver.engine.relay_gone(peer, region_id, now=self.driver.now))

    # What the engine and its driver call.

    def _transmit(self, path: Path, peer: NodePublicKey, train: Train) -> None:
        if self._relays_only and type(path) is Direct:
            return
        self.traffic.note_outbound(train, path)
        self.underlay.send(path, peer, train)

    def _on_engine_event(self, event: EngineEvent) -> None:
        if isinstance(event, FreshEndpointsWanted):
            self.netcheck.request()
        self._tell_engine_event(event)

    def _on_stun(self, message: bytes, source: Path) -> None:
        if isinstance(source, Direct):
            self.netcheck.handle_stun(message)

    def _reply(self, source: Path, relay_peer: NodePublicKey | None, datagram: bytes) -> None:
        if isinstance(source, Direct):
            self.underlay.send_datagram(source.endpoint, datagram)
        elif relay_peer is not None:
            self.underlay.send(source, relay_peer, Train.of(datagram))

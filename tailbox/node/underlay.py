"""The underlay: a Path → UDP or DERP, and back.

It owns the UDP sockets, one per family, and the relay links, and decides nothing. Received trains are handed on as they
come, STUN, disco and WireGuard alike: the engine tells them apart. They are valid until the callback returns.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path as FilePath
from typing import Final

from tailbox.clock import Clock
from tailbox.node.derp_dial import DialSettings, plain_http_wanted
from tailbox.node.derp_link import LinkSurroundings, RelayCounters
from tailbox.node.derp_links import DerpLinks
from tailbox.node.local_addresses import usable_addresses
from tailbox.node.udp_socket import TrainSocket, UdpCounters
from tailbox.node.underlay_events import EndpointUnreachable, UdpUnavailable, UnderlayEvent
from tailbox.paths.path import Direct, Path
from tailbox.randomness import RandomSource
from tailbox.runtime.network import Network
from tailbox.runtime.supervisor import Supervisor
from tailbox.wire.addresses import Endpoint
from tailbox.wire.control.derp_map import DERPMap
from tailbox.wire.keys import NodePrivateKey, NodePublicKey
from tailbox.wire.train import Train

RELAYS_ONLY_VARIABLE: Final = "TS_DEBUG_ALWAYS_USE_DERP"  # upstream's name, and its values
TELL_AGAIN_AFTER_S = 60.0  # ours: refusals of one address
MAX_TOLD = 1024  # ours: refusals remembered

OnTrain = Callable[[Train, Path, NodePublicKey | None], None]


def relays_only_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment asks to reach no peer directly: STUN goes on, everything else goes by relay."""
    return environment.get(RELAYS_ONLY_VARIABLE, "").lower() in ("1", "true", "t")


@dataclass(frozen=True, slots=True)
class UnderlaySnapshot:
    """Counts and state, for metrics and status pages."""

    udp4: UdpCounters
    udp6: UdpCounters
    relays: RelayCounters
    connected_regions: tuple[int, ...]
    unroutable_packets: int  # for a family or region that we have no socket or address for


class Underlay:
    """Sockets and relay links of one node."""

    def __init__(
        self,
        network: Network,
        clock: Clock,
        on_train: OnTrain,
        *,
        random: RandomSource,
        supervisor: Supervisor | None = None,
        on_event: Callable[[UnderlayEvent], None] = lambda event: None,
        on_peer_gone: Callable[[NodePublicKey, int], None] = lambda peer, region_id: None,
        include_loopback: bool = False,
        plain_http_relays: bool | None = None,
        relay_authorities: FilePath | None = None,
        use_offload: bool = True,
    ) -> None:
        """`include_loopback`: offer loopback addresses although there are others, for labs on one machine.

        `plain_http_relays`: no TLS towards any relay; None: as TS_DEBUG_USE_DERP_HTTP says. `use_offload`: off for
        kernels, or tests, without UDP_SEGMENT and UDP_GRO. `on_event` gets EndpointUnreachable too, never from within
        `send` and once a minute for an address: tell the engine.
        """
        self._network = network
        self._clock = clock
        self._on_train = on_train
        self._on_event = on_event
        self._include_loopback = include_loopback
        self._use_offload = use_offload
        self._relays_only = relays_only_wanted()
        self._udp4: TrainSocket | None = None
        self._udp6: TrainSocket | None = None
        self._counters = {4: UdpCounters(), 6: UdpCounters()}
        self._unroutable_packets = 0
        self._unreachable: list[EndpointUnreachable] = []  # to be told at the loop's next turn
        self._told_at: dict[EndpointUnreachable, float] = {}
        self._relay_counters = RelayCounters()
        plain_http = plain_http_wanted() if plain_http_relays is None else plain_http_relays
        around = LinkSurroundings(
            network=network,
            clock=clock,
            random=random,
            dial_settings=DialSettings(clock.unix_time, plain_http, relay_authorities),
            on_train=on_train,
            on_peer_gone=on_peer_gone,
            on_event=on_event,
            counters=self._relay_counters,
        )
        self._supervisor = supervisor or Supervisor(clock=clock, random=random)
        self._links = DerpLinks(around, self._supervisor)

    async def start(self, port: int = 0) -> None:
        """Bind UDP sockets of both families, at `port` if it is free, else at any. Raises OSError without IPv4."""
        self._bind(port)

    @property
    def port(self) -> int:
        """Of the IPv4 socket; 0 before `start`."""
        return self._udp4.port if self._udp4 is not None else 0

    @property
    def has_ipv6(self) -> bool:
        return self._udp6 is not None

    @property
    def connected_regions(self) -> tuple[int, ...]:
        """Regions whose relay carries packets for us now."""
        return self._links.ready_regions

    def send(self, path: Path, peer: NodePublicKey, train: Train) -> None:
        """Send every packet of the train. Never blocks: what finds no room is dropped and counted."""
        if type(path) is Direct:
            if self._relays_only:
                self._unroutable_packets += len(train)
                return
            error = self._send_udp(path.endpoint, train)
            if error is not None:
                self._tell_later(EndpointUnreachable(peer, path.endpoint, error.strerror or str(error)))
        else:
            self._links.send(path.region_id, peer, train)  # type: ignore[union-attr]

    def send_datagram(self, endpoint: Endpoint, datagram: bytes) -> bool:
        """One datagram that belongs to no peer: a STUN request. False: there is no way to the address."""
        is_routable = (self._udp6 if endpoint.ip.version == 6 else self._udp4) is not None
        return self._send_udp(endpoint, Train.of(datagram)) is None and is_routable

    def local_endpoints(self) -> tuple[Endpoint, ...]:
        """Where our sockets can be reached from nearby: addresses of our interfaces, IPv4 first."""
        ports = {4: self._udp4.port if self._udp4 else 0, 6: self._udp6.port if self._udp6 else 0}
        addresses = usable_addresses(self._network.interface_addresses(), include_loopback=self._include_loopback)
        return tuple(Endpoint(ip, ports[ip.version]) for ip in addresses if ports[ip.version])

    def set_private_key(self, private_key: NodePrivateKey | None) -> None:
        """Log in to relays with this key; open links log in again."""
        self._links.set_private_key(private_key)

    def set_derp_map(self, derp_map: DERPMap | None) -> None:
        """Where relays are; links to regions that changed or went are dropped."""
        self._links.set_derp_map(derp_map)

    def set_home(self, region_id: int) -> None:
        """Keep a link to this region open at all times; 0: to none."""
        self._links.set_home(region_id)

    async def rebind(self) -> None:
        """The network changed: open the UDP sockets anew, on the same port if possible, and examine relay links."""
        port = self.port
        self._close_sockets()
        self._bind(port)
        self._links.probe()

    def snapshot(self) -> UnderlaySnapshot:
        return UnderlaySnapshot(
            udp4=self._counters[4],
            udp6=self._counters[6],
            relays=self._relay_counters,
            connected_regions=self._links.ready_regions,
            unroutable_packets=self._unroutable_packets + self._links.unroutable_packets,
        )

    async def close(self) -> None:
        """Close sockets and links. Harmless twice."""
        self._close_sockets()
        await self._links.close()

    def _send_udp(self, endpoint: Endpoint, train: Train) -> OSError | None:
        udp = self._udp6 if type(endpoint.ip) is IPv6Address else self._udp4
        if udp is None:
            self._unroutable_packets += len(train)
            return None
        return udp.send(train, endpoint)

    def _tell_later(self, event: EndpointUnreachable) -> None:
        """From the loop, since the sender is in the middle of something; not for every ping of a hopeless address."""
        now = self._clock.monotonic()
        if now - self._told_at.get(event, float("-inf")) < TELL_AGAIN_AFTER_S:
            return
        if len(self._told_at) >= MAX_TOLD:
            self._told_at.clear()
        self._told_at[event] = now
        if not self._unreachable:
            asyncio.get_running_loop().call_soon(self._tell_unreachable)
        self._unreachable.append(event)

    def _tell_unreachable(self) -> None:
        events, self._unreachable = self._unreachable, []
        for event in events:
            self._on_event(event)

    def _bind(self, port: int) -> None:
        """Both families on one port where that is possible. IPv6 may be missing."""
        self._udp4 = self._open(socket.AF_INET, port)
        try:
            self._udp6 = self._open(socket.AF_INET6, self._udp4.port)
        except OSError as error:
            self._udp6 = None
            self._on_event(UdpUnavailable(6, error.strerror or str(error)))

    def _open(self, family: socket.AddressFamily, port: int) -> TrainSocket:
        version = 6 if family == socket.AF_INET6 else 4
        for attempt in dict.fromkeys((port, 0)):
            try:
                return TrainSocket(
                    self._network,
                    family,
                    attempt,
                    on_train=self._on_udp_train,
                    on_event=self._on_event,
                    counters=self._counters[version],
                    use_offload=self._use_offload,
                )
            except OSError:
                if attempt == 0:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _on_udp_train(self, train: Train, source: Direct) -> None:
        self._on_train(train, source, None)

    def _close_sockets(self) -> None:
        for udp in (self._udp4, self._udp6):
            if udp is not None:
                udp.close()
        self._udp4 = self._udp6 = None

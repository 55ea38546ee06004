"""A tailnet node inside the caller's event loop.

```python
async with tailbox.Node(login_server="http://127.0.0.1:8080", auth_key="tskey-…", hostname="alpha") as node:
    reader, writer = await node.open_connection("beta", 80)
```

Entering the block starts the node; joining goes on by itself. What needs the tailnet (`open_connection`, `ping`,
`open_datagram`) waits until the node is up; `wait_running` waits for it alone. Without an auth key somebody has to
visit `auth_url`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Self
from weakref import WeakSet

import httpx

from tailbox.clock import Clock
from tailbox.errors import ConfigError, Malformed, NotFound, TailboxError
from tailbox.node.backend import Backend
from tailbox.node.config import NodeConfig
from tailbox.node.core.engine import EngineEffects
from tailbox.node.core.netmap_view import addresses_of
from tailbox.node.core.socks5 import ProxyLogin
from tailbox.node.core.status import BackendState, NodeStatus, PingResult, WhoIs
from tailbox.node.core.tap import PacketTap
from tailbox.node.httpx_transport import TailnetTransport
from tailbox.node.local_api import LocalApi
from tailbox.node.proxy import Dialer, ProxyServer, Unreachable
from tailbox.node.status_builder import build_status
from tailbox.node.streams import ConnectionHandler, StackDatagrams, StackServer, stream_pair
from tailbox.paths.path import Direct, Relayed
from tailbox.randomness import RandomSource
from tailbox.runtime.network import HostNetwork, Network
from tailbox.runtime.settings import parse_listen
from tailbox.runtime.system import SystemClock, SystemRandom
from tailbox.telemetry.events import EventLog
from tailbox.userspace_stack.stack import TcpSocket
from tailbox.wire.addresses import Endpoint, IPAddress, parse_ip
from tailbox.wire.control.node import Node as WireNode
from tailbox.wire.control.node import UserProfile
from tailbox.wire.keys import NodePublicKey
from tailbox.wire.socks5 import Destination

UP_TIMEOUT_S = 60.0  # ours: what operations wait for the node to come up
PING_TIMEOUT_S = 5.0  # cmd/tailscale/cli/ping.go


class LoginFailed(TailboxError):
    """The coordinator refused, in its own words."""


class Node:
    """One node: its identity, its tunnels, its sockets."""

    def __init__(
        self,
        config: NodeConfig | None = None,
        *,
        network: Network | None = None,
        clock: Clock | None = None,
        random: RandomSource | None = None,
        events: EventLog | None = None,
        tap: PacketTap | None = None,
        include_loopback: bool = False,
        **settings: Any,
    ) -> None:
        """`settings` are NodeConfig's fields, instead of a `config`. `include_loopback`: offer peers loopback
        addresses, for several nodes on one machine. Raises ConfigError."""
        if config is not None and settings:
            raise TypeError("either a NodeConfig or its fields")
        self.config = config or NodeConfig(**settings)
        self._clock = clock or SystemClock()
        self._network = network or HostNetwork()
        self._random = random or SystemRandom()
        self._tap = tap
        self._include_loopback = include_loopback
        self.events = events or EventLog(self._clock.unix_time)
        self._backend: Backend | None = None
        self._proxy: ProxyServer | None = None
        self._local_api: LocalApi | None = None
        self._servers: list[StackServer] = []
        self._transports: WeakSet[asyncio.WriteTransport] = WeakSet()  # of users; they end with the node
        self._datagrams: WeakSet[StackDatagrams] = WeakSet()
        self.proxy_address: Endpoint | None = None

    # Life.

    async def start(self) -> None:
        """Open sockets and begin to join. Raises ConfigError, OSError, ListenError."""
        if self._backend is not None:
            raise RuntimeError("the node was started already")
        backend = Backend(
            self.config,
            network=self._network,
            clock=self._clock,
            random=self._random,
            events=self.events,
            tap=self._tap,
            include_loopback=self._include_loopback,
        )
        await backend.start()
        self._backend = backend
        self._dialer = Dialer(backend.driver, self._connect)
        try:
            if self.config.socks5_server:
                self._start_proxy(self.config.socks5_server)
            self._local_api = LocalApi(self, backend)
            await self._local_api.start(self.config.socket_path, self.config.metrics_listen)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End everything, within two seconds. Harmless twice."""
        backend, self._backend = self._backend, None
        if backend is None:
            return
        if self._local_api is not None:
            await self._local_api.close()
        if self._proxy is not None:
            await self._proxy.close()
        for server in self._servers:
            server.close()
        for transport in list(self._transports):
            transport.abort()
        for datagrams in list(self._datagrams):
            datagrams.close()
        await asyncio.sleep(0)  # resets go out, and whoever reads learns of the end
        await backend.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def wait_running(self, timeout_s: float | None = UP_TIMEOUT_S) -> None:
        """Until the node is up. Raises LoginFailed when the coordinator refuses, TimeoutError."""
        backend = self._running()
        async with asyncio.timeout(timeout_s):
            while backend.state is not BackendState.RUNNING:
                if backend.session.last_error:
                    raise LoginFailed(backend.session.last_error)
                if backend.state is BackendState.STOPPED:
                    raise LoginFailed("the node is down")
                await backend.wait_for_change()

    async def up(self) -> None:
        """Undo `down`."""
        self._running().up()

    async def down(self) -> None:
        """Leave the tailnet and stay logged in."""
        await self._running().down()

    async def logout(self) -> None:
        """End the login. Raises ControlError while the coordinator cannot be told."""
        await self._running().logout()

    def login(self, *, auth_key: str = "", force: bool = False) -> None:
        """Ask to log in, anew with `force`. The outcome shows in the state, or `auth_url`."""
        self._running().login(auth_key=auth_key, force=force)

    # What may be asked.

    @property
    def state(self) -> BackendState:
        return self._running().state

    @property
    def auth_url(self) -> str:
        """Where somebody has to sign in, or ""."""
        return self._running().session.auth_url

    async def auth_urls(self) -> AsyncIterator[str]:
        """Each sign-in address as it comes, until the node is up."""
        backend, shown = self._running(), ""
        while backend.state is not BackendState.RUNNING:
            if backend.session.auth_url not in ("", shown):
                shown = backend.session.auth_url
                yield shown
                continue  # it may have changed while the caller was busy
            await backend.wait_for_change()

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """Our tailnet addresses, IPv4 first; empty before the first netmap."""
        netmap = self._running().netmap
        return addresses_of(netmap.self_node) if netmap else ()

    def status(self) -> NodeStatus:
        return build_status(self._running())

    def whois(self, address: str) -> WhoIs | None:
        """Who holds a tailnet address, or is behind a forwarded connection from 127.0.0.1:port."""
        backend = self._running()
        netmap = backend.netmap
        ip, _ = self._split(address)
        if netmap is None or ip is None:
            return None
        for node in (netmap.self_node, *netmap.peers.values()):
            if ip in addresses_of(node):
                owner = netmap.users.get(node.user, UserProfile(id=node.user))
                return WhoIs(node, owner, self._capabilities(ip))
        return None

    async def ping(self, peer: str, *, kind: str = "disco", timeout_s: float = PING_TIMEOUT_S) -> PingResult:
        """Ping by name or address. `kind`: disco (the path), TSMP or ICMP (through the tunnel). Never raises for a
        peer that does not answer: the result's `error` says why."""
        backend = self._running()
        await self.wait_running()
        ip = self._resolve(peer)
        if ip is None:
            return PingResult(ip=peer, error="no matching peer")
        if ip in self.addresses:
            return PingResult(ip=str(ip), error=f"{ip} is local Tailscale IP", is_local=True)
        key = backend.driver.engine.dataplane.routes.peer_for(ip.packed)
        node = self._peer_node(key)
        if key is None or node is None:
            return PingResult(ip=str(ip), error="no matching peer")
        try:
            latency_s, path = await self._ping(key, ip, kind.lower(), timeout_s)
        except TimeoutError:
            return PingResult(ip=str(ip), node_name=node.name, error="timed out")
        region = path.region_id if isinstance(path, Relayed) else 0
        name = node.name.partition(".")[0]
        return PingResult(
            ip=str(ip),
            node_ip=str(ip),
            node_name=name,
            latency_s=latency_s,
            endpoint=str(path.endpoint) if isinstance(path, Direct) else "",
            region_id=region,
            region_code=self._region_code(region),
        )

    # Sockets.

    async def open_connection(
        self, host: str, port: int, *, timeout_s: float = 30.0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As asyncio.open_connection, to a node of the tailnet. Raises OSError, NotFound for unknown names."""
        await self.wait_running()
        tcp = await self._dial(host, port, timeout_s)
        reader, writer = stream_pair(tcp, self._running().driver, tap=self._tap)
        self._transports.add(writer.transport)
        return reader, writer

    async def start_server(self, handler: ConnectionHandler, port: int) -> StackServer:
        """As asyncio.start_server, on our tailnet addresses; port 0 takes a free one. Raises StackError."""
        backend = self._running()
        listener = backend.driver.engine.stack.listen_tcp(port)

        def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Awaitable[None] | None:
            self._transports.add(writer.transport)
            return handler(reader, writer)

        server = StackServer(listener, backend.driver, handle, tap=self._tap)
        self._servers.append(server)
        return server

    async def open_datagram(
        self, host: str | None = None, port: int | None = None, *, local_port: int = 0
    ) -> StackDatagrams:
        """A UDP port of ours, with a destination if one is given. Raises NotFound, StackError."""
        await self.wait_running()
        backend = self._running()
        remote = None
        if host is not None:
            ip = self._resolve(host)
            if ip is None or port is None:
                raise NotFound(f"no node {host!r}")
            remote = Endpoint(ip, port)
        datagrams = StackDatagrams(backend.driver.engine.stack.bind_udp(local_port), backend.driver, remote)
        self._datagrams.add(datagrams)
        return datagrams

    def httpx_transport(self, **options: Any) -> httpx.AsyncBaseTransport:
        """For `httpx.AsyncClient(transport=…)`: requests to nodes of the tailnet. `options`: `verify` for https."""
        return TailnetTransport(self.open_connection, **options)

    # Inside.

    def _running(self) -> Backend:
        if self._backend is None:
            raise RuntimeError("the node is not started")
        return self._backend

    def _perform(self, effects: EngineEffects) -> None:
        self._running().driver.perform(effects)

    def _start_proxy(self, listen: str) -> None:
        host, port = parse_listen("socks5_server", listen)
        config, backend = self.config, self._running()
        login = None
        if config.socks5_password:
            login = ProxyLogin(config.socks5_user.encode(), config.socks5_password.encode())
        proxy = ProxyServer(backend.driver, self._dialer, login=login, tap=self._tap)
        try:
            self.proxy_address = proxy.start(host, port)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise ConfigError("socks5_server", listen, f"cannot listen there: {why}") from None
        self._proxy = proxy

    def _connect(self, endpoint: Endpoint) -> TcpSocket:
        driver = self._running().driver
        return driver.engine.stack.connect_tcp(endpoint, now=driver.now)

    async def _dial(self, host: str, port: int, timeout_s: float) -> TcpSocket:
        endpoint = self._dialer.tailnet_endpoint(Destination(host, port))
        if endpoint is None:
            raise Unreachable(f"{host} is not in the tailnet")
        return await self._dialer.dial(endpoint, timeout_s=timeout_s)

    async def _ping(
        self, key: NodePublicKey, ip: IPAddress, kind: str, timeout_s: float
    ) -> tuple[float, Direct | Relayed | None]:
        backend = self._running()
        driver, pings = backend.driver, backend.pings
        if kind == "disco":
            return await pings.disco(
                key, lambda: self._perform(driver.engine.ping(key, now=driver.now)), timeout_s=timeout_s
            )
        data = self._random.bytes(8)

        def send() -> None:
            if kind == "tsmp":
                self._perform(driver.engine.tsmp_ping(ip, data, now=driver.now))
            else:
                identifier, sequence = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
                driver.engine.stack.send_echo(
                    ip, identifier=identifier, sequence=sequence, payload=data, now=driver.now
                )
                driver.touched()

        return await pings.through_tunnel(data, send, now=lambda: driver.now, timeout_s=timeout_s)

    def _resolve(self, wanted: str) -> IPAddress | None:
        ip, _ = self._split(wanted)
        if ip is not None:
            return ip
        found = self._running().driver.engine.names.resolve(wanted)
        return found[0] if found else None

    def _split(self, address: str) -> tuple[IPAddress | None, int]:
        """`ip`, `ip:port`, a node key; a forwarded connection's loopback address becomes its peer's."""
        backend = self._running()
        if address.startswith("nodekey:"):
            node = next((peer for peer in self._nodes() if peer.key.text == address.lower()), None)
            return (addresses_of(node) or (None,))[0] if node else None, 0
        try:
            return parse_ip(address), 0
        except Malformed:
            pass
        try:
            endpoint = Endpoint.parse(address)
        except Malformed:
            return None, 0
        origin = backend.forwarder.origin_of(endpoint) or endpoint
        return origin.ip, origin.port

    def _nodes(self) -> tuple[WireNode, ...]:
        netmap = self._running().netmap
        return (netmap.self_node, *netmap.peers.values()) if netmap else ()

    def _peer_node(self, key: NodePublicKey | None) -> WireNode | None:
        return next((node for node in self._nodes() if node.key == key), None)

    def _region_code(self, region_id: int) -> str:
        netmap = self._running().netmap
        regions = netmap.derp_map.regions if netmap else {}
        region = regions.get(region_id) if isinstance(regions, dict) else None
        return region.region_code if region else ""

    def _capabilities(self, source: IPAddress) -> dict[str, list[object]]:
        rules = self._running().driver.engine.dataplane.rules
        own = [address for address in self.addresses if address.version == source.version]
        return rules.capabilities(source.packed, own[0].packed) if own else {}

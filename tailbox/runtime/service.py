"""One HTTP server for all roles of a process: routes, upgrades, `/healthz`, `/metrics`.

A role describes itself as a `Service`; the composition root gives the services of a process to `serve`, which listens
on all the addresses it is told. Beneath is uvicorn's HTTP and WebSocket implementation without uvicorn's process
handling: no signals, no exits, no polling. `HttpServer` knows no sockets and can be driven over simulated ones.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import BaseRoute
from uvicorn.server import ServerState

from tailbox.errors import ConfigError, TailboxError
from tailbox.runtime.status_routes import Health, status_routes
from tailbox.runtime.upgrade import UpgradeHandler, upgrade_protocol

BACKLOG = 1024  # ours: connections the kernel accepts for us; a relay's clients come back all at once
KEEP_ALIVE_S = 30  # ours: an idle connection between two requests
TLS_HANDSHAKE_TIMEOUT_S = 10.0  # ours
MAX_WEBSOCKET_MESSAGE_BYTES = 1024 * 1024  # ours: messages are pieces of a stream, and ours are below 32 KiB
KEEP_ALIVE_IDLE_S = 60  # ours: silence before TCP asks whether the other end is still there
STUCK_PEER_S = 120  # ours: data without acknowledgement, or a closed window, for this long ends a connection
GRACE_S = 1.0  # ours: what connections and tasks get to end by themselves when the server stops

log = logging.getLogger(__name__)


class ListenError(TailboxError):
    """An address that cannot be listened on."""

    def __init__(self, address: Address | Path, why: str) -> None:
        super().__init__(f"cannot listen on {address}: {why}")
        self.address = address


class AddressInUse(ListenError):
    """Somebody else listens there already: the caller may try the next port."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port. An empty host means every interface, IPv4 and IPv6; port 0 any free port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host:port`, `[::1]:port` or `:port`. Raises ConfigError."""
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ConfigError("listen address", text, "wanted host:port")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ConfigError("listen address", text, "an IPv6 address needs brackets")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen: TCP, TLS over TCP, or a unix socket that only its owner may open."""

    at: Address | Path
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Bound:
    """An address that is listened on, with the real port."""

    address: Address | Path
    is_tls: bool

    @property
    def url(self) -> str:
        """For people; every interface is shown as localhost."""
        if isinstance(self.address, Path):
            return f"unix:{self.address}"
        host = {"0.0.0.0": "127.0.0.1", "::": "localhost", "": "localhost"}.get(self.address.host, self.address.host)
        return f"{'https' if self.is_tls else 'http'}://{Address(host, self.address.port)}"


@dataclass(frozen=True, slots=True)
class Service:
    """What a role gives to the composition root."""

    name: str  # "coord", "derp": the key in `/healthz`
    routes: Sequence[BaseRoute] = ()
    upgrades: Mapping[str, UpgradeHandler] = field(default_factory=dict)  # by path
    lifespan: Callable[[], AbstractAsyncContextManager[object]] | None = None  # entered before listening, left last
    registry: CollectorRegistry | None = None  # what `/metrics` shows of it
    health: Callable[[], Health] = Health  # must not block


class HttpServer:
    """The HTTP side of a set of services: a protocol for each accepted connection, and their common end."""

    def __init__(self, services: Sequence[Service]) -> None:
        upgrades: dict[str, UpgradeHandler] = {}
        for service in services:
            for path, handler in service.upgrades.items():
                if path in upgrades:
                    raise ConfigError("services", path, "two of them want this path")
                upgrades[path] = handler
        routes = [route for service in services for route in service.routes]
        self._config = uvicorn.Config(
            Starlette(routes=[*status_routes(services), *routes]),
            http=upgrade_protocol(upgrades),
            ws="websockets-sansio",  # the one of uvicorn's three that neither warns nor needs another package
            ws_max_size=MAX_WEBSOCKET_MESSAGE_BYTES,
            ws_per_message_deflate=False,  # sealed bytes do not compress
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._config.load()
        self._state = ServerState()

    def protocol(self) -> asyncio.Protocol:
        """The protocol of one accepted connection."""
        return self._config.http_protocol_class(  # type: ignore[call-arg]  # uvicorn's own constructor, not asyncio's
            config=self._config, server_state=self._state, app_state={}
        )

    @property
    def connections(self) -> int:
        return len(self._state.connections)

    async def stop(self) -> None:
        """End every connection and task: politely, then by cancellation."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + GRACE_S
        for connection in list(self._state.connections):
            try:
                connection.shutdown()
            except Exception:  # uvicorn's WebSocket raises when its peer is saying goodbye at this very moment
                connection.transport.abort()
        while (self._state.connections or self._state.tasks) and loop.time() < deadline:
            if self._state.tasks:
                await asyncio.wait(self._state.tasks, timeout=0.02)
            else:
                await asyncio.sleep(0.02)  # uvicorn tells nobody when its last connection is gone
        unfinished = list(self._state.tasks)
        for task in unfinished:
            task.cancel("server stops")
        for connection in list(self._state.connections):
            connection.transport.abort()
        if unfinished:
            await asyncio.wait(unfinished, timeout=GRACE_S / 2)


class RunningServer:
    """What `serve` returns. Also an async context manager that stops at its end."""

    def __init__(self, http: HttpServer, servers: Sequence[asyncio.Server], bound: tuple[Bound, ...]) -> None:
        self.addresses = bound
        self._http = http
        self._servers = servers
        self._lifespans = AsyncExitStack()
        self._stopped = asyncio.Event()
        self._stopping = False

    @property
    def address(self) -> Address:
        """The first TCP address."""
        return next(bound.address for bound in self.addresses if isinstance(bound.address, Address))

    @property
    def url(self) -> str:
        """The first address, as a URL for people."""
        return self.addresses[0].url

    async def stop(self) -> None:
        """Stop listening, end all connections, leave the lifespans. Takes under two seconds; harmless twice."""
        if self._stopping:
            await self._stopped.wait()
            return
        self._stopping = True
        for server in self._servers:
            server.close()
        try:
            await self._http.stop()
            for bound in self.addresses:
                if isinstance(bound.address, Path):
                    bound.address.unlink(missing_ok=True)
        finally:
            await self._lifespans.aclose()
            self._stopped.set()

    async def wait(self) -> None:
        """Until somebody has stopped it."""
        await self._stopped.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.stop()


async def serve(services: Sequence[Service], *, listen: Sequence[Listen]) -> RunningServer:
    """Start all services on all addresses; returns once they answer. Stopping is up to the caller.

    Raises AddressInUse or ListenError before any lifespan has been entered, and whatever a lifespan raises.
    """
    sockets: list[tuple[Listen, socket.socket]] = []
    async with AsyncExitStack() as on_failure:
        for wanted in listen:
            bound = _bind(wanted.at)
            on_failure.callback(bound.close)
            sockets.append((wanted, bound))
        http = HttpServer(services)
        lifespans = await on_failure.enter_async_context(AsyncExitStack())
        for service in services:
            if service.lifespan is not None:
                await lifespans.enter_async_context(service.lifespan())
        servers = []
        for wanted, each in sockets:
            servers.append(await _accept_on(http, each, wanted.tls))
            on_failure.callback(servers[-1].close)
        running = RunningServer(http, servers, tuple(_bound(wanted, each) for wanted, each in sockets))
        running._lifespans = lifespans.pop_all()
        on_failure.pop_all()
        return running


async def _accept_on(http: HttpServer, bound: socket.socket, tls: ssl.SSLContext | None) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    timeout = None if tls is None else TLS_HANDSHAKE_TIMEOUT_S
    start = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
    return await start(http.protocol, sock=bound, ssl=tls, ssl_handshake_timeout=timeout, backlog=BACKLOG)


def _bound(wanted: Listen, listening: socket.socket) -> Bound:
    if isinstance(wanted.at, Path):
        return Bound(wanted.at, is_tls=wanted.tls is not None)
    host, port = listening.getsockname()[:2]
    return Bound(Address(host, port), is_tls=wanted.tls is not None)


def _bind(at: Address | Path) -> socket.socket:
    try:
        return _bind_unix(at) if isinstance(at, Path) else _bind_tcp(at)
    except OSError as error:
        kind = AddressInUse if error.errno == errno.EADDRINUSE else ListenError
        raise kind(at, error.strerror or str(error)) from None


def _bind_tcp(address: Address) -> socket.socket:
    if not address.host:
        is_dual = socket.has_dualstack_ipv6()
        return _bind_to(socket.AF_INET6 if is_dual else socket.AF_INET, ("" if is_dual else "0.0.0.0", address.port))
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, target = found[0]
    return _bind_to(family, (str(target[0]), address.port))


def _bind_to(family: int, target: tuple[str, int]) -> socket.socket:
    # With the protocol named, because asyncio turns Nagle's algorithm off for such sockets only; socket.create_server
    # leaves it out, and every second small write would then wait 40 ms for the other end's delayed acknowledgement.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    _end_dead_connections(bound)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if target[0] else 0)
        bound.bind(target)
        bound.listen(BACKLOG)  # here, so that a port already listened on shows before anything has started
    except OSError:
        bound.close()
        raise
    return bound


def _end_dead_connections(listening: socket.socket) -> None:
    """Accepted connections inherit these: a peer that is gone, or that reads nothing, ends within STUCK_PEER_S."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", KEEP_ALIVE_IDLE_S), ("TCP_USER_TIMEOUT", STUCK_PEER_S * 1000)):
        option = getattr(socket, name, None)  # Linux
        if option is not None:
            listening.setsockopt(socket.IPPROTO_TCP, option, value)


def _bind_unix(path: Path) -> socket.socket:
    """A socket file of mode 0600. One that a dead process left is replaced; one that answers is in use."""
    probe = socket.socket(socket.AF_UNIX)
    with probe:
        probe.settimeout(0.5)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            path.unlink(missing_ok=True)
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    bound = socket.socket(socket.AF_UNIX)
    previous = os.umask(0o177)
    try:
        bound.bind(str(path))
    except OSError:
        bound.close()
        raise
    finally:
        os.umask(previous)
    return bound

"""Connections that arrive at the node's own address, passed on to 127.0.0.1.

The local port is dialled before the SYN is answered, so that a closed port looks closed. UDP flows get a local socket
each, bound to the peer's port where that is free. Source: tailscale wgengine/netstack/netstack.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from dataclasses import dataclass

from tailbox.node.core.tap import PacketTap
from tailbox.node.driver import EngineDriver
from tailbox.node.pump import Pump
from tailbox.userspace_stack.errors import StackError
from tailbox.userspace_stack.stack import PendingConnection, PendingFlow, UdpSocket
from tailbox.wire.addresses import Endpoint, parse_ip

DIAL_TIMEOUT_S = 10.0  # ours: loopback answers at once, but backlogs may be full
MAX_DIALS = 1024  # ours
MAX_UDP_FLOWS = 1024  # ours
UDP_IDLE_S = 120.0  # netstack.go
DNS_IDLE_S = 30.0  # netstack.go, destination port 53
SWEEP_S = 10.0  # ours: how exactly idle times are kept
MAX_DATAGRAM_BYTES = 65_535


@dataclass(slots=True)
class ForwarderCounters:
    """For metrics."""

    connections: int = 0
    refused: int = 0
    flows: int = 0


class Forwarder:
    """Local services of a node, as seen from the tailnet."""

    def __init__(self, driver: EngineDriver, *, host: str = "127.0.0.1", tap: PacketTap | None = None) -> None:
        """`host` "" forwards nothing: every port is closed."""
        self._driver = driver
        self._host = host
        self._tap = tap
        self._loop = asyncio.get_running_loop()
        self._dials: set[asyncio.Task[None]] = set()
        self._pumps: set[Pump] = set()
        self._flows: set[_UdpFlow] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._origins: dict[Endpoint, Endpoint] = {}
        self.counters = ForwarderCounters()

    def offer(self, pending: PendingConnection | PendingFlow) -> None:
        """Take a new flow, or refuse it."""
        if isinstance(pending, PendingFlow):
            self._offer_flow(pending)
        elif not self._host or len(self._dials) >= MAX_DIALS:
            self._refuse(pending)
        else:
            task = self._loop.create_task(self._dial(pending), name="forward")
            self._dials.add(task)
            task.add_done_callback(self._dials.discard)

    def origin_of(self, local: Endpoint) -> Endpoint | None:
        """Who is behind a connection that a local service sees from 127.0.0.1:port; for whois."""
        return self._origins.get(local)

    async def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        dials = list(self._dials)
        for task in dials:
            task.cancel()
        await asyncio.gather(*dials, return_exceptions=True)
        for pump in list(self._pumps):
            pump.close(reset=True)
        for flow in list(self._flows):
            flow.close()

    # TCP.

    def _refuse(self, pending: PendingConnection) -> None:
        self.counters.refused += 1
        if pending.is_open:
            pending.refuse(self._driver.now)
        self._driver.touched()

    async def _dial(self, pending: PendingConnection) -> None:
        local = socket.socket(_family(self._host), socket.SOCK_STREAM)
        try:
            local.setblocking(False)
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                await self._loop.sock_connect(local, (self._host, pending.local.port))
            if not pending.is_open:
                raise ConnectionResetError("the peer gave up")
            tcp = pending.accept(self._driver.now)
        except (OSError, StackError):
            local.close()
            self._refuse(pending)
            return
        except BaseException:
            local.close()
            self._refuse(pending)
            raise
        self.counters.connections += 1
        tcp.keep_alive()
        here = _endpoint(local)
        self._origins[here] = pending.remote

        def done(pump: Pump) -> None:
            self._pumps.discard(pump)
            self._origins.pop(here, None)

        pump = Pump(local, tcp, self._driver, on_done=done, tap=self._tap)
        self._pumps.add(pump)
        pump.start()

    # UDP.

    def _offer_flow(self, pending: PendingFlow) -> None:
        if not self._host or len(self._flows) >= MAX_UDP_FLOWS:
            pending.drop()
            self._driver.touched()
            return
        try:
            local = _open_udp(self._host, pending.remote.port)
            local.connect((self._host, pending.local.port))
        except OSError:
            pending.drop()
            self._driver.touched()
            return
        try:
            udp = pending.accept(self._driver.now)
        except StackError:
            local.close()
            return
        self.counters.flows += 1
        flow = _UdpFlow(self, udp, local, pending.local.port, pending.remote)
        self._flows.add(flow)
        self._origins[_endpoint(local)] = pending.remote
        flow.start()
        self._driver.touched()
        if self._sweep is None:
            self._sweep = self._loop.call_later(SWEEP_S, self._sweep_idle)

    def _sweep_idle(self) -> None:
        self._sweep = None
        now = self._driver.now
        for flow in [flow for flow in self._flows if flow.is_idle(now)]:
            flow.close()
        if self._flows:
            self._sweep = self._loop.call_later(SWEEP_S, self._sweep_idle)

    def forget(self, flow: _UdpFlow) -> None:
        self._flows.discard(flow)
        self._origins.pop(flow.here, None)


class _UdpFlow:
    """Datagrams of one peer's port to one of ours."""

    def __init__(self, owner: Forwarder, udp: UdpSocket, local: socket.socket, port: int, remote: Endpoint) -> None:
        self._owner = owner
        self._driver = owner._driver
        self._udp = udp
        self._local = local
        self._remote = remote
        self._idle_s = DNS_IDLE_S if port == 53 else UDP_IDLE_S
        self._used_at = self._driver.now
        self._loop = asyncio.get_running_loop()
        self.here = _endpoint(local)

    def start(self) -> None:
        self._driver.watch(self._udp, self._on_peer)
        self._loop.add_reader(self._local, self._on_local)
        self._on_peer()

    def is_idle(self, now: float) -> bool:
        return now - self._used_at >= self._idle_s

    def close(self) -> None:
        self._loop.remove_reader(self._local)
        self._local.close()
        self._driver.unwatch(self._udp)
        self._udp.close()
        self._driver.touched()
        self._owner.forget(self)

    def _on_peer(self) -> None:
        self._used_at = self._driver.now
        while (received := self._udp.receive()) is not None:
            with contextlib.suppress(OSError):  # nobody listens there, or no room: datagrams may be lost
                self._local.send(received[0])

    def _on_local(self) -> None:
        self._used_at = self._driver.now
        for _ in range(64):
            try:
                data = self._local.recv(MAX_DATAGRAM_BYTES)
            except OSError:
                break
            with contextlib.suppress(StackError):
                self._udp.send_to(data, self._remote)
        self._driver.touched()


def _open_udp(host: str, port: int) -> socket.socket:
    """Bound to the wanted port, or to any if that is busy."""
    local = socket.socket(_family(host), socket.SOCK_DGRAM)
    local.setblocking(False)
    try:
        local.bind((host, port))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            local.close()
            raise
        local.bind((host, 0))
    return local


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _endpoint(local: socket.socket) -> Endpoint:
    host, port = local.getsockname()[:2]
    return Endpoint(parse_ip(host), port)

"""The proxy port: SOCKS5 and HTTP on one listener, told apart by their first byte.

Names go through MagicDNS, tailnet addresses into the stack, anything else out by the machine's own network, as upstream
does; tailnet addresses that nobody holds are refused rather than leaked. Source: tailscale net/proxymux/mux.go,
net/socks5/socks5.go, net/tsdial/tsdial.go, cmd/tailscaled/proxy.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from tailbox.errors import TailboxError, WireError
from tailbox.node.core.http_proxy import CONNECTED, HttpRequest, find_head_end, parse_request, refusal
from tailbox.node.core.socks5 import AssociateWanted, ConnectWanted, Failed, ProxyLogin, Send, SocksServer
from tailbox.node.core.tap import PacketTap
from tailbox.node.driver import EngineDriver
from tailbox.node.plain_pump import PlainPump
from tailbox.node.pump import Pump
from tailbox.node.streams import wait_established
from tailbox.node.udp_association import UdpAssociation
from tailbox.userspace_stack.errors import StackError
from tailbox.userspace_stack.stack import TcpSocket
from tailbox.wire.addresses import Endpoint, IPAddress, is_tailnet_address, parse_ip
from tailbox.wire.socks5 import Destination, ReplyCode

FIRST_WORD_TIMEOUT_S = 15.0  # net/proxymux/mux.go for the first byte; here for the whole request
DIAL_TIMEOUT_S = 10.0  # ours; upstream gives SOCKS5 5 s, too short for a handshake by way of a far relay
MAX_CLIENTS = 4096  # ours: connections, half-open ones included
MAX_WAITING_CLIENTS = 1024  # ours: of these, in the middle of their request
SOCKS_VERSION = 5
RECEIVE_BYTES = 16 * 1024

log = logging.getLogger(__name__)


class Unreachable(TailboxError):
    """A destination that cannot be dialled."""

    def __init__(self, why: str, code: ReplyCode = ReplyCode.HOST_UNREACHABLE) -> None:
        super().__init__(why)
        self.code = code


class Dialer:
    """Where a destination is: in the tailnet, or outside."""

    def __init__(self, driver: EngineDriver, connect: Callable[[Endpoint], TcpSocket]) -> None:
        self._driver = driver
        self._connect = connect

    def tailnet_endpoint(self, destination: Destination) -> Endpoint | None:
        """The overlay address of a destination, or None if it lies outside. Raises Unreachable."""
        ip = self._literal(destination.host)
        if ip is None:
            found = self._driver.engine.names.resolve(str(destination.host))
            if not found:
                return None
            ip = found[0]
        dataplane = self._driver.engine.dataplane
        if dataplane.is_own(ip.packed) or dataplane.routes.peer_for(ip.packed) is not None:
            return Endpoint(ip, destination.port)
        if is_tailnet_address(ip):
            raise Unreachable(f"no node has {ip}")
        return None

    async def dial(self, endpoint: Endpoint, *, timeout_s: float = DIAL_TIMEOUT_S) -> TcpSocket:
        """Connect inside the tailnet. Raises OSError or StackError."""
        tcp = self._connect(endpoint)
        await wait_established(tcp, self._driver, timeout_s=timeout_s)
        return tcp

    async def dial_outside(self, destination: Destination) -> socket.socket:
        """Connect by the machine's own network. Raises OSError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            found = await loop.getaddrinfo(str(destination.host), destination.port, type=socket.SOCK_STREAM)
            error: OSError = OSError(errno.EHOSTUNREACH, "no address")
            for family, kind, protocol, _, address in found:
                opened = socket.socket(family, kind, protocol)
                opened.setblocking(False)
                try:
                    await loop.sock_connect(opened, address)
                    return opened
                except OSError as failed:
                    opened.close()
                    error = failed
                except BaseException:
                    opened.close()
                    raise
            raise error

    def _literal(self, host: IPAddress | str) -> IPAddress | None:
        if not isinstance(host, str):
            return host
        try:
            return parse_ip(host)
        except WireError:
            return None


@dataclass(slots=True)
class ProxyCounters:
    """For metrics."""

    accepted: int = 0
    refused: int = 0  # over a limit
    failed: int = 0  # bad requests, timeouts, destinations that did not answer


class ProxyServer:
    """The listener and its clients."""

    def __init__(
        self,
        driver: EngineDriver,
        dialer: Dialer,
        *,
        login: ProxyLogin | None = None,
        tap: PacketTap | None = None,
    ) -> None:
        self._driver = driver
        self._dialer = dialer
        self._login = login
        self._tap = tap
        self._loop = asyncio.get_running_loop()
        self._listening: socket.socket | None = None
        self._waiting: set[asyncio.Task[None]] = set()
        self._pumps: set[Pump | PlainPump] = set()
        self.counters = ProxyCounters()

    def start(self, host: str, port: int) -> Endpoint:
        """Listen. Raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        dual = host in ("", "::") and socket.has_dualstack_ipv6()
        listening = (
            socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
            if dual
            else socket.create_server((host, port), family=family)
        )
        listening.setblocking(False)
        self._listening = listening
        self._loop.add_reader(listening, self._on_accept)
        bound = listening.getsockname()
        return Endpoint(parse_ip(bound[0]), bound[1])

    @property
    def open_connections(self) -> int:
        return len(self._pumps) + len(self._waiting)

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._listening is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        waiting = list(self._waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for pump in list(self._pumps):
            pump.close(reset=True)

    def _on_accept(self) -> None:
        assert self._listening is not None
        for _ in range(64):
            try:
                client, _ = self._listening.accept()
            except OSError:
                return  # nobody there, or the client is gone already, or we are out of files: the loop asks again
            client.setblocking(False)
            if len(self._waiting) >= MAX_WAITING_CLIENTS or self.open_connections >= MAX_CLIENTS:
                self.counters.refused += 1
                client.close()
                continue
            self.counters.accepted += 1
            task = self._loop.create_task(self._serve(client), name="proxy client")
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _serve(self, client: socket.socket) -> None:
        """From the first byte to the pump, which then owns the socket."""
        handed_over = False
        try:
            async with asyncio.timeout(FIRST_WORD_TIMEOUT_S):
                first = await self._loop.sock_recv(client, RECEIVE_BYTES)
            if first[:1] == bytes((SOCKS_VERSION,)):
                handed_over = await self._serve_socks(client, first)
            elif first:
                handed_over = await self._serve_http(client, first)
        except (OSError, TailboxError):  # TimeoutError is an OSError
            self.counters.failed += 1
        finally:
            if not handed_over:
                client.close()

    # SOCKS5.

    async def _serve_socks(self, client: socket.socket, data: bytes) -> bool:
        server = SocksServer(login=self._login)
        async with asyncio.timeout(FIRST_WORD_TIMEOUT_S):
            while True:
                for event in server.receive_bytes(data):
                    if isinstance(event, Send):
                        await self._loop.sock_sendall(client, event.data)
                    elif isinstance(event, Failed):
                        self.counters.failed += 1
                        return False
                    else:
                        wanted: ConnectWanted | AssociateWanted = event
                        break
                else:
                    data = await self._loop.sock_recv(client, RECEIVE_BYTES)
                    if not data:
                        return False
                    continue
                break
        if isinstance(wanted, AssociateWanted):
            return await self._associate(client, server)
        return await self._connect_socks(client, server, wanted.destination)

    async def _connect_socks(self, client: socket.socket, server: SocksServer, destination: Destination) -> bool:
        try:
            remote = await self._open(destination)
        except (OSError, TailboxError) as error:
            self.counters.failed += 1
            await self._say(client, server.fail(_reply_code(error)))
            return False
        self._start(client, remote, early=server.early_bytes, reply=server.succeed(_bound(remote)))
        return True

    async def _associate(self, client: socket.socket, server: SocksServer) -> bool:
        """The UDP relay lives as long as the control connection."""
        association = UdpAssociation(self._driver, self._dialer.tailnet_endpoint, client)
        try:
            bound = association.start()
        except OSError:
            association.close()
            await self._say(client, server.fail())
            return False
        try:
            await self._loop.sock_sendall(client, server.succeed(Destination(bound.ip, bound.port)))
            while await self._loop.sock_recv(client, 512):
                pass  # nothing is meant to come; the end is what counts
        finally:
            association.close()
        return False

    # HTTP.

    async def _serve_http(self, client: socket.socket, data: bytes) -> bool:
        try:
            async with asyncio.timeout(FIRST_WORD_TIMEOUT_S):
                while (end := find_head_end(data)) < 0:
                    more = await self._loop.sock_recv(client, RECEIVE_BYTES)
                    if not more:
                        return False
                    data += more
            request = parse_request(data[:end], login=self._login)
        except PermissionError:
            await self._say(client, refusal(407, "Proxy Authentication Required"))
            return False
        except WireError as error:
            self.counters.failed += 1
            await self._say(client, refusal(400, "Bad Request", str(error)))
            return False
        return await self._connect_http(client, request, data[end:])

    async def _connect_http(self, client: socket.socket, request: HttpRequest, early: bytes) -> bool:
        try:
            remote = await self._open(request.destination)
        except (OSError, TailboxError) as error:
            self.counters.failed += 1
            status, reason = (500, "Internal Server Error") if request.is_connect else (502, "Bad Gateway")
            await self._say(client, refusal(status, reason, str(error) or type(error).__name__))
            return False
        if request.is_connect:
            self._start(client, remote, early=early, reply=CONNECTED)
            return True
        body = early if request.body_bytes is None else early[: request.body_bytes]
        total = None if request.body_bytes is None else len(request.head) + request.body_bytes
        self._start(client, remote, early=request.head + body, client_bytes=total)
        return True

    # Both.

    async def _open(self, destination: Destination) -> TcpSocket | socket.socket:
        if not destination.port:
            raise Unreachable("port 0", ReplyCode.GENERAL_FAILURE)
        endpoint = self._dialer.tailnet_endpoint(destination)
        if endpoint is not None:
            return await self._dialer.dial(endpoint)
        return await self._dialer.dial_outside(destination)

    def _start(
        self,
        client: socket.socket,
        remote: TcpSocket | socket.socket,
        *,
        early: bytes,
        reply: bytes = b"",
        client_bytes: int | None = None,
    ) -> None:
        pump: Pump | PlainPump
        if isinstance(remote, socket.socket):
            pump = PlainPump(client, remote, on_done=self._pumps.discard, client_bytes=client_bytes)
        else:
            pump = Pump(
                client, remote, self._driver, on_done=self._pumps.discard, client_bytes=client_bytes, tap=self._tap
            )
        self._pumps.add(pump)
        pump.start(early, reply=reply)

    async def _say(self, client: socket.socket, data: bytes) -> None:
        """The last words to a client; it may not listen."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(2.0):
                await self._loop.sock_sendall(client, data)
                client.shutdown(socket.SHUT_WR)


def _reply_code(error: Exception) -> ReplyCode:
    if isinstance(error, Unreachable):
        return error.code
    if isinstance(error, ConnectionRefusedError):
        return ReplyCode.CONNECTION_REFUSED
    if isinstance(error, TimeoutError | StackError | socket.gaierror):
        return ReplyCode.HOST_UNREACHABLE
    return ReplyCode.GENERAL_FAILURE


def _bound(remote: TcpSocket | socket.socket) -> Destination:
    if isinstance(remote, socket.socket):
        host, port = remote.getsockname()[:2]
        with contextlib.suppress(WireError):
            return Destination(parse_ip(host), port)
        return Destination(IPv4Address(0), 0)
    return Destination(remote.local.ip, remote.local.port)

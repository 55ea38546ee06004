"""The network as an object: what shells ask for sockets, so that a simulation can take its place.

Addresses here are plain (host, port) pairs: this package knows no protocol of ours.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from tailbox.runtime.byte_stream import ByteStream, TransportStream

CONNECT_TIMEOUT_S = 10.0  # ours: name, TCP and TLS together
HAPPY_EYEBALLS_DELAY_S = 0.25  # RFC 8305 §5
IPV6_INTERFACES = Path("/proc/net/if_inet6")
SIOCGIFCONF = 0x8912  # linux/sockios.h: the IPv4 addresses of all interfaces
_MAX_INTERFACES = 1024  # ours: room for that many in one SIOCGIFCONF
_IFREQ_BYTES = 40  # struct ifreq on 64-bit Linux: name 16, sockaddr 16, padding

Address = tuple[str, int]  # host and port
SocketAddress = tuple[str, int] | tuple[str, int, int, int]  # what the socket module takes and gives
WritableBuffer = bytearray | memoryview


class UdpSocket(Protocol):
    """The part of a non-blocking socket.socket that datagram shells use."""

    def sendto(self, data: bytes | memoryview, address: SocketAddress, /) -> int: ...

    def sendmsg(
        self,
        buffers: Iterable[bytes | memoryview],
        ancdata: Iterable[tuple[int, int, bytes]] = ...,
        flags: int = ...,
        address: SocketAddress | None = ...,
        /,
    ) -> int: ...

    def recvmsg_into(
        self, buffers: Iterable[WritableBuffer], ancbufsize: int = ..., flags: int = ..., /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, SocketAddress]: ...

    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...

    def getsockopt(self, level: int, option: int, /) -> int: ...

    def getsockname(self) -> SocketAddress: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How to secure a connection that we open."""

    context: ssl.SSLContext
    server_name: str  # for SNI and, unless the context says otherwise, verification
    verify: Callable[[ssl.SSLObject], None] | None = None  # raises to refuse, after the handshake


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """One address of this machine."""

    interface: str
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address


class Network(Protocol):
    """Sockets, readiness and names: the machine's, or a simulation's."""

    def open_udp(self, family: socket.AddressFamily, port: int) -> UdpSocket:
        """A non-blocking socket on all addresses of the family. Raises OSError."""
        ...

    def watch_readable(self, watched: UdpSocket, callback: Callable[[], None] | None) -> None:
        """Call back whenever there is something to receive; None: no more."""
        ...

    def watch_writable(self, watched: UdpSocket, callback: Callable[[], None] | None) -> None:
        """Call back whenever there is room to send; None: no more."""
        ...

    async def connect_tcp(self, host: str, port: int, *, tls: TlsOptions | None = None) -> ByteStream:
        """Raises OSError (TLS and time-out errors are OSErrors)."""
        ...

    async def resolve(self, host: str, family: socket.AddressFamily) -> tuple[str, ...]:
        """Addresses of a name, or of a literal; empty if there are none."""
        ...

    def interface_addresses(self) -> tuple[InterfaceAddress, ...]:
        """Addresses of interfaces that are up, loopback included."""
        ...


class HostNetwork:
    """The machine's network, driven by the running event loop."""

    def open_udp(self, family: socket.AddressFamily, port: int) -> socket.socket:
        opened = socket.socket(family, socket.SOCK_DGRAM)
        try:
            opened.setblocking(False)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
        except OSError:
            opened.close()
            raise
        return opened

    def watch_readable(self, watched: UdpSocket, callback: Callable[[], None] | None) -> None:
        assert isinstance(watched, socket.socket)
        loop = asyncio.get_running_loop()
        if callback is None:
            loop.remove_reader(watched)
        else:
            loop.add_reader(watched, callback)

    def watch_writable(self, watched: UdpSocket, callback: Callable[[], None] | None) -> None:
        assert isinstance(watched, socket.socket)
        loop = asyncio.get_running_loop()
        if callback is None:
            loop.remove_writer(watched)
        else:
            loop.add_writer(watched, callback)

    async def connect_tcp(self, host: str, port: int, *, tls: TlsOptions | None = None) -> ByteStream:
        loop = asyncio.get_running_loop()
        connect: Callable[..., Awaitable[tuple[asyncio.Transport, TransportStream]]] = loop.create_connection
        if isinstance(loop, asyncio.BaseEventLoop) and not _is_literal(host):
            # Not for one address: a race that is cancelled at the wrong moment leaves its socket open. uvloop's loop
            # has no such option and tries addresses in turn.
            connect = partial(connect, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY_S)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            transport, stream = await connect(
                TransportStream,
                host,
                port,
                ssl=tls.context if tls else None,
                server_hostname=tls.server_name if tls else None,
            )
        if (connected := transport.get_extra_info("socket")) is not None:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None and tls.verify is not None:
            try:
                tls.verify(transport.get_extra_info("ssl_object"))
            except BaseException:
                transport.abort()
                raise
        return stream

    async def resolve(self, host: str, family: socket.AddressFamily) -> tuple[str, ...]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, family=family, type=socket.SOCK_DGRAM)
        except OSError:
            return ()
        return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))

    def interface_addresses(self) -> tuple[InterfaceAddress, ...]:
        return tuple(_ipv4_addresses()) + tuple(_ipv6_addresses())


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _ipv4_addresses() -> Iterable[InterfaceAddress]:
    """By SIOCGIFCONF, which names interfaces that are up. Elsewhere than on Linux: by our own host name."""
    try:
        import array
        import fcntl
        import struct

        room = array.array("B", bytes(_MAX_INTERFACES * _IFREQ_BYTES))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            request = struct.pack("iP", len(room), room.buffer_info()[0])
            filled = struct.unpack("iP", fcntl.ioctl(asked, SIOCGIFCONF, request))[0]
    except (ImportError, OSError):
        yield from _addresses_by_name()
        return
    records = room.tobytes()[:filled]
    for start in range(0, filled, _IFREQ_BYTES):
        name = records[start : start + 16].partition(b"\0")[0].decode(errors="replace")
        yield InterfaceAddress(name, ipaddress.IPv4Address(records[start + 20 : start + 24]))


def _ipv6_addresses() -> Iterable[InterfaceAddress]:
    """From /proc/net/if_inet6: address, index, prefix length, scope, flags, name."""
    try:
        lines = IPV6_INTERFACES.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if len(fields) == 6 and len(fields[0]) == 32:
            yield InterfaceAddress(fields[5], ipaddress.IPv6Address(bytes.fromhex(fields[0])))


def _addresses_by_name() -> Iterable[InterfaceAddress]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, family=socket.AF_INET, type=socket.SOCK_DGRAM)
    except OSError:
        found = []
    for entry in found:
        yield InterfaceAddress("", ipaddress.IPv4Address(str(entry[4][0])))
    yield InterfaceAddress("lo", ipaddress.IPv4Address("127.0.0.1"))

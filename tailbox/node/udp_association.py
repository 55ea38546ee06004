"""A SOCKS5 UDP association: a relay socket beside the control connection.

Datagrams come from the client's host only, the first sender's port is the client's from then on. Tailnet destinations
go through one UDP socket of the stack, others through one of the machine. Source: RFC 1928 §7, tailscale
net/socks5/socks5.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from ipaddress import IPv6Address

from tailbox.errors import TailboxError, WireError
from tailbox.node.driver import EngineDriver
from tailbox.userspace_stack.stack import UdpSocket
from tailbox.wire.addresses import Endpoint, parse_ip
from tailbox.wire.socks5 import Destination, UdpDatagram

MAX_DATAGRAM_BYTES = 65_535
MAX_DATAGRAMS_A_TURN = 64  # ours


class UdpAssociation:
    """One client's relay."""

    def __init__(
        self, driver: EngineDriver, resolve: Callable[[Destination], Endpoint | None], control: socket.socket
    ) -> None:
        """`resolve` gives the overlay address of a destination, None for those outside, or raises TailboxError."""
        self._driver = driver
        self._resolve = resolve
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._relay: socket.socket | None = None
        self._outside: socket.socket | None = None
        self._inside: UdpSocket | None = None
        self._client_host = ""
        self._client: tuple[object, ...] | None = None
        self.dropped = 0

    def start(self) -> Endpoint:
        """Bind on the address the client reached us at. Raises OSError."""
        host = self._control.getsockname()[0]
        self._client_host = self._control.getpeername()[0]
        self._relay = socket.socket(self._control.family, socket.SOCK_DGRAM)
        self._relay.setblocking(False)
        self._relay.bind((host, 0))
        self._loop.add_reader(self._relay, self._on_client)
        ip = parse_ip(host.partition("%")[0])
        mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None  # of a listener for both families
        return Endpoint(mapped or ip, self._relay.getsockname()[1])

    def close(self) -> None:
        for opened in (self._relay, self._outside):
            if opened is not None:
                self._loop.remove_reader(opened)
                opened.close()
        if self._inside is not None:
            self._driver.unwatch(self._inside)
            self._inside.close()
            self._driver.touched()

    def _on_client(self) -> None:
        assert self._relay is not None
        for _ in range(MAX_DATAGRAMS_A_TURN):
            try:
                data, sender = self._relay.recvfrom(MAX_DATAGRAM_BYTES)
            except OSError:
                return
            if self._client is None and sender[0] == self._client_host:
                self._client = sender
            if sender != self._client:
                self.dropped += 1
                continue
            try:
                self._forward(UdpDatagram.decode(data))
            except (TailboxError, OSError):
                self.dropped += 1

    def _forward(self, datagram: UdpDatagram) -> None:
        endpoint = self._resolve(datagram.destination)
        if endpoint is not None:
            self._inside_socket().send_to(datagram.payload, endpoint)
            self._driver.touched()
            return
        host = datagram.destination.host
        if isinstance(host, str):
            raise WireError("names outside the tailnet are not looked up for datagrams")
        if host.version != 4:
            raise WireError("IPv6 outside the tailnet is not relayed")
        self._outside_socket().sendto(datagram.payload, (str(host), datagram.destination.port))

    def _inside_socket(self) -> UdpSocket:
        if self._inside is None:
            self._inside = self._driver.engine.stack.bind_udp()
            self._driver.watch(self._inside, self._on_inside)
        return self._inside

    def _outside_socket(self) -> socket.socket:
        if self._outside is None:
            self._outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._outside.setblocking(False)
            self._loop.add_reader(self._outside, self._on_outside)
        return self._outside

    def _on_inside(self) -> None:
        assert self._inside is not None
        while (received := self._inside.receive()) is not None:
            payload, source = received
            self._to_client(UdpDatagram(Destination(source.ip, source.port), payload))

    def _on_outside(self) -> None:
        assert self._outside is not None
        for _ in range(MAX_DATAGRAMS_A_TURN):
            try:
                payload, source = self._outside.recvfrom(MAX_DATAGRAM_BYTES)
            except OSError:
                return
            self._to_client(UdpDatagram(Destination(parse_ip(source[0]), source[1]), payload))

    def _to_client(self, datagram: UdpDatagram) -> None:
        if self._relay is not None and self._client is not None:
            with contextlib.suppress(OSError):
                self._relay.sendto(datagram.encode(), self._client)

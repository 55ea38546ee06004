"""A firewall between the nodes of a classroom, to be opened and closed by hand: closed, they only reach the relay.

It stands where a hard NAT would: UDP between nodes is dropped, STUN passes, TCP is not touched. So a lesson sees what
relays are for before it sees the direct path.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from tailbox.runtime.network import HostNetwork, SocketAddress

STUN_COOKIE = b"\x21\x12\xa4\x42"  # RFC 8489 §5, bytes 4 to 7


class Firewall:
    """One for the whole room."""

    def __init__(self, *, is_closed: bool = True) -> None:
        self.is_closed = is_closed
        self.dropped_datagrams = 0

    def passes(self, head: bytes) -> bool:
        """Judge a datagram by its first bytes, and count those that are lost."""
        if not self.is_closed or head[4:8] == STUN_COOKIE:
            return True
        self.dropped_datagrams += 1
        return False


class FirewalledNetwork(HostNetwork):
    """The machine's network, with a firewall before every UDP socket."""

    def __init__(self, firewall: Firewall) -> None:
        self._firewall = firewall

    def open_udp(self, family: socket.AddressFamily, port: int) -> socket.socket:
        opened = super().open_udp(family, port)
        return _FirewalledSocket(self._firewall, opened)


class _FirewalledSocket(socket.socket):
    """Takes over an open socket. What is dropped counts as sent, as with any firewall on the way."""

    def __init__(self, firewall: Firewall, opened: socket.socket) -> None:
        super().__init__(opened.family, opened.type, opened.proto, fileno=opened.detach())
        self.setblocking(False)
        self._firewall = firewall

    def sendto(self, data: bytes | memoryview, address: SocketAddress, /) -> int:  # type: ignore[override]  # no flags
        return super().sendto(data, address) if self._firewall.passes(bytes(data[:8])) else len(data)

    def sendmsg(  # type: ignore[override]  # socket.socket takes any buffer, we those of trains
        self,
        buffers: Iterable[bytes | memoryview],
        ancdata: Iterable[tuple[int, int, bytes]] = (),
        flags: int = 0,
        address: SocketAddress | None = None,
        /,
    ) -> int:
        pieces = tuple(buffers)
        if pieces and not self._firewall.passes(bytes(pieces[0][:8])):
            return sum(map(len, pieces))
        return super().sendmsg(pieces, ancdata, flags, address)

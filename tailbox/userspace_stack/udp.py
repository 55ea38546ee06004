"""Datagram sockets. A datagram is a packet: no trains here, and no waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tailbox.userspace_stack.connection_table import ConnectionTable
from tailbox.userspace_stack.errors import NoAddress, PayloadTooLarge, SocketClosed
from tailbox.userspace_stack.events import DropReason
from tailbox.wire.addresses import Endpoint, IPAddress
from tailbox.wire.ip import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, Protocol, build_packet
from tailbox.wire.udp import UDP_HEADER_BYTES, UdpDatagram

PENDING_FLOW_S = 30.0
MAX_PENDING_DATAGRAMS = 16  # of one flow that waits for the forwarder

SourceFor = Callable[[IPAddress], IPAddress | None]


class UdpSocket:
    """A bound port, or one flow of a forwarder (`remote` is set then)."""

    def __init__(
        self,
        table: ConnectionTable,
        local: Endpoint | None,
        port: int,
        mtu: int,
        source_for: SourceFor,
        is_own: Callable[[IPAddress], bool],
        on_close: Callable[[UdpSocket], None],
        *,
        remote: Endpoint | None = None,
    ) -> None:
        self.ip = local.ip if local else None  # None: all of our addresses
        self.port = port
        self.remote = remote
        self.is_closed = False
        self.drops = 0  # datagrams that did not fit the queue
        self.is_unreachable = False  # an ICMP error said so; cleared by the next datagram that arrives
        self._table = table
        self._mtu = mtu
        self._source_for = source_for
        self._is_own = is_own
        self._on_close = on_close
        self._queue: deque[tuple[bytes, Endpoint]] = deque()
        self._queued_bytes = 0

    @property
    def local(self) -> Endpoint:
        """Bound to all addresses, the default IPv4 one stands for them, else IPv6's. Raises NoAddress without any."""
        if self.ip is not None:
            return Endpoint(self.ip, self.port)
        for family in (_ANY_IPV4, _ANY_IPV6):
            source = self._source_for(family)
            if source is not None:
                return Endpoint(source, self.port)
        raise NoAddress("the stack has no address yet")

    def send_to(self, payload: bytes | memoryview, remote: Endpoint) -> None:
        """Send one datagram. Raises SocketClosed, NoAddress, PayloadTooLarge (the stack does not fragment)."""
        if self.is_closed:
            raise SocketClosed("the socket is closed")
        source = self.ip or self._source_for(remote.ip)
        if source is None or source.version != remote.ip.version:
            raise NoAddress(f"no IPv{remote.ip.version} address to send from")
        if len(payload) > largest_payload(self._mtu, remote.ip.version):
            raise PayloadTooLarge(f"{len(payload)} bytes of payload at an MTU of {self._mtu}")
        message = UdpDatagram(self.port, remote.port, bytes(payload)).encode(source, remote.ip)
        packet = build_packet(source, remote.ip, Protocol.UDP, message)
        self._table.outbox.post(packet, loops=self._is_own(remote.ip))

    def receive(self) -> tuple[bytes, Endpoint] | None:
        """The oldest datagram and who sent it, or None."""
        if not self._queue:
            return None
        payload, remote = self._queue.popleft()
        self._queued_bytes -= len(payload)
        return payload, remote

    def close(self) -> None:
        """Harmless twice. Datagrams in the queue may still be received."""
        if not self.is_closed:
            self.is_closed = True
            self._on_close(self)

    def deliver(self, payload: bytes, remote: Endpoint) -> None:
        """A datagram arrived. A full queue drops it: the newest, so that order and age mean something."""
        limits = self._table.limits
        too_many = len(self._queue) >= limits.udp_queue_datagrams
        if too_many or self._queued_bytes + len(payload) > limits.udp_queue_bytes:
            self.drops += 1
            self._table.drops[DropReason.QUEUE_FULL] += 1
            return
        self.is_unreachable = False
        self._queue.append((payload, remote))
        self._queued_bytes += len(payload)
        self._table.ready[self] = None

    def note_unreachable(self) -> None:
        self.is_unreachable = True
        self._table.ready[self] = None

    def __repr__(self) -> str:
        return f"<UdpSocket {self.ip or '*'}:{self.port}{f' {self.remote}' if self.remote else ''}>"


class PendingFlow:
    """A UDP flow that waits for the forwarder's word; its first datagrams wait with it."""

    def __init__(
        self,
        local: Endpoint,
        remote: Endpoint,
        make_socket: Callable[[PendingFlow], UdpSocket],
        send_unreachable: Callable[[bytes, float], None],
        on_done: Callable[[PendingFlow], None],
        *,
        now: float,
    ) -> None:
        self.local = local
        self.remote = remote
        self.is_open = True
        self.expires_at = now + PENDING_FLOW_S
        self._datagrams: deque[bytes] = deque()
        self._first_packet = b""
        self._make_socket = make_socket
        self._send_unreachable = send_unreachable
        self._on_done = on_done

    def accept(self, now: float) -> UdpSocket:
        """A socket for this flow alone, with the datagrams so far in its queue. Raises SocketClosed when too late."""
        if not self.is_open:
            raise SocketClosed("the flow is not pending any more")
        self.drop()
        socket = self._make_socket(self)
        for payload in self._datagrams:
            socket.deliver(payload, self.remote)
        return socket

    def refuse(self, now: float) -> None:
        """Answer port unreachable. Upstream stays silent; `drop` does too."""
        if self.is_open:
            self.drop()
            self._send_unreachable(self._first_packet, now)

    def drop(self) -> None:
        """Forget it without an answer."""
        if self.is_open:
            self.is_open = False
            self._on_done(self)

    def add(self, payload: bytes, packet: memoryview) -> bool:
        """Another datagram of the flow; False if it does not fit."""
        if len(self._datagrams) >= MAX_PENDING_DATAGRAMS:
            return False
        if not self._first_packet:
            self._first_packet = bytes(packet)
        self._datagrams.append(payload)
        return True

    def __repr__(self) -> str:
        return f"<PendingFlow {self.remote} → {self.local}>"


def largest_payload(mtu: int, version: int) -> int:
    """How much one datagram may carry."""
    return mtu - (IPV6_HEADER_BYTES if version == 6 else IPV4_HEADER_BYTES) - UDP_HEADER_BYTES


_ANY_IPV4 = Endpoint.parse("0.0.0.0:0").ip
_ANY_IPV6 = Endpoint.parse("[::]:0").ip

"""All UDP of one stack: finds the socket of a datagram, or offers the flow to the forwarder."""

from __future__ import annotations

from collections.abc import Callable

from tailbox.randomness import RandomSource
from tailbox.userspace_stack.addresses import LocalAddresses, address_of
from tailbox.userspace_stack.connection_table import ConnectionTable
from tailbox.userspace_stack.errors import LimitReached, PortInUse
from tailbox.userspace_stack.events import DropReason
from tailbox.userspace_stack.ports import pick_port
from tailbox.userspace_stack.segments import PacketBounds, is_transport_sum_good
from tailbox.userspace_stack.udp import PendingFlow, UdpSocket
from tailbox.wire.addresses import Endpoint, IPAddress
from tailbox.wire.udp import NO_CHECKSUM, UDP_HEADER, UDP_HEADER_BYTES

FlowKey = tuple[bytes, bytes, int, int]  # source, destination, source port, destination port


class UdpHost:
    """Owned by the stack."""

    def __init__(
        self,
        table: ConnectionTable,
        addresses: LocalAddresses,
        random: RandomSource,
        mtu: int,
        pending_out: list[PendingFlow],
        send_unreachable: Callable[[bytes, float], None],
    ) -> None:
        self._table = table
        self._addresses = addresses
        self._random = random
        self._mtu = mtu
        self._pending_out = pending_out
        self._send_unreachable = send_unreachable
        self._bound: dict[tuple[IPAddress | None, int], UdpSocket] = {}
        self._flows: dict[FlowKey, UdpSocket] = {}
        self._pending: dict[FlowKey, PendingFlow] = {}  # oldest first

    @property
    def socket_count(self) -> int:
        return len(self._bound) + len(self._flows)

    def bind(self, port: int, ip: IPAddress | None) -> UdpSocket:
        """Raises PortInUse, OutOfPorts, LimitReached."""
        self._check_limit()
        if not port:
            port = pick_port(
                self._random, lambda port: (ip, port) not in self._bound and (None, port) not in self._bound
            )
        if (ip, port) in self._bound:
            raise PortInUse(f"UDP port {port} is bound")
        socket = self._make(Endpoint(ip, port) if ip else None, port, None)
        self._bound[ip, port] = socket
        return socket

    def receive(self, packet: memoryview, bounds: PacketBounds, *, now: float) -> None:
        """A datagram to an address that we take, from one that may send. Trimmed to its own length field."""
        drops = self._table.drops
        start = bounds.header_bytes
        if bounds.total_bytes - start < UDP_HEADER_BYTES:
            drops[DropReason.MALFORMED] += 1
            return
        source_port, port, length, checksum = UDP_HEADER.unpack_from(packet, start)
        if not UDP_HEADER_BYTES <= length <= bounds.total_bytes - start:
            drops[DropReason.MALFORMED] += 1
            return
        bounds.total_bytes = start + length
        is_ipv6 = bounds.addresses_end == 40
        if (is_ipv6 or checksum != NO_CHECKSUM) and (
            checksum == NO_CHECKSUM or not is_transport_sum_good(packet, bounds)
        ):
            drops[DropReason.BAD_CHECKSUM] += 1
            return
        size = (bounds.addresses_end - bounds.addresses_at) // 2
        source = bytes(packet[bounds.addresses_at : bounds.addresses_at + size])
        destination = bytes(packet[bounds.addresses_at + size : bounds.addresses_end])
        payload = bytes(packet[start + UDP_HEADER_BYTES : start + length])
        socket = self._socket_for(source, destination, source_port, port)
        if socket is not None:
            socket.deliver(payload, Endpoint(address_of(source), source_port))
        else:
            self._receive_unknown((source, destination, source_port, port), payload, packet, now=now)

    def _socket_for(self, source: bytes, destination: bytes, source_port: int, port: int) -> UdpSocket | None:
        socket = self._flows.get((source, destination, source_port, port))
        if socket is None:
            socket = self._bound.get((address_of(destination), port))
        if socket is None and self._addresses.is_own_packed(destination):
            socket = self._bound.get((None, port))
        return socket

    def _receive_unknown(self, key: FlowKey, payload: bytes, packet: memoryview, *, now: float) -> None:
        drops = self._table.drops
        pending = self._pending.get(key)
        if pending is None:
            if not self._addresses.forwards(key[1]):
                drops[DropReason.NO_SOCKET] += 1
                self._send_unreachable(bytes(packet), now)
                return
            if len(self._pending) >= self._table.limits.udp_pending:
                drops[DropReason.LIMIT] += 1
                return
            remote, local = Endpoint(address_of(key[0]), key[2]), Endpoint(address_of(key[1]), key[3])
            pending = PendingFlow(local, remote, self._accept, self._send_unreachable, self._remove_pending, now=now)
            self._pending[key] = pending
            self._pending_out.append(pending)
        if not pending.add(payload, packet):
            drops[DropReason.QUEUE_FULL] += 1

    def _accept(self, pending: PendingFlow) -> UdpSocket:
        self._check_limit()
        socket = self._make(pending.local, pending.local.port, pending.remote)
        self._flows[_key_of(pending.local, pending.remote)] = socket
        return socket

    def _make(self, local: Endpoint | None, port: int, remote: Endpoint | None) -> UdpSocket:
        return UdpSocket(
            self._table,
            local,
            port,
            self._mtu,
            self._addresses.source_for,
            self._addresses.is_own,
            self._remove,
            remote=remote,
        )

    def _check_limit(self) -> None:
        if self.socket_count >= self._table.limits.udp_sockets:
            raise LimitReached("too many UDP sockets")

    def _remove(self, socket: UdpSocket) -> None:
        if socket.remote is not None:
            self._flows.pop(_key_of(socket.local, socket.remote), None)
        else:
            self._bound.pop((socket.ip, socket.port), None)

    def _remove_pending(self, pending: PendingFlow) -> None:
        self._pending.pop(_key_of(pending.local, pending.remote), None)

    def note_unreachable(self, local: Endpoint, remote: Endpoint) -> bool:
        """An ICMP error quotes a datagram of ours; False if none of our sockets can have sent it."""
        socket = self._socket_for(remote.ip.packed, local.ip.packed, remote.port, local.port)
        if socket is None:
            return False
        socket.note_unreachable()
        return True

    def next_expiry(self) -> float | None:
        return next(iter(self._pending.values())).expires_at if self._pending else None

    def expire(self, *, now: float) -> None:
        """Give up pending flows that the forwarder forgot."""
        while self._pending:
            oldest = next(iter(self._pending.values()))
            if oldest.expires_at > now:
                return
            oldest.drop()


def _key_of(local: Endpoint, remote: Endpoint) -> FlowKey:
    return remote.ip.packed, local.ip.packed, remote.port, local.port

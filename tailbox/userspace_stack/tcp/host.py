"""All TCP of one stack: finds the connection of a segment, opens and answers new ones."""

from __future__ import annotations

from tailbox.randomness import RandomSource
from tailbox.userspace_stack.addresses import LocalAddresses, address_of, is_unicast
from tailbox.userspace_stack.connection_table import ConnectionTable
from tailbox.userspace_stack.errors import InvalidDestination, LimitReached, NoAddress, PortInUse
from tailbox.userspace_stack.events import DropReason
from tailbox.userspace_stack.ports import InitialSequenceNumbers, pick_port
from tailbox.userspace_stack.segments import ACK, FIN, RST, SYN, Arrival, FlowTemplate
from tailbox.userspace_stack.tcp.arriving import arrive
from tailbox.userspace_stack.tcp.connection import TcpSocket
from tailbox.userspace_stack.tcp.listener import PendingConnection, TcpListener
from tailbox.userspace_stack.tcp.states import State
from tailbox.wire.addresses import Endpoint, IPAddress

HEADER_BYTES = {4: 40, 6: 60}  # IP and TCP, without options


class TcpHost:
    """Owned by the stack."""

    def __init__(
        self,
        table: ConnectionTable,
        addresses: LocalAddresses,
        random: RandomSource,
        mtu: int,
        pending_out: list[PendingConnection],
    ) -> None:
        self._table = table
        self._addresses = addresses
        self._random = random
        self._mtu = mtu
        self._sequence_numbers = InitialSequenceNumbers(random)
        self._listeners: dict[tuple[IPAddress | None, int], TcpListener] = {}
        self._pending: dict[bytes, PendingConnection] = {}  # oldest first
        self._pending_out = pending_out
        self._now = 0.0

    def connect(self, remote: Endpoint, source: IPAddress | None, *, now: float) -> TcpSocket:
        """Raises InvalidDestination, NoAddress, LimitReached, OutOfPorts."""
        self._now = now
        if not is_unicast(remote.ip.packed) or not remote.port:
            raise InvalidDestination(f"cannot connect to {remote}")
        source = source or self._addresses.source_for(remote.ip)
        if source is None or source.version != remote.ip.version:
            raise NoAddress(f"no IPv{remote.ip.version} address to connect from")
        table = self._table
        if table.active >= table.limits.connections or not table.budget.allows_new_flows:
            raise LimitReached("too many connections")
        prefix = remote.ip.packed + source.packed + remote.port.to_bytes(2, "big")
        port = pick_port(
            self._random,
            lambda port: (
                prefix + port.to_bytes(2, "big") not in table.connections and (None, port) not in self._listeners
            ),
        )
        socket = self._make_socket(Endpoint(source, port), remote)
        socket.state = State.SYN_SENT
        socket.syn_due = True
        socket.touched_at = now
        table.add(socket)
        table.to_serve[socket] = None
        return socket

    def listen(self, port: int, ip: IPAddress | None, backlog: int) -> TcpListener:
        """Raises PortInUse, OutOfPorts."""
        if not port:
            port = pick_port(self._random, lambda port: (ip, port) not in self._listeners)
        if (ip, port) in self._listeners:
            raise PortInUse(f"port {port} has a listener")
        listener = TcpListener(self._table, port, ip, backlog, self._remove_listener)
        self._listeners[ip, port] = listener
        return listener

    def _remove_listener(self, listener: TcpListener) -> None:
        self._listeners.pop((listener.ip, listener.port), None)

    def receive(self, key: bytes, arrival: Arrival, *, now: float) -> None:
        """A segment whose checksum is good."""
        socket = self._table.connections.get(key)
        if socket is None or arrive(socket, arrival, now=now):
            self._receive_unknown(key, arrival, now=now)

    def _receive_unknown(self, key: bytes, arrival: Arrival, *, now: float) -> None:
        """RFC 9293 §3.10.7.1 and §3.10.7.2: CLOSED and LISTEN."""
        self._now = now
        pending = self._pending.get(key)
        if pending is not None:
            pending.handle(arrival)
            return
        size = (len(key) - 4) // 2
        source, destination = key[:size], key[size : 2 * size]
        if not is_unicast(source):  # also RFC 9293 MUST-57: no answers to multicast and broadcast
            self._table.drops[DropReason.BAD_SOURCE] += 1
            return
        if not self._addresses.takes(destination):
            self._table.drops[DropReason.NOT_OURS] += 1
            return
        remote = Endpoint(address_of(source), int.from_bytes(key[-4:-2], "big"))
        local = Endpoint(address_of(destination), int.from_bytes(key[-2:], "big"))
        if arrival.flags & (SYN | ACK | RST | FIN) == SYN and remote.port:
            self._receive_syn(key, arrival, local, remote, now=now)
        else:
            self._answer_stray(arrival, local, remote)

    def _receive_syn(self, key: bytes, arrival: Arrival, local: Endpoint, remote: Endpoint, *, now: float) -> None:
        listener = self._listeners.get((local.ip, local.port))
        if listener is None and self._addresses.is_own(local.ip):
            listener = self._listeners.get((None, local.port))
        if listener is not None:
            listener.handle_syn(arrival, local, remote, self._make_socket)
        elif not self._addresses.forwards(local.ip.packed):
            self._answer_stray(arrival, local, remote)
        elif not self._table.admits_half_open(remote.ip.packed):
            self._table.drops[DropReason.LIMIT] += 1
        else:
            pending = PendingConnection(
                self._table, arrival, local, remote, self._make_socket, self._remove_pending, now=now
            )
            self._pending[key] = pending
            self._pending_out.append(pending)

    def _remove_pending(self, pending: PendingConnection) -> None:
        self._pending.pop(pending.template.key, None)

    def _answer_stray(self, arrival: Arrival, local: Endpoint, remote: Endpoint) -> None:
        """No connection: a reset answers all but resets."""
        self._table.drops[DropReason.NO_SOCKET] += 1
        if arrival.flags & RST:
            return
        template = FlowTemplate(local, remote, loops=self._addresses.is_own(remote.ip))
        if arrival.flags & ACK:
            packet = template.segment(arrival.acknowledgment, 0, RST, 0)
        else:
            length = arrival.size + bool(arrival.flags & SYN) + bool(arrival.flags & FIN)
            packet = template.segment(0, arrival.sequence + length, RST | ACK, 0)
        self._table.outbox.post(packet, loops=template.loops)

    def _make_socket(self, local: Endpoint, remote: Endpoint) -> TcpSocket:
        key = remote.ip.packed + local.ip.packed + remote.port.to_bytes(2, "big") + local.port.to_bytes(2, "big")
        return TcpSocket(
            self._table,
            local,
            remote,
            iss=self._sequence_numbers.next(key, now=self._now),
            segment_bytes=self._mtu - HEADER_BYTES[local.ip.version],
            loops=self._addresses.is_own(remote.ip),
        )

    @property
    def pending_count(self) -> int:
        return len(self._pending)

    def next_expiry(self) -> float | None:
        """When the oldest pending connection is given up."""
        return next(iter(self._pending.values())).expires_at if self._pending else None

    def expire(self, *, now: float) -> None:
        """Give up pending connections that the forwarder forgot; the peer has long stopped waiting."""
        while self._pending:
            oldest = next(iter(self._pending.values()))
            if oldest.expires_at > now:
                return
            oldest.drop()

"""A TCP/IP host in userspace: IP packets on one side, sockets on the other.

The owner feeds it and empties it: after any input (`receive`, `handle_deadline`, a call on a socket) it calls `collect`
for the packets to send and the sockets that became ready, and sleeps until `next_deadline`. Nothing here reads a clock,
and nothing a peer sends raises.

```text
receive(train) ─→ segments ─┬→ tcp.host ─→ arriving ─→ sockets ─→ collect().ready
                            ├→ udp_host ─→ sockets
                            └→ icmp                    sockets ─→ departing ─→ outbox ─→ collect().to_network
```
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from tailbox.clock import Deadline, earliest
from tailbox.errors import UnsupportedVersion, WireError
from tailbox.randomness import RandomSource
from tailbox.userspace_stack.addresses import LocalAddresses, address_of, is_unicast
from tailbox.userspace_stack.connection_table import ConnectionTable
from tailbox.userspace_stack.errors import NoAddress, PayloadTooLarge
from tailbox.userspace_stack.events import DropReason, EchoReply, EchoRequested
from tailbox.userspace_stack.icmp import RateLimit, handle_tcp_error, read_quote
from tailbox.userspace_stack.limits import StackLimits
from tailbox.userspace_stack.segments import PacketBounds, bounds_of, parse_rows, parse_segment
from tailbox.userspace_stack.tcp.connection import TcpSocket
from tailbox.userspace_stack.tcp.departing import depart
from tailbox.userspace_stack.tcp.host import TcpHost
from tailbox.userspace_stack.tcp.listener import PendingConnection, TcpListener
from tailbox.userspace_stack.tcp.states import SocketError, State
from tailbox.userspace_stack.tcp.timers import expire
from tailbox.userspace_stack.udp import PendingFlow, UdpSocket, largest_payload
from tailbox.userspace_stack.udp_host import UdpHost
from tailbox.wire.addresses import Endpoint, IPAddress
from tailbox.wire.icmp import (
    DestinationUnreachable,
    Echo,
    IcmpMessage,
    OtherError,
    PacketTooBig,
    Unreachable,
    decode_icmp,
    encode_icmp,
)
from tailbox.wire.ip import Protocol, build_packet
from tailbox.wire.train import Train

MIN_MTU = 576  # RFC 791: what every host must take
MAX_LOOP_ROUNDS = 8  # ours: how often packets to ourselves are taken back within one collect

Socket = TcpSocket | TcpListener | UdpSocket
StackEvent = PendingConnection | PendingFlow | EchoReply | EchoRequested
__all__ = [
    "PendingConnection",
    "PendingFlow",
    "Socket",
    "SocketError",
    "Stack",
    "StackEffects",
    "StackEvent",
    "StackSnapshot",
    "State",
    "TcpListener",
    "TcpSocket",
    "UdpSocket",
]


@dataclass(frozen=True, slots=True)
class StackEffects:
    """What one `collect` found to do. The trains live until the next `collect`."""

    to_network: tuple[Train, ...] = ()
    ready: tuple[Socket, ...] = ()  # whose readiness may have changed
    events: tuple[StackEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectionSnapshot:
    """One TCP connection, for status pages and traces."""

    local: Endpoint
    remote: Endpoint
    state: State
    unread_bytes: int
    unacknowledged_bytes: int  # in the send buffer
    congestion_window_bytes: int
    smoothed_rtt_s: float


@dataclass(frozen=True, slots=True)
class StackSnapshot:
    """The whole stack at one moment."""

    connections: tuple[ConnectionSnapshot, ...]
    udp_sockets: int
    pending_connections: int
    buffer_bytes: int
    drops: dict[DropReason, int]


class Stack:
    """The host of one tailnet node."""

    def __init__(self, *, random: RandomSource, mtu: int = 1280, limits: StackLimits | None = None) -> None:
        """Raises ValueError for an MTU below 576."""
        if mtu < MIN_MTU:
            raise ValueError(f"an MTU of {mtu}, below {MIN_MTU}")
        limits = limits or StackLimits()
        self._table = ConnectionTable(limits)
        self.drops: Counter[DropReason] = self._table.drops
        self._addresses = LocalAddresses()
        self._mtu = mtu
        self._pending_connections: list[PendingConnection] = []
        self._pending_flows: list[PendingFlow] = []
        self._events: list[StackEvent] = []
        self._tcp = TcpHost(self._table, self._addresses, random, mtu, self._pending_connections)
        self._udp = UdpHost(self._table, self._addresses, random, mtu, self._pending_flows, self._send_port_unreachable)
        self._icmp_rate = RateLimit(limits.icmp_errors_per_s, limits.icmp_errors_burst)
        self._now = 0.0

    # Configuration

    def set_addresses(self, addresses: Collection[IPAddress]) -> None:
        """Our addresses; the first of each family is the default source. Connections on others are left alone."""
        self._addresses.set(addresses)

    def set_forwarding(self, *, own_addresses: bool, other_addresses: bool) -> None:
        """Whether flows that no socket wants surface as PendingConnection and PendingFlow instead of being refused."""
        self._addresses.forwards_own = own_addresses
        self._addresses.forwards_other = other_addresses

    # Sockets

    def connect_tcp(self, remote: Endpoint, *, source: IPAddress | None = None, now: float) -> TcpSocket:
        """Start a connection. Raises NoAddress, InvalidDestination, OutOfPorts, LimitReached."""
        self._now = now
        return self._tcp.connect(remote, source, now=now)

    def listen_tcp(self, port: int, *, ip: IPAddress | None = None, backlog: int = 128) -> TcpListener:
        """Accept connections to a port, on `ip` or all of ours; port 0 picks one. Raises PortInUse, OutOfPorts."""
        return self._tcp.listen(port, ip, backlog)

    def bind_udp(self, port: int = 0, *, ip: IPAddress | None = None) -> UdpSocket:
        """Take a UDP port, on `ip` or all of ours; port 0 picks one. Raises PortInUse, OutOfPorts, LimitReached."""
        return self._udp.bind(port, ip)

    def send_echo(self, destination: IPAddress, *, identifier: int, sequence: int, payload: bytes, now: float) -> None:
        """Ping; the answer comes as EchoReply. Raises NoAddress, PayloadTooLarge."""
        self._now = now
        source = self._addresses.source_for(destination)
        if source is None:
            raise NoAddress(f"no IPv{destination.version} address to ping from")
        if len(payload) > largest_payload(self._mtu, destination.version):  # both headers have eight bytes
            raise PayloadTooLarge(f"{len(payload)} bytes of payload at an MTU of {self._mtu}")
        self._send_icmp(source, destination, Echo(False, identifier, sequence, payload))

    def answer_echo(self, request: EchoRequested, *, now: float) -> None:
        """Reply in the name of the address that was pinged."""
        self._now = now
        reply = Echo(True, request.identifier, request.sequence, request.payload)
        self._send_icmp(request.destination, request.source, reply)

    # Packets and time

    def receive(self, train: Train, *, now: float) -> None:
        """Take IP packets in. A train of one TCP flow is one arrival; anything else is read packet by packet."""
        self._now = now
        data, stride = train.data, train.stride
        if len(data) == stride:
            self._receive_packet(memoryview(data), now=now)
            return
        parsed = parse_rows(train)
        if parsed is None:
            for packet in train:
                self._receive_packet(packet, now=now)
            return
        key, arrivals = parsed
        for arrival in arrivals:
            self._tcp.receive(key, arrival, now=now)
        rest = len(data) % stride
        if rest:
            self._receive_packet(memoryview(data)[-rest:], now=now)

    def _receive_packet(self, packet: memoryview, *, now: float) -> None:
        bounds = bounds_of(packet)
        if isinstance(bounds, DropReason):
            self.drops[bounds] += 1
            return
        if bounds.protocol == Protocol.TCP:
            parsed = parse_segment(packet, bounds)
            if isinstance(parsed, DropReason):
                self.drops[parsed] += 1
            else:
                self._tcp.receive(parsed[0], parsed[1], now=now)
            return
        middle = (bounds.addresses_at + bounds.addresses_end) // 2
        if not is_unicast(bytes(packet[bounds.addresses_at : middle])):
            self.drops[DropReason.BAD_SOURCE] += 1
        elif not self._addresses.takes(bytes(packet[middle : bounds.addresses_end])):
            self.drops[DropReason.NOT_OURS] += 1
        elif bounds.protocol == Protocol.UDP:
            self._udp.receive(packet[: bounds.total_bytes], bounds, now=now)
        elif bounds.protocol == (Protocol.ICMPV6 if bounds.addresses_end == 40 else Protocol.ICMP):
            self._receive_icmp(packet, bounds, now=now)
        else:
            self.drops[DropReason.UNKNOWN_PROTOCOL] += 1

    def collect(self, *, now: float) -> StackEffects:
        """All that is to be done after inputs: call it after each, and again when `next_deadline` says so."""
        self._now = now
        table = self._table
        outbox = table.outbox
        outbox.start()
        unfinished: dict[TcpSocket, None] = {}
        for _ in range(MAX_LOOP_ROUNDS):
            serving, table.to_serve = table.to_serve, {}
            for socket in serving:
                if depart(socket, now=now):
                    unfinished[socket] = None
            if not outbox.looping:
                break
            looping, outbox.looping = outbox.looping, []
            for train in looping:
                self.receive(train, now=now)
        table.to_serve.update(unfinished)
        ready = tuple(table.ready)
        table.ready.clear()
        return StackEffects(outbox.take(), ready, self._take_events())

    def _take_events(self) -> tuple[StackEvent, ...]:
        if not (self._events or self._pending_connections or self._pending_flows):
            return ()
        events = (*self._pending_connections, *self._pending_flows, *self._events)
        self._pending_connections.clear()
        self._pending_flows.clear()
        self._events.clear()
        return events

    def next_deadline(self) -> Deadline | None:
        """The next timer; the present moment while there is something to collect."""
        if self._table.to_serve or self._table.outbox.looping:
            return Deadline(self._now, "more to send")
        expiries = [at for at in (self._tcp.next_expiry(), self._udp.next_expiry()) if at is not None]
        if not expiries:
            return self._table.next_deadline()
        return earliest([self._table.next_deadline(), Deadline(min(expiries), "pending flow")])

    def handle_deadline(self, *, now: float) -> None:
        """Act on timers that are due; `collect` afterwards. Harmless early, late and twice."""
        self._now = now
        for socket in self._table.take_due(now=now):
            expire(socket, now=now)
        self._tcp.expire(now=now)
        self._udp.expire(now=now)

    def snapshot(self) -> StackSnapshot:
        connections = tuple(
            ConnectionSnapshot(
                socket.local,
                socket.remote,
                socket.state,
                socket.readable_bytes,
                socket.snd_buffer.stored,
                socket.congestion.window,
                socket.timeout.smoothed_rtt_s,
            )
            for socket in self._table.connections.values()
        )
        budget = self._table.budget
        counts = (self._udp.socket_count, self._tcp.pending_count, budget.used_bytes)
        return StackSnapshot(connections, *counts, dict(self.drops))

    # ICMP

    def _receive_icmp(self, packet: memoryview, bounds: PacketBounds, *, now: float) -> None:
        middle = (bounds.addresses_at + bounds.addresses_end) // 2
        source = address_of(bytes(packet[bounds.addresses_at : middle]))
        destination = address_of(bytes(packet[middle : bounds.addresses_end]))
        try:
            message = decode_icmp(packet[bounds.header_bytes : bounds.total_bytes], source, destination)
        except UnsupportedVersion:
            self.drops[DropReason.UNKNOWN_PROTOCOL] += 1
        except WireError as error:
            is_checksum = "checksum" in str(error)
            self.drops[DropReason.BAD_CHECKSUM if is_checksum else DropReason.MALFORMED] += 1
        else:
            if isinstance(message, Echo):
                self._receive_echo(message, source, destination)
            elif not self._receive_error(message, now=now):
                self.drops[DropReason.ICMP_UNMATCHED] += 1

    def _receive_echo(self, echo: Echo, source: IPAddress, destination: IPAddress) -> None:
        fields = (echo.identifier, echo.sequence, echo.payload)
        if not self._addresses.is_own(destination):
            if not echo.is_reply:
                self._events.append(EchoRequested(source, destination, *fields))
        elif echo.is_reply:
            self._events.append(EchoReply(source, *fields))
        else:
            self._send_icmp(destination, source, Echo(True, *fields))

    def _receive_error(self, error: DestinationUnreachable | PacketTooBig | OtherError, *, now: float) -> bool:
        """False if the error quotes nothing that we can have sent."""
        quote = read_quote(error.quoted)
        if quote is None:
            return False
        if quote.header.protocol == Protocol.TCP:
            socket = self._table.connections.get(quote.flow_key)
            return socket is not None and handle_tcp_error(socket, error, quote, now=now)
        if quote.header.protocol != Protocol.UDP or not isinstance(error, DestinationUnreachable):
            return False
        local = Endpoint(quote.header.source, int.from_bytes(quote.transport[0:2], "big"))
        remote = Endpoint(quote.header.destination, int.from_bytes(quote.transport[2:4], "big"))
        return self._udp.note_unreachable(local, remote)

    def _send_port_unreachable(self, packet: bytes, now: float) -> None:
        """Nobody listens where this datagram went to."""
        bounds = bounds_of(memoryview(packet))
        if isinstance(bounds, DropReason):
            return
        if not self._icmp_rate.allows(now=now):
            self.drops[DropReason.RATE_LIMITED] += 1
            return
        middle = (bounds.addresses_at + bounds.addresses_end) // 2
        source = address_of(packet[bounds.addresses_at : middle])
        destination = address_of(packet[middle : bounds.addresses_end])
        self._send_icmp(destination, source, DestinationUnreachable(Unreachable.PORT, packet))

    def _send_icmp(self, source: IPAddress, destination: IPAddress, message: IcmpMessage) -> None:
        protocol = Protocol.ICMPV6 if source.version == 6 else Protocol.ICMP
        packet = build_packet(source, destination, protocol, encode_icmp(message, source, destination))
        self._table.outbox.post(packet, loops=self._addresses.is_own(destination))

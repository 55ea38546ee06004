"""Listening ports, and connections that wait for the forwarder's word."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tailbox.userspace_stack.connection_table import ConnectionTable
from tailbox.userspace_stack.errors import SocketClosed
from tailbox.userspace_stack.events import DropReason
from tailbox.userspace_stack.segments import ACK, RST, Arrival, FlowTemplate
from tailbox.userspace_stack.tcp.arriving import apply_syn
from tailbox.userspace_stack.tcp.connection import TcpSocket
from tailbox.userspace_stack.tcp.states import State
from tailbox.wire.addresses import Endpoint, IPAddress

MAX_BACKLOG = 4096
PENDING_S = 60.0  # ours: longer than the forwarder's 30 s for a dial

MakeSocket = Callable[[Endpoint, Endpoint], TcpSocket]


def answer_syn(socket: TcpSocket, arrival: Arrival) -> None:
    """Bring a new socket from LISTEN to SYN-RECEIVED (RFC 9293 §3.10.7.2)."""
    socket.is_passive = True
    socket.state = State.SYN_RECEIVED
    socket.table.count_half_open(socket.remote.ip.packed, 1)
    apply_syn(socket, arrival, largest_segment=socket.segment_bytes)
    socket.syn_due = True
    socket.table.add(socket)
    socket.table.to_serve[socket] = None


class TcpListener:
    """Accepts connections to one port, on one address or on all of ours."""

    def __init__(
        self,
        table: ConnectionTable,
        port: int,
        ip: IPAddress | None,
        backlog: int,
        on_close: Callable[[TcpListener], None],
    ) -> None:
        self.port = port
        self.ip = ip
        self.is_closed = False
        self._table = table
        self._backlog = min(max(backlog, 1), MAX_BACKLOG)
        self._opening: dict[TcpSocket, None] = {}  # SYN-RECEIVED
        self._established: deque[TcpSocket] = deque()
        self._on_close = on_close

    def accept(self) -> TcpSocket | None:
        """The next established connection, if there is one. It may have ended again already."""
        return self._established.popleft() if self._established else None

    def close(self) -> None:
        """Stop listening; connections that nobody accepted are reset."""
        if self.is_closed:
            return
        self.is_closed = True
        self._on_close(self)
        for socket in [*self._opening, *self._established]:
            socket.owner = None
            socket.abort()
        self._opening.clear()
        self._established.clear()

    def handle_syn(self, arrival: Arrival, local: Endpoint, remote: Endpoint, make_socket: MakeSocket) -> None:
        """Answer a SYN, or drop it when the backlog is full: the peer will try again."""
        self._forget_dead()
        if len(self._opening) + len(self._established) >= self._backlog:
            self._table.drops[DropReason.BACKLOG_FULL] += 1
            return
        if not self._table.admits_half_open(remote.ip.packed):
            self._table.drops[DropReason.LIMIT] += 1
            return
        socket = make_socket(local, remote)
        socket.owner = self
        self._opening[socket] = None
        answer_syn(socket, arrival)

    def opened(self, socket: TcpSocket) -> None:
        """One of ours is established now."""
        self._opening.pop(socket, None)
        self._established.append(socket)
        self._table.ready[self] = None

    def _forget_dead(self) -> None:
        for socket in [socket for socket in self._opening if socket.state is State.CLOSED]:
            del self._opening[socket]

    def __repr__(self) -> str:
        return f"<TcpListener {self.ip or '*'}:{self.port}>"


class PendingConnection:
    """A SYN that waits for the forwarder's word. Repeated SYNs are absorbed meanwhile.

    The forwarder dials first and answers then: `accept` completes the handshake, `refuse` sends a reset, `drop` lets
    the peer run into its own timeout. `is_open` turns False when one of them was called, or when the peer gave up.
    """

    def __init__(
        self,
        table: ConnectionTable,
        arrival: Arrival,
        local: Endpoint,
        remote: Endpoint,
        make_socket: MakeSocket,
        on_done: Callable[[PendingConnection], None],
        *,
        now: float,
    ) -> None:
        self.local = local
        self.remote = remote
        self.is_open = True
        self.expires_at = now + PENDING_S
        self.template = FlowTemplate(local, remote)
        self._table = table
        # The options are a view into a train that will be gone by then.
        self._arrival = Arrival(arrival.sequence, 0, arrival.flags, arrival.window, 0, bytes(arrival.options))
        self._make_socket = make_socket
        self._on_done = on_done
        table.count_half_open(remote.ip.packed, 1)

    def accept(self, now: float) -> TcpSocket:
        """Answer the SYN. Raises SocketClosed if the peer has given up."""
        if not self.is_open:
            raise SocketClosed("the peer has given up")
        self.drop()
        socket = self._make_socket(self.local, self.remote)
        socket.touched_at = now
        answer_syn(socket, self._arrival)
        return socket

    def refuse(self, now: float) -> None:
        """Answer with a reset. Harmless when the connection is not pending any more."""
        if self.is_open:
            self.drop()
            packet = self.template.segment(0, self._arrival.sequence + 1, RST | ACK, 0)
            self._table.outbox.post(packet, loops=False)

    def drop(self) -> None:
        """Forget it without an answer."""
        if self.is_open:
            self.is_open = False
            self._table.count_half_open(self.remote.ip.packed, -1)
            self._on_done(self)

    def handle(self, arrival: Arrival) -> None:
        """Another segment of the same flow: a reset in the right place withdraws the SYN, all else is a repetition."""
        if arrival.flags & RST and arrival.sequence in (
            self._arrival.sequence,
            self._arrival.sequence + 1 & 0xFFFFFFFF,
        ):
            self.drop()

    def __repr__(self) -> str:
        return f"<PendingConnection {self.remote} → {self.local}>"

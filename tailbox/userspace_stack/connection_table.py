"""What the connections of one stack share: the demultiplexing table, the work list, the timers, the outbox.

A connection that has something to do puts itself on `to_serve`; the stack serves that list once per `collect`. Timers
are a heap with at most a few stale entries a connection: an entry that turns up early only makes the connection say
again when it wants to be woken, so that moving a deadline back, which every acknowledgement does, costs nothing.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING

from tailbox.clock import Deadline
from tailbox.userspace_stack.events import DropReason
from tailbox.userspace_stack.limits import StackLimits
from tailbox.userspace_stack.memory_budget import MemoryBudget
from tailbox.userspace_stack.outbox import Outbox

if TYPE_CHECKING:
    from tailbox.userspace_stack.tcp.connection import TcpSocket
    from tailbox.userspace_stack.tcp.listener import TcpListener
    from tailbox.userspace_stack.udp import UdpSocket


MAX_STALE_TIMERS = 1024  # ours: entries of closed connections that may wait in the heap for their time


class ConnectionTable:
    """Owned by the stack, known to its sockets."""

    def __init__(self, limits: StackLimits) -> None:
        self.limits = limits
        self.budget = MemoryBudget(limits.total_buffer_bytes)
        self.outbox = Outbox()
        self.drops: Counter[DropReason] = Counter()
        self.connections: dict[bytes, TcpSocket] = {}  # by flow key, as incoming packets spell it
        self.to_serve: dict[TcpSocket, None] = {}
        self.ready: dict[TcpSocket | TcpListener | UdpSocket, None] = {}
        self.half_open_by_source: Counter[bytes] = Counter()  # SYN-RECEIVED and pending forwards, by packed address
        self.half_open = 0
        self._time_wait: dict[bytes, TcpSocket] = {}  # oldest first
        self._timers: list[tuple[float, int, TcpSocket]] = []
        self._timer_count = 0  # breaks ties in the heap

    def add(self, socket: TcpSocket) -> None:
        self.connections[socket.template.key] = socket

    def remove(self, socket: TcpSocket) -> None:
        """The connection is closed: its four-tuple is free again."""
        if self.connections.get(socket.template.key) is socket:
            del self.connections[socket.template.key]
        self._time_wait.pop(socket.template.key, None)

    @property
    def active(self) -> int:
        """Connections that count against the limit."""
        return len(self.connections) - len(self._time_wait)

    @property
    def waiting(self) -> int:
        return len(self._time_wait)

    def keep_waiting(self, socket: TcpSocket) -> None:
        """The connection entered TIME-WAIT. Too many of them: the oldest is forgotten."""
        self._time_wait[socket.template.key] = socket
        if len(self._time_wait) > self.limits.time_wait:
            next(iter(self._time_wait.values())).forget()

    def admits_half_open(self, source: bytes) -> bool:
        """Whether one more unanswered or unconfirmed SYN from this address may be kept."""
        return (
            self.half_open < self.limits.half_open
            and self.half_open_by_source[source] < self.limits.half_open_per_source
            and self.active < self.limits.connections
            and self.budget.allows_new_flows
        )

    def count_half_open(self, source: bytes, change: int) -> None:
        self.half_open += change
        self.half_open_by_source[source] += change
        if not self.half_open_by_source[source]:
            del self.half_open_by_source[source]

    def wake_at(self, socket: TcpSocket, at: float) -> None:
        """See to it that the connection is asked about its timers at `at`, if not sooner."""
        if at < socket.armed_at:
            socket.armed_at = at
            self._timer_count += 1
            if len(self._timers) > MAX_STALE_TIMERS + 4 * len(self.connections):
                self._timers = [entry for entry in self._timers if entry[0] == entry[2].armed_at]
                heapq.heapify(self._timers)
            heapq.heappush(self._timers, (at, self._timer_count, socket))

    def next_deadline(self) -> Deadline | None:
        while self._timers:
            at, _, socket = self._timers[0]
            if at == socket.armed_at:
                return Deadline(at, "tcp timer")
            heapq.heappop(self._timers)  # superseded by an earlier one
        return None

    def take_due(self, *, now: float) -> list[TcpSocket]:
        """Connections whose alarm has come. They are unarmed until they ask again."""
        due = []
        while self._timers and self._timers[0][0] <= now:
            at, _, socket = heapq.heappop(self._timers)
            if at == socket.armed_at:
                socket.armed_at = float("inf")
                due.append(socket)
        return due

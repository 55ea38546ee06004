"""One TCP connection: the application's calls and the variables of RFC 9293 §3.3.1.

`TcpSocket` is what an application holds. Its upper half is the application's: buffers are read and written there, and
a call that gives the connection something to do puts it on the stack's work list. The lower half holds the variables
that `arriving`, `departing` and `timers` work on, under the RFC's names.

Positions (`snd_…`, `rcv_…`) are sequence numbers unwrapped to integers that only grow; packets carry them modulo 2³².
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbox.userspace_stack.connection_table import ConnectionTable
from tailbox.userspace_stack.errors import SocketClosed
from tailbox.userspace_stack.segments import ACK, RST, FlowTemplate
from tailbox.userspace_stack.tcp.congestion import Congestion, Cubic
from tailbox.userspace_stack.tcp.receive_buffer import ReceiveBuffer
from tailbox.userspace_stack.tcp.retransmission import Recovery, RetransmissionTimeout
from tailbox.userspace_stack.tcp.send_buffer import SendBuffer
from tailbox.userspace_stack.tcp.states import MAY_SEND_DATA, NEXT_STATE, SYNCHRONIZED, Cause, SocketError, State
from tailbox.wire.addresses import Endpoint

if TYPE_CHECKING:
    from tailbox.userspace_stack.tcp.listener import TcpListener

NEVER = float("inf")
WINDOW_SCALE = 7  # spec: 7 by default; allows just under 8 MiB
TIME_WAIT_S = 60.0  # 2 MSL as Linux and gVisor have it
ORPHAN_S = 60.0  # FIN-WAIT-2 after close(), Linux tcp_fin_timeout
MIN_SEGMENT = 88  # never send segments smaller than this for a small peer MSS (CVE-2019-11479)
CHALLENGE_INTERVAL_S = 0.5  # Linux tcp_invalid_ratelimit, per connection
QUICK_GROWTH_S = 0.1  # a window consumed within this time, or four round trips, was too small
DEFAULT_KEEP_ALIVE_IDLE_S = 7200.0  # RFC 9293 MUST-28


class TcpSocket:
    """A connection. Made by `Stack.connect_tcp`, `TcpListener.accept` and `PendingConnection.accept` only."""

    __slots__ = (
        "ack_at",
        "acks_due",
        "armed_at",
        "challenged_at",
        "congestion",
        "data_start",
        "discarded",
        "error",
        "fin_position",
        "is_closed",
        "is_passive",
        "is_shut_down",
        "iss",
        "keep_alive_at",
        "keep_alive_idle_s",
        "keep_alive_interval_s",
        "keep_alive_probes",
        "keep_alive_sent",
        "local",
        "max_snd_wnd",
        "offered_segment_bytes",
        "owner",
        "peer_fin",
        "peer_scale",
        "persist_at",
        "persist_interval_s",
        "probe_now",
        "probes_tail",
        "rcv_adv",
        "rcv_buffer",
        "rcv_nxt",
        "recovery",
        "remote",
        "retransmit_at",
        "retries",
        "round_bytes",
        "round_start",
        "scales",
        "segment_bytes",
        "sent_at",
        "snd_buffer",
        "snd_nxt",
        "snd_una",
        "snd_wl1",
        "snd_wl2",
        "snd_wnd",
        "state",
        "syn_due",
        "table",
        "template",
        "timed_at",
        "timed_position",
        "timeout",
        "touched_at",
        "unacknowledged_bytes",
        "wait_at",
    )

    def __init__(
        self, table: ConnectionTable, local: Endpoint, remote: Endpoint, *, iss: int, segment_bytes: int, loops: bool
    ) -> None:
        limits = table.limits
        self.table = table
        self.local = local
        self.remote = remote
        self.template = FlowTemplate(local, remote, loops=loops)
        self.state = State.CLOSED
        self.error: SocketError | None = None
        self.is_passive = False  # came from a SYN of the peer's: a reset of the half-open connection is no error
        self.is_shut_down = False  # the application sends no more
        self.is_closed = False  # nor reads
        self.discarded = 0  # bytes that arrived after close()
        self.owner: TcpListener | None = None  # the listener that waits for this connection to open
        self.snd_buffer = SendBuffer(limits.initial_buffer_bytes, limits.send_buffer_bytes, table.budget)
        self.rcv_buffer = ReceiveBuffer(
            limits.initial_buffer_bytes,
            limits.receive_buffer_bytes,
            table.budget,
            max_islands=limits.out_of_order_ranges,
        )
        self._init_sender(iss, segment_bytes)
        self._init_receiver()
        self._init_timers()

    def _init_sender(self, iss: int, segment_bytes: int) -> None:
        self.iss = iss
        self.snd_una = iss
        self.snd_nxt = iss
        self.data_start = iss + 1  # position of the send buffer's first byte
        self.fin_position: int | None = None  # of our FIN, once it was sent
        self.snd_wnd = 0
        self.snd_wl1 = 0
        self.snd_wl2 = 0
        self.max_snd_wnd = 0
        self.peer_scale = 0
        self.scales = True  # windows are scaled: both ends offered it
        self.offered_segment_bytes = segment_bytes  # what our SYN announces: what our own MTU allows
        self.segment_bytes = segment_bytes  # payload of a full segment to the peer
        self.timeout = RetransmissionTimeout()
        self.recovery = Recovery(segment_bytes)
        self.congestion: Congestion = Cubic(segment_bytes)
        self.timed_position = 0  # an acknowledgement of this measures the round trip; 0: none under way
        self.timed_at = 0.0
        self.probes_tail = False  # the retransmission timer is a tail loss probe's
        self.retries = 0
        self.syn_due = False

    def _init_receiver(self) -> None:
        self.rcv_nxt = 0
        self.rcv_adv = 0  # right edge of the window as last advertised
        self.peer_fin: int | None = None  # position of the peer's FIN, once seen
        self.acks_due = 0  # acknowledgements to send now
        self.unacknowledged_bytes = 0  # received since our last acknowledgement
        self.round_bytes = 0  # consumed since round_start, for window tuning
        self.round_start = -1.0

    def _init_timers(self) -> None:
        self.armed_at = NEVER  # when the table's heap wakes us
        self.retransmit_at = NEVER
        self.persist_at = NEVER
        self.persist_interval_s = 0.0
        self.probe_now = False  # a timer wants a segment out whatever the windows say
        self.ack_at = NEVER
        self.wait_at = NEVER  # TIME-WAIT and orphaned FIN-WAIT-2
        self.keep_alive_at = NEVER
        self.keep_alive_idle_s = 0.0  # 0: off, RFC 9293 MUST-25
        self.keep_alive_interval_s = 0.0
        self.keep_alive_probes = 0
        self.keep_alive_sent = 0
        self.challenged_at = -NEVER
        self.touched_at = 0.0  # when anything last arrived
        self.sent_at = 0.0  # when data was last sent

    # The application's calls

    @property
    def readable_bytes(self) -> int:
        return self.rcv_buffer.readable

    @property
    def writable_bytes(self) -> int:
        """Free space of the send buffer; 0 once the connection takes no more data. It may grow when it fills."""
        return self.snd_buffer.free if self.takes_data else 0

    @property
    def takes_data(self) -> bool:
        """Whether the application may still send: also before the connection is established."""
        return not self.is_shut_down and (
            self.state in MAY_SEND_DATA or self.state in (State.SYN_SENT, State.SYN_RECEIVED)
        )

    @property
    def is_established(self) -> bool:
        return self.state in SYNCHRONIZED

    @property
    def at_eof(self) -> bool:
        """Nothing more will come: the peer's FIN was reached and all data consumed, or the connection died."""
        if self.rcv_buffer.readable:
            return False
        return self.state is State.CLOSED or (self.peer_fin is not None and self.rcv_nxt > self.peer_fin)

    def send_view(self) -> memoryview:
        """Contiguous free space of the send buffer, maybe empty. Good until the next `send_view` or `write`.

        Raises SocketClosed after shutdown, or when the connection has ended.
        """
        if not self.takes_data:
            raise SocketClosed("the socket sends no more")
        buffer = self.snd_buffer
        # Twice what may be under way: one half travels while the other is filled.
        if buffer.free < buffer.capacity >> 2 and 2 * min(self.congestion.window, self.snd_wnd) > buffer.capacity:
            buffer.grow(2 * buffer.capacity)
        return buffer.free_view()

    def commit(self, count: int) -> None:
        """The first `count` bytes of `send_view()` are data now. Raises ValueError for more than there is room for."""
        self.snd_buffer.commit(count)
        if count:
            self.table.to_serve[self] = None

    def write(self, data: bytes | memoryview) -> int:
        """Copy in what fits; returns how much was taken. Raises SocketClosed like `send_view`."""
        rest = memoryview(data).cast("B")
        taken = 0
        while taken < len(rest):
            space = self.send_view()
            count = min(len(space), len(rest) - taken)
            if not count:
                break
            space[:count] = rest[taken : taken + count]
            self.commit(count)
            taken += count
        return taken

    def receive_views(self) -> tuple[memoryview, ...]:
        """Data in order that was not consumed yet. Good until the next `consume` or `read`."""
        return self.rcv_buffer.views()

    def consume(self, count: int) -> None:
        """The application is done with the first `count` bytes of `receive_views()`; the window opens by them.

        Raises ValueError for more than there are.
        """
        buffer = self.rcv_buffer
        buffer.consume(count)
        self.round_bytes += count
        # The peer hears of it with the next acknowledgement, or at once if it may be waiting for room.
        if buffer.capacity - buffer.readable + self.rcv_nxt - self.rcv_adv >= buffer.capacity >> 1:
            self.table.to_serve[self] = None
        if self.state is State.CLOSED and not buffer.readable:
            buffer.drop()

    def read(self, limit: int) -> bytes:
        """Take up to `limit` bytes as a copy."""
        data = b"".join(self.rcv_buffer.views())[:limit]
        self.consume(len(data))
        return data

    def shutdown(self) -> None:
        """Send a FIN after what is buffered. Reading goes on. Harmless twice."""
        if self.is_shut_down or self.state is State.CLOSED:
            return
        self.is_shut_down = True
        self.fin_may_follow()
        self.table.to_serve[self] = None

    def close(self) -> None:
        """Shut down, and discard what arrives: up to StackLimits.discard_after_close_bytes, then a reset answers."""
        if self.is_closed:
            return
        self.is_closed = True
        if self.state is State.SYN_SENT:
            self.end(None)
            return
        self.shutdown()
        self.discard()
        self.table.to_serve[self] = None

    def abort(self) -> None:
        """Send a reset and forget everything."""
        self.is_closed = True
        if self.state is State.CLOSED:
            return
        if self.state not in (State.SYN_SENT, State.TIME_WAIT):
            self.post_reset()
        self.end(SocketError.ABORTED)

    def keep_alive(
        self, *, idle_s: float = DEFAULT_KEEP_ALIVE_IDLE_S, interval_s: float = 75.0, probes: int = 9
    ) -> None:
        """Probe a silent peer after `idle_s`; `probes` unanswered ones end the connection. `idle_s` 0 turns it off."""
        self.keep_alive_idle_s = idle_s
        self.keep_alive_interval_s = interval_s
        self.keep_alive_probes = probes
        self.keep_alive_sent = 0
        self.keep_alive_at = NEVER
        self.table.to_serve[self] = None

    def __repr__(self) -> str:
        return f"<TcpSocket {self.local} {self.remote} {self.state.value}>"

    # What the machine's parts share

    def advance(self, cause: Cause) -> None:
        """Go to the state that follows. A cause that the table does not know here is a bug of ours."""
        was_half_open = self.state is State.SYN_RECEIVED
        self.state = NEXT_STATE[self.state, cause]
        if was_half_open and self.is_passive:
            self.table.count_half_open(self.remote.ip.packed, -1)
        if self.state is State.TIME_WAIT:
            self.table.keep_waiting(self)
        self.table.ready[self] = None

    def fin_may_follow(self) -> None:
        """Take the step in the state diagram that close() stands for, as soon as it exists."""
        if self.state in (State.ESTABLISHED, State.CLOSE_WAIT):
            self.advance(Cause.CLOSE_CALLED)

    def discard(self) -> None:
        """Throw received data away after close()."""
        count = self.rcv_buffer.readable
        if count:
            self.discarded += count
            self.rcv_buffer.consume(count)
        if self.discarded > self.table.limits.discard_after_close_bytes:
            self.abort()

    def tune_window(self, *, now: float) -> None:
        """A whole window was consumed. If that went faster than the path could have filled a larger one, double it."""
        limit = max(QUICK_GROWTH_S, 4 * self.timeout.smoothed_rtt_s)
        if self.round_start >= 0 and now - self.round_start <= limit:
            self.rcv_buffer.grow(2 * self.rcv_buffer.capacity)
        self.round_bytes = 0
        self.round_start = now

    def set_segment_bytes(self, count: int) -> None:
        """What the peer announced, or what the path allows."""
        self.segment_bytes = count
        self.recovery.resize(count)
        self.congestion.segment = count

    def post_reset(self) -> None:
        """RST, ACK from where we are."""
        packet = self.template.segment(self.snd_nxt, self.rcv_nxt, RST | ACK, 0)
        self.table.outbox.post(packet, loops=self.template.loops)

    def challenge(self, *, now: float) -> None:
        """Answer a suspicious segment with an acknowledgement, at most every half second (RFC 5961 §7)."""
        if now - self.challenged_at >= CHALLENGE_INTERVAL_S:
            self.challenged_at = now
            self.acks_due = max(self.acks_due, 1)
            self.table.to_serve[self] = None

    def end(self, error: SocketError | None) -> None:
        """The connection is over, for this reason; None: in order. What was received may still be read."""
        if self.state is State.CLOSED:
            return
        if error is not None and self.error is None:
            self.error = error
        self.advance(Cause.DIED)
        self.forget()

    def forget(self) -> None:
        """Leave the table, and keep nothing but what the application has not read."""
        self.state = State.CLOSED
        self.table.remove(self)
        self.snd_buffer.drop()
        if self.is_closed or not self.rcv_buffer.readable:
            self.rcv_buffer.drop()
        self.armed_at = NEVER
        self.acks_due = 0
        self.table.to_serve.pop(self, None)
        self.table.ready[self] = None

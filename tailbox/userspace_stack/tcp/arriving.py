"""A segment arrives. Source: RFC 9293 §3.10.7, in its order of checks, with RFC 5961's against blind attackers.

A run of contiguous segments is treated as one long segment: it was one before it was cut to the path's size. The
functions change the connection and say nothing; what is to be sent is found by `departing` when the stack collects.
"""

from __future__ import annotations

from tailbox.userspace_stack.events import DropReason
from tailbox.userspace_stack.segments import ACK, FIN, PSH, RST, SYN, Arrival
from tailbox.userspace_stack.tcp.congestion import INITIAL_WINDOW_SEGMENTS
from tailbox.userspace_stack.tcp.connection import MIN_SEGMENT, NEVER, TIME_WAIT_S, TcpSocket
from tailbox.userspace_stack.tcp.retransmission import DUPLICATE_THRESHOLD, Phase
from tailbox.userspace_stack.tcp.sequence import unwrap
from tailbox.userspace_stack.tcp.states import MAY_RECEIVE_DATA, Cause, SocketError, State
from tailbox.wire.tcp import SACK, TcpOptions

DELAYED_ACK_S = 0.04  # RFC 9293 MUST-40 allows 0.5
DEFAULT_SEGMENT_BYTES = {4: 536, 6: 1220}  # RFC 9293 MUST-15


def arrive(socket: TcpSocket, arrival: Arrival, *, now: float) -> bool:
    """Handle what came for this connection. True: the segment is a SYN that may open the next one (TIME-WAIT)."""
    socket.touched_at = now
    socket.keep_alive_sent = 0
    if socket.state is State.SYN_SENT:
        _in_syn_sent(socket, arrival, now=now)
        return False
    flags = arrival.flags
    sequence = unwrap(socket.rcv_nxt, arrival.sequence)
    if (
        flags & ~PSH == ACK
        and sequence == socket.rcv_nxt
        and arrival.size <= socket.rcv_buffer.window
        and socket.state is State.ESTABLISHED
        and socket.peer_fin is None
    ):  # the ordinary case; all checks below would pass
        if _acknowledge(socket, arrival, sequence, now=now) and arrival.size:
            _take_data(socket, arrival, sequence, now=now)
        return False
    return _arrive_checked(socket, arrival, sequence, now=now)


def apply_syn(socket: TcpSocket, arrival: Arrival, *, largest_segment: int) -> None:
    """Take over what a SYN says: its sequence number, its options, its window, which is never scaled."""
    options = TcpOptions.decode(arrival.options)
    socket.rcv_nxt = socket.rcv_adv = arrival.sequence + 1
    announced = options.maximum_segment_size
    if announced is None:
        announced = DEFAULT_SEGMENT_BYTES[socket.remote.ip.version]
    socket.set_segment_bytes(min(max(announced, MIN_SEGMENT), largest_segment))
    socket.congestion.window = socket.segment_bytes * INITIAL_WINDOW_SEGMENTS
    socket.recovery.is_selective = options.sack_permitted
    socket.scales = options.window_scale is not None
    socket.peer_scale = options.window_scale or 0
    if not socket.scales:  # then neither end does (RFC 7323 §2.2), and 64 KiB is all that can be announced
        socket.rcv_buffer.maximum = min(socket.rcv_buffer.maximum, 0xFFFF)
        socket.rcv_buffer.capacity = min(socket.rcv_buffer.capacity, 0xFFFF)
    socket.snd_wnd = socket.max_snd_wnd = arrival.window
    socket.snd_wl1 = arrival.sequence
    socket.snd_wl2 = socket.snd_una


def _in_syn_sent(socket: TcpSocket, arrival: Arrival, *, now: float) -> None:
    """RFC 9293 §3.10.7.3."""
    flags = arrival.flags
    acknowledgment = unwrap(socket.snd_una, arrival.acknowledgment)
    if flags & ACK and not socket.iss < acknowledgment <= socket.snd_nxt:
        if not flags & RST:
            reply = socket.template.segment(arrival.acknowledgment, 0, RST, 0)
            socket.table.outbox.post(reply, loops=socket.template.loops)
        _drop(socket)
        return
    if flags & RST:
        if flags & ACK:
            socket.end(SocketError.REFUSED)
        else:
            _drop(socket)
        return
    if not flags & SYN:
        _drop(socket)
        return
    apply_syn(socket, arrival, largest_segment=socket.segment_bytes)
    socket.retransmit_at = NEVER
    socket.retries = 0
    if flags & ACK:
        _open(socket, acknowledgment, now=now, cause=Cause.SYN_ACK_ARRIVED)
        socket.acks_due = 1
    else:  # both ends opened at once (RFC 9293 MUST-10)
        socket.advance(Cause.SYN_ARRIVED)
        socket.syn_due = True
    socket.table.to_serve[socket] = None


def _open(socket: TcpSocket, acknowledgment: int, *, now: float, cause: Cause) -> None:
    """Our SYN was acknowledged: the connection is established."""
    if socket.timed_position:
        socket.timeout.measured(now - socket.timed_at)
        socket.timed_position = 0
    elif cause is Cause.SYN_ACK_ARRIVED:
        socket.timeout.rto_s = 3.0  # RFC 6298 §5.7: the SYN was lost, be careful with data
    socket.snd_una = acknowledgment
    socket.retransmit_at = NEVER
    socket.retries = 0
    socket.advance(cause)
    if socket.is_shut_down:
        socket.fin_may_follow()
    listener, socket.owner = socket.owner, None
    if listener is not None:
        listener.opened(socket)


def _arrive_checked(socket: TcpSocket, arrival: Arrival, sequence: int, *, now: float) -> bool:
    """RFC 9293 §3.10.7.4, the states past SYN-SENT."""
    flags = arrival.flags
    if socket.state is State.TIME_WAIT and flags & (SYN | ACK | RST) == SYN and sequence > socket.rcv_nxt:
        socket.forget()
        return True
    if socket.state is State.SYN_RECEIVED and flags & SYN and sequence == socket.rcv_nxt - 1:
        if not flags & ACK:  # our SYN, ACK was lost
            socket.syn_due = True
            socket.table.to_serve[socket] = None
            return False
        arrival = Arrival(arrival.sequence + 1, arrival.acknowledgment, ACK, arrival.window, 0)
        flags, sequence = ACK, socket.rcv_nxt
        socket.acks_due = 1
    probes_closed_window = socket.rcv_buffer.window == 0 and sequence == socket.rcv_nxt and not flags & SYN
    if not _is_acceptable(socket, arrival, sequence):
        if flags & RST:
            _drop(socket)
            return False
        _answer_unacceptable(socket, arrival, now=now)
        if not probes_closed_window:
            _drop(socket)
            return False
    if flags & RST:
        _reset(socket, sequence, now=now)
    elif flags & SYN:
        socket.challenge(now=now)  # RFC 5961 §4.2
        _drop(socket)
    elif not flags & ACK:
        _drop(socket)
    elif socket.state is State.SYN_RECEIVED and not _confirm(socket, arrival, now=now):
        pass
    elif _acknowledge(socket, arrival, sequence, now=now):
        _take_text(socket, arrival, sequence, now=now)
    return False


def _is_acceptable(socket: TcpSocket, arrival: Arrival, sequence: int) -> bool:
    """RFC 9293 §3.4 table 5."""
    window = socket.rcv_buffer.window
    start = socket.rcv_nxt
    length = arrival.size + bool(arrival.flags & SYN) + bool(arrival.flags & FIN)
    if length == 0:
        return sequence == start or start <= sequence < start + window
    # A FIN that follows a full window needs no room of its own.
    room = window + (arrival.flags & FIN and arrival.size <= window)
    return sequence < start + room and sequence + length > start


def _answer_unacceptable(socket: TcpSocket, arrival: Arrival, *, now: float) -> None:
    """Acknowledge what we have: at once if the peer resent data, else at the limited rate (RFC 5961)."""
    if socket.state is State.TIME_WAIT and arrival.flags & FIN:
        socket.wait_at = now + TIME_WAIT_S
    if arrival.size or arrival.flags & FIN:
        socket.acks_due = max(socket.acks_due, 1)
        socket.table.to_serve[socket] = None
    else:
        socket.challenge(now=now)


def _reset(socket: TcpSocket, sequence: int, *, now: float) -> None:
    """RFC 5961 §3.2: only the exact next number resets. TIME-WAIT is not to be cut short (RFC 1337)."""
    if sequence != socket.rcv_nxt:
        socket.challenge(now=now)
        _drop(socket)
    elif socket.state is State.TIME_WAIT:
        _drop(socket)
    elif socket.state is State.SYN_RECEIVED:
        socket.end(None if socket.is_passive else SocketError.REFUSED)
    elif socket.state in (State.CLOSING, State.LAST_ACK):
        socket.end(None if socket.snd_una == socket.snd_nxt else SocketError.RESET)
    else:
        socket.end(SocketError.RESET)


def _confirm(socket: TcpSocket, arrival: Arrival, *, now: float) -> bool:
    """SYN-RECEIVED: does this acknowledge our SYN? If not, a reset tells the peer that it is mistaken."""
    acknowledgment = unwrap(socket.snd_una, arrival.acknowledgment)
    if not socket.snd_una < acknowledgment <= socket.snd_nxt:
        reply = socket.template.segment(arrival.acknowledgment, 0, RST, 0)
        socket.table.outbox.post(reply, loops=socket.template.loops)
        _drop(socket)
        return False
    socket.snd_wnd = arrival.window << socket.peer_scale
    socket.max_snd_wnd = max(socket.max_snd_wnd, socket.snd_wnd)
    socket.snd_wl1, socket.snd_wl2 = unwrap(socket.rcv_nxt, arrival.sequence), acknowledgment
    _open(socket, socket.iss + 1, now=now, cause=Cause.SYN_ACKNOWLEDGED)
    return socket.state is not State.CLOSED


def _acknowledge(socket: TcpSocket, arrival: Arrival, sequence: int, *, now: float) -> bool:
    """The acknowledgment field. False: the segment is not to be looked at further."""
    acknowledgment = unwrap(socket.snd_una, arrival.acknowledgment)
    if acknowledgment > socket.snd_nxt or acknowledgment < socket.snd_una - socket.max_snd_wnd:
        socket.challenge(now=now)  # RFC 5961 §5.2
        _drop(socket)
        return False
    is_news = False
    if arrival.options and socket.recovery.is_selective:
        is_news = _take_selective(socket, arrival.options)
    window = arrival.window << socket.peer_scale
    same_window = window == socket.snd_wnd
    if (socket.snd_wl1, socket.snd_wl2) <= (sequence, acknowledgment) and acknowledgment >= socket.snd_una:
        socket.snd_wl1, socket.snd_wl2 = sequence, acknowledgment
        if not same_window:
            socket.snd_wnd = window
            socket.max_snd_wnd = max(socket.max_snd_wnd, window)
            socket.table.to_serve[socket] = None
    if acknowledgment > socket.snd_una:
        _advance_una(socket, acknowledgment, now=now)
    elif acknowledgment == socket.snd_una and socket.snd_nxt > socket.snd_una:
        # RFC 5681 §2: no data, no window change, something outstanding. With SACK only news count.
        pure = not arrival.size and not arrival.flags & FIN
        if is_news or (pure and same_window and not socket.recovery.is_selective):
            socket.recovery.duplicates += 1
            _check_loss(socket, now=now)
    if socket.snd_wnd == 0:
        socket.retries = 0  # probes are answered: the connection lives (RFC 9293 MUST-37)
    return socket.state is not State.CLOSED


def _take_selective(socket: TcpSocket, options: bytes | memoryview) -> bool:
    """Note the SACK blocks that make sense; True if any told something new."""
    if len(options) < 10 or SACK not in bytes(options):
        return False
    is_news = False
    for left, right in TcpOptions.decode(options).sack_blocks:
        start, end = unwrap(socket.snd_una, left), unwrap(socket.snd_una, right)
        if socket.snd_una < start < end <= socket.snd_nxt:
            is_news |= socket.recovery.add_sacked(start, end)
    return is_news


def _check_loss(socket: TcpSocket, *, now: float) -> None:
    recovery = socket.recovery
    socket.table.to_serve[socket] = None
    if recovery.phase is Phase.OPEN:
        if recovery.sees_loss(socket.snd_una):
            in_flight = socket.snd_nxt - socket.snd_una
            recovery.start_fast(socket.snd_una, socket.snd_nxt)
            socket.congestion.lost(in_flight, now=now)
            socket.timed_position = 0
            socket.probes_tail = False
    elif recovery.phase is Phase.RECOVERY:
        recovery.update_edge(socket.snd_una)


def _advance_una(socket: TcpSocket, acknowledgment: int, *, now: float) -> None:
    """New data, or our FIN, was acknowledged."""
    acked = acknowledgment - socket.snd_una
    in_flight = socket.snd_nxt - socket.snd_una
    socket.snd_una = acknowledgment
    socket.retries = 0
    data_end = socket.data_start + socket.snd_buffer.stored
    released = min(acknowledgment, data_end) - socket.data_start
    if released > 0:
        socket.snd_buffer.release(released)
        socket.data_start += released
        if not socket.is_closed:
            socket.table.ready[socket] = None
    if socket.timed_position and acknowledgment >= socket.timed_position:
        socket.timeout.measured(now - socket.timed_at)
        socket.timed_position = 0
    else:
        socket.timeout.settle()
    was = socket.recovery.phase
    socket.recovery.progressed(acknowledgment)
    if was is not Phase.RECOVERY and 2 * in_flight >= socket.congestion.window:
        socket.congestion.acknowledged(acked, now=now, rtt_s=socket.timeout.smoothed_rtt_s)
    if was is Phase.OPEN and socket.recovery.sacked:
        _check_loss(socket, now=now)
    socket.retransmit_at = NEVER  # departing arms it again while anything is outstanding
    socket.table.to_serve[socket] = None
    if socket.fin_position is not None and acknowledgment > socket.fin_position:
        _fin_acknowledged(socket, now=now)


def _fin_acknowledged(socket: TcpSocket, *, now: float) -> None:
    if socket.state is State.FIN_WAIT_1:
        socket.advance(Cause.FIN_ACKNOWLEDGED)
    elif socket.state is State.CLOSING:
        socket.advance(Cause.FIN_ACKNOWLEDGED)
        _start_time_wait(socket, now=now)
    elif socket.state is State.LAST_ACK:
        socket.advance(Cause.FIN_ACKNOWLEDGED)
        socket.forget()


def _start_time_wait(socket: TcpSocket, *, now: float) -> None:
    socket.wait_at = now + TIME_WAIT_S
    socket.retransmit_at = socket.persist_at = socket.keep_alive_at = NEVER
    socket.snd_buffer.drop()


def _take_text(socket: TcpSocket, arrival: Arrival, sequence: int, *, now: float) -> None:
    """RFC 9293 §3.10.7.4, seventh and eighth: the segment text, and the FIN."""
    if socket.state not in MAY_RECEIVE_DATA:
        if arrival.size and sequence + arrival.size > socket.rcv_nxt:
            socket.challenge(now=now)  # data after the peer's own FIN
            _drop(socket)
        return
    if arrival.flags & FIN and socket.peer_fin is None:
        position = sequence + arrival.size
        if position <= socket.rcv_nxt + socket.rcv_buffer.window:
            socket.peer_fin = position
            socket.acks_due = max(socket.acks_due, 1)
            socket.table.to_serve[socket] = None
    if arrival.size:
        _take_data(socket, arrival, sequence, now=now)
    if socket.peer_fin == socket.rcv_nxt and socket.state in MAY_RECEIVE_DATA:
        _take_fin(socket, now=now)


def _take_data(socket: TcpSocket, arrival: Arrival, sequence: int, *, now: float) -> None:
    """Store what lies in the window and decide when to acknowledge it."""
    buffer = socket.rcv_buffer
    ahead = sequence - socket.rcv_nxt
    size, payload, rows = arrival.size, arrival.payload, arrival.rows
    limit = buffer.window if socket.peer_fin is None else min(buffer.window, socket.peer_fin - socket.rcv_nxt)
    if ahead < 0 or ahead + size > limit:  # cut to what is new and fits
        skip = max(-ahead, 0)
        ahead += skip
        size = min(size - skip, limit - ahead)
        if size <= 0:
            socket.acks_due = max(socket.acks_due, 1)
            socket.table.to_serve[socket] = None
            return
        payload, rows = arrival.contiguous()[skip : skip + size], None
    had_islands = bool(buffer.islands)
    gained = buffer.store(ahead, payload, rows, size)
    socket.table.to_serve[socket] = None
    if not gained:
        # A duplicate acknowledgement; a peer without SACK needs as many as segments came (RFC 5681 §4.2).
        count = 1 if socket.recovery.is_selective else min(arrival.segments, DUPLICATE_THRESHOLD)
        socket.acks_due = min(socket.acks_due + count, DUPLICATE_THRESHOLD)
        return
    socket.rcv_nxt += gained
    socket.unacknowledged_bytes += gained
    if socket.is_closed:
        socket.discard()
    else:
        socket.table.ready[socket] = None
    if had_islands or arrival.segments > 1 or socket.unacknowledged_bytes >= 2 * socket.segment_bytes:
        socket.acks_due = max(socket.acks_due, 1)
    elif socket.ack_at == NEVER:
        socket.ack_at = now + DELAYED_ACK_S


def _take_fin(socket: TcpSocket, *, now: float) -> None:
    """Everything before the peer's FIN is here."""
    socket.rcv_nxt += 1
    socket.acks_due = max(socket.acks_due, 1)
    socket.table.to_serve[socket] = None
    socket.table.ready[socket] = None
    socket.advance(Cause.FIN_ARRIVED)
    if socket.state is State.TIME_WAIT:
        _start_time_wait(socket, now=now)


def _drop(socket: TcpSocket) -> None:
    socket.table.drops[DropReason.UNACCEPTABLE] += 1

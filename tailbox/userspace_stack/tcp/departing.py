"""What to send now. Sources: RFC 9293 §3.8, RFC 5681, RFC 6675 §5.

The stack calls `depart` once per `collect` for every connection that something happened to. Data leaves as trains: a
stretch of the send buffer is cut into trains in one operation, retransmissions too. One acknowledgement answers all
that arrived since the last call, and data carries it along if there is any.
"""

from __future__ import annotations

import struct

from tailbox.userspace_stack.outbox import train_packets
from tailbox.userspace_stack.segments import ACK, FIN, MAX_ROWS, PSH, SYN
from tailbox.userspace_stack.tcp.connection import NEVER, ORPHAN_S, WINDOW_SCALE, TcpSocket
from tailbox.userspace_stack.tcp.retransmission import Phase
from tailbox.userspace_stack.tcp.states import MAY_RECEIVE_DATA, State
from tailbox.wire.tcp import MAX_SACK_BLOCKS, TcpOptions

MAX_TRAINS = 4  # per connection and collect: more at once overflows a peer's receive buffer (performance.md §15)
MAX_PERSIST_S = 60.0

_OPENING = (State.SYN_SENT, State.SYN_RECEIVED)


def depart(socket: TcpSocket, *, now: float) -> bool:
    """Send what is due. True: there is more, and `collect` should be called again at once."""
    if socket.state is State.CLOSED:
        return False
    if socket.state in _OPENING:
        if socket.syn_due:
            _send_syn(socket, now=now)
        if socket.acks_due and socket.state is State.SYN_RECEIVED:
            _send_acknowledgement(socket)
        _arm(socket, now=now)
        return False
    if socket.round_bytes >= socket.rcv_buffer.capacity:
        socket.tune_window(now=now)
    if socket.acks_due and socket.rcv_buffer.islands:
        _send_acknowledgements(socket)  # they carry SACK blocks, which data does not
    is_unfinished = socket.state is not State.TIME_WAIT and _transmit(socket, now=now)
    if socket.acks_due or _window_opened(socket):
        _send_acknowledgements(socket)
    _arm(socket, now=now)
    return is_unfinished


def send_probe(socket: TcpSocket) -> None:
    """An empty segment just below the window: every TCP answers it with its present state, as Linux relies on too."""
    packet = socket.template.segment(socket.snd_una - 1, socket.rcv_nxt, ACK, _window_field(socket))
    socket.table.outbox.post(packet, loops=socket.template.loops)


def _send_syn(socket: TcpSocket, *, now: float) -> None:
    """SYN, or SYN, ACK. The window in it is never scaled."""
    socket.syn_due = False
    is_answer = socket.state is State.SYN_RECEIVED
    options = TcpOptions(
        maximum_segment_size=socket.offered_segment_bytes,
        window_scale=WINDOW_SCALE if socket.scales else None,
        sack_permitted=socket.recovery.is_selective or not is_answer,
    ).encode()
    window = min(socket.rcv_buffer.capacity, 0xFFFF)
    socket.rcv_adv = socket.rcv_nxt + window
    flags = SYN | ACK if is_answer else SYN
    packet = socket.template.segment(socket.iss, socket.rcv_nxt, flags, window, options=options)
    socket.table.outbox.post(packet, loops=socket.template.loops)
    if socket.snd_nxt == socket.iss:
        socket.snd_nxt = socket.iss + 1
        socket.timed_position, socket.timed_at = socket.snd_nxt, now


def _transmit(socket: TcpSocket, *, now: float) -> bool:
    """Send lost and new data as far as windows allow; True if only MAX_TRAINS stopped it."""
    data_end = socket.data_start + socket.snd_buffer.stored
    is_fin_due = socket.is_shut_down and socket.fin_position is None
    recovery = socket.recovery
    if socket.snd_nxt >= data_end and not is_fin_due and recovery.phase is Phase.OPEN and not socket.probe_now:
        return False
    if socket.snd_una == socket.snd_nxt and now - socket.sent_at > socket.timeout.rto_s:
        socket.congestion.restart()
    is_probe, socket.probe_now = socket.probe_now, False
    per_train = train_packets(socket.template.header_bytes + socket.segment_bytes)
    left = min(MAX_TRAINS * per_train, MAX_ROWS - 1) * socket.segment_bytes
    while left > 0:
        allowed = min(socket.congestion.window - recovery.pipe(socket.snd_una, socket.snd_nxt), left)
        hole = recovery.next_hole(socket.snd_una)
        if hole is not None:
            length = _send_again(socket, *hole, allowed, now=now)
        else:
            length = _send_new(socket, data_end, allowed, is_probe=is_probe, now=now)
        if not length:
            if is_probe and hole is None and socket.snd_nxt > socket.snd_una:
                start = max(socket.snd_una, socket.snd_nxt - socket.segment_bytes)
                socket.timed_position = 0
                _send_stretch(socket, start, socket.snd_nxt - start, now=now)
            return False
        is_probe = False
        left -= length
        if socket.snd_nxt >= data_end and recovery.phase is Phase.OPEN and not is_fin_due:
            return False  # the usual end: all is sent
    return True


def _send_again(socket: TcpSocket, start: int, end: int, allowed: int, *, now: float) -> int:
    """Send lost data again; returns how much. A recovery's first segment needs no room in the congestion window."""
    segment = socket.segment_bytes
    is_first = socket.recovery.high_retransmitted <= socket.snd_una
    room = max(socket.snd_una + max(socket.snd_wnd, segment) - start, 0)
    length = min(end - start, max(allowed // segment, int(is_first)) * segment, room)
    if length <= 0:
        return 0
    socket.timed_position = 0  # Karn's rule
    _send_stretch(socket, start, length, now=now)
    socket.recovery.high_retransmitted = start + length
    return length


def _send_new(socket: TcpSocket, data_end: int, allowed: int, *, is_probe: bool, now: float) -> int:
    """Send data, and the FIN, for the first time; returns how many sequence numbers that took."""
    length = _new_length(socket, data_end, allowed, is_probe=is_probe)
    if length:
        if not socket.timed_position and socket.recovery.phase is Phase.OPEN:
            socket.timed_position, socket.timed_at = socket.snd_nxt + length, now
        _send_stretch(socket, socket.snd_nxt, length, now=now)
        socket.snd_nxt += length
    return length


def _new_length(socket: TcpSocket, data_end: int, allowed: int, *, is_probe: bool) -> int:
    """How many new sequence numbers may go now: whole segments, or all that is left, and the FIN behind it.

    Silly window avoidance (RFC 9293 §3.8.6.2.1): a part of what waits goes only if it is at least half of the largest
    window the peer ever offered, or if the persist timer (`is_probe`) overrides. Nagle's algorithm is off.
    """
    unsent = data_end - socket.snd_nxt
    window = socket.snd_una + socket.snd_wnd - socket.snd_nxt
    length = max(min(unsent, window, allowed), 0)
    if 0 < length < unsent:
        whole = length - length % socket.segment_bytes
        if whole:
            length = whole
        elif not is_probe and (allowed < window or 2 * length < socket.max_snd_wnd):
            return 0
    if socket.is_shut_down and socket.fin_position is None and length == unsent and window >= unsent:
        socket.fin_position = data_end
        return length + 1
    return length


def _send_stretch(socket: TcpSocket, start: int, length: int, *, now: float) -> None:
    """Send sequence numbers [start, start + length): data, and the FIN if it is among them."""
    socket.sent_at = now
    data_end = socket.data_start + socket.snd_buffer.stored
    count = min(start + length, data_end) - start
    has_fin = socket.fin_position is not None and start + length > socket.fin_position
    flags = ACK | FIN if has_fin else ACK
    if count > 0:
        if start + count == data_end:
            flags |= PSH
        socket.table.outbox.post_stream(
            socket.template,
            socket.snd_buffer.view(start - socket.data_start, count),
            segment_bytes=socket.segment_bytes,
            sequence=start,
            acknowledgment=socket.rcv_nxt,
            window=_window_field(socket),
            last_flags=flags,
        )
    else:
        packet = socket.template.segment(start, socket.rcv_nxt, flags, _window_field(socket))
        socket.table.outbox.post(packet, loops=socket.template.loops)
    _acknowledged_now(socket)


def _window_opened(socket: TcpSocket) -> bool:
    """Whether the application has read so much that the peer should hear of it (RFC 9293 §3.8.6.2.2)."""
    buffer = socket.rcv_buffer
    opened = socket.rcv_nxt + buffer.window - socket.rcv_adv
    return socket.state in MAY_RECEIVE_DATA and opened >= buffer.capacity >> 1 and socket.peer_fin is None


def _window_field(socket: TcpSocket) -> int:
    """Move the advertised right edge by worthwhile steps only, and say how far away it is."""
    buffer = socket.rcv_buffer
    edge = socket.rcv_nxt + buffer.window
    if edge - socket.rcv_adv >= min(buffer.capacity >> 1, socket.segment_bytes):
        socket.rcv_adv = edge
    window = max(socket.rcv_adv - socket.rcv_nxt, 0)
    return min(window >> WINDOW_SCALE if socket.scales else window, 0xFFFF)


def _send_acknowledgements(socket: TcpSocket) -> None:
    """One, or as many duplicates as a peer without SACK must count to notice a loss."""
    for _ in range(max(socket.acks_due, 1)):
        _send_acknowledgement(socket)


def _send_acknowledgement(socket: TcpSocket) -> None:
    options = b""
    buffer = socket.rcv_buffer
    if buffer.islands and socket.recovery.is_selective:
        base = socket.rcv_nxt - buffer.end  # position of the stream's beginning
        blocks = buffer.selective_blocks(MAX_SACK_BLOCKS)
        edges = [base + edge & 0xFFFFFFFF for block in blocks for edge in block]
        options = struct.pack(f">BBBB{len(edges)}I", 1, 1, 5, 2 + 4 * len(edges), *edges)
    packet = socket.template.segment(socket.snd_nxt, socket.rcv_nxt, ACK, _window_field(socket), options=options)
    socket.table.outbox.post(packet, loops=socket.template.loops)
    _acknowledged_now(socket)


def _acknowledged_now(socket: TcpSocket) -> None:
    socket.acks_due = 0
    socket.ack_at = NEVER
    socket.unacknowledged_bytes = 0


def _arm(socket: TcpSocket, *, now: float) -> None:
    """Set the timers that follow from what is outstanding, and ask to be woken for the first of all."""
    if socket.snd_nxt > socket.snd_una:
        socket.persist_at = NEVER
        socket.persist_interval_s = 0.0
        if socket.retransmit_at == NEVER:
            _arm_retransmission(socket, now=now)
    else:
        socket.retransmit_at = NEVER
        _arm_persistence(socket, now=now)
    if socket.is_closed and socket.state is State.FIN_WAIT_2 and socket.wait_at == NEVER:
        socket.wait_at = now + ORPHAN_S
    if socket.keep_alive_idle_s and socket.keep_alive_at == NEVER and socket.state not in _OPENING:
        socket.keep_alive_at = socket.touched_at + socket.keep_alive_idle_s
    first = min(socket.retransmit_at, socket.persist_at, socket.ack_at, socket.wait_at, socket.keep_alive_at)
    if first < socket.armed_at:
        socket.table.wake_at(socket, first)


def _arm_retransmission(socket: TcpSocket, *, now: float) -> None:
    """The tail loss probe comes first where a round trip is known; the timeout itself otherwise."""
    timeout = socket.timeout
    delay = timeout.rto_s
    socket.probes_tail = False
    if socket.recovery.phase is Phase.OPEN and not socket.retries and socket.state not in _OPENING:
        probe = timeout.probe_timeout_s(lone_segment=socket.snd_nxt - socket.snd_una <= socket.segment_bytes)
        if probe < delay:
            delay = probe
            socket.probes_tail = True
    socket.retransmit_at = now + delay


def _arm_persistence(socket: TcpSocket, *, now: float) -> None:
    """Nothing is outstanding, so no acknowledgement will come to say that the window opened: probe it."""
    unsent = socket.data_start + socket.snd_buffer.stored > socket.snd_nxt
    blocked = unsent or (socket.is_shut_down and socket.fin_position is None)
    if not blocked or socket.state in _OPENING:
        socket.persist_at = NEVER
        socket.persist_interval_s = 0.0
    elif socket.persist_at == NEVER:
        doubled = 2 * socket.persist_interval_s or socket.timeout.rto_s
        socket.persist_interval_s = min(doubled, MAX_PERSIST_S)
        socket.persist_at = now + socket.persist_interval_s

"""What happens when a connection's timers expire.

Sources: RFC 6298 §5, RFC 9293 §3.8.3, §3.8.4 and §3.8.6.1, RFC 8985 §7.
"""

from __future__ import annotations

from tailbox.userspace_stack.tcp.connection import NEVER, TcpSocket
from tailbox.userspace_stack.tcp.departing import send_probe
from tailbox.userspace_stack.tcp.states import SocketError, State

MAX_SYN_RETRIES = 6  # Linux tcp_syn_retries: about two minutes
MAX_SYN_ACK_RETRIES = 4  # about half a minute, the life of a half-open connection
MAX_RETRIES = 15  # RFC 9293 R2, Linux tcp_retries2


def expire(socket: TcpSocket, *, now: float) -> None:
    """Act on every timer that is due. Harmless early and twice."""
    if socket.state is State.CLOSED:
        return
    socket.table.to_serve[socket] = None  # arms what is left
    if socket.ack_at <= now:
        socket.ack_at = NEVER
        socket.acks_due = max(socket.acks_due, 1)
    if socket.retransmit_at <= now:
        _retransmission_due(socket, now=now)
    if socket.persist_at <= now:
        _persistence_due(socket)
    if socket.keep_alive_at <= now:
        _keep_alive_due(socket, now=now)
    if socket.wait_at <= now:
        socket.forget()


def _retransmission_due(socket: TcpSocket, *, now: float) -> None:
    socket.retransmit_at = NEVER
    if socket.probes_tail:
        socket.probes_tail = False
        socket.probe_now = True
        socket.retransmit_at = now + socket.timeout.rto_s
        return
    socket.retries += 1
    socket.timed_position = 0  # Karn's rule
    if socket.state in (State.SYN_SENT, State.SYN_RECEIVED):
        limit = MAX_SYN_ACK_RETRIES if socket.is_passive else MAX_SYN_RETRIES
        socket.syn_due = True
    else:
        limit = MAX_RETRIES
        if socket.retries == 1:
            socket.congestion.timed_out(socket.snd_nxt - socket.snd_una, now=now)
        socket.recovery.start_after_timeout(socket.snd_una, socket.snd_nxt, again=socket.retries > 1)
    if socket.retries > limit:
        socket.end(SocketError.TIMED_OUT)
        return
    socket.timeout.back_off()


def _persistence_due(socket: TcpSocket) -> None:
    """Probe a closed window; a window that is merely too small is used for what it is."""
    socket.persist_at = NEVER
    socket.retries += 1
    if socket.retries > MAX_RETRIES:
        socket.end(SocketError.TIMED_OUT)
    elif socket.snd_wnd > 0:
        socket.probe_now = True
    else:
        send_probe(socket)


def _keep_alive_due(socket: TcpSocket, *, now: float) -> None:
    socket.keep_alive_at = NEVER
    if not socket.keep_alive_idle_s:
        return
    if not socket.keep_alive_sent and socket.touched_at + socket.keep_alive_idle_s > now:
        return  # something came meanwhile; departing sets the timer again
    if socket.keep_alive_sent >= socket.keep_alive_probes:
        socket.end(SocketError.TIMED_OUT)
        return
    socket.keep_alive_sent += 1
    send_probe(socket)
    socket.keep_alive_at = now + socket.keep_alive_interval_s

"""Errors that we send, at a limited rate, and what errors from others mean for our flows.

An ICMP error is believed only as far as it quotes something that we sent (RFC 5927 §4): a flow that exists, and for TCP
a sequence number that is outstanding.
"""

from __future__ import annotations

from dataclasses import dataclass

from tailbox.errors import WireError
from tailbox.userspace_stack.tcp.connection import MIN_SEGMENT, TcpSocket
from tailbox.userspace_stack.tcp.sequence import unwrap
from tailbox.userspace_stack.tcp.states import SocketError, State
from tailbox.wire.icmp import MIN_IPV4_MTU, MIN_IPV6_MTU, DestinationUnreachable, OtherError, PacketTooBig
from tailbox.wire.ip import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, IPHeader

TCP_HEADER_BYTES = 20


class RateLimit:
    """A token bucket."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = float(burst)
        self._filled_at = -1.0

    def allows(self, *, now: float) -> bool:
        """Take a token, if there is one."""
        if self._filled_at >= 0:
            self._tokens = min(self._tokens + (now - self._filled_at) * self._per_s, self._burst)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(frozen=True, slots=True)
class Quote:
    """What an error says about the packet that caused it; we were its source."""

    header: IPHeader
    transport: bytes  # at least eight bytes

    @property
    def flow_key(self) -> bytes:
        """As packets coming back on that flow spell it: remote address, local address, remote port, local port."""
        ports = self.transport[2:4] + self.transport[0:2]
        return self.header.destination.packed + self.header.source.packed + ports


def read_quote(quoted: bytes) -> Quote | None:
    """The quoted packet, which is usually cut short: lengths are not believed."""
    minimum = IPV4_HEADER_BYTES if quoted[:1] and quoted[0] >> 4 == 4 else IPV6_HEADER_BYTES
    if len(quoted) < minimum + 8:
        return None
    try:
        header = IPHeader.decode(quoted + bytes(0xFFFF))  # padding stands for what was cut off
    except WireError:
        return None
    transport = quoted[header.header_bytes :]
    return Quote(header, transport) if len(transport) >= 8 else None


def handle_tcp_error(
    socket: TcpSocket, error: DestinationUnreachable | PacketTooBig | OtherError, quote: Quote, *, now: float
) -> bool:
    """Apply an error to the connection that it quotes. False: it quotes nothing outstanding."""
    sequence = unwrap(socket.snd_una, int.from_bytes(quote.transport[4:8], "big"))
    if not socket.snd_una <= sequence < max(socket.snd_nxt, socket.snd_una + 1):
        return False
    if isinstance(error, PacketTooBig):
        _shrink_segments(socket, error.mtu, quote)
    elif isinstance(error, DestinationUnreachable) and socket.state is State.SYN_SENT:
        socket.end(SocketError.UNREACHABLE)
    return True  # for an established connection these are soft errors (RFC 9293 MUST-56, RFC 5461)


def _shrink_segments(socket: TcpSocket, mtu: int, quote: Quote) -> None:
    """Path MTU discovery (RFC 1191, RFC 8201): smaller segments, and what was too big goes out again in them."""
    is_ipv6 = quote.header.source.version == 6
    header_bytes = (IPV6_HEADER_BYTES if is_ipv6 else IPV4_HEADER_BYTES) + TCP_HEADER_BYTES
    floor = MIN_IPV6_MTU if is_ipv6 else MIN_IPV4_MTU
    segment_bytes = max(max(mtu, floor) - header_bytes, MIN_SEGMENT)
    if segment_bytes >= socket.segment_bytes:
        return
    socket.set_segment_bytes(segment_bytes)
    socket.timed_position = 0
    if socket.state is not State.SYN_SENT and socket.state is not State.SYN_RECEIVED:
        socket.recovery.start_after_timeout(socket.snd_una, socket.snd_nxt, again=False)  # no loss: the window stays
        socket.table.to_serve[socket] = None

"""A UDP socket that speaks in trains: one system call sends up to 64 datagrams, one receives as many.

UDP_SEGMENT makes the kernel (or the network card) cut a train into datagrams, UDP_GRO makes it put arriving ones
together. Where the kernel refuses, trains are sent datagram by datagram. Source: udp(7); performance.md §10, §15.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tailbox.node.underlay_events import SegmentationOffloadRefused, UdpBound, UnderlayEvent
from tailbox.paths.path import Direct
from tailbox.runtime.network import Network, SocketAddress, UdpSocket
from tailbox.wire.addresses import Endpoint
from tailbox.wire.train import (
    LONGEST_TRAIN_BYTES,
    LONGEST_TRAIN_PACKETS,
    MAX_TRAIN_BYTES,
    MAX_TRAIN_PACKETS,
    Train,
)

UDP_SEGMENT, UDP_GRO = 103, 104  # linux/udp.h; the socket module has no names for them
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33  # asm-generic/socket.h
SOL_UDP = 17
BUFFER_BYTES = 7 << 20  # magicsock.go socketBufferSize
RECEIVE_BYTES = 65_536  # what one receive call may bring
RECEIVES_PER_WAKEUP = 8  # ours: then other sockets and timers get their turn
MAX_BACKLOG_BYTES = 256 * 1024  # ours: what waits for room in the kernel's buffer; more is dropped
MAX_CACHED_ADDRESSES = 4096  # ours: strangers can fill it, and it is emptied then
_GRO_ROOM = socket.CMSG_SPACE(4)
_SEGMENT_SIZE = struct.Struct("=H")
_GRO_SIZE = struct.Struct("=i")
_OFFLOAD_ERRORS = frozenset((errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP))
_UNREACHABLE = frozenset((errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT))


@dataclass(slots=True)
class UdpCounters:
    """Counts of one socket, never reset."""

    sent_packets: int = 0
    sent_bytes: int = 0
    received_packets: int = 0
    received_bytes: int = 0
    dropped_full: int = 0  # packets that found no room
    dropped_refused: int = 0  # packets that the system refused to send
    receive_errors: int = 0
    truncated: int = 0


class _Arrivals:
    """One buffer for what consecutive receive calls bring: side by side, what one sender sent is one long train."""

    __slots__ = ("_data", "_end", "_packets", "_start", "_stride", "sender")

    def __init__(self) -> None:
        self._data = memoryview(bytearray(LONGEST_TRAIN_BYTES))
        self._start = self._end = 0
        self._stride = 0
        self._packets = 0
        self.sender: SocketAddress | None = None

    def room(self) -> memoryview:
        """Where the next receive call may write."""
        return self._data[self._end : self._end + RECEIVE_BYTES]

    def continues(self, size: int, stride: int, packets: int, sender: SocketAddress) -> bool:
        """Whether what was just written to `room()` belongs to the train: equal packets, or a shorter last one."""
        return (
            self._end > self._start
            and (stride == self._stride or (packets == 1 and size < self._stride))
            and (self._end - self._start) % self._stride == 0
            and sender == self.sender
            and self._packets + packets <= LONGEST_TRAIN_PACKETS
        )

    def begin(self, stride: int, sender: SocketAddress) -> None:
        """What was just written is the start of a train. The former one has been taken."""
        self._stride, self.sender = stride, sender

    def add(self, size: int, packets: int) -> bool:
        """Count it in. False: take the train now, there is no room for more."""
        self._end += size
        self._packets += packets
        return self._end + RECEIVE_BYTES <= LONGEST_TRAIN_BYTES

    def take(self) -> Train:
        """The train; what was written behind it stays."""
        train = Train(self._data[self._start : self._end], self._stride)
        self._start, self._packets = self._end, 0
        return train

    def rewind(self) -> None:
        """Nothing is left in here: begin at the start again, where the cache is warm."""
        self._start = self._end = self._packets = 0
        self.sender = None


class TrainSocket:
    """One family's socket. A received train lives until its callback returns."""

    def __init__(
        self,
        network: Network,
        family: socket.AddressFamily,
        port: int,
        *,
        on_train: Callable[[Train, Direct], None],
        on_event: Callable[[UnderlayEvent], None],
        counters: UdpCounters | None = None,
        use_offload: bool = True,
    ) -> None:
        """Bind and start to receive. Raises OSError. `use_offload`: off to send and receive one by one."""
        self._network = network
        self._socket: UdpSocket = network.open_udp(family, port)
        self._on_train = on_train
        self._on_event = on_event
        self._backlog: deque[tuple[Train, SocketAddress]] = deque()
        self._backlog_bytes = 0
        self._addresses: dict[Endpoint, SocketAddress] = {}
        self._sources: dict[SocketAddress, Direct] = {}
        self._arrivals = _Arrivals()
        self._is_open = True
        self.ip_version = 6 if family == socket.AF_INET6 else 4
        self.counters = counters or UdpCounters()
        self.can_segment = use_offload and self._offers(UDP_SEGMENT)
        self.can_coalesce = use_offload and self._enable(SOL_UDP, UDP_GRO, 1)
        self._grow_buffers()
        self.port = self._socket.getsockname()[1]
        granted = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        on_event(UdpBound(self.ip_version, self.port, granted))
        network.watch_readable(self._socket, self._on_readable)

    def send(self, train: Train, endpoint: Endpoint) -> OSError | None:
        """Send now, or keep a copy until there is room, or drop and count. Returns why the address is unreachable."""
        address = self._addresses.get(endpoint) or self._address_of(endpoint)
        if self._backlog:
            self._keep(train, address)
            return None
        return self._send_pieces(train, address)

    def close(self) -> None:
        """Harmless twice."""
        if self._is_open:
            self._is_open = False
            self._network.watch_readable(self._socket, None)
            self._network.watch_writable(self._socket, None)
            self._backlog.clear()
            self._socket.close()

    # Sending.

    def _send_pieces(self, train: Train, address: SocketAddress) -> OSError | None:
        """Cut what one call cannot take, and send piece by piece."""
        stride, size = train.stride, len(train.data)
        piece_bytes = min(MAX_TRAIN_PACKETS, MAX_TRAIN_BYTES // stride) * stride if self.can_segment else stride
        if size <= piece_bytes or piece_bytes == 0:
            return self._send_piece(train, address, train)
        view = memoryview(train.data)
        for start in range(0, size, piece_bytes):
            piece = Train(view[start : start + piece_bytes], min(stride, size - start))
            error = self._send_piece(piece, address, Train(view[start:], min(stride, size - start)))
            if error is not None or self._backlog or not self._is_open:
                return error
        return None

    def _send_piece(self, piece: Train, address: SocketAddress, unsent: Train) -> OSError | None:
        """One call. `unsent`: the piece and all after it, to be kept if there is no room now."""
        data, stride = piece.data, piece.stride
        try:
            if len(data) <= stride:
                self._socket.sendto(data, address)
            else:
                self._socket.sendmsg((data,), ((SOL_UDP, UDP_SEGMENT, _SEGMENT_SIZE.pack(stride)),), 0, address)
        except BlockingIOError:
            self._keep(unsent, address)
            return None
        except OSError as error:
            if len(data) > stride and error.errno in _OFFLOAD_ERRORS:
                self._stop_segmenting(error)
                return self._send_pieces(unsent, address)
            self.counters.dropped_refused += len(unsent)
            return error if error.errno in _UNREACHABLE else None
        self.counters.sent_packets += len(piece)
        self.counters.sent_bytes += len(data)
        return None

    def _stop_segmenting(self, error: OSError) -> None:
        if self.can_segment:
            self.can_segment = False
            self._on_event(SegmentationOffloadRefused(self.ip_version, error.strerror or str(error)))

    def _keep(self, train: Train, address: SocketAddress) -> None:
        if self._backlog_bytes + len(train.data) > MAX_BACKLOG_BYTES:
            self.counters.dropped_full += len(train)
            return
        if not self._backlog:
            self._network.watch_writable(self._socket, self._on_writable)
        self._backlog.append((train.copied(), address))
        self._backlog_bytes += len(train.data)

    def _on_writable(self) -> None:
        waiting, self._backlog = self._backlog, deque()
        self._backlog_bytes = 0
        self._network.watch_writable(self._socket, None)
        for train, address in waiting:
            if self._backlog:
                self._keep(train, address)
            else:
                self._send_pieces(train, address)

    def _address_of(self, endpoint: Endpoint) -> SocketAddress:
        if len(self._addresses) >= MAX_CACHED_ADDRESSES:
            self._addresses.clear()
        host = str(endpoint.ip)
        address: SocketAddress = (host, endpoint.port, 0, 0) if self.ip_version == 6 else (host, endpoint.port)
        self._addresses[endpoint] = address
        return address

    # Receiving.

    def _on_readable(self) -> None:
        """Drain the socket, within bounds. Several full loads of one sender are handed on as one long train."""
        arrivals = self._arrivals
        for _ in range(RECEIVES_PER_WAKEUP):
            try:
                size, control, flags, sender = self._socket.recvmsg_into((arrivals.room(),), _GRO_ROOM)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # an ICMP error of something sent earlier; the next call goes on
                self.counters.receive_errors += 1
                continue
            if flags & socket.MSG_TRUNC:
                self.counters.truncated += 1
            elif size:
                self._take_in(size, _stride_of(size, control), sender)
                if not self._is_open:  # closed by what the last train led to
                    return
        self._hand_on()

    def _take_in(self, size: int, stride: int, sender: SocketAddress) -> None:
        arrivals, packets = self._arrivals, -(-size // stride)
        self.counters.received_packets += packets
        self.counters.received_bytes += size
        if not arrivals.continues(size, stride, packets, sender):
            if arrivals.sender is not None:
                self._on_train(arrivals.take(), self._source_at(arrivals.sender))
            arrivals.begin(stride, sender)
        if not arrivals.add(size, packets):
            self._hand_on()

    def _hand_on(self) -> None:
        arrivals = self._arrivals
        if arrivals.sender is not None and self._is_open:
            self._on_train(arrivals.take(), self._source_at(arrivals.sender))
        arrivals.rewind()

    def _source_at(self, address: SocketAddress) -> Direct:
        return self._sources.get(address) or self._source_of(address)

    def _source_of(self, address: SocketAddress) -> Direct:
        if len(self._sources) >= MAX_CACHED_ADDRESSES:
            self._sources.clear()
        host, _, zone = address[0].partition("%")
        endpoint = Endpoint(ipaddress.ip_address(host), address[1])
        if zone:  # answers to link-local addresses need the interface
            self._address_of(endpoint)
            self._addresses[endpoint] = address
        source = self._sources[address] = Direct(endpoint)
        return source

    # Options.

    def _offers(self, option: int) -> bool:
        try:
            self._socket.getsockopt(SOL_UDP, option)
        except OSError:
            return False
        return True

    def _enable(self, level: int, option: int, value: int) -> bool:
        try:
            self._socket.setsockopt(level, option, value)
        except OSError:
            return False
        return True

    def _grow_buffers(self) -> None:
        """The forced options need a privilege; the plain ones grant what the system's limit allows."""
        for forced, plain in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            if not self._enable(socket.SOL_SOCKET, forced, BUFFER_BYTES):
                self._enable(socket.SOL_SOCKET, plain, BUFFER_BYTES)


def _stride_of(size: int, control: list[tuple[int, int, bytes]]) -> int:
    """What UDP_GRO says of the datagrams that one call brought; without it there is one."""
    for level, kind, value in control:
        if level == SOL_UDP and kind == UDP_GRO:
            stride: int = _GRO_SIZE.unpack_from(value)[0]
            return stride if 0 < stride <= size else size
    return size

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
from tailbox.wire.train import MAX_TRAIN_BYTES, MAX_TRAIN_PACKETS, Train

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


class TrainSocket:
    """One family's socket. Received trains live until the wakeup after next."""

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
        self._buffers = [memoryview(bytearray(RECEIVE_BYTES)) for _ in range(RECEIVES_PER_WAKEUP)]
        self._next_buffer = 0
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
        if self._buffers:
            self._network.watch_readable(self._socket, None)
            self._network.watch_writable(self._socket, None)
            self._backlog.clear()
            self._buffers = []
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
            if error is not None or self._backlog or not self._buffers:
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
        counters = self.counters
        for _ in range(RECEIVES_PER_WAKEUP):
            if not self._buffers:  # closed by what the last train led to
                return
            buffer = self._buffers[self._next_buffer]
            self._next_buffer = (self._next_buffer + 1) % RECEIVES_PER_WAKEUP
            try:
                size, control, flags, address = self._socket.recvmsg_into((buffer,), _GRO_ROOM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # an ICMP error of something sent earlier; the next call goes on
                counters.receive_errors += 1
                continue
            if flags & socket.MSG_TRUNC:
                counters.truncated += 1
                continue
            stride = size
            for level, kind, value in control:
                if level == SOL_UDP and kind == UDP_GRO:
                    stride = _GRO_SIZE.unpack_from(value)[0]
            if not 0 < stride <= size:
                stride = size
            if not size:
                continue
            train = Train(buffer[:size], stride)
            counters.received_packets += len(train)
            counters.received_bytes += size
            self._on_train(train, self._sources.get(address) or self._source_of(address))

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

"""Sockets of the stack in asyncio's own shapes: StreamReader, StreamWriter, a server, datagrams.

`StackTransport` is an asyncio transport over a TCP socket of the stack, so the readers and writers on top are asyncio's
own, and whatever works on them works here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from tailbox.node.core.tap import PacketTap, TapPoint
from tailbox.node.driver import EngineDriver
from tailbox.userspace_stack.errors import StackError
from tailbox.userspace_stack.stack import TcpListener, TcpSocket, UdpSocket
from tailbox.userspace_stack.tcp.states import SocketError, State
from tailbox.wire.addresses import Endpoint

READ_CHUNK_BYTES = 256 * 1024  # ours: handed to a protocol at once
HIGH_WATER_BYTES = 64 * 1024  # asyncio's own default

ConnectionHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


class StackTransport(asyncio.Transport):
    """An asyncio transport over one TCP socket of the stack."""

    _start_tls_compatible = True  # asyncio asks for it before loop.start_tls

    def __init__(
        self, tcp: TcpSocket, driver: EngineDriver, protocol: asyncio.BaseProtocol, *, tap: PacketTap | None = None
    ) -> None:
        super().__init__(
            {"peername": (str(tcp.remote.ip), tcp.remote.port), "sockname": (str(tcp.local.ip), tcp.local.port)}
        )
        self._tcp = tcp
        self._driver = driver
        self._tap = tap
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._buffer: deque[memoryview] = deque()
        self._buffered = 0
        self._high, self._low = HIGH_WATER_BYTES, HIGH_WATER_BYTES // 4
        self._is_reading = True
        self._writer_paused = False
        self._eof_sent = False
        self._eof_seen = False
        self._is_closing = False
        self._is_lost = False
        driver.watch(tcp, self._on_ready)
        protocol.connection_made(self)
        self._loop.call_soon(self._on_ready)

    # asyncio.Transport.

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return self._is_reading and not self._is_closing

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        self._loop.call_soon(self._on_ready)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof_sent:
            raise RuntimeError("cannot write after write_eof()")
        if self._is_lost or not data:
            return
        if self._tap is not None:
            self._tap.record(TapPoint.APPLICATION_SENT, None, data, detail="", now=self._driver.now)
        taken = 0
        if not self._buffer:
            taken = self._take(memoryview(data))
        if taken < len(data):
            self._buffer.append(memoryview(bytes(memoryview(data)[taken:])))
            self._buffered += len(data) - taken
            self._pause_writer()
        self._driver.touched()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._eof_sent and not self._is_lost:
            self._eof_sent = True
            self._write_out()

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._write_out()

    def abort(self) -> None:
        if not self._is_lost:
            self._tcp.abort()
            self._lose(None)

    def get_write_buffer_size(self) -> int:
        return self._buffered

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high if high is not None else (4 * low if low is not None else HIGH_WATER_BYTES)
        self._low = low if low is not None else self._high // 4
        self._pause_writer()

    # Inside.

    def _on_ready(self) -> None:
        if self._is_over():
            return
        self._read_in()
        if not self._is_over() and (self._buffer or self._is_closing):
            self._write_out()
        if not self._is_over() and self._tcp.error is not None and not self._tcp.readable_bytes:
            self._lose(exception_of(self._tcp.error))

    def _is_over(self) -> bool:
        return self._is_lost

    def _read_in(self) -> None:
        while self._is_reading and not self._is_closing and self._tcp.readable_bytes:
            data = self._tcp.read(READ_CHUNK_BYTES)
            if self._tap is not None:
                self._tap.record(TapPoint.APPLICATION_RECEIVED, None, data, detail="", now=self._driver.now)
            self._hand_over(data)
            self._driver.touched()
        ended = self._tcp.at_eof and self._tcp.error is None  # a reset is no end of data
        if ended and not self._eof_seen and self._is_reading and not self._is_closing:
            self._eof_seen = True
            assert isinstance(self._protocol, asyncio.Protocol | asyncio.BufferedProtocol)
            if not self._protocol.eof_received():
                self.close()

    def _hand_over(self, data: bytes) -> None:
        if isinstance(self._protocol, asyncio.BufferedProtocol):
            rest = memoryview(data)
            while rest:
                room = memoryview(self._protocol.get_buffer(len(rest)))
                count = min(len(room), len(rest))
                room[:count] = rest[:count]
                self._protocol.buffer_updated(count)
                rest = rest[count:]
        else:
            assert isinstance(self._protocol, asyncio.Protocol)
            self._protocol.data_received(data)

    def _write_out(self) -> None:
        while self._buffer:
            taken = self._take(self._buffer[0])
            self._buffered -= taken
            if taken < len(self._buffer[0]):
                self._buffer[0] = self._buffer[0][taken:]
                break
            self._buffer.popleft()
        if self._writer_paused and self._buffered <= self._low:
            self._writer_paused = False
            self._protocol.resume_writing()
        if not self._buffer and self._is_closing:
            self._tcp.close()
            self._lose(None)
        elif not self._buffer and self._eof_sent:
            self._tcp.shutdown()
        self._driver.touched()

    def _take(self, data: memoryview) -> int:
        try:
            return self._tcp.write(data)
        except StackError:
            return len(data)  # the connection is over: its error follows by _on_ready

    def _pause_writer(self) -> None:
        if self._buffered > self._high and not self._writer_paused:
            self._writer_paused = True
            self._protocol.pause_writing()

    def _lose(self, error: Exception | None) -> None:
        self._is_lost = self._is_closing = True
        self._buffer.clear()
        self._buffered = 0
        self._driver.unwatch(self._tcp)
        self._driver.touched()
        self._loop.call_soon(self._protocol.connection_lost, error)


class StackServer:
    """Accepts connections to one port of the node, as asyncio's server does."""

    def __init__(
        self, listener: TcpListener, driver: EngineDriver, handler: ConnectionHandler, *, tap: PacketTap | None = None
    ) -> None:
        self._listener = listener
        self._driver = driver
        self._handler = handler
        self._tap = tap
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = asyncio.Event()
        driver.watch(listener, self._on_ready)

    @property
    def port(self) -> int:
        return self._listener.port

    def is_serving(self) -> bool:
        return not self._closed.is_set()

    def close(self) -> None:
        """Stop accepting. Connections already accepted go on."""
        if self.is_serving():
            self._driver.unwatch(self._listener)
            self._listener.close()
            self._driver.touched()
            self._closed.set()

    async def wait_closed(self) -> None:
        await self._closed.wait()

    async def __aenter__(self) -> StackServer:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self.close()

    def _on_ready(self) -> None:
        while (tcp := self._listener.accept()) is not None:
            reader, writer = stream_pair(tcp, self._driver, tap=self._tap)
            task = asyncio.get_running_loop().create_task(self._handle(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            result = self._handler(reader, writer)
            if result is not None:
                await result
        except (ConnectionError, TimeoutError):
            writer.transport.abort()
        except BaseException:
            writer.transport.abort()
            raise


class StackDatagrams:
    """A UDP port of the node."""

    def __init__(self, udp: UdpSocket, driver: EngineDriver, remote: Endpoint | None) -> None:
        self._udp = udp
        self._driver = driver
        self._remote = remote
        self._ready = asyncio.Event()
        self._is_closed = False
        driver.watch(udp, self._ready.set)

    @property
    def local(self) -> Endpoint:
        return self._udp.local

    def send(self, payload: bytes, remote: Endpoint | None = None) -> None:
        """Send to `remote`, or to the one this was opened for. Raises StackError."""
        target = remote or self._remote
        if target is None:
            raise ValueError("no destination: give one here, or to open_datagram")
        self._udp.send_to(payload, target)
        self._driver.touched()

    async def receive(self) -> tuple[bytes, Endpoint]:
        """The next datagram and its sender. Raises ConnectionResetError after close."""
        while True:
            received = self._udp.receive()
            if received is not None:
                return received
            if self._is_closed:
                raise ConnectionResetError("datagram socket is closed")
            self._ready.clear()
            await self._ready.wait()

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._driver.unwatch(self._udp)
            self._udp.close()
            self._driver.touched()
            self._ready.set()


def stream_pair(
    tcp: TcpSocket, driver: EngineDriver, *, tap: PacketTap | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """asyncio's own reader and writer over an established socket."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = StackTransport(tcp, driver, protocol, tap=tap)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def wait_established(tcp: TcpSocket, driver: EngineDriver, *, timeout_s: float) -> None:
    """Until the handshake is done. Raises ConnectionError or TimeoutError, and the socket is gone then."""
    done = asyncio.get_running_loop().create_future()

    def look() -> None:
        if not done.done() and (tcp.error is not None or tcp.state not in (State.SYN_SENT, State.SYN_RECEIVED)):
            done.set_result(None)

    driver.watch(tcp, look)
    driver.touched()
    look()
    try:
        async with asyncio.timeout(timeout_s):
            await done
    except BaseException:
        tcp.abort()
        driver.touched()
        raise
    finally:
        driver.unwatch(tcp)
    if tcp.error is not None:
        raise exception_of(tcp.error)


def exception_of(error: SocketError) -> OSError:
    """The exception that asyncio users expect."""
    if error is SocketError.REFUSED:
        return ConnectionRefusedError("connection refused")
    if error is SocketError.TIMED_OUT:
        return TimeoutError("connection timed out")
    if error is SocketError.RESET:
        return ConnectionResetError("connection reset by peer")
    return ConnectionError(error.value if isinstance(error.value, str) else error.name.lower())

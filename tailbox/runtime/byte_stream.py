"""A connection as bytes: what protocols on top see of TCP, TLS and WebSockets.

Reading comes in two forms. `read()` suits protocols with little traffic: one task, one loop. `set_receiver` hands each
chunk to a function as it arrives, which saves a task switch a chunk; relays use it. Reading stops while nobody takes
what has arrived, so a fast sender fills the kernel's buffers and not ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

UNREAD_LIMIT_BYTES = 256 * 1024  # ours: bytes kept for a slow reader before the transport is paused
UNSENT_LIMIT_BYTES = 256 * 1024  # ours: bytes written before `drain()` waits
CLOSE_TIMEOUT_S = 3.0  # ours: what a peer that does not read gets to take the last bytes

PeerAddress = tuple[str, int]  # host and port, as the socket names them
Receiver = Callable[[bytes], None]

log = logging.getLogger(__name__)


class ByteStream(Protocol):
    """One connection. Only one reader at a time."""

    @property
    def peer(self) -> PeerAddress | None:
        """The other end's address; None for unix sockets and the like."""
        ...

    @property
    def buffered(self) -> int:
        """Bytes written and not yet handed to the operating system."""
        ...

    async def read(self) -> bytes:
        """The next bytes, however many. Empty at the end, for whatever reason it ended."""
        ...

    def set_receiver(self, receiver: Receiver) -> None:
        """From now on call `receiver` with each chunk, once with b"" at the end. What waits unread comes first."""
        ...

    def pause_reading(self) -> None:
        """Take nothing from the network until `resume_reading`. For receivers that are full."""
        ...

    def resume_reading(self) -> None: ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, or keep until it can be sent. After the end the data is dropped."""
        ...

    async def drain(self) -> None:
        """Wait until it makes sense to write more. Raises ConnectionResetError after the end."""
        ...

    def close(self) -> None:
        """Send what is buffered, then end; bounded in time."""
        ...

    def abort(self) -> None:
        """End now."""
        ...

    async def wait_closed(self) -> None: ...


class TransportStream(asyncio.Protocol):
    """A ByteStream over an asyncio transport. A peer's end of data ends both directions."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None  # public for the server, which aborts it in the end
        self._chunks: deque[bytes] = deque()
        self._unread_bytes = 0
        self._receiver: Receiver | None = None
        self._at_end = False
        self._paused_by_us = False
        self._paused_by_reader = False
        self._readable: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed = asyncio.Event()
        self._close_timer: asyncio.TimerHandle | None = None

    # What protocols call.

    @property
    def peer(self) -> PeerAddress | None:
        address = self.transport.get_extra_info("peername") if self.transport else None
        return (str(address[0]), int(address[1])) if isinstance(address, tuple) and len(address) >= 2 else None

    @property
    def buffered(self) -> int:
        return 0 if self.transport is None or self._at_end else self.transport.get_write_buffer_size()

    async def read(self) -> bytes:
        while not self._chunks and not self._at_end:
            self._readable = self._loop.create_future()
            try:
                await self._readable
            finally:
                self._readable = None
        if not self._chunks:
            return b""
        data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._unread_bytes = 0
        self._apply_pause()
        return data

    def set_receiver(self, receiver: Receiver) -> None:
        self._receiver = receiver
        while self._chunks:
            self._deliver(self._chunks.popleft())
        self._unread_bytes = 0
        if self._at_end:
            self._deliver(b"")
        self._apply_pause()

    def pause_reading(self) -> None:
        self._paused_by_reader = True
        self._apply_pause()

    def resume_reading(self) -> None:
        self._paused_by_reader = False
        self._apply_pause()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.transport is not None and not self._at_end and not self.transport.is_closing():
            self.transport.write(data)

    async def drain(self) -> None:
        await self._writable.wait()
        if self._at_end:
            raise ConnectionResetError("the connection has ended")

    def close(self) -> None:
        if self.transport is None or self._at_end or self._close_timer is not None:
            return
        self.transport.close()
        self._close_timer = self._loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def shutdown(self) -> None:
        """What uvicorn calls on every connection when the server stops."""
        self.close()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]  # uvloop's transports do not derive from asyncio's
        assert self.transport is not None
        self.transport.set_write_buffer_limits(high=UNSENT_LIMIT_BYTES)

    def data_received(self, data: bytes) -> None:
        if self._receiver is not None:
            self._deliver(data)
            return
        self._chunks.append(data)
        self._unread_bytes += len(data)
        self._apply_pause()
        self._wake_reader()

    def eof_received(self) -> None:
        """The transport closes itself, sending first what is buffered."""

    def connection_lost(self, error: Exception | None) -> None:
        if self._at_end:
            return
        self._at_end = True
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._writable.set()
        self._closed.set()
        self._wake_reader()
        if self._receiver is not None:
            self._deliver(b"")

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # Inside.

    def _deliver(self, data: bytes) -> None:
        assert self._receiver is not None
        try:
            self._receiver(data)
        except Exception as error:  # a receiver's bug ends its own connection and no other
            log.error("stream receiver failed", extra={"error": type(error).__name__}, exc_info=error)
            self.abort()

    def _wake_reader(self) -> None:
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    def _apply_pause(self) -> None:
        wanted = self._paused_by_reader or self._unread_bytes > UNREAD_LIMIT_BYTES
        if wanted == self._paused_by_us or self.transport is None or self.transport.is_closing():
            return
        self._paused_by_us = wanted
        if wanted:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

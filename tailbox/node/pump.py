"""Bulk bytes between a local socket and a TCP socket of the stack, without a copy in between.

`recv_into` fills the stack's send buffer, `sendmsg` empties its receive buffer; readiness comes from the event loop on
one side and from the driver on the other. Each end's end of data is passed on; a reset is passed on as a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

from tailbox.node.core.tap import PacketTap, TapPoint
from tailbox.node.driver import EngineDriver
from tailbox.userspace_stack.errors import StackError
from tailbox.userspace_stack.stack import TcpSocket

MAX_READS_A_TURN = 4  # ours: recv calls before other sockets get their turn
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, no time


class Pump:
    """One connection on each side. `start` once; `on_done` is called once, when both sides are closed."""

    def __init__(
        self,
        local: socket.socket,
        remote: TcpSocket,
        driver: EngineDriver,
        *,
        on_done: Callable[[Pump], None],
        client_bytes: int | None = None,
        tap: PacketTap | None = None,
    ) -> None:
        """`client_bytes`: after that many bytes the local side has said everything, and more is thrown away."""
        self._local = local
        self._remote = remote
        self._driver = driver
        self._on_done = on_done
        self._left = client_bytes
        self._tap = tap
        self._loop = asyncio.get_running_loop()
        self._reads = False  # whether the loop watches for input…
        self._writes = False  # …and for room
        self._local_ended = False
        self._remote_ended = False
        self._is_closed = False
        self.sent_bytes = 0
        self.received_bytes = 0

    def start(self, early: bytes = b"", *, reply: bytes = b"") -> None:
        """Begin, with `early` bytes of the client for the remote and a `reply` for the client that go first."""
        self._driver.watch(self._remote, self._on_remote)
        with contextlib.suppress(OSError):
            self._local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if reply and self._local.send(reply) != len(reply):
                return self.close(reset=True)  # a fresh socket without room for a few bytes: not a client
        except OSError:
            return self.close(reset=True)
        if early:
            early = early if self._left is None else early[: self._left]
            try:
                taken = self._remote.write(early)
            except StackError:
                taken = -1
            if taken != len(early):
                return self.close(reset=True)
            self._count_client(len(early))
        self._watch_reads()
        self._driver.touched()
        self._on_remote()
        return None

    def close(self, *, reset: bool = False) -> None:
        """End both sides now."""
        if self._is_closed:
            return
        self._is_closed = True
        self._stop_reading()
        self._stop_writing()
        self._driver.unwatch(self._remote)
        if reset:
            self._remote.abort()
            with contextlib.suppress(OSError):
                self._local.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        else:
            self._remote.close()
        self._local.close()
        self._driver.touched()
        self._on_done(self)

    # Local → remote.

    def _on_local_readable(self) -> None:
        remote = self._remote
        for _ in range(MAX_READS_A_TURN):
            view = self._room()
            if self._is_over():
                return None
            if not view:
                return self._stop_reading()  # until the remote has room
            if self._left is not None:
                view = view[: self._left]
            try:
                count = self._local.recv_into(view)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError:
                return self.close(reset=True)
            if not count:
                return self._end_local()
            if self._tap is not None:
                self._tap.record(TapPoint.APPLICATION_SENT, None, view[:count], detail="", now=self._driver.now)
            full = count == len(view)
            try:
                remote.commit(count)
            except StackError:
                return self.close(reset=True)
            self._count_client(count)
            self._driver.flush()
            if self._is_closed or not full or not self._reads:
                return None
        return None

    def _room(self) -> memoryview:
        """Where the client's next bytes go. A remote that takes nothing more ends the pump."""
        try:
            return self._remote.send_view()
        except StackError:
            self.close(reset=self._remote.error is not None)
            return memoryview(b"")

    def _count_client(self, count: int) -> None:
        self.sent_bytes += count
        if self._left is not None:
            self._left -= count
            if not self._left:
                self._stop_reading()

    def _end_local(self) -> None:
        self._local_ended = True
        self._stop_reading()
        self._remote.shutdown()
        self._driver.touched()
        self._finish()

    # Remote → local.

    def _on_remote(self) -> None:
        if self._is_over():
            return
        if self._remote.error is not None:
            return self.close(reset=True)
        if not self._writes:
            self._move_to_local()
        if not self._is_over() and not self._reads and not self._local_ended and self._left != 0:
            self._watch_reads()
        return None

    def _move_to_local(self) -> None:
        remote = self._remote
        while views := remote.receive_views():
            try:
                count = self._local.sendmsg(views)
            except (BlockingIOError, InterruptedError):
                return self._watch_writes()
            except OSError:
                return self.close(reset=True)
            if self._tap is not None:
                self._tap.record(TapPoint.APPLICATION_RECEIVED, None, views[0], detail="", now=self._driver.now)
            wanted = sum(map(len, views))
            remote.consume(count)
            self.received_bytes += count
            self._driver.touched()
            if count < wanted:
                return self._watch_writes()
        if remote.at_eof and not self._remote_ended:
            self._remote_ended = True
            try:
                self._local.shutdown(socket.SHUT_WR)
            except OSError:
                return self.close(reset=True)
            self._finish()
        return None

    def _on_local_writable(self) -> None:
        self._stop_writing()
        self._on_remote()

    def _is_over(self) -> bool:
        return self._is_closed

    def _finish(self) -> None:
        if self._remote_ended and (self._local_ended or self._left == 0):
            self.close()

    # The loop's watches.

    def _watch_reads(self) -> None:
        if not self._reads and not self._is_closed and self._room():
            self._reads = True
            self._loop.add_reader(self._local, self._on_local_readable)

    def _stop_reading(self) -> None:
        if self._reads:
            self._reads = False
            self._loop.remove_reader(self._local)

    def _watch_writes(self) -> None:
        if not self._writes and not self._is_closed:
            self._writes = True
            self._loop.add_writer(self._local, self._on_local_writable)

    def _stop_writing(self) -> None:
        if self._writes:
            self._writes = False
            self._loop.remove_writer(self._local)

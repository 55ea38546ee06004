"""One client's connection: bounded queues on the way out, keep-alives, and what it may send.

```text
deliveries ──► ready ──flush──► stream ──► network      while the client keeps up
          └──► data queue ─┐                            while it does not: oldest dropped first,
          └──► disco queue ┴─drained──► stream          by number, by bytes, and by the bytes of all clients
```

What one turn of the event loop brings for a client leaves in one write. Nobody ever waits for a slow client: it loses
its own packets, and its connection when nothing moves for the write timeout.
Source: tailscale derp/derpserver/derpserver.go (sclient); spec: derp.md §7.3, §7.4, §13.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from tailbox.clock import Clock
from tailbox.derp.config import DerpConfig
from tailbox.derp.core.connection import Connection, Delivery
from tailbox.derp.core.counters import DropReason, PacketKind, RelayCounters
from tailbox.derp.core.token_bucket import TokenBucket
from tailbox.randomness import RandomSource
from tailbox.runtime.byte_stream import UNSENT_LIMIT_BYTES, ByteStream
from tailbox.wire.derp import PING_BYTES, KeepAlive, Ping

ENQUEUE_ATTEMPTS = 3  # derpserver.go
MAX_WAITING_FRAMES = 64  # ours: notices for a client that does not keep up
FLUSH_BYTES = 128 * 1024  # ours: do not gather more than this for one write
RETRY_S = 0.02  # ours: for streams whose drain() returns while they are still full
MIN_PAUSE_S = 0.01  # ours: a shorter debt of the rate limit is left to grow

_KEEP_ALIVE = KeepAlive().encode()


class QueueBudget:
    """Bytes that all queues together may hold."""

    __slots__ = ("limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0


class PacketQueue:
    """Packets of one kind that wait for one client."""

    __slots__ = ("kind", "limit", "packets")

    def __init__(self, kind: PacketKind, limit: int) -> None:
        self.kind = kind
        self.limit = limit
        self.packets: deque[tuple[bytes, bytes]] = deque()


class Session:
    """The sending half of a logged-in connection, and its timers."""

    def __init__(
        self,
        stream: ByteStream,
        connection: Connection,
        *,
        config: DerpConfig,
        counters: RelayCounters,
        budget: QueueBudget,
        clock: Clock,
        random: RandomSource,
        receive: Callable[[Session, bytes], None],
    ) -> None:
        self.stream = stream
        self.connection = connection
        self.close_reason = ""
        self._config = config
        self._counters = counters
        self._budget = budget
        self._clock = clock
        self._random = random
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._ready: list[bytes] = []
        self._ready_bytes = 0
        self._blocked = False
        self._closed = False
        self._data = PacketQueue(PacketKind.OTHER, config.data_queue_packets)
        self._disco = PacketQueue(PacketKind.DISCO, config.disco_queue_packets)
        self._queued_bytes = 0
        self._waiting_frames: deque[bytes] = deque(maxlen=MAX_WAITING_FRAMES)
        self._has_waiting_pong = False
        self._drainer: asyncio.Task[None] | None = None
        now = clock.monotonic()
        self._last_read_at = now
        self._bucket = TokenBucket(config.rate_limit_bytes_per_s, config.rate_limit_burst_bytes, now=now)
        self._resume_timer: asyncio.TimerHandle | None = None
        self._keep_alive_every_s = config.keep_alive_s + random.uniform(0.0, config.keep_alive_jitter_s)
        self._keep_alive_timer = self._loop.call_later(self._keep_alive_every_s, self._keep_alive)

    def start(self, early: bytes) -> None:
        """Read from now on; `early` came with the login."""
        if early:
            self._on_bytes(early)
        if not self._closed:
            self.stream.set_receiver(self._on_bytes)

    def deliver(self, delivery: Delivery) -> None:
        """Take packets for the client; a flush must follow."""
        if self._blocked or self._closed:
            self._enqueue_all(delivery)
            return
        self._ready += delivery.pieces
        self._ready_bytes += delivery.size_bytes
        self._counters.packets_sent += len(delivery.pieces) // 2
        self._counters.bytes_sent += delivery.size_bytes
        if self._ready_bytes >= FLUSH_BYTES:
            self.flush()

    def send_frame(self, frame: bytes) -> None:
        """Take a control frame; a flush must follow. For a slow client the oldest ones are lost."""
        if self._blocked:
            self._waiting_frames.append(frame)
        elif not self._closed:
            self._ready.append(frame)

    def send_pong(self, frame: bytes) -> None:
        """Like send_frame, but one waiting pong is enough."""
        if self._blocked and self._has_waiting_pong:
            return
        self._has_waiting_pong = self._blocked
        self._counters.sent_pong += 1
        self.send_frame(frame)

    def flush(self) -> None:
        """Write what is ready, in one piece."""
        if not self._ready:
            return
        self.stream.write(b"".join(self._ready))
        self._ready.clear()
        self._ready_bytes = 0
        self._counters.flushes += 1
        if self.stream.buffered > UNSENT_LIMIT_BYTES and not self._blocked:
            self._blocked = True
            self._drainer = self._loop.create_task(self._drain(), name="derp drain")

    def close(self, reason: str) -> None:
        """End the connection without waiting for what it has not read."""
        if not self._closed:
            self.close_reason = reason
            self.stream.abort()
            self.dispose()

    def dispose(self) -> None:
        """Let go of timers and queues: the connection has ended. Harmless twice."""
        self._closed = True
        self._keep_alive_timer.cancel()
        if self._resume_timer is not None:
            self._resume_timer.cancel()
        if self._drainer is not None and self._drainer is not asyncio.current_task(self._loop):
            self._drainer.cancel()
        self._ready.clear()
        for queue in (self._data, self._disco):
            while queue.packets:
                self._drop_oldest(queue, DropReason.GONE_DISCONNECTED)

    # Inside: reading.

    def _on_bytes(self, data: bytes) -> None:
        if not data or self._closed:
            return
        now = self._clock.monotonic()
        self._last_read_at = now
        wait_s = self._bucket.charge(len(data), now=now)
        if wait_s > MIN_PAUSE_S and self._resume_timer is None:
            self._counters.rate_limit_waits += 1
            self.stream.pause_reading()
            self._resume_timer = self._loop.call_later(wait_s, self._resume)
        self._receive(self, data)

    def _resume(self) -> None:
        self._resume_timer = None
        self.stream.resume_reading()

    def _keep_alive(self) -> None:
        silent_s = self._clock.monotonic() - self._last_read_at
        answers_pings = self.connection.claims.can_ack_pings
        if answers_pings and silent_s > self._config.silent_client_timeout_s:
            self._counters.read_timeouts += 1
            self.close("nothing heard, pings not answered")
            return
        self._keep_alive_timer = self._loop.call_later(self._keep_alive_every_s, self._keep_alive)
        self.send_frame(_KEEP_ALIVE)
        if answers_pings and silent_s >= self._keep_alive_every_s / 2:
            self.send_frame(Ping(self._random.bytes(PING_BYTES)).encode())
        self.flush()

    # Inside: queues of a slow client.

    def _enqueue_all(self, delivery: Delivery) -> None:
        queue = self._disco if delivery.is_disco else self._data
        pieces = iter(delivery.pieces)
        for header, packet in zip(pieces, pieces, strict=True):
            if self._closed:
                self._counters.drop(DropReason.GONE_DISCONNECTED, queue.kind, packets=1, size_bytes=len(packet))
            elif not self._enqueue(queue, header, packet):
                self._counters.drop(DropReason.QUEUE_TAIL, queue.kind, packets=1, size_bytes=len(packet))

    def _enqueue(self, queue: PacketQueue, header: bytes, packet: bytes) -> bool:
        size_bytes = len(header) + len(packet)
        budget = self._budget
        for _ in range(ENQUEUE_ATTEMPTS):
            if (
                len(queue.packets) < queue.limit
                and self._queued_bytes + size_bytes <= self._config.queue_bytes
                and budget.used_bytes + size_bytes <= budget.limit_bytes
            ):
                queue.packets.append((header, packet))
                self._queued_bytes += size_bytes
                budget.used_bytes += size_bytes
                return True
            if not queue.packets:
                return False
            self._drop_oldest(queue, DropReason.QUEUE_HEAD)
        return False

    def _drop_oldest(self, queue: PacketQueue, reason: DropReason) -> None:
        packet = self._take_oldest(queue)[1]
        self._counters.drop(reason, queue.kind, packets=1, size_bytes=len(packet))

    def _take_oldest(self, queue: PacketQueue) -> tuple[bytes, bytes]:
        header, packet = queue.packets.popleft()
        self._queued_bytes -= len(header) + len(packet)
        self._budget.used_bytes -= len(header) + len(packet)
        return header, packet

    async def _drain(self) -> None:
        """Run while the client does not keep up: wait for room, then write what waits."""
        left, moved_at = self.stream.buffered, self._clock.monotonic()
        timeout_s = self._config.write_timeout_s
        while self._blocked and not self._closed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self.stream.drain()
            except TimeoutError:
                pass
            except ConnectionError:
                return
            buffered, now = self.stream.buffered, self._clock.monotonic()
            if buffered <= UNSENT_LIMIT_BYTES:
                self._flush_queues()
                left, moved_at = self.stream.buffered, now
            elif buffered < left:
                left, moved_at = buffered, now
            elif now - moved_at >= timeout_s:
                self._counters.write_timeouts += 1
                self.close("write timeout")
            else:
                await asyncio.sleep(RETRY_S)

    def _flush_queues(self) -> None:
        """Notices first, then disco, which is small and keeps paths alive, then the rest."""
        self._ready += self._waiting_frames
        self._waiting_frames.clear()
        self._has_waiting_pong = False
        for queue in (self._disco, self._data):
            while queue.packets:
                piece = self._take_oldest(queue)
                self._ready += piece
                self._counters.packets_sent += 1
                self._counters.bytes_sent += len(piece[1])
        if self._ready:
            self.stream.write(b"".join(self._ready))
            self._ready.clear()
            self._ready_bytes = 0
            self._counters.flushes += 1
        self._blocked = self.stream.buffered > UNSENT_LIMIT_BYTES

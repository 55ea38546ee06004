"""Open long polls: one for each node, told of changes, coalesced, kept alive, replaced, ended.

A stream owns no queue. It has a flag that something changed, and the view that it sent last; when its writer is ready
it renders the newest view and sends the difference. So a slow reader costs one message and skips what lies between, and
one that has stopped reading is cut off after SEND_TIMEOUT_S. A second stream of a node ends the first.
Source: control.md §6.3, §6.4, §9.1; headscale hscontrol/poll.go, mapper/batcher.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

from tailbox.clock import Clock
from tailbox.coord.metrics import CoordMetrics
from tailbox.randomness import RandomSource
from tailbox.wire.control.map import KEEP_ALIVE

KEEP_ALIVE_MIN_S = 50.0  # headscale: 50 s + 0–9 s; the client gives up after 120 s
KEEP_ALIVE_SPREAD_S = 9.0
COALESCE_S = 0.075  # ours: changes come in bursts; peers wait this long at most
SEND_TIMEOUT_S = 60.0  # ours: a reader that takes nothing for so long has gone

View = TypeVar("View")
Write = Callable[[bytes], Awaitable[None]]  # one message's payload; returns when there is room for another


class StreamEnd(Enum):
    """Why a stream ended."""

    REPLACED = "replaced"  # the node opened another
    NODE_GONE = "node_gone"  # deleted
    CLIENT_LEFT = "client_left"
    SLOW_READER = "slow_reader"
    SHUTDOWN = "shutdown"


class MapStream:
    """The switchboard of one long poll. `run` is its life; the other methods may be called at any time."""

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id
        self.ended: StreamEnd | None = None
        self.has_news = False
        self._wake = asyncio.Event()

    def notify(self) -> None:
        """Something that this node may see has changed."""
        self.has_news = True
        self._wake.set()

    def end(self, why: StreamEnd) -> None:
        """End as soon as possible; the first reason counts."""
        self.ended = self.ended or why
        self._wake.set()

    def leave(self) -> None:
        """The client has gone away."""
        self.end(StreamEnd.CLIENT_LEFT)

    async def wait(self, timeout_s: float) -> None:
        """Until there is news, the stream has ended, or time is up."""
        if not self.has_news and self.ended is None:
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), max(0.0, timeout_s))
            except TimeoutError:
                pass

    async def gather_news(self) -> None:
        """Let the rest of a burst arrive, then take it as one. Ends early with the stream."""
        deadline = asyncio.get_running_loop().time() + COALESCE_S
        while self.ended is None and (left := deadline - asyncio.get_running_loop().time()) > 0:
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), left)
            except TimeoutError:
                break
        self.has_news = False


class Renderer(Protocol[View]):
    """What a stream shows: views of the snapshot for its node, and the messages between two of them."""

    def view(self) -> View | None:
        """The newest view; None once the node is gone."""
        ...

    def first(self, view: View) -> bytes:
        """A whole map."""
        ...

    def difference(self, old: View, new: View) -> bytes | None:
        """What turns one view into the other; None if nothing does."""
        ...

    def farewell(self, last: View) -> bytes:
        """What a deleted node is told: its key has expired, so that its user gets asked to log in."""
        ...


@dataclass(slots=True)
class _Pump(Generic[View]):
    """One stream's loop, with what it has sent so far."""

    stream: MapStream
    renderer: Renderer[View]
    write: Write
    clock: Clock
    random: RandomSource
    metrics: CoordMetrics
    wants_keep_alive: bool
    keep_alive_at: float = 0.0

    async def run(self) -> StreamEnd:
        """First map, then differences and keep-alives until the stream ends."""
        last = self.renderer.view()
        if last is None:
            return StreamEnd.NODE_GONE
        self.stream.has_news = False
        if not await self._send("full", self.renderer.first(last)):
            return StreamEnd.SLOW_READER
        while self.stream.ended is None:
            await self.stream.wait(self.keep_alive_at - self.clock.monotonic())
            if self.stream.has_news and self.stream.ended is None:
                await self.stream.gather_news()
                newest = self.renderer.view()
                if newest is None:
                    self.stream.end(StreamEnd.NODE_GONE)
                    break
                message = self.renderer.difference(last, newest)
                last = newest
                sent = message is None or await self._send("delta", message)
            else:
                sent = await self._keep_alive_if_due()
            if not sent:
                return StreamEnd.SLOW_READER
        if self.stream.ended is StreamEnd.NODE_GONE:
            await self._send("farewell", self.renderer.farewell(last))
        assert self.stream.ended is not None
        return self.stream.ended

    async def _keep_alive_if_due(self) -> bool:
        if self.stream.ended is not None or self.clock.monotonic() < self.keep_alive_at:
            return True
        if self.wants_keep_alive:
            return await self._send("keep_alive", KEEP_ALIVE)
        self._restart_keep_alive()
        return True

    async def _send(self, kind: str, payload: bytes) -> bool:
        """False if the reader took nothing for SEND_TIMEOUT_S."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self.write(payload)
        except TimeoutError:
            return False
        self.metrics.map_messages.labels(kind=kind).inc()
        self._restart_keep_alive()
        return True

    def _restart_keep_alive(self) -> None:
        spread_s = self.random.uniform(0.0, KEEP_ALIVE_SPREAD_S)
        self.keep_alive_at = self.clock.monotonic() + KEEP_ALIVE_MIN_S + spread_s


class MapStreams:
    """All open streams, by node."""

    def __init__(self, *, clock: Clock, random: RandomSource, metrics: CoordMetrics) -> None:
        self._clock = clock
        self._random = random
        self._metrics = metrics
        self._by_node: dict[int, MapStream] = {}
        metrics.map_streams.set_function(lambda: float(len(self._by_node)))

    def open(self, node_id: int) -> MapStream:
        """A new stream for a node; the one it had ends."""
        stream = MapStream(node_id)
        former = self._by_node.get(node_id)
        self._by_node[node_id] = stream
        if former is not None:
            former.end(StreamEnd.REPLACED)
        return stream

    def close(self, stream: MapStream) -> bool:
        """Forget a stream. True if the node has no other one now."""
        if self._by_node.get(stream.node_id) is not stream:
            return False
        del self._by_node[stream.node_id]
        return True

    async def run(
        self, stream: MapStream, renderer: Renderer[View], write: Write, *, wants_keep_alive: bool
    ) -> StreamEnd:
        """Send until the stream ends; returns why. A cancelled run counts as the client having left."""
        why = StreamEnd.CLIENT_LEFT
        pump = _Pump(stream, renderer, write, self._clock, self._random, self._metrics, wants_keep_alive)
        try:
            why = await pump.run()
        finally:
            self._metrics.map_streams_ended.labels(reason=why.value).inc()
        return why

    def notify_all(self) -> None:
        """A change that anybody may see."""
        for stream in self._by_node.values():
            stream.notify()

    def end_all(self, why: StreamEnd = StreamEnd.SHUTDOWN) -> None:
        """End every stream."""
        for stream in list(self._by_node.values()):
            stream.end(why)

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._by_node

    def __len__(self) -> int:
        return len(self._by_node)

"""Turns an engine: one input, all its effects, one re-armed timer, next input.

Whoever uses sockets of the stack says `watch(socket, callback)` to learn of readiness, and `touched()` after calls on
them; what the stack then wants to send goes out once, when the present input is finished.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tailbox.clock import Clock
from tailbox.node.core.engine import Engine, EngineEffects, EngineEvent
from tailbox.paths.path import Path
from tailbox.runtime.deadline_timer import DeadlineTimer
from tailbox.userspace_stack.stack import PendingConnection, PendingFlow, Socket
from tailbox.wire.keys import NodePublicKey
from tailbox.wire.train import Train

MAX_TURNS = 32  # ours: rounds of sockets answering each other before the loop looks at the network again

Callback = Callable[[], None]


class EngineDriver:
    """The shell's side of one engine."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        *,
        on_event: Callable[[EngineEvent], None],
        on_pending: Callable[[PendingConnection | PendingFlow], None],
        on_stun: Callable[[bytes, Path], None],
        reply: Callable[[Path, NodePublicKey | None, bytes], None],
    ) -> None:
        """`reply` sends to where a datagram came from, for senders that are no peers yet."""
        self.engine = engine
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._on_event = on_event
        self._on_pending = on_pending
        self._on_stun = on_stun
        self._reply = reply
        self._watchers: dict[Socket, Callback] = {}
        self._timer = DeadlineTimer(self._loop, clock, self._on_deadline)
        self._is_performing = False
        self._is_dirty = False
        self._flush_handle: asyncio.Handle | None = None
        self._is_closed = False

    @property
    def now(self) -> float:
        return self._clock.monotonic()

    def watch(self, socket: Socket, callback: Callback) -> None:
        """Call back whenever the socket's readiness changes. One watcher a socket."""
        self._watchers[socket] = callback

    def unwatch(self, socket: Socket) -> None:
        self._watchers.pop(socket, None)

    def touched(self) -> None:
        """A socket of the stack was used: send what follows from it, soon and once."""
        self._is_dirty = True
        if not self._is_performing and self._flush_handle is None and not self._is_closed:
            self._flush_handle = self._loop.call_soon(self._flush)

    def flush(self) -> None:
        """The same at once, for bulk data: the caller's buffer may be filled again when this returns."""
        if self._is_performing or self._is_closed:
            self._is_dirty = True
            return
        self.perform(self.engine.flush(now=self.now))

    def on_train(self, train: Train, source: Path, relay_peer: NodePublicKey | None) -> None:
        """What the underlay calls."""
        if self._is_closed or not train.data:
            return
        effects = self.engine.handle_train(train, source, relay_peer=relay_peer, now=self.now)
        for datagram in effects.to_source:
            self._reply(source, relay_peer, datagram)
        for message in effects.stun:
            self._on_stun(message, source)
        self._tell(effects)
        self.touched()  # what the stack makes of it goes out once for all trains of this turn

    def perform(self, effects: EngineEffects) -> None:
        """Do what an input led to, and what follows from that."""
        nested = self._is_performing
        self._is_performing = True
        try:
            self._tell(effects)
            for _ in range(MAX_TURNS):
                if nested or not self._is_dirty:
                    break
                self._is_dirty = False
                self._tell(self.engine.flush(now=self.now))
        finally:
            self._is_performing = nested
        if nested:
            return
        if self._is_dirty:
            self.touched()
        self._timer.arm(self.engine.next_deadline())

    def close(self) -> None:
        """No more input. Sockets stay as they are."""
        self._is_closed = True
        self._timer.close()
        self._watchers.clear()
        if self._flush_handle is not None:
            self._flush_handle.cancel()

    def _tell(self, effects: EngineEffects) -> None:
        for event in effects.events:
            self._on_event(event)
        for pending in effects.pending:
            self._on_pending(pending)
        for socket in effects.ready:
            callback = self._watchers.get(socket)
            if callback is not None:
                callback()

    def _flush(self) -> None:
        self._flush_handle = None
        self._is_dirty = False
        self.flush()

    def _on_deadline(self) -> None:
        if not self._is_closed:
            self.perform(self.engine.handle_deadline(now=self.now))

"""One timer from an engine's next_deadline()."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tailbox.clock import Clock, Deadline


class DeadlineTimer:
    """Calls back when the armed deadline is due. Arm it after every input of the engine.

    Moving the deadline later costs two comparisons: the loop's handle stays where it is, and looks again when it fires.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._clock = clock
        self._callback = callback
        self._wanted_at: float | None = None
        self._fires_at = 0.0
        self._handle: asyncio.Handle | None = None
        self._is_closed = False

    def arm(self, deadline: Deadline | None) -> None:
        """Call back at the deadline, instead of what was armed before; None: not at all."""
        if deadline is None or self._is_closed:
            self._wanted_at = None
            return
        self._wanted_at = at = deadline.at
        if self._handle is not None:
            if self._fires_at <= at:
                return
            self._handle.cancel()
        self._schedule(at, self._clock.monotonic())

    def close(self) -> None:
        """Never call back again."""
        self._is_closed = True
        self._wanted_at = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _schedule(self, at: float, now: float) -> None:
        self._fires_at = at
        if at <= now:
            self._handle = self._loop.call_soon(self._fire)  # the loop polls sockets in between: no starvation
        else:
            self._handle = self._loop.call_later(at - now, self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self._wanted_at is None:
            return
        now = self._clock.monotonic()
        if self._wanted_at > now:
            self._schedule(self._wanted_at, now)
            return
        self._wanted_at = None
        self._callback()

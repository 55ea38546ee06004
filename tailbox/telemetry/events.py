"""The event log: what happened, bounded, for whoever wants to watch.

Cores return events, shells publish them here, and logs, metrics, REST, console and notebooks subscribe. A slow
subscriber loses its oldest events and is told how many; a publisher never waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

DEFAULT_HISTORY = 1000  # ours: events kept for late subscribers
DEFAULT_BACKLOG = 1000  # ours: events queued for one slow subscriber


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event with its place in the log."""

    sequence: int  # counts from 1, without gaps
    at_unix_s: float
    source: str  # which role or node published it: "coord", "node:alpha"
    event: object  # a frozen dataclass of the role that published it


class Subscription:
    """One reader of the log. Iterate it; `lost` counts what it was too slow for."""

    def __init__(self, backlog: int) -> None:
        self._queue: deque[Recorded] = deque(maxlen=backlog)
        self._ready = asyncio.Event()
        self.lost = 0

    def offer(self, recorded: Recorded) -> None:
        self.lost += len(self._queue) == self._queue.maxlen
        self._queue.append(recorded)
        self._ready.set()

    def __aiter__(self) -> AsyncIterator[Recorded]:
        return self

    async def __anext__(self) -> Recorded:
        while not self._queue:
            self._ready.clear()
            await self._ready.wait()
        return self._queue.popleft()


class EventLog:
    """Bounded history with subscribers."""

    def __init__(self, unix_time: Callable[[], float], *, history: int = DEFAULT_HISTORY) -> None:
        self._unix_time = unix_time
        self._history: deque[Recorded] = deque(maxlen=history)
        self._subscriptions: set[Subscription] = set()
        self._sequence = 0

    def publish(self, source: str, event: object) -> None:
        self._sequence += 1
        recorded = Recorded(self._sequence, self._unix_time(), source, event)
        self._history.append(recorded)
        for subscription in self._subscriptions:
            subscription.offer(recorded)

    def recent(self, *, after: int = 0) -> tuple[Recorded, ...]:
        """What history still holds with a sequence above `after`."""
        return tuple(recorded for recorded in self._history if recorded.sequence > after)

    @contextmanager
    def subscribe(self, *, backlog: int = DEFAULT_BACKLOG) -> Iterator[Subscription]:
        """Follow the log from now on, until the block ends."""
        subscription = Subscription(backlog)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

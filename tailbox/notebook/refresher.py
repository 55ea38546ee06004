"""Keeps views up to date while there are any: one timer in the kernel's loop, none when there is nothing to show."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

REFRESH_S = 0.3  # ours: fast enough to look live, slow enough to read


class Closable(Protocol):
    """The part of a widget that says whether somebody still has it: None once it is closed."""

    @property
    def comm(self) -> object | None: ...


class Refresher:
    """Calls the updates of open views again and again."""

    def __init__(self, interval_s: float = REFRESH_S) -> None:
        self._interval_s = interval_s
        self._views: list[tuple[Closable, Callable[[], None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def watch(self, owner: Closable, update: Callable[[], None]) -> None:
        """Update now, and then until the owner is closed."""
        update()
        if self._is_closed:
            return
        self._views.append((owner, update))
        if self._timer is None:
            self._arm()

    def update(self) -> None:
        """Update everything that is open, at once."""
        self._views = [(owner, update) for owner, update in self._views if owner.comm is not None]
        for _, update in self._views:
            update()

    def close(self) -> None:
        """One last update, then never again."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.update()
        self._views.clear()

    @property
    def is_ticking(self) -> bool:
        return self._timer is not None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.update()
        if self._views and not self._is_closed:
            self._arm()

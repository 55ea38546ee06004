"""Time as a value: deadlines for the engines, clocks for their shells.

Engines never read a clock. Every call that depends on time takes `now`, in monotonic seconds, and every timed engine
says when it wants to be called next, and why.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Deadline(NamedTuple):
    """When an engine wants `handle_deadline` to be called."""

    at: float  # monotonic seconds
    reason: str  # "rekey", "probe"; shown in traces


def earliest(deadlines: Iterable[Deadline | None]) -> Deadline | None:
    """The first of several deadlines, or None if nobody waits for anything."""
    return min((deadline for deadline in deadlines if deadline is not None), default=None, key=lambda d: d.at)


class Clock(Protocol):
    """What a shell reads time from: the system, or a simulation."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def unix_time(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        ...


class ManualClock:
    """A clock that moves when told to."""

    def __init__(self, *, monotonic_s: float = 0.0, unix_s: float = 1_700_000_000.0) -> None:
        self._monotonic_s = monotonic_s
        self._unix_s = unix_s

    def monotonic(self) -> float:
        return self._monotonic_s

    def unix_time(self) -> float:
        return self._unix_s

    def advance(self, seconds: float) -> None:
        """Move both readings forward. Raises ValueError for negative steps."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds} s")
        self._monotonic_s += seconds
        self._unix_s += seconds

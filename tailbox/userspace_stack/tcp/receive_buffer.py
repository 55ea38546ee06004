"""A ring of received bytes: those in order, which the application reads, and islands beyond the next expected one.

```text
  head           head + readable                       head + capacity
   ├── in order ──┼── hole ──┬─ island ─┬── hole ──┬─ island ─┬──────┤
                  └ position `end`                       the window's right edge
```

Every byte is stored at its final place when it arrives, so islands cost no memory beyond the window that was promised
anyway, and closing a hole copies nothing. Islands are kept as (start, end) in bytes since the stream's beginning.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from tailbox.userspace_stack.memory_budget import MemoryBudget
from tailbox.userspace_stack.segments import Bytes2D


class ReceiveBuffer:
    """Reassembles one stream."""

    __slots__ = (
        "_budget",
        "_data",
        "_head",
        "_latest",
        "_max_islands",
        "capacity",
        "end",
        "islands",
        "maximum",
        "readable",
    )

    def __init__(self, initial: int, maximum: int, budget: MemoryBudget, *, max_islands: int = 1024) -> None:
        self.capacity = initial
        self.maximum = maximum
        self.readable = 0
        self.end = 0  # bytes received in order since the beginning
        self.islands: list[tuple[int, int]] = []
        self._max_islands = max_islands
        self._latest = 0  # start of what arrived last, for SACK's first block
        self._budget = budget
        self._data: memoryview | None = None
        self._head = 0

    @property
    def window(self) -> int:
        """How many bytes from `end` on there is room for."""
        return self.capacity - self.readable

    def store(self, ahead: int, payload: memoryview | None, rows: Bytes2D | None, size: int) -> int:
        """Put a piece `ahead` bytes beyond the next expected one; it must lie within the window.

        The piece is `payload`, or `rows` one after another. Returns how many bytes became readable.
        """
        assert 0 <= ahead <= ahead + size <= self.window
        if self._data is None:
            self._budget.take(self.capacity)
            self._data = memoryview(bytearray(self.capacity))
        if not self.readable and not self.islands:
            self._head = 0
        if ahead and not self._add_island(self.end + ahead, self.end + ahead + size):
            return 0
        self._copy_in(self._head + self.readable + ahead, payload, rows, size)
        if ahead:
            return 0
        gained = self._absorb_islands(self.end + size) - self.end
        self.end += gained
        self.readable += gained
        return gained

    def _copy_in(self, start: int, payload: memoryview | None, rows: Bytes2D | None, size: int) -> None:
        assert self._data is not None
        if start >= self.capacity:
            start -= self.capacity
        end = start + size
        if end <= self.capacity:
            if rows is not None:
                np.frombuffer(self._data[start:end], np.uint8).reshape(rows.shape)[:] = rows
            elif payload is not None:
                self._data[start:end] = payload
            return
        piece = memoryview(rows.tobytes()) if rows is not None else payload
        if piece is not None:
            room = self.capacity - start
            self._data[start:] = piece[:room]
            self._data[: size - room] = piece[room:]

    def _add_island(self, start: int, end: int) -> bool:
        """Merge [start, end) with what it touches. False if that would be one island too many."""
        islands = self.islands
        low = bisect_left(islands, start, key=lambda island: island[1])
        high = low
        while high < len(islands) and islands[high][0] <= end:
            start, end = min(start, islands[high][0]), max(end, islands[high][1])
            high += 1
        if low == high and len(islands) >= self._max_islands:
            return False
        islands[low:high] = [(start, end)]
        self._latest = start
        return True

    def _absorb_islands(self, end: int) -> int:
        """Drop the islands that in-order data up to `end` has reached, and return where in-order data now ends."""
        reached = 0
        for island_start, island_end in self.islands:
            if island_start > end:
                break
            end = max(end, island_end)
            reached += 1
        if reached:
            del self.islands[:reached]
        return end

    def selective_blocks(self, limit: int) -> list[tuple[int, int]]:
        """Islands to report, the one that changed last first (RFC 2018 §4), then its neighbours downwards."""
        if not self.islands:
            return []
        first = bisect_left(self.islands, (self._latest,))
        ordered: Sequence[tuple[int, int]] = self.islands[: first + 1][::-1] + self.islands[first + 1 :]
        return list(ordered[:limit])

    def views(self) -> tuple[memoryview, ...]:
        """What is readable, in one or two pieces. Good until the next `consume`."""
        if self._data is None or not self.readable:
            return ()
        end = self._head + self.readable
        if end <= self.capacity:
            return (self._data[self._head : end],)
        return (self._data[self._head :], self._data[: end - self.capacity])

    def consume(self, count: int) -> None:
        """Forget bytes that the application has taken. Raises ValueError for more than there are."""
        if not 0 <= count <= self.readable:
            raise ValueError(f"{count} bytes consumed of {self.readable}")
        self._head += count
        if self._head >= self.capacity:
            self._head -= self.capacity
        self.readable -= count

    def grow(self, capacity: int) -> bool:
        """Move into a larger ring. False if the maximum or the budget says no."""
        capacity = min(capacity, self.maximum)
        if capacity <= self.capacity:
            return False
        if self._data is not None:
            if not self._budget.take_growth(capacity - self.capacity):
                return False
            data = memoryview(bytearray(capacity))
            used = self.readable + (self.islands[-1][1] - self.end if self.islands else 0)
            first = min(used, self.capacity - self._head)
            data[:first] = self._data[self._head : self._head + first]
            data[first:used] = self._data[: used - first]
            self._data, self._head = data, 0
        self.capacity = capacity
        return True

    def drop(self) -> None:
        """Give all memory back; nothing can be stored any more."""
        if self._data is not None:
            self._budget.give_back(self.capacity)
        self.islands.clear()
        self._data, self._head, self.readable, self.capacity, self.maximum = None, 0, 0, 0, 0

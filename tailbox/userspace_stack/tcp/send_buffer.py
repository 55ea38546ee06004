"""A ring of bytes that the application has given and the peer has not acknowledged.

```text
  head               head + stored            (modulo capacity)
   ├─ sent ─┬─ unsent ─┼─ free_view() ──
```

The application writes straight into `free_view()`, say with `recv_into`, and commits what arrived. Bytes stay in place
until they are acknowledged, so retransmissions are views too. Storage comes with the first byte and grows only inside
`free_view()`, so that a view in the application's hands stays good until it asks for another one.
"""

from __future__ import annotations

from tailbox.userspace_stack.memory_budget import MemoryBudget


class SendBuffer:
    """Offsets count from the oldest unacknowledged byte."""

    __slots__ = ("_budget", "_data", "_head", "capacity", "maximum", "stored")

    def __init__(self, initial: int, maximum: int, budget: MemoryBudget) -> None:
        self.capacity = initial
        self.maximum = maximum
        self.stored = 0
        self._budget = budget
        self._data: memoryview | None = None
        self._head = 0

    @property
    def free(self) -> int:
        return self.capacity - self.stored

    def free_view(self) -> memoryview:
        """Contiguous free space; empty when full."""
        if self._data is None:
            self._budget.take(self.capacity)
            self._data = memoryview(bytearray(self.capacity))
        if not self.stored:
            self._head = 0
        tail = self._head + self.stored
        if tail >= self.capacity:
            return self._data[tail - self.capacity : self._head]
        return self._data[tail:]

    def commit(self, count: int) -> None:
        """Raises ValueError for more than `free_view` offered."""
        if not 0 <= count <= self.free:
            raise ValueError(f"{count} bytes committed of {self.free} free")
        self.stored += count

    def write(self, data: bytes | memoryview) -> int:
        """Copy in what fits and return how much that was."""
        rest = memoryview(data).cast("B")
        taken = 0
        while taken < len(rest):
            space = self.free_view()
            count = min(len(space), len(rest) - taken)
            if not count:
                break
            space[:count] = rest[taken : taken + count]
            self.stored += count
            taken += count
        return taken

    def view(self, offset: int, count: int) -> memoryview:
        """Stored bytes [offset, offset + count) in one piece; copies where they wrap around the end of the ring."""
        assert 0 <= offset <= offset + count <= self.stored, f"[{offset}, {offset + count}) of {self.stored}"
        if self._data is None:
            return memoryview(b"")
        start = self._head + offset
        if start >= self.capacity:
            start -= self.capacity
        end = start + count
        if end <= self.capacity:
            return self._data[start:end]
        return memoryview(b"".join((self._data[start:], self._data[: end - self.capacity])))

    def release(self, count: int) -> None:
        """Forget the oldest bytes: they were acknowledged."""
        assert 0 <= count <= self.stored
        self._head += count
        if self._head >= self.capacity:
            self._head -= self.capacity
        self.stored -= count

    def grow(self, capacity: int) -> bool:
        """Move into a larger ring. False if the maximum or the budget says no."""
        capacity = min(capacity, self.maximum)
        if capacity <= self.capacity:
            return False
        if self._data is not None:
            if not self._budget.take_growth(capacity - self.capacity):
                return False
            data = memoryview(bytearray(capacity))
            data[: self.stored] = self.view(0, self.stored)
            self._data, self._head = data, 0
        self.capacity = capacity
        return True

    def drop(self) -> None:
        """Give all memory back; the buffer is empty and has no room any more."""
        if self._data is not None:
            self._budget.give_back(self.capacity)
        self._data, self._head, self.stored, self.capacity, self.maximum = None, 0, 0, 0, 0

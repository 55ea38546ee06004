"""What all connections' buffers of one stack may use together."""

from __future__ import annotations

GROWTH_SHARE = 0.75  # reliability-and-security.md §2.9: windows stop growing
NEW_FLOW_SHARE = 0.90  # and new flows are refused


class MemoryBudget:
    """Counts bytes; buffers ask before they allocate and give back when they are dropped."""

    __slots__ = ("limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    @property
    def allows_new_flows(self) -> bool:
        return self.used_bytes < self.limit_bytes * NEW_FLOW_SHARE

    def take_growth(self, count: int) -> bool:
        """Reserve more for a buffer that could do without. False: it stays as it is."""
        if self.used_bytes + count > self.limit_bytes * GROWTH_SHARE:
            return False
        self.used_bytes += count
        return True

    def take(self, count: int) -> None:
        """Reserve a buffer's first bytes; admission of new flows keeps these within the limit."""
        self.used_bytes += count

    def give_back(self, count: int) -> None:
        self.used_bytes -= count

"""Which counters of a session have been seen: a ring of bit blocks. Source: RFC 6479; wireguard-go replay/replay.go.

The window moves by whole blocks, so it is never shifted: moving on clears the blocks it enters. One block of the ring
is always being filled, which leaves WINDOW counters behind the highest one that can still be told apart.

```text
ring     [ block 126 | block 127 | block 128 | block 1 … ]        128 blocks of 64 bits, by block number modulo 128
accepts            highest − 8128 … highest, once each, and everything above
```
"""

from __future__ import annotations

BLOCK_BITS = 64
RING_BLOCKS = 128
WINDOW = (RING_BLOCKS - 1) * BLOCK_BITS  # 8128

_BLOCK_SHIFT = 6
_BLOCK_MASK = BLOCK_BITS - 1
_RING_MASK = RING_BLOCKS - 1


class ReplayWindow:
    """Accepts every counter at most once. Ask only after the packet has authenticated."""

    __slots__ = ("_ring", "highest")

    def __init__(self) -> None:
        self._ring = [0] * RING_BLOCKS
        self.highest = -1

    def accept(self, counter: int) -> bool:
        """True, once, for a counter that is new and not too old."""
        if counter > self.highest:
            self._move_to(counter)
        elif self.highest - counter > WINDOW:
            return False
        slot = (counter >> _BLOCK_SHIFT) & _RING_MASK
        bit = 1 << (counter & _BLOCK_MASK)
        if self._ring[slot] & bit:
            return False
        self._ring[slot] |= bit
        return True

    def accept_run(self, first: int, count: int) -> bool:
        """Accept `count` consecutive counters at once if all lie above every earlier one; otherwise change nothing.

        The case of a train in order: a few operations for the whole of it.
        """
        if first <= self.highest or not 0 < count <= WINDOW:
            return False
        end = first + count
        self._move_to(end - 1)
        while first < end:
            block = first >> _BLOCK_SHIFT
            stop = min(end, (block + 1) << _BLOCK_SHIFT)
            self._ring[block & _RING_MASK] |= ((1 << (stop - first)) - 1) << (first & _BLOCK_MASK)
            first = stop
        return True

    def _move_to(self, counter: int) -> None:
        """Make `counter` the highest, clearing the blocks between."""
        block = counter >> _BLOCK_SHIFT
        entered = block - (self.highest >> _BLOCK_SHIFT)
        for step in range(min(entered, RING_BLOCKS)):
            self._ring[(block - step) & _RING_MASK] = 0
        self.highest = counter

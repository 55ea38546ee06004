"""Randomness as an argument, so that a run can be repeated from its seed."""

from __future__ import annotations

import hashlib
from typing import Protocol


class RandomSource(Protocol):
    """Where engines get key material, identifiers and jitter from."""

    def bytes(self, count: int) -> bytes:
        """`count` unpredictable bytes."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        ...


class SeededRandom:
    """SHA-256 in counter mode: equal seeds give equal streams. For tests and simulations only."""

    def __init__(self, seed: int | str) -> None:
        self._seed = str(seed).encode()
        self._counter = 0
        self._pool = b""

    def bytes(self, count: int) -> bytes:
        while len(self._pool) < count:
            self._pool += hashlib.sha256(self._seed + self._counter.to_bytes(8, "big")).digest()
            self._counter += 1
        taken, self._pool = self._pool[:count], self._pool[count:]
        return taken

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * int.from_bytes(self.bytes(7), "big") / (1 << 56)


def integer_below(random: RandomSource, limit: int) -> int:
    """A uniform integer in [0, limit), without modulo bias. Raises ValueError for limits below 1."""
    if limit < 1:
        raise ValueError(f"no integers below {limit}")
    size = (limit.bit_length() + 7) // 8
    ceiling = (1 << (8 * size)) // limit * limit
    while True:
        drawn = int.from_bytes(random.bytes(size), "big")
        if drawn < ceiling:
            return drawn % limit

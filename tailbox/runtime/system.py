"""The real clock and the real randomness."""

from __future__ import annotations

import os
import random
import time


class SystemClock:
    """time.monotonic and time.time."""

    def monotonic(self) -> float:
        return time.monotonic()

    def unix_time(self) -> float:
        return time.time()


class SystemRandom:
    """The operating system's generator."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

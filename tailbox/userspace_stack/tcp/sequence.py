"""Sequence numbers: arithmetic modulo 2³². Source: RFC 9293 §3.4.

Two numbers are compared by which way round the circle is shorter, so all comparisons are between numbers less than
2³¹ apart. Windows are at most 2³⁰ bytes (RFC 7323 §2.3).
"""

from __future__ import annotations

MASK = 0xFFFFFFFF
HALF = 0x80000000


def add(sequence: int, count: int) -> int:
    """The number `count` further on; a negative count goes back."""
    return (sequence + count) & MASK


def distance(start: int, end: int) -> int:
    """How far `end` lies after `start`; negative if before. In [-2³¹, 2³¹)."""
    return ((end - start + HALF) & MASK) - HALF


def is_before(left: int, right: int) -> bool:
    return (left - right) & MASK >= HALF


def is_after(left: int, right: int) -> bool:
    return (right - left) & MASK >= HALF


def is_within(sequence: int, start: int, count: int) -> bool:
    """Whether `sequence` is one of the `count` numbers from `start` on."""
    return (sequence - start) & MASK < count


def unwrap(near: int, sequence: int) -> int:
    """The integer closest to `near` that `sequence` stands for; `near` may be beyond 2³² already."""
    return near + ((sequence - near + HALF) & MASK) - HALF

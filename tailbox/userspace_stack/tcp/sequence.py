"""Sequence numbers, unwrapped. Source: RFC 9293 §3.4.

On the wire they count modulo 2³². Inside, a connection counts with integers that only grow, so that comparing and
subtracting them is ordinary arithmetic; `unwrap` leads from one to the other. Windows are at most 2³⁰ bytes (RFC 7323
§2.3), so a number and the place it is compared with are never 2³¹ or more apart unless somebody lies.
"""

from __future__ import annotations

MASK = 0xFFFFFFFF
HALF = 0x80000000


def unwrap(near: int, sequence: int) -> int:
    """The integer closest to `near` that `sequence` stands for; `near` may be beyond 2³² already."""
    return near + ((sequence - near + HALF) & MASK) - HALF

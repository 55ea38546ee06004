"""Ephemeral ports and initial sequence numbers: what an outsider must not guess.

Sources: RFC 6056 §3.3.1 (simple port randomisation), RFC 6335 §6 (the range), RFC 6528 §3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tailbox.randomness import RandomSource, integer_below
from tailbox.userspace_stack.errors import OutOfPorts

FIRST_EPHEMERAL_PORT = 16384  # ours: below IANA's 49152, for 49,152 candidates; above everything well known
LAST_EPHEMERAL_PORT = 65535
SEQUENCE_TICKS_PER_S = 250_000  # "a 4-microsecond clock"


def pick_port(random: RandomSource, is_free: Callable[[int], bool]) -> int:
    """A free ephemeral port, tried upwards from a random start. Raises OutOfPorts."""
    count = LAST_EPHEMERAL_PORT - FIRST_EPHEMERAL_PORT + 1
    start = integer_below(random, count)
    for offset in range(count):
        port = FIRST_EPHEMERAL_PORT + (start + offset) % count
        if is_free(port):
            return port
    raise OutOfPorts("every ephemeral port is taken")


class InitialSequenceNumbers:
    """ISN = M + F(connection, secret): grows with time for one connection, tells nothing about another."""

    def __init__(self, random: RandomSource) -> None:
        self._secret = random.bytes(32)

    def next(self, flow_key: bytes, *, now: float) -> int:
        digest = hashlib.blake2s(flow_key, digest_size=4, key=self._secret).digest()
        return (int(now * SEQUENCE_TICKS_PER_S) + int.from_bytes(digest, "big")) & 0xFFFFFFFF

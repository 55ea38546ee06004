"""Ports and sequence numbers that cannot be guessed."""

from __future__ import annotations

import pytest

from tailbox.randomness import SeededRandom
from tailbox.userspace_stack.errors import OutOfPorts
from tailbox.userspace_stack.ports import FIRST_EPHEMERAL_PORT, LAST_EPHEMERAL_PORT, InitialSequenceNumbers, pick_port


def test_ports_are_spread_over_the_whole_range() -> None:
    random = SeededRandom(1)
    buckets = [0] * 16
    for _ in range(1600):
        port = pick_port(random, lambda _: True)
        assert FIRST_EPHEMERAL_PORT <= port <= LAST_EPHEMERAL_PORT
        buckets[(port - FIRST_EPHEMERAL_PORT) * 16 // (LAST_EPHEMERAL_PORT - FIRST_EPHEMERAL_PORT + 1)] += 1
    assert sum((count - 100) ** 2 / 100 for count in buckets) < 37.7  # chi-square, 15 degrees of freedom, p = 0.001


def test_a_taken_port_is_passed_over_and_none_left_is_told() -> None:
    assert pick_port(SeededRandom(1), lambda port: port == 30000) == 30000
    with pytest.raises(OutOfPorts):
        pick_port(SeededRandom(1), lambda _: False)


def test_sequence_numbers_grow_for_one_connection_and_say_nothing_of_another() -> None:
    numbers = InitialSequenceNumbers(SeededRandom(1))
    first, later = numbers.next(b"flow", now=5.0), numbers.next(b"flow", now=5.001)
    assert (later - first) % 2**32 == 250
    others = {numbers.next(bytes([byte]), now=5.0) >> 24 for byte in range(256)}
    assert len(others) > 100
    assert InitialSequenceNumbers(SeededRandom(2)).next(b"flow", now=5.0) != first

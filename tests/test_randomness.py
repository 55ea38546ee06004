from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.randomness import RandomSource, SeededRandom, integer_below
from tailbox.runtime.system import SystemRandom

SOURCES = pytest.mark.parametrize("random", [SeededRandom("source"), SystemRandom()])


class Scripted:
    """Gives the bytes that a test wrote down."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def bytes(self, count: int) -> bytes:
        taken, self._data = self._data[:count], self._data[count:]
        assert len(taken) == count, "more was drawn than the test expects"
        return taken

    def uniform(self, low: float, high: float) -> float:
        raise NotImplementedError


@given(st.lists(st.integers(0, 100), max_size=10))
def test_a_seeded_stream_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    pieces = SeededRandom("seed")
    assert b"".join(pieces.bytes(count) for count in cuts) == SeededRandom("seed").bytes(sum(cuts))


def test_seeds_give_streams_of_their_own() -> None:
    assert SeededRandom(1).bytes(32) != SeededRandom(2).bytes(32)
    assert SeededRandom(1).bytes(32) == SeededRandom("1").bytes(32)


@SOURCES
def test_uniform_numbers_stay_in_their_range_and_reach_all_of_it(random: RandomSource) -> None:
    drawn = [random.uniform(-1.0, 3.0) for _ in range(400)]
    assert all(-1.0 <= number < 3.0 for number in drawn)
    assert min(drawn) < -0.8
    assert max(drawn) > 2.8


@SOURCES
def test_bytes_come_in_the_number_asked_for_and_do_not_repeat(random: RandomSource) -> None:
    assert [len(random.bytes(count)) for count in (0, 1, 33)] == [0, 1, 33]
    assert random.bytes(32) != random.bytes(32)


@given(st.integers(1, 1 << 40))
def test_integers_stay_below_their_limit(limit: int) -> None:
    random = SeededRandom(limit)
    assert all(0 <= integer_below(random, limit) < limit for _ in range(5))


def test_integers_below_ten_are_equally_likely() -> None:
    random = SeededRandom("dice")
    counts = Counter(integer_below(random, 10) for _ in range(5000))
    assert set(counts) == set(range(10))
    assert all(400 < count < 600 for count in counts.values())


def test_what_would_bias_the_remainder_is_drawn_again() -> None:
    # 250 is the largest multiple of 10 that one byte reaches: 250 to 255 would favour 0 to 5.
    assert integer_below(Scripted(bytes((250, 255, 249))), 10) == 9


@pytest.mark.parametrize("limit", [0, -1])
def test_there_are_no_integers_below_one_limit(limit: int) -> None:
    with pytest.raises(ValueError, match=str(limit)):
        integer_below(SeededRandom(1), limit)

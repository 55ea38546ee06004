"""Vectors: tailscale net/netcheck netcheck_test.go TestAddReportHistoryAndSetPreferredDERP."""

from __future__ import annotations

import pytest

from tailbox.paths.home_relay import HomeRelay
from tailbox.randomness import SeededRandom

ALL = frozenset((1, 2, 3))


def choices(*steps: tuple[float, dict[int, float]], scores: dict[int, float] | None = None) -> list[int]:
    home, now, chosen = HomeRelay(random=SeededRandom(1)), 0.0, []
    for after_s, latencies in steps:
        now += after_s
        chosen.append(home.choose(latencies, eligible=ALL, scores=scores, now=now))
    return chosen


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ([(0, {1: 2, 2: 3})], 1),
        ([(0, {1: 2, 2: 3}), (1, {1: 4, 2: 3})], 1),  # the best of history counts
        ([(0, {1: 2, 2: 3}), (1, {2: 3})], 2),  # home does not answer
        ([(0, {1: 4, 2: 5}), (1, {1: 4, 2: 3})], 1),  # not fast enough: above two thirds
        ([(0, {1: 4, 2: 5}), (1, {1: 4, 2: 1})], 2),
        ([(0, {1: 0.034, 2: 0.035}), (1, {1: 0.034, 2: 0.023})], 1),  # 11 ms, but above two thirds
        ([(0, {1: 0.034, 2: 0.035}), (1, {1: 0.034, 2: 0.012})], 2),
        ([(0, {1: 0.012, 2: 0.015}), (1, {1: 0.012, 2: 0.003})], 1),  # less than 10 ms
    ],
)
def test_home_moves_only_for_a_clear_lead(steps: list[tuple[float, dict[int, float]]], wanted: int) -> None:
    assert choices(*steps)[-1] == wanted


def test_scores_weigh_latencies() -> None:
    assert choices((0, {1: 10, 2: 20}), scores={2: 0.1}) == [2]
    assert choices((0, {1: 10, 2: 20}), scores={2: 0.0, 1: -1.0}) == [1]


def test_a_home_that_was_heard_lately_is_kept_although_stun_fails() -> None:
    home = HomeRelay(random=SeededRandom(1))
    assert home.choose({1: 1.0, 2: 2.0}, eligible=ALL, now=0) == 1
    home.heard(1, now=10)
    assert home.choose({2: 0.5}, eligible=ALL, now=15) == 1
    assert home.choose({2: 0.5}, eligible=ALL, now=30) == 2


def test_without_any_answer_home_is_kept_and_else_some_region_is_taken() -> None:
    home = HomeRelay(random=SeededRandom(1))
    first = home.choose({}, eligible=ALL, now=0)
    assert first in ALL
    assert home.choose({}, eligible=ALL, now=500) == first
    assert home.choose({}, eligible=frozenset(), now=501) == 0


def test_a_region_that_left_the_map_is_home_no_longer() -> None:
    home = HomeRelay(random=SeededRandom(1))
    assert home.choose({1: 1.0, 2: 2.0}, eligible=ALL, now=0) == 1
    assert home.choose({1: 1.0, 2: 2.0}, eligible=frozenset((2,)), now=1) == 2


def test_history_is_forgotten_after_five_minutes() -> None:
    assert choices((0, {1: 1, 2: 9}), (400, {1: 9, 2: 1}))[-1] == 2

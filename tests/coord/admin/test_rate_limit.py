"""Token buckets: bursts, refill, strangers, floods."""

from __future__ import annotations

import pytest

from tailbox.coord.admin.errors import TooManyRequests
from tailbox.coord.admin.rate_limit import MAX_ADDRESSES, RateLimit


def test_a_burst_passes_and_the_next_try_waits() -> None:
    limit = RateLimit(burst=3, per_minute=6)
    for _ in range(3):
        limit.check("a", now=100.0)
    with pytest.raises(TooManyRequests) as caught:
        limit.check("a", now=100.0)
    assert caught.value.retry_after_s == pytest.approx(10.0)


def test_tokens_come_back_with_time_and_not_above_the_burst() -> None:
    limit = RateLimit(burst=2, per_minute=60)
    for _ in range(2):
        limit.check("a", now=0.0)
    limit.check("a", now=1.0)
    for _ in range(2):
        limit.check("a", now=1000.0)
    with pytest.raises(TooManyRequests):
        limit.check("a", now=1000.0)


def test_one_address_does_not_use_up_another() -> None:
    limit = RateLimit(burst=1, per_minute=1)
    limit.check("a", now=0.0)
    limit.check("b", now=0.0)


def test_all_addresses_together_have_a_limit_too() -> None:
    limit = RateLimit(burst=1, per_minute=1, crowd=5)
    for number in range(5):
        limit.check(str(number), now=0.0)
    with pytest.raises(TooManyRequests):
        limit.check("one more", now=0.0)


def test_a_flood_of_addresses_costs_bounded_memory() -> None:
    limit = RateLimit(burst=1, per_minute=1, crowd=10**9)
    for number in range(MAX_ADDRESSES + 50):
        limit.check(str(number), now=0.0)
    assert len(limit._buckets) == MAX_ADDRESSES

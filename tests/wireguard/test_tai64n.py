"""Timestamps of initiations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailbox.wireguard.tai64n import OLDEST, TICK_NS, timestamp, timestamp_after


def test_label_is_that_of_tai64() -> None:
    """libtai: 1970-01-01 00:00:10 TAI, which is 00:00:00 UTC, is 400000000000000a."""
    assert timestamp(0.0) == bytes.fromhex("400000000000000a00000000")
    assert timestamp(1_700_000_000.5) == bytes.fromhex("400000006553f10a") + (500_000_000 & -TICK_NS).to_bytes(4, "big")


@given(st.floats(0, 1e10), st.floats(0, 1e10))
def test_stamps_compare_as_time_does(one: float, other: float) -> None:
    if one <= other:
        assert OLDEST < timestamp(one) <= timestamp(other)


@given(st.lists(st.floats(-10, 1e10), min_size=2, max_size=20))
def test_stamps_grow_whatever_the_clock_does(moments: list[float]) -> None:
    stamp = OLDEST
    for moment in moments:
        following = timestamp_after(stamp, moment)
        assert following > stamp
        assert int.from_bytes(following[8:], "big") < 1_000_000_000
        assert following[9:] == b"\0\0\0"  # whitened
        stamp = following


def test_a_clock_that_stands_still_carries_into_the_seconds() -> None:
    stamp = timestamp(5.0)
    for _ in range(60):
        stamp = timestamp_after(stamp, 5.0)
    assert stamp[:8] == timestamp(6.0)[:8]

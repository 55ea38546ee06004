"""Go's times survive: nine digits, any offset, year 1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.errors import Malformed
from tailbox.wire.control.timestamp import YEAR_10000_UNIX_S, YEAR_ONE_UNIX_S, Timestamp


@pytest.mark.parametrize(
    ("text", "unix_ns"),
    [
        ("1970-01-01T00:02:03Z", 123_000_000_000),
        ("1970-01-01T02:02:03+02:00", 123_000_000_000),  # a logout's expiry, printed in the client's zone
        ("2026-08-22T10:11:12.123456789Z", 1_787_393_472_123_456_789),
        ("2026-08-22T04:41:12.1-05:30", 1_787_393_472_100_000_000),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000_000),  # a leap second
    ],
)
def test_reads_what_go_writes(text: str, unix_ns: int) -> None:
    assert Timestamp.parse(text).unix_ns == unix_ns


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-08-22", "2026-08-22T10:11:12", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "now"]
)
def test_refuses_what_is_no_time(text: str) -> None:
    with pytest.raises(Malformed):
        Timestamp.parse(text)


@given(st.integers(YEAR_ONE_UNIX_S * 10**9, YEAR_10000_UNIX_S * 10**9 - 1))
def test_round_trip(unix_ns: int) -> None:
    assert Timestamp.parse(str(Timestamp(unix_ns))).unix_ns == unix_ns


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_malformed(text: str) -> None:
    try:
        Timestamp.parse(text)
    except Malformed:
        pass


def test_zero_is_year_one_and_nothing_else() -> None:
    assert str(Timestamp.zero()) == "0001-01-01T00:00:00Z"
    assert Timestamp.zero().is_zero
    assert not Timestamp(0).is_zero


def test_far_times_are_bounded_to_what_can_be_written() -> None:
    assert str(Timestamp.from_unix(1e18)) == "9999-12-31T23:59:59Z"
    assert str(Timestamp.from_unix(-1e18)) == "0001-01-01T00:00:00Z"


def test_order_and_equality_are_those_of_moments() -> None:
    assert Timestamp(1) < Timestamp(2)
    assert Timestamp.parse("2026-01-01T01:00:00+01:00") == Timestamp.parse("2026-01-01T00:00:00Z")
    assert hash(Timestamp(5)) == hash(Timestamp(5))

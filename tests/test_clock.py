from __future__ import annotations

import pytest

from tailbox.clock import Clock, Deadline, ManualClock, earliest
from tailbox.runtime.system import SystemClock


def test_the_earliest_deadline_wins_and_absent_ones_do_not_count() -> None:
    rekey, probe = Deadline(5.0, "rekey"), Deadline(3.0, "probe")
    assert earliest([rekey, None, probe]) is probe
    assert earliest(iter([None])) is None
    assert earliest([]) is None


def test_of_equal_deadlines_the_first_is_taken() -> None:
    first, second = Deadline(1.0, "z"), Deadline(1.0, "a")
    assert earliest([first, second]) is first


def test_a_manual_clock_moves_both_readings_and_only_when_told() -> None:
    clock = ManualClock(monotonic_s=10.0, unix_s=1000.0)
    assert (clock.monotonic(), clock.unix_time()) == (10.0, 1000.0)
    clock.advance(2.5)
    assert (clock.monotonic(), clock.unix_time()) == (12.5, 1002.5)
    clock.advance(0)
    assert clock.monotonic() == 12.5


def test_a_manual_clock_does_not_go_back() -> None:
    clock = ManualClock()
    with pytest.raises(ValueError, match="-1"):
        clock.advance(-1)
    assert clock.monotonic() == 0.0


@pytest.mark.parametrize("clock", [ManualClock(), SystemClock()])
def test_clocks_never_go_back_and_know_the_century(clock: Clock) -> None:
    readings = [clock.monotonic() for _ in range(5)]
    assert readings == sorted(readings)
    assert clock.unix_time() > 1_500_000_000

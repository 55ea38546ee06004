"""The timeout by RFC 6298, and the scoreboard by RFC 6675."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.userspace_stack.tcp.retransmission import (
    INITIAL_RTO_S,
    MAX_RTO_S,
    MIN_RTO_S,
    Phase,
    Recovery,
    RetransmissionTimeout,
)

MSS = 100


def test_the_first_measurement_sets_the_timeout() -> None:
    timeout = RetransmissionTimeout()
    assert timeout.rto_s == INITIAL_RTO_S
    timeout.measured(0.4)
    assert timeout.rto_s == pytest.approx(0.4 + 4 * 0.2)  # RFC 6298 §2.2
    timeout.measured(0.4)
    assert timeout.rto_s == pytest.approx(0.4 + 4 * 0.15)  # §2.3


def test_the_timeout_stays_within_its_bounds_and_backs_off() -> None:
    timeout = RetransmissionTimeout()
    for _ in range(50):
        timeout.measured(0.0001)
    assert timeout.rto_s == MIN_RTO_S
    for _ in range(20):
        timeout.back_off()
    assert timeout.rto_s == MAX_RTO_S
    timeout.settle()
    assert timeout.rto_s == MIN_RTO_S


def test_probes_come_after_two_round_trips_and_later_for_a_lone_segment() -> None:
    timeout = RetransmissionTimeout()
    assert timeout.probe_timeout_s(lone_segment=False) == INITIAL_RTO_S
    for _ in range(50):
        timeout.measured(0.05)
    assert timeout.probe_timeout_s(lone_segment=False) == pytest.approx(0.1)
    assert timeout.probe_timeout_s(lone_segment=True) == timeout.rto_s


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 12)), max_size=30), st.integers(0, 50))
def test_the_scoreboard_equals_a_set(ranges: list[tuple[int, int]], una: int) -> None:
    recovery = Recovery(MSS)
    model: set[int] = set()
    for start, length in ranges:
        new = set(range(start, start + length)) - model
        assert recovery.add_sacked(start, start + length) is bool(new)
        model |= new
    recovery.forget_below(una)
    assert {p for start, end in recovery.sacked for p in range(start, end)} == {p for p in model if p >= una}
    recovery.is_selective = True
    assert recovery.pipe(una, 100) == 100 - una - len({p for p in model if p >= una})


def test_holes_are_sent_again_once_each_and_in_order() -> None:
    recovery = Recovery(MSS)
    recovery.is_selective = True
    for start, end in ((200, 300), (400, 800)):
        recovery.add_sacked(start, end)
    assert recovery.sees_loss(0)
    recovery.start_fast(0, 1000)
    holes = []
    while (hole := recovery.next_hole(0)) is not None:
        holes.append(hole)
        recovery.high_retransmitted = hole[1]
    assert holes == [(0, 200), (300, 400)]  # [800, 1000) is not lost: too little lies above it
    recovery.progressed(1000)
    assert recovery.phase is Phase.OPEN
    assert recovery.next_hole(1000) is None


def test_too_little_above_a_hole_is_no_loss() -> None:
    recovery = Recovery(MSS)
    recovery.add_sacked(100, 300)
    assert not recovery.sees_loss(0)
    recovery.add_sacked(300, 301)
    assert recovery.sees_loss(0)


def test_without_selective_acknowledgements_one_segment_goes_per_round() -> None:
    recovery = Recovery(MSS)
    recovery.duplicates = 3
    assert recovery.sees_loss(0)
    recovery.start_fast(0, 1000)
    assert recovery.next_hole(0) == (0, 100)
    recovery.high_retransmitted = 100
    assert recovery.next_hole(0) is None
    recovery.progressed(300)  # a partial acknowledgement, RFC 6582
    assert recovery.next_hole(300) == (300, 400)
    recovery.progressed(1000)
    assert recovery.phase is Phase.OPEN


def test_a_timeout_sends_everything_that_is_not_known_to_have_arrived() -> None:
    recovery = Recovery(MSS)
    recovery.is_selective = True
    recovery.add_sacked(300, 400)
    recovery.start_after_timeout(0, 1000, again=False)
    assert recovery.pipe(0, 1000) == 0
    assert recovery.next_hole(0) == (0, 300)
    recovery.high_retransmitted = 300
    assert recovery.pipe(0, 1000) == 300
    assert recovery.next_hole(0) == (400, 1000)
    recovery.start_after_timeout(0, 1000, again=True)
    assert recovery.next_hole(0) == (0, 1000)  # the peer may have dropped what it reported


def test_the_scoreboard_is_bounded() -> None:
    recovery = Recovery(MSS)
    for start in range(0, 1000, 2):
        recovery.add_sacked(start, start + 1)
    assert len(recovery.sacked) == 100

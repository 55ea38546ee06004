"""Reno and CUBIC."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbox.userspace_stack.tcp.congestion import Congestion, Cubic, Reno

MSS = 1000
BOTH = pytest.mark.parametrize("make", [Reno, Cubic])


def make_of(kind: str) -> Congestion:
    return Reno(MSS) if kind == "reno" else Cubic(MSS)


@BOTH
def test_it_starts_with_ten_segments_and_doubles_each_round(make: type[Congestion]) -> None:
    controller = make_of("reno" if make is Reno else "cubic")
    assert controller.window == 10 * MSS
    controller.acknowledged(10 * MSS, now=0.0, rtt_s=0.1)
    assert controller.window == 20 * MSS


@BOTH
def test_a_timeout_leaves_one_segment_and_remembers_the_threshold(make: type[Congestion]) -> None:
    controller = make_of("reno" if make is Reno else "cubic")
    controller.timed_out(100 * MSS, now=0.0)
    assert controller.window == MSS
    assert controller.slow_start_threshold == (50 if make is Reno else 70) * MSS


@BOTH
def test_windows_never_fall_below_two_segments_at_a_loss(make: type[Congestion]) -> None:
    controller = make_of("reno" if make is Reno else "cubic")
    controller.lost(MSS, now=0.0)
    assert controller.window == 2 * MSS


@BOTH
def test_an_idle_connection_starts_over_with_a_small_window(make: type[Congestion]) -> None:
    controller = make_of("reno" if make is Reno else "cubic")
    controller.window = 500 * MSS
    controller.restart()
    assert controller.window == 10 * MSS


def test_reno_halves_and_then_grows_a_segment_each_round() -> None:
    reno = Reno(MSS)
    reno.lost(40 * MSS, now=0.0)
    assert reno.window == 20 * MSS
    for _ in range(20):
        reno.acknowledged(MSS, now=0.0, rtt_s=0.1)
    assert reno.window == 21 * MSS


def test_cubic_returns_to_its_old_window_after_k_seconds_and_goes_beyond() -> None:
    cubic = Cubic(MSS)
    cubic.window = 1000 * MSS
    cubic.lost(1000 * MSS, now=0.0)
    assert cubic.window == 700 * MSS
    k = (300 / 0.4) ** (1 / 3)  # RFC 9438 §4.2
    windows = []
    now = 0.0
    while now < 1.5 * k:
        cubic.acknowledged(cubic.window, now=now, rtt_s=0.1)
        windows.append((now, cubic.window))
        now += 0.1
    at_k = next(window for now, window in windows if now >= k)
    assert at_k == pytest.approx(1000 * MSS, rel=0.03)
    assert windows[-1][1] > 1010 * MSS


@given(
    st.sampled_from(["reno", "cubic"]),
    st.lists(
        st.tuples(st.sampled_from(["ack", "loss", "timeout", "idle"]), st.integers(1, 100_000), st.floats(0, 10)),
        max_size=60,
    ),
)
def test_acknowledgements_never_shrink_the_window_and_add_at_most_themselves(
    kind: str, events: list[tuple[str, int, float]]
) -> None:
    controller = make_of(kind)
    now = 0.0
    for event, count, wait in events:
        now += wait
        before = controller.window
        if event == "ack":
            controller.acknowledged(count, now=now, rtt_s=0.05)
            assert before <= controller.window <= before + max(count, MSS)
        elif event == "loss":
            controller.lost(before, now=now)
        elif event == "timeout":
            controller.timed_out(before, now=now)
        else:
            controller.restart()
        assert controller.window >= MSS

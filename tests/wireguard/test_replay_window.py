"""The replay window against a set of everything seen."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.wireguard.replay_window import WINDOW, ReplayWindow


class SetModel:
    """Obviously right: remembers every counter."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.highest = 0

    def accept(self, counter: int) -> bool:
        if counter in self.seen or self.highest - counter > WINDOW:
            return False
        self.seen.add(counter)
        self.highest = max(self.highest, counter)
        return True


steps = st.lists(
    st.tuples(
        st.sampled_from(["near", "back", "leap", "edge", "again"]),
        st.integers(0, 300),
        st.integers(1, 130),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=50)
@given(steps)
def test_window_agrees_with_a_set_of_all_counters(steps: list[tuple[str, int, int]]) -> None:
    window, model = ReplayWindow(), SetModel()
    for kind, distance, count in steps:
        highest = model.highest
        first = {
            "near": highest + 1,
            "back": max(0, highest - distance),
            "leap": highest + 40 * distance,
            "edge": max(0, highest - WINDOW - 150 + distance),
            "again": highest,
        }[kind]
        if first > window.highest and kind in ("near", "leap"):
            assert window.accept_run(first, count)
            assert all(model.accept(counter) for counter in range(first, first + count))
        else:
            assert not (first <= window.highest and window.accept_run(first, count))
            for counter in range(first, first + count % 7):
                assert window.accept(counter) == model.accept(counter), counter
    for counter in range(max(0, window.highest - WINDOW - 70), window.highest + 70):
        assert window.accept(counter) == model.accept(counter)


def test_each_counter_passes_once() -> None:
    window = ReplayWindow()
    assert [window.accept(counter) for counter in (0, 0, 1, 5, 3, 3, 5, 4)] == [
        True, False, True, True, True, False, False, True,
    ]  # fmt: skip


def test_window_reaches_back_8128_and_no_further() -> None:
    window = ReplayWindow()
    assert window.accept(20_000)
    assert window.accept(20_000 - WINDOW)
    assert not window.accept(20_000 - WINDOW - 1)


def test_a_run_below_the_highest_changes_nothing() -> None:
    window = ReplayWindow()
    assert window.accept(10)
    assert not window.accept_run(5, 10)
    assert window.highest == 10
    assert window.accept(5)
    assert not window.accept_run(11, 0)
    assert not window.accept_run(11, WINDOW + 1)


def test_the_largest_counters_are_counters_like_any_other() -> None:
    window = ReplayWindow()
    assert window.accept(2**64 - 2**13 - 2)
    assert not window.accept(2**64 - 2**13 - 2)
    assert not window.accept(1)

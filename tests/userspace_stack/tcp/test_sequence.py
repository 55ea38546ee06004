from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailbox.userspace_stack.tcp.sequence import unwrap


@given(st.integers(0, 1 << 40), st.integers(-(2**31), 2**31 - 1))
def test_a_number_within_half_the_circle_is_found_again(near: int, offset: int) -> None:
    assert unwrap(near, (near + offset) % 2**32) == near + offset


def test_numbers_around_the_wrap() -> None:
    assert unwrap(2**32 - 1, 0) == 2**32
    assert unwrap(2**32, 0xFFFFFFFF) == 2**32 - 1
    assert unwrap(5, 0xFFFFFFFF) == -1

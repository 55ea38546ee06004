"""The table of RFC 9293 figure 5."""

from __future__ import annotations

import pytest

from tailbox.userspace_stack.tcp.states import NEXT_STATE, SYNCHRONIZED, Cause, State


def test_every_state_can_be_reached_and_left() -> None:
    reached = {State.LISTEN, State.SYN_SENT}  # entered by calls, not by causes
    while more := {after for (before, _), after in NEXT_STATE.items() if before in reached} - reached:
        reached |= more
    assert reached == set(State)


@pytest.mark.parametrize("state", State)
def test_death_ends_every_state(state: State) -> None:
    assert NEXT_STATE[state, Cause.DIED] is State.CLOSED


def test_fins_in_either_order_end_in_time_wait_for_who_closed_first() -> None:
    def walk(*causes: Cause) -> State:
        state = State.ESTABLISHED
        for cause in causes:
            state = NEXT_STATE[state, cause]
        return state

    close, fin, ack = Cause.CLOSE_CALLED, Cause.FIN_ARRIVED, Cause.FIN_ACKNOWLEDGED
    assert walk(close, ack, fin) is State.TIME_WAIT
    assert walk(close, fin, ack) is State.TIME_WAIT
    assert walk(fin, close, ack) is State.CLOSED


def test_synchronized_states_are_all_beyond_the_handshake() -> None:
    assert {State.CLOSED, State.LISTEN, State.SYN_SENT, State.SYN_RECEIVED} == set(State) - SYNCHRONIZED

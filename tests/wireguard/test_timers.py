"""Timers of a peer, and which of many peers is due."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.clock import Deadline
from tailbox.wire.keys import NodePublicKey
from tailbox.wireguard.timers import NEVER, PeerTimers, Schedule


def timers_of(number: int) -> PeerTimers:
    return PeerTimers(NodePublicKey(bytes([number]) * 32))


def test_nothing_is_due_at_first() -> None:
    timers = timers_of(1)
    assert timers.earliest() is None
    assert timers.earliest_at() == NEVER
    assert Schedule().next() is None


def test_the_earliest_deadline_has_its_reason() -> None:
    timers = timers_of(1)
    timers.data_sent(now=0.0)
    assert timers.earliest() == Deadline(15.0, "data unanswered")
    timers.data_received(now=1.0)
    assert timers.earliest() == Deadline(11.0, "keepalive")
    timers.data_received(now=2.0)
    assert timers.wants_another_keepalive
    timers.authenticated_sent(now=3.0)
    timers.authenticated_received(now=3.0)
    assert timers.earliest() is None
    timers.persistent_keepalive_s = 25.0
    timers.authenticated_sent(now=4.0)
    assert timers.earliest() == Deadline(29.0, "persistent keepalive")
    timers.jitter_s = 0.25
    timers.initiation_sent(now=4.0)
    assert timers.earliest() == Deadline(9.25, "handshake retry")
    timers.expiry_at = 5.0
    assert timers.earliest() == Deadline(5.0, "session expiry")
    timers.clear()
    assert timers.earliest() is None


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.just(NEVER), st.floats(0, 100))), max_size=60))
def test_schedule_agrees_with_a_scan_of_all_peers(moves: list[tuple[int, float]]) -> None:
    schedule = Schedule()
    peers = [timers_of(number) for number in range(6)]
    for number, at in moves:
        peers[number].keepalive_at = at
        schedule.update(peers[number])
        earliest = min(timers.earliest_at() for timers in peers)
        deadline = schedule.next()
        assert (NEVER if deadline is None else deadline.at) == earliest
    due = {timers.peer for timers in schedule.take_due(now=50.0, limit=100)}
    assert due == {timers.peer for timers in peers if timers.keepalive_at <= 50.0}


def test_due_peers_come_in_order_and_bounded() -> None:
    schedule = Schedule()
    peers = [timers_of(number) for number in range(10)]
    for number, timers in enumerate(peers):
        timers.keepalive_at = 10.0 - number
        schedule.update(timers)
    assert schedule.take_due(now=20.0, limit=3) == [peers[9], peers[8], peers[7]]
    assert schedule.next() == Deadline(4.0, "keepalive")


def test_forgotten_peers_are_never_due() -> None:
    schedule = Schedule()
    timers = timers_of(1)
    timers.keepalive_at = 1.0
    schedule.update(timers)
    schedule.forget(timers)
    assert schedule.next() is None
    assert schedule.take_due(now=5.0, limit=5) == []


def test_hints_do_not_pile_up() -> None:
    schedule = Schedule()
    timers = timers_of(1)
    timers.expiry_at = 1e9
    for step in range(10_000):
        timers.keepalive_at = float(step)
        schedule.update(timers)
        schedule.take_due(now=float(step), limit=1)
        timers.keepalive_at = NEVER
        schedule.update(timers)
        assert len(schedule) <= 70

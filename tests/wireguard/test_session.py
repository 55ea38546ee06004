"""Sessions and the ring of three."""

from __future__ import annotations

from tailbox.wireguard.handshake import TransportKeys
from tailbox.wireguard.session import KeyRing, Session
from tailbox.wireguard.timers import NEVER, REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES


def session(*, initiated_by_us: bool = True, now: float = 0.0, index: int = 1) -> Session:
    keys = TransportKeys(bytes([1] * 32), bytes([2] * 32), index, 2)
    return Session(keys, initiated_by_us=initiated_by_us, now=now)


def test_a_session_sends_for_three_minutes() -> None:
    assert session().can_send(49, now=179.9)
    assert not session().can_send(1, now=180.0)


def test_counters_end_before_they_wrap() -> None:
    old = session()
    old.next_counter = REJECT_AFTER_MESSAGES - 2
    assert old.can_send(2, now=0.0)
    assert not old.can_send(3, now=0.0)
    assert old.take_counters(2) == REJECT_AFTER_MESSAGES - 2
    assert not old.can_send(1, now=0.0)


def test_the_initiator_alone_rekeys_by_time() -> None:
    assert not session().wants_rekey_after_sending(now=119.9)
    assert session().wants_rekey_after_sending(now=120.0)
    assert not session(initiated_by_us=False).wants_rekey_after_sending(now=179.0)


def test_either_end_rekeys_by_messages() -> None:
    for initiated_by_us in (True, False):
        busy = session(initiated_by_us=initiated_by_us)
        busy.next_counter = REKEY_AFTER_MESSAGES
        assert not busy.wants_rekey_after_sending(now=0.0)
        busy.take_counters(1)
        assert busy.wants_rekey_after_sending(now=0.0)


def test_the_listening_initiator_refreshes_once() -> None:
    listening = session()
    assert [listening.wants_rekey_after_receiving(now=now) for now in (164.0, 165.0, 166.0)] == [False, True, False]
    assert not session(initiated_by_us=False).wants_rekey_after_receiving(now=170.0)


def test_initiator_moves_current_to_previous() -> None:
    ring = KeyRing()
    first, second, third = session(), session(), session()
    assert ring.install_as_initiator(first) == []
    assert ring.install_as_initiator(second) == []
    assert ring.install_as_initiator(third) == [first]
    assert (ring.previous, ring.current, ring.next) == (second, third, None)


def test_responder_waits_for_confirmation() -> None:
    ring = KeyRing()
    first, second, third = session(), session(), session()
    ring.install_as_initiator(first)
    assert ring.install_as_responder(second) == []
    assert (ring.current, ring.next) == (first, second)
    assert ring.confirm(first) is None
    assert ring.install_as_responder(third) == [second]
    assert ring.confirm(second) is None
    assert ring.confirm(third) == []
    assert (ring.previous, ring.current, ring.next) == (first, third, None)


def test_crossing_handshakes_keep_both_sessions() -> None:
    ring = KeyRing()
    old, answered, asked = session(), session(), session()
    ring.install_as_initiator(old)
    ring.install_as_responder(answered)
    assert ring.install_as_initiator(asked) == [old]
    assert (ring.previous, ring.current, ring.next) == (answered, asked, None)


def test_expired_sessions_fall_out() -> None:
    ring = KeyRing()
    assert ring.next_expiry_at() == NEVER
    first, second = session(now=0.0), session(now=100.0)
    ring.install_as_initiator(first)
    ring.install_as_initiator(second)
    assert ring.next_expiry_at() == 180.0
    assert ring.expire(now=180.0) == [first]
    assert ring.next_expiry_at() == 280.0
    assert ring.clear() == [second]
    assert ring.held() == []


def test_keys_do_not_show() -> None:
    assert repr(session()) == "Session(local 0x00000001, remote 0x00000002, sent 0)"

from __future__ import annotations

import asyncio

from tailbox.clock import Deadline
from tailbox.runtime.deadline_timer import DeadlineTimer
from tailbox.runtime.system import SystemClock


class Alarm:
    def __init__(self) -> None:
        self.clock = SystemClock()
        self.rang: list[float] = []
        self.event = asyncio.Event()
        self.timer = DeadlineTimer(asyncio.get_running_loop(), self.clock, self.ring)

    def ring(self) -> None:
        self.rang.append(self.clock.monotonic())
        self.event.set()

    def arm(self, in_s: float) -> float:
        at = self.clock.monotonic() + in_s
        self.timer.arm(Deadline(at, "test"))
        return at


async def test_it_calls_back_once_and_not_early() -> None:
    alarm = Alarm()
    at = alarm.arm(0.02)
    await asyncio.wait_for(alarm.event.wait(), 2)
    assert alarm.rang[0] >= at
    await asyncio.sleep(0.03)
    assert len(alarm.rang) == 1


async def test_a_later_deadline_replaces_an_earlier_one() -> None:
    alarm = Alarm()
    alarm.arm(0.01)
    at = alarm.arm(0.05)
    await asyncio.wait_for(alarm.event.wait(), 2)
    assert len(alarm.rang) == 1
    assert alarm.rang[0] >= at


async def test_an_earlier_deadline_replaces_a_later_one() -> None:
    alarm = Alarm()
    alarm.arm(60)
    alarm.arm(0.01)
    await asyncio.wait_for(alarm.event.wait(), 2)


async def test_a_deadline_in_the_past_is_due_at_the_next_turn() -> None:
    alarm = Alarm()
    alarm.arm(-5)
    assert not alarm.rang
    await asyncio.sleep(0)
    assert len(alarm.rang) == 1


async def test_nothing_is_called_without_a_deadline_or_after_close() -> None:
    disarmed, closed = Alarm(), Alarm()
    disarmed.arm(0.01)
    disarmed.timer.arm(None)
    closed.arm(0.01)
    closed.timer.close()
    closed.arm(0.01)
    closed.timer.close()
    await asyncio.sleep(0.03)
    assert not disarmed.rang
    assert not closed.rang
    disarmed.arm(0.0)
    await asyncio.wait_for(disarmed.event.wait(), 2)

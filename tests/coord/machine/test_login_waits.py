"""Held registrations: woken by their own login, bounded, ended together."""

from __future__ import annotations

import asyncio

import pytest

from tailbox.coord.machine import login_waits
from tailbox.coord.machine.login_waits import LoginWaits


async def test_a_decision_wakes_those_who_wait_for_that_login() -> None:
    waits, gone = LoginWaits(), asyncio.Event()
    first = asyncio.create_task(waits.wait("a", gone=gone, timeout_s=5))
    second = asyncio.create_task(waits.wait("b", gone=gone, timeout_s=5))
    await asyncio.sleep(0)
    waits.notify(["a", "unknown"])
    assert await asyncio.wait_for(first, 1)
    assert not second.done()
    gone.set()
    assert await asyncio.wait_for(second, 1)
    assert len(waits) == 0


async def test_time_ends_a_wait() -> None:
    assert await LoginWaits().wait("a", gone=asyncio.Event(), timeout_s=0.01)


async def test_one_wait_too_many_and_a_closed_table_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, gone = LoginWaits(), asyncio.Event()
    monkeypatch.setattr(login_waits, "MAX_WAITING", 1)
    waiting = asyncio.create_task(waits.wait("a", gone=gone, timeout_s=5))
    await asyncio.sleep(0)
    assert not await waits.wait("a", gone=gone, timeout_s=5)
    waits.close()
    assert not await asyncio.wait_for(waiting, 1)
    assert not await waits.wait("a", gone=gone, timeout_s=5)

"""The event log: bounded, and never waiting for a reader."""

from __future__ import annotations

import asyncio

from tailbox.telemetry.events import EventLog


def test_history_is_bounded_and_numbered() -> None:
    log = EventLog(lambda: 5.0, history=3)
    for name in "abcde":
        log.publish("test", name)
    assert [(entry.sequence, entry.event) for entry in log.recent()] == [(3, "c"), (4, "d"), (5, "e")]
    assert [entry.event for entry in log.recent(after=4)] == ["e"]
    assert log.recent()[0].at_unix_s == 5.0


async def test_a_subscriber_gets_what_is_published_while_it_listens() -> None:
    log = EventLog(lambda: 0.0)
    log.publish("test", "before")
    with log.subscribe() as subscription:
        log.publish("test", "first")
        assert (await anext(subscription)).event == "first"
        waiting = asyncio.ensure_future(anext(subscription))
        await asyncio.sleep(0)
        log.publish("test", "second")
        assert (await waiting).event == "second"
    log.publish("test", "after")
    assert not subscription._queue


async def test_a_slow_subscriber_loses_the_oldest_and_is_told() -> None:
    log = EventLog(lambda: 0.0)
    with log.subscribe(backlog=2) as subscription:
        for number in range(5):
            log.publish("test", number)
        assert subscription.lost == 3
        assert [(await anext(subscription)).event for _ in range(2)] == [3, 4]

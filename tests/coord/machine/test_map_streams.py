"""One long poll's life: first map, differences, keep-alives, replacement, the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tailbox.clock import ManualClock
from tailbox.coord.machine import map_streams
from tailbox.coord.machine.map_streams import MapStream, MapStreams, StreamEnd
from tailbox.coord.metrics import CoordMetrics
from tailbox.randomness import SeededRandom
from tailbox.wire.control.map import KEEP_ALIVE


class NumberView:
    """A renderer whose view is one number."""

    def __init__(self) -> None:
        self.number: int | None = 0
        self.renderings = 0

    def view(self) -> int | None:
        self.renderings += 1
        return self.number

    def first(self, view: int) -> bytes:
        return b"first %d" % view

    def difference(self, old: int, new: int) -> bytes | None:
        return None if old == new else b"%d to %d" % (old, new)

    def farewell(self, last: int) -> bytes:
        return b"farewell %d" % last


class Bench:
    """Streams on a clock that the test moves, and what they sent."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.metrics = CoordMetrics()
        self.streams = MapStreams(clock=self.clock, random=SeededRandom(3), metrics=self.metrics)
        self.renderer = NumberView()
        self.sent: list[bytes] = []

    async def write(self, payload: bytes) -> None:
        self.sent.append(payload)

    @asynccontextmanager
    async def running(self, *, keep_alive: bool = True) -> AsyncIterator[tuple[MapStream, asyncio.Task[StreamEnd]]]:
        stream = self.streams.open(1)
        task = asyncio.create_task(self.streams.run(stream, self.renderer, self.write, wants_keep_alive=keep_alive))
        await until(lambda: bool(self.sent))
        try:
            yield stream, task
        finally:
            stream.end(StreamEnd.SHUTDOWN)
            await asyncio.wait_for(task, 2)

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels or None) or 0.0


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it did not come to pass")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_streams, "COALESCE_S", 0.02)


async def test_the_first_message_is_the_whole_map_and_later_ones_are_differences() -> None:
    bench = Bench()
    async with bench.running() as (stream, _):
        bench.renderer.number = 5
        stream.notify()
        await until(lambda: len(bench.sent) == 2)
    assert bench.sent == [b"first 0", b"0 to 5"]
    assert bench.counted("tailbox_map_messages_total", kind="delta") == 1


async def test_a_burst_of_changes_is_one_message() -> None:
    bench = Bench()
    async with bench.running() as (stream, _):
        for number in range(1, 50):
            bench.renderer.number = number
            bench.streams.notify_all()
            if number % 10 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(bench.sent) == 2)
        assert not stream.has_news
    assert bench.sent == [b"first 0", b"0 to 49"]


async def test_a_change_that_this_node_does_not_see_sends_nothing() -> None:
    bench = Bench()
    async with bench.running() as (stream, _):
        bench.streams.notify_all()
        await until(lambda: bench.renderer.renderings == 2 and not stream.has_news)
    assert bench.sent == [b"first 0"]


async def test_silence_is_filled_with_keep_alives_of_exactly_these_bytes() -> None:
    bench = Bench()
    async with bench.running() as (stream, _):
        bench.clock.advance(49.9)
        stream.notify()
        await until(lambda: bench.renderer.renderings == 2)
        assert bench.sent == [b"first 0"]
        bench.clock.advance(9.2)
        stream.notify()
        await until(lambda: len(bench.sent) == 2)
    assert bench.sent[1] == b'{"KeepAlive":true}' == KEEP_ALIVE


async def test_no_keep_alive_for_those_who_did_not_ask() -> None:
    bench = Bench()
    async with bench.running(keep_alive=False) as (stream, _):
        bench.clock.advance(200)
        stream.notify()
        await until(lambda: bench.renderer.renderings == 2)
        await asyncio.sleep(0.01)
    assert bench.sent == [b"first 0"]


async def test_a_second_stream_ends_the_first_and_its_closing_does_not_count() -> None:
    bench = Bench()
    async with bench.running() as (first, task):
        second = bench.streams.open(1)
        assert await asyncio.wait_for(task, 1) is StreamEnd.REPLACED
        assert not bench.streams.close(first)
        assert len(bench.streams) == 1
        assert bench.counted("tailbox_map_streams") == 1
        assert bench.streams.close(second)
        assert 1 not in bench.streams


async def test_a_deleted_node_is_told_before_its_stream_ends() -> None:
    bench = Bench()
    async with bench.running() as (stream, task):
        bench.renderer.number = None
        stream.notify()
        assert await asyncio.wait_for(task, 1) is StreamEnd.NODE_GONE
    assert bench.sent == [b"first 0", b"farewell 0"]


async def test_a_node_that_is_gone_already_gets_nothing() -> None:
    bench = Bench()
    bench.renderer.number = None
    stream = bench.streams.open(1)
    why = await bench.streams.run(stream, bench.renderer, bench.write, wants_keep_alive=True)
    assert (why, bench.sent) == (StreamEnd.NODE_GONE, [])


async def test_a_reader_that_takes_nothing_is_cut_off_and_meanwhile_costs_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(map_streams, "SEND_TIMEOUT_S", 0.05)
    bench = Bench()
    stuck = asyncio.Event()

    async def write(payload: bytes) -> None:
        bench.sent.append(payload)
        if len(bench.sent) == 2:
            await stuck.wait()

    stream = bench.streams.open(1)
    task = asyncio.create_task(bench.streams.run(stream, bench.renderer, write, wants_keep_alive=True))
    await until(lambda: bool(bench.sent))
    for number in range(1, 6):
        bench.renderer.number = number
        stream.notify()
        await asyncio.sleep(0.005)
    assert await asyncio.wait_for(task, 1) is StreamEnd.SLOW_READER
    assert len(bench.sent) == 2


async def test_shutdown_ends_every_stream_and_a_cancelled_one_counts_as_left() -> None:
    bench = Bench()
    async with bench.running() as (_, task):
        bench.streams.end_all()
        assert await asyncio.wait_for(task, 1) is StreamEnd.SHUTDOWN
    stream = bench.streams.open(2)
    task = asyncio.create_task(bench.streams.run(stream, bench.renderer, bench.write, wants_keep_alive=True))
    await until(lambda: len(bench.sent) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.counted("tailbox_map_streams_ended_total", reason="client_left") == 1

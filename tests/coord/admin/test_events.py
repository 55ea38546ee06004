"""The event stream: ready, changes, resuming, falling behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest

from tailbox.coord.admin import events
from tailbox.coord.admin.errors import TooManyRequests
from tailbox.coord.admin.events import MAX_QUEUED, EventReader
from tailbox.coord.admin.sse import HEARTBEAT

if TYPE_CHECKING:
    from tests.coord.conftest import Lab


class Reader:
    """Takes a stream apart: a piece may hold several events."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._events: list[str] = []

    async def next(self) -> tuple[str, int, dict[str, object]]:
        """(event, id, data)."""
        while not self._events:
            piece = await asyncio.wait_for(anext(self._stream), 2)
            self._events = [text for text in piece.decode().split("\n\n") if text and not text.startswith("retry")]
        fields = dict(line.split(": ", 1) for line in self._events.pop(0).split("\n"))
        return fields["event"], int(fields["id"]), json.loads(fields["data"])

    async def change_of(self, noun: str) -> tuple[int, dict[str, object]]:
        """The next change of such a thing, and the event's id."""
        while True:
            _, sequence, data = await self.next()
            changes = data["changes"]
            assert isinstance(changes, list)
            for change in changes:
                if change["noun"] == noun:
                    return sequence, change


@pytest.fixture
async def open_reader(lab: Lab) -> AsyncIterator[Callable[[int | None], Reader]]:
    streams: list[AsyncGenerator[bytes]] = []

    def open_at(last_seen: int | None) -> Reader:
        stream = lab.coord._feed.stream(last_seen)
        assert isinstance(stream, AsyncGenerator)
        streams.append(stream)
        return Reader(stream)

    yield open_at
    for stream in streams:
        await stream.aclose()


async def test_a_reader_hears_that_it_is_ready_and_then_of_each_change(
    lab: Lab, open_reader: Callable[[int | None], Reader]
) -> None:
    reader = open_reader(None)
    name, ready_at, data = await reader.next()
    assert (name, data["changes"]) == ("ready", [])
    node = await lab.add_node()
    sequence, change = await reader.change_of("device")
    assert sequence > ready_at
    assert (change["id"], change["deleted"]) == (node.stable_id, False)
    device = change["device"]
    assert isinstance(device, dict)
    assert device["hostname"] == "alpha"


async def test_a_reader_that_comes_back_gets_what_it_missed_as_one_change(
    lab: Lab, open_reader: Callable[[int | None], Reader]
) -> None:
    await lab.add_node()
    before = lab.coord.coordinator.sequence
    node = await lab.add_node("beta", 2)
    await lab.tool().delete(f"/api/v2/device/{node.id}")
    name, sequence, data = await open_reader(before).next()
    assert (name, sequence) == ("change", lab.coord.coordinator.sequence)
    changes = data["changes"]
    assert isinstance(changes, list)
    assert {"noun": "device", "id": node.stable_id, "deleted": True} in changes


async def test_a_reader_that_comes_back_hears_of_logins_too(
    lab: Lab, open_reader: Callable[[int | None], Reader]
) -> None:
    await lab.add_node()
    before = lab.coord.coordinator.sequence
    old = await lab.begin_login("old", 50)
    await lab.tool().post(f"/api/v2/tailnet/-/pending-logins/{old}/refuse")
    login = await lab.begin_login("laptop", 51)
    name, sequence, data = await open_reader(before).next()
    assert (name, sequence, lab.coord.coordinator.sequence) == ("change", before, before)
    changes = {change["id"]: change for change in data["changes"]}  # type: ignore[attr-defined]
    assert changes[old] == {"noun": "pendingLogin", "id": old, "deleted": True}
    assert changes[login]["pendingLogin"]["hostname"] == "laptop"
    node = await lab.add_node("beta", 2)
    data = (await open_reader(before).next())[2]
    changed = {change["id"] for change in data["changes"]}  # type: ignore[attr-defined]
    assert {old, login, node.stable_id} <= changed
    assert (await open_reader(lab.coord.coordinator.sequence).next())[0] == "ready"


async def test_what_is_no_longer_known_of_logins_means_starting_anew(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, open_reader: Callable[[int | None], Reader]
) -> None:
    assert (await open_reader(lab.coord.coordinator.sequence).next())[0] == "reset"  # perhaps of an earlier life
    await lab.add_node()
    before = lab.coord.coordinator.sequence
    assert (await open_reader(before).next())[0] == "ready"
    monkeypatch.setattr(events, "MAX_REMEMBERED", 2)
    for number in (50, 51):
        await lab.begin_login("laptop", number)
        await asyncio.sleep(0.01)  # for the feed to hear of it: what happens at once counts once
    assert (await open_reader(before).next())[0] == "change"
    await lab.begin_login("laptop", 52)
    await asyncio.sleep(0.01)
    assert (await open_reader(before).next())[0] == "reset"


async def test_an_id_promises_no_more_than_its_reader_was_told(
    lab: Lab, open_reader: Callable[[int | None], Reader]
) -> None:
    """Whoever leaves after any event, and comes back with its id, hears of everything after it."""
    reader = open_reader(None)
    await reader.next()
    told: dict[str, int] = {}
    tasks = [asyncio.ensure_future(lab.add_node(f"host-{number}", number)) for number in range(1, 21)]
    while len(told) < 20:
        sequence, data = (await reader.next())[1:]
        changes = data["changes"]
        assert isinstance(changes, list)
        for change in changes:
            if change["noun"] == "device":
                told.setdefault(change["id"], sequence)
    await asyncio.gather(*tasks)
    created = {
        str(event.target_id): entry.sequence
        for entry in await lab.coord.coordinator.tail()
        for event in entry.events
        if event.what == "NODE.CREATE"
    }
    earlier = sorted(told.values())
    for device, at in told.items():
        ids_before = [sequence for sequence in earlier if sequence < at]
        assert created[device] <= at
        assert not ids_before or created[device] > ids_before[-1]


@pytest.mark.parametrize("last_seen", [0, 10_000])
async def test_too_far_back_or_from_another_life_means_starting_anew(
    last_seen: int, monkeypatch: pytest.MonkeyPatch, open_reader: Callable[[int | None], Reader]
) -> None:
    monkeypatch.setattr(events, "MAX_CAUGHT_UP", 1)
    assert (await open_reader(last_seen).next())[0] == "reset"


async def test_a_reader_that_falls_behind_is_cut_off() -> None:
    reader = EventReader()
    for _ in range(MAX_QUEUED + 1):
        reader.offer(b"event\n\n")
    assert reader.is_cut_off
    assert await reader.next(1) == b""


async def test_silence_is_filled_with_heartbeats() -> None:
    assert await EventReader().next(0.01) == HEARTBEAT


async def test_there_is_a_limit_to_readers_and_closing_ends_them(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = lab.coord._feed
    stream = feed.stream(None)
    await anext(stream)
    await anext(stream)
    monkeypatch.setattr(events, "MAX_READERS", 1)
    with pytest.raises(TooManyRequests):
        feed.check_room()
    assert (await lab.tool().get("/api/v2/events")).status_code == 429
    feed.close()
    assert [piece async for piece in stream] in ([], [b""])
    feed.check_room()

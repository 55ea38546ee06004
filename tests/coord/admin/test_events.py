"""The event stream: ready, changes, resuming, falling behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from tailbox.coord.admin import events
from tailbox.coord.admin.errors import TooManyRequests
from tailbox.coord.admin.events import MAX_QUEUED, EventReader
from tailbox.coord.admin.sse import HEARTBEAT

if TYPE_CHECKING:
    from tests.coord.conftest import Lab


async def next_event(stream: AsyncIterator[bytes]) -> tuple[str, int, dict[str, object]]:
    """(event, id, data) of the next piece, which the feed writes as one event."""
    piece = await asyncio.wait_for(anext(stream), 2)
    fields = dict(line.split(": ", 1) for line in piece.decode().strip().split("\n"))
    return fields["event"], int(fields["id"]), json.loads(fields["data"])


async def test_a_reader_hears_that_it_is_ready_and_then_of_each_change(lab: Lab) -> None:
    stream = lab.coord._feed.stream(None)
    assert (await anext(stream)).startswith(b"retry: ")
    name, ready_at, data = await next_event(stream)
    assert (name, data["changes"]) == ("ready", [])
    node = await lab.add_node()
    name, sequence, data = await next_event(stream)
    assert name == "change"
    assert sequence > ready_at
    changes = data["changes"]
    assert isinstance(changes, list)
    nouns = {change["noun"] for change in changes}
    while "device" not in nouns:  # the key may come first
        name, sequence, data = await next_event(stream)
        changes = data["changes"]
        assert isinstance(changes, list)
        nouns |= {change["noun"] for change in changes}
    device = next(change for change in changes if change["noun"] == "device")
    assert (device["id"], device["device"]["hostname"], device["deleted"]) == (node.stable_id, "alpha", False)
    await stream.aclose()  # type: ignore[attr-defined]  # an async generator


async def test_a_reader_that_comes_back_gets_what_it_missed_as_one_change(lab: Lab) -> None:
    before = await lab.coord.coordinator.last_sequence()
    node = await lab.add_node()
    await lab.tool().delete(f"/api/v2/device/{node.id}")
    stream = lab.coord._feed.stream(before)
    await anext(stream)
    name, sequence, data = await next_event(stream)
    assert (name, sequence) == ("change", await lab.coord.coordinator.last_sequence())
    changes = data["changes"]
    assert isinstance(changes, list)
    assert {"noun": "device", "id": node.stable_id, "deleted": True} in changes
    await stream.aclose()  # type: ignore[attr-defined]  # an async generator


@pytest.mark.parametrize("last_seen", [0, 10_000])
async def test_too_far_back_or_from_another_life_means_starting_anew(
    lab: Lab, last_seen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_CAUGHT_UP", 1)
    stream = lab.coord._feed.stream(last_seen)
    await anext(stream)
    assert (await next_event(stream))[0] == "reset"
    await stream.aclose()  # type: ignore[attr-defined]  # an async generator


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

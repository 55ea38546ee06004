"""The classroom: a whole tailnet in this process, from joining to the last socket closed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tailbox.errors import NotFound
from tailbox.notebook import Classroom
from tailbox.notebook.classroom import path_of

DOWN = ["Application", "TCP", "IPv4", "WireGuard"]
UP = ["WireGuard", "Filter", "IPv4", "TCP", "Application"]


def layers_at(room: Classroom, node: str) -> list[str]:
    return [layer for where, layer in room.follow("GET /").stages if where == node]


def sockets() -> set[str]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


async def test_nobody_has_joined_at_first(room: Classroom) -> None:
    assert [(mark.name, mark.address) for mark in room.marks()] == [("alpha", ""), ("beta", "")]
    assert "Running" not in [mark.state for mark in room.marks()]
    assert room.edges() == []
    await room.leave("alpha")  # who has not joined has nothing to leave
    with pytest.raises(KeyError):
        room.node("delta")


async def test_behind_the_firewall_every_layer_of_a_request_shows_with_the_relay(room: Classroom) -> None:
    await room.join_all()
    room.trace.is_recording = True
    assert (await room.fetch("alpha", "beta")).endswith("Hello from beta!\n")
    assert room.follow("GET /").carrier.startswith("derp-")
    assert layers_at(room, "alpha") == [*DOWN, "DERP"]
    assert layers_at(room, "beta") == ["DERP", *UP]
    assert [edge.path for edge in room.edges()] == ["relayed by home"]
    assert room.firewall.dropped_datagrams > 0


async def test_a_ping_shows_both_opened_disco_messages(room: Classroom) -> None:
    await room.join_all()
    room.trace.is_recording = True
    result = await room.ping("alpha", "beta")
    assert not result.error
    assert result.region_code == "home"
    assert room.edges()[0].latency_ms is not None
    titles = [step.title for step in room.trace.steps() if step.carrier.startswith("derp-")]
    assert "alpha sends: Ping: is this path open?" in titles
    assert "beta receives: Ping: is this path open?" in titles
    assert "alpha receives: Pong: your ping came from relay region 900" in titles
    pinged = next(step for step in room.trace.steps() if step.title == titles[0])
    assert [layer.name for layer in pinged.layers()] == ["disco message", "disco", "DERP"]
    assert len(room.trace.journey(pinged).steps) == 2


async def test_with_the_firewall_open_nodes_find_a_direct_path(room: Classroom) -> None:
    room.open_firewall()
    await room.join_all()
    result = await room.wait_direct("alpha", "beta")
    assert result.endpoint
    room.trace.is_recording = True
    await room.fetch("alpha", "beta")
    assert layers_at(room, "alpha") == [*DOWN, "UDP (underlay)"]
    assert layers_at(room, "beta") == ["UDP (underlay)", *UP]
    [edge] = room.edges()
    assert edge.path.startswith("direct ")
    assert "direct" in room.picture()
    room.close_firewall()
    assert room.firewall.is_closed


async def test_a_node_leaves_and_joins_again(room: Classroom) -> None:
    await room.join_all()
    await room.leave("beta")
    assert [mark.state for mark in room.marks()] == ["Running", "NeedsLogin"]
    await room.join("beta")
    assert "Hello from beta!" in await room.fetch("alpha", "beta")


async def test_following_what_was_never_sent_says_so(room: Classroom) -> None:
    with pytest.raises(NotFound, match="while the trace was recording"):
        room.follow("POST /")


async def test_a_closed_room_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tasks, before = asyncio.all_tasks(), sockets()
    room = await Classroom.start(["alpha", "beta"])
    await room.join_all()
    await room.fetch("beta", "alpha")
    assert os.listdir(tmp_path)
    await room.close()
    await room.close()
    await asyncio.sleep(0.05)  # transports close in the loop's next turns
    assert os.listdir(tmp_path) == []
    assert asyncio.all_tasks() == tasks
    assert sockets() <= before
    assert [mark.state for mark in room.marks()] == ["Closed", "Closed"]
    assert room.edges() == []
    assert room.netmap_of("alpha") is None


async def test_a_path_needs_a_session(room: Classroom) -> None:
    await room.join_all()
    status = room.netmap_of("alpha")
    assert status is not None
    [peer] = status.peers
    assert path_of(peer) == ""

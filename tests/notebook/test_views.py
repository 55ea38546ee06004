"""The widgets: built without a display, driven by their own events, and nothing of a name becomes markup."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tailbox.notebook import Classroom
from tailbox.notebook.dissection import Layer
from tailbox.notebook.markup import layer_markup, table_markup
from tailbox.notebook.refresher import Refresher

widgets = pytest.importorskip("ipywidgets", reason="the notebook extra is not installed")
views = pytest.importorskip("tailbox.notebook.views")
trace_view = pytest.importorskip("tailbox.notebook.trace_view")


def everything_in(widget: object) -> Iterator[object]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from everything_in(child)


def buttons(widget: object, description: str) -> list[Any]:
    return [part for part in everything_in(widget) if getattr(part, "description", "") == description]


def click(widget: object, description: str, place: int = 0) -> None:
    found = buttons(widget, description)[place]
    assert isinstance(found, widgets.Button)
    found.click()


def texts(widget: object) -> str:
    return "\n".join(part.value for part in everything_in(widget) if isinstance(part, widgets.HTML))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110 - what a person would do: look until it shows
            await asyncio.sleep(0.02)


async def test_everything_is_built_and_follows_the_buttons(room: Classroom) -> None:
    view = room.show()
    assert len(buttons(view, "Join")) == 2
    assert "alpha has no netmap yet" in texts(view)
    click(view, "Join", 0)
    click(view, "Join", 1)
    await until(lambda: "beta joins: done" in texts(view) or "alpha joins: done" in texts(view))
    await until(lambda: all(mark.state == "Running" for mark in room.marks()))
    await until(lambda: "100.64.0.2" in texts(view) and "has no netmap" not in texts(view))
    room.refresher.update()
    assert [button.disabled for button in buttons(view, "Join")] == [True, True]
    assert [button.disabled for button in buttons(view, "Leave")] == [False, False]
    click(view, "HTTP request")
    await until(lambda: "beta answers: Hello from beta!" in texts(view))
    click(view, "Ping")
    await until(lambda: "pong from beta via relay home" in texts(view))
    click(view, "Leave", 1)
    await until(lambda: "beta leaves: done" in texts(view))
    await until(lambda: "NeedsLogin" in texts(view))


async def test_the_switch_is_the_firewall(room: Classroom) -> None:
    [switch] = [part for part in everything_in(room.controls()) if isinstance(part, widgets.ToggleButtons)]
    seen = []
    for value in (False, True):
        switch.value = value
        seen.append(room.firewall.is_closed)
    assert seen == [False, True]


async def test_what_fails_is_said(room: Classroom) -> None:
    view = room.controls()
    await room.join("alpha")
    click(view, "HTTP request")
    await until(lambda: "request: " in texts(view) and "error-color" in texts(view))


async def test_choosing_a_step_opens_its_layers_at_both_ends(room: Classroom) -> None:
    await room.join_all()
    view = trace_view.TraceView(room)
    click(view.box(), "Follow last request")
    assert "press Record" in view.layers.value
    view.recording.value = True
    assert room.trace.is_recording
    await room.fetch("alpha", "beta")
    view.update()
    titles = [label for label, _ in view.steps.options]
    place = next(index for index, title in enumerate(titles) if "alpha sends: GET /" in title)
    view.steps.index = place
    shown = view.layers.value
    for layer in ("Application", "TCP", "IPv4", "WireGuard", "DERP", "Filter"):
        assert f">{layer}</span>" in shown
    assert "<b>alpha</b> sends" in shown
    assert "<b>beta</b> receives" in shown
    await room.ping("alpha", "beta")
    view.update()
    assert view.steps.index == place  # what is chosen stays chosen while more comes in
    view.with_disco.value = False
    assert not any("Ping" in label for label, _ in view.steps.options)
    click(view.box(), "Clear")
    assert list(view.steps.options) == []


async def test_following_selects_the_request(room: Classroom) -> None:
    await room.join_all()
    room.trace.is_recording = True
    await room.fetch("alpha", "beta")
    view = trace_view.TraceView(room)
    click(view.box(), "Follow last request")
    assert "alpha sends: GET /" in view.steps.label
    assert "<b>beta</b> receives" in view.layers.value


async def test_views_of_a_closed_room_say_so_and_stop() -> None:
    room = await Classroom.start(["alpha"])
    view = room.show()
    ticking = [room.refresher.is_ticking]
    await room.close()
    ticking.append(room.refresher.is_ticking)
    assert ticking == [True, False]
    assert "The room is closed." in texts(view)
    click(view, "Join")
    await until(lambda: "alpha joins: " in texts(view) and "error-color" in texts(view))


async def test_what_is_shown_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    layer = Layer("Application", evil, (("text", evil),), evil.encode())
    for markup in (layer_markup(layer), table_markup(("head",), [(evil,)]), views.note_markup(evil)):
        assert "<script" not in markup
        assert "&lt;script&gt;" in markup


async def test_closed_widgets_are_no_longer_updated() -> None:
    refresher, count = Refresher(0.01), 0

    def update() -> None:
        nonlocal count
        count += 1

    view = widgets.HTML()
    refresher.watch(view, update)
    await until(lambda: count >= 3)
    view.close()
    await until(lambda: not refresher.is_ticking)
    before = count
    await asyncio.sleep(0.03)
    assert count == before
    refresher.close()

"""The widgets of a classroom. The room's refresher keeps them up to date; none keeps state of its own."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import ipywidgets as widgets

from tailbox.errors import TailboxError
from tailbox.notebook.markup import FONT, TEXT, note_markup, table_markup
from tailbox.notebook.topology import NodeMark
from tailbox.notebook.trace_view import trace_view

if TYPE_CHECKING:
    from tailbox.notebook.classroom import Classroom

STATE_COLOURS = {"Running": "#2aa35b", "Starting": "#d98a1f"}
NO_STATE_COLOUR = "#9aa3b0"
ERROR_COLOUR = "var(--jp-error-color1,#b3261e)"
NETMAP_HEADS = ("Name", "Addresses", "Key", "Online", "Endpoints", "Home relay", "Path", "Sent", "Received")

__all__ = ["controls_view", "netmap_view", "room_view", "topology_view", "trace_view"]


def room_view(room: Classroom) -> widgets.Widget:
    """Everything: controls beside the picture, below them packets and netmaps in tabs."""
    tabs = widgets.Tab(children=[trace_view(room), *(netmap_view(room, name) for name in room.names)])
    for index, title in enumerate(["Packets", *(f"Netmap of {name}" for name in room.names)]):
        tabs.set_title(index, title)
    top = widgets.HBox(
        [controls_view(room), topology_view(room)],
        layout=widgets.Layout(flex_flow="row wrap", align_items="flex-start", justify_content="space-between"),
    )
    return widgets.VBox([top, tabs])


def controls_view(room: Classroom) -> widgets.Widget:
    """A row a node: state, join, leave; below, the firewall and who pings or reads whom; last, what came of it."""
    said = widgets.HTML(note_markup("Nothing has been asked for yet."))
    rows = [_node_row(room, name, said) for name in room.names]
    return widgets.VBox([*rows, _firewall_row(room, said), *_traffic_rows(room, said), said])


def topology_view(room: Classroom) -> widgets.Widget:
    """The picture, redrawn while the room is open."""
    return _refreshed(room, room.picture)


def netmap_view(room: Classroom, name: str) -> widgets.Widget:
    """What one node has been told of the others, as a table."""
    return _refreshed(room, lambda: netmap_table(room, name), overflow="auto")


def netmap_table(room: Classroom, name: str) -> str:
    """The peers that a node knows, as an HTML table."""
    status = room.netmap_of(name)
    if status is None:
        return note_markup("The room is closed.")
    rows = []
    for peer in ([status.self_status] if status.self_status else []) + list(status.peers):
        direct = f"direct {peer.current_address}" if peer.current_address else ""
        path = "this node" if peer.is_self else direct or ("relayed" if peer.has_session else "none yet")
        rows.append(
            (
                peer.short_name,
                "\n".join(peer.addresses),
                peer.key.short(),
                "yes" if peer.is_online or peer.is_self else "no",
                "\n".join(peer.candidates),
                peer.relay,
                path,
                f"{peer.sent_bytes} B",
                f"{peer.received_bytes} B",
            )
        )
    if not rows:
        return note_markup(f"{name} has no netmap yet: {status.state.text}.")
    return table_markup(NETMAP_HEADS, rows)


def _node_row(room: Classroom, name: str, said: widgets.HTML) -> widgets.Widget:
    join = widgets.Button(description="Join", button_style="primary", layout=widgets.Layout(width="90px"))
    leave = widgets.Button(description="Leave", layout=widgets.Layout(width="90px"))
    join.on_click(lambda _button: _perform(room, said, f"{name} joins", lambda: room.join(name)))
    leave.on_click(lambda _button: _perform(room, said, f"{name} leaves", lambda: room.leave(name)))

    def render() -> str:
        mark = next(mark for mark in room.marks() if mark.name == name)
        join.disabled = mark.state == "Running"
        leave.disabled = not mark.address
        return _state_label(mark)

    label = _refreshed(room, render, width="210px")
    return widgets.HBox([label, join, leave], layout=widgets.Layout(align_items="center"))


def _firewall_row(room: Classroom, said: widgets.HTML) -> widgets.Widget:
    label = _refreshed(room, lambda: _firewall_label(room), width="210px")
    switch = widgets.ToggleButtons(
        options=[("Closed", True), ("Open", False)],
        value=room.firewall.is_closed,
        style=widgets.ToggleButtonsStyle(button_width="90px"),
        tooltips=["drop UDP between nodes", "let it through"],
    )

    def turn(_change: object) -> None:
        room.firewall.is_closed = switch.value
        said.value = note_markup(
            "UDP between nodes is dropped: trust in direct paths ends after 6.5 s."
            if switch.value
            else "UDP between nodes passes: ping, and they will find direct paths within seconds."
        )

    switch.observe(turn, "value")
    return widgets.HBox([label, switch], layout=widgets.Layout(align_items="center"))


def _traffic_rows(room: Classroom, said: widgets.HTML) -> list[widgets.Widget]:
    small = widgets.Layout(width="205px")
    style = {"description_width": "40px"}
    source = widgets.Dropdown(options=room.names, value=room.names[0], description="From", layout=small, style=style)
    target = widgets.Dropdown(options=room.names, value=room.names[-1], description="To", layout=small, style=style)
    ping = widgets.Button(description="Ping", layout=widgets.Layout(width="205px"))
    fetch = widgets.Button(description="HTTP request", layout=widgets.Layout(width="205px"))

    async def pinged() -> str:
        result = await room.ping(source.value, target.value)
        if result.error:
            return f"ping {target.value}: {result.error}"
        via = result.endpoint or f"relay {result.region_code}"
        return f"pong from {target.value} via {via} in {result.latency_s * 1000:.1f} ms"

    async def fetched() -> str:
        lines = (await room.fetch(source.value, target.value)).strip().splitlines()
        return f"{target.value} answers: {lines[-1]}" if lines else f"{target.value} answered nothing"

    ping.on_click(lambda _button: _perform(room, said, "ping", pinged))
    fetch.on_click(lambda _button: _perform(room, said, "request", fetched))
    return [widgets.HBox([source, target]), widgets.HBox([ping, fetch])]


def _perform(room: Classroom, said: widgets.HTML, what: str, action: Callable[[], Awaitable[object]]) -> None:
    """Run a button's coroutine in the kernel's loop and tell its outcome."""

    async def run() -> None:
        said.value = note_markup(f"{what} …")
        try:
            outcome = await action()
        except (TailboxError, OSError, TimeoutError, RuntimeError) as error:
            trouble = html.escape(f"{what}: {str(error) or type(error).__name__}")
            said.value = f'<p style="{FONT};color:{ERROR_COLOUR};margin:6px 0">{trouble}</p>'
        else:
            said.value = note_markup(str(outcome) if outcome else f"{what}: done")
        room.refresher.update()

    room.keep(asyncio.get_running_loop().create_task(run(), name=what))


def _state_label(mark: NodeMark) -> str:
    dot = f'<span style="color:{STATE_COLOURS.get(mark.state, NO_STATE_COLOUR)}">●</span>'
    name, state = html.escape(mark.name), html.escape(mark.address or mark.state)
    return f'<div style="{FONT};{TEXT}">{dot} <b>{name}</b> {state}</div>'


def _firewall_label(room: Classroom) -> str:
    dropped = room.firewall.dropped_datagrams
    return f'<div style="{FONT};{TEXT}"><b>Firewall</b> dropped {dropped}</div>'


def _refreshed(room: Classroom, render: Callable[[], str], **layout: str) -> widgets.HTML:
    """HTML that is sent to the page only when it has changed, so nothing flickers."""
    view = widgets.HTML(layout=widgets.Layout(**layout))

    def update() -> None:
        value = render()
        if value != view.value:
            view.value = value

    room.refresher.watch(view, update)
    return view

"""The widgets of a classroom. Each refreshes itself while the room is open; none keeps state of its own."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import ipywidgets as widgets

from tailbox.errors import TailboxError
from tailbox.notebook.dissection import hex_dump
from tailbox.notebook.packet_trace import Step

if TYPE_CHECKING:
    from tailbox.notebook.classroom import Classroom

REFRESH_S = 0.5
MAX_STEPS_SHOWN = 200
STATE_COLOURS = {"Running": "#2aa35b", "Starting": "#d98a1f"}
TABLE_STYLE = "border-collapse:collapse;font:13px system-ui,sans-serif"
CELL_STYLE = "text-align:left;padding:3px 14px 3px 0;border-bottom:1px solid #dfe3e9;vertical-align:top"


def room_view(room: Classroom) -> widgets.Widget:
    """Everything, in tabs below the controls."""
    tabs = widgets.Tab(
        children=[
            topology_view(room),
            trace_view(room),
            *(netmap_view(room, name) for name in room.names),
        ]
    )
    for index, title in enumerate(["Topology", "Packets", *(f"Netmap of {name}" for name in room.names)]):
        tabs.set_title(index, title)
    return widgets.VBox([controls_view(room), tabs])


def controls_view(room: Classroom) -> widgets.Widget:
    """A row a node: state, join, leave; below, who pings or reads whom."""
    said = widgets.HTML()
    rows = [_node_row(room, name, said) for name in room.names]
    return widgets.VBox([*rows, _traffic_row(room, said), said])


def topology_view(room: Classroom) -> widgets.Widget:
    picture = widgets.HTML(room.picture())
    _refresh(picture, lambda: room.picture())
    return picture


def netmap_view(room: Classroom, name: str) -> widgets.Widget:
    table = widgets.HTML(netmap_table(room, name))
    _refresh(table, lambda: netmap_table(room, name))
    return table


def trace_view(room: Classroom) -> widgets.Widget:
    """Steps to choose from, and the layers of the chosen one to open."""
    shown: list[Step] = []
    recording = widgets.ToggleButton(room.trace.is_recording, description="Record", icon="circle")
    disco = widgets.Checkbox(True, description="with disco", indent=False)
    clear = widgets.Button(description="Clear")
    steps = widgets.Select(options=[], rows=16, layout=widgets.Layout(width="44%"))
    layers = widgets.VBox(layout=widgets.Layout(width="56%"))

    def update() -> None:
        fresh = room.trace.steps(with_disco=disco.value)[-MAX_STEPS_SHOWN:]
        if len(fresh) != len(shown) or (fresh and fresh[-1] != shown[-1]):
            shown[:] = fresh
            chosen = steps.index
            steps.options = [f"{_clock(step, fresh[0])}  {step.title}" for step in fresh]
            steps.index = chosen if chosen is not None and chosen < len(fresh) else None

    def choose(_change: object) -> None:
        if steps.index is not None and steps.index < len(shown):
            layers.children = [_layers(shown[steps.index])]

    def record(_change: object) -> None:
        room.trace.is_recording = recording.value

    def forget(_button: object) -> None:
        room.trace.clear()
        layers.children = []
        update()

    recording.observe(record, "value")
    disco.observe(lambda _change: update(), "value")
    clear.on_click(forget)
    steps.observe(choose, "index")
    _every(REFRESH_S, update, owner=steps)
    update()
    return widgets.VBox([widgets.HBox([recording, disco, clear]), widgets.HBox([steps, layers])])


def netmap_table(room: Classroom, name: str) -> str:
    """The peers that a node knows, as an HTML table."""
    status = room.node(name).status()
    heads = ("Name", "Addresses", "Key", "Online", "Endpoints", "Home relay", "Path", "Sent", "Received")
    rows = []
    for peer in ([status.self_status] if status.self_status else []) + list(status.peers):
        path = "this node" if peer.is_self else f"direct {peer.current_address}" if peer.current_address else "relay"
        rows.append(
            (
                peer.short_name,
                "\n".join(peer.addresses),
                peer.key.short(),
                "yes" if peer.is_online or peer.is_self else "no",
                "\n".join(peer.candidates),
                peer.relay,
                path,
                str(peer.sent_bytes),
                str(peer.received_bytes),
            )
        )
    if not rows:
        return f"<p>{html.escape(name)} has no netmap yet: {html.escape(status.state.text)}.</p>"
    return _table(heads, rows)


def _node_row(room: Classroom, name: str, said: widgets.HTML) -> widgets.Widget:
    label = widgets.HTML(_state_label(room, name), layout=widgets.Layout(width="300px"))
    join = widgets.Button(description="Join", button_style="primary")
    leave = widgets.Button(description="Leave")
    join.on_click(lambda _button: _perform(said, f"{name} joins", lambda: room.join(name)))
    leave.on_click(lambda _button: _perform(said, f"{name} leaves", lambda: room.leave(name)))
    _refresh(label, lambda: _state_label(room, name))
    return widgets.HBox([label, join, leave])


def _traffic_row(room: Classroom, said: widgets.HTML) -> widgets.Widget:
    source = widgets.Dropdown(options=room.names, value=room.names[0], description="From")
    target = widgets.Dropdown(options=room.names, value=room.names[-1], description="To")
    ping = widgets.Button(description="Ping")
    fetch = widgets.Button(description="HTTP request")

    async def pinged() -> str:
        result = await room.ping(source.value, target.value)
        if result.error:
            return f"ping {target.value}: {result.error}"
        via = result.endpoint or f"relay {result.region_code}"
        return f"pong from {target.value} via {via} in {result.latency_s * 1000:.1f} ms"

    async def fetched() -> str:
        return (await room.fetch(source.value, target.value)).strip().splitlines()[-1]

    ping.on_click(lambda _button: _perform(said, "ping", pinged))
    fetch.on_click(lambda _button: _perform(said, "request", fetched))
    return widgets.HBox([source, target, ping, fetch])


def _perform(said: widgets.HTML, what: str, action: Callable[[], Awaitable[object]]) -> None:
    """Run a button's coroutine in the kernel's loop and tell its outcome."""

    async def run() -> None:
        said.value = html.escape(f"{what} …")
        try:
            outcome = await action()
        except (TailboxError, OSError, TimeoutError) as error:
            said.value = (
                f'<span style="color:#b3261e">{html.escape(f"{what}: {str(error) or type(error).__name__}")}</span>'
            )
        else:
            said.value = html.escape(str(outcome) if outcome else f"{what}: done")

    task = asyncio.get_running_loop().create_task(run(), name=what)
    _TASKS.add(task)
    task.add_done_callback(_TASKS.discard)


_TASKS: set[asyncio.Task[None]] = set()  # the loop keeps only weak references


def _layers(step: Step) -> widgets.Widget:
    """An accordion with every layer of every entry, in the order of the packet's way."""
    titles: list[str] = []
    children: list[widgets.Widget] = []
    for entry in step.entries:
        for layer in entry.layers():
            rows = [(name, value) for name, value in layer.fields]
            dump = f"<pre style='line-height:1.3;font-size:12px'>{html.escape(hex_dump(layer.data))}</pre>"
            titles.append(f"{layer.name} – {layer.summary}"[:90])
            children.append(widgets.HTML(_table(("Field", "Value"), rows) + dump))
    accordion = widgets.Accordion(children=children)
    for index, title in enumerate(titles):
        accordion.set_title(index, title)
    return accordion


def _state_label(room: Classroom, name: str) -> str:
    state = room.node(name).status().state.text
    colour = STATE_COLOURS.get(state, "#9aa3b0")
    return f'<b>{html.escape(name)}</b> <span style="color:{colour}">●</span> {html.escape(state)}'


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    def cells(tag: str, row: tuple[str, ...]) -> str:
        marked = (html.escape(cell).replace("\n", "<br>") for cell in row)
        return "".join(f'<{tag} style="{CELL_STYLE}">{cell}</{tag}>' for cell in marked)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<table style="{TABLE_STYLE}"><tr>{cells("th", heads)}</tr>{body}</table>'


def _clock(step: Step, first: Step) -> str:
    return f"{step.at_s - first.at_s:8.3f} s"


def _refresh(view: widgets.HTML, render: Callable[[], str]) -> None:
    def update() -> None:
        value = render()
        if value != view.value:
            view.value = value

    _every(REFRESH_S, update, owner=view)


def _every(interval_s: float, update: Callable[[], None], *, owner: widgets.Widget) -> None:
    """Call again and again until the widget is closed or the room is."""
    loop = asyncio.get_running_loop()

    def tick() -> None:
        if owner.comm is None:  # closed
            return
        try:
            update()
        except RuntimeError:  # the room's nodes are closed
            return
        loop.call_later(interval_s, tick)

    loop.call_later(interval_s, tick)

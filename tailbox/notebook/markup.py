"""Tables, layers and journeys as HTML, escaped. Layers open without a kernel: they are `<details>` elements. Pure.

Colours are JupyterLab's own where a page has them, so that both themes can be read.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tailbox.notebook.dissection import Layer, hex_dump

if TYPE_CHECKING:
    from tailbox.notebook.packet_trace import Journey, Step

LAYER_COLOURS = {
    "Application": "#7a4fd0",
    "TCP": "#2f5bd7",
    "ICMP": "#2f5bd7",
    "UDP": "#2f5bd7",
    "IPv4": "#0e7c8b",
    "IPv6": "#0e7c8b",
    "Filter": "#1d8a4a",
    "WireGuard": "#8a1c3c",
    "disco": "#8a6d00",
    "disco message": "#7a4fd0",
    "DERP": "#b56a08",
    "UDP (underlay)": "#1d8a4a",
}
OTHER_COLOUR = "#5d6878"
REFUSED_COLOUR = "#b3261e"
TEXT = "color:var(--jp-ui-font-color1,#1c2430)"
FAINT = "color:var(--jp-ui-font-color2,#5d6878)"
RULE = "1px solid var(--jp-border-color2,#dfe3e9)"
FONT = "font:13px/1.45 var(--jp-ui-font-family,system-ui,sans-serif)"
MONOSPACE = "font:11px/1.35 var(--jp-code-font-family,ui-monospace,monospace)"
TABLE_STYLE = f"border-collapse:collapse;{FONT};{TEXT};margin:4px 0;background:none"
CELL_STYLE = (
    f"text-align:left;padding:3px 14px 3px 0;border:none;border-bottom:{RULE};vertical-align:top;background:none"
)


def table_markup(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; a line feed in a cell begins a new line. No heads, no head row."""
    head = f"<tr>{_cells('th', heads)}</tr>" if heads else ""
    body = "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows)
    return f'<table style="{TABLE_STYLE}">{head}{body}</table>'


def note_markup(text: str) -> str:
    """A remark where there is nothing else to show."""
    return f'<p style="{FONT};{FAINT};margin:6px 0">{html.escape(text)}</p>'


def journey_markup(journey: Journey) -> str:
    """The sender's layers and the receiver's side by side, in the order of the message's way."""
    columns = "".join(f'<div style="flex:1 1 340px;min-width:0">{step_markup(step)}</div>' for step in journey.steps)
    return f'<div style="display:flex;flex-wrap:wrap;gap:8px 20px;align-items:flex-start">{columns}</div>'


def step_markup(step: Step) -> str:
    """A heading and every layer, closed, in the order of the way."""
    verb = "sends" if step.is_sent else "receives"
    head = f'<div style="{FONT};{TEXT};margin:4px 0"><b>{html.escape(step.node)}</b> {verb}</div>'
    return head + "".join(layer_markup(layer) for layer in step.layers())


def layer_markup(layer: Layer) -> str:
    """One layer: its name and summary to click on, below them fields and bytes."""
    chip = (
        f"display:inline-block;background:{_colour(layer)};color:#fff;border-radius:4px;padding:0 7px;margin-right:6px"
    )
    summary = (
        f'<summary style="cursor:pointer;overflow-wrap:anywhere"><span style="{chip}">{html.escape(layer.name)}</span>'
        f"{html.escape(layer.summary)}</summary>"
    )
    dump = (
        f'<pre style="{MONOSPACE};{TEXT};margin:6px 0 2px;overflow-x:auto;white-space:pre;background:none">'
        f"{html.escape(hex_dump(layer.data))}</pre>"
    )
    inside = f'<div style="padding:4px 0 6px 12px">{table_markup((), layer.fields)}{dump}</div>'
    return f'<details style="{FONT};{TEXT};border-bottom:{RULE};padding:4px 0">{summary}{inside}</details>'


def _colour(layer: Layer) -> str:
    if layer.name == "Filter" and not layer.summary.startswith("accept"):
        return REFUSED_COLOUR
    return LAYER_COLOURS.get(layer.name, OTHER_COLOUR)


def _cells(tag: str, row: Sequence[str]) -> str:
    marked = (html.escape(cell).replace("\n", "<br>") for cell in row)
    return "".join(f'<{tag} style="{CELL_STYLE}">{cell}</{tag}>' for cell in marked)

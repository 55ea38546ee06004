"""The tailnet as a picture: nodes on a circle around the relay, edges coloured by how packets travel. Pure SVG text."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

RADIUS = 140
CENTRE = 200
LEGEND_BELOW = 84  # under the lowest node and its label
LABEL_BESIDE_RELAY = 44
DIRECT_COLOUR = "#2aa35b"
RELAYED_COLOUR = "#d98a1f"
NO_PATH_COLOUR = "#9aa3b0"
# JupyterLab's own colours where they are known, so that both themes can be read.
TEXT_COLOUR = "var(--jp-ui-font-color2, #5d6878)"
STRONG_TEXT_COLOUR = "var(--jp-ui-font-color1, #1c2430)"
BACKGROUND = "var(--jp-layout-color1, #ffffff)"


@dataclass(frozen=True, slots=True)
class NodeMark:
    """A node of the picture."""

    name: str
    state: str  # "Running"
    address: str = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """How one node reaches another."""

    source: str
    target: str
    path: str  # "direct 127.0.0.1:41641", "relayed by home", ""
    latency_ms: float | None = None

    @property
    def is_relayed(self) -> bool:
        return self.path.startswith("relayed")

    @property
    def colour(self) -> str:
        if self.path.startswith("direct"):
            return DIRECT_COLOUR
        return RELAYED_COLOUR if self.is_relayed else NO_PATH_COLOUR


def draw(nodes: Sequence[NodeMark], edges: Sequence[Edge], *, relay: str) -> str:
    """An SVG picture. Relayed edges run through the relay in the middle, direct ones straight."""
    places = {node.name: _place(index, len(nodes)) for index, node in enumerate(nodes)}
    known = [edge for edge in edges if edge.source in places and edge.target in places]
    legend_y = max((y for _, y in places.values()), default=CENTRE) + LEGEND_BELOW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * CENTRE} {legend_y + 16:.0f}" '
        f'width="440" role="img" aria-label="Topology of the tailnet" font-family="system-ui, sans-serif">'
    ]
    parts += [_edge(edge, places) for edge in known]
    parts.append(_relay(relay))
    parts += [_node(node, *places[node.name]) for node in nodes]
    parts += [_edge_label(edge, places) for edge in known if edge.path]
    parts.append(_legend(legend_y))
    parts.append("</svg>")
    return "".join(parts)


def _place(index: int, count: int) -> tuple[float, float]:
    angle = 2 * math.pi * index / max(1, count) - math.pi / 2
    return CENTRE + RADIUS * math.cos(angle), CENTRE + RADIUS * math.sin(angle)


def _edge(edge: Edge, places: dict[str, tuple[float, float]]) -> str:
    (x1, y1), (x2, y2) = places[edge.source], places[edge.target]
    label = f"{edge.source} → {edge.target}: {edge.path or 'no path yet'}"
    if edge.latency_ms is not None:
        label += f", {edge.latency_ms:.1f} ms"
    # A quadratic curve through the relay: its control point is the middle of the straight line, mirrored there.
    bend = f"Q {2 * CENTRE - (x1 + x2) / 2:.1f} {2 * CENTRE - (y1 + y2) / 2:.1f}" if edge.is_relayed else "L"
    dashes = "" if edge.path else ' stroke-dasharray="4 5"'
    return (
        f'<path d="M {x1:.1f} {y1:.1f} {bend} {x2:.1f} {y2:.1f}" fill="none" stroke="{edge.colour}" '
        f'stroke-width="3"{dashes}><title>{html.escape(label)}</title></path>'
    )


def _edge_label(edge: Edge, places: dict[str, tuple[float, float]]) -> str:
    """The latency, or only the kind of path: beside a straight edge, or beside the relay that a bent one crosses."""
    (x1, y1), (x2, y2) = places[edge.source], places[edge.target]
    x, y = (x1 + x2) / 2 - CENTRE, (y1 + y2) / 2 - CENTRE
    distance = math.hypot(x, y)
    wanted = LABEL_BESIDE_RELAY if edge.is_relayed else distance + 20
    scale = wanted / distance if distance > 1 else 0.0
    x, y = CENTRE + scale * x, CENTRE + scale * y + (0 if scale else -28)
    text = edge.path.partition(" ")[0]
    if edge.latency_ms is not None:
        text = f"{edge.latency_ms:.1f} ms"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="11" font-weight="600" '
        f'fill="{edge.colour}">{html.escape(text)}</text>'
    )


def _relay(name: str) -> str:
    return (
        f'<g><rect x="{CENTRE - 34}" y="{CENTRE - 18}" width="68" height="36" rx="8" '
        f'style="fill:{BACKGROUND};stroke:{TEXT_COLOUR}"/>'
        f'<text x="{CENTRE}" y="{CENTRE + 4}" text-anchor="middle" font-size="12" style="fill:{STRONG_TEXT_COLOUR}">'
        f"{html.escape(name)}</text></g>"
    )


def _node(node: NodeMark, x: float, y: float) -> str:
    fill = "#2f5bd7" if node.state == "Running" else "#9aa3b0"
    label_y = y - 38 if y < CENTRE else y + 46  # outside, where no edge runs
    return (
        f'<g><circle cx="{x:.1f}" cy="{y:.1f}" r="30" fill="{fill}"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" font-size="13" fill="#fff">'
        f"{html.escape(node.name)}</text>"
        f'<text x="{x:.1f}" y="{label_y:.1f}" text-anchor="middle" font-size="11" style="fill:{TEXT_COLOUR}">'
        f"{html.escape(node.address or node.state)}</text></g>"
    )


def _legend(y: float) -> str:
    entries = (("direct", DIRECT_COLOUR), ("relayed", RELAYED_COLOUR), ("no path yet", NO_PATH_COLOUR))
    return "".join(
        f'<circle cx="{30 + 110 * i}" cy="{y}" r="6" fill="{colour}"/>'
        f'<text x="{42 + 110 * i}" y="{y + 4}" font-size="12" style="fill:{TEXT_COLOUR}">{name}</text>'
        for i, (name, colour) in enumerate(entries)
    )

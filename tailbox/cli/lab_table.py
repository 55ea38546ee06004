"""The lab's live table: a row a node. Where output is not a terminal, a line whenever a path or a state changes."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True, slots=True)
class NodeRow:
    """What the table shows of a node."""

    name: str
    addresses: tuple[str, ...]
    state: str
    peer: str  # the other end of path, round trip and bytes
    path: str  # "direct 127.0.0.1:41641", "relayed by lab"
    round_trip_s: float | None
    sent_bytes: int
    received_bytes: int


class LabTable:
    """Use as a context manager; `update` it."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._told: dict[str, tuple[str, str]] = {}

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, rows: list[NodeRow]) -> None:
        if self._live is not None:
            self._live.update(render(rows), refresh=True)
            return
        for row in rows:
            if self._told.get(row.name) != (row.state, row.path):
                self._told[row.name] = (row.state, row.path)
                self._console.print(escape(_line(row)), highlight=False)


def render(rows: list[NodeRow]) -> Table:
    table = Table(title="tailnet “lab”", title_justify="left", expand=False)
    for heading in ("Node", "Addresses", "State", "Path", "Round trip", "Sent", "Received"):
        table.add_column(heading, justify="right" if heading in ("Round trip", "Sent", "Received") else "left")
    for row in rows:
        colour = "green" if row.path.startswith("direct") else "yellow" if row.path.startswith("relayed") else "dim"
        table.add_row(
            f"[bold]{row.name}[/]",
            "\n".join(row.addresses),
            row.state,
            f"to {row.peer}: [{colour}]{escape(row.path)}[/]",
            "–" if row.round_trip_s is None else f"{row.round_trip_s * 1000:.1f} ms",
            byte_count(row.sent_bytes),
            byte_count(row.received_bytes),
        )
    return table


def _line(row: NodeRow) -> str:
    return f"{row.name} {row.state}, {', '.join(row.addresses)}; to {row.peer}: {row.path}"


def byte_count(count: float) -> str:
    """`512 B`, `1.5 KiB`, `3.2 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"

"""The lab's table, on terminals and elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from tailbox.cli.lab_table import LabTable, NodeRow, byte_count, render

ROW = NodeRow("alpha", ("100.64.0.1", "fd7a::1"), "Running", "beta", "direct [::1]:41641", 0.0009, 1536, 3 * 1024**3)


def test_byte_counts() -> None:
    assert [byte_count(n) for n in (0, 1023, 1536, 5 * 1024**2, 2 * 1024**4)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 MiB",
        "2.0 TiB",
    ]


def test_a_table_shows_addresses_in_brackets_as_they_are() -> None:
    output = io.StringIO()
    Console(file=output, width=140).print(render([ROW]))
    text = output.getvalue()
    assert "to beta: direct [::1]:41641" in text
    assert "0.9 ms" in text
    assert "3.0 GiB" in text


def test_without_a_terminal_only_changes_are_printed() -> None:
    output = io.StringIO()
    with LabTable(Console(file=output, width=140)) as table:
        table.update([ROW])
        table.update([ROW])
    assert output.getvalue() == "alpha Running, 100.64.0.1, fd7a::1; to beta: direct [::1]:41641\n"

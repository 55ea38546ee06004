"""Secrets on disk: mode, replacement, damage."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tailbox.coord.admin.private_file import read_private, write_private


def test_a_file_is_private_and_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_private(path) == "new\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]


def test_a_failed_replacement_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    write_private(path, "old")

    def fail(*_arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_private(path, "new")
    assert read_private(path) == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]


def test_missing_overlong_and_binary_files_read_as_none(tmp_path: Path) -> None:
    assert read_private(tmp_path / "none") is None
    (tmp_path / "long").write_text("x" * 100)
    assert read_private(tmp_path / "long", limit=10) is None
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert read_private(tmp_path / "binary") is None

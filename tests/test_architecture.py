"""The import rows of ARCHITECTURE.md, as data: imports point down, and cores stay free of IO."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tailbox"

# Longest prefix wins.
ROW_OF: dict[str, float] = {
    "tailbox": 0,
    "tailbox.errors": 0,
    "tailbox.clock": 0,
    "tailbox.randomness": 0,
    "tailbox.runtime": 0.5,
    "tailbox.telemetry": 0.5,
    "tailbox.wire": 1,
    "tailbox.crypto": 1.5,
    "tailbox.control_channel": 2,
    "tailbox.wireguard": 2,
    "tailbox.userspace_stack": 2,
    "tailbox.paths": 2,
    "tailbox.policy": 2,
    "tailbox.coord.core": 3,
    "tailbox.node.core": 3,
    "tailbox.derp.core": 3,
    "tailbox.coord": 4,
    "tailbox.node": 4,
    "tailbox.derp": 4,
    "tailbox.server": 5,
    "tailbox.sandbox": 5,
    "tailbox.notebook": 5.5,
    "tailbox.cli": 5.5,
    "tailbox.__main__": 6,
}
SHELLS = ("tailbox.runtime", "tailbox.telemetry")
EXTRA_ARROWS = {("tailbox.node", "tailbox.derp.core.client")}
LAZY = {("tailbox", "tailbox.node.node")}  # `tailbox.Node`, loaded on first use
SHELL_MODULES_ONLY = frozenset(
    {"asyncio", "socket", "ssl", "time", "random", "secrets", "os", "logging", "sqlite3"}
    | {"starlette", "uvicorn", "websockets"}
)


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def unit_of(module: str) -> str:
    """The package (or lone module) of the table that a module belongs to."""
    return max((unit for unit in ROW_OF if module == unit or module.startswith(unit + ".")), key=len)


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def is_allowed(importer: str, imported: str) -> bool:
    mine, theirs = unit_of(importer), unit_of(imported)
    if mine == theirs:
        return True
    if any(importer.startswith(a) and imported.startswith(b) for a, b in EXTRA_ARROWS):
        return True
    if any(importer == a and imported.startswith(b) for a, b in LAZY):
        return True
    if theirs in SHELLS:
        return ROW_OF[mine] >= 4 or mine in SHELLS
    return ROW_OF[theirs] < ROW_OF[mine]


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_imports_point_down(module: str, path: Path) -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{line}: {module} must not import {imported}"
        for line, imported in imports_of(path)
        if imported.startswith("tailbox") and not is_allowed(module, imported)
    ]
    assert not offences, "\n".join(offences)


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_cores_know_no_io(module: str, path: Path) -> None:
    unit = unit_of(module)
    if unit in SHELLS or ROW_OF[unit] >= 4:
        return
    offences = [
        f"{path.relative_to(ROOT)}:{line}: {module} must not import {imported}"
        for line, imported in imports_of(path)
        if imported.split(".")[0] in SHELL_MODULES_ONLY
    ]
    assert not offences, "\n".join(offences)


def test_the_table_names_every_package() -> None:
    packages = {f"tailbox.{path.name}" for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert packages <= set(ROW_OF)


def test_the_rules_can_fail() -> None:
    assert not is_allowed("tailbox.wire.derp", "tailbox.crypto.box")
    assert not is_allowed("tailbox.paths.path_finder", "tailbox.wireguard.tunnels")
    assert not is_allowed("tailbox.coord.app", "tailbox.node.node")
    assert is_allowed("tailbox.node.derp_links", "tailbox.derp.core.client")
    assert not is_allowed("tailbox.node.core.engine", "tailbox.telemetry.events")

"""The reference documentation says all that there is, and nothing else.

Names in the first cells of the documents' tables are compared with the program: commands and options, settings, their
flags and defaults, variables, metrics, routes. Links resolve, and commands in code blocks parse.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.routing import BaseRoute, Mount
from typer.main import get_command

from tailbox.cli import keys, main
from tailbox.cli import serve as serving
from tailbox.coord.admin.operations import OPERATIONS
from tailbox.coord.app import open_coord
from tailbox.coord.config import CoordConfig
from tailbox.coord.metrics import CoordMetrics
from tailbox.derp.app import DerpRole
from tailbox.derp.config import DerpConfig
from tailbox.node import metrics as node_metrics
from tailbox.node.config import NodeConfig
from tailbox.node.traffic import Traffic
from tailbox.randomness import SeededRandom
from tailbox.runtime.network import HostNetwork
from tailbox.runtime.service import Service
from tailbox.runtime.status_routes import status_routes
from tailbox.runtime.system import SystemClock
from tailbox.server import ServerConfig
from tailbox.wire.keys import NodePrivateKey

if TYPE_CHECKING:
    from tailbox.node.backend import Backend

ROOT = Path(__file__).parent.parent
REFERENCE = ("api", "cli", "configuration", "containers", "metrics", "operations", "performance")
PAGES = sorted([ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])

Cells = list[str]


# Reading Markdown.


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def page(name: str) -> str:
    return text_of(ROOT / "docs" / f"{name}.md")


def section(text: str, title: str) -> str:
    """What stands below a heading of the second level, up to the next one."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title!r}"
    return found[1]


def rows(text: str) -> list[Cells]:
    """The cells of every table's rows, without the headings."""
    lines = text.splitlines()
    following = [*lines[1:], ""]
    return [
        [cell.strip() for cell in line.strip()[1:-1].split("|")]
        for line, next_line in zip(lines, following, strict=True)
        if line.startswith("|") and not line.startswith("|---") and not next_line.startswith("|---")
    ]


def first_codes(text: str) -> list[str]:
    """What is set as code in the first cell of each row."""
    return [code for cells in rows(text) for code in re.findall(r"`([^`]+)`", cells[0])]


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


# Commands.


@cache
def commands() -> Mapping[str, Any]:
    """Every command that is not hidden, by its words. `keys` and `serve` have modules of their own."""
    found: dict[str, Any] = {"serve": get_command(serving.app)}
    for group, prefix in ((get_command(main.app), ""), (get_command(keys.app), "keys ")):
        for name, command in cast(Any, group).commands.items():
            if not command.hidden and name not in ("serve", "keys"):
                found[prefix + name] = command
    return found


def options_of(command: Any) -> set[str]:
    """All spellings of all options."""
    kept = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    return {spelling for option in kept for spelling in (*option.opts, *option.secondary_opts)}


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    titles = re.findall(r"^## `tailbox ([a-z -]+)`$", page("cli"), re.MULTILINE)
    assert sorted(titles) == sorted(commands())


@pytest.mark.parametrize("name", sorted(commands()))
def test_the_options_of_a_command_are_those_of_its_table(name: str) -> None:
    documented = [
        word for code in first_codes(section(page("cli"), f"`tailbox {name}`")) for word in re.split(r" / |, ", code)
    ]
    assert len(documented) == len(set(documented))
    assert set(documented) == options_of(commands()[name])


@pytest.mark.parametrize("name", sorted(commands()))
def test_the_defaults_of_a_command_are_those_of_its_table(name: str) -> None:
    for cells in rows(section(page("cli"), f"`tailbox {name}`")):
        spelling = re.split(r" / |, ", cells[0].strip("`"))[0].strip("`")
        option = next(each for each in commands()[name].params if spelling in each.opts)
        if isinstance(option.default, bool):
            assert cells[1] == ("on" if option.default else "off"), spelling
        elif option.default not in (None, ""):
            assert cells[1] == str(option.default), spelling


def shell_lines(path: Path) -> Iterator[str]:
    """Commands in a page's shell blocks, continued lines joined."""
    for block in code_blocks(text_of(path), "sh"):
        yield from (line.strip() for line in block.replace("\\\n", " ").splitlines() if line.strip())


def tailbox_arguments(line: str) -> list[str] | None:
    """The words after `tailbox`, however it is called; None for other programs."""
    words = shlex.split(line, comments=True)
    if words[:1] == ["tailbox"]:
        return words[1:]
    if words[:2] == ["python", "server.py"]:
        return ["serve", *words[2:]]
    if words[:2] == ["docker", "run"] and "tailbox" in words:
        return words[words.index("tailbox") + 1 :]
    return None


COMMAND_LINES = sorted(
    {(path.name, line) for path in PAGES for line in shell_lines(path) if tailbox_arguments(line) is not None}
)


@pytest.mark.parametrize(("where", "line"), COMMAND_LINES)
def test_a_command_in_the_documentation_parses(where: str, line: str) -> None:
    words = tailbox_arguments(line) or []
    name = next((name for name in sorted(commands(), reverse=True) if words[: name.count(" ") + 1] == name.split()), "")
    assert name, f"{where}: no such command: {line}"
    commands()[name].make_context(name, words[name.count(" ") + 1 :])


def test_make_targets_in_the_documentation_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", text_of(ROOT / "Makefile"), re.MULTILINE))
    used = {line.split()[1] for path in PAGES for line in shell_lines(path) if line.startswith("make ")}
    assert used <= targets


# Settings and variables.


def default_text(field: dataclasses.Field[Any]) -> str:
    """A default as the tables spell it."""
    value = field.default
    if value is None or value == "" or value == ():
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{','.join(value)}`" if isinstance(value, tuple) else f"`{value}`"


@pytest.mark.parametrize(
    ("table", "kind", "command", "renamed"),
    [
        ("`[server]`", ServerConfig, "serve", {"roles": "role"}),
        ("`[node]`", NodeConfig, "up", {"listen_port": "port"}),
    ],
)
def test_the_settings_are_those_of_the_table(
    table: str, kind: type[Any], command: str, renamed: Mapping[str, str]
) -> None:
    flags = options_of(commands()[command])
    expected = []
    for field in dataclasses.fields(kind):
        flag = "--" + renamed.get(field.name, field.name).replace("_", "-")
        expected.append([f"`{field.name}`", f"`{flag}`" if flag in flags else "–", default_text(field)])
    assert [cells[:3] for cells in rows(section(page("configuration"), table))] == expected


VARIABLE = re.compile(r"(?:TS|EXPERIMENTAL|TAILBOX)_[A-Z0-9_]+|XDG_DATA_HOME")


@cache
def variables(*prefixes: str) -> frozenset[str]:
    """The environment variables that string constants of the program name, without docstrings' running text."""
    found: set[str] = set()
    for module in (*(ROOT / "tailbox").rglob("*.py"), ROOT / "hatch_build.py"):
        if VARIABLE.search(text_of(module)):
            constants = (node for node in ast.walk(ast.parse(text_of(module))) if isinstance(node, ast.Constant))
            found |= {node.value for node in constants if type(node.value) is str and VARIABLE.fullmatch(node.value)}
    return frozenset(name for name in found if name.startswith(prefixes))


def test_the_variables_of_the_official_image_are_documented_as_read_or_refused() -> None:
    text = page("containers")
    tables = first_codes(section(text, "Variables of the official image")) + first_codes(section(text, "Refused"))
    assert sorted(tables) == sorted(variables("TS_", "EXPERIMENTAL_"))


def test_no_variable_that_is_documented_as_ignored_is_read() -> None:
    ignored = set(re.findall(r"`(TS_[A-Z_]+)`", section(page("containers"), "Ignored")))
    assert ignored
    assert not ignored & variables("TS_")


def setting_variables() -> set[str]:
    fields = (*dataclasses.fields(ServerConfig), *dataclasses.fields(NodeConfig))
    return {f"TAILBOX_{field.name.upper()}" for field in fields}


def own_variables() -> set[str]:
    """Those of settings, and those that code names."""
    return setting_variables() | variables("TAILBOX_", "XDG_")


def test_variables_of_our_own_that_are_no_setting_have_a_table() -> None:
    documented = set(first_codes(section(page("configuration"), "Other variables")))
    assert own_variables() - setting_variables() <= documented
    assert documented <= own_variables()


@pytest.mark.parametrize("path", [*PAGES, ROOT / "compose.yaml", ROOT / "Dockerfile"], ids=lambda path: path.name)
def test_no_variable_is_mentioned_that_does_not_exist(path: Path) -> None:
    mentioned = set(re.findall(r"\b(?:TAILBOX|TS)_[A-Z0-9_]*[A-Z0-9]\b", text_of(path)))
    ignored = set(re.findall(r"`(TS_[A-Z_]+)`", section(page("containers"), "Ignored")))
    assert mentioned <= own_variables() | variables("TS_") | ignored


# Metrics.


def relay_service() -> Service:
    role = DerpRole(
        DerpConfig(), NodePrivateKey(b"k" * 32), network=HostNetwork(), clock=SystemClock(), random=SeededRandom("docs")
    )
    return role.service()


def node_registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """The node's families over parts that have counted nothing."""
    monkeypatch.setattr(node_metrics, "health_of", lambda _backend: ())
    drops: dict[str, int] = {}
    engine = SimpleNamespace(
        dataplane=SimpleNamespace(inbound_drops=drops, outbound_drops=drops),
        tunnels=SimpleNamespace(drops=drops),
        stack=SimpleNamespace(drops=drops),
        runts=0,
        unreachable_packets=0,
    )
    relays = SimpleNamespace(dropped_full=0, dropped_oversized=0)
    underlay = SimpleNamespace(snapshot=lambda: SimpleNamespace(unroutable_packets=0, relays=relays))
    backend = SimpleNamespace(
        driver=SimpleNamespace(engine=engine),
        netcheck=SimpleNamespace(last_result=None),
        state=6,
        config=NodeConfig(),
        netmap=None,
        traffic=Traffic(),
        underlay=underlay,
    )
    return node_metrics.NodeMetrics(cast("Backend", backend)).registry


def exported(registry: CollectorRegistry) -> list[str]:
    names = re.findall(r"^# TYPE (\w+) ", generate_latest(registry).decode(), re.MULTILINE)
    return sorted(name for name in names if not name.endswith("_created"))


def test_every_metric_is_documented_and_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = relay_service().registry
    assert relay is not None
    registries = {"Coordinator": CoordMetrics().registry, "Relay": relay, "Node": node_registry(monkeypatch)}
    for title, registry in registries.items():
        assert sorted(first_codes(section(page("metrics"), title))) == exported(registry), title


# Routes.


def test_the_operations_of_the_api_are_those_of_the_table() -> None:
    documented = [tuple(cell.strip("`") for cell in cells[:2]) for cells in rows(section(page("api"), "Operations"))]
    assert documented == [(operation.method, f"/api{operation.path}") for operation in OPERATIONS]


def test_operations_of_our_own_are_marked() -> None:
    marked = {cells[1].strip("`") for cells in rows(section(page("api"), "Operations")) if cells[2].endswith("(own)")}
    assert marked == {f"/api{operation.path}" for operation in OPERATIONS if operation.is_extension}


def paths_of(routes: Iterator[BaseRoute]) -> set[str]:
    """Paths without converters; mounted applications have their own tables."""
    return {cast(Any, route).path.replace(":path}", "}") for route in routes if not isinstance(route, Mount)}


async def test_every_other_path_is_documented_and_exists(tmp_path: Path) -> None:
    coord = await open_coord(CoordConfig(tmp_path, "http://127.0.0.1:1"), is_inline=True)
    try:
        services = [coord.service, relay_service()]
        found = paths_of(iter([*(route for service in services for route in service.routes), *status_routes([])]))
        found |= {path for service in services for path in service.upgrades}
    finally:
        await coord.close()
    documented = set(first_codes(section(page("api"), "Other paths")))
    assert documented == found | {"/api/openapi.json", "/api/docs"}


# Pages.


def anchors(path: Path) -> set[str]:
    """Headings as GitHub makes them into fragments."""
    titles = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, fragment = target.partition("#")
        other = (path.parent / name).resolve() if name else path
        assert other.exists(), f"{target} does not exist"
        assert not fragment or fragment in anchors(other), f"{target}: no such heading"


def test_the_readme_links_every_page_of_the_reference() -> None:
    linked = set(re.findall(r"\]\(docs/([a-z]+)\.md\)", text_of(ROOT / "README.md")))
    assert set(REFERENCE) <= linked


def test_every_bench_program_and_its_options_are_documented() -> None:
    text = page("performance")
    programs = [path for path in (ROOT / "bench").glob("*.py") if "__main__" in path.read_text()]
    for program in sorted(programs):
        options = set(re.findall(r'add_argument\("(--[a-z-]+)"(?!.*SUPPRESS)', text_of(program)))
        match = re.search(rf"^### [^#]*?bench\.{program.stem}\b.*?(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
        assert match, f"bench/{program.name} is not documented"
        assert set(first_codes(match[0])) == options
        for line in re.findall(rf"-m bench\.{program.stem}\b(.*)", match[0]):
            assert set(re.findall(r"--[a-z-]+", line)) <= options

"""Settings from three layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tailbox.errors import ConfigError
from tailbox.runtime.settings import parse_bool, parse_listen, read_toml, resolve


@dataclass(frozen=True)
class Example:
    name: str = "default"
    port: int = 1
    ratio: float = 0.5
    is_on: bool = False
    directory: Path | None = None
    tags: tuple[str, ...] = ()


def build(
    table: dict[str, object] | None = None,
    environment: dict[str, str] | None = None,
    flags: dict[str, object] | None = None,
) -> Example:
    return resolve(Example, table=table or {}, environment=environment or {}, flags=flags or {})


def test_later_layers_win() -> None:
    table = {"name": "file", "port": 2}
    assert build(table) == Example("file", 2)
    assert build(table, {"TAILBOX_NAME": "environment"}) == Example("environment", 2)
    assert build(table, {"TAILBOX_NAME": "environment"}, {"name": "flag", "port": None}) == Example("flag", 2)


def test_texts_become_the_types_of_the_fields() -> None:
    environment = {
        "TAILBOX_PORT": "7",
        "TAILBOX_RATIO": "0.25",
        "TAILBOX_IS_ON": "yes",
        "TAILBOX_DIRECTORY": "/var/lib/x",
        "TAILBOX_TAGS": "tag:a, tag:b",
    }
    assert build(environment=environment) == Example("default", 7, 0.25, True, Path("/var/lib/x"), ("tag:a", "tag:b"))


def test_an_empty_text_unsets_an_optional_setting() -> None:
    assert build({"directory": "/x"}, {"TAILBOX_DIRECTORY": ""}).directory is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"prot": 1}, "did you mean port"),
        ({"zzz": 1}, "no such setting"),
        ({"port": "many"}, "wanted a number"),
        ({"port": True}, "wanted a number"),
        ({"is_on": "perhaps"}, "wanted true or false"),
        ({"tags": 5}, "wanted a list"),
        ({"name": 5}, "wanted text"),
    ],
)
def test_mistakes_name_the_setting(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build(table)
    assert caught.value.setting in table


def test_a_missing_or_broken_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_toml(tmp_path / "absent.toml")
    (tmp_path / "broken.toml").write_text("port = = 1")
    with pytest.raises(ConfigError, match="line 1"):
        read_toml(tmp_path / "broken.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError):
        read_toml(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1055", ("127.0.0.1", 1055)),
        (":80", ("", 80)),
        ("0.0.0.0:8080", ("0.0.0.0", 8080)),
        ("[::1]:443", ("::1", 443)),
    ],
)
def test_listen_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_listen("listen", text) == expected


@pytest.mark.parametrize("text", ["", "host", "host:", "host:x", "host:70000", "host:-1"])
def test_bad_listen_addresses(text: str) -> None:
    with pytest.raises(ConfigError, match="wanted host:port"):
        parse_listen("listen", text)


def test_boolean_words() -> None:
    assert [parse_bool("x", word) for word in ("1", "TRUE", "on", "0", "False", "no")] == [True] * 3 + [False] * 3

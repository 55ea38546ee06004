"""Settings: a TOML file, then the environment, then flags, into one frozen dataclass.

Each role describes its settings as a frozen dataclass with defaults. `resolve` fills one from three layers, later ones
winning: a table of a TOML file (names as in the dataclass), environment variables (`TAILBOX_` and the name in capitals)
and flags (None means "not given"). Every mistake names the setting, what was found, and what was wanted.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from tailbox.errors import ConfigError

Config = TypeVar("Config")

TRUE_WORDS = frozenset({"1", "t", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "f", "false", "no", "off"})


def read_toml(path: Path) -> Mapping[str, Any]:
    """The file's tables. Raises ConfigError if it cannot be read or parsed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("configuration file", str(path), error.strerror or "cannot be read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("configuration file", str(path), str(error)) from None


def resolve(
    kind: type[Config],
    *,
    table: Mapping[str, Any],
    environment: Mapping[str, str],
    flags: Mapping[str, Any],
    prefix: str = "TAILBOX_",
) -> Config:
    """Build `kind` from the three layers. Raises ConfigError."""
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind) if field.init]  # type: ignore[arg-type]
    _refuse_unknown(table, names)
    values: dict[str, Any] = {}
    for name in names:
        variable = prefix + name.upper()
        if flags.get(name) is not None:
            values[name] = _convert(f"--{name.replace('_', '-')}", flags[name], hints[name])
        elif variable in environment:
            values[name] = _convert(variable, environment[variable], hints[name])
        elif name in table:
            values[name] = _convert(name, table[name], hints[name])
    return kind(**values)


def parse_bool(setting: str, text: str) -> bool:
    """Raises ConfigError unless the text is one of the usual words."""
    word = text.strip().lower()
    if word not in TRUE_WORDS | FALSE_WORDS:
        raise ConfigError(setting, text, "wanted true or false")
    return word in TRUE_WORDS


def parse_listen(setting: str, text: str) -> tuple[str, int]:
    """Read `host:port`, `[v6]:port`, `:port` (every address) or a bare port (loopback). Raises ConfigError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else "127.0.0.1"
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(setting, text, "wanted host:port")
    return host, int(port)


def _refuse_unknown(table: Mapping[str, Any], names: list[str]) -> None:
    for name in table:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise ConfigError(name, table[name], f"no such setting{f', did you mean {near[0]}?' if near else ''}")


def _convert(setting: str, value: Any, wanted: Any) -> Any:
    """One value to the field's type; text is parsed, everything else must fit already."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        if value is None or (value == "" and type(None) in arguments):
            return None
        return _convert(setting, value, next(option for option in arguments if option is not type(None)))
    if origin is tuple:
        return _convert_list(setting, value, arguments[0])
    if wanted is bool:
        return value if isinstance(value, bool) else parse_bool(setting, str(value))
    if wanted in (int, float):
        return _convert_number(setting, value, wanted)
    if wanted is Path:
        return Path(str(value)).expanduser()
    if isinstance(wanted, type) and issubclass(wanted, str) and not isinstance(value, str):
        raise ConfigError(setting, value, "wanted text")
    return value


def _convert_list(setting: str, value: Any, item: Any) -> tuple[Any, ...]:
    parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ConfigError(setting, value, "wanted a list")
    return tuple(_convert(setting, part, item) for part in parts)


def _convert_number(setting: str, value: Any, wanted: type[int] | type[float]) -> int | float:
    if isinstance(value, bool):
        raise ConfigError(setting, value, "wanted a number")
    try:
        return wanted(value)
    except (TypeError, ValueError):
        raise ConfigError(setting, value, "wanted a number") from None

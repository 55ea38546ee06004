"""From flags, environment and TOML to a NodeConfig, and the auth key out of sight."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from tailbox.cli.options import SOCKET_NAME, node_state_dir
from tailbox.errors import ConfigError
from tailbox.node.config import NodeConfig, container_settings
from tailbox.runtime.settings import read_toml, resolve

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def given_settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Of a command's parameters those that are settings of a node, as far as they were given."""
    names = {field.name for field in fields(NodeConfig)}
    return {name: value for name, value in parameters.items() if name in names and value is not None}


def node_config(flags: Mapping[str, Any], toml: Path | None) -> NodeConfig:
    """Flags over TAILBOX_* over TS_* over the file's [node] table. Raises ConfigError."""
    table = dict(read_toml(toml).get("node", {})) if toml else {}
    if flags.get("ephemeral") is True:
        table = {"socket": node_state_dir(None) / SOCKET_NAME} | table  # no state, and still `tailbox status`
    else:
        table = {"state_dir": node_state_dir(None)} | table
    return resolve_node(table, os.environ, flags=flags)


def resolve_node(table: Mapping[str, Any], environment: Mapping[str, str], *, flags: Mapping[str, Any]) -> NodeConfig:
    """The node's layers. TAILBOX_STATE_DIR is not among them: it names the directory of all roles."""
    own = {name: value for name, value in environment.items() if name != "TAILBOX_STATE_DIR"}
    layers = dict(table) | container_settings(environment)
    return resolve(NodeConfig, table=layers, environment=own, flags=flags)


def parse_duration(text: str) -> float:
    """Seconds of a Go duration: `90s`, `1m30s`, `250ms`, `0`. Raises ConfigError."""
    if text == "0":
        return 0.0
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigError("duration", text, "wanted something like 30s, 2m or 1m30s")
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


def conceal_auth_key(argv: list[str], flags: Mapping[str, Any]) -> None:
    """Run this program again with the key in a pipe instead of among its arguments, which every user can read.

    Returns only if there is nothing to hide, or no way to. The proxy's password has an environment variable for that.
    """
    key = flags.get("auth_key")
    if not key or key.startswith("file:") or not hasattr(os, "memfd_create"):
        return
    descriptor = os.memfd_create("auth-key", 0)
    os.write(descriptor, key.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    arguments = _without_key(argv[1:])
    os.execv(
        sys.executable, [sys.executable, "-m", "tailbox", *arguments, f"--auth-key=file:/proc/self/fd/{descriptor}"]
    )


def _without_key(arguments: list[str]) -> list[str]:
    kept: list[str] = []
    skips_next = False
    for word in arguments:
        if skips_next:
            skips_next = False
        elif word in ("--auth-key", "--authkey"):
            skips_next = True
        elif not word.startswith(("--auth-key=", "--authkey=")):
            kept.append(word)
    return kept

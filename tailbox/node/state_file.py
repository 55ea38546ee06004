"""The node's state on disk: keys and preferences, in the format of tailscaled, so that a node can change daemons.

One JSON object; keys are strings, values base64 of raw bytes; mode 0600; replaced atomically. What we do not know is
kept as it is. Source: tailscale ipn/store/stores.go, ipn/store.go, ipn/ipnlocal/profiles.go, types/persist/persist.go.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, Self

from tailbox.errors import ConfigError, Malformed
from tailbox.wire.keys import MachinePrivateKey, NodePrivateKey

SCHEMA = 1  # ours, under a key of ours; a higher number is somebody newer's
MAX_STATE_BYTES = 16 * 1024 * 1024
SETTING = "state file"

_MACHINE_KEY = "_machinekey"
_CURRENT_PROFILE = "_current-profile"
_PROFILES = "_profiles"
_SCHEMA = "_tailbox-schema"
_PROFILE = "profile-7a11"  # our only profile's key in a new file
_ZERO_KEY = "privkey:" + "00" * 32


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a node remembers. Keys print as [redacted]."""

    machine_key: MachinePrivateKey
    node_key: NodePrivateKey | None = None  # None: logged out
    old_node_key: NodePrivateKey | None = None
    login_server: str = ""
    hostname: str = ""
    want_running: bool = True
    logged_out: bool = False
    tailnet: str = ""  # for display
    extra: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # entries that are not ours
    prefs: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the whole Prefs object as read


class StateStore(Protocol):
    """Where a NodeState lives."""

    def load(self) -> NodeState | None: ...
    def save(self, state: NodeState) -> None: ...
    def close(self) -> None: ...


class MemoryState:
    """State that dies with the process."""

    def __init__(self) -> None:
        self._state: NodeState | None = None

    def load(self) -> NodeState | None:
        return self._state

    def save(self, state: NodeState) -> None:
        self._state = state

    def close(self) -> None:
        pass


class StateFile:
    """State in a file, held by one process at a time."""

    def __init__(self, path: Path, lock: int) -> None:
        self._path = path
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> Self:
        """Take the file for this process; its directory is made, 0700. Raises ConfigError."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(
                path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise ConfigError(SETTING, str(path), error.strerror or "cannot be opened") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise ConfigError(SETTING, str(path), "in use by another node process") from None
        return cls(path, lock)

    def load(self) -> NodeState | None:
        """What the file holds, or None if there is none yet. Raises ConfigError and leaves the file alone."""
        data = self._read()
        if not data.strip():
            return None
        try:
            return decode_state(data)
        except Malformed as error:
            raise ConfigError(SETTING, str(self._path), f"{error}; move it away to start anew") from None

    def save(self, state: NodeState) -> None:
        """Replace the file at once and durably. Raises ConfigError."""
        temporary = self._path.with_name(self._path.name + ".new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(encode_state(state))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
            self._sync_directory()
        except OSError as error:
            raise ConfigError(SETTING, str(self._path), error.strerror or "cannot be written") from None

    def close(self) -> None:
        """Let another process have the file."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _read(self) -> bytes:
        try:
            # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise ConfigError(SETTING, str(self._path), error.strerror or "cannot be read") from None
        try:
            self._check(os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def _check(self, status: os.stat_result) -> None:
        path = str(self._path)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(SETTING, path, "not a regular file")
        if status.st_uid != os.geteuid():
            raise ConfigError(SETTING, path, f"owned by user {status.st_uid}, wanted {os.geteuid()}")
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise ConfigError(SETTING, path, f"mode {mode:04o} lets others read it, wanted 0600")
        if status.st_size > MAX_STATE_BYTES:
            raise ConfigError(SETTING, path, f"over {MAX_STATE_BYTES} bytes")

    def _sync_directory(self) -> None:
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def open_state(path: Path | None) -> StateStore:
    """A file, or memory where there is no path. Raises ConfigError."""
    return StateFile.open(path) if path else MemoryState()


def encode_state(state: NodeState) -> bytes:
    """The file's bytes."""
    key = _PROFILE if _CURRENT_PROFILE not in state.extra else state.extra[_CURRENT_PROFILE].decode()
    entries: dict[str, bytes] = dict(state.extra)
    entries[_SCHEMA] = str(SCHEMA).encode()
    entries[_MACHINE_KEY] = state.machine_key.reveal().encode()
    entries[_CURRENT_PROFILE] = key.encode()
    entries[key] = json.dumps(_prefs(state)).encode()
    if _PROFILES not in entries:
        identifier = key.removeprefix("profile-")
        profile = {"ID": identifier, "Name": "default", "Key": key, "ControlURL": state.login_server}
        entries[_PROFILES] = json.dumps({identifier: profile}).encode()
    text = {name: base64.b64encode(value).decode() for name, value in sorted(entries.items())}
    return json.dumps(text, indent=2).encode() + b"\n"


def decode_state(data: bytes) -> NodeState:
    """Read a file's bytes. Raises Malformed, without repeating what they hold."""
    entries = _entries(data)
    _check_schema(entries.pop(_SCHEMA, b"1"))
    machine = entries.pop(_MACHINE_KEY, None)
    if machine is None:
        raise Malformed("no machine key in it")
    key = entries.get(_CURRENT_PROFILE, b"").decode("utf-8", "replace")
    prefs = _json_object(entries.pop(key, b"{}")) if key else {}
    persist = prefs.get("Config") or {}
    if not isinstance(persist, dict):
        raise Malformed("Config is not an object")
    return NodeState(
        machine_key=MachinePrivateKey.parse(machine.decode("utf-8", "replace")),
        node_key=_node_key(persist.get("PrivateNodeKey")),
        old_node_key=_node_key(persist.get("OldPrivateNodeKey")),
        login_server=_text(prefs, "ControlURL"),
        hostname=_text(prefs, "Hostname"),
        want_running=bool(prefs.get("WantRunning", True)),
        logged_out=bool(prefs.get("LoggedOut", False)),
        tailnet=_text(prefs, "ProfileName"),
        extra=entries,
        prefs={name: value for name, value in prefs.items() if name != "Config"},
    )


def logged_out(state: NodeState) -> NodeState:
    """The same node without its login."""
    return replace(state, node_key=None, old_node_key=None, logged_out=True)


def _prefs(state: NodeState) -> dict[str, Any]:
    persist = {
        "PrivateNodeKey": state.node_key.reveal() if state.node_key else _ZERO_KEY,
        "OldPrivateNodeKey": state.old_node_key.reveal() if state.old_node_key else _ZERO_KEY,
    }
    ours = {
        "ControlURL": state.login_server,
        "Hostname": state.hostname,
        "WantRunning": state.want_running,
        "LoggedOut": state.logged_out,
        "ProfileName": state.tailnet,
    }
    return {**state.prefs, **ours, "Config": persist}


def _entries(data: bytes) -> dict[str, bytes]:
    found = _json_object(data)
    try:
        return {name: base64.b64decode(value or "", validate=True) for name, value in found.items()}
    except (TypeError, ValueError, binascii.Error):
        raise Malformed("an entry is not base64") from None


def _check_schema(value: bytes) -> None:
    if not value.isdigit():
        raise Malformed("its schema is not a number")
    if int(value) > SCHEMA:
        raise Malformed(f"written by a newer version (schema {int(value)}, known is {SCHEMA})")


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("not JSON, or cut short") from None
    if not isinstance(found, dict):
        raise Malformed("not a JSON object")
    return found


def _node_key(text: object) -> NodePrivateKey | None:
    if not isinstance(text, str) or text in ("", _ZERO_KEY):
        return None
    return NodePrivateKey.parse(text)


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name) or ""
    if not isinstance(value, str):
        raise Malformed(f"{name} is not text")
    return value

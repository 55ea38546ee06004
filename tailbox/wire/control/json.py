"""JSON as Go's encoding/json speaks it: tolerant in, strict out.

| In | Out |
|---|---|
| member names match whatever their case; unknown ones are ignored | Go's names |
| `null` in an object is absence; a zero key and the year-1 time too | absent members are left out, `""` is no key |
| times with nine digits, any offset, year 1 | RFC 3339 in UTC |
| base64 or `null` for bytes, string keys for integer maps | the same |
| | UTF-8 without ASCII escapes |

Where `[]`, `null` or a zero time says something that absence does not, the field's type tells: it includes `None` as
a map's value, or `UnsetType`. Source: control reference §0; tailscale types/key/util.go, Go encoding/json.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from typing import TypeVar, Union, get_args, get_origin

import msgspec

from tailbox.errors import Malformed
from tailbox.wire.control.timestamp import Timestamp
from tailbox.wire.keys import KEY_BYTES, PublicKey

T = TypeVar("T")

_ABSENT = object()
_ZERO_DIGITS = "0" * (2 * KEY_BYTES)
_Folder = Callable[[object], object]
_FOLDERS: dict[object, _Folder] = {}

# What a word of a field's name becomes in Go; other words are capitalised.
INITIALISMS: Mapping[str, str] = {
    word.lower(): word
    for word in (
        "ID", "IDs", "IP", "IPs", "IPv4", "IPv6", "IPN", "OS", "URL", "DNS", "DERP", "TKA", "SSH", "UDP", "NL",
        "STUN", "PMP", "PCP", "UPnP", "GoVersion", "VIP", "WoL", "MACs", "CPU",
    )
}  # fmt: skip


def go_name(field: str) -> str:
    """`home_derp` → `HomeDERP`: the name that Go's structs give a member."""
    return "".join(INITIALISMS.get(word, word[:1].upper() + word[1:]) for word in field.split("_"))


class WireStruct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=go_name):
    """Base of the control protocol's messages: frozen, Go's names, defaults left out."""


class CompleteStruct(msgspec.Struct, frozen=True, kw_only=True, rename=go_name):
    """Base of messages all of whose members must be present: tailscale-rs demands it."""


def decode(kind: type[T], data: bytes | memoryview) -> T:
    """Read one message. Raises Malformed, naming the member (`$.Node.Key`) and never its value."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {_reason(error)}") from None
    return convert(kind, value)


def convert(kind: type[T], value: object) -> T:
    """Make a message of plain dictionaries and lists. Raises Malformed."""
    try:
        folded = _folder(kind)(value)
        return msgspec.convert(None if folded is _ABSENT else folded, kind, str_keys=True, dec_hook=_read_custom)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed(f"not a {getattr(kind, '__name__', 'message')}: {_reason(error)}") from None


def encode(value: object) -> bytes:
    """Write one message."""
    return msgspec.json.encode(value, enc_hook=_write_custom)


def to_builtins(value: object) -> object:
    """The message as plain dictionaries and lists, under its wire names."""
    return msgspec.to_builtins(value, enc_hook=_write_custom, str_keys=True)


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, msgspec.MsgspecError) else type(error).__name__


def _read_custom(kind: type, value: object) -> object:
    if kind is object:
        return value  # raw JSON: capabilities' values
    if not isinstance(value, str):
        raise ValueError(f"Expected `str`, got `{type(value).__name__}`")  # msgspec adds the member's path
    try:
        if issubclass(kind, PublicKey):
            return kind.parse(value)
        if kind is Timestamp:
            return Timestamp.parse(value)
    except Malformed as error:
        raise ValueError(str(error)) from None
    raise TypeError(f"{kind} has no JSON form")


def _write_custom(value: object) -> object:
    if isinstance(value, PublicKey):
        return value.text
    if isinstance(value, Timestamp):
        return str(value)
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _unchanged(value: object) -> object:
    return value


def _folder(kind: object) -> _Folder:
    """What maps a decoded value to Go's names, without what counts as absent. Types are few: each is kept."""
    folder = _FOLDERS.get(kind)
    if folder is None:
        folder = _FOLDERS[kind] = _new_folder(kind)
    return folder


def _new_folder(kind: object) -> _Folder:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct_folder(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _union_folder(arguments)
    if origin in (tuple, list, frozenset):
        return _list_folder(_folder(arguments[0]))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return _map_folder(_folder(arguments[1]), keeps_null=_permits_none(arguments[1]))
    return _unchanged


def _permits_none(kind: object) -> bool:
    return kind is object or type(None) in get_args(kind)


def _union_folder(arguments: tuple[object, ...]) -> _Folder:
    kinds = [item for item in arguments if item not in (type(None), msgspec.UnsetType)]
    if len(kinds) != 1:
        return _unchanged
    kind, inner = kinds[0], _folder(kinds[0])
    if isinstance(kind, type) and issubclass(kind, PublicKey):
        return _zero_folder(kind.prefix + _ZERO_DIGITS)
    if kind is Timestamp and msgspec.UnsetType not in arguments:
        return _year_one_folder
    return inner


def _zero_folder(zero: str) -> _Folder:
    def fold(value: object) -> object:
        return _ABSENT if value == zero else value

    return fold


def _year_one_folder(value: object) -> object:
    return _ABSENT if isinstance(value, str) and value.startswith("0001-01-01T00:00:00") else value


def _list_folder(item: _Folder) -> _Folder:
    if item is _unchanged:
        return _unchanged

    def fold(value: object) -> object:
        return [item(member) for member in value] if isinstance(value, list) else value

    return fold


def _map_folder(item: _Folder, *, keeps_null: bool) -> _Folder:
    def fold(value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {
            name: member if member is None else item(member)
            for name, member in value.items()
            if keeps_null or member is not None
        }

    return fold


def _struct_folder(kind: type[msgspec.Struct]) -> _Folder:
    fields = msgspec.structs.fields(kind)
    by_lower_name: dict[str, tuple[str, _Folder]] = {}
    by_name: dict[str, tuple[str, _Folder]] = {}
    hints = typing.get_type_hints(kind)

    def fill() -> None:  # late, since types refer to themselves
        for field in fields:
            entry = (field.encode_name, _folder(hints[field.name]))
            by_name[field.encode_name] = by_lower_name[field.encode_name.lower()] = entry

    def fold(value: object) -> object:
        if not isinstance(value, dict):
            return value
        if not by_name:
            fill()
        folded: dict[str, object] = {}
        for name, member in value.items():
            if member is None:
                continue
            entry = by_name.get(name) or by_lower_name.get(name.lower())
            if entry is not None:
                result = entry[1](member)
                if result is not _ABSENT:
                    folded[entry[0]] = result
        return folded

    return fold

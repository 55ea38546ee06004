"""The journal's entries: what a transaction changed, row by row, and how replaying them gives the state again.

A row's delta holds only the members that changed, so frequent changes (presence, endpoints) stay small. `None` as
`before` means the row is new, as `after` that it is gone. Secrets are not in it: records hold hashes only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from tailbox.coord.core.change import Change, Event
from tailbox.coord.core.records import ApiToken, AuthKey, Counters, Record, RetiredName, Settings, TailnetNode, User
from tailbox.coord.core.tailnet import Tailnet
from tailbox.wire.control.json import convert, to_builtins

R = TypeVar("R", bound=Record)
Document = Mapping[str, object]  # a record as JSON has it

USERS, NODES, AUTH_KEYS, API_TOKENS, SINGLETONS = "users", "nodes", "auth_keys", "api_tokens", "singletons"
RETIRED_NAMES = "retired_names"
SETTINGS, COUNTERS = "settings", "counters"  # the keys of SINGLETONS


class Actor(Record, frozen=True, kw_only=True):
    """Who did it: the audit schema's actor."""

    kind: str  # USER, NODE, AUTOMATED_WORKER
    id: str = ""
    name: str = ""
    origin: str = "CONTROL"  # ADMIN_CONSOLE, CONFIG_API, CONTROL, NODE


SYSTEM = Actor(kind="AUTOMATED_WORKER", name="tailbox")


@dataclass(frozen=True, slots=True)
class RowDelta:
    """One row: the changed members before and after."""

    table: str
    key: int | str
    before: Document | None
    after: Document | None


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One transaction, or the checkpoint of folded ones. Sequences rise; folding leaves gaps."""

    sequence: int
    at_unix_s: float
    actor: Actor
    events: tuple[Event, ...]
    rows: tuple[RowDelta, ...]


@dataclass(frozen=True, slots=True)
class TouchedRow:
    """A row as records, for the store."""

    table: str
    key: int | str
    before: Record | None
    after: Record | None

    @property
    def delta(self) -> RowDelta:
        """What the journal says of it."""
        before = None if self.before is None else document_of(self.before)
        after = None if self.after is None else document_of(self.after)
        if before is not None and after is not None:
            changed = [name for name in before | after if before.get(name) != after.get(name)]
            before = {name: before[name] for name in changed if name in before}
            after = {name: after[name] for name in changed if name in after}
        return RowDelta(self.table, self.key, before, after)


def touched_rows(before: Tailnet, after: Tailnet, change: Change) -> tuple[TouchedRow, ...]:
    """The rows of a change that really differ; those that go come first, so that what they held is free again."""
    rows = [row for row in _rows(before, after, change) if row.before != row.after]
    return tuple(sorted(rows, key=lambda row: row.after is not None))


def document_of(record: Record) -> dict[str, object]:
    """The record as JSON has it."""
    document = to_builtins(record)
    assert isinstance(document, dict)
    return document


def replay(entries: Iterable[JournalEntry]) -> Tailnet:
    """The state that a whole journal leads to. Raises Malformed for documents that are no records."""
    tables: dict[str, dict[int | str, dict[str, object]]] = {
        table: {} for table in (USERS, NODES, AUTH_KEYS, API_TOKENS, RETIRED_NAMES, SINGLETONS)
    }
    for entry in entries:
        for row in entry.rows:
            _replay_row(tables[row.table], row)
    singletons = tables[SINGLETONS]
    return Tailnet.assemble(
        nodes=_records(TailnetNode, tables[NODES]),
        users=_records(User, tables[USERS]),
        auth_keys=_records(AuthKey, tables[AUTH_KEYS]),
        api_tokens=_records(ApiToken, tables[API_TOKENS]),
        retired_names=_records(RetiredName, tables[RETIRED_NAMES]),
        settings=convert(Settings, singletons.get(SETTINGS, {})),
        counters=convert(Counters, singletons.get(COUNTERS, {})),
    )


def _replay_row(table: dict[int | str, dict[str, object]], row: RowDelta) -> None:
    if row.after is None:
        table.pop(row.key, None)
        return
    document = {name: value for name, value in table.get(row.key, {}).items() if name not in (row.before or {})}
    table[row.key] = document | dict(row.after)


def _records(kind: type[R], table: Mapping[int | str, Document]) -> Iterator[R]:
    for document in table.values():
        yield convert(kind, document)


def _rows(before: Tailnet, after: Tailnet, change: Change) -> Iterator[TouchedRow]:
    for user_id in sorted(change.users):
        yield TouchedRow(USERS, user_id, before.users.get(user_id), after.users.get(user_id))
    for node_id in sorted(change.nodes):
        yield TouchedRow(NODES, node_id, before.nodes.get(node_id), after.nodes.get(node_id))
    for key_id in sorted(change.auth_keys):
        yield TouchedRow(AUTH_KEYS, key_id, before.auth_keys.get(key_id), after.auth_keys.get(key_id))
    for token_id in sorted(change.api_tokens):
        yield TouchedRow(API_TOKENS, token_id, before.api_tokens.get(token_id), after.api_tokens.get(token_id))
    for name in sorted(change.names):
        yield TouchedRow(RETIRED_NAMES, name, before.retired_names.get(name), after.retired_names.get(name))
    if change.has_settings:
        yield TouchedRow(SINGLETONS, SETTINGS, before.settings, after.settings)
    if change.has_counters:
        yield TouchedRow(SINGLETONS, COUNTERS, before.counters, after.counters)

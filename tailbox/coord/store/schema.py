"""The tables: every record is a JSON document beside the columns that must be unique, or are searched.

| Table | Key | Columns |
|---|---|---|
| users | id | login_name, issuer, subject; the pair of the latter unique |
| nodes | id | machine_key, node_key, name, ipv4, ipv6; all but the first unique |
| auth_keys, api_tokens | id | — |
| retired_names | name | — |
| singletons | name | `settings`, `counters` |
| journal | sequence | at_unix_s, actor, events, rows; is_coarse, for folding |

A renamed or removed member of a record needs a migration; a new one with a default does not.
"""

from __future__ import annotations

import msgspec

from tailbox.coord.core.change import Event, TargetKind
from tailbox.coord.core.journal import Actor, Document, JournalEntry, RowDelta
from tailbox.coord.core.records import Record, TailnetNode, User
from tailbox.wire.control.json import decode, encode

NODE_COLUMNS = ("machine_key", "node_key", "name", "ipv4", "ipv6")
USER_COLUMNS = ("login_name", "issuer", "subject")
KEY_COLUMNS = {"singletons": "name", "retired_names": "name"}  # elsewhere `id`
COLUMNS = {"nodes": NODE_COLUMNS, "users": USER_COLUMNS}


class _StoredEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    kind: str
    action: str
    aspect: str = ""
    target_id: str = ""
    target_name: str = ""


class _StoredRow(msgspec.Struct, frozen=True):
    """Not through the wire's decoder: a `null` in a document is itself."""

    table: str
    key: int | str
    before: dict[str, object] | None
    after: dict[str, object] | None


_EVENTS = msgspec.json.Decoder(tuple[_StoredEvent, ...])
_ROWS = msgspec.json.Decoder(tuple[_StoredRow, ...])


def key_column(table: str) -> str:
    """The primary key's name."""
    return KEY_COLUMNS.get(table, "id")


def columns_of(record: Record) -> tuple[str, ...]:
    """The values of COLUMNS for a record."""
    if isinstance(record, TailnetNode):
        return (record.machine_key.text, record.node_key.text, record.name, record.ipv4, record.ipv6)
    if isinstance(record, User):
        return (record.login_name, record.issuer, record.subject)
    return ()


def journal_values(
    at_unix_s: float, actor: Actor, events: tuple[Event, ...], rows: tuple[RowDelta, ...]
) -> tuple[float, str, str, str]:
    """A journal row without its sequence."""
    stored_events = tuple(
        _StoredEvent(event.kind.value, event.action, event.aspect, event.target_id, event.target_name)
        for event in events
    )
    stored_rows = tuple(_StoredRow(row.table, row.key, _plain(row.before), _plain(row.after)) for row in rows)
    return at_unix_s, encode(actor).decode(), encode(stored_events).decode(), encode(stored_rows).decode()


def journal_entry(values: tuple[int, float, str, str, str]) -> JournalEntry:
    """The inverse. Raises Malformed or msgspec.DecodeError for what is no entry."""
    sequence, at_unix_s, actor, events, rows = values
    return JournalEntry(
        sequence,
        at_unix_s,
        decode(Actor, actor.encode()),
        tuple(
            Event(TargetKind(event.kind), event.action, event.aspect, event.target_id, event.target_name)
            for event in _EVENTS.decode(events)
        ),
        tuple(RowDelta(row.table, row.key, row.before, row.after) for row in _ROWS.decode(rows)),
    )


def _plain(document: Document | None) -> dict[str, object] | None:
    return None if document is None else dict(document)

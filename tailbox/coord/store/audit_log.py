"""Who did what: the journal as the audit log shows it. Presence and other entries without events are not in it.

Source of the schema: api-and-console reference §13.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tailbox.coord.core.change import Event
from tailbox.coord.core.journal import Actor, Document, JournalEntry

HIDDEN = frozenset({"secret_hash"})  # of no use to a reader


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One event, with the rows that changed in its transaction: table → key → changed members."""

    sequence: int
    at_unix_s: float
    group: str  # shared by the records of one transaction
    actor: Actor
    event: Event
    before: Mapping[str, Mapping[str, Document]]
    after: Mapping[str, Mapping[str, Document]]


def audit_records(entries: Iterable[JournalEntry]) -> Iterator[AuditRecord]:
    """The records of journal entries, in their order."""
    for entry in entries:
        if not entry.events:
            continue
        before: dict[str, dict[str, Document]] = {}
        after: dict[str, dict[str, Document]] = {}
        for row in entry.rows:
            for side, document in ((before, row.before), (after, row.after)):
                if document is not None:
                    side.setdefault(row.table, {})[str(row.key)] = _shown(document)
        for event in entry.events:
            yield AuditRecord(entry.sequence, entry.at_unix_s, f"e{entry.sequence}", entry.actor, event, before, after)


def _shown(document: Document) -> Document:
    return {name: value for name, value in document.items() if name not in HIDDEN}

"""Folding: old coarse entries of the journal become one, so that presence does not make it grow for ever.

An entry is coarse if it has no events and does nothing but change rows that exist: presence, endpoints. What somebody
may want to look up, and what makes or deletes rows, stays as it is. The entry that replaces coarse ones stands in the
place of the last of them and says, member by member, what they led to; what an entry between them has changed since is
left to that one. So replaying gives the same state as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tailbox.coord.core.change import Event
from tailbox.coord.core.journal import SYSTEM, Document, JournalEntry, RowDelta


@dataclass(frozen=True, slots=True)
class Folding:
    """What to do with some entries of the journal."""

    checkpoint: JournalEntry  # takes the place of the last entry that goes
    folded: tuple[int, ...]  # the sequences that go, the checkpoint's own among them


def is_coarse(events: tuple[Event, ...], rows: Iterable[RowDelta]) -> bool:
    """Whether an entry may be folded."""
    return not events and all(row.before is not None and row.after is not None for row in rows)


def fold(entries: Iterable[JournalEntry]) -> Folding | None:
    """Fold the coarse entries of a run: an unbroken piece of the journal, with all that lies between them.

    None if there are fewer than two.
    """
    pending: dict[tuple[str, int | str], _Members] = {}
    folded: list[JournalEntry] = []
    for entry in entries:
        if is_coarse(entry.events, entry.rows):
            folded.append(entry)
            for row in entry.rows:
                pending.setdefault((row.table, row.key), _Members()).add(row.before or {}, row.after or {})
        else:
            _settle(pending, entry)
    if len(folded) < 2:
        return None
    rows = tuple(RowDelta(table, key, members.before, members.after) for (table, key), members in pending.items())
    last = folded[-1]
    checkpoint = JournalEntry(last.sequence, last.at_unix_s, SYSTEM, (), rows)
    return Folding(checkpoint, tuple(entry.sequence for entry in folded))


@dataclass(slots=True)
class _Members:
    """One row's members as the folded entries found and left them. A member in `before` alone was removed."""

    before: dict[str, object] = field(default_factory=dict)
    after: dict[str, object] = field(default_factory=dict)

    def add(self, before: Document, after: Document) -> None:
        for name in before.keys() | after.keys():
            is_known = name in self.before or name in self.after
            if name in before and not is_known:
                self.before[name] = before[name]
            if name in after:
                self.after[name] = after[name]
            else:
                self.after.pop(name, None)

    def forget(self, *documents: Mapping[str, object]) -> None:
        for name in {name for document in documents for name in document}:
            self.before.pop(name, None)
            self.after.pop(name, None)


def _settle(pending: dict[tuple[str, int | str], _Members], entry: JournalEntry) -> None:
    """An entry that stays has the last word on what it touches."""
    for row in entry.rows:
        key = (row.table, row.key)
        if row.before is None or row.after is None:
            pending.pop(key, None)
        elif key in pending:
            pending[key].forget(row.before, row.after)

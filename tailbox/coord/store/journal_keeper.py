"""Keeps the journal's table: appends entries, and folds the oldest coarse ones once there are many.

The newest `kept` coarse entries stay as they were written, so that event streams can resume; beyond them a batch at a
time becomes one, in a transaction of its own. Entries with events stay for ever: the table grows with what people and
registrations do, and not with presence.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from tailbox.coord.core.change import Event
from tailbox.coord.core.journal import Actor, JournalEntry, TouchedRow
from tailbox.coord.core.journal_folding import Folding, fold, is_coarse
from tailbox.coord.store.schema import journal_entry, journal_values

KEPT_COARSE = 10_000  # ours: some megabytes; event streams resume over a tenth of it at most
FOLD_BATCH = 1_000  # ours: some ten milliseconds of work
MAX_RUN = 4 * FOLD_BATCH  # ours: entries read at once, those between coarse ones included
SELECT = "SELECT sequence, at_unix_s, actor, events, rows FROM journal"


@dataclass(frozen=True, slots=True)
class Transaction:
    """One save: rows and the journal entry's head."""

    at_unix_s: float
    actor: Actor
    events: tuple[Event, ...]
    rows: tuple[TouchedRow, ...]
    generation: int = 0


class JournalKeeper:
    """The journal of one writing connection, which is in autocommit mode. Its owner guards the connection."""

    def __init__(self, connection: sqlite3.Connection, *, kept: int = KEPT_COARSE, batch: int = FOLD_BATCH) -> None:
        self._connection = connection
        self._kept = kept
        self._batch = batch
        self._coarse = self._count_coarse()
        self._fold_from = 0  # before it lie single coarse entries, too far from others to be read with them

    def append(self, transaction: Transaction) -> None:
        """Write an entry, within the caller's SQL transaction."""
        deltas = tuple(row.delta for row in transaction.rows)
        values = journal_values(transaction.at_unix_s, transaction.actor, transaction.events, deltas)
        coarse = is_coarse(transaction.events, deltas)
        self._connection.execute(
            "INSERT INTO journal (at_unix_s, actor, events, rows, is_coarse) VALUES (?, ?, ?, ?, ?)", (*values, coarse)
        )
        self._coarse += coarse  # one too many after a rollback: `fold_old` counts before it acts

    def fold_old(self) -> bool:
        """Fold a batch if there are too many. True if it did. Raises sqlite3.Error, and has changed nothing then."""
        if self._coarse < self._kept + self._batch:
            return False
        self._coarse = self._count_coarse()
        if self._coarse < self._kept + self._batch:
            return False
        run = self._oldest_run()
        folding = fold(run)
        if folding is None:
            self._fold_from = run[-1].sequence if run else 0
            return False
        self._replace(folding)
        self._coarse -= len(folding.folded) - 1
        return True

    def read(self, since: int, limit: int) -> tuple[JournalEntry, ...]:
        """The entries after a sequence, oldest first."""
        rows = self._connection.execute(f"{SELECT} WHERE sequence > ? ORDER BY sequence LIMIT ?", (since, limit))
        return tuple(journal_entry(row) for row in rows.fetchall())

    def audit(self, start_unix_s: float, end_unix_s: float, limit: int) -> tuple[JournalEntry, ...]:
        """The newest entries of a span of time, coarse ones left out; oldest first."""
        rows = self._connection.execute(
            f"{SELECT} WHERE is_coarse = 0 AND at_unix_s BETWEEN ? AND ? "
            "ORDER BY at_unix_s DESC, sequence DESC LIMIT ?",
            (start_unix_s, end_unix_s, limit),
        )
        return tuple(journal_entry(row) for row in reversed(rows.fetchall()))

    def last_sequence(self) -> int:
        """The newest entry's; 0 without one."""
        row = self._connection.execute("SELECT COALESCE(MAX(sequence), 0) FROM journal").fetchone()
        return int(row[0])

    def _count_coarse(self) -> int:
        row = self._connection.execute("SELECT COUNT(*) FROM journal WHERE is_coarse = 1").fetchone()
        return int(row[0])

    def _oldest_run(self) -> Sequence[JournalEntry]:
        """From the oldest coarse entry to that of the batch's end, with all between, or as far as MAX_RUN reaches."""
        coarse = self._connection.execute(
            "SELECT sequence FROM journal WHERE is_coarse = 1 AND sequence >= ? ORDER BY sequence LIMIT ?",
            (self._fold_from, self._batch),
        ).fetchall()
        if not coarse:
            return ()
        rows = self._connection.execute(
            f"{SELECT} WHERE sequence BETWEEN ? AND ? ORDER BY sequence LIMIT ?", (*coarse[0], *coarse[-1], MAX_RUN)
        )
        return tuple(journal_entry(row) for row in rows.fetchall())

    def _replace(self, folding: Folding) -> None:
        entry = folding.checkpoint
        values = journal_values(entry.at_unix_s, entry.actor, entry.events, entry.rows)
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(
                "DELETE FROM journal WHERE sequence = ?", [(sequence,) for sequence in folding.folded]
            )
            self._connection.execute(
                "INSERT INTO journal (sequence, at_unix_s, actor, events, rows, is_coarse) VALUES (?, ?, ?, ?, ?, 1)",
                (entry.sequence, *values),
            )
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

"""The store: load everything, save a change with its journal entry, read the journal. SQLite, one writing connection.

Saves queue up for one thread, which commits all that wait as one group: many transactions' durability for one fsync.
A save is acknowledged only after COMMIT with `synchronous=FULL`. If a commit fails, every save of the same generation
fails with it, since later ones build on earlier ones. Whatever goes wrong, every save gets an answer. A lock file keeps
a second process out.
Source: reliability reference §3.2.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import sqlite_utils

from tailbox.coord.core.journal import (
    API_TOKENS,
    AUTH_KEYS,
    COUNTERS,
    NODES,
    RETIRED_NAMES,
    SETTINGS,
    SINGLETONS,
    USERS,
    JournalEntry,
    TouchedRow,
)
from tailbox.coord.core.records import ApiToken, AuthKey, Counters, Record, RetiredName, Settings, TailnetNode, User
from tailbox.coord.core.tailnet import Tailnet
from tailbox.coord.store.journal_keeper import JournalKeeper, Transaction
from tailbox.coord.store.migrations import migrate
from tailbox.coord.store.schema import COLUMNS, columns_of, key_column
from tailbox.errors import ConfigError, Malformed, TailboxError
from tailbox.wire.control.json import decode, encode

R = TypeVar("R", bound=Record)
log = logging.getLogger(__name__)

DATABASE_FILE = "tailnet.sqlite"
LOCK_FILE = "tailnet.lock"
MAX_GROUP = 64  # ours: saves in one commit
PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=10000",
    "journal_size_limit=67108864",
    "trusted_schema=OFF",
    "cell_size_check=ON",
    "temp_store=MEMORY",
    "secure_delete=ON",
)


CLOSED = "the coordinator is closed"


class StoreFailed(TailboxError):
    """A change could not be stored, and so has not happened."""


@dataclass(frozen=True, slots=True)
class StoreState:
    """How writing goes."""

    failures: int = 0  # commits that failed since the start
    problem: str | None = None  # of the last commit; None: it went well


Done = Callable[[StoreFailed | None], None]


class TailnetStore:
    """A coordinator's database. Open, load, save; close when done."""

    def __init__(self, directory: Path, *, is_inline: bool = False) -> None:
        """Raises ConfigError: locked by another process, damaged, or of a newer Tailbox.

        With `is_inline` saves run in the caller's thread: for simulations.
        """
        self.path = directory / DATABASE_FILE
        self._lock = _lock(directory)
        try:
            self._database = _open(self.path)
        except BaseException:
            os.close(self._lock)
            raise
        self._connection: sqlite3.Connection = self._database.conn
        self._journal = JournalKeeper(self._connection)
        self.state = StoreState()
        self._queue: SimpleQueue[tuple[Transaction, Done] | None] = SimpleQueue()
        self._failed_generation = -1
        self._guard = threading.Lock()  # reads and commits use one connection, from two threads
        self._gate = threading.Lock()  # nothing joins the queue once it is closed
        self._is_closed = False
        self._thread = None if is_inline else threading.Thread(target=self._write, name="tailnet-store", daemon=True)
        if self._thread is not None:
            self._thread.start()

    @property
    def is_inline(self) -> bool:
        """Whether saves run in the caller's thread."""
        return self._thread is None

    def load(self) -> Tailnet:
        """Everything. Raises ConfigError for rows that are no records."""
        with self._guard:
            singletons = {row["name"]: row["document"] for row in self._database[SINGLETONS].rows}
            try:
                return Tailnet.assemble(
                    nodes=self._records(NODES, TailnetNode),
                    users=self._records(USERS, User),
                    auth_keys=self._records(AUTH_KEYS, AuthKey),
                    api_tokens=self._records(API_TOKENS, ApiToken),
                    retired_names=self._records(RETIRED_NAMES, RetiredName),
                    settings=decode(Settings, singletons.get(SETTINGS, "{}").encode()),
                    counters=decode(Counters, singletons.get(COUNTERS, "{}").encode()),
                )
            except Malformed as error:
                raise ConfigError("state_directory", str(self.path), f"a row is damaged: {error}") from None

    def save(self, transaction: Transaction, done: Done) -> None:
        """Store rows and journal entry together; `done` is called in the writer's thread, in the order of saving.

        A closed store fails the save at once.
        """
        with self._gate:
            if not self._is_closed and self._thread is not None:
                self._queue.put((transaction, done))
                return
        if self._is_closed:
            done(StoreFailed(CLOSED))
        else:
            self._commit([(transaction, done)])

    def tail(self, since: int = 0, *, limit: int = 1000) -> tuple[JournalEntry, ...]:
        """The journal's entries after a sequence, oldest first. Blocks for a commit at most. Raises StoreFailed."""
        with self._reading() as journal:
            return journal.read(since, limit)

    def audit(self, start_unix_s: float, end_unix_s: float, *, limit: int) -> tuple[JournalEntry, ...]:
        """The entries of a span of time that have events: the newest `limit`, oldest first. Raises StoreFailed."""
        with self._reading() as journal:
            return journal.audit(start_unix_s, end_unix_s, limit)

    def last_sequence(self) -> int:
        """The newest journal entry's; 0 without one. Raises StoreFailed."""
        with self._reading() as journal:
            return journal.last_sequence()

    def close(self) -> None:
        """Write what waits, then let go of the file. Closing twice is harmless."""
        with self._gate:
            if self._is_closed:
                return
            self._is_closed = True
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        with self._guard:
            self._connection.close()
        os.close(self._lock)

    @contextmanager
    def _reading(self) -> Iterator[JournalKeeper]:
        with self._guard:
            try:
                yield self._journal
            except sqlite3.Error as error:
                raise StoreFailed(CLOSED if self._is_closed else f"the database cannot be read: {error}") from None

    def _records(self, table: str, kind: type[R]) -> Iterator[R]:
        for row in self._database[table].rows_where(order_by=key_column(table)):
            yield decode(kind, row["document"].encode())

    def _write(self) -> None:
        """The writer's thread: take one, take what else waits, commit, answer."""
        while (first := self._queue.get()) is not None:
            group = [first]
            is_last = False
            while len(group) < MAX_GROUP and not self._queue.empty():
                another = self._queue.get()
                if another is None:
                    is_last = True
                    break
                group.append(another)
            self._commit(group)
            if is_last:
                return

    def _commit(self, group: list[tuple[Transaction, Done]]) -> None:
        failed_before = self._failed_generation
        alive = [transaction for transaction, _ in group if transaction.generation > failed_before]
        failure = self._try_to_write(alive) if alive else None
        for transaction, done in group:
            is_stale = transaction.generation <= failed_before
            done(StoreFailed("an earlier change could not be stored") if is_stale else failure)
        if alive and failure is None:
            self._fold_journal()

    def _try_to_write(self, alive: list[Transaction]) -> StoreFailed | None:
        """Any error at all is an answer: callers wait for one."""
        try:
            with self._guard:
                self._write_group(alive)
        except Exception as error:
            self._failed_generation = alive[-1].generation
            self.state = StoreState(self.state.failures + 1, f"{type(error).__name__}: {error}")
            log.error("change could not be stored", extra={"file": str(self.path), "why": self.state.problem})
            return StoreFailed(f"the database refused the change: {error}")
        self.state = StoreState(self.state.failures)
        return None

    def _fold_journal(self) -> None:
        """After the answers, since nobody waits for it; what fails is tried again after a later commit."""
        try:
            with self._guard:
                self._journal.fold_old()
        except Exception as error:
            log.warning("journal not folded", extra={"file": str(self.path), "why": str(error)})

    def _write_group(self, transactions: list[Transaction]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for transaction in transactions:
                for row in transaction.rows:
                    self._write_row(row)
                self._journal.append(transaction)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _write_row(self, row: TouchedRow) -> None:
        key = key_column(row.table)
        if row.after is None:
            self._connection.execute(f"DELETE FROM {row.table} WHERE {key} = ?", (row.key,))
            return
        columns = (*COLUMNS.get(row.table, ()), "document")
        updates = ", ".join(f"{column} = excluded.{column}" for column in columns)
        self._connection.execute(
            f"INSERT INTO {row.table} ({key}, {', '.join(columns)}) VALUES (?{', ?' * len(columns)}) "
            f"ON CONFLICT ({key}) DO UPDATE SET {updates}",
            (row.key, *columns_of(row.after), encode(row.after).decode()),
        )


def _lock(directory: Path) -> int:
    """Take the lock of a state directory. Raises ConfigError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ConfigError("state_directory", str(directory), "another coordinator is using it") from None
    return descriptor


def _open(path: Path) -> sqlite_utils.Database:
    """Raises ConfigError for files that are damaged, no database, or newer."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite does not say why it cannot
    except OSError as error:
        raise ConfigError("state_directory", str(path), error.strerror or "cannot be opened") from None
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise ConfigError("state_directory", str(path), f"the database is damaged: {' '.join(verdict.split())}")
        migrate(connection, str(path))
        return sqlite_utils.Database(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise ConfigError("state_directory", str(path), f"the database is damaged: {error}") from None
    except BaseException:
        connection.close()
        raise

"""The journal's table does not grow with presence, and still leads to the state."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tailbox.coord.core.change import Event, TargetKind
from tailbox.coord.core.journal import NODES, SYSTEM, TouchedRow, replay
from tailbox.coord.core.records import TailnetNode
from tailbox.coord.core.tailnet import stable_id_of
from tailbox.coord.store import journal_keeper
from tailbox.coord.store.journal_keeper import JournalKeeper, Transaction
from tailbox.coord.store.migrations import migrate
from tailbox.coord.store.tailnet_store import TailnetStore
from tailbox.wire.keys import MachinePublicKey, NodePublicKey

EVENT = Event(TargetKind.NODE, "UPDATE")
NODE = TailnetNode(
    id=1,
    stable_id=stable_id_of(1),
    machine_key=MachinePublicKey(b"m" * 32),
    node_key=NodePublicKey(b"n" * 32),
    user_id=1,
    name="alpha",
    ipv4="100.64.0.1",
    ipv6="fd7a:115c:a1e0::1",
)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(":memory:", isolation_level=None)
    migrate(opened, "x")
    yield opened
    opened.close()


def seen(number: float, *events: Event) -> Transaction:
    """The node was seen; with events, somebody did it."""
    before = msgspec.structs.replace(NODE, last_seen_unix_s=number - 1.0)
    after = msgspec.structs.replace(NODE, last_seen_unix_s=number)
    return Transaction(number, SYSTEM, events, (TouchedRow(NODES, 1, before, after),))


CREATED = Transaction(0.0, SYSTEM, (EVENT,), (TouchedRow(NODES, 1, None, NODE),))


def test_only_the_newest_coarse_entries_stay(connection: sqlite3.Connection) -> None:
    journal = JournalKeeper(connection, kept=10, batch=5)
    journal.append(CREATED)
    sizes = []
    for number in range(1, 101):
        journal.append(seen(float(number)))
        journal.fold_old()
        sizes.append(len(journal.read(0, 1000)))
    assert max(sizes) <= 1 + 10 + 5
    entries = journal.read(0, 1000)
    assert replay(entries).nodes[1].last_seen_unix_s == 100.0
    assert (entries[0].sequence, entries[-1].sequence, journal.last_sequence()) == (1, 101, 101)


def test_entries_with_events_stay_for_ever_and_are_found_by_time(connection: sqlite3.Connection) -> None:
    journal = JournalKeeper(connection, kept=4, batch=4)
    journal.append(CREATED)
    for number in range(1, 61):
        journal.append(seen(float(number), *((EVENT,) if number % 10 == 0 else ())))
        journal.fold_old()
    assert [entry.at_unix_s for entry in journal.audit(0.0, 60.0, 100)] == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    assert [entry.at_unix_s for entry in journal.audit(10.0, 50.0, 2)] == [40.0, 50.0]
    assert replay(journal.read(0, 1000)).nodes[1].last_seen_unix_s == 60.0


def test_a_reader_who_knows_a_folded_entry_still_hears_of_its_row(connection: sqlite3.Connection) -> None:
    journal = JournalKeeper(connection, kept=4, batch=4)
    journal.append(CREATED)
    for number in range(1, 9):
        journal.append(seen(float(number)))
    assert journal.fold_old()
    checkpoint = journal.read(3, 1)[0]
    assert [row.key for row in checkpoint.rows] == [1]
    assert checkpoint.sequence == 5


def test_coarse_entries_far_apart_do_not_stop_the_folding(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_keeper, "MAX_RUN", 8)
    journal = JournalKeeper(connection, kept=4, batch=4)
    journal.append(CREATED)
    journal.append(seen(1.0))
    for number in range(2, 31):
        journal.append(seen(float(number), EVENT))
    for number in range(31, 91):
        journal.append(seen(float(number)))
        journal.fold_old()
    assert len(journal.read(0, 1000)) <= 30 + 1 + 4 + 4
    assert replay(journal.read(0, 1000)).nodes[1].last_seen_unix_s == 90.0


def test_what_was_rolled_back_does_not_count(connection: sqlite3.Connection) -> None:
    journal = JournalKeeper(connection, kept=2, batch=2)
    journal.append(CREATED)
    connection.execute("BEGIN")
    for number in range(1, 10):
        journal.append(seen(float(number)))
    connection.execute("ROLLBACK")
    assert not journal.fold_old()
    assert len(journal.read(0, 10)) == 1


def test_a_folding_that_fails_changes_nothing(connection: sqlite3.Connection) -> None:
    journal = JournalKeeper(connection, kept=2, batch=2)
    journal.append(CREATED)
    for number in range(1, 5):
        journal.append(seen(float(number)))
    before = journal.read(0, 100)
    connection.execute("CREATE TRIGGER no BEFORE INSERT ON journal BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(sqlite3.Error, match="no"):
        journal.fold_old()
    assert journal.read(0, 100) == before
    connection.execute("DROP TRIGGER no")
    assert journal.fold_old()


def test_a_store_folds_by_itself_and_finds_the_same_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JournalKeeper.__init__, "__kwdefaults__", {"kept": 20, "batch": 10})
    store = TailnetStore(tmp_path, is_inline=True)
    store.save(CREATED, lambda failure: None)
    for number in range(1, 201):
        store.save(seen(float(number)), lambda failure: None)
    store.close()
    reopened = TailnetStore(tmp_path, is_inline=True)
    entries = reopened.tail(limit=1000)
    assert len(entries) <= 1 + 20 + 10
    assert reopened.last_sequence() == 201
    assert replay(entries) == reopened.load()
    reopened.close()

"""What is acknowledged is on disk, together with its journal entry; what is wrong with a file is said clearly."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tailbox.coord.core.change import Event, TargetKind
from tailbox.coord.core.journal import NODES, SYSTEM, USERS, TouchedRow, replay
from tailbox.coord.core.records import TailnetNode, User
from tailbox.coord.core.tailnet import Tailnet, stable_id_of
from tailbox.coord.store.audit_log import audit_records
from tailbox.coord.store.journal_keeper import Transaction
from tailbox.coord.store.migrations import SCHEMA_VERSION
from tailbox.coord.store.tailnet_store import DATABASE_FILE, StoreFailed, TailnetStore
from tailbox.errors import ConfigError
from tailbox.wire.control.node import Hostinfo
from tailbox.wire.keys import MachinePublicKey, NodePublicKey


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TailnetStore]:
    opened = TailnetStore(tmp_path)
    yield opened
    opened.close()


def user(number: int, **members: object) -> User:
    return msgspec.structs.replace(User(id=number, login_name=f"u{number}", subject=f"s{number}"), **members)


def node(number: int, **members: object) -> TailnetNode:
    record = TailnetNode(
        id=number,
        stable_id=stable_id_of(number),
        machine_key=MachinePublicKey(bytes([number]) * 32),
        node_key=NodePublicKey(bytes([number]) * 32),
        user_id=1,
        name=f"n{number}",
        ipv4=f"100.64.0.{number}",
        ipv6=f"fd7a:115c:a1e0::{number:x}",
        hostinfo=Hostinfo(hostname="büro", routable_ips=("10.0.0.0/8",)),
    )
    return msgspec.structs.replace(record, **members)


def save(store: TailnetStore, *rows: TouchedRow, generation: int = 0, events: tuple[Event, ...] = ()) -> str | None:
    """Save and wait: None, or why it failed."""
    answered = threading.Event()
    failures: list[StoreFailed | None] = []

    def done(failure: StoreFailed | None) -> None:
        failures.append(failure)
        answered.set()

    store.save(Transaction(1.5, SYSTEM, events, rows, generation), done)
    assert answered.wait(10)
    return None if failures[0] is None else str(failures[0])


def test_a_new_store_is_empty_and_private(store: TailnetStore) -> None:
    assert store.load() == Tailnet()
    assert store.tail() == ()
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    first = TailnetStore(tmp_path)
    assert save(first, TouchedRow(USERS, 1, None, user(1)), TouchedRow(NODES, 1, None, node(1))) is None
    changed = node(1, name="other", endpoints=("192.0.2.1:1",), is_online=True)
    assert save(first, TouchedRow(NODES, 1, node(1), changed), TouchedRow(NODES, 2, None, node(2))) is None
    assert save(first, TouchedRow(NODES, 2, node(2), None)) is None
    before = first.load()
    first.close()
    second = TailnetStore(tmp_path)
    try:
        assert second.load() == before == Tailnet.assemble(users=[user(1)], nodes=[changed])
        assert replay(second.tail()) == before
    finally:
        second.close()


def test_the_journal_holds_what_changed_and_no_more(store: TailnetStore) -> None:
    save(store, TouchedRow(NODES, 1, None, node(1)))
    save(store, TouchedRow(NODES, 1, node(1), node(1, is_online=True, hostinfo=Hostinfo())))
    first, second = store.tail()
    assert (first.sequence, second.sequence) == (1, 2)
    assert first.rows[0].before is None
    assert second.rows[0].after == {"is_online": True, "hostinfo": {}}
    assert second.rows[0].before == {"hostinfo": {"Hostname": "büro", "RoutableIPs": ["10.0.0.0/8"]}}
    assert store.tail(since=1) == (second,)
    assert store.tail(limit=1) == (first,)


def test_a_name_can_pass_to_a_new_node_in_one_transaction(store: TailnetStore) -> None:
    save(store, TouchedRow(NODES, 1, None, node(1)))
    rows = (TouchedRow(NODES, 1, node(1), None), TouchedRow(NODES, 2, None, node(2, name="n1")))
    assert save(store, *rows) is None
    assert store.load().nodes == {2: node(2, name="n1")}


def test_a_failed_transaction_leaves_nothing_and_fails_its_generation(store: TailnetStore) -> None:
    save(store, TouchedRow(NODES, 1, None, node(1)))
    taken = save(store, TouchedRow(USERS, 1, None, user(1)), TouchedRow(NODES, 2, None, node(2, name="n1")))
    assert taken is not None
    assert "UNIQUE" in taken
    assert save(store, TouchedRow(USERS, 1, None, user(1))) == "an earlier change could not be stored"
    assert store.load() == Tailnet.assemble(nodes=[node(1)])
    assert len(store.tail()) == 1
    assert save(store, TouchedRow(USERS, 1, None, user(1)), generation=1) is None


def test_a_second_coordinator_is_kept_out(store: TailnetStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another coordinator"):
        TailnetStore(tmp_path)


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    store = TailnetStore(tmp_path)
    for number in range(1, 200):
        store.save(Transaction(1.0, SYSTEM, (), (TouchedRow(USERS, number, None, user(number)),)), lambda failure: None)
    store.close()
    store.close()
    reopened = TailnetStore(tmp_path)
    assert len(reopened.load().users) == 199
    reopened.close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    TailnetStore(tmp_path).close()
    with sqlite3.connect(tmp_path / DATABASE_FILE) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(ConfigError, match="newer than this Tailbox"):
        TailnetStore(tmp_path)


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_file_is_said_to_be_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / DATABASE_FILE).write_bytes(content)
    with pytest.raises(ConfigError, match="damaged"):
        TailnetStore(tmp_path)


def test_what_cannot_be_opened_is_told_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        TailnetStore(tmp_path)


def test_lost_pages_are_told_in_one_line(tmp_path: Path) -> None:
    store = TailnetStore(tmp_path)
    for number in range(1, 200):
        save(store, TouchedRow(USERS, number, None, user(number)))
    store.close()
    path = tmp_path / DATABASE_FILE
    data = bytearray(path.read_bytes())
    data[8192:-4096] = bytes(len(data) - 12288)
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="damaged") as caught:
        TailnetStore(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_row_is_said_to_be_one(tmp_path: Path) -> None:
    store = TailnetStore(tmp_path)
    save(store, TouchedRow(USERS, 1, None, user(1)))
    store.close()
    with sqlite3.connect(tmp_path / DATABASE_FILE) as connection:
        connection.execute("""UPDATE users SET document = '{"id":"x"}'""")
    connection.close()
    store = TailnetStore(tmp_path)
    with pytest.raises(ConfigError, match="a row is damaged"):
        store.load()
    store.close()


def test_the_lock_goes_with_a_failed_start(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError):
        TailnetStore(tmp_path)
    os.remove(tmp_path / DATABASE_FILE)
    TailnetStore(tmp_path).close()


def test_writes_are_durable_by_the_databases_own_word(store: TailnetStore) -> None:
    # 2 is FULL: sqlite.org/pragma.html#pragma_synchronous
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_audit_log_shows_events_without_hashes(store: TailnetStore) -> None:
    event = Event(TargetKind.USER, "UPDATE", "USER_ROLE", target_id="1", target_name="u1")
    save(store, TouchedRow(USERS, 1, None, user(1)), events=(event, event))
    save(store, TouchedRow(USERS, 1, user(1), user(1, display_name="d")))
    records = list(audit_records(store.tail()))
    assert [record.event for record in records] == [event, event]
    assert records[0].group == records[1].group
    assert records[0].after["users"]["1"]["login_name"] == "u1"
    assert records[0].before == {}

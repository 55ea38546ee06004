"""Migrations run once each, and survive being interrupted."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tailbox.coord.store import migrations
from tailbox.coord.store.migrations import MIGRATIONS, SCHEMA_VERSION, migrate, schema_version
from tailbox.coord.store.tailnet_store import DATABASE_FILE, TailnetStore


def connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def tables(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {row[0] for row in rows}


def test_an_empty_database_gets_every_table() -> None:
    connection = connect()
    migrate(connection, "x")
    assert tables(connection) == {"users", "nodes", "auth_keys", "api_tokens", "singletons", "retired_names", "journal"}
    assert schema_version(connection) == SCHEMA_VERSION
    migrate(connection, "x")
    connection.close()


def test_a_database_of_the_first_version_keeps_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "SCHEMA_VERSION", 1)
        old = sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)
        migrate(old, "x")
    entries = "INSERT INTO journal (at_unix_s, actor, events, rows) VALUES (?, '{\"kind\":\"NODE\"}', ?, '[]')"
    old.executemany(entries, [(1.0, "[]"), (2.0, '[{"kind":"NODE","action":"CREATE"}]')])
    old.close()
    store = TailnetStore(tmp_path, is_inline=True)
    assert [entry.at_unix_s for entry in store.tail()] == [1.0, 2.0]
    assert store.last_sequence() == 2
    assert [entry.events[0].action for entry in store.audit(2.0, 3.0, limit=10)] == ["CREATE"]
    store.close()


def test_a_step_that_fails_leaves_the_version_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (*MIGRATIONS, ("CREATE TABLE extra (id INTEGER)", "CREATE TABLE nodes (id INTEGER)"))
    monkeypatch.setattr(migrations, "MIGRATIONS", steps)
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", len(steps))
    connection = connect()
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, "x")
    assert schema_version(connection) == len(MIGRATIONS)
    assert "extra" not in tables(connection)
    connection.close()

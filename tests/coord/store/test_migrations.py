"""Migrations run once each, and survive being interrupted."""

from __future__ import annotations

import sqlite3

import pytest

from tailbox.coord.store import migrations
from tailbox.coord.store.migrations import MIGRATIONS, SCHEMA_VERSION, migrate, schema_version


def connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def tables(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {row[0] for row in rows}


def test_an_empty_database_gets_every_table() -> None:
    connection = connect()
    migrate(connection, "x")
    assert tables(connection) == {"users", "nodes", "auth_keys", "api_tokens", "singletons", "journal"}
    assert schema_version(connection) == SCHEMA_VERSION
    migrate(connection, "x")
    connection.close()


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

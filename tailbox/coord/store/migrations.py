"""Schema versions: an append-only list, each step one transaction. A newer schema than ours is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from tailbox.errors import ConfigError

# Never edit an entry that has been released: append.
MIGRATIONS: Sequence[Sequence[str]] = (
    (
        """CREATE TABLE users (id INTEGER PRIMARY KEY, login_name TEXT NOT NULL, issuer TEXT NOT NULL,
        subject TEXT NOT NULL, document TEXT NOT NULL, UNIQUE (issuer, subject))""",
        """CREATE TABLE nodes (id INTEGER PRIMARY KEY, machine_key TEXT NOT NULL, node_key TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL UNIQUE, ipv4 TEXT NOT NULL UNIQUE, ipv6 TEXT NOT NULL UNIQUE, document TEXT NOT NULL)""",
        "CREATE TABLE auth_keys (id TEXT PRIMARY KEY, document TEXT NOT NULL)",
        "CREATE TABLE api_tokens (id TEXT PRIMARY KEY, document TEXT NOT NULL)",
        "CREATE TABLE singletons (name TEXT PRIMARY KEY, document TEXT NOT NULL)",
        """CREATE TABLE journal (sequence INTEGER PRIMARY KEY AUTOINCREMENT, at_unix_s REAL NOT NULL,
        actor TEXT NOT NULL, events TEXT NOT NULL, rows TEXT NOT NULL)""",
    ),
    (  # entries from before it are never folded
        "ALTER TABLE journal ADD COLUMN is_coarse INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX journal_coarse ON journal (sequence) WHERE is_coarse = 1",
        "CREATE INDEX journal_audit ON journal (at_unix_s, sequence) WHERE is_coarse = 0",
    ),
    ("CREATE TABLE retired_names (name TEXT PRIMARY KEY, document TEXT NOT NULL)",),  # those of earlier nodes are free
)
SCHEMA_VERSION = len(MIGRATIONS)


def schema_version(connection: sqlite3.Connection) -> int:
    """The version of a database file; 0 for an empty one."""
    row = connection.execute("PRAGMA user_version").fetchone()
    return int(row[0])


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring a database up to date. Raises ConfigError if a newer Tailbox wrote it.

    The connection is in autocommit mode. A crash between two steps leaves a valid older version.
    """
    version = schema_version(connection)
    if version > SCHEMA_VERSION:
        raise ConfigError(
            "state_directory", path, f"schema {version} is newer than this Tailbox, which knows {SCHEMA_VERSION}"
        )
    for number in range(version, SCHEMA_VERSION):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in MIGRATIONS[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

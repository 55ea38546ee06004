"""When the disk says no: every caller gets an answer, nothing acknowledged is lost, and it is plain to see."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

import pytest

from tailbox.clock import ManualClock
from tailbox.coord.coordinator import Coordinator
from tailbox.coord.core.change import Change, Outcome
from tailbox.coord.core.journal import SYSTEM, replay
from tailbox.coord.core.records import User
from tailbox.coord.core.tailnet import Tailnet
from tailbox.coord.core.users import create_user
from tailbox.coord.store.journal_keeper import Transaction
from tailbox.coord.store.tailnet_store import StoreFailed, StoreState
from tailbox.randomness import SeededRandom


class FailingConnection:
    """A connection whose statements fail as those of a dying disk do, while `problem` is set."""

    def __init__(self, connection: sqlite3.Connection, *, statement: str) -> None:
        self._connection = connection
        self._statement = statement
        self.problem: str | None = None

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, statement: str, values: object = ()) -> sqlite3.Cursor:
        if self.problem is not None and statement.startswith(self._statement):
            raise sqlite3.OperationalError(self.problem)
        return self._connection.execute(statement, values)  # type: ignore[arg-type]  # what the store passes

    def close(self) -> None:
        self._connection.close()


async def opened(directory: Path) -> Coordinator:
    return await Coordinator.open(directory, clock=ManualClock(), random=SeededRandom(1))


def names(coordinator: Coordinator) -> list[str]:
    return [user.login_name for user in coordinator.tailnet.users.values()]


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT", "COMMIT"])
async def test_a_failed_write_is_told_counted_and_leaves_nothing(
    tmp_path: Path, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator = await opened(tmp_path)
    await coordinator.apply(partial(create_user, login_name="alice"))
    store = coordinator._store
    failing = FailingConnection(store._connection, statement=statement)
    store._connection = failing  # type: ignore[assignment]  # the part of it that the store uses
    failing.problem = "disk I/O error"
    for name in ("bob", "carol"):
        with pytest.raises(StoreFailed, match="disk I/O error"):
            await coordinator.apply(partial(create_user, login_name=name))
    assert coordinator.store_state == StoreState(2, "OperationalError: disk I/O error")
    assert "change could not be stored" in caplog.text
    assert names(coordinator) == ["alice"]
    failing.problem = None
    await coordinator.apply(partial(create_user, login_name="dave"))
    assert coordinator.store_state == StoreState(2)
    assert replay(await coordinator.tail()) == coordinator.tailnet
    assert coordinator.sequence == store.last_sequence() == 2
    await coordinator.close()
    again = await opened(tmp_path)
    assert names(again) == ["alice", "dave"]
    await again.close()


async def test_a_full_disk_refuses_until_there_is_room(tmp_path: Path) -> None:
    coordinator = await opened(tmp_path)
    connection = coordinator._store._connection
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0] + 4}")
    stored = []

    async def fill() -> None:
        for number in range(1000):
            user = await coordinator.apply(partial(create_user, login_name=f"user-{number}-" + "x" * 200))
            stored.append(user.login_name)

    with pytest.raises(StoreFailed, match="full"):
        await fill()
    assert stored == names(coordinator)
    connection.execute("PRAGMA max_page_count = 1000000")
    await coordinator.apply(partial(create_user, login_name="afterwards"))
    await coordinator.close()
    again = await opened(tmp_path)
    assert names(again) == [*stored, "afterwards"]
    await again.close()


async def test_what_no_database_can_hold_does_not_stop_the_writer(tmp_path: Path) -> None:
    """A lone surrogate has no UTF-8; no decoder of ours lets one in."""
    coordinator = await opened(tmp_path)

    def impossible(tailnet: Tailnet, now_unix_s: float) -> Outcome[None]:
        user = User(id=1, login_name="\ud800")
        return Outcome(tailnet.with_user(user), Change(users=frozenset({1})), None)

    with pytest.raises(StoreFailed):
        await coordinator.apply(impossible)
    await coordinator.apply(partial(create_user, login_name="alice"))
    assert names(coordinator) == ["alice"]
    await coordinator.close()


@pytest.mark.parametrize("is_inline", [True, False])
async def test_a_closed_coordinator_says_so(tmp_path: Path, is_inline: bool) -> None:
    coordinator = await Coordinator.open(tmp_path, clock=ManualClock(), random=SeededRandom(1), is_inline=is_inline)
    await coordinator.close()
    with pytest.raises(StoreFailed, match="closed"):
        await coordinator.apply(partial(create_user, login_name="alice"))
    with pytest.raises(StoreFailed, match="closed"):
        await coordinator.tail()
    failures: list[StoreFailed | None] = []
    coordinator._store.save(Transaction(0.0, SYSTEM, (), ()), failures.append)
    assert "closed" in str(failures[0])
    await coordinator.close()

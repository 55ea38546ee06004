"""One verb, in order, durable before it is acknowledged."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from tailbox.clock import ManualClock
from tailbox.coord.coordinator import Coordinator
from tailbox.coord.core.auth_keys import create_auth_key
from tailbox.coord.core.change import Change, Outcome
from tailbox.coord.core.journal import Actor, replay
from tailbox.coord.core.pending_logins import begin_login
from tailbox.coord.core.presence import open_session
from tailbox.coord.core.records import Settings, TailnetNode
from tailbox.coord.core.registration import Registrar
from tailbox.coord.core.tailnet import Tailnet
from tailbox.coord.core.users import create_user
from tailbox.coord.store.tailnet_store import StoreFailed
from tailbox.errors import Conflict
from tailbox.randomness import SeededRandom
from tailbox.wire.control.node import Hostinfo
from tailbox.wire.control.registration import RegisterAuth, RegisterRequest
from tailbox.wire.keys import MachinePublicKey, NodePublicKey

ALICE = Actor(kind="USER", id="1", name="alice", origin="CONFIG_API")


async def open_at(directory: Path, *, clock: ManualClock | None = None, is_inline: bool = False) -> Coordinator:
    return await Coordinator.open(
        directory, clock=clock or ManualClock(), random=SeededRandom(str(directory)), is_inline=is_inline
    )


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[Coordinator]:
    opened = await open_at(tmp_path)
    yield opened
    await opened.close()


async def enrol(coordinator: Coordinator, number: int, auth: str, *, is_ephemeral: bool = False) -> TailnetNode:
    request = RegisterRequest(
        node_key=NodePublicKey(number.to_bytes(32, "big")),
        auth=RegisterAuth(auth_key=auth),
        hostinfo=Hostinfo(hostname="host"),
        ephemeral=is_ephemeral,
    )
    registrar = Registrar(coordinator.random, lambda login_id: "https://x/" + login_id)
    machine_key = MachinePublicKey(number.to_bytes(32, "big"))
    answer = await coordinator.apply(partial(registrar.register, request=request, machine_key=machine_key))
    assert answer.response.error == ""
    node = coordinator.tailnet.node_by_key(request.node_key)
    assert node is not None
    return node


async def auth_key(coordinator: Coordinator) -> str:
    if not coordinator.tailnet.users:
        await coordinator.apply(partial(create_user, login_name="alice"))
    command = partial(create_auth_key, user_id=1, random=coordinator.random, is_reusable=True)
    return (await coordinator.apply(command)).text


async def test_commands_at_the_same_time_build_on_each_other(coordinator: Coordinator) -> None:
    key = await auth_key(coordinator)
    await asyncio.gather(*(enrol(coordinator, number, key) for number in range(1, 51)))
    nodes = coordinator.tailnet.nodes
    assert sorted(nodes) == list(range(1, 51))
    assert len({node.name for node in nodes.values()}) == 50
    assert coordinator.tailnet == replay(await coordinator.tail())


async def test_a_restart_finds_everything_and_nobody_online(tmp_path: Path) -> None:
    first = await open_at(tmp_path)
    node = await enrol(first, 1, await auth_key(first))
    await first.apply(partial(open_session, node_id=node.id))
    before = first.tailnet
    secrets = first.secrets
    await first.close()
    second = await open_at(tmp_path)
    try:
        assert second.secrets == secrets
        found = second.tailnet.nodes[node.id]
        assert (found.is_online, found.sessions) == (False, 0)
        offline = msgspec.structs.replace(before.nodes[1], is_online=False, sessions=0)
        assert second.tailnet == before.with_node(offline)
        assert replay(await second.tail()) == second.tailnet
    finally:
        await second.close()


async def test_the_first_settings_count_and_later_ones_do_not(tmp_path: Path) -> None:
    for name in ("first", "second"):
        coordinator = await Coordinator.open(
            tmp_path, clock=ManualClock(), random=SeededRandom(1), settings=Settings(tailnet_name=name), is_inline=True
        )
        assert coordinator.tailnet.settings.tailnet_name == "first"
        await coordinator.close()


async def test_the_journal_says_who(coordinator: Coordinator) -> None:
    await coordinator.apply(partial(create_user, login_name="alice"), actor=ALICE)
    (entry,) = await coordinator.tail()
    assert entry.actor == ALICE
    assert [event.what for event in entry.events] == ["USER.CREATE"]
    assert entry.at_unix_s == coordinator.clock.unix_time()


async def test_a_command_that_raises_changes_nothing(coordinator: Coordinator) -> None:
    await coordinator.apply(partial(create_user, login_name="alice"))
    before = coordinator.tailnet
    with pytest.raises(Conflict):
        await coordinator.apply(partial(create_user, login_name="alice"))
    assert coordinator.tailnet is before


async def test_subscribers_get_changes_merged_while_they_are_busy(coordinator: Coordinator) -> None:
    with coordinator.subscribe() as changes:
        for name in ("a", "b", "c"):
            await coordinator.apply(partial(create_user, login_name=name))
        change = await anext(changes)
        assert change.users == {1, 2, 3}
        assert changes.take().is_empty
    await coordinator.apply(partial(create_user, login_name="d"))
    assert changes.take().is_empty


async def test_a_pending_login_is_told_but_not_stored(coordinator: Coordinator) -> None:
    request = RegisterRequest(node_key=NodePublicKey(b"n" * 32))
    command = partial(begin_login, request=request, machine_key=MachinePublicKey(b"m" * 32), random=coordinator.random)
    with coordinator.subscribe() as changes:
        login = await coordinator.apply(command)
        assert changes.take().pending_logins == {login.id}
    assert coordinator.tailnet.pending_logins == {login.id: login}
    assert await coordinator.tail() == ()


async def test_a_read_waits_for_what_it_saw(coordinator: Coordinator) -> None:
    """A command that changes nothing must not confirm what could still be lost."""
    key = await auth_key(coordinator)
    first = asyncio.ensure_future(enrol(coordinator, 1, key))
    await asyncio.sleep(0)  # runs the command; its save is under way
    again = asyncio.ensure_future(enrol(coordinator, 1, key))
    await again
    assert len((await coordinator.tail())[-1].rows) == 3
    await first


async def test_a_cancelled_caller_does_not_undo_its_command(coordinator: Coordinator) -> None:
    task = asyncio.ensure_future(coordinator.apply(partial(create_user, login_name="alice")))
    await asyncio.sleep(0)
    task.cancel()
    await coordinator.apply(partial(create_user, login_name="bob"))
    assert {user.login_name for user in coordinator.tailnet.users.values()} == {"alice", "bob"}


@pytest.mark.parametrize("is_inline", [True, False])
async def test_what_the_store_refuses_has_not_happened(tmp_path: Path, is_inline: bool) -> None:
    coordinator = await open_at(tmp_path, is_inline=is_inline)

    def impossible(tailnet: Tailnet, now_unix_s: float) -> Outcome[None]:
        """Two users of one identity, past every check."""
        alice = tailnet.users[1]
        return Outcome(tailnet.with_user(msgspec.structs.replace(alice, id=99)), Change(users=frozenset({99})), None)

    try:
        await coordinator.apply(partial(create_user, login_name="alice"))
        before = coordinator.tailnet
        results = await asyncio.gather(
            coordinator.apply(impossible),
            coordinator.apply(partial(create_user, login_name="bob")),
            return_exceptions=True,
        )
        assert isinstance(results[0], StoreFailed)
        if coordinator.tailnet is not before:  # bob came after the failure was known
            assert len(coordinator.tailnet.users) == 2
        await coordinator.apply(partial(create_user, login_name="carol"))
        assert 99 not in coordinator.tailnet.users
        assert replay(await coordinator.tail()) == coordinator.tailnet
    finally:
        await coordinator.close()


async def test_running_keeps_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailbox.coord.coordinator.HOUSEKEEPING_MIN_S", 0.01)
    monkeypatch.setattr("tailbox.coord.coordinator.HOUSEKEEPING_MAX_S", 0.02)
    clock = ManualClock()
    coordinator = await open_at(tmp_path, clock=clock, is_inline=True)
    await enrol(coordinator, 1, await auth_key(coordinator), is_ephemeral=True)
    task = asyncio.ensure_future(coordinator.run())
    with coordinator.subscribe() as changes:
        clock.advance(1801)
        async with asyncio.timeout(20):
            change = await anext(changes)
    task.cancel()
    assert change.nodes == {1}
    assert not coordinator.tailnet.nodes
    await coordinator.close()


WRITER = """
import asyncio, sys
from functools import partial
from pathlib import Path
from tailbox.coord.coordinator import Coordinator
from tailbox.coord.core.users import create_user
from tailbox.runtime.system import SystemClock, SystemRandom

async def main():
    coordinator = await Coordinator.open(Path(sys.argv[1]), clock=SystemClock(), random=SystemRandom())
    for number in range(1000000):
        user = await coordinator.apply(partial(create_user, login_name=f"u{number}-{len(coordinator.tailnet.users)}"))
        sys.stdout.write(f"{user.id}\\n")
        sys.stdout.flush()

asyncio.run(main())
"""


def acknowledged_before_kill(directory: Path, after: int) -> list[int]:
    """Let another process create users; kill it after that many. Returns those it had heard of as stored."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        acknowledged = [int(output.readline()) for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in output.read().splitlines()]
    process.wait()
    return acknowledged


@pytest.mark.parametrize("after", [1, 25])
async def test_a_kill_between_writes_loses_nothing_that_was_acknowledged(tmp_path: Path, after: int) -> None:
    directory = tmp_path / "state"
    acknowledged = await asyncio.to_thread(acknowledged_before_kill, directory, after)
    coordinator = await open_at(directory)
    try:
        assert set(acknowledged) <= coordinator.tailnet.users.keys()
        assert replay(await coordinator.tail(limit=100_000)) == coordinator.tailnet
        assert coordinator.tailnet.counters.user == max(coordinator.tailnet.users)
    finally:
        await coordinator.close()

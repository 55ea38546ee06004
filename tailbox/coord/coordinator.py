"""The coordinator: the one writer of the tailnet. It has one verb, `apply`.

A command runs at once on the newest snapshot, and its caller hears of it only when the store has it on disk; so saves
can be grouped while commands keep their order. `tailnet` shows what is on disk: nothing that could still be lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Generic, Self, TypeVar

from tailbox.clock import Clock
from tailbox.coord.core.change import NO_CHANGE, Change, Command, Outcome
from tailbox.coord.core.housekeeping import keep_house, next_due_unix_s
from tailbox.coord.core.journal import SYSTEM, Actor, JournalEntry, touched_rows
from tailbox.coord.core.presence import everyone_offline
from tailbox.coord.core.records import Settings
from tailbox.coord.core.settings import update_settings
from tailbox.coord.core.tailnet import Tailnet
from tailbox.coord.store.journal_keeper import Transaction
from tailbox.coord.store.secret_files import CoordinatorSecrets, load_secrets
from tailbox.coord.store.tailnet_store import CLOSED, StoreFailed, StoreState, TailnetStore
from tailbox.randomness import RandomSource

R = TypeVar("R")

HOUSEKEEPING_MIN_S = 1.0  # ours: looking for what is due reads every node
HOUSEKEEPING_MAX_S = 60.0  # ours: the wall clock may jump
MAX_PENDING_EVENTS = 1000  # ours: of one busy subscriber; whoever needs every event reads the journal


class ChangeSubscription:
    """A reader of changes. What happens while it is busy is merged: it falls behind by one change at most."""

    def __init__(self) -> None:
        self._pending = NO_CHANGE
        self._ready = asyncio.Event()

    def offer(self, change: Change) -> None:
        merged = self._pending.merge(change)
        self._pending = replace(merged, events=merged.events[-MAX_PENDING_EVENTS:])
        self._ready.set()

    def take(self) -> Change:
        """What has gathered, perhaps nothing."""
        change, self._pending = self._pending, NO_CHANGE
        self._ready.clear()
        return change

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        await self._ready.wait()
        return self.take()


@dataclass(slots=True)
class _Applied(Generic[R]):
    """A command that has run and is not on disk yet."""

    outcome: Outcome[R]
    future: asyncio.Future[R]
    is_stored: bool
    is_journaled: bool  # it makes an entry

    def finish(self) -> None:
        if not self.future.done():
            self.future.set_result(self.outcome.result)

    def fail(self, failure: StoreFailed) -> None:
        if not self.future.done():
            self.future.set_exception(failure)


class Coordinator:
    """Snapshot, commands, changes. Make it with `open`; `run` keeps time; `close` at the end."""

    def __init__(self, store: TailnetStore, secrets: CoordinatorSecrets, *, clock: Clock, random: RandomSource) -> None:
        self.secrets = secrets
        self.random = random
        self.clock = clock
        self._store = store
        self._tailnet = self._newest = store.load()
        self._sequence = store.last_sequence()
        self._is_closed = False
        self._waiting: deque[_Applied[object]] = deque()
        self._generation = 0
        self._subscriptions: set[ChangeSubscription] = set()

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        clock: Clock,
        random: RandomSource,
        settings: Settings | None = None,
        is_inline: bool = False,
    ) -> Self:
        """Open or create a state directory. `settings` are those of a new tailnet; an old one keeps its own.

        Raises ConfigError: locked, damaged, of a newer Tailbox, or with secrets that others may read.
        """
        store = TailnetStore(directory, is_inline=is_inline)
        try:
            coordinator = cls(store, load_secrets(directory, random=random), clock=clock, random=random)
            if settings is not None and not store.tail(limit=1):
                await coordinator.apply(lambda tailnet, now: update_settings(tailnet, now, settings=settings))
            await coordinator.apply(everyone_offline)
        except BaseException:
            store.close()
            raise
        return coordinator

    @property
    def tailnet(self) -> Tailnet:
        """The snapshot: everything in it is on disk, but for pending logins."""
        return self._tailnet

    @property
    def sequence(self) -> int:
        """The journal entry that led to the snapshot; 0 before the first."""
        return self._sequence

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called: nothing can change any more."""
        return self._is_closed

    @property
    def store_state(self) -> StoreState:
        """How writing to disk goes."""
        return self._store.state

    async def apply(self, command: Command[R], *, actor: Actor = SYSTEM) -> R:
        """Run a command; return its result once it is stored. Raises what the command raises, or StoreFailed.

        Being cancelled does not undo the command. A closed coordinator raises StoreFailed at once.
        """
        if self._is_closed:
            raise StoreFailed(CLOSED)
        now_unix_s = self.clock.unix_time()
        before = self._newest
        outcome = command(before, now_unix_s)
        rows = touched_rows(before, outcome.tailnet, outcome.change) if outcome.change.touches_rows else ()
        if not rows and not outcome.change.events:
            return await self._enqueue(outcome, None)
        transaction = Transaction(now_unix_s, actor, outcome.change.events, rows, self._generation)
        return await self._enqueue(outcome, transaction)

    @contextmanager
    def subscribe(self) -> Iterator[ChangeSubscription]:
        """Follow changes from now on, until the block ends. Iterate the subscription."""
        subscription = ChangeSubscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    async def tail(self, since: int = 0, *, limit: int = 1000) -> tuple[JournalEntry, ...]:
        """The journal after a sequence. Raises StoreFailed."""
        return await self._read(partial(self._store.tail, since, limit=limit))

    async def audit(self, start_unix_s: float, end_unix_s: float, *, limit: int) -> tuple[JournalEntry, ...]:
        """The newest journal entries with events of a span of time, oldest first. Raises StoreFailed."""
        return await self._read(partial(self._store.audit, start_unix_s, end_unix_s, limit=limit))

    async def run(self) -> None:
        """Keep house for ever: expiries, ephemeral nodes, pending logins, presence."""
        with self.subscribe() as changes:
            while True:
                if self.store_state.problem is not None:
                    await self._try_disk()
                due = next_due_unix_s(self._tailnet)
                if due is not None and due <= self.clock.unix_time():
                    await self.apply(keep_house)
                await asyncio.sleep(HOUSEKEEPING_MIN_S)
                await self._wait_until_due(changes)

    async def close(self) -> None:
        """Store what waits, then let go of the directory."""
        self._is_closed = True
        if self._store.is_inline:
            self._store.close()
        else:
            await asyncio.to_thread(self._store.close)

    async def _read(self, read: Callable[[], R]) -> R:
        """In a thread, since a commit may be under way."""
        return read() if self._store.is_inline else await asyncio.to_thread(read)

    async def _try_disk(self) -> None:
        """Write an empty entry, to see whether the disk is well again. Raises StoreFailed."""
        outcome = Outcome(self._newest, NO_CHANGE, None)
        await self._enqueue(outcome, Transaction(self.clock.unix_time(), SYSTEM, (), (), self._generation))

    def _enqueue(self, outcome: Outcome[R], transaction: Transaction | None) -> asyncio.Future[R]:
        """Take the outcome as the newest; the future is its result, once it is stored with all before it."""
        self._newest = outcome.tailnet
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        applied = _Applied(outcome, future, is_stored=transaction is None, is_journaled=transaction is not None)
        self._waiting.append(applied)  # type: ignore[arg-type]  # the queue only finishes and fails them
        if transaction is None:
            self._settle()
        else:
            self._store.save(transaction, self._done_callback(applied))
        return future

    async def _wait_until_due(self, changes: ChangeSubscription) -> None:
        """Until something is due, or a change may have made it so."""
        due = next_due_unix_s(self._tailnet)
        wait_s = HOUSEKEEPING_MAX_S if due is None else min(due - self.clock.unix_time(), HOUSEKEEPING_MAX_S)
        if wait_s > 0:
            try:
                async with asyncio.timeout(wait_s):
                    await anext(changes)
            except TimeoutError:
                pass
        changes.take()

    def _done_callback(self, applied: _Applied[R]) -> _DoneCallback[R]:
        return _DoneCallback(self, applied, self._generation, asyncio.get_running_loop())

    def stored(self, applied: _Applied[R], generation: int, failure: StoreFailed | None) -> None:
        """The store's answer, in the event loop."""
        if generation != self._generation:
            return  # failed with an earlier one already
        if failure is not None:
            self._fail_all(failure)
            return
        applied.is_stored = True
        self._settle()

    def _settle(self) -> None:
        """Publish, in order, all that is on disk."""
        while self._waiting and self._waiting[0].is_stored:
            applied = self._waiting.popleft()
            self._tailnet = applied.outcome.tailnet
            self._sequence += applied.is_journaled  # as the store numbers them: failed ones take no number
            change = applied.outcome.change
            if not change.is_empty:
                for subscription in self._subscriptions:
                    subscription.offer(change)
            applied.finish()

    def _fail_all(self, failure: StoreFailed) -> None:
        """Nothing since the last stored change has happened: later commands were built on what failed."""
        self._generation += 1
        self._newest = self._tailnet
        waiting, self._waiting = self._waiting, deque()
        for applied in waiting:
            applied.fail(failure)


@dataclass(frozen=True, slots=True)
class _DoneCallback(Generic[R]):
    """Brings the store's answer from its thread into the event loop."""

    coordinator: Coordinator
    applied: _Applied[R]
    generation: int
    loop: asyncio.AbstractEventLoop

    def __call__(self, failure: StoreFailed | None) -> None:
        try:
            self.loop.call_soon_threadsafe(self.coordinator.stored, self.applied, self.generation, failure)
        except RuntimeError:
            pass  # the loop has ended: nobody waits any more

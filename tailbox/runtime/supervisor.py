"""Named tasks under one owner: restarted with backoff, never lost, all ended by close()."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

from tailbox.clock import Clock
from tailbox.randomness import RandomSource
from tailbox.runtime.system import SystemClock, SystemRandom

Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")

FIRST_DELAY_S = 0.25  # ours
LONGEST_DELAY_S = 30.0  # ours
STEADY_AFTER_S = 60.0  # ours: a task that ran this long starts its backoff anew


class Backoff:
    """Exponential delays with jitter: each is drawn from the upper half of its bound, so that clients spread out."""

    def __init__(
        self, random: RandomSource, *, first_s: float = FIRST_DELAY_S, longest_s: float = LONGEST_DELAY_S
    ) -> None:
        self._random = random
        self._first_s = first_s
        self._longest_s = longest_s
        self.failures = 0

    def next_delay_s(self) -> float:
        """How long to wait after one more failure."""
        bound = min(self._longest_s, self._first_s * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return self._random.uniform(bound / 2, bound)

    def reset(self) -> None:
        """Success: the next failure counts as the first."""
        self.failures = 0


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """A supervised task raised; `retry_in_s` is None if it is not started again."""

    name: str
    error: BaseException
    retry_in_s: float | None


class Supervisor:
    """Owns tasks. Failures are told to `on_failure`; without one they go to the loop's exception handler."""

    def __init__(
        self,
        *,
        on_failure: Callable[[TaskFailed], None] | None = None,
        clock: Clock | None = None,
        random: RandomSource | None = None,
        blocking_inline: bool = False,
    ) -> None:
        """`blocking_inline`: run_blocking calls in place, for virtual time."""
        self._on_failure = on_failure
        self._clock = clock or SystemClock()
        self._random = random or SystemRandom()
        self._blocking_inline = blocking_inline
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def keep_running(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Run `work()` and again after each failure, later and later. A normal return ends it."""
        return self._start(name, self._restart_for_ever(name, work))

    def run_once(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Run `work()` to its end; a failure is told, not repeated."""
        return self._start(name, self._guard(name, work))

    async def run_blocking(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Call in a thread, so that the loop goes on."""
        if self._blocking_inline:
            return function(*args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **kwargs))

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(sorted(task.get_name() for task in self._tasks))

    async def close(self) -> None:
        """Cancel everything and wait for it. Harmless twice."""
        self._is_closed = True
        current = asyncio.current_task()
        while others := [task for task in self._tasks if task is not current]:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    def _start(self, name: str, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        if self._is_closed:
            coroutine.close()
            raise RuntimeError(f"supervisor is closed: {name} cannot start")
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            self._tell(TaskFailed(name, error, None))

    async def _restart_for_ever(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(self._random)
        while True:
            started_at = self._clock.monotonic()
            try:
                await work()
                return
            except Exception as error:
                if self._clock.monotonic() - started_at >= STEADY_AFTER_S:
                    backoff.reset()
                delay_s = backoff.next_delay_s()
                self._tell(TaskFailed(name, error, delay_s))
                await asyncio.sleep(delay_s)

    def _tell(self, failure: TaskFailed) -> None:
        if self._on_failure is not None:
            self._on_failure(failure)
            return
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"task {failure.name} failed", "exception": failure.error}
        )

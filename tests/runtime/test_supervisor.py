from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tailbox.randomness import SeededRandom
from tailbox.runtime import supervisor as module
from tailbox.runtime.supervisor import Backoff, Supervisor, TaskFailed


def test_backoff_doubles_with_jitter_up_to_its_limit() -> None:
    backoff = Backoff(SeededRandom(1), first_s=1.0, longest_s=8.0)
    delays = [backoff.next_delay_s() for _ in range(100)]
    for delay, bound in zip(delays, [1.0, 2.0, 4.0, 8.0, 8.0], strict=False):
        assert bound / 2 <= delay <= bound
    assert max(delays) <= 8.0
    backoff.reset()
    assert backoff.next_delay_s() <= 1.0


async def test_failing_work_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(Backoff, "next_delay_s", lambda self: 0.001)
    failures: list[TaskFailed] = []
    supervisor = Supervisor(on_failure=failures.append)
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ValueError("no")

    await supervisor.keep_running("work", work)
    assert runs == 3
    assert [(failure.name, failure.retry_in_s) for failure in failures] == [("work", 0.001)] * 2
    assert supervisor.task_names == ()


async def test_work_to_be_done_once_is_not_repeated() -> None:
    failures: list[TaskFailed] = []
    supervisor = Supervisor(on_failure=failures.append)

    async def work() -> None:
        raise ValueError("no")

    await supervisor.run_once("once", work)
    assert [(failure.name, str(failure.error), failure.retry_in_s) for failure in failures] == [("once", "no", None)]


async def test_without_a_listener_failures_reach_the_loop() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    supervisor = Supervisor()

    async def work() -> None:
        raise ValueError("no")

    await supervisor.run_once("once", work)
    assert "once" in told[0]["message"]


async def test_close_ends_every_task() -> None:
    supervisor = Supervisor()
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    supervisor.keep_running("a", work)
    supervisor.run_once("b", work)
    await asyncio.sleep(0)
    assert list(supervisor.task_names) == ["a", "b"]
    await supervisor.close()
    await supervisor.close()
    assert ended == [True, True]
    assert not supervisor.task_names
    with pytest.raises(RuntimeError):
        supervisor.run_once("late", work)


async def test_a_supervised_task_may_close_its_supervisor() -> None:
    supervisor = Supervisor()
    task = supervisor.run_once("closer", supervisor.close)
    await asyncio.wait_for(task, 2)


async def test_blocking_work_leaves_the_loop_alone_unless_told_otherwise() -> None:
    assert await Supervisor().run_blocking(threading.get_ident) != threading.get_ident()
    assert await Supervisor(blocking_inline=True).run_blocking(threading.get_ident) == threading.get_ident()

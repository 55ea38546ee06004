"""Events as log lines: `state changed state=RUNNING`, under the name of whoever published them.

What fails and is tried again is a WARNING, what an operator wants to know INFO, every other change of state DEBUG.
Events are known by the names of their classes here, since they belong to rows that import this one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

from tailbox.telemetry.events import EventLog, Recorded

OPERATORS_INTEREST = frozenset(
    {
        "ClientRefused",
        "HomeRelayChanged",
        "LoggedIn",
        "LoginRefused",
        "MapStreamEnded",
        "StateChanged",
    }
)
ODD_BUT_WORKING = frozenset({"ControlFailed", "TaskFailed"})
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


@asynccontextmanager
async def logging_events(*logs: EventLog) -> AsyncIterator[None]:
    """Log what is published in these, while the block lasts."""
    tasks = [asyncio.create_task(log_events(events), name="log events") for events in logs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def log_events(events: EventLog) -> None:
    """Log what is published, until cancelled."""
    with events.subscribe() as subscription:
        async for recorded in subscription:
            source = recorded.source.partition(":")[0]
            logging.getLogger(f"tailbox.{source}").log(level_of(recorded.event), "%s", describe(recorded))


def level_of(event: object) -> int:
    name = type(event).__name__
    if name in ODD_BUT_WORKING:
        return logging.WARNING
    return logging.INFO if name in OPERATORS_INTEREST else logging.DEBUG


def describe(recorded: Recorded) -> str:
    """`alpha: path changed peer=[abcde] path=192.0.2.1:41641`. Keys by their short form."""
    _, _, node = recorded.source.partition(":")
    event = recorded.event
    words = _WORD.sub(" ", type(event).__name__).lower()
    fields = dataclasses.fields(event) if dataclasses.is_dataclass(event) else ()
    pairs = [f"{field.name}={_shown(getattr(event, field.name))}" for field in fields]
    return " ".join([*([f"{node}:"] if node else []), words, *pairs])


def _shown(value: object) -> str:
    if isinstance(value, Enum):
        return value.name
    short = getattr(value, "short", None)
    return str(short()) if callable(short) else str(value)

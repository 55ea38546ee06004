"""Events become log lines, at the level that suits an operator."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import Enum

import pytest

from tailbox.telemetry.event_logger import describe, level_of, logging_events
from tailbox.telemetry.events import EventLog, Recorded
from tailbox.wire.keys import NodePublicKey


class Colour(Enum):
    RED = 1


@dataclass(frozen=True)
class PathChanged:
    peer: NodePublicKey
    why: Colour


@dataclass(frozen=True)
class StateChanged:
    state: str


def test_an_event_is_told_in_words_with_short_keys() -> None:
    event = PathChanged(NodePublicKey(bytes(32)), Colour.RED)
    assert describe(Recorded(1, 0.0, "node:alpha", event)) == "alpha: path changed peer=[AAAAA] why=RED"
    assert describe(Recorded(1, 0.0, "derp", StateChanged("up"))) == "state changed state=up"
    assert describe(Recorded(1, 0.0, "derp", object())) == "object"


def test_operators_hear_of_states_and_others_of_paths() -> None:
    assert level_of(StateChanged("up")) == logging.INFO
    assert level_of(PathChanged(NodePublicKey(bytes(32)), Colour.RED)) == logging.DEBUG


async def test_what_is_published_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog(lambda: 0.0)
    with caplog.at_level(logging.INFO, "tailbox"):
        async with logging_events(events):
            await asyncio.sleep(0)
            events.publish("node:alpha", StateChanged("up"))
            await asyncio.sleep(0.01)
        events.publish("node:alpha", StateChanged("down"))
        await asyncio.sleep(0.01)
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("tailbox.node", "alpha: state changed state=up")
    ]

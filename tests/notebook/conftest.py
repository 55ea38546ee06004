"""A small room, closed when the test ends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tailbox.notebook import Classroom


@pytest.fixture
async def room() -> AsyncIterator[Classroom]:
    async with await Classroom.start(["alpha", "beta"]) as room:
        yield room

from __future__ import annotations

import pytest

from tests.coord.core.world import World


@pytest.fixture
def world() -> World:
    """A tailnet with an owner and nothing else."""
    return World()

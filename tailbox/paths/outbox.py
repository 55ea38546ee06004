"""What one input leads to, while it is being collected."""

from __future__ import annotations

from tailbox.paths.events import NOTHING, PathEffects, PathEvent
from tailbox.paths.path import Path
from tailbox.wire.keys import NodePublicKey


class Outbox:
    """Fill it, then take the effects."""

    __slots__ = ("datagrams", "events")

    def __init__(self) -> None:
        self.datagrams: list[tuple[Path, NodePublicKey, bytes]] = []
        self.events: list[PathEvent] = []

    def effects(self) -> PathEffects:
        if not self.datagrams and not self.events:
            return NOTHING
        return PathEffects(tuple(self.datagrams), tuple(self.events))

"""A recorder of what the taps of several nodes see, bounded, and grouped into the steps of a message's way.

A step is what one node does with one message at one moment: application bytes become a TCP segment in an IP packet, the
packet a WireGuard message, the message a datagram to a relay or to an address; or the other way round at the receiver.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tailbox.node.core.tap import PacketTap, TapPoint
from tailbox.notebook.dissection import Layer, dissect
from tailbox.wire.keys import NodePublicKey

DEFAULT_CAPACITY = 2000  # entries; the oldest go first
MAX_ENTRY_BYTES = 4096  # of a train, the first packets are enough to look at
STEP_GAP_S = 0.01  # entries of one node and direction closer than this belong together

SENT = frozenset(
    {TapPoint.APPLICATION_SENT, TapPoint.PACKET_SENT, TapPoint.WIREGUARD_SENT, TapPoint.DISCO_SENT},
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One look into one layer."""

    number: int  # counts from 1
    at_s: float  # monotonic seconds
    node: str
    point: str
    peer: NodePublicKey | None
    detail: str
    data: bytes

    @property
    def is_sent(self) -> bool:
        return self.point in SENT

    @property
    def is_disco(self) -> bool:
        return self.point in (TapPoint.DISCO_SENT, TapPoint.DISCO_RECEIVED)

    def layers(self) -> tuple[Layer, ...]:
        return dissect(self.point, self.data, self.detail)


@dataclass(frozen=True, slots=True)
class Step:
    """Entries of one node that belong to one message, in the order in which they happened."""

    node: str
    is_sent: bool
    entries: tuple[Entry, ...]

    @property
    def at_s(self) -> float:
        return self.entries[0].at_s

    @property
    def title(self) -> str:
        """`alpha sends: GET / HTTP/1.1`: in words of the innermost layer that was seen."""
        verb = "sends" if self.is_sent else "receives"
        return f"{self.node} {verb}: {self._innermost().summary}"

    def _innermost(self) -> Layer:
        candidates = [entry.layers()[-1] for entry in self.entries]
        rank = {"Application": 0, "TCP": 1, "UDP": 1, "ICMP": 1}
        return min(candidates, key=lambda layer: rank.get(layer.name, 2))


class PacketTrace:
    """Records while `is_recording`; tells listeners that something is new, not what."""

    def __init__(self, *, capacity: int = DEFAULT_CAPACITY) -> None:
        self._entries: deque[Entry] = deque(maxlen=capacity)
        self._count = 0
        self.is_recording = False
        self.on_new: Callable[[], None] = lambda: None

    def tap_for(self, node: str) -> PacketTap:
        """The tap to give to a node of this name."""
        return _Tap(self, node)

    def clear(self) -> None:
        self._entries.clear()

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries)

    def steps(self, *, with_disco: bool = True) -> list[Step]:
        """The entries in steps, oldest first."""
        steps: list[Step] = []
        for entry in self._entries:
            if entry.is_disco and not with_disco:
                continue
            last = steps[-1] if steps else None
            if last is not None and _continues(last, entry):
                steps[-1] = Step(last.node, last.is_sent, (*last.entries, entry))
            else:
                steps.append(Step(entry.node, entry.is_sent, (entry,)))
        return steps

    def add(self, node: str, point: str, peer: NodePublicKey | None, data: bytes, *, detail: str, now: float) -> None:
        if self.is_recording:
            self._count += 1
            self._entries.append(Entry(self._count, now, node, point, peer, detail, data))
            self.on_new()


class _Tap:
    """One node's tap. Copies what it keeps."""

    __slots__ = ("_node", "_trace")

    def __init__(self, trace: PacketTrace, node: str) -> None:
        self._trace = trace
        self._node = node

    def record(
        self, point: str, peer: NodePublicKey | None, data: bytes | bytearray | memoryview, *, detail: str, now: float
    ) -> None:
        if self._trace.is_recording:
            self._trace.add(self._node, point, peer, bytes(data[:MAX_ENTRY_BYTES]), detail=detail, now=now)


def _continues(step: Step, entry: Entry) -> bool:
    """Whether an entry is a further layer of the step: same node, same direction, at once, and no layer twice."""
    same_way = step.node == entry.node and step.is_sent == entry.is_sent
    is_new_layer = all(known.point != entry.point for known in step.entries)
    is_close = entry.at_s - step.entries[-1].at_s < STEP_GAP_S
    return same_way and is_new_layer and is_close and step.entries[0].is_disco == entry.is_disco

"""A recorder of what the taps of several nodes see, bounded, and grouped into the steps of a message's way.

A step is what one node does with one message at one moment: application bytes become a TCP segment in an IP packet, the
packet a WireGuard message, the message a datagram to a relay or to an address; or the other way round at the receiver.
A journey is a step of the sender and the one of the receiver that got the same sealed bytes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tailbox.errors import NotFound
from tailbox.node.core.tap import PacketTap, TapPoint
from tailbox.notebook.dissection import Layer, dissect
from tailbox.notebook.grouping import SEALED, SENT, belongs
from tailbox.wire.keys import NodePublicKey

DEFAULT_CAPACITY = 2000  # entries; the oldest go first
MAX_ENTRY_BYTES = 4096  # of a train, the first packets are enough to look at
STEPS_LOOKED_BACK = 24  # ours: how many steps may stay open for a further layer


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
        return self.point.startswith("disco")

    def layers(self) -> tuple[Layer, ...]:
        return dissect(self.point, self.data, self.detail, self.peer)


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
    def is_disco(self) -> bool:
        return self.entries[0].is_disco

    @property
    def title(self) -> str:
        """`alpha sends: GET / HTTP/1.1`: in words of the innermost layer that was seen."""
        verb = "sends" if self.is_sent else "receives"
        return f"{self.node} {verb}: {self._innermost().summary}"

    @property
    def carrier(self) -> str:
        """`derp-900`, an address, or "" for what has not left the node."""
        return next((entry.detail for entry in self.entries if entry.point in SEALED), "")

    @property
    def sealed(self) -> bytes:
        """The datagram as it travels, or b""."""
        return next((entry.data for entry in self.entries if entry.point in SEALED), b"")

    def layers(self) -> tuple[Layer, ...]:
        """Each layer once, in the order of the way: inwards out at the sender, outwards in at the receiver."""
        found: dict[str, Layer] = {}
        for entry in self.entries:
            layers = entry.layers()
            for layer in reversed(layers) if self.is_sent else layers:
                found.setdefault(layer.name, layer)
        names = list(found)
        if self.is_disco and self.is_sent:  # the tap sees the datagram first, and what it seals after that
            names.sort(key=lambda name: name != "disco message")
        return tuple(found[name] for name in names)

    def _innermost(self) -> Layer:
        rank = {"Application": 0, "disco message": 0, "TCP": 1, "UDP": 1, "ICMP": 1, "WireGuard": 2, "disco": 2}
        return min(self.layers(), key=lambda layer: rank.get(layer.name, 3))


@dataclass(frozen=True, slots=True)
class Journey:
    """A message from one node to another: the step of the sender, and the receiver's if it arrived."""

    steps: tuple[Step, ...]

    @property
    def carrier(self) -> str:
        return self.steps[0].carrier

    @property
    def stages(self) -> tuple[tuple[str, str], ...]:
        """Node and layer, in the order of the way: ("alpha", "Application") … ("beta", "Application")."""
        return tuple((step.node, layer.name) for step in self.steps for layer in step.layers())

    def _repr_html_(self) -> str:
        from tailbox.notebook.markup import journey_markup

        return journey_markup(self)


class PacketTrace:
    """Records while `is_recording`. `version` changes with every entry."""

    def __init__(self, *, capacity: int = DEFAULT_CAPACITY) -> None:
        self._entries: deque[Entry] = deque(maxlen=capacity)
        self._count = 0
        self._cached: tuple[int, list[Step]] = (0, [])
        self.version = 0
        self.is_recording = False

    def tap_for(self, node: str) -> PacketTap:
        """The tap to give to a node of this name."""
        return _Tap(self, node)

    def clear(self) -> None:
        self._entries.clear()
        self.version += 1

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries)

    def steps(self, *, with_disco: bool = True) -> list[Step]:
        """The entries in steps, oldest first."""
        if self._cached[0] != self.version:
            self._cached = (self.version, _grouped(self._entries))
        return [step for step in self._cached[1] if with_disco or not step.is_disco]

    def journey(self, step: Step) -> Journey:
        """The way of a step's message: with its other end, if that was recorded."""
        if not step.sealed:
            return Journey((step,))
        for other in self.steps():
            if other.is_sent != step.is_sent and other.node != step.node and other.sealed == step.sealed:
                return Journey((step, other) if step.is_sent else (other, step))
        return Journey((step,))

    def follow(self, text: str) -> Journey:
        """The way of the last message that was sent with this text in it. Raises NotFound."""
        wanted = text.encode()
        for step in reversed(self.steps()):
            first = step.entries[0]
            if first.point == TapPoint.APPLICATION_SENT and wanted in first.data:
                return self.journey(step)
        raise NotFound(f"no application has sent {text!r} while the trace was recording")

    def add(self, node: str, point: str, peer: NodePublicKey | None, data: bytes, *, detail: str, now: float) -> None:
        if self.is_recording:
            self._count += 1
            self.version += 1
            self._entries.append(Entry(self._count, now, node, point, peer, detail, data))


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


def _grouped(entries: deque[Entry]) -> list[Step]:
    """Put each entry to the latest step that it is a further layer of, else begin a step."""
    steps: list[Step] = []
    for entry in entries:
        for back in range(1, min(len(steps), STEPS_LOOKED_BACK) + 1):
            step = steps[-back]
            if step.node == entry.node and step.is_sent == entry.is_sent and belongs(entry, step.entries):
                steps[-back] = Step(step.node, step.is_sent, (*step.entries, entry))
                break
        else:
            steps.append(Step(entry.node, entry.is_sent, (entry,)))
    return steps

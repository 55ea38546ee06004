"""Packet trains: the unit of the data path.

A train is a run of packets, back to back in one buffer, each `stride` bytes long but for the last, which may be
shorter. It is what UDP_SEGMENT takes and UDP_GRO gives, and what one numpy operation can view as a matrix with a row
a packet. A single packet is a train of one.

```text
 0            stride        2·stride       3·stride   len(data)
 ├── packet 0 ──┼── packet 1 ──┼── packet 2 ──┼─ packet 3 ─┤
```

Three kinds travel as trains: IP packets between stack and WireGuard, WireGuard messages between WireGuard and the
underlay, and whatever a socket brought, before it is told apart. IP packets may be followed by zero bytes up to their
stride, the padding that WireGuard adds; their own length field says where they end.

One system call carries up to MAX_TRAIN_PACKETS packets and MAX_TRAIN_BYTES. Inside the node a train may be a long one
of several such loads, so that whatever is done once a train is done once for all of them; who sends it cuts it.

**Ownership**: the buffer belongs to whoever made the train and stays valid until that object is called again. Who
keeps a train beyond that, in a queue say, keeps `train.copied()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

MAX_TRAIN_BYTES = 65_507  # the largest UDP payload over IPv4, which one UDP_SEGMENT message may fill
MAX_TRAIN_PACKETS = 64  # Linux UDP_MAX_SEGMENTS
LONGEST_TRAIN_BYTES = 1 << 18  # ours: four loads; more would not stay in a core's cache from stage to stage
LONGEST_TRAIN_PACKETS = 4 * MAX_TRAIN_PACKETS


class Train:
    """Equal-sized packets, back to back. Immutable by convention: nobody but the maker writes into `data`."""

    __slots__ = ("data", "stride")

    data: bytes | memoryview
    stride: int

    def __init__(self, data: bytes | memoryview, stride: int) -> None:
        assert 0 < stride <= len(data) or not data, f"stride {stride} in {len(data)} bytes"
        self.data = data
        self.stride = stride

    @classmethod
    def of(cls, packet: bytes | memoryview) -> Self:
        """A train of one packet."""
        return cls(packet, len(packet))

    def __len__(self) -> int:
        """How many packets."""
        return -(-len(self.data) // self.stride) if self.data else 0

    def __iter__(self) -> Iterator[memoryview]:
        """The packets, as views into the buffer."""
        view, stride = memoryview(self.data), self.stride
        for start in range(0, len(view), stride):
            yield view[start : start + stride]

    def copied(self) -> Train:
        """The same train on a buffer of its own."""
        return Train(bytes(self.data), self.stride)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Train) and self.stride == other.stride and bytes(self.data) == bytes(other.data)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Train({len(self)} × {self.stride} B)"

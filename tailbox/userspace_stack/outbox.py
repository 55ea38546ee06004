"""What a stack has to send: packets and trains of one `collect`, on buffers that are used again at the next."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tailbox.userspace_stack.segments import ACK, MIN_BATCH, Bytes2D, FlowTemplate
from tailbox.wire.train import MAX_TRAIN_BYTES, MAX_TRAIN_PACKETS, Train

WIREGUARD_BYTES = 32  # header 16, tag 16: what sealing adds to a packet
BUFFER_BYTES = 1 << 18  # what one connection may send in one collect: four trains
MAX_KEPT_BUFFERS = 16  # ours: 4 MiB stay allocated


@lru_cache(maxsize=256)
def train_packets(packet_bytes: int) -> int:
    """How many packets of this size one train may hold so that it still fits one datagram batch when sealed."""
    padded = -(-packet_bytes // 16) * 16 + WIREGUARD_BYTES
    return max(min(MAX_TRAIN_BYTES // padded, MAX_TRAIN_PACKETS), 1)


class Outbox:
    """Collects trains, apart by whether they leave or come straight back."""

    __slots__ = ("_buffers", "_used", "looping", "trains")

    def __init__(self) -> None:
        self.trains: list[Train] = []
        self.looping: list[Train] = []  # to one of our own addresses
        self._buffers: list[Bytes2D] = []
        self._used = 0

    def start(self) -> None:
        """Another `collect` begins: buffers handed out before may be written again."""
        if self._used:
            self._used = 0
            del self._buffers[MAX_KEPT_BUFFERS:]

    def take(self) -> tuple[Train, ...]:
        trains = tuple(self.trains)
        self.trains.clear()
        return trains

    def post(self, packet: bytes, *, loops: bool) -> None:
        """Send one packet."""
        (self.looping if loops else self.trains).append(Train(packet, len(packet)))

    def post_stream(
        self,
        template: FlowTemplate,
        payload: memoryview,
        *,
        segment_bytes: int,
        sequence: int,
        acknowledgment: int,
        window: int,
        last_flags: int,
    ) -> None:
        """Send payload as segments of equal size and a shorter last one: at most MAX_ROWS, as one long train."""
        size = len(payload)
        full = size // segment_bytes
        if full < MIN_BATCH:
            numbers = (template, payload, segment_bytes, sequence, acknowledgment, window, last_flags)
            self._post_singly(*numbers)
            return
        rest = size - full * segment_bytes
        stride = template.header_bytes + segment_bytes
        flat = self._buffer(stride * (full + 1))
        template.fill_rows(
            flat[: full * stride].reshape(full, stride),
            payload[: full * segment_bytes] if rest else payload,
            sequence=sequence,
            acknowledgment=acknowledgment,
            window=window,
            last_flags=ACK if rest else last_flags,
        )
        used = full * stride
        if rest:
            position = sequence + full * segment_bytes
            packet = template.segment(position, acknowledgment, last_flags, window, payload=payload[-rest:])
            flat[used : used + len(packet)] = np.frombuffer(packet, np.uint8)
            used += len(packet)
        (self.looping if template.loops else self.trains).append(Train(flat.data[:used], stride))

    def _post_singly(
        self,
        template: FlowTemplate,
        payload: memoryview,
        segment_bytes: int,
        sequence: int,
        acknowledgment: int,
        window: int,
        last_flags: int,
    ) -> None:
        size = len(payload)
        if size <= segment_bytes:
            self.post(
                template.segment(sequence, acknowledgment, last_flags, window, payload=payload), loops=template.loops
            )
            return
        packets = []
        for start in range(0, size, segment_bytes):
            piece = payload[start : start + segment_bytes]
            flags = last_flags if start + segment_bytes >= size else ACK
            packets.append(template.segment(sequence + start, acknowledgment, flags, window, payload=piece))
        (self.looping if template.loops else self.trains).append(Train(b"".join(packets), len(packets[0])))

    def _buffer(self, size: int) -> Bytes2D:
        if size > BUFFER_BYTES or size < BUFFER_BYTES >> 3:  # jumbo MTU; or not worth a buffer
            return np.empty(size, np.uint8)
        if self._used == len(self._buffers):
            self._buffers.append(np.empty(BUFFER_BYTES, np.uint8))
        self._used += 1
        return self._buffers[self._used - 1]

"""Packets that wait for a handshake: copied, bounded, the oldest dropped first."""

from __future__ import annotations

from collections import deque

from tailbox.wire.train import MAX_TRAIN_BYTES, MAX_TRAIN_PACKETS, Train
from tailbox.wireguard.batches import sealed_length

MAX_STAGED_PACKETS = 128  # wireguard-go QueueStagedSize
MAX_STAGED_BYTES = 256 * 1024  # ours


class StagedPackets:
    """A bounded queue for one peer."""

    __slots__ = ("_bytes", "_packets")

    def __init__(self) -> None:
        self._packets: deque[bytes] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._packets)

    def add(self, train: Train) -> int:
        """Keep a copy of every packet. Returns how many packets were pushed out."""
        for packet in train:
            self._packets.append(bytes(packet))
            self._bytes += len(packet)
        dropped = 0
        while len(self._packets) > MAX_STAGED_PACKETS or self._bytes > MAX_STAGED_BYTES:
            self._bytes -= len(self._packets.popleft())
            dropped += 1
        return dropped

    def take(self) -> list[Train]:
        """Everything, in order, neighbours of equal size joined into trains that fit a datagram batch once sealed."""
        trains: list[Train] = []
        while self._packets:
            run = [self._packets.popleft()]
            stride = len(run[0])
            most = min(MAX_TRAIN_PACKETS, MAX_TRAIN_BYTES // sealed_length(stride))
            while self._packets and len(run) < most and len(self._packets[0]) <= stride:
                run.append(self._packets.popleft())
                if len(run[-1]) < stride:
                    break
            trains.append(Train(b"".join(run), stride))
        self._bytes = 0
        return trains

    def clear(self) -> int:
        """Drop everything; returns how many packets that was."""
        dropped = len(self._packets)
        self._packets.clear()
        self._bytes = 0
        return dropped

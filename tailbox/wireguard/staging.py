"""Packets that wait for a handshake: copied, bounded, the oldest dropped first."""

from __future__ import annotations

from tailbox.wire.train import MAX_TRAIN_BYTES, MAX_TRAIN_PACKETS, Train
from tailbox.wireguard.batches import sealed_length

MAX_STAGED_PACKETS = 128  # wireguard-go QueueStagedSize
MAX_STAGED_BYTES = 256 * 1024  # ours


class StagedPackets:
    """A bounded queue for one peer."""

    __slots__ = ("_bytes", "_packets")

    def __init__(self) -> None:
        self._packets: list[bytes] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._packets)

    def add(self, train: Train) -> int:
        """Keep a copy of every packet. Returns how many packets were pushed out."""
        for packet in train:
            self._packets.append(bytes(packet))
            self._bytes += len(packet)
        dropped = 0
        while len(self._packets) - dropped > MAX_STAGED_PACKETS or self._bytes > MAX_STAGED_BYTES:
            self._bytes -= len(self._packets[dropped])
            dropped += 1
        del self._packets[:dropped]
        return dropped

    def take(self) -> list[Train]:
        """Everything, in order, neighbours of equal size joined into trains that fit a datagram batch once sealed."""
        trains: list[Train] = []
        start = 0
        while start < len(self._packets):
            stride = len(self._packets[start])
            most = min(MAX_TRAIN_PACKETS, MAX_TRAIN_BYTES // sealed_length(stride))
            stop = start + 1
            while stop < len(self._packets) and stop - start < most and len(self._packets[stop]) == stride:
                stop += 1
            trains.append(Train(b"".join(self._packets[start:stop]), stride))
            start = stop
        self.clear()
        return trains

    def clear(self) -> int:
        """Drop everything; returns how many packets that was."""
        dropped = len(self._packets)
        self._packets.clear()
        self._bytes = 0
        return dropped

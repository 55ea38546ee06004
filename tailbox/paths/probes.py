"""Pings in flight, by transaction. All wait equally long, so they time out in the order in which they were sent."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from tailbox.paths.events import PingPurpose
from tailbox.paths.path import Path
from tailbox.wire.keys import NodePublicKey

PING_TIMEOUT_S = 5.0  # tailscale endpoint.go pingTimeoutDuration
MAX_IN_FLIGHT = 65_536  # ours: the oldest is given up for a new one


@dataclass(frozen=True, slots=True)
class Probe:
    """A ping that waits for its pong."""

    peer: NodePublicKey
    path: Path
    sent_at: float
    purpose: PingPurpose


class Probes:
    """A queue with look-up."""

    def __init__(self) -> None:
        self._by_transaction: OrderedDict[bytes, Probe] = OrderedDict()  # in order of sending

    def __len__(self) -> int:
        return len(self._by_transaction)

    def add(self, transaction: bytes, probe: Probe) -> None:
        if len(self._by_transaction) >= MAX_IN_FLIGHT:
            self._by_transaction.popitem(last=False)
        self._by_transaction[transaction] = probe

    def get(self, transaction: bytes) -> Probe | None:
        return self._by_transaction.get(transaction)

    def remove(self, transaction: bytes) -> None:
        self._by_transaction.pop(transaction, None)

    def next_timeout_at(self) -> float | None:
        for probe in self._by_transaction.values():
            return probe.sent_at + PING_TIMEOUT_S
        return None

    def take_timed_out(self, *, now: float) -> list[Probe]:
        """Remove and return what waited in vain, oldest first."""
        timed_out: list[Probe] = []
        while self._by_transaction:
            transaction, probe = next(iter(self._by_transaction.items()))
            if probe.sent_at + PING_TIMEOUT_S > now:
                break
            del self._by_transaction[transaction]
            timed_out.append(probe)
        return timed_out

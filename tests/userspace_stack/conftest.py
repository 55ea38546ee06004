"""Two stacks and a network between them, in virtual time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

import pytest

from tailbox.randomness import SeededRandom
from tailbox.userspace_stack.limits import StackLimits
from tailbox.userspace_stack.stack import Stack, StackEffects, StackEvent, TcpListener, TcpSocket
from tailbox.wire.addresses import Endpoint, IPAddress
from tailbox.wire.train import Train

ADDRESSES: dict[int, tuple[IPAddress, IPAddress]] = {
    4: (IPv4Address("100.64.0.1"), IPv4Address("100.64.0.2")),
    6: (IPv6Address("fd7a:115c:a1e0::1"), IPv6Address("fd7a:115c:a1e0::2")),
}


@dataclass
class Impairment:
    """What happens to packets under way, each with its own draw."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0  # share of packets that take four times as long
    delay_s: float = 0.01
    whole_trains: bool = False  # deliver trains as they are; otherwise packet by packet


@dataclass
class Wire:
    """Stacks `left` and `right`, joined. Everything happens in the order of virtual time."""

    left: Stack
    right: Stack
    impairment: Impairment = field(default_factory=Impairment)
    seed: int = 0
    now: float = 1000.0
    events: list[StackEvent] = field(default_factory=list)
    packets: list[bytes] = field(default_factory=list)  # everything sent, in order

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._queue: list[tuple[float, int, Stack, Train]] = []
        self._count = 0

    def run(self, until: Callable[[], bool] = lambda: False, *, for_s: float = 600.0) -> bool:
        """Let time pass until the condition holds; False if it did not within `for_s`, or nothing was left to do."""
        end = self.now + for_s
        self.settle()
        while not until():
            following = [
                at for at in (self._queue[0][0] if self._queue else None, self._next_timer()) if at is not None
            ]
            if not following or min(following) > end:
                self.now = max(self.now, end)
                return until()
            self.now = max(self.now, min(following))
            while self._queue and self._queue[0][0] <= self.now:
                _, _, stack, train = heapq.heappop(self._queue)
                stack.receive(train, now=self.now)
            self.settle()
        return True

    def settle(self) -> None:
        """Timers and collections at the present moment."""
        for _ in range(1000):
            for stack, other in ((self.left, self.right), (self.right, self.left)):
                stack.handle_deadline(now=self.now)
                self._carry(stack.collect(now=self.now), other)
            at = self._next_timer()
            if at is None or at > self.now:
                return
        raise AssertionError("the stacks never come to rest")

    def _next_timer(self) -> float | None:
        return min((d.at for d in (self.left.next_deadline(), self.right.next_deadline()) if d), default=None)

    def _carry(self, effects: StackEffects, to: Stack) -> None:
        self.events.extend(effects.events)
        for train in effects.to_network:
            self.packets.extend(bytes(packet) for packet in train)
            for piece in [train.copied()] if self.impairment.whole_trains else list(train.copied()):
                self._send(piece if isinstance(piece, Train) else Train.of(piece), to)

    def _send(self, train: Train, to: Stack) -> None:
        how, draw = self.impairment, self._draw.random
        if draw() < how.loss:
            return
        for _ in range(2 if draw() < how.duplication else 1):
            delay = how.delay_s * (4 if draw() < how.reordering else 1)
            self._count += 1
            heapq.heappush(self._queue, (self.now + delay, self._count, to, train))


def make_stack(address: IPAddress, seed: int, *, mtu: int = 1280, limits: StackLimits | None = None) -> Stack:
    stack = Stack(random=SeededRandom(seed), mtu=mtu, limits=limits)
    stack.set_addresses([address])
    return stack


def make_wire(
    version: int = 4,
    impairment: Impairment | None = None,
    *,
    seed: int = 0,
    mtu: int = 1280,
    limits: StackLimits | None = None,
) -> Wire:
    here, there = ADDRESSES[version]
    left, right = (
        make_stack(here, seed * 2, mtu=mtu, limits=limits),
        make_stack(there, seed * 2 + 1, mtu=mtu, limits=limits),
    )
    return Wire(left, right, impairment or Impairment(), seed)


def open_pair(wire: Wire, *, version: int = 4, port: int = 80) -> tuple[TcpSocket, TcpSocket, TcpListener]:
    """An established connection from left to right."""
    listener = wire.right.listen_tcp(port)
    client = wire.left.connect_tcp(Endpoint(ADDRESSES[version][1], port), now=wire.now)
    accepted: list[TcpSocket] = []

    def is_open() -> bool:
        server = listener.accept()
        if server is not None:
            accepted.append(server)
        return bool(accepted) and client.is_established

    assert wire.run(is_open), f"{client} {wire.left.drops} {wire.right.drops}"
    return client, accepted[0], listener


@pytest.fixture
def wire() -> Wire:
    return make_wire()

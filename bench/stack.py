"""What the userspace stack costs: microseconds of CPU per packet in bulk, and per request with small segments.

    python bench/stack.py [--mtu 1280]

CPU time, not wall time: it is stable on a machine that others use too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from time import process_time

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tailbox.randomness import SeededRandom
from tailbox.userspace_stack.stack import Stack, StackEffects, TcpSocket
from tailbox.wire.addresses import Endpoint, IPAddress
from tailbox.wire.train import Train

ADDRESSES: dict[int, tuple[IPAddress, IPAddress]] = {
    4: (IPv4Address("100.64.0.1"), IPv4Address("100.64.0.2")),
    6: (IPv6Address("fd7a:115c:a1e0::1"), IPv6Address("fd7a:115c:a1e0::2")),
}
BULK_BYTES = 100_000_000


class Meter:
    """Adds up CPU time of one side's calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def run(self, call: Callable[[], StackEffects | None]) -> StackEffects | None:
        start = process_time()
        result = call()
        self.seconds += process_time() - start
        return result


def connect(mtu: int, version: int) -> tuple[Stack, Stack, TcpSocket, TcpSocket]:
    left, right = Stack(random=SeededRandom(1), mtu=mtu), Stack(random=SeededRandom(2), mtu=mtu)
    here, there = ADDRESSES[version]
    left.set_addresses([here])
    right.set_addresses([there])
    listener = right.listen_tcp(80)
    client = left.connect_tcp(Endpoint(there, 80), now=0.0)
    for _ in range(4):
        pass_on(left.collect(now=0.0).to_network, right, 0.0)
        pass_on(right.collect(now=0.0).to_network, left, 0.0)
    server = listener.accept()
    assert server is not None
    return left, right, client, server


def pass_on(trains: tuple[Train, ...], to: Stack, now: float) -> None:
    for train in trains:
        to.receive(train, now=now)


def bulk(mtu: int, version: int) -> tuple[float, float, float]:
    """µs per packet of the sender, of the receiver, and packets per train."""
    left, right, client, server = connect(mtu, version)
    sender, receiver = Meter(), Meter()
    moved, packets, trains, now = 0, 0, 0, 0.0
    while moved < BULK_BYTES:
        now += 0.0005
        start = process_time()
        view = client.send_view()
        while len(view):
            client.commit(len(view))  # the bytes are there already: reading them in is the proxy's cost
            view = client.send_view()
        effects = left.collect(now=now)
        sender.seconds += process_time() - start
        packets += sum(map(len, effects.to_network))
        trains += len(effects.to_network)
        start = process_time()
        for train in effects.to_network:
            right.receive(train, now=now)
        count = sum(len(view) for view in server.receive_views())
        server.consume(count)
        answer = right.collect(now=now).to_network
        receiver.seconds += process_time() - start
        moved += count
        start = process_time()
        pass_on(answer, left, now)
        sender.seconds += process_time() - start
        left.handle_deadline(now=now)
        right.handle_deadline(now=now)
    return sender.seconds / packets * 1e6, receiver.seconds / packets * 1e6, packets / trains


def requests(mtu: int, version: int, size: int, count: int = 3000) -> float:
    """µs per side for one request and its answer: a segment in, a segment out."""
    left, right, client, server = connect(mtu, version)
    payload = bytes(size)
    now = 1.0
    start = process_time()
    for _ in range(count):
        now += 0.001
        client.write(payload)
        pass_on(left.collect(now=now).to_network, right, now)
        right.collect(now=now)
        server.write(server.read(1 << 16))
        pass_on(right.collect(now=now).to_network, left, now)
        left.collect(now=now)
        client.read(1 << 16)
        left.handle_deadline(now=now)
        right.handle_deadline(now=now)
        left.next_deadline()
        right.next_deadline()
    return (process_time() - start) / count / 2 * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of the userspace stack in CPU time")
    parser.add_argument("--mtu", type=int, default=1280)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    for version in (4, 6):
        runs = [bulk(options.mtu, version) for _ in range(options.repeat)]
        sent, received = (statistics.median(run[side] for run in runs) for side in (0, 1))
        print(
            f"IPv{version} bulk, MTU {options.mtu}: send {sent:.2f}, receive {received:.2f} µs/packet, "
            f"{runs[0][2]:.1f} packets/train"
        )
        for size in (100, 1000):
            cost = statistics.median(requests(options.mtu, version, size) for _ in range(options.repeat))
            print(f"IPv{version} request and answer of {size} B: {cost:.1f} µs per side")


if __name__ == "__main__":
    main()

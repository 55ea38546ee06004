"""Where the time of a bulk transfer goes: CPU time a packet, stage upon stage, each end apart.

    python -m bench.ladder [--mtu 1280] [--trains 400] [--rounds 7]

One process holds both ends and times the calls of each with its CPU time, which other work on the machine disturbs less
than wall time. A rung does what the one below does, and more: the difference is the cost of a stage.

| Rung | Sender | Receiver |
|---|---|---|
| AEAD | `encrypt_into` over a train | `decrypt_into` over a train |
| WireGuard | `Tunnels.seal` | `Tunnels.open` |
| + UDP | … and a `UDP_SEGMENT` send | a `UDP_GRO` receive and … |
| + stack | send buffer → packets → routes → … | … → filter → reassembly → receive buffer |

Proxy and local sockets, event loop and all, are what `python -m bench.throughput` adds: its CPU seconds a GiB.
Acknowledgements are part of the last rung. A wake-up moves several trains, as it does under load.
"""

from __future__ import annotations

import argparse
import socket
import statistics
from collections.abc import Callable
from itertools import repeat
from time import monotonic, process_time

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from bench.engine_pair import LOCALHOST, LoopFreeNetwork, connect
from bench.wireguard import SOURCE, connected
from tailbox.node.udp_socket import TrainSocket
from tailbox.randomness import SeededRandom
from tailbox.userspace_stack.outbox import train_packets
from tailbox.wire.addresses import Endpoint
from tailbox.wire.train import Train
from tailbox.wireguard.batches import pack_nonce

WAKEUP_TRAINS = 4  # sent before the receiver looks: what one `collect` of the stack makes

Cost = tuple[float, float]  # CPU seconds of sender and receiver
Rung = Callable[[int], Cost]  # for so many trains


class Stopwatch:
    """Adds up CPU time of what runs inside `with`."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._started = process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += process_time() - self._started


def aead_rung(mtu: int) -> Rung:
    packets, cipher = train_packets(mtu), ChaCha20Poly1305(bytes(32))
    plain, sealed = memoryview(bytearray(mtu * packets)), memoryview(bytearray((mtu + 32) * packets))
    rows = [plain[row * mtu : (row + 1) * mtu] for row in range(packets)]
    bodies = [sealed[row * (mtu + 32) + 16 : (row + 1) * (mtu + 32)] for row in range(packets)]
    nonces = list(map(pack_nonce, range(packets)))

    def run(trains: int) -> Cost:
        sender, receiver = Stopwatch(), Stopwatch()
        with sender:
            for _ in range(trains):
                for _ in map(cipher.encrypt_into, nonces, rows, repeat(None), bodies):
                    pass
        with receiver:
            for _ in range(trains):
                for _ in map(cipher.decrypt_into, nonces, bodies, repeat(None), rows):
                    pass
        return sender.seconds, receiver.seconds

    return run


def wireguard_rung(mtu: int) -> Rung:
    left, right_key, right = connected()
    plain = Train(SeededRandom(1).bytes(mtu * train_packets(mtu)), mtu)
    arrived = memoryview(bytearray(1 << 16))

    def run(trains: int) -> Cost:
        sender, receiver = Stopwatch(), Stopwatch()
        for _ in range(trains):
            with sender:
                sealed = left.seal(right_key, plain, now=1.0).to_network[0][1]
            arrived[: len(sealed.data)] = sealed.data
            train = Train(arrived[: len(sealed.data)], sealed.stride)
            with receiver:
                right.open(train, source=SOURCE, now=1.0)
        return sender.seconds, receiver.seconds

    return run


def udp_rung(mtu: int) -> Rung:
    left, right_key, right = connected()
    plain = Train(SeededRandom(1).bytes(mtu * train_packets(mtu)), mtu)
    near, far = LoopFreeNetwork(), LoopFreeNetwork()
    opened = [0]

    def on_train(train: Train, source: object) -> None:
        opened[0] += sum(len(plain) for _, plain in right.open(train, source=SOURCE, now=1.0).to_stack)

    out = TrainSocket(near, socket.AF_INET, 0, on_train=lambda train, source: None, on_event=lambda event: None)
    into = TrainSocket(far, socket.AF_INET, 0, on_train=on_train, on_event=lambda event: None)
    there = Endpoint(LOCALHOST, into.port)

    def run(trains: int) -> Cost:
        sender, receiver = Stopwatch(), Stopwatch()
        opened[0] = 0
        for _ in range(0, trains, WAKEUP_TRAINS):
            with sender:
                for _ in range(WAKEUP_TRAINS):
                    out.send(left.seal(right_key, plain, now=1.0).to_network[0][1], there)
            with receiver:
                far.readable()
        assert opened[0] == trains * len(plain), f"{opened[0]} packets of {trains} trains arrived"
        return sender.seconds, receiver.seconds

    return run


def stack_rung(mtu: int) -> Rung:
    left, right, client, server = connect(mtu)

    def run(trains: int) -> Cost:
        sender, receiver = Stopwatch(), Stopwatch()
        wanted, moved = trains * train_packets(mtu) * (mtu - 40), 0
        while moved < wanted:
            with sender:  # the bytes are there already: reading them in is the proxy's cost
                left.network.readable()
                while view := client.send_view():
                    client.commit(len(view))
                left.engine.flush(now=monotonic())
                left.tick()
            with receiver:
                right.turn()
                count = sum(map(len, server.receive_views()))
                server.consume(count)
                right.engine.flush(now=monotonic())
                right.tick()
            moved += count
        scale = wanted / moved
        return sender.seconds * scale, receiver.seconds * scale

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mtu", type=int, default=1280)
    parser.add_argument("--trains", type=int, default=400, help="of each rung in a round")
    parser.add_argument("--rounds", type=int, default=7, help="the medians count")
    options = parser.parse_args()
    made = {"AEAD": aead_rung, "WireGuard": wireguard_rung, "+ UDP": udp_rung, "+ stack": stack_rung}
    rungs = {name: make(options.mtu) for name, make in made.items()}
    found: dict[str, list[Cost]] = {name: [] for name in rungs}
    for _ in range(options.rounds):  # in turns, so that a change of the machine's speed meets all alike
        for name, run in rungs.items():
            found[name].append(run(options.trains))
    packets = options.trains * train_packets(options.mtu)
    print(f"MTU {options.mtu}, {train_packets(options.mtu)} packets a train, µs of CPU a packet")
    for name, costs in found.items():
        sent, received = (statistics.median(cost[side] for cost in costs) / packets * 1e6 for side in (0, 1))
        print(f"{name:10} sender {sent:5.2f}   receiver {received:5.2f}")


if __name__ == "__main__":
    main()

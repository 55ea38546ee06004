"""CPU time per packet of sealing and opening, by batch size: `python -m bench.wireguard [--size 1280] [--seconds 0.1]`.

Four columns each way: the bare AEAD over the same buffers (the floor), the batch functions packet by packet and as a
matrix (the crossover that `SEAL_AS_MATRIX_FROM` and `OPEN_AS_MATRIX_FROM` record), and whole calls of `Tunnels`, with
sessions, replay window, timers and effects. Each figure is the best of several rounds of CPU time, not wall time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import repeat
from unittest import mock

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tailbox.crypto import x25519
from tailbox.randomness import SeededRandom
from tailbox.wire.keys import NodePrivateKey, NodePublicKey
from tailbox.wire.train import Train
from tailbox.wireguard import batches
from tailbox.wireguard.batches import TrainOpener, TrainSealer, pack_nonce, seal_packets
from tailbox.wireguard.replay_window import ReplayWindow
from tailbox.wireguard.tunnels import PeerSettings, Tunnels

BATCH_SIZES = (1, 2, 3, 4, 8, 12, 16, 32, 49)
ROUNDS = 7
SOURCE = b"\x7f\0\0\1\xa2\x81"


def cpu_us_per_packet(call: Callable[[], object], packets: int, seconds: float) -> float:
    """The best of several rounds, each as long as needed to take its share of `seconds`."""
    call()
    started, calls = time.process_time(), 0
    while time.process_time() - started < seconds / ROUNDS:
        call()
        calls += 1
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(calls):
            call()
        best = min(best, (time.process_time() - started) / calls)
    return best / packets * 1e6


def connected() -> tuple[Tunnels, NodePublicKey, Tunnels]:
    """Two endpoints with a session; the key is the second's."""
    random = SeededRandom("bench")
    keys = [x25519.generate(NodePrivateKey, random) for _ in range(2)]
    publics = [x25519.node_public(key) for key in keys]
    ends = [Tunnels(key, random=random, unix_offset_s=1.7e9) for key in keys]
    for end, other in zip(ends, reversed(publics), strict=True):
        end.set_peers({other: PeerSettings()}, now=0.0)
    waiting = [(0, train) for _, train in ends[0].seal(publics[1], Train.of(b"first"), now=0.0).to_network]
    while waiting:
        sender, train = waiting.pop(0)
        answer = ends[1 - sender].open(train, source=SOURCE, now=0.0)
        waiting += [(1 - sender, message) for _, message in answer.to_network]
    return ends[0], publics[1], ends[1]


def measure_aead(cipher: ChaCha20Poly1305, size: int, packets: int, seconds: float) -> tuple[float, float]:
    plain, sealed = memoryview(bytearray(size * packets)), memoryview(bytearray((size + 16) * packets))
    rows = [plain[row * size : (row + 1) * size] for row in range(packets)]
    bodies = [sealed[row * (size + 16) : (row + 1) * (size + 16)] for row in range(packets)]
    nonces = list(map(pack_nonce, range(packets)))
    seal = cpu_us_per_packet(
        lambda: list(map(cipher.encrypt_into, nonces, rows, repeat(None), bodies)), packets, seconds
    )
    open_ = cpu_us_per_packet(
        lambda: list(map(cipher.decrypt_into, nonces, bodies, repeat(None), rows)), packets, seconds
    )
    return seal, open_


def measure_batches(cipher: ChaCha20Poly1305, plain: Train, seconds: float) -> tuple[float, float, float, float]:
    """Seal by packet, seal as matrix, open by packet, open as matrix."""
    packets = len(plain)
    sealer, opener = TrainSealer(), TrainOpener()
    sealed = seal_packets(cipher, 7, 0, plain)

    def open_train() -> object:
        _, counters = batches.read_headers(sealed)
        return opener.open(cipher, ReplayWindow(), sealed, (0, packets), counters)

    figures = [cpu_us_per_packet(lambda: seal_packets(cipher, 7, 0, plain), packets, seconds)]
    with mock.patch.object(batches, "SEAL_AS_MATRIX_FROM", 1):
        figures.append(cpu_us_per_packet(lambda: sealer.seal(cipher, 7, 0, plain), packets, seconds))
    with mock.patch.object(batches, "OPEN_AS_MATRIX_FROM", 1000):
        figures.append(cpu_us_per_packet(open_train, packets, seconds))
    with mock.patch.object(batches, "OPEN_AS_MATRIX_FROM", 1):
        figures.append(cpu_us_per_packet(open_train, packets, seconds))
    return figures[0], figures[1], figures[2], figures[3]


def measure_tunnels(plain: Train, seconds: float) -> tuple[float, float]:
    """Whole calls. Opening needs messages never seen before, put where a socket would: in one buffer, over and over."""
    sender, receiver_key, receiver = connected()
    packets = len(plain)

    def seal() -> Train:
        return sender.seal(receiver_key, plain, now=1.0).to_network[0][1]

    buffer = memoryview(bytearray(1 << 16))
    best = float("inf")
    for _ in range(ROUNDS):
        spent, calls = 0.0, max(10, 1000 // packets)
        for _ in range(calls):
            sealed = seal()
            arrived = Train(buffer[: len(sealed.data)], sealed.stride)
            buffer[: len(sealed.data)] = sealed.data
            started = time.process_time()
            receiver.open(arrived, source=SOURCE, now=1.0)
            spent += time.process_time() - started
        best = min(best, spent / calls / packets * 1e6)
    assert not receiver.drops
    return cpu_us_per_packet(seal, packets, seconds), best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1280, help="bytes of an IP packet")
    parser.add_argument("--seconds", type=float, default=0.1, help="CPU time for a figure, about")
    options = parser.parse_args()
    cipher = ChaCha20Poly1305(bytes(32))
    print(f"{options.size}-byte packets, µs of CPU per packet")
    print("packets │ seal: AEAD  packets   matrix  Tunnels │ open: AEAD  packets   matrix  Tunnels")
    for packets in BATCH_SIZES:
        plain = Train(SeededRandom(1).bytes(options.size) * packets, options.size)
        seal_aead, open_aead = measure_aead(cipher, options.size, packets, options.seconds)
        by_packet, as_matrix, open_by_packet, open_as_matrix = measure_batches(cipher, plain, options.seconds)
        seal_whole, open_whole = measure_tunnels(plain, options.seconds)
        print(
            f"{packets:7d} │ {seal_aead:10.2f} {by_packet:8.2f} {as_matrix:8.2f} {seal_whole:8.2f}"
            f" │ {open_aead:10.2f} {open_by_packet:8.2f} {open_as_matrix:8.2f} {open_whole:8.2f}"
        )


if __name__ == "__main__":
    main()

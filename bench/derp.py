"""Frames through the relay: how many a second, and what one costs.

`python bench/derp.py [--seconds 3] [--tls]` starts a relay in a process of its own, connects a sender and a receiver to
it on loopback, and sends frames of 100 and of 1300 bytes in bursts, with no more on the way than the receiver's queue
and the kernel hold. The relay's own processor time, divided by the frames it forwarded, is the figure that says how far
one core goes; the rate is that of all three together on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import ssl
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from tailbox.crypto.x25519 import generate, node_public
from tailbox.derp.app import DerpRole
from tailbox.derp.config import DerpConfig
from tailbox.derp.core.client import DerpClient, HttpUpgrade, LoggedIn, PacketsReceived
from tailbox.randomness import SeededRandom
from tailbox.runtime.network import HostNetwork
from tailbox.runtime.service import Address, Listen, serve
from tailbox.runtime.system import SystemClock, SystemRandom
from tailbox.runtime.tls import development_certificate, server_context, unverified_client_context
from tailbox.wire.keys import NodePrivateKey
from tailbox.wire.train import Train

BURST_BYTES = 64 * 1024
ON_THE_WAY_BYTES = 192 * 1024  # below what the relay holds for one client before it drops


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    size_bytes: int
    frames: int
    lost: int
    seconds: float
    relay_cpu_s: float

    def __str__(self) -> str:
        rate = self.frames / self.seconds
        cost_us = 1e6 * self.relay_cpu_s / self.frames
        return (
            f"{self.size_bytes:>5} B  {rate:>9,.0f} frames/s  {8e-6 * rate * self.size_bytes:>7,.0f} Mbit/s  "
            f"relay {cost_us:5.2f} µs/frame ({8e-3 * self.size_bytes / cost_us:5.2f} Gbit/s per core)  lost {self.lost}"
        )


def relay_process(pipe: Connection, use_tls: bool) -> None:
    asyncio.run(run_relay(pipe, use_tls))


async def run_relay(pipe: Connection, use_tls: bool) -> None:
    """Answer each message with the processor time used so far and the packets forwarded; None ends."""
    key = generate(NodePrivateKey, SeededRandom("relay"))
    config = DerpConfig(stun_port=-1, rate_limit_bytes_per_s=0)
    role = DerpRole(config, key, network=HostNetwork(), clock=SystemClock(), random=SystemRandom())
    with tempfile.TemporaryDirectory() as folder:
        tls = server_context(development_certificate(Path(folder), unix_now_s=time.time())) if use_tls else None
    async with await serve([role.service()], listen=[Listen(Address("127.0.0.1", 0), tls)]) as running:
        pipe.send(running.address.port)
        loop = asyncio.get_running_loop()
        over = asyncio.Event()

        def answer() -> None:
            if pipe.recv() is None:
                over.set()
            else:
                pipe.send((time.process_time(), role.server.counters.packets_sent))

        loop.add_reader(pipe.fileno(), answer)
        await over.wait()


class Client:
    """A logged-in connection."""

    def __init__(self, seed: str) -> None:
        self.key = generate(NodePrivateKey, SeededRandom(seed))
        self.machine = DerpClient(self.key, random=SystemRandom(), upgrade=HttpUpgrade("bench"))

    async def connect(self, port: int, tls: ssl.SSLContext | None) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=1 << 20)
        while True:
            self.writer.write(self.machine.data_to_send())
            events = self.machine.receive_bytes(await self.reader.read(65536))
            if any(isinstance(event, LoggedIn) for event in events):
                return


async def measure(pipe: Connection, sender: Client, receiver: Client, size_bytes: int, seconds: float) -> Result:
    packets = max(1, BURST_BYTES // size_bytes)
    burst = sender.machine.send_train(node_public(receiver.key), Train(bytes(size_bytes * packets), size_bytes))
    sent = received = 0
    pipe.send("begin")
    cpu_before, forwarded_before = pipe.recv()
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        while (sent - received) * size_bytes < ON_THE_WAY_BYTES:
            sender.writer.write(burst)
            sent += packets
        try:
            data = await asyncio.wait_for(receiver.reader.read(262_144), 1.0)
        except TimeoutError:
            break  # something was dropped: the count below says how much
        for event in receiver.machine.receive_bytes(data):
            if isinstance(event, PacketsReceived):
                received += len(event.packets)
    elapsed = time.perf_counter() - start
    while received < sent:
        try:
            data = await asyncio.wait_for(receiver.reader.read(262_144), 1.0)
        except TimeoutError:
            break
        for event in receiver.machine.receive_bytes(data):
            if isinstance(event, PacketsReceived):
                received += len(event.packets)
    pipe.send("end")
    cpu_after, forwarded_after = pipe.recv()
    return Result(size_bytes, forwarded_after - forwarded_before, sent - received, elapsed, cpu_after - cpu_before)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    relay = multiprocessing.get_context("fork").Process(target=relay_process, args=(theirs, options.tls), daemon=True)
    relay.start()
    port = ours.recv()
    tls = unverified_client_context() if options.tls else None
    sender, receiver = Client("sender"), Client("receiver")
    await sender.connect(port, tls)
    await receiver.connect(port, tls)
    print(f"relay over {'TLS' if options.tls else 'TCP'}, one pair, {os.cpu_count()} cores shared by all three")
    for size_bytes in (100, 1300):
        print(await measure(ours, sender, receiver, size_bytes, options.seconds))
    ours.send(None)
    relay.join(5)


if __name__ == "__main__":
    asyncio.run(main())

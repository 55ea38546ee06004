"""How fast one TCP stream is: SOCKS5 → node → node → local server, all on this machine.

    python -m bench.throughput [--relayed] [--kernel] [--megabytes 512] [--rounds 5] [--latency]

Starts coordinator and relay in one process and two nodes in two more; client and server are threads of this one. Each
round reports goodput and the CPU seconds a GiB costs each node; the medians are the result. `--kernel` measures the
same transfer over plain loopback TCP in the same run, for comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 256 * 1024
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).resolve().parent.parent
SETTLE_S = 20.0
LATENCY_REQUESTS = 1000
REQUEST_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Round:
    """One transfer."""

    gbit_per_s: float
    sender_cpu_s_per_gib: float
    receiver_cpu_s_per_gib: float


# The processes.


async def be_coordinator() -> None:
    """Coordinator and relay; says where, and a key to join with."""
    from tailbox.coord.app import open_coord
    from tailbox.coord.config import CoordConfig, EmbeddedRelay
    from tailbox.crypto.x25519 import generate
    from tailbox.derp.app import DerpRole
    from tailbox.derp.config import DerpConfig
    from tailbox.runtime.network import HostNetwork
    from tailbox.runtime.service import Address, Listen, serve
    from tailbox.runtime.system import SystemClock, SystemRandom
    from tailbox.wire.keys import NodePrivateKey

    port, stun_port = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    clock, random = SystemClock(), SystemRandom()
    with tempfile.TemporaryDirectory() as directory:
        relay = EmbeddedRelay(host="127.0.0.1", derp_port=port, stun_port=stun_port, is_plain_http=True, ipv6="none")
        config = CoordConfig(Path(directory) / "coord", f"http://127.0.0.1:{port}", relay=relay)
        coord = await open_coord(config)
        derp = DerpRole(
            DerpConfig(stun_port=stun_port, home_page="none", rate_limit_bytes_per_s=0),
            generate(NodePrivateKey, random),
            network=HostNetwork(),
            clock=clock,
            random=random,
        )
        async with await serve([coord.service, derp.service()], listen=[Listen(Address("127.0.0.1", port))]):
            print(f"ready {config.server_url} {await coord.create_auth_key(is_reusable=True)}", flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def be_node(url: str, auth_key: str, hostname: str, *, relayed: bool) -> None:
    """A node with a proxy; says where it listens, and is there until its input ends."""
    from tailbox.node.node import Node

    proxy = "127.0.0.1:0" if hostname == "alpha" else ""
    async with Node(
        login_server=url,
        auth_key=auth_key,
        hostname=hostname,
        include_loopback=True,
        always_relay=relayed,
        socks5_server=proxy,
    ) as node:
        await node.wait_running()
        print(f"ready {node.proxy_address}", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def start(arguments: list[str], stack: contextlib.ExitStack) -> tuple[subprocess.Popen[str], list[str]]:
    """A process of this module's, and the words it says when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.throughput", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    stack.callback(process.wait, 10)
    assert process.stdin is not None
    assert process.stdout is not None
    stack.callback(process.stdin.close)
    words = process.stdout.readline().split()
    if not words or words[0] != "ready":
        raise SystemExit(f"{arguments[0]} did not start")
    return process, words[1:]


def cpu_seconds(process: subprocess.Popen[str]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


# The transfer.


class Server:
    """Counts what it gets on odd connections; `echoes` gives requests back."""

    def __init__(self, *, echoes: bool = False) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.done = threading.Event()
        self.received = 0
        self.ended_at = 0.0
        threading.Thread(target=self._echo if echoes else self._count, daemon=True).start()

    def _count(self) -> None:
        buffer = bytearray(CHUNK_BYTES * 4)
        while True:
            client, _ = self._listening.accept()
            self.received = 0
            while count := client.recv_into(buffer):
                self.received += count
            self.ended_at = time.perf_counter()
            client.close()
            self.done.set()

    def _echo(self) -> None:
        while True:
            client, _ = self._listening.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError):
                while data := client.recv(65536):
                    client.sendall(data)
            client.close()


def dial_by_proxy(proxy: tuple[str, int], host: str, port: int) -> socket.socket:
    """SOCKS5 CONNECT. Raises ConnectionError."""
    client = socket.create_connection(proxy, timeout=30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(b"\x05\x01\x00")
    if client.recv(2) != b"\x05\x00":
        raise ConnectionError("the proxy wants more than we have")
    client.sendall(b"\x05\x01\x00\x03" + bytes((len(host),)) + host.encode() + port.to_bytes(2, "big"))
    answer = client.recv(64)
    if answer[1:2] != b"\x00":
        client.close()
        raise ConnectionError(f"the proxy answered {answer[1:2].hex()}")
    return client


def dial_patiently(proxy: tuple[str, int], port: int) -> socket.socket:
    """The other node may not be known yet."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        try:
            return dial_by_proxy(proxy, "beta", port)
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def send_all(client: socket.socket, total: int, server: Server) -> float:
    """Gbit/s from the first byte sent to the last one counted."""
    server.done.clear()
    chunk = memoryview(os.urandom(CHUNK_BYTES))
    started_at, left = time.perf_counter(), total
    while left:
        left -= client.send(chunk[: min(left, CHUNK_BYTES)])
    client.shutdown(socket.SHUT_WR)
    if not server.done.wait(300) or server.received != total:
        raise SystemExit(f"{server.received} of {total} bytes arrived")
    client.close()
    return total * 8 / (server.ended_at - started_at) / 1e9


def latencies(client: socket.socket) -> list[float]:
    """Round trips of a request and its answer, in milliseconds."""
    found, request = [], os.urandom(REQUEST_BYTES)
    for _ in range(LATENCY_REQUESTS):
        started_at = time.perf_counter()
        client.sendall(request)
        left = REQUEST_BYTES
        while left:
            left -= len(client.recv(left))
        found.append((time.perf_counter() - started_at) * 1e3)
    client.close()
    return sorted(found)


def report_latency(name: str, found: list[float]) -> None:
    p50, p99 = found[len(found) // 2], found[len(found) * 99 // 100]
    print(f"{name}: 1 KiB request and answer: p50 {p50:.2f} ms, p99 {p99:.2f} ms")


@contextlib.contextmanager
def nodes(*, relayed: bool) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str], tuple[str, int]]]:
    """Coordinator, relay, two nodes; gives both nodes' processes and alpha's proxy."""
    with contextlib.ExitStack() as stack:
        _, (url, key) = start(["coordinator"], stack)
        extra = ["--relayed"] if relayed else []
        beta, _ = start(["node", "--url", url, "--key", key, "--name", "beta", *extra], stack)
        alpha, (proxy,) = start(["node", "--url", url, "--key", key, "--name", "alpha", *extra], stack)
        host, _, port = proxy.rpartition(":")
        yield alpha, beta, (host, int(port))


def measure(options: argparse.Namespace) -> None:
    total = options.megabytes * 1024 * 1024
    server = Server()
    name = "relayed" if options.relayed else "direct"
    with nodes(relayed=options.relayed) as (alpha, beta, proxy):
        if options.latency:
            echo = Server(echoes=True)
            latencies(dial_patiently(proxy, echo.port))
            report_latency(name, latencies(dial_patiently(proxy, echo.port)))
        send_all(dial_patiently(proxy, server.port), 16 * 1024 * 1024, server)  # paths settle, buffers grow
        rounds = []
        for number in range(options.rounds):
            client = dial_patiently(proxy, server.port)
            before = cpu_seconds(alpha), cpu_seconds(beta)
            speed = send_all(client, total, server)
            gib = total / 2**30
            spent = (cpu_seconds(alpha) - before[0]) / gib, (cpu_seconds(beta) - before[1]) / gib
            rounds.append(Round(speed, *spent))
            print(f"{name} {number + 1}: {speed:.2f} Gbit/s, CPU s/GiB: alpha {spent[0]:.2f}, beta {spent[1]:.2f}")
            if options.kernel:
                plain = send_all(socket.create_connection(("127.0.0.1", server.port)), total, server)
                print(f"kernel {number + 1}: {plain:.2f} Gbit/s")
        speed = statistics.median(each.gbit_per_s for each in rounds)
        sender = statistics.median(each.sender_cpu_s_per_gib for each in rounds)
        receiver = statistics.median(each.receiver_cpu_s_per_gib for each in rounds)
        print(f"{name} median: {speed:.2f} Gbit/s, CPU s/GiB: alpha {sender:.2f}, beta {receiver:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", nargs="?", default="measure", choices=("measure", "coordinator", "node"))
    parser.add_argument("--relayed", action="store_true", help="no direct path: everything by the relay")
    parser.add_argument("--kernel", action="store_true", help="plain loopback TCP in the same run")
    parser.add_argument("--latency", action="store_true", help="1 KiB requests and answers as well")
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    parser.add_argument("--key", default="", help=argparse.SUPPRESS)
    parser.add_argument("--name", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "measure":
        measure(options)
        return
    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        if options.role == "node":
            uvloop.run(be_node(options.url, options.key, options.name, relayed=options.relayed))
        else:
            uvloop.run(be_coordinator())


if __name__ == "__main__":
    main()

"""How fast the whole way is: SOCKS5 → node → node → local server, all on this machine.

    python -m bench.throughput [--relayed] [--megabytes 512] [--rounds 5] [--kernel]
                               [--latency] [--streams 8] [--connections 1000]

Starts coordinator and relay in one process and two nodes in two more; clients and servers are threads of this one. Each
round moves one stream, and reports goodput and the CPU seconds that a GiB costs each node; the medians are the result.

| Option | Also measured |
|---|---|
| `--kernel` | the same transfer over plain loopback TCP, in turns with ours |
| `--latency` | a kept connection's requests and answers of 1 KiB |
| `--streams` | so many streams at once for three seconds: goodput together, and Jain's fairness index |
| `--connections` | so many connections, eight at a time, each with one HTTP GET |
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
from dataclasses import dataclass

from bench.lab import cpu_seconds, nodes
from bench.traffic import (
    Echo,
    Proxy,
    Sink,
    Web,
    connections_per_s,
    dial_patiently,
    fairness,
    get_page,
    latencies,
    send_all,
    send_side_by_side,
)

WARM_UP_BYTES = 16 << 20  # until paths have settled and buffers have grown
STREAMS_S = 3.0


@dataclass(frozen=True, slots=True)
class Round:
    """One transfer."""

    gbit_per_s: float
    sender_cpu_s_per_gib: float
    receiver_cpu_s_per_gib: float

    def __str__(self) -> str:
        sender, receiver = self.sender_cpu_s_per_gib, self.receiver_cpu_s_per_gib
        return f"{self.gbit_per_s:.2f} Gbit/s, CPU s/GiB: alpha {sender:.2f}, beta {receiver:.2f}"


class Lab:
    """Both nodes' processes, alpha's proxy, and what to call the results."""

    def __init__(self, name: str, alpha: subprocess.Popen[str], beta: subprocess.Popen[str], proxy: Proxy) -> None:
        self.name, self.alpha, self.beta, self.proxy = name, alpha, beta, proxy

    def measure_stream(self, total: int, rounds: int, *, with_kernel: bool) -> None:
        sink = Sink()
        send_all(dial_patiently(self.proxy, sink.port), WARM_UP_BYTES)
        found = []
        for number in range(1, rounds + 1):
            found.append(self._one_round(sink, total))
            print(f"{self.name} {number}: {found[-1]}")
            if with_kernel:
                plain = send_all(socket.create_connection(("127.0.0.1", sink.port)), total)
                print(f"kernel {number}: {plain:.2f} Gbit/s")
        columns = zip(
            *((each.gbit_per_s, each.sender_cpu_s_per_gib, each.receiver_cpu_s_per_gib) for each in found), strict=True
        )
        print(f"{self.name} median: {Round(*map(statistics.median, columns))}")

    def _one_round(self, sink: Sink, total: int) -> Round:
        client = dial_patiently(self.proxy, sink.port)
        before = cpu_seconds(self.alpha), cpu_seconds(self.beta)
        speed = send_all(client, total)
        return Round(speed, *self._cpu_per(total / 2**30, before))

    def _cpu_per(self, units: float, before: tuple[float, float]) -> tuple[float, float]:
        """CPU seconds of alpha and beta since `before`, a unit of work."""
        return (cpu_seconds(self.alpha) - before[0]) / units, (cpu_seconds(self.beta) - before[1]) / units

    def measure_latency(self) -> None:
        echo = Echo()
        latencies(dial_patiently(self.proxy, echo.port))
        found = latencies(dial_patiently(self.proxy, echo.port))
        p50, p99 = found[len(found) // 2], found[len(found) * 99 // 100]
        print(f"{self.name}: 1 KiB request and answer: p50 {p50:.2f} ms, p99 {p99:.2f} ms")

    def measure_streams(self, count: int) -> None:
        before = cpu_seconds(self.alpha), cpu_seconds(self.beta)
        speed, shares = send_side_by_side(self.proxy, Sink().port, count, STREAMS_S)
        found = Round(speed, *self._cpu_per(sum(shares) / 2**30, before))
        print(f"{self.name}: {count} streams together: {found}; Jain {fairness(shares):.3f}")

    def measure_connections(self, count: int) -> None:
        web = Web()
        dial_patiently(self.proxy, web.port).close()
        get_page(self.proxy, web.port)
        before = cpu_seconds(self.alpha), cpu_seconds(self.beta)
        rate = connections_per_s(self.proxy, web.port, count)
        alpha, beta = self._cpu_per(count / 1e6, before)
        print(f"{self.name}: {rate:.0f} connections per second, CPU µs each: alpha {alpha:.0f}, beta {beta:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--relayed", action="store_true", help="no direct path: everything by the relay")
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kernel", action="store_true")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--streams", type=int, default=0)
    parser.add_argument("--connections", type=int, default=0)
    options = parser.parse_args()
    with nodes(relayed=options.relayed) as (alpha, beta, proxy):
        lab = Lab("relayed" if options.relayed else "direct", alpha, beta, proxy)
        if options.latency:
            lab.measure_latency()
        if options.rounds:
            lab.measure_stream(options.megabytes << 20, options.rounds, with_kernel=options.kernel)
        if options.streams:
            lab.measure_streams(options.streams)
        if options.connections:
            lab.measure_connections(options.connections)


if __name__ == "__main__":
    main()

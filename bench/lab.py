"""Coordinator, relay and two nodes as processes of their own, for measurements: `with nodes(relayed=False) as …`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).resolve().parent.parent


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
        [sys.executable, "-m", "bench.lab", *arguments],
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


def main() -> None:
    """One process of the lab."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("coordinator", "node"))
    parser.add_argument("--relayed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    parser.add_argument("--key", default="", help=argparse.SUPPRESS)
    parser.add_argument("--name", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        if options.role == "node":
            uvloop.run(be_node(options.url, options.key, options.name, relayed=options.relayed))
        else:
            uvloop.run(be_coordinator())


if __name__ == "__main__":
    main()

"""Two nodes exchange bytes through SOCKS5: all of them, unchanged, both ways at once, whatever restarts meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.system.processes import NodeProcess, Server, wait_for
from tests.system.transfers import Duplex, EchoServer, Sink, echo_once, expected, socks_connect, wanted_bytes

Pair = Callable[..., tuple[NodeProcess, NodeProcess]]
RESTART_RATE = 16e6  # bytes/s: slow enough that restarts happen in the middle of 64 MiB

pytestmark = pytest.mark.slow


def begin(alpha: NodeProcess, beta: NodeProcess, *, count: int, bytes_per_s: float = 0.0) -> tuple[Sink, Duplex]:
    sink = Sink(seed=2, count=count, bytes_per_s=bytes_per_s)
    connection = socks_connect(alpha.proxy_port, beta.addresses[0], sink.port)
    return sink, Duplex(connection, seed=1, count=count, bytes_per_s=bytes_per_s)


def assert_complete(sink: Sink, near: Duplex, count: int) -> None:
    received = near.finish()
    far = sink.accepted[0].finish()
    sink.close()
    assert received == expected(2, count)
    assert far == expected(1, count)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("relayed", [False, True], ids=["direct", "relayed"])
def test_every_byte_arrives_both_ways_at_once(pair: Pair, server: Server, relayed: bool) -> None:
    count = wanted_bytes()
    alpha, beta = pair(relayed=relayed)
    started_at = time.monotonic()
    sink, near = begin(alpha, beta, count=count)
    received = near.finish(550)
    far = sink.accepted[0].finish(10)
    elapsed_s = time.monotonic() - started_at
    print(f"\n{2 * count / 2**20:.0f} MiB in {elapsed_s:.1f} s: {16 * count / elapsed_s / 1e6:.0f} Mbit/s both ways")
    assert received == expected(2, count)
    assert far == expected(1, count)
    assert bool(alpha.peer("beta")["CurAddr"]) is not relayed
    for process in (alpha, beta, server):
        process.assert_clean_log()
        print(process.name, f"{process.rss_bytes / 2**20:.0f} MiB")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("relayed", [False, True], ids=["direct", "relayed"])
def test_a_transfer_survives_the_death_of_relay_and_coordinator(pair: Pair, server: Server, relayed: bool) -> None:
    count = wanted_bytes()
    alpha, beta = pair(relayed=relayed)
    before = alpha.addresses, beta.addresses
    echo = EchoServer()
    sink, near = begin(alpha, beta, count=count, bytes_per_s=max(RESTART_RATE, count / 60))
    wait_for("the transfer is under way", lambda: near.received_bytes > count // 8)

    server.kill()
    at_kill = near.received_bytes
    if not relayed:
        wait_for("the transfer goes on without the server", lambda: near.received_bytes > at_kill + count // 16)
        echo_once(alpha.proxy_port, "beta", echo.port)
        echo_once(beta.proxy_port, "alpha", echo.port)
    else:
        time.sleep(1.0)
    assert near.received_bytes < count, "the transfer was over before the server came back"
    server.start()

    assert_complete(sink, near, count)
    wait_for(
        "the coordinator sees both", lambda: all(device["connectedToControl"] for device in server.devices().values())
    )
    for node, addresses in zip((alpha, beta), before, strict=True):
        node.wait_running()
        assert node.addresses == addresses
    echo_once(alpha.proxy_port, "beta", echo.port)
    for process in (alpha, beta, server):
        process.assert_clean_log()

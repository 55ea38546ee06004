"""Garbage, half-open connections and slow readers on every port: processes stay up, small and quiet."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.conftest import Machine
from tests.system.processes import LOOPBACK, SOCKET_NAME, NodeProcess, Server, TailboxProcess
from tests.system.transfers import EchoServer, echo_once, socks_connect

pytestmark = pytest.mark.slow
SEED = 4711
HALF_OPEN = 300
MAX_GROWTH_BYTES = 48 * 1024 * 1024  # of resident memory in one test, hundreds of connections included
MAX_STREAMS_GROWTH_MIB = 128  # for sixteen streams, at either end
REACTS_WITHIN_S = 3.0


@dataclass(slots=True)
class Target:
    """A running tailnet, and how big its processes were before."""

    server: Server
    alpha: NodeProcess
    beta: NodeProcess
    echo: EchoServer

    @property
    def processes(self) -> tuple[TailboxProcess, ...]:
        return self.server, self.alpha, self.beta

    def assert_well(self, before: dict[str, int]) -> None:
        started_at = time.monotonic()
        assert self.server.is_healthy()
        for node in (self.alpha, self.beta):
            assert node.status()["BackendState"] == "Running"
        echo_once(self.alpha.proxy_port, "beta", self.echo.port)
        assert time.monotonic() - started_at < REACTS_WITHIN_S
        for process in self.processes:
            process.assert_clean_log()
            grown = process.rss_bytes - before[process.name]
            assert grown < MAX_GROWTH_BYTES, f"{process.name} grew by {grown / 2**20:.0f} MiB"

    def sizes(self) -> dict[str, int]:
        return {process.name: process.rss_bytes for process in self.processes}


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    directory = Path(tempfile.mkdtemp(prefix="tbs", dir="/tmp"))
    directory.chmod(0o755)
    machine = Machine(directory)
    server = machine.server()
    server.start()
    key = server.create_key()["key"]
    alpha, beta = machine.node("alpha", server), machine.node("beta", server)
    for node in (alpha, beta):
        node.start(key)
    echo = EchoServer()
    alpha.wait_path(beta, direct=True)
    echo_once(alpha.proxy_port, "beta", echo.port)
    yield Target(server, alpha, beta, echo)
    machine.stop()
    echo.close()
    shutil.rmtree(directory, ignore_errors=True)


Connect = Callable[[Target], socket.socket]


def tcp(port: Callable[[Target], int]) -> Connect:
    return lambda target: socket.create_connection((LOOPBACK, port(target)), timeout=5)


def local_api(target: Target) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX)
    opened.settimeout(5)
    opened.connect(str(target.alpha.directory / SOCKET_NAME))
    return opened


STREAM_PORTS: dict[str, Connect] = {
    "http": tcp(lambda target: target.server.port),
    "tls": tcp(lambda target: target.server.tls_port),
    "socks": tcp(lambda target: target.alpha.proxy_port),
    "localapi": local_api,
}
DATAGRAM_PORTS: dict[str, Callable[[Target], int]] = {
    "stun": lambda target: target.server.stun_port,
    "wireguard": lambda target: target.alpha.udp_port,
}
DATAGRAM_HEADS = (
    b"",
    b"\x01\x00\x00\x00",  # WireGuard message types
    b"\x02\x00\x00\x00",
    b"\x03\x00\x00\x00",
    b"\x04\x00\x00\x00",
    "TS💬".encode(),  # disco
    b"\x00\x01\x00\x08\x21\x12\xa4\x42",  # STUN binding request
    b"\x01\x01\x00\x0c\x21\x12\xa4\x42",  # and its answer
)
HOST = b"Host: 127.0.0.1\r\n"
NOISE = random.Random(SEED).randbytes(4096)
HOSTILE_STREAMS: dict[str, bytes] = {
    "TLS hello, then garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + NOISE,
    "a header without end": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 400_000,
    "ten thousand headers": b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X%d: y\r\n" % i for i in range(10_000)),
    "a path without end": b"GET /" + b"a" * 400_000,
    "negative length": b"POST /key HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    "vast length": b"POST /machine/map HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\n{",
    "two lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
    "bad chunks": b"POST /api/v2/tailnet/-/keys HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n",
    "bad escapes": b"GET /%ff%fe%00/../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n",
    "upgrade to relay, then garbage": b"GET /derp HTTP/1.1\r\n"
    + HOST
    + b"Upgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
    + NOISE,
    "upgrade to control, then garbage": b"POST /ts2021 HTTP/1.1\r\n"
    + HOST
    + b"Upgrade: tailscale-control-protocol\r\nConnection: upgrade\r\nX-Tailscale-Handshake: AAAA\r\n\r\n"
    + NOISE,
    "bad handshake header": b"POST /ts2021 HTTP/1.1\r\n"
    + HOST
    + b"Upgrade: tailscale-control-protocol\r\nConnection: upgrade\r\nX-Tailscale-Handshake: \xff\xff!\r\n\r\n",
    "WebSocket, then garbage": b"GET /derp HTTP/1.1\r\n"
    + HOST
    + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: derp\r\n\r\n"
    + NOISE,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + NOISE,
    "SOCKS4": b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00",
    "SOCKS5 without methods": b"\x05\x00",
    "SOCKS5 with a password nobody asked for": b"\x05\x01\x02\x01\xff" + b"a" * 300,
    "SOCKS5 BIND": b"\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50",
    "SOCKS5 with an empty name": b"\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50",
    "SOCKS5 with a binary name": b"\x05\x01\x00\x05\x01\x00\x03\x04\xff\x00\xfe\x2e\x00\x50",
    "SOCKS5 to port 0": b"\x05\x01\x00\x05\x01\x00\x03\x04beta\x00\x00",
    "CONNECT nowhere": b"CONNECT :::: HTTP/1.1\r\n\r\n",
    "CONNECT to a bad port": b"CONNECT beta:99999 HTTP/1.1\r\n\r\n",
    "absolute form of a bad scheme": b"GET gopher://beta/ HTTP/1.1\r\nHost: beta\r\n\r\n",
}


def pour(opened: socket.socket, data: bytes, *, listen_s: float = 0.05) -> bytes:
    """Send all, say no more, and take what comes."""
    heard = b""
    with opened, contextlib.suppress(OSError):
        opened.sendall(data)
        opened.settimeout(listen_s)
        while len(heard) < 1 << 20 and (piece := opened.recv(65536)):
            heard += piece
    return heard


@pytest.mark.parametrize("port", STREAM_PORTS)
def test_random_bytes_harm_no_stream_port(target: Target, port: str) -> None:
    chance, before = random.Random(SEED), target.sizes()
    for _ in range(100):
        with contextlib.suppress(OSError):
            pour(STREAM_PORTS[port](target), chance.randbytes(chance.choice((1, 5, 40, 700, 20_000))), listen_s=0.005)
    target.assert_well(before)


@pytest.mark.parametrize("port", STREAM_PORTS)
def test_malformed_requests_harm_no_stream_port(target: Target, port: str) -> None:
    before = target.sizes()
    for data in HOSTILE_STREAMS.values():
        pour(STREAM_PORTS[port](target), data)
        pour(STREAM_PORTS[port](target), data[: len(data) // 2], listen_s=0.01)
    target.assert_well(before)


@pytest.mark.parametrize("port", DATAGRAM_PORTS)
def test_random_datagrams_get_no_answer_and_do_no_harm(target: Target, port: str) -> None:
    chance, before = random.Random(SEED), target.sizes()
    answers = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.connect((LOOPBACK, DATAGRAM_PORTS[port](target)))
        opened.settimeout(0.2)
        for number in range(4000):
            size = chance.choice((0, 1, 19, 20, 28, 62, 92, 116, 148, 1200))
            opened.send(DATAGRAM_HEADS[number % len(DATAGRAM_HEADS)] + chance.randbytes(size))
        with contextlib.suppress(TimeoutError):
            while opened.recv(2000):
                answers += 1
    assert answers == 0
    target.assert_well(before)


@pytest.mark.parametrize("port", STREAM_PORTS)
@pytest.mark.parametrize(
    "start", [b"", b"\x05", b"GET / HTTP/1.1\r\nX:", b"\x16\x03\x01"], ids=["nothing", "5", "get", "tls"]
)
def test_hundreds_of_half_open_connections_cost_little(target: Target, port: str, start: bytes) -> None:
    before = target.sizes()
    held = []
    try:
        for _ in range(HALF_OPEN):
            with contextlib.suppress(OSError):
                held.append(STREAM_PORTS[port](target))
                held[-1].sendall(start)
        target.assert_well(before)
    finally:
        for opened in held:
            opened.close()
    target.assert_well(before)


@pytest.mark.parametrize("at_once", [20, 500])
@pytest.mark.parametrize("path", ["/metrics", "/api/docs", "/"])
def test_readers_that_never_read_fill_no_memory(target: Target, path: str, at_once: int) -> None:
    """Few requests wait, and one answer is held back; many at once break the connection."""
    before = target.sizes()
    request = f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n".encode() * at_once
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(STREAM_PORTS["http"](target)) for _ in range(40)]
        for opened in held * 5:
            opened.setblocking(False)
            with contextlib.suppress(OSError):
                opened.send(request)
        time.sleep(0.3)
        target.assert_well(before)
    target.assert_well(before)


def test_streams_through_the_tunnel_that_nobody_reads_fill_no_memory(target: Target) -> None:
    """Bytes for a server that accepts and never reads: what waits is bounded on every hop."""
    before = target.sizes()
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server((LOOPBACK, 0), backlog=64))
        port = int(listening.getsockname()[1])
        held = [stack.enter_context(socks_connect(target.alpha.proxy_port, "beta", port)) for _ in range(16)]
        deadline, sent = time.monotonic() + 2, 0
        while time.monotonic() < deadline:
            for opened in held:
                opened.setblocking(False)
                with contextlib.suppress(OSError):
                    sent += opened.send(b"x" * 262_144)
            time.sleep(0.01)
        grown = {process.name: (process.rss_bytes - before[process.name]) / 2**20 for process in target.processes}
        print(f"{sent / 2**20:.0f} MiB taken, grown by MiB: {grown}")
        assert target.server.is_healthy()
        echo_once(target.alpha.proxy_port, "beta", target.echo.port)
        assert max(grown.values()) < MAX_STREAMS_GROWTH_MIB
    for process in target.processes:
        process.assert_clean_log()

"""curl, dig and iperf3 through the proxy of a node, to servers behind another."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.system.processes import LOOPBACK, NodeProcess, Server, free_port, wait_for
from tests.system.transfers import destination, socks_connect

pytestmark = pytest.mark.interop
PAGE = b"a page behind the other node\n" * 5000
SERVICE_ADDRESSES = ("100.100.100.100", "fd7a:115c:a1e0::53")


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def run(*command: str, data: bytes | None = None) -> str:
    done: subprocess.CompletedProcess[bytes] = subprocess.run(command, input=data, capture_output=True, timeout=40)
    output = done.stdout.decode()
    assert done.returncode == 0, (command, done.stderr.decode(), output[-2000:])
    return output


class Page(BaseHTTPRequestHandler):
    """GET gives PAGE, POST what was sent."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(PAGE)

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Target:
    """Two nodes, and a web server behind the second."""

    alpha: NodeProcess
    beta: NodeProcess
    port: int

    @property
    def proxy(self) -> str:
        return f"{LOOPBACK}:{self.alpha.proxy_port}"

    def host(self, kind: str) -> str:
        ipv4, ipv6 = self.beta.addresses
        full_name = str(self.alpha.peer("beta")["DNSName"]).rstrip(".")
        return {"short name": "beta", "full name": full_name, "IPv4": ipv4, "IPv6": f"[{ipv6}]"}[kind]


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    directory = Path(tempfile.mkdtemp(prefix="tbi", dir="/tmp"))
    directory.chmod(0o755)
    server = Server(directory / "server")
    alpha, beta = (NodeProcess(name, directory / name, server.url) for name in ("alpha", "beta"))
    web = ThreadingHTTPServer((LOOPBACK, 0), Page)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        server.start()
        key = server.create_key()["key"]
        for node in (alpha, beta):
            node.start(key)
        alpha.wait_path(beta, direct=True)
        yield Target(alpha, beta, int(web.server_address[1]))
    finally:
        for process in (alpha, beta, server):
            process.kill()
        web.shutdown()
        web.server_close()
        shutil.rmtree(directory, ignore_errors=True)


HOSTS = ("short name", "full name", "IPv4", "IPv6")


@needs("curl")
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("scheme", ["socks5h", "http"])
def test_curl_fetches_and_posts(target: Target, scheme: str, host: str) -> None:
    url = f"http://{target.host(host)}:{target.port}/"
    curl = partial(run, "curl", "--silent", "--show-error", "--fail", "--max-time", "20", "--noproxy", "")
    assert curl("--proxy", f"{scheme}://{target.proxy}", url).encode() == PAGE
    sent = "x" * 300_000
    got = curl("--proxy", f"{scheme}://{target.proxy}", "--data-binary", "@-", url, data=sent.encode())
    assert got == sent


@needs("curl")
@pytest.mark.parametrize("host", HOSTS)
def test_curl_tunnels_by_connect(target: Target, host: str) -> None:
    url = f"http://{target.host(host)}:{target.port}/"
    command = ("curl", "--silent", "--show-error", "--fail", "--proxytunnel", "--proxy", f"http://{target.proxy}")
    assert run(*command, "--noproxy", "", "--max-time", "20", url, url).encode() == PAGE * 2


@needs("curl")
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "http"])
def test_curl_is_told_of_what_does_not_work(target: Target, scheme: str) -> None:
    closed = free_port()
    for url in (f"http://{target.host('IPv4')}:{closed}/", "http://100.64.77.77/"):
        command = [
            "curl",
            "--silent",
            "--fail",
            "--max-time",
            "20",
            "--noproxy",
            "",
            "--proxy",
            f"{scheme}://{target.proxy}",
        ]
        done = subprocess.run([*command, url], capture_output=True, timeout=30)
        assert done.returncode in (7, 22, 52, 97), (url, done)  # refused, HTTP error, empty answer, proxy error


class DatagramForwarder:
    """A UDP port for programs that know no proxies: datagrams go through a SOCKS5 association, and answers back."""

    def __init__(self, proxy_port: int, host: str, port: int) -> None:
        self._control = socket.create_connection((LOOPBACK, proxy_port), timeout=10)
        self._control.sendall(b"\x05\x01\x00")
        assert self._control.recv(2) == b"\x05\x00"
        self._control.sendall(b"\x05\x03\x00\x01" + bytes(6))
        reply = self._control.recv(64)
        assert reply[1] == 0
        self._relay = (socket.inet_ntoa(reply[4:8]), struct.unpack(">H", reply[8:10])[0])
        self._head = b"\x00\x00\x00" + destination(host) + struct.pack(">H", port)
        self._outer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._outer.bind((LOOPBACK, 0))
        self.port = int(self._outer.getsockname()[1])
        self._inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._inner.settimeout(10)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, client = self._outer.recvfrom(65535)
                if not query:
                    return
                self._inner.sendto(self._head + query, self._relay)
                answer = self._inner.recv(65535)
                skipped = {1: 10, 4: 22}[answer[3]]
                self._outer.sendto(answer[skipped:], client)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", (LOOPBACK, self.port))
        self._thread.join(12)
        for opened in (self._control, self._outer, self._inner):
            opened.close()


class StreamForwarder:
    """The same for TCP: every connection becomes one through the proxy."""

    def __init__(self, proxy_port: int, host: str, port: int) -> None:
        self._far = (proxy_port, host, port)
        self._listening = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        """One after the other: iperf3 tells its streams apart by the order in which they arrive."""
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                try:
                    far = socks_connect(*self._far)
                except OSError:
                    near.close()
                    continue
                threading.Thread(target=self._serve, args=(near, far), daemon=True).start()

    def _serve(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            far.settimeout(60)
            back = threading.Thread(target=self._copy, args=(far, near), daemon=True)
            back.start()
            self._copy(near, far)
            back.join(60)

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 18):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listening.close()


@needs("dig")
@pytest.mark.parametrize("service", SERVICE_ADDRESSES)
@pytest.mark.parametrize("over_tcp", [False, True], ids=["udp", "tcp"])
def test_dig_asks_magic_dns(target: Target, service: str, over_tcp: bool) -> None:
    ipv4, ipv6 = target.beta.addresses
    full_name = target.host("full name")
    forwarder: DatagramForwarder | StreamForwarder
    forwarder = (StreamForwarder if over_tcp else DatagramForwarder)(target.alpha.proxy_port, service, 53)
    dig = partial(
        run, "dig", f"@{LOOPBACK}", "-p", str(forwarder.port), "+tries=1", "+time=8", *["+tcp"][: int(over_tcp)]
    )
    try:
        assert dig("+short", full_name, "A").split() == [ipv4]
        assert dig("+short", "-x", ipv4).split() == [full_name + "."]
        assert dig("+short", "-x", ipv6).split() == [full_name + "."]
        assert "status: NOERROR" in dig(full_name, "AAAA")
        suffix = full_name.partition(".")[2]
        missing = dig(f"nobody.{suffix}", "A")
        assert "status: NXDOMAIN" in missing
        assert re.search(r"flags: qr aa? ?rd", missing), missing
        assert "malformed" not in missing.lower()
    finally:
        forwarder.close()


@needs("iperf3")
@pytest.mark.parametrize("flags", [(), ("--reverse",), ("--bidir",)], ids=["up", "down", "both"])
def test_iperf3_measures_through_the_tunnel(target: Target, flags: tuple[str, ...]) -> None:
    port = free_port()
    server = subprocess.Popen(
        ["iperf3", "--server", "--bind", LOOPBACK, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    forwarder = StreamForwarder(target.alpha.proxy_port, "beta", port)
    try:
        wait_for("iperf3 listens", lambda: is_open(port))
        command = ("iperf3", "--client", LOOPBACK, "--port", str(forwarder.port), "--time", "1", "--json", *flags)
        report = json.loads(run(*command))
    finally:
        server.terminate()
        server.wait()
        forwarder.close()
    assert "error" not in report
    for way in ["sum_received", *(["sum_received_bidir_reverse"] if "--bidir" in flags else [])]:
        received = report["end"][way]
        print(f"{way}: {received['bits_per_second'] / 1e6:.0f} Mbit/s")
        assert received["bytes"] > 1_000_000


def is_open(port: int) -> bool:
    """Read from /proc, since a connection would be iperf3's test."""
    return f"0100007F:{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()

"""Clients and servers for measurements, as threads of the measuring process: bulk, requests, connections."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

CHUNK_BYTES = 256 * 1024
SETTLE_S = 20.0
TIMEOUT_S = 300.0
LATENCY_REQUESTS = 1000
REQUEST_BYTES = 1024
CONNECTING_CLIENTS = 8  # at once
HTTP_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"

Proxy = tuple[str, int]


class Server:
    """Takes connections on a port of its own, each in a thread."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve_quietly, args=(client,), daemon=True).start()

    def _serve_quietly(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            self.serve(client)

    def serve(self, client: socket.socket) -> None:
        """Talk to one client."""
        raise NotImplementedError


class Sink(Server):
    """Counts what it gets, and says how much that was when the client has said everything."""

    def serve(self, client: socket.socket) -> None:
        buffer, received = bytearray(4 * CHUNK_BYTES), 0
        while count := client.recv_into(buffer):
            received += count
        client.sendall(received.to_bytes(8, "big"))


class Echo(Server):
    """Gives requests back."""

    def serve(self, client: socket.socket) -> None:
        while data := client.recv(65536):
            client.sendall(data)


class Web(Server):
    """Answers one GET."""

    def serve(self, client: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            data = client.recv(4096)
            if not data:
                return
            request += data
        client.sendall(HTTP_ANSWER)


def dial_by_proxy(proxy: Proxy, host: str, port: int) -> socket.socket:
    """SOCKS5 CONNECT. Raises ConnectionError."""
    client = socket.create_connection(proxy, timeout=TIMEOUT_S)
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


def dial_patiently(proxy: Proxy, port: int) -> socket.socket:
    """The other node may not be known yet."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        try:
            return dial_by_proxy(proxy, "beta", port)
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def send_all(client: socket.socket, total: int) -> float:
    """Send so much to a Sink; Gbit/s from the first byte sent until its count is back."""
    chunk = memoryview(os.urandom(CHUNK_BYTES))
    started_at, left = time.perf_counter(), total
    while left:
        left -= client.send(chunk[: min(left, CHUNK_BYTES)])
    client.shutdown(socket.SHUT_WR)
    answer = b""
    while len(answer) < 8 and (data := client.recv(8 - len(answer))):
        answer += data
    elapsed = time.perf_counter() - started_at
    client.close()
    received = int.from_bytes(answer, "big")
    if received != total:
        raise SystemExit(f"{received} of {total} bytes arrived")
    return total * 8 / elapsed / 1e9


def send_for(client: socket.socket, seconds: float) -> int:
    """Send to a Sink for so long; returns how many bytes arrived."""
    chunk, until = os.urandom(CHUNK_BYTES // 4), time.perf_counter() + seconds
    while time.perf_counter() < until:
        client.sendall(chunk)
    client.shutdown(socket.SHUT_WR)
    answer = client.recv(8, socket.MSG_WAITALL)
    client.close()
    return int.from_bytes(answer, "big")


def send_side_by_side(proxy: Proxy, port: int, streams: int, seconds: float) -> tuple[float, list[int]]:
    """Several streams at once: Gbit/s until the last byte is counted, and what each moved."""
    clients = [dial_patiently(proxy, port) for _ in range(streams)]
    with ThreadPoolExecutor(streams) as pool:
        started_at = time.perf_counter()
        shares = list(pool.map(send_for, clients, [seconds] * streams))
        return sum(shares) * 8e-9 / (time.perf_counter() - started_at), shares


def fairness(shares: list[int]) -> float:
    """Jain's index: 1 where all have the same, 1/n where one has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


def latencies(client: socket.socket) -> list[float]:
    """Round trips of a request and its answer by an Echo, in milliseconds, shortest first."""
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


def get_page(proxy: Proxy, port: int) -> None:
    """A connection of its own through the proxy, and one GET of a Web on it."""
    client = dial_by_proxy(proxy, "beta", port)
    client.sendall(b"GET / HTTP/1.1\r\nHost: beta\r\n\r\n")
    answer = b""
    while data := client.recv(4096):
        answer += data
    client.close()
    if answer != HTTP_ANSWER:
        raise SystemExit(f"an answer of {len(answer)} bytes, wanted {len(HTTP_ANSWER)}")


def connections_per_s(proxy: Proxy, port: int, count: int) -> float:
    """How many such connections a second a few clients get."""
    started_at = time.perf_counter()
    with ThreadPoolExecutor(CONNECTING_CLIENTS) as pool:
        list(pool.map(lambda _: get_page(proxy, port), range(count)))
    return count / (time.perf_counter() - started_at)

"""Bytes through SOCKS5 and back, checked by length and SHA-256 at the far end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

LOOPBACK = "127.0.0.1"
CHUNK_BYTES = 256 * 1024
DEFAULT_BYTES = 64 * 1024 * 1024


def wanted_bytes() -> int:
    """How much the transfer tests move each way."""
    return int(os.environ.get("TAILBOX_SYSTEM_BYTES", DEFAULT_BYTES))


@dataclass(frozen=True, slots=True)
class Received:
    """What arrived, or why it ended early."""

    count: int
    digest: str
    trouble: str = ""


def data(seed: int, count: int) -> Iterator[bytes]:
    """Reproducible bytes in which no two chunks are equal."""
    block = bytearray(random.Random(seed).randbytes(CHUNK_BYTES))
    for number in range(-(-count // CHUNK_BYTES)):
        struct.pack_into(">Q", block, 0, number)
        yield bytes(block[: min(CHUNK_BYTES, count - number * CHUNK_BYTES)])


def expected(seed: int, count: int) -> Received:
    digest = hashlib.sha256()
    for chunk in data(seed, count):
        digest.update(chunk)
    return Received(count, digest.hexdigest())


def socks_connect(proxy_port: int, host: str, port: int, *, timeout_s: float = 30.0) -> socket.socket:
    """SOCKS5 CONNECT by name or address. Raises ConnectionError with the reply code."""
    opened = socket.create_connection((LOOPBACK, proxy_port), timeout=timeout_s)
    try:
        opened.sendall(b"\x05\x01\x00")
        _expect(opened, 2)
        opened.sendall(b"\x05\x01\x00" + destination(host) + struct.pack(">H", port))
        head = _expect(opened, 4)
        rest = {1: 4, 4: 16}.get(head[3]) or _expect(opened, 1)[0]
        _expect(opened, rest + 2)
        if head[1]:
            raise ConnectionError(f"SOCKS5 reply {head[1]}")
    except BaseException:
        opened.close()
        raise
    return opened


def destination(host: str) -> bytes:
    """Address type and address of RFC 1928 §5."""
    try:
        ip = ip_address(host)
    except ValueError:
        return bytes((3, len(host))) + host.encode()
    return bytes((1 if ip.version == 4 else 4,)) + ip.packed


def _expect(opened: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = opened.recv(count - len(found))
        if not piece:
            raise ConnectionError("the proxy closed")
        found += piece
    return found


class Duplex:
    """Sends one stream and takes another on a connection, at the same time."""

    def __init__(self, connection: socket.socket, *, seed: int, count: int, bytes_per_s: float = 0.0) -> None:
        connection.settimeout(110)
        self._connection = connection
        self._bytes_per_s = bytes_per_s
        self.received_bytes = 0
        self.received = Received(0, "")
        self.send_trouble = ""
        self._threads = [
            threading.Thread(target=self._send, args=(seed, count), daemon=True),
            threading.Thread(target=self._receive, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def finish(self, timeout_s: float = 110.0) -> Received:
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._connection.close()
        trouble = "" if not any(thread.is_alive() for thread in self._threads) else f"stuck at {self.received_bytes}"
        if trouble or self.send_trouble:
            return Received(self.received.count, self.received.digest, trouble or self.send_trouble)
        return self.received

    def close(self) -> None:
        """Break it off."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self.finish(5)

    def _send(self, seed: int, count: int) -> None:
        started_at, sent = time.monotonic(), 0
        try:
            for chunk in data(seed, count):
                self._connection.sendall(chunk)
                sent += len(chunk)
                if self._bytes_per_s:
                    time.sleep(max(0.0, started_at + sent / self._bytes_per_s - time.monotonic()))
            self._connection.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.send_trouble = f"sending: {error!r} after {sent}"

    def _receive(self) -> None:
        digest, buffer, trouble = hashlib.sha256(), memoryview(bytearray(CHUNK_BYTES)), ""
        try:
            while got := self._connection.recv_into(buffer):
                digest.update(buffer[:got])
                self.received_bytes += got
        except OSError as error:
            trouble = f"receiving: {error!r}"
        self.received = Received(self.received_bytes, digest.hexdigest(), trouble)


class Sink:
    """A TCP server on loopback: every connection is one Duplex."""

    def __init__(self, *, seed: int, count: int, bytes_per_s: float = 0.0, host: str = LOOPBACK) -> None:
        self._listening = socket.create_server((host, 0))
        self.port = int(self._listening.getsockname()[1])
        self._settings = (seed, count, bytes_per_s)
        self.accepted: list[Duplex] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        seed, count, bytes_per_s = self._settings
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.accepted.append(Duplex(connection, seed=seed, count=count, bytes_per_s=bytes_per_s))

    def close(self) -> None:
        self._listening.close()
        for duplex in self.accepted:
            duplex.close()


class EchoServer:
    """Answers every connection with what it sends, until it stops sending."""

    def __init__(self) -> None:
        self._listening = socket.create_server((LOOPBACK, 0), backlog=512)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                connection.sendall(piece)

    def close(self) -> None:
        self._listening.close()


def echo_once(proxy_port: int, host: str, port: int, message: bytes = b"tailnet", *, timeout_s: float = 15.0) -> float:
    """Seconds for connection, message and answer. Raises OSError, AssertionError."""
    started_at = time.monotonic()
    with socks_connect(proxy_port, host, port, timeout_s=timeout_s) as connection:
        connection.sendall(message)
        assert _expect(connection, len(message)) == message
    return time.monotonic() - started_at

"""Upgrades in front of ASGI, over a real server on the loopback interface."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tailbox.runtime import upgrade
from tailbox.runtime.byte_stream import UNREAD_LIMIT_BYTES, ByteStream
from tailbox.runtime.service import Address, Listen, RunningServer, Service, serve
from tailbox.runtime.upgrade import UpgradeHandler, UpgradeRequest, accept, refuse

HEAD = b"POST /raw?x=1 HTTP/1.1\r\nHost: h\r\nUpgrade: Raw\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def serving(handler: UpgradeHandler) -> AsyncIterator[RunningServer]:
    async def page(request: Request) -> Response:
        return PlainTextResponse(f"asgi {request.method} {len(await request.body())}")

    service = Service("test", [Route("/raw", page, methods=["GET", "POST"])], {"/raw": handler})
    async with await serve([service], listen=[Listen(Address("127.0.0.1", 0))]) as server:
        yield server


class Peer:
    """A raw TCP client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read_all(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), 5)

    async def read_heads_for_ever(self) -> None:
        while True:
            await self.read_head()

    async def read_head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)


@asynccontextmanager
async def connected(server: RunningServer) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.address.port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass


async def echo(_request: UpgradeRequest, stream: ByteStream) -> None:
    stream.write(accept("Raw"))
    while data := await stream.read():
        stream.write(data)
        await stream.drain()


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
async def test_early_bytes_reach_the_handler_whatever_the_chunks(size: int) -> None:
    async with serving(echo) as server, connected(server) as peer:
        data = HEAD + b"early bytes"
        for start in range(0, len(data), size):
            peer.writer.write(data[start : start + size])
            await peer.writer.drain()
            await asyncio.sleep(0)
        assert (
            await peer.read_head() == b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: Raw\r\nConnection: Upgrade\r\n\r\n"
        )
        assert await peer.reader.readexactly(11) == b"early bytes"
        peer.writer.write(b"later")
        assert await peer.reader.readexactly(5) == b"later"


async def test_the_handler_sees_the_request() -> None:
    seen: list[UpgradeRequest] = []

    async def look(request: UpgradeRequest, stream: ByteStream) -> None:
        seen.append(request)
        stream.write(refuse(403, "no", {"X-Why": "test"}))

    async with serving(look) as server, connected(server) as peer:
        peer.writer.write(HEAD.replace(b"Host: h", b"Host: h\r\nX-Two: 1\r\nX-Two: 2"))
        answer = await peer.read_all()
        port = peer.writer.get_extra_info("sockname")[1]
    (request,) = seen
    assert (request.method, request.path, request.query, request.protocol) == ("POST", "/raw", "x=1", "raw")
    assert request.headers["x-two"] == "1, 2"
    assert (request.peer, request.is_tls) == (("127.0.0.1", port), False)
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"X-Why: test\r\n" in answer
    assert answer.endswith(b"\r\n\r\nno")


async def test_ordinary_requests_of_the_same_path_go_to_asgi() -> None:
    async with serving(echo) as server, connected(server) as peer:
        peer.writer.write(b"POST /raw HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
        assert b"200 OK" in await peer.read_head()
        assert await peer.reader.readexactly(11) == b"asgi POST 3"
        peer.writer.write(HEAD)  # the same connection may then upgrade, as behind a reverse proxy
        assert b" 101 " in await peer.read_head()


async def test_unregistered_paths_ignore_the_offer() -> None:
    async with serving(echo) as server, connected(server) as peer:
        peer.writer.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
        assert b"200 OK" in await peer.read_head()


async def test_a_websocket_without_a_key_is_a_raw_upgrade() -> None:
    async with serving(echo) as server, connected(server) as peer:
        peer.writer.write(HEAD.replace(b"Upgrade: Raw", b"Upgrade: WebSocket"))
        assert b" 101 " in await peer.read_head()


async def test_an_upgrade_with_a_body_is_refused() -> None:
    async with serving(echo) as server, connected(server) as peer:
        peer.writer.write(HEAD.replace(b"Content-Length: 0", b"Content-Length: 3") + b"abc")
        assert (await peer.read_all()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x00\xff" + bytes(50), b"nonsense\r\n\r\n", b"GET\r\n\r\n"])
async def test_garbage_is_answered_and_closed(data: bytes) -> None:
    async with serving(echo) as server:
        async with connected(server) as peer:
            peer.writer.write(data)
            assert (await peer.read_all()).startswith(b"HTTP/1.1 400 ")
        async with connected(server) as peer:
            peer.writer.write(HEAD)
            assert b" 101 " in await peer.read_head()


async def test_an_endless_head_is_refused() -> None:
    async with serving(echo) as server, connected(server) as peer:
        peer.writer.write(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000)
        try:
            assert (await peer.read_all()).startswith(b"HTTP/1.1 431 ")
        except ConnectionResetError:
            pass  # the kernel throws the answer away when unread data is left


async def test_a_pipeline_is_answered_in_order_up_to_a_limit_and_then_broken_off() -> None:
    request = b"GET /raw HTTP/1.1\r\nHost: h\r\n\r\n"
    async with serving(echo) as server:
        async with connected(server) as peer:
            peer.writer.write(request * upgrade.MAX_PIPELINED_REQUESTS)
            for _ in range(upgrade.MAX_PIPELINED_REQUESTS):
                assert b"200 OK" in await peer.read_head()
                assert await peer.reader.readexactly(10) == b"asgi GET 0"
        async with connected(server) as peer:
            peer.writer.write(request * 5000)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await peer.read_heads_for_ever()


async def test_a_head_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "HEAD_TIMEOUT_S", 0.1)
    async with serving(echo) as server, connected(server) as silent, connected(server) as slow:
        slow.writer.write(b"GET / HTTP/1.1\r\nHo")
        assert await silent.read_all() == await slow.read_all() == b""


async def test_a_failing_handler_is_logged_without_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_request: UpgradeRequest, stream: ByteStream) -> None:
        await stream.read()
        raise ValueError("a bug")

    async with serving(fail) as server, connected(server) as peer:
        with caplog.at_level(logging.ERROR):
            peer.writer.write(HEAD + b"secret")
            assert await peer.read_all() == b""
    assert "upgrade handler failed" in caplog.text
    assert "secret" not in caplog.text


async def test_what_is_written_before_the_end_arrives() -> None:
    async def send(_request: UpgradeRequest, stream: ByteStream) -> None:
        stream.write(accept("Raw"))
        stream.write(bytes(3_000_000))

    async with serving(send) as server, connected(server) as peer:
        peer.writer.write(HEAD)
        await peer.read_head()
        assert len(await peer.read_all()) == 3_000_000


async def test_a_reader_that_waits_slows_the_sender() -> None:
    may_read = asyncio.Event()
    most = 0

    async def dawdle(_request: UpgradeRequest, stream: ByteStream) -> None:
        nonlocal most
        stream.write(accept("Raw"))
        await may_read.wait()
        received = 0
        while received < 8_000_000:
            data = await stream.read()
            most = max(most, len(data))
            received += len(data)
        stream.write(b"all")

    async with serving(dawdle) as server, connected(server) as peer:
        peer.writer.write(HEAD)
        await peer.read_head()
        peer.writer.write(bytes(8_000_000))
        await asyncio.sleep(0.1)
        assert peer.writer.transport.get_write_buffer_size() > 0
        may_read.set()
        assert await asyncio.wait_for(peer.reader.readexactly(3), 10) == b"all"
    assert most <= UNREAD_LIMIT_BYTES + 256 * 1024  # one more chunk may have been on its way


async def test_a_writer_waits_for_a_peer_that_does_not_read() -> None:
    written = 0

    async def pour(_request: UpgradeRequest, stream: ByteStream) -> None:
        nonlocal written
        stream.write(accept("Raw"))
        while True:
            stream.write(bytes(65536))
            written += 65536
            await stream.drain()

    async with serving(pour) as server, connected(server) as peer:
        peer.writer.write(HEAD)
        await peer.read_head()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.2)
        stalled_at = written
        await asyncio.sleep(0.1)
        assert written == stalled_at
        started = asyncio.get_running_loop().time()
        await server.stop()
        assert asyncio.get_running_loop().time() - started < 2


async def test_a_receiver_is_called_with_each_chunk_and_with_the_end() -> None:
    chunks: list[bytes] = []
    ended = asyncio.Event()

    async def push(_request: UpgradeRequest, stream: ByteStream) -> None:
        def receive(data: bytes) -> None:
            chunks.append(data)
            stream.write(data)
            if not data:
                ended.set()

        stream.write(accept("Raw"))
        stream.set_receiver(receive)
        await stream.wait_closed()

    async with serving(push) as server:
        async with connected(server) as peer:
            peer.writer.write(HEAD + b"early")
            await peer.read_head()
            assert await peer.reader.readexactly(5) == b"early"
            peer.writer.write(b"later")
            assert await peer.reader.readexactly(5) == b"later"
        await asyncio.wait_for(ended.wait(), 5)
    assert chunks == [b"early", b"later", b""]


async def test_stopping_the_server_ends_streams_and_cancels_stubborn_handlers() -> None:
    ends: list[str] = []

    async def stubborn(_request: UpgradeRequest, stream: ByteStream) -> None:
        stream.write(accept("Raw"))
        try:
            while await stream.read():
                pass
            ends.append("end of data")
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async with serving(stubborn) as server, connected(server) as peer:
        peer.writer.write(HEAD)
        await peer.read_head()
        started = asyncio.get_running_loop().time()
        await server.stop()
        assert asyncio.get_running_loop().time() - started < 2
        assert await peer.read_all() == b""
    assert ends == ["end of data", "cancelled"]

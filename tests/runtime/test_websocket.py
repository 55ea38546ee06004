"""WebSockets as byte streams, server's and client's end against each other and against a library's client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tailbox.runtime.byte_stream import ByteStream
from tailbox.runtime.network import HostNetwork
from tailbox.runtime.service import Address, Listen, RunningServer, Service, serve
from tailbox.runtime.upgrade import UpgradeHandler, UpgradeRequest
from tailbox.runtime.websocket import MAX_MESSAGE_BYTES, websocket_route
from tailbox.runtime.websocket_client import WebSocketRefused, open_websocket


@asynccontextmanager
async def serving(handler: UpgradeHandler) -> AsyncIterator[RunningServer]:
    service = Service("test", [websocket_route("/raw", handler, subprotocol="raw")])
    async with await serve([service], listen=[Listen(Address("127.0.0.1", 0))]) as server:
        yield server


def url_of(server: RunningServer, path: str = "/raw?x=1") -> str:
    return f"ws://127.0.0.1:{server.address.port}{path}"


@asynccontextmanager
async def opened(server: RunningServer) -> AsyncIterator[ByteStream]:
    raw = await HostNetwork().connect_tcp("127.0.0.1", server.address.port)
    stream = await open_websocket(raw, url_of(server), subprotocol="raw")
    try:
        yield stream
    finally:
        stream.close()
        await stream.wait_closed()


async def echo(_request: UpgradeRequest, stream: ByteStream) -> None:
    stream.write(b"hello")
    while data := await stream.read():
        stream.write(data)
        await stream.drain()


async def read_exactly(stream: ByteStream, count: int) -> bytes:
    received = b""
    async with asyncio.timeout(20):
        while len(received) < count:
            received += await stream.read()
    return received


async def test_both_ends_carry_bytes_whatever_the_messages() -> None:
    async with serving(echo) as server, opened(server) as stream:
        assert await read_exactly(stream, 5) == b"hello"
        data = bytes(range(256)) * 2000
        stream.write(data)
        assert await read_exactly(stream, len(data)) == data


async def test_the_handler_sees_the_request() -> None:
    seen: list[UpgradeRequest] = []

    async def look(request: UpgradeRequest, stream: ByteStream) -> None:
        seen.append(request)
        assert stream.peer == request.peer

    async with serving(look) as server, opened(server) as stream:
        assert await stream.read() == b""
    assert (seen[0].path, seen[0].query, seen[0].protocol, seen[0].is_tls) == ("/raw", "x=1", "websocket", False)


async def test_messages_stay_below_what_gos_library_accepts() -> None:
    async with serving(echo) as server, connect(url_of(server), subprotocols=["raw"], proxy=None) as websocket:  # type: ignore[list-item]
        assert await websocket.recv() == b"hello"
        await websocket.send(bytes(100_000))
        received = 0
        while received < 100_000:
            message = await websocket.recv()
            assert len(message) <= MAX_MESSAGE_BYTES
            received += len(message)


async def test_a_text_message_closes_with_1003() -> None:
    async with serving(echo) as server, connect(url_of(server), subprotocols=["raw"], proxy=None) as websocket:  # type: ignore[list-item]
        assert await websocket.recv() == b"hello"
        await websocket.send("text")
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1003


@pytest.mark.parametrize(("path", "subprotocol"), [("/healthz", "raw"), ("/none", "raw")])
async def test_a_server_that_wants_no_websocket_is_an_error(path: str, subprotocol: str) -> None:
    async with serving(echo) as server:
        raw = await HostNetwork().connect_tcp("127.0.0.1", server.address.port)
        with pytest.raises(WebSocketRefused):
            await open_websocket(raw, url_of(server, path), subprotocol=subprotocol)
        raw.abort()


async def test_a_server_that_chooses_no_subprotocol_is_an_error() -> None:
    async with serving(echo) as server:
        raw = await HostNetwork().connect_tcp("127.0.0.1", server.address.port)
        with pytest.raises(WebSocketRefused):
            await open_websocket(raw, url_of(server), subprotocol="other")
        raw.abort()


async def test_receivers_at_both_ends_get_every_chunk_and_the_end() -> None:
    at_server: list[bytes] = []
    at_client: list[bytes] = []
    server_ended, client_ended = asyncio.Event(), asyncio.Event()

    async def push(_request: UpgradeRequest, stream: ByteStream) -> None:
        def receive(data: bytes) -> None:
            at_server.append(data)
            stream.write(data)
            if not data:
                server_ended.set()

        stream.set_receiver(receive)
        await server_ended.wait()

    def receive_at_client(data: bytes) -> None:
        at_client.append(data)
        if b"".join(at_client) == b"ping":
            client_ended.set()

    async with serving(push) as server:
        async with opened(server) as stream:
            stream.set_receiver(receive_at_client)
            stream.write(b"ping")
            await asyncio.wait_for(client_ended.wait(), 5)
        await asyncio.wait_for(server_ended.wait(), 5)
    assert (b"".join(at_server), at_server[-1]) == (b"ping", b"")
    assert at_client[-1] == b""


async def test_stopping_the_server_ends_websockets() -> None:
    async with serving(echo) as server, opened(server) as stream:
        assert await read_exactly(stream, 5) == b"hello"
        started = asyncio.get_running_loop().time()
        await server.stop()
        assert asyncio.get_running_loop().time() - started < 2
        assert await asyncio.wait_for(stream.read(), 5) == b""

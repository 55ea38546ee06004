"""asyncio's shapes over sockets of the stack: flow control, ends of data, aborts, TLS on top."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tailbox.node.node import Node
from tailbox.node.streams import StackTransport, exception_of
from tailbox.userspace_stack.tcp.states import SocketError

if TYPE_CHECKING:
    from tests.node.conftest import Tailnet

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def loopback(node: Node) -> tuple[Streams, Streams]:
    """Both ends of a connection of a node to itself."""
    accepted: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
    server = await node.start_server(lambda reader, writer: accepted.set_result((reader, writer)), 0)
    here = await node.open_connection("alpha", server.port)
    return here, await asyncio.wait_for(accepted, 5)


async def test_a_writer_waits_for_a_slow_reader(tailnet: Tailnet) -> None:
    (reader, writer), (_, far) = await loopback(await tailnet.node("alpha"))
    total = 32 * 1024 * 1024
    far.write(bytes(total))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(far.drain(), 0.5)
    assert 0 < far.transport.get_write_buffer_size() < total
    received = 0
    while received < total:
        received += len(await asyncio.wait_for(reader.read(1 << 20), 10))
    await asyncio.wait_for(far.drain(), 5)
    writer.close()
    far.close()


async def test_each_direction_ends_by_itself(tailnet: Tailnet) -> None:
    (reader, writer), (far_reader, far_writer) = await loopback(await tailnet.node("alpha"))
    writer.write(b"question")
    writer.write_eof()
    assert await far_reader.read() == b"question"
    far_writer.write(b"answer")
    far_writer.close()
    assert await reader.read() == b"answer"
    with pytest.raises(RuntimeError):
        writer.write(b"after the end")
    writer.close()
    await writer.wait_closed()


async def test_an_abort_is_a_reset_for_the_other(tailnet: Tailnet) -> None:
    (_, writer), (far_reader, far_writer) = await loopback(await tailnet.node("alpha"))
    writer.transport.abort()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(far_reader.read(), 5)
    far_writer.write(b"into the void")
    far_writer.close()


async def test_reading_may_pause(tailnet: Tailnet) -> None:
    (reader, writer), (_, far) = await loopback(await tailnet.node("alpha"))
    transport = writer.transport
    assert isinstance(transport, StackTransport)
    transport.pause_reading()
    assert not transport.is_reading()
    far.write(b"later")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(5), 0.2)
    transport.resume_reading()
    assert await asyncio.wait_for(reader.readexactly(5), 5) == b"later"
    assert transport.can_write_eof()
    transport.set_write_buffer_limits(high=1000)
    assert transport.get_write_buffer_limits() == (250, 1000)
    transport.writelines([b"a", b"b"])
    writer.close()
    far.close()


async def test_a_server_accepts_until_it_is_closed(tailnet: Tailnet) -> None:
    node = await tailnet.node("alpha", forward_to="")
    async with await node.start_server(lambda r, w: w.close(), 0) as server:
        assert server.is_serving()
        reader, writer = await node.open_connection("alpha", server.port)
        assert await reader.read() == b""
        writer.close()
    await server.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await node.open_connection("alpha", server.port)


def test_errors_are_asyncios_own() -> None:
    assert isinstance(exception_of(SocketError.REFUSED), ConnectionRefusedError)
    assert isinstance(exception_of(SocketError.TIMED_OUT), TimeoutError)
    assert isinstance(exception_of(SocketError.RESET), ConnectionResetError)
    assert isinstance(exception_of(SocketError.UNREACHABLE), OSError)

"""The proxy port: SOCKS5 and HTTP, inside the tailnet and out, in bulk, and with clients that misbehave."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest

from tailbox.node import proxy as proxy_module
from tailbox.node.node import Node
from tailbox.wire.addresses import SERVICE_IPV4, IPAddress
from tailbox.wire.dns import RecordType, encode_query
from tailbox.wire.socks5 import Command, Credentials, Destination, Reply, ReplyCode, Request, UdpDatagram

if TYPE_CHECKING:
    from tests.node.conftest import Tailnet

Eventually = Callable[[Callable[[], bool]], Any]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def proxied(tailnet: Tailnet, **settings: Any) -> Node:
    """alpha with a proxy; beta is there and known."""
    await tailnet.node("beta")
    alpha = await tailnet.node("alpha", socks5_server="127.0.0.1:0", **settings)
    async with asyncio.timeout(10):
        while alpha.status().peer("beta") is None:  # noqa: ASYNC110  # a test's patience
            await asyncio.sleep(0.02)
    assert (await alpha.ping("beta")).error == ""
    return alpha


async def connect(node: Node) -> Streams:
    assert node.proxy_address is not None
    return await asyncio.open_connection(str(node.proxy_address.ip), node.proxy_address.port)


async def socks(node: Node, host: str | IPAddress, port: int, command: int = Command.CONNECT) -> tuple[Reply, Streams]:
    reader, writer = await connect(node)
    writer.write(b"\x05\x01\x00" + Request(command, Destination(host, port)).encode())
    assert await reader.readexactly(2) == b"\x05\x00"
    data = b""
    while (found := Reply.decode(data)) is None:
        more = await reader.read(1)
        assert more
        data += more
    return found[0], (reader, writer)


@pytest.mark.parametrize("host", ["beta", "BETA.example.net", "100.64.0.1"])
async def test_socks_reaches_a_local_server_behind_the_other_node(tailnet: Tailnet, host: str) -> None:
    alpha = await proxied(tailnet)
    async with echo_server() as port:
        target = ip_address(host) if host[0].isdigit() else host
        reply, (reader, writer) = await socks(alpha, target, port)
        assert reply.code is ReplyCode.SUCCEEDED
        data = bytes(range(256)) * 4096 * 4
        writer.write(data)
        writer.write_eof()
        received = await asyncio.wait_for(reader.read(), 30)
        assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
        writer.close()


async def test_a_connection_to_ourselves_by_the_proxy(tailnet: Tailnet) -> None:
    alpha = await proxied(tailnet)
    async with echo_server() as port:
        reply, (reader, writer) = await socks(alpha, "alpha", port)
        assert reply.code is ReplyCode.SUCCEEDED
        writer.write(b"me")
        assert await reader.readexactly(2) == b"me"
        writer.close()


async def test_what_lies_outside_is_dialled_outside(tailnet: Tailnet) -> None:
    alpha = await proxied(tailnet)
    async with echo_server() as port:
        reply, (reader, writer) = await socks(alpha, ip_address("127.0.0.1"), port)
        assert reply.code is ReplyCode.SUCCEEDED
        writer.write(b"outside")
        writer.write_eof()
        assert await reader.read() == b"outside"
        writer.close()


async def test_refusals_have_their_codes(tailnet: Tailnet) -> None:
    alpha = await proxied(tailnet)
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    for host, wanted, command, code in (
        ("beta", port, Command.CONNECT, ReplyCode.CONNECTION_REFUSED),
        (ip_address("100.64.0.99"), 80, Command.CONNECT, ReplyCode.HOST_UNREACHABLE),
        ("beta", 0, Command.CONNECT, ReplyCode.GENERAL_FAILURE),
        ("beta", 80, Command.BIND, ReplyCode.COMMAND_NOT_SUPPORTED),
    ):
        reply, (_, writer) = await socks(alpha, host, wanted, command)
        assert reply.code is code
        writer.close()


async def test_names_are_answered_through_an_association(tailnet: Tailnet) -> None:
    alpha = await proxied(tailnet)
    reply, (_, writer) = await socks(alpha, ip_address("0.0.0.0"), 0, Command.UDP_ASSOCIATE)
    relay = (str(reply.bound.host), reply.bound.port)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.bind(("127.0.0.1", 0))
        query = encode_query("beta.example.net", RecordType.A, identifier=3)
        await loop.sock_sendto(client, UdpDatagram(Destination(SERVICE_IPV4, 53), query).encode(), relay)
        answer = UdpDatagram.decode(await asyncio.wait_for(loop.sock_recv(client, 2048), 5))
        assert answer.destination == Destination(SERVICE_IPV4, 53)
        assert ip_address("100.64.0.1").packed in answer.payload
        await loop.sock_sendto(client, b"nonsense", relay)
        await loop.sock_sendto(client, UdpDatagram(Destination("example.com", 53), query).encode(), relay)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
            outside.setblocking(False)
            outside.bind(("127.0.0.1", 0))
            target = Destination(ip_address("127.0.0.1"), outside.getsockname()[1])
            await loop.sock_sendto(client, UdpDatagram(target, b"out").encode(), relay)
            payload, source = await asyncio.wait_for(loop.sock_recvfrom(outside, 100), 5)
            assert payload == b"out"
            await loop.sock_sendto(outside, b"back", source)
            back = await asyncio.wait_for(loop.sock_recv(client, 2048), 5)
            assert UdpDatagram.decode(back) == UdpDatagram(target, b"back")
    writer.close()


async def test_http_connect_and_absolute_form(tailnet: Tailnet) -> None:
    alpha = await proxied(tailnet)
    async with echo_server() as port:
        reader, writer = await connect(alpha)
        writer.write(f"CONNECT beta:{port} HTTP/1.1\r\n\r\nearly".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(5) == b"early"
        writer.close()
        reader, writer = await connect(alpha)
        request = f"POST http://beta:{port}/x HTTP/1.1\r\nContent-Length: 4\r\n\r\nbodyGET http://evil/"
        writer.write(request.encode())
        passed_on = await reader.readuntil(b"body")
        assert passed_on.startswith(b"POST /x HTTP/1.1\r\n")
        writer.write(b"more that nobody asked for")
        await asyncio.sleep(0.1)
        writer.close()


async def test_http_refusals(tailnet: Tailnet) -> None:
    alpha = await proxied(tailnet)
    for request, status in (
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT 100.64.0.99:80 HTTP/1.1\r\n\r\n", b"500"),
        (b"GET http://100.64.0.99/ HTTP/1.1\r\n\r\n", b"502"),
    ):
        reader, writer = await connect(alpha)
        writer.write(request)
        assert (await reader.read()).split(b" ")[1] == status
        writer.close()


async def test_a_password_is_asked_of_both_kinds_of_clients(tailnet: Tailnet) -> None:
    alpha = await proxied(tailnet, socks5_user="user", socks5_password="secret")
    async with echo_server() as port:
        reader, writer = await connect(alpha)
        request = Request(Command.CONNECT, Destination("beta", port)).encode()
        writer.write(b"\x05\x01\x02" + Credentials(b"user", b"secret").encode() + request)
        assert (await reader.readexactly(5))[:4] == b"\x05\x02\x01\x00"
        writer.close()
        reader, writer = await connect(alpha)
        writer.write(b"\x05\x01\x00")
        assert await reader.read() == b"\x05\xff"
        writer.close()
        for login, status in ((b"user:secret", b"200"), (b"user:wrong", b"407")):
            reader, writer = await connect(alpha)
            authorization = b"Proxy-Authorization: Basic " + base64.b64encode(login)
            writer.write(f"CONNECT beta:{port} HTTP/1.1\r\n".encode() + authorization + b"\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1] == status
            writer.close()


async def test_silent_and_half_spoken_clients_are_let_go(tailnet: Tailnet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "FIRST_WORD_TIMEOUT_S", 0.2)
    alpha = await proxied(tailnet)
    for words in (b"", b"\x05", b"\x05\x01\x00\x05", b"GET http://beta/"):
        reader, writer = await connect(alpha)
        writer.write(words)
        async with asyncio.timeout(20):
            await reader.read()
        writer.close()
    assert alpha._proxy is not None
    assert alpha._proxy.counters.failed == 4


async def test_more_clients_than_there_is_room_for(
    tailnet: Tailnet, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr(proxy_module, "MAX_WAITING_CLIENTS", 2)
    alpha = await proxied(tailnet)
    clients = [await connect(alpha) for _ in range(5)]
    assert alpha._proxy is not None
    counters = alpha._proxy.counters
    await eventually(lambda: counters.refused == 3)
    for _, writer in clients:
        writer.close()


async def test_a_reset_is_passed_on(tailnet: Tailnet) -> None:
    alpha = await proxied(tailnet)

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    async with server:
        reply, (reader, writer) = await socks(alpha, "beta", server.sockets[0].getsockname()[1])
        assert reply.code is ReplyCode.SUCCEEDED
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 10)
        writer.close()

"""Connections from the tailnet to local services."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tailbox.node import forwarder as forwarder_module
from tailbox.node.node import Node

if TYPE_CHECKING:
    from tests.node.conftest import Tailnet

Eventually = Callable[[Callable[[], bool]], Any]


async def pair_of(tailnet: Tailnet, eventually: Eventually, **settings: Any) -> tuple[Node, Node]:
    alpha, beta = await tailnet.node("alpha"), await tailnet.node("beta", **settings)
    await eventually(lambda: alpha.status().peer("beta") is not None)
    assert (await alpha.ping("beta")).error == ""
    return alpha, beta


async def test_a_local_server_is_reached_and_learns_who_asks(tailnet: Tailnet, eventually: Eventually) -> None:
    alpha, beta = await pair_of(tailnet, eventually)
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = writer.get_extra_info("peername")
        found = beta.whois(f"{host}:{port}")
        seen.append(found.name if found else "nobody")
        writer.write(await reader.read())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        reader, writer = await alpha.open_connection("beta", server.sockets[0].getsockname()[1])
        writer.write(b"half closed")
        writer.write_eof()
        assert await reader.read() == b"half closed"
        writer.close()
    assert seen == ["alpha.example.net"]


async def test_a_closed_local_port_looks_closed(tailnet: Tailnet, eventually: Eventually) -> None:
    alpha, beta = await pair_of(tailnet, eventually)
    with pytest.raises(ConnectionRefusedError):
        await alpha.open_connection("beta", 1)
    assert beta._running().forwarder.counters.refused == 1


async def test_forwarding_may_be_off(tailnet: Tailnet, eventually: Eventually) -> None:
    alpha, _ = await pair_of(tailnet, eventually, forward_to="")
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    async with server:
        with pytest.raises(ConnectionRefusedError):
            await alpha.open_connection("beta", server.sockets[0].getsockname()[1])


async def test_datagrams_go_there_and_back_until_nobody_cares(
    tailnet: Tailnet, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder_module, "UDP_IDLE_S", 0.3)
    monkeypatch.setattr(forwarder_module, "SWEEP_S", 0.1)
    alpha, beta = await pair_of(tailnet, eventually)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as local:
        local.setblocking(False)
        local.bind(("127.0.0.1", 0))
        client = await alpha.open_datagram("beta", local.getsockname()[1])
        client.send(b"ping")
        payload, source = await asyncio.wait_for(loop.sock_recvfrom(local, 100), 5)
        assert payload == b"ping"
        await loop.sock_sendto(local, b"pong", source)
        assert (await asyncio.wait_for(client.receive(), 5))[0] == b"pong"
    flows = beta._running().forwarder
    assert flows.counters.flows == 1
    await eventually(lambda: not flows._flows)


async def test_a_busy_port_is_replaced_by_another() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as busy:
        busy.bind(("127.0.0.1", 0))
        port = busy.getsockname()[1]
        with forwarder_module._open_udp("127.0.0.1", port) as other:
            assert other.getsockname()[1] != port

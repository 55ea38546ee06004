"""STUN on loopback, both families, and silence for everybody else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from tailbox.derp.stun_responder import StunResponder
from tailbox.runtime.network import HostNetwork
from tailbox.wire.addresses import Endpoint
from tailbox.wire.stun import BindingRequest, BindingResponse

ID = bytes(range(12))


@pytest.fixture(params=["127.0.0.1", "::1"])
def client(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    host = request.param
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.bind((host, 0))
    except OSError:
        opened.close()
        pytest.skip(f"no {host} here")
    opened.setblocking(False)
    yield opened
    opened.close()


async def ask(client: socket.socket, port: int, datagram: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendto(client, datagram, (client.getsockname()[0], port))
    return await asyncio.wait_for(loop.sock_recv(client, 2048), 2)


async def test_a_client_learns_its_address(client: socket.socket) -> None:
    responder = StunResponder(HostNetwork(), port=0)
    responder.start()
    try:
        assert len(set(responder.ports)) == 1
        answer = await ask(client, responder.ports[0], BindingRequest(ID).encode())
        host, port = client.getsockname()[:2]
        assert BindingResponse.decode(answer) == BindingResponse(
            ID, Endpoint.parse(str(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"))
        )
        assert responder.counters.dispositions["success"] == 1
    finally:
        responder.close()


async def test_strangers_get_silence(client: socket.socket) -> None:
    responder = StunResponder(HostNetwork(), port=0)
    responder.start()
    try:
        loop = asyncio.get_running_loop()
        target = (client.getsockname()[0], responder.ports[0])
        for datagram in (
            b"",
            b"x",
            bytes(5000),
            BindingRequest(ID).encode()[:39],
            bytes.fromhex("00010000") + bytes(16),
        ):
            await loop.sock_sendto(client, datagram, target)
        answer = await ask(client, responder.ports[0], BindingRequest(ID).encode())
        assert BindingResponse.decode(answer).transaction_id == ID
        assert responder.counters.dispositions == {"not_stun": 5, "success": 1}
    finally:
        responder.close()


async def test_a_flood_is_answered_in_turns(client: socket.socket) -> None:
    responder = StunResponder(HostNetwork(), port=0)
    responder.start()
    try:
        target = (client.getsockname()[0], responder.ports[0])
        for number in range(150):
            client.sendto(BindingRequest(number.to_bytes(12, "big")).encode(), target)
        loop = asyncio.get_running_loop()
        found = {
            BindingResponse.decode(await asyncio.wait_for(loop.sock_recv(client, 2048), 2)).transaction_id
            for _ in range(150)
        }
        assert len(found) == 150
    finally:
        responder.close()


async def test_a_taken_port_is_an_error() -> None:
    first = StunResponder(HostNetwork(), port=0)
    first.start()
    second = StunResponder(HostNetwork(), port=first.ports[0])
    with pytest.raises(OSError, match="in use"):
        second.start()
    second.close()
    first.close()

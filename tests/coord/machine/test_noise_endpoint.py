"""`/key` and `/ts2021` as raw peers see them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import httpx
import pytest
from starlette.responses import PlainTextResponse
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tailbox.clock import ManualClock
from tailbox.control_channel.channel import ClientChannel, HandshakeDone, HandshakeFailed
from tailbox.control_channel.handshake import Initiator
from tailbox.control_channel.http2 import ResponseStarted
from tailbox.coord.machine import noise_endpoint
from tailbox.coord.machine.noise_endpoint import MAX_CONNECTIONS_PER_MACHINE, NoiseEndpoint
from tailbox.crypto.x25519 import machine_public
from tailbox.randomness import SeededRandom
from tailbox.runtime.service import Address, Listen, RunningServer, Service, serve
from tailbox.wire.keys import MachinePrivateKey

SERVER = MachinePrivateKey(b"\x11" * 32)
MACHINE = MachinePrivateKey(b"\x22" * 32)
PROTOCOL = "tailscale-control-protocol"


@asynccontextmanager
async def serving(max_connections: int = 1000) -> AsyncIterator[tuple[RunningServer, NoiseEndpoint]]:
    endpoint = NoiseEndpoint(
        SERVER,
        PlainTextResponse("inside"),
        random=SeededRandom(1),
        clock=ManualClock(),
        max_connections=max_connections,
    )
    service = Service("coord", endpoint.routes, endpoint.upgrades)
    async with await serve([service], listen=[Listen(Address("127.0.0.1", 0))]) as server:
        yield server, endpoint


def initiator(*, version: int = 145) -> Initiator:
    return Initiator(MACHINE, machine_public(SERVER), version=version, random=SeededRandom(2))


def head_with(*lines: str) -> bytes:
    fixed = ["POST /ts2021 HTTP/1.1", "Host: h", "Connection: upgrade", "Content-Length: 0"]
    return "\r\n".join([*fixed, *lines, "", ""]).encode()


def upgrade_head(initiation: bytes) -> bytes:
    handshake = base64.b64encode(initiation).decode()
    return head_with("Upgrade: Tailscale-Control-Protocol", f"X-Tailscale-Handshake: {handshake}")


async def talk(server: RunningServer, data: bytes) -> bytes:
    """Everything that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.address.port)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


async def test_the_key_is_given_to_clients_that_name_a_version() -> None:
    async with serving() as (server, _), httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        answer = await client.get("/key?v=145")
        assert answer.json() == {
            "legacyPublicKey": "mkey:" + "0" * 64,
            "publicKey": "mkey:7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13",
        }
        for query in ("", "?v=", "?v=x", "?v=²"):
            assert (await client.get("/key" + query)).status_code == 400


async def test_the_answer_to_an_upgrade_is_101_then_noise_in_one_piece() -> None:
    async with serving() as (server, endpoint):
        handshake = initiator()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.address.port)
        writer.write(upgrade_head(handshake.initiation))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert f"\r\nUpgrade: {PROTOCOL}\r\n".encode() in head  # clients compare it exactly
        channel = ClientChannel(handshake)
        events = channel.receive_bytes(await reader.read(4096))
        assert isinstance(events[0], HandshakeDone)
        assert channel.challenge is not None
        assert [snapshot.machine for snapshot in endpoint.connections()] == [machine_public(MACHINE)]
        writer.close()
        await writer.wait_closed()


async def test_requests_without_upgrade_or_with_another_are_400() -> None:
    async with serving() as (server, _):
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
            assert (await client.post("/ts2021")).status_code == 400
            assert (await client.get("/ts2021")).status_code == 400
        assert (await talk(server, head_with("Upgrade: other"))).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "header", ["", "!!!", "AAAA", base64.b64encode(bytes(101)).decode(), base64.b64encode(bytes(102)).decode()]
)
async def test_a_missing_or_malformed_initiation_is_400(header: str) -> None:
    async with serving() as (server, _):
        answer = await talk(server, head_with(f"Upgrade: {PROTOCOL}", f"X-Tailscale-Handshake: {header}"))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert (await talk(server, head_with(f"Upgrade: {PROTOCOL}"))).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("position", [5, 40, 100])
async def test_an_initiation_that_does_not_verify_gets_an_error_message(position: int) -> None:
    handshake = initiator()
    damaged = bytearray(handshake.initiation)
    damaged[position] ^= 1
    async with serving() as (server, endpoint):
        answer = await talk(server, upgrade_head(bytes(damaged)))
        _, _, rest = answer.partition(b"\r\n\r\n")
        (event,) = ClientChannel(handshake).receive_bytes(rest)
        assert isinstance(event, HandshakeFailed)
        assert event.is_refusal
        assert endpoint.connections() == ()


async def test_garbage_after_the_handshake_closes_the_connection() -> None:
    async with serving() as (server, endpoint):
        answer = await talk(server, upgrade_head(initiator().initiation) + bytes(5000))
        assert b" 101 " in answer
        assert endpoint.connections() == ()


async def test_a_client_that_asks_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_endpoint, "FIRST_REQUEST_TIMEOUT_S", 0.1)
    async with serving() as (server, endpoint):
        assert b" 101 " in await talk(server, upgrade_head(initiator().initiation))
        assert endpoint.connections() == ()


async def test_connections_are_bounded_in_total() -> None:
    async with serving(max_connections=0) as (server, _):
        assert (await talk(server, upgrade_head(initiator().initiation))).startswith(b"HTTP/1.1 503 ")


async def test_one_machine_holds_a_bounded_number_of_connections() -> None:
    async with serving() as (server, endpoint):
        writers = []
        for _ in range(MAX_CONNECTIONS_PER_MACHINE + 3):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.address.port)
            writers.append(writer)
            writer.write(upgrade_head(initiator().initiation))
            await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.05)
        assert len(endpoint.connections()) == MAX_CONNECTIONS_PER_MACHINE
        for writer in writers:
            writer.close()


async def test_a_websocket_carries_the_same_without_early_payload() -> None:
    async with serving() as (server, _):
        handshake = initiator()
        query = quote(base64.b64encode(handshake.initiation).decode(), safe="")
        url = f"ws://127.0.0.1:{server.address.port}/ts2021?X-Tailscale-Handshake={query}"
        channel = ClientChannel(handshake)
        async with connect(url, subprotocols=[PROTOCOL], proxy=None) as websocket:  # type: ignore[list-item]
            assert websocket.subprotocol == PROTOCOL
            events = channel.receive_bytes(bytes(await websocket.recv()))  # type: ignore[arg-type]
            assert isinstance(events.pop(0), HandshakeDone)
            stream_id = channel.http2.request("GET", "/", authority="unused")
            await websocket.send(channel.bytes_to_send())
            while not events:
                events += channel.receive_bytes(bytes(await websocket.recv()))  # type: ignore[arg-type]
        assert isinstance(events[0], ResponseStarted)
        assert (events[0].stream_id, events[0].status) == (stream_id, 200)
        assert channel.challenge is None


async def test_a_websocket_without_the_subprotocol_is_closed_with_1008() -> None:
    async with serving() as (server, _):
        websocket = await connect(f"ws://127.0.0.1:{server.address.port}/ts2021", proxy=None)
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008

"""`dial` of LocalAPI: bytes into the tailnet through the socket, and clear refusals."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tailbox.node.node import Node

if TYPE_CHECKING:
    from tests.node.conftest import Tailnet

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
GOOD = {"Host": "local-tailscaled.sock", "Connection": "upgrade", "Upgrade": "ts-dial", "Dial-Network": "tcp"}


@pytest.fixture
async def socket(tailnet: Tailnet, short_path: Path) -> Path:
    return short_path / "s"


@pytest.fixture
async def echo_port(tailnet: Tailnet, socket: Path) -> int:
    """Two nodes; on the other one, who answers in capitals."""
    beta = await tailnet.node("beta")
    await tailnet.node("alpha", socket=socket)
    return await serve_capitals(beta)


async def serve_capitals(node: Node) -> int:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data.upper())
        writer.close()

    await node.start_server(answer, 4444)
    return 4444


async def request(socket: Path, headers: dict[str, str], method: str = "POST") -> Connection:
    reader, writer = await asyncio.open_unix_connection(str(socket))
    lines = [f"{method} /localapi/v0/dial HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + b"early ")
    await writer.drain()
    return reader, writer


async def test_bytes_travel_both_ways_early_ones_included(echo_port: int, socket: Path) -> None:
    reader, writer = await request(socket, GOOD | {"Dial-Host": "beta", "Dial-Port": str(echo_port)})
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Upgrade: ts-dial\r\n" in head
    assert await asyncio.wait_for(reader.readexactly(6), 10) == b"EARLY "
    writer.write(b"late")
    assert await asyncio.wait_for(reader.readexactly(4), 10) == b"LATE"
    writer.close()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Dial-Host": ""}, b"400"),
        ({"Dial-Port": "0"}, b"400"),
        ({"Dial-Port": "x"}, b"400"),
        ({"Dial-Port": "70000"}, b"400"),
        ({"Dial-Network": "udp"}, b"400"),
        ({"Upgrade": "websocket-not"}, b"400"),
        ({"Origin": "http://evil.example"}, b"403"),
        ({"Host": "evil.example"}, b"403"),
        ({"Dial-Host": "nobody"}, b"502"),
        ({"Dial-Port": "4445"}, b"502"),
    ],
)
async def test_refusals_say_why(echo_port: int, socket: Path, changes: dict[str, str], status: bytes) -> None:
    reader, writer = await request(socket, GOOD | {"Dial-Host": "beta", "Dial-Port": str(echo_port)} | changes)
    answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.split()[1] == status, answer
    writer.close()

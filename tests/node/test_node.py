"""The public API, two nodes at a time, over real sockets of this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import tailbox
from tailbox.errors import ConfigError, NotFound
from tailbox.node.core.status import BackendState
from tailbox.node.node import LoginFailed
from tailbox.node.proxy import Unreachable

if TYPE_CHECKING:
    from tests.node.conftest import Tailnet

Eventually = Callable[[Callable[[], bool]], Any]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_two_nodes_talk(tailnet: Tailnet) -> None:
    alpha, beta = await tailnet.node("alpha"), await tailnet.node("beta")
    await beta.start_server(echo, 7)
    reader, writer = await alpha.open_connection("beta", 7)
    data = bytes(range(256)) * 8000
    writer.write(data)
    writer.write_eof()
    assert await reader.read() == data
    writer.close()
    await writer.wait_closed()

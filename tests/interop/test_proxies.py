"""curl, dig and iperf3 through the proxies, against local servers behind the other node.

The tailnet is the one of tests/node/conftest.py; the programs run as processes of their own.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tailbox.node.node import Node

pytestmark = pytest.mark.interop


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def node_fixtures() -> ModuleType:
    path = Path(__file__).parent.parent / "node" / "conftest.py"
    spec = importlib.util.spec_from_file_location("node_test_tailnet", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def alpha() -> AsyncIterator[Node]:
    """A node with a proxy; beta is known to it."""
    async with node_fixtures().running_tailnet() as tailnet:
        await tailnet.node("beta")
        node: Node = await tailnet.node("alpha", socks5_server="127.0.0.1:0")
        async with asyncio.timeout(10):
            while node.status().peer("beta") is None:  # noqa: ASYNC110  # a test's patience
                await asyncio.sleep(0.02)
        assert (await node.ping("beta")).error == ""
        yield node


async def run(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    body = b"x" * 300_000 + head.split(b"\r\n")[0]
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
    await writer.drain()
    writer.close()


@needs("curl")
@pytest.mark.parametrize("scheme", ["socks5h", "http"])
@pytest.mark.parametrize("tunnelled", [True, False])
async def test_curl(alpha: Node, scheme: str, tunnelled: bool) -> None:
    server = await asyncio.start_server(page, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        options = ["--proxytunnel"] if tunnelled and scheme == "http" else []
        proxy = f"{scheme}://{alpha.proxy_address}"
        url = f"http://beta:{port}/some/page"
        code, output = await run("curl", "-sS", "--max-time", "20", *options, "--proxy", proxy, url)
    assert code == 0, output
    assert output.endswith("GET /some/page HTTP/1.1")
    assert len(output) > 300_000


@needs("dig")
async def test_dig_against_the_service_address(alpha: Node) -> None:
    """dig speaks no SOCKS: a TCP relay of ours takes its place in front of the proxy."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await alpha.open_connection("100.100.100.100", 53)
        back.write(await reader.read(4096))
        writer.write(await there.read(4096))
        back.close()
        writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with server:
        port = str(server.sockets[0].getsockname()[1])
        question = ("beta.example.net", "A", "+tcp", "+short", "+tries=1", "+time=5")
        code, output = await run("dig", "@127.0.0.1", "-p", port, *question)
        assert (code, output.strip()) == (0, "100.64.0.1")
        code, output = await run("dig", "@127.0.0.1", "-p", port, "-x", "100.64.0.1", "+tcp", "+short")
        assert output.strip() == "beta.example.net."
        code, output = await run("dig", "@127.0.0.1", "-p", port, "nobody.example.net", "+tcp")
        assert "status: NXDOMAIN" in output


@needs("iperf3")
async def test_iperf3(alpha: Node) -> None:
    """Both directions, two streams, by a port that leads through the node."""
    port = free_port()
    server = await asyncio.create_subprocess_exec(
        "iperf3", "-s", "-1", "-B", "127.0.0.1", "-p", str(port), stdout=asyncio.subprocess.DEVNULL
    )

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await alpha.open_connection("beta", port)
        await asyncio.gather(copy(reader, back), copy(there, writer))
        back.close()
        writer.close()

    listening = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with listening:
        await asyncio.sleep(0.3)
        at = str(listening.sockets[0].getsockname()[1])
        code, output = await run("iperf3", "-c", "127.0.0.1", "-p", at, "-t", "1", "-P", "2", "--bidir")
    assert code == 0, output
    assert "receiver" in output
    await server.wait()


async def copy(reader: asyncio.StreamReader, writer: Any) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        pass  # either end is gone: both are closed next


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

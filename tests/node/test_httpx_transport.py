"""httpx through the tailnet: TLS inside, errors of httpx's own kinds, idle connections that ended; on either loop."""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tailbox.node.node import Node
from tailbox.runtime.tls import client_context, development_certificate, server_context

if TYPE_CHECKING:
    from tests.node.conftest import Tailnet

MakeTailnet = Callable[[], AbstractAsyncContextManager["Tailnet"]]
HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None
LOOPS = ["asyncio", pytest.param("uvloop", marks=pytest.mark.skipif(not HAS_UVLOOP, reason="not installed"))]


def run_on(loop: str, work: Awaitable[None]) -> None:
    async def main() -> None:
        await work

    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Two kinds of pages: /big, and /once, after which the server hangs up without saying so."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            body = b"x" * 3_000_000 if b"/big" in head else b"hello"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            if b"/once" in head:
                break
            if b"/half" in head:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
                await writer.drain()
                await asyncio.sleep(30)
    except asyncio.IncompleteReadError:
        pass
    finally:
        writer.close()


async def two_nodes(tailnet: Tailnet) -> tuple[Node, Node]:
    alpha, beta = await tailnet.node("alpha"), await tailnet.node("beta")
    assert (await alpha.ping("beta")).error == ""
    return alpha, beta


@pytest.mark.parametrize("loop", LOOPS)
def test_https_inside_the_tailnet(loop: str, make_tailnet: MakeTailnet, tmp_path: Path) -> None:
    certificate = development_certificate(tmp_path, ["beta"], unix_now_s=time.time())

    async def main() -> None:
        server = await asyncio.start_server(page, "127.0.0.1", 0, ssl=server_context(certificate))
        port = server.sockets[0].getsockname()[1]
        async with make_tailnet() as tailnet:
            alpha, _ = await two_nodes(tailnet)
            trust = client_context(authorities=certificate.chain_file)
            async with httpx.AsyncClient(transport=alpha.httpx_transport(verify=trust)) as client:
                assert (await client.get(f"https://beta:{port}/")).text == "hello"
                assert len((await client.get(f"https://beta:{port}/big")).content) == 3_000_000
                for _ in range(2):
                    assert (await client.get(f"https://beta:{port}/once")).text == "hello"
                    await asyncio.sleep(0.2)
            async with httpx.AsyncClient(transport=alpha.httpx_transport()) as client:
                with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
                    await client.get(f"https://beta:{port}/")
            async with httpx.AsyncClient(transport=alpha.httpx_transport(verify=trust)) as client:
                with pytest.raises(httpx.ConnectError, match=r"(?i)certificate|mismatch"):
                    await client.get(f"https://100.64.0.2:{port}/")
        server.close()
        await server.wait_closed()

    run_on(loop, main())


async def test_plain_http_and_errors_of_the_right_kind(tailnet: Tailnet) -> None:
    alpha, beta = await two_nodes(tailnet)
    await beta.start_server(page, 80)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"nonsense\r\n\r\n")
        writer.close()

    await beta.start_server(silent, 81)
    await beta.start_server(garbage, 82)
    async with httpx.AsyncClient(transport=alpha.httpx_transport(), timeout=1.0) as client:
        for _ in range(3):
            assert (await client.get("http://beta/once")).text == "hello"
            await asyncio.sleep(0.2)
        with pytest.raises(httpx.ReadTimeout):
            await client.get("http://beta:81/")
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("http://beta:82/")
        with pytest.raises(httpx.ConnectError):
            await client.get("http://gamma/")
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("ftp://beta/")


async def test_https_to_a_server_that_speaks_no_tls(tailnet: Tailnet) -> None:
    alpha, beta = await two_nodes(tailnet)

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read(100)
        writer.close()

    await beta.start_server(garbage, 443)
    async with httpx.AsyncClient(transport=alpha.httpx_transport(verify=ssl.create_default_context())) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("https://beta/")

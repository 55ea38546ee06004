"""A node whose coordinator is away, or has another opinion than last time; and one behind a private authority."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tailbox.errors import ConfigError
from tailbox.node.core.status import BackendState
from tailbox.node.netmap_cache import FILE_NAME
from tailbox.node.node import Node
from tailbox.runtime.service import Address, Listen, Service, serve
from tailbox.runtime.tls import development_certificate, server_context

if TYPE_CHECKING:
    from tests.node.conftest import Tailnet

Eventually = Callable[[Callable[[], bool]], Any]
AUTH_KEY = "tskey-auth-good"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def say(node: Node, text: bytes) -> bytes:
    reader, writer = await node.open_connection("beta", 7)
    writer.write(text)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_node_that_starts_alone_reaches_its_peers(
    tailnet: Tailnet, eventually: Eventually, tmp_path: Path
) -> None:
    beta = await tailnet.node("beta")
    await beta.start_server(echo, 7)
    async with await joined(tailnet, tmp_path) as alpha:
        await eventually(lambda: alpha.status().peer("beta") is not None)
        assert await say(alpha, b"before") == b"before"
    assert (tmp_path / FILE_NAME).exists()
    await tailnet.server.stop()
    async with Node(login_server=tailnet.url, hostname="alpha", state_dir=tmp_path, include_loopback=True) as alpha:
        await alpha.wait_running(10)
        assert alpha.addresses
        assert await say(alpha, b"alone") == b"alone"
        assert any("out of reach" in text for text in alpha.status().health)


async def joined(tailnet: Tailnet, state_dir: Path) -> Node:
    return Node(
        login_server=tailnet.url, hostname="alpha", state_dir=state_dir, auth_key=AUTH_KEY, include_loopback=True
    )


async def test_a_node_that_was_removed_meanwhile_forgets_the_tailnet(
    tailnet: Tailnet, eventually: Eventually, tmp_path: Path
) -> None:
    async with await joined(tailnet, tmp_path) as alpha:
        await alpha.wait_running(10)
    tailnet.coordinator.nodes.clear()
    async with Node(login_server=tailnet.url, hostname="alpha", state_dir=tmp_path) as alpha:
        await eventually(lambda: alpha.state is BackendState.NEEDS_LOGIN and alpha.auth_url != "")
        assert alpha.addresses == ()
        assert not (tmp_path / FILE_NAME).exists()


async def test_logging_out_removes_the_netmap(tailnet: Tailnet, tmp_path: Path) -> None:
    async with await joined(tailnet, tmp_path) as alpha:
        await alpha.wait_running(10)
    assert (tmp_path / FILE_NAME).exists()
    async with await joined(tailnet, tmp_path) as alpha:
        await alpha.wait_running(10)
        await alpha.logout()
    assert not (tmp_path / FILE_NAME).exists()


async def test_a_coordinator_with_a_private_authority(
    tailnet: Tailnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = development_certificate(tmp_path, unix_now_s=time.time())
    here, authority = Listen(Address("127.0.0.1", 0), tls=server_context(certificate)), certificate.chain_file
    service = Service("coord", routes=tailnet.control.routes, upgrades=tailnet.control.upgrades)
    async with await serve([service], listen=[here]) as server:
        url = f"https://127.0.0.1:{server.address.port}"
        settings: dict[str, Any] = {"login_server": url, "auth_key": AUTH_KEY}
        async with Node(**settings, hostname="alpha", tls_ca_file=authority) as node:
            await node.wait_running(15)
        async with Node(**settings, hostname="beta") as node:
            await asyncio.sleep(0.5)
            assert node.state is BackendState.STARTING, "nobody vouches for the server"
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        async with Node(**settings, hostname="gamma") as node:
            await node.wait_running(15)
    with pytest.raises(ConfigError, match="authorities"):
        await Node(**settings, tls_ca_file=tmp_path / "none.pem").start()

"""The composition root: roles together in one process, on one port."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
import pytest

from tailbox.errors import ConfigError
from tailbox.node.node import Node
from tailbox.runtime.service import AddressInUse
from tailbox.server import LISTEN_FILE, ServerConfig, free_port, public_url, start_server


async def test_coordinator_relay_and_nodes_make_a_tailnet(tmp_path: Path) -> None:
    async with await start_server(ServerConfig.for_this_process(tmp_path)) as tailnet:
        key = await tailnet.create_auth_key(is_reusable=True)
        one = Node(login_server=tailnet.url, auth_key=key, hostname="one", include_loopback=True)
        two = Node(login_server=tailnet.url, auth_key=key, hostname="two", include_loopback=True)
        async with one, two:
            await one.wait_running()
            await two.wait_running()
            async with asyncio.timeout(20):
                while (result := await one.ping("two")).error:  # noqa: ASYNC110  # the other's news is under way
                    await asyncio.sleep(0.05)
            assert (result.error, result.node_name) == ("", "two")
        async with httpx.AsyncClient() as client:
            health = (await client.get(tailnet.url + "/healthz")).json()
            assert health["status"] == "ok"
            assert set(health["services"]) == {"coord", "derp"}
            metrics = (await client.get(tailnet.url + "/metrics")).text
            assert "tailbox_nodes 0.0" in metrics  # nodes without a state directory log out when they end
        listening = (tmp_path / LISTEN_FILE).read_text().strip()
        assert listening == str(tailnet.addresses[0].url)
    assert not (tmp_path / LISTEN_FILE).exists()


async def test_state_survives_a_restart(tmp_path: Path) -> None:
    config = ServerConfig.for_this_process(tmp_path)
    async with await start_server(config) as tailnet:
        assert tailnet.coord is not None
        first = tailnet.coord.coordinator.secrets.noise_key
        assert tailnet.derp is not None
        relay = tailnet.derp.server.public_key
    async with await start_server(config) as tailnet:
        assert tailnet.coord is not None
        assert tailnet.derp is not None
        assert tailnet.coord.coordinator.secrets.noise_key == first
        assert tailnet.derp.server.public_key == relay


async def test_a_relay_alone_has_no_coordinator(tmp_path: Path) -> None:
    config = ServerConfig(roles=("derp",), state_dir=tmp_path, listen="127.0.0.1:0", stun_port=-1)
    async with await start_server(config) as tailnet:
        assert tailnet.coord is None
        with pytest.raises(RuntimeError, match="role coord"):
            tailnet.sign_in_link()
        async with httpx.AsyncClient() as client:
            assert (await client.get(tailnet.url + "/derp/probe")).status_code == 200
            assert (await client.get(tailnet.url + "/key?v=113")).status_code == 404


async def test_a_taken_port_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = ServerConfig(state_dir=tmp_path, listen=f"127.0.0.1:{port}", stun_port=-1)
        with pytest.raises(AddressInUse, match=str(port)):
            await start_server(config)
    async with await start_server(ServerConfig(state_dir=tmp_path, listen="127.0.0.1:0", stun_port=-1)):
        pass  # the state directory was let go of


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"roles": ()}, "role"),
        ({"roles": ("coord", "king")}, "role"),
        ({"listen": "nonsense"}, "listen address"),
        ({"tls_cert": Path("x")}, "tls_cert"),
    ],
)
def test_mistakes_are_named(settings: dict[str, object], setting: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ServerConfig(**settings)  # type: ignore[arg-type]
    assert caught.value.setting == setting


def test_the_public_url_is_given_or_the_listen_address() -> None:
    assert public_url(ServerConfig(url="https://t.example.net/")) == "https://t.example.net"
    assert public_url(ServerConfig(listen="127.0.0.1:99")) == "http://127.0.0.1:99"
    assert public_url(ServerConfig(listen="0.0.0.0:99")) == f"http://{socket.gethostname()}:99"


def test_free_ports_are_free() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) > port
    assert free_port() > 0

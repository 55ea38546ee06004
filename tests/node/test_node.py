"""The public API, two nodes at a time, over real sockets of this machine."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import tailbox
from tailbox.errors import ConfigError, NotFound
from tailbox.node.core.status import BackendState
from tailbox.node.core.tap import TapPoint
from tailbox.node.node import LoginFailed, Node
from tailbox.node.proxy import Unreachable
from tailbox.wire.keys import NodePublicKey

if TYPE_CHECKING:
    from tests.node.conftest import Tailnet

Eventually = Callable[[Callable[[], bool]], Any]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def pair_of(tailnet: Tailnet, eventually: Eventually, **settings: Any) -> tuple[Node, Node]:
    alpha, beta = await tailnet.node("alpha", **settings), await tailnet.node("beta", **settings)
    await eventually(lambda: alpha.status().peer("beta") is not None and beta.status().peer("alpha") is not None)
    assert (await alpha.ping("beta")).error == ""
    return alpha, beta


async def test_two_nodes_talk_byte_for_byte(tailnet: Tailnet, eventually: Eventually) -> None:
    alpha, beta = await pair_of(tailnet, eventually)
    await beta.start_server(echo, 7)
    reader, writer = await alpha.open_connection("beta", 7)
    assert writer.get_extra_info("peername") == ("100.64.0.2", 7)
    data = bytes(range(256)) * 8000
    writer.write(data)
    writer.write_eof()
    assert await reader.read() == data
    writer.close()
    await writer.wait_closed()


async def test_pings_of_every_kind(tailnet: Tailnet, eventually: Eventually) -> None:
    alpha, _ = await pair_of(tailnet, eventually)
    for kind in ("disco", "TSMP", "ICMP"):
        result = await alpha.ping("beta", kind=kind)
        assert result.error == ""
        assert result.node_name == "beta"
        assert 0 < result.latency_s < 5
    assert (await alpha.ping("100.64.0.1")).is_local
    assert (await alpha.ping("nobody")).error == "no matching peer"
    await asyncio.sleep(0.2)
    assert (await alpha.ping("beta")).is_direct


async def test_without_direct_paths_the_relay_carries(tailnet: Tailnet, eventually: Eventually) -> None:
    alpha, beta = await pair_of(tailnet, eventually, always_relay=True)
    await beta.start_server(echo, 7)
    reader, writer = await alpha.open_connection("beta", 7)
    writer.write(b"by the relay")
    assert await reader.readexactly(12) == b"by the relay"
    result = await alpha.ping("beta")
    assert not result.is_direct
    assert result.region_code == "test"
    peer = alpha.status().peer("beta")
    assert peer is not None
    assert (peer.current_address, peer.relay) == ("", "test")
    writer.close()


async def test_datagrams(tailnet: Tailnet, eventually: Eventually) -> None:
    alpha, beta = await pair_of(tailnet, eventually)
    server = await beta.open_datagram(local_port=5353)
    client = await alpha.open_datagram("beta", 5353)
    client.send(b"question")
    payload, source = await asyncio.wait_for(server.receive(), 5)
    assert payload == b"question"
    server.send(b"answer", source)
    assert (await asyncio.wait_for(client.receive(), 5))[0] == b"answer"
    client.close()
    with pytest.raises(ConnectionResetError):
        await client.receive()
    with pytest.raises(ValueError, match="no destination"):
        server.send(b"to whom")


async def test_http_through_the_tailnet(tailnet: Tailnet, eventually: Eventually) -> None:
    alpha, beta = await pair_of(tailnet, eventually)

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        writer.close()

    await beta.start_server(page, 80)
    async with httpx.AsyncClient(transport=alpha.httpx_transport()) as client:
        assert (await client.get("http://beta/")).text == "hello"
        with pytest.raises(httpx.ConnectError):
            await client.get("http://gamma/")


async def test_closed_ports_and_strangers(tailnet: Tailnet, eventually: Eventually) -> None:
    alpha, beta = await pair_of(tailnet, eventually, forward_to="")
    with pytest.raises(ConnectionRefusedError):
        await alpha.open_connection("beta", 1)
    with pytest.raises(Unreachable):
        await alpha.open_connection("example.com", 80)
    with pytest.raises(Unreachable):
        await alpha.open_connection("100.64.0.77", 80)
    with pytest.raises(NotFound):
        await alpha.open_datagram("gamma", 1)
    assert beta.state is BackendState.RUNNING


async def test_whois(tailnet: Tailnet, eventually: Eventually) -> None:
    alpha, beta = await pair_of(tailnet, eventually)
    found = alpha.whois("100.64.0.2")
    assert found is not None
    assert (found.name, found.user.login_name) == ("beta.example.net", "user@example.net")
    by_port, by_key = alpha.whois("100.64.0.2:80"), alpha.whois(beta.status().key.text)
    assert by_port is not None
    assert by_key is not None
    assert by_port.node == by_key.node == found.node
    for stranger in ("100.64.0.99", "nonsense", "nodekey:" + "0" * 64, "127.0.0.1:1"):
        assert alpha.whois(stranger) is None


async def test_somebody_signs_in(tailnet: Tailnet) -> None:
    node = await tailnet.starting_node("alpha")
    urls = [url async for url in take_one(node)]
    assert urls == ["http://127.0.0.1/register/xyz"]
    assert node.auth_url == urls[0]
    assert node.state is BackendState.NEEDS_LOGIN
    tailnet.coordinator.approved.set()
    await node.wait_running(10)
    assert node.auth_url == ""


async def take_one(node: Node) -> Any:
    async for url in node.auth_urls():
        yield url
        return


async def test_a_refusal_is_told_in_the_coordinators_words(tailnet: Tailnet) -> None:
    tailnet.coordinator.refusal = "this key is used up"
    node = await tailnet.starting_node("alpha", auth_key="bad")
    with pytest.raises(LoginFailed, match="used up"):
        await node.wait_running(10)
    assert "used up" in node.status().health[0]
    tailnet.coordinator.refusal = ""
    node.login(auth_key="tskey-auth-good")


async def test_an_expired_key_is_replaced(tailnet: Tailnet, eventually: Eventually) -> None:
    alpha = await tailnet.node("alpha")
    old = alpha.status().key
    tailnet.coordinator.expired_keys.add(old.text)
    tailnet.coordinator.nodes[old.text]["KeyExpiry"] = "2020-01-01T00:00:00Z"
    tailnet.coordinator.notify()
    await eventually(lambda: alpha.status().key != old)
    await alpha.wait_running(10)
    assert alpha.addresses


async def test_a_lost_coordinator_leaves_tunnels_alone(tailnet: Tailnet, eventually: Eventually) -> None:
    alpha, beta = await pair_of(tailnet, eventually)
    await beta.start_server(echo, 7)
    tailnet.coordinator.map_status = 500
    tailnet.coordinator.nodes_before = dict(tailnet.coordinator.nodes)  # type: ignore[attr-defined]
    reader, writer = await alpha.open_connection("beta", 7)
    for backend in (alpha._running(), beta._running()):
        await backend.control._client.close()
    await eventually(lambda: not alpha._running().control.is_polling)
    writer.write(b"still here")
    assert await reader.readexactly(10) == b"still here"
    assert any("out of reach" in text for text in alpha.status().health)
    tailnet.coordinator.map_status = 200
    await eventually(lambda: alpha._running().control.is_polling)
    writer.close()


async def test_down_up_and_logout(tailnet: Tailnet, eventually: Eventually) -> None:
    alpha, _ = await pair_of(tailnet, eventually)
    await alpha.down()
    assert alpha.state is BackendState.STOPPED
    assert alpha.addresses == ()
    with pytest.raises(LoginFailed):
        await alpha.wait_running(1)
    await alpha.up()
    await alpha.wait_running(10)
    key = alpha.status().key
    await alpha.logout()
    assert alpha.status().state is BackendState.NEEDS_LOGIN
    assert alpha.status().key != key
    assert key.text not in tailnet.coordinator.nodes


async def test_state_on_disk_brings_the_same_node_back(tailnet: Tailnet, tmp_path: Any) -> None:
    async with Node(
        login_server=tailnet.url, auth_key="tskey-auth-good", hostname="alpha", state_dir=tmp_path / "a", socket=None
    ) as first:
        await first.wait_running(10)
        key, addresses = first.status().key, first.addresses
        with pytest.raises(ConfigError, match="in use"):
            await Node(login_server=tailnet.url, state_dir=tmp_path / "a").start()
    async with Node(state_dir=tmp_path / "a") as second:
        await second.wait_running(10)
        assert (second.status().key, second.addresses) == (key, addresses)
        assert second.status().self_status is not None


async def test_closing_is_quick_and_may_be_repeated(tailnet: Tailnet) -> None:
    node = await tailnet.node("alpha")
    started_at = time.monotonic()
    await node.close()
    await node.close()
    assert time.monotonic() - started_at < 2
    with pytest.raises(RuntimeError):
        node.status()


async def test_an_ephemeral_node_says_goodbye(tailnet: Tailnet) -> None:
    node = await tailnet.node("alpha")
    await node.close()
    assert tailnet.coordinator.nodes == {}


async def test_the_coordinators_questions_are_answered(tailnet: Tailnet, eventually: Eventually) -> None:
    await tailnet.node("alpha")
    payload = "UE9TVCAvZWNobyBIVFRQLzEuMQ0KDQpoZWxsbw=="  # POST /echo HTTP/1.1, hello
    url = f"{tailnet.url}/machine/answer"
    tailnet.coordinator.ping_request = {"URL": url, "URLIsNoise": True, "Types": "c2n", "Payload": payload}
    tailnet.coordinator.notify()
    await eventually(lambda: bool(tailnet.coordinator.ping_answers))
    assert tailnet.coordinator.ping_answers[0].endswith(b"\r\n\r\nhello")


class Trace:
    """A tap that counts."""

    def __init__(self) -> None:
        self.points: set[str] = set()

    def record(self, point: str, peer: NodePublicKey | None, data: Any, *, detail: str, now: float) -> None:
        assert len(data)
        self.points.add(point)


async def test_a_tap_sees_every_layer(tailnet: Tailnet, eventually: Eventually) -> None:
    trace = Trace()
    beta = await tailnet.node("beta")
    alpha = Node(
        login_server=tailnet.url, auth_key="tskey-auth-good", hostname="alpha", include_loopback=True, tap=trace
    )
    async with alpha:
        await alpha.wait_running(10)
        await beta.start_server(echo, 7)
        await eventually(lambda: beta.status().peer("alpha") is not None)
        reader, writer = await alpha.open_connection("beta", 7)
        writer.write(b"seen")
        assert await reader.readexactly(4) == b"seen"
        writer.close()
    assert trace.points >= set(TapPoint) - {TapPoint.STUN_RECEIVED, TapPoint.UNDERLAY_DROPPED}


async def test_a_proxy_port_that_is_taken_is_a_config_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="Address already in use"):
            await Node(login_server="http://127.0.0.1:1", socks5_server=at).start()


async def test_a_node_needs_to_know_its_coordinator() -> None:
    with pytest.raises(ConfigError, match="login_server"):
        await Node().start()
    with pytest.raises(RuntimeError):
        Node(login_server="http://127.0.0.1:1").status()
    assert tailbox.Node is Node


async def test_nothing_is_left_after_close(tailnet: Tailnet, eventually: Eventually) -> None:
    before = asyncio.all_tasks()
    async with tailbox.Node(login_server=tailnet.url, hostname="alpha", auth_key="tskey-auth-good") as alpha:
        await alpha.wait_running(20)
        beta = await tailnet.node("beta")
        await eventually(lambda: alpha.status().peer("beta") is not None)
        await alpha.start_server(echo, 7)
        await beta.start_server(echo, 7)
        assert (await alpha.ping("beta")).error == ""
        inward, inward_writer = await beta.open_connection("alpha", 7)
        outward, outward_writer = await alpha.open_connection("beta", 7)
        datagrams = await alpha.open_datagram()
        waiting = asyncio.create_task(datagrams.receive())
        started = time.monotonic()
    assert time.monotonic() - started < 2
    with pytest.raises(ConnectionResetError):
        await waiting
    assert await outward.read() == b""
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(inward.read(), 5)
    inward_writer.close()
    outward_writer.close()
    await beta.close()
    left = {task for task in asyncio.all_tasks() - before if "StackServer" in repr(task) or "relay link" in repr(task)}
    await eventually(lambda: all(task.done() for task in left))

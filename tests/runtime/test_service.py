"""One server for several services: status pages, lifespans, addresses, TLS, and a quick end."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import CollectorRegistry, Counter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tailbox.errors import ConfigError
from tailbox.runtime.byte_stream import ByteStream
from tailbox.runtime.service import Address, AddressInUse, Bound, Listen, ListenError, Service, serve
from tailbox.runtime.status_routes import Health
from tailbox.runtime.upgrade import UpgradeRequest, accept

LOOPBACK = Listen(Address("127.0.0.1", 0))


def page(path: str, text: str) -> Route:
    async def answer(_request: Request) -> Response:
        return PlainTextResponse(text)

    return Route(path, answer)


async def get(url: str, path: str = "/") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url + path)


async def test_all_services_share_a_port() -> None:
    services = [Service("one", [page("/one", "1")]), Service("two", [page("/two", "2")])]
    async with await serve(services, listen=[LOOPBACK]) as server:
        assert server.address.port > 0
        assert server.url == f"http://127.0.0.1:{server.address.port}"
        assert ((await get(server.url, "/one")).text, (await get(server.url, "/two")).text) == ("1", "2")
        assert (await get(server.url, "/three")).status_code == 404


async def test_health_is_that_of_the_sickest() -> None:
    def broken() -> Health:
        raise RuntimeError("secret detail")

    state = Health(True, {"nodes": 3})
    services = [Service("coord", health=lambda: state), Service("derp")]
    async with await serve(services, listen=[LOOPBACK]) as server:
        answer = await get(server.url, "/healthz")
        assert answer.status_code == 200
        assert answer.json() == {
            "status": "ok",
            "services": {"coord": {"status": "ok", "nodes": 3}, "derp": {"status": "ok"}},
        }
        state = Health(False)
        assert (await get(server.url, "/healthz")).status_code == 503
    async with await serve([Service("x", health=broken)], listen=[LOOPBACK]) as server:
        answer = await get(server.url, "/healthz")
        assert answer.status_code == 503
        assert "secret" not in answer.text


async def test_metrics_are_those_of_every_registry_once() -> None:
    first, second = CollectorRegistry(), CollectorRegistry()
    Counter("first_things", "Things.", registry=first).inc()
    Counter("second_things", "Things.", registry=second).inc(2)
    services = [Service("a", registry=first), Service("b", registry=second), Service("c", registry=first)]
    async with await serve(services, listen=[LOOPBACK]) as server:
        answer = await get(server.url, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.count("\nfirst_things_total 1.0") == 1
    assert "\nsecond_things_total 2.0" in answer.text


async def test_lifespans_surround_the_serving() -> None:
    order: list[str] = []

    def lifespan_of(name: str) -> Service:
        @asynccontextmanager
        async def lifespan() -> AsyncIterator[None]:
            order.append(f"{name} in")
            yield
            order.append(f"{name} out")

        return Service(name, lifespan=lifespan)

    async with await serve([lifespan_of("a"), lifespan_of("b")], listen=[LOOPBACK]):
        assert order == ["a in", "b in"]
    assert order == ["a in", "b in", "b out", "a out"]


async def test_a_lifespan_that_fails_undoes_everything() -> None:
    left: list[str] = []

    @asynccontextmanager
    async def good() -> AsyncIterator[None]:
        try:
            yield
        finally:
            left.append("good")

    def bad() -> AbstractAsyncContextManager[None]:
        raise ConfigError("state", "x", "unreadable")

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ConfigError):
        await serve(
            [Service("good", lifespan=good), Service("bad", lifespan=bad)], listen=[Listen(Address("127.0.0.1", port))]
        )
    assert left == ["good"]
    async with await serve([Service("x")], listen=[Listen(Address("127.0.0.1", port))]):
        pass


async def test_a_taken_port_is_an_error_of_its_own() -> None:
    async with await serve([Service("x")], listen=[LOOPBACK]) as server:
        with pytest.raises(AddressInUse, match=f"127.0.0.1:{server.address.port}"):
            await serve([Service("y")], listen=[LOOPBACK, Listen(server.address)])


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
async def test_an_address_that_is_not_ours_is_an_error(host: str) -> None:
    with pytest.raises(ListenError) as caught:
        await serve([Service("x")], listen=[Listen(Address(host, 0))])
    assert not isinstance(caught.value, AddressInUse)


async def test_two_services_cannot_want_one_upgrade_path() -> None:
    async def handler(_request: UpgradeRequest, _stream: ByteStream) -> None: ...

    service = Service("x", upgrades={"/derp": handler})
    with pytest.raises(ConfigError, match="/derp"):
        await serve([service, service], listen=[LOOPBACK])


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")
async def test_connections_to_peers_that_read_nothing_end_after_two_minutes() -> None:
    async with await serve([Service("a")], listen=[LOOPBACK]) as server:
        listening = server._servers[0].sockets[0]
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000  # accepted ones inherit it
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_every_interface_includes_both_families() -> None:
    async with await serve([Service("x")], listen=[Listen(Address("", 0))]) as server:
        port = server.address.port
        assert (await get(f"http://127.0.0.1:{port}", "/healthz")).status_code == 200
        if socket.has_dualstack_ipv6():
            assert (await get(f"http://[::1]:{port}", "/healthz")).status_code == 200


async def test_unix_sockets_belong_to_their_owner_and_replace_dead_ones(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    for _ in range(2):
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(path))
        stale.close()
        async with await serve([Service("x")], listen=[Listen(path)]) as server:
            assert path.stat().st_mode & 0o777 == 0o600
            assert server.addresses == (Bound(path, is_tls=False),)
            transport = httpx.AsyncHTTPTransport(uds=str(path))
            async with httpx.AsyncClient(transport=transport) as client:
                assert (await client.get("http://local/healthz")).status_code == 200
            with pytest.raises(AddressInUse):
                await serve([Service("y")], listen=[Listen(path)])
        assert not path.exists()


def tls_pair(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "pair.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


async def test_a_second_port_speaks_tls_and_upgrades_there(tmp_path: Path) -> None:
    at_server, at_client = tls_pair(tmp_path)
    seen: list[bool] = []

    async def echo(request: UpgradeRequest, stream: ByteStream) -> None:
        seen.append(request.is_tls)
        stream.write(accept("Echo"))
        while data := await stream.read():
            stream.write(data)

    services = [Service("x", upgrades={"/echo": echo})]
    async with await serve(services, listen=[LOOPBACK, Listen(Address("127.0.0.1", 0), at_server)]) as server:
        plain, secure = server.addresses
        assert (plain.is_tls, secure.is_tls) == (False, True)
        assert secure.url.startswith("https://127.0.0.1:")
        assert isinstance(secure.address, Address)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", secure.address.port, ssl=at_client, server_hostname="localhost"
        )
        writer.write(b"GET /echo HTTP/1.1\r\nHost: h\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n" + bytes(100_000))
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(100_000) == bytes(100_000)
        writer.close()
        try:
            await writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass
    assert seen == [True]


async def test_stopping_ends_open_long_polls_within_two_seconds() -> None:
    ended = asyncio.Event()

    async def poll(_request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                yield b"first"
                await asyncio.sleep(60)
            finally:
                ended.set()

        return StreamingResponse(chunks())

    server = await serve([Service("x", [Route("/poll", poll)])], listen=[LOOPBACK])
    reader, writer = await asyncio.open_connection("127.0.0.1", server.address.port)
    writer.write(b"GET /poll HTTP/1.1\r\nHost: h\r\n\r\n")
    assert b"first" in await reader.readuntil(b"first")
    started = asyncio.get_running_loop().time()
    await asyncio.gather(server.stop(), server.stop(), server.wait())
    assert asyncio.get_running_loop().time() - started < 2
    assert ended.is_set()
    writer.close()
    with pytest.raises(httpx.ConnectError):
        await get(server.url)


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:80", Address("127.0.0.1", 80)), (":8080", Address("", 8080)), ("[::1]:1", Address("::1", 1))],
)
def test_listen_addresses_are_read_and_shown(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "host", "host:", "host:x", "host:70000", "::1:80", "host:-1", "h:²"])
def test_other_listen_addresses_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Address.parse(text)

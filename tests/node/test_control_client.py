"""The control client against the coordinator's endpoint, over a real server on the loopback interface."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tailbox.clock import ManualClock
from tailbox.coord.machine.noise_endpoint import NoiseEndpoint
from tailbox.crypto.x25519 import machine_public
from tailbox.errors import ConfigError
from tailbox.node.control_client import (
    ChannelClosed,
    ControlClient,
    Rejected,
    RequestFailed,
    RequestTimedOut,
    Unreachable,
    WrongKey,
)
from tailbox.node.control_dial import Attempt, LoginUrl, attempts_for
from tailbox.randomness import SeededRandom
from tailbox.runtime.network import HostNetwork
from tailbox.runtime.service import Address, Listen, RunningServer, Service, serve
from tailbox.runtime.upgrade import UpgradeRequest, accept, refuse
from tailbox.wire.keys import MachinePrivateKey
from tailbox.wire.noise import ErrorMessage

SERVER = MachinePrivateKey(b"\x11" * 32)
MACHINE = MachinePrivateKey(b"\x22" * 32)


class Application:
    """Answers in all the ways that requests can end."""

    def __init__(self) -> None:
        self.disconnected = asyncio.Event()
        self.release = asyncio.Event()
        self.app = Starlette(
            routes=[
                Route("/whoami", self.whoami),
                Route("/echo", self.echo, methods=["GET", "POST"]),
                Route("/ticks", self.ticks, methods=["POST"]),
                Route("/wait", self.wait, methods=["POST"]),
                Route("/bug", self.bug),
                Route("/half", self.half),
            ]
        )

    async def whoami(self, request: Request) -> Response:
        key, version = request.state.machine_key, request.state.noise_version
        return JSONResponse({"key": key.text, "version": version, "host": request.headers["host"]})

    async def echo(self, request: Request) -> Response:
        return Response(await request.body())

    async def ticks(self, request: Request) -> Response:
        count = int(await request.body())

        async def chunks() -> AsyncIterator[bytes]:
            try:
                for number in range(count):
                    yield f"{number},".encode()
                    await asyncio.sleep(0)
                await self.release.wait()
                yield b"end"
            finally:
                self.disconnected.set()

        return StreamingResponse(chunks())

    async def wait(self, request: Request) -> Response:
        await request.body()
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.disconnected.set()
        return PlainTextResponse("nobody reads this")

    async def bug(self, _request: Request) -> Response:
        raise ValueError("a bug")

    async def half(self, _request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"half"
            raise ValueError("a bug in the middle")

        return StreamingResponse(chunks())


Running = tuple[RunningServer, NoiseEndpoint, Application]


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    application = Application()
    endpoint = NoiseEndpoint(SERVER, application.app, random=SeededRandom("server"), clock=ManualClock())
    service = Service("coord", routes=endpoint.routes, upgrades=endpoint.upgrades)
    async with await serve([service], listen=[Listen(Address("127.0.0.1", 0))]) as server:
        yield server, endpoint, application


def client_of(url: str, *, version: int = 145, use_websocket: bool = False) -> ControlClient:
    return ControlClient(
        url,
        MACHINE,
        version=version,
        network=HostNetwork(),
        random=SeededRandom("client"),
        use_websocket=use_websocket,
    )


@pytest.fixture(params=[False, True], ids=["upgrade", "websocket"])
async def client(running: Running, request: pytest.FixtureRequest) -> AsyncIterator[ControlClient]:
    async with client_of(running[0].url, use_websocket=request.param) as connected:
        await connected.connect()
        yield connected


async def test_a_request_is_answered_and_the_key_is_proven(running: Running, client: ControlClient) -> None:
    answer = await client.request("GET", "/whoami")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    host = running[0].url.removeprefix("http://")
    assert json.loads(answer.body) == {"key": machine_public(MACHINE).text, "version": 145, "host": host}
    assert client.server_key == machine_public(SERVER)
    assert client.is_connected
    (connection,) = running[1].connections()
    assert (connection.machine, connection.version) == (machine_public(MACHINE), 145)


@pytest.mark.parametrize("length", [0, 1, 65_536, 1024 * 1024])
async def test_bodies_up_to_a_mebibyte_pass_both_ways(client: ControlClient, length: int) -> None:
    body = (bytes(range(256)) * (length // 256 + 1))[:length]
    for method in ("POST", "GET"):
        answer = await client.request(method, "/echo", body)
        assert (answer.status, answer.body == body) == (200, True)


async def test_a_larger_body_is_refused_and_the_connection_lives_on(client: ControlClient) -> None:
    answer = await client.request("POST", "/echo", bytes(1024 * 1024 + 1))
    assert answer.status == 413
    assert (await client.request("GET", "/whoami")).status == 200


async def test_uploads_never_use_up_the_window(client: ControlClient) -> None:
    for _ in range(12):
        assert len((await client.request("POST", "/echo", bytes(400_000))).body) == 400_000


async def test_fifty_streams_run_side_by_side(running: Running, client: ControlClient) -> None:
    streams = [await client.stream("POST", "/ticks", b"3") for _ in range(50)]
    for stream in streams:
        received = b""
        while received != b"0,1,2,":
            received += await stream.read()
    assert (await client.request("GET", "/whoami")).status == 200
    running[2].release.set()
    for stream in streams:
        assert await stream.read() == b"end"
        assert await stream.read() == b""
    assert len(running[1].connections()) == 1


async def test_more_requests_than_streams_wait_their_turn(client: ControlClient) -> None:
    answers = await asyncio.gather(*(client.request("POST", "/echo", b"%d" % number) for number in range(400)))
    assert [int(answer.body) for answer in answers] == list(range(400))


async def test_a_slow_reader_slows_the_server_and_nobody_else(running: Running, client: ControlClient) -> None:
    stream = await client.stream("POST", "/ticks", b"1000000")
    await asyncio.sleep(0.3)
    assert (await client.request("GET", "/whoami")).status == 200
    buffered = sum(map(len, stream._chunks))
    assert buffered <= 256 * 1024
    assert not running[2].disconnected.is_set()
    stream.close()
    await asyncio.wait_for(running[2].disconnected.wait(), 2)


@pytest.mark.parametrize("path", ["/ticks", "/wait"])
async def test_giving_up_a_request_is_a_disconnect_for_the_application(
    running: Running, client: ControlClient, path: str
) -> None:
    with pytest.raises(RequestTimedOut):
        await client.request("POST", path, b"1", timeout_s=0.1)
    await asyncio.wait_for(running[2].disconnected.wait(), 2)
    assert (await client.request("GET", "/whoami")).status == 200


async def test_losing_the_connection_is_a_disconnect_for_the_application(
    running: Running, client: ControlClient
) -> None:
    stream = await client.stream("POST", "/ticks", b"1")
    assert await stream.read() == b"0,"
    await client.close()
    await asyncio.wait_for(running[2].disconnected.wait(), 2)
    with pytest.raises(ChannelClosed):
        await stream.read()
    assert not client.is_connected


async def test_a_bug_of_the_application_is_a_500_or_a_broken_stream(
    client: ControlClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert (await client.request("GET", "/bug")).status == 500
        with pytest.raises(RequestFailed):
            await client.request("GET", "/half")
    assert (await client.request("GET", "/whoami")).status == 200
    assert {record.message for record in caplog.records} == {"control request failed"}


async def test_stopping_the_server_ends_long_polls_within_two_seconds(running: Running, client: ControlClient) -> None:
    stream = await client.stream("POST", "/ticks", b"1")
    assert await stream.read() == b"0,"
    started = asyncio.get_running_loop().time()
    await running[0].stop()
    assert asyncio.get_running_loop().time() - started < 2
    with pytest.raises(ChannelClosed):
        await stream.read()
    with pytest.raises(ChannelClosed):
        await client.request("GET", "/whoami")
    assert running[1].connections() == ()


async def test_a_client_connects_again_after_a_loss(running: Running, client: ControlClient) -> None:
    await client.close()
    await client.connect()
    assert (await client.request("GET", "/whoami")).status == 200


async def test_without_a_connection_requests_fail_clearly() -> None:
    with pytest.raises(ChannelClosed, match="not connected"):
        await client_of("http://127.0.0.1:1").request("GET", "/")


async def test_an_unreachable_server_is_called_so() -> None:
    with pytest.raises(Unreachable):
        await client_of("http://127.0.0.1:1").connect()


@pytest.mark.parametrize("use_websocket", [False, True])
async def test_a_client_that_is_too_old_is_told(running: Running, use_websocket: bool) -> None:
    with pytest.raises(Rejected, match="client too old"):
        await client_of(running[0].url, version=20, use_websocket=use_websocket).connect()


@pytest.mark.parametrize("use_websocket", [False, True])
async def test_a_handshake_for_another_server_key_is_refused(running: Running, use_websocket: bool) -> None:
    client = client_of(running[0].url, use_websocket=use_websocket)

    async def other_key(_version: int) -> object:
        return machine_public(MachinePrivateKey(b"\x77" * 32))

    client._dialler.fetch_key = other_key  # type: ignore[assignment,method-assign]
    with pytest.raises(Rejected, match="another server key"):
        await client.connect()


@asynccontextmanager
async def fake_server(
    key: Response, ts2021: Callable[[UpgradeRequest, object], Awaitable[None]]
) -> AsyncIterator[RunningServer]:
    async def answer(_request: Request) -> Response:
        return key

    service = Service("fake", routes=[Route("/key", answer)], upgrades={"/ts2021": ts2021})
    async with await serve([service], listen=[Listen(Address("127.0.0.1", 0))]) as server:
        yield server


GOOD_KEY = JSONResponse({"legacyPublicKey": "", "publicKey": machine_public(SERVER).text})


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"mkey:" + b"0" * 64, 200, WrongKey),
        (b"{}", 200, WrongKey),
        (b'{"publicKey":"mkey:' + b"0" * 64 + b'"}', 200, WrongKey),
        (b'{"publicKey":"nodekey:' + b"1" * 64 + b'"}', 200, WrongKey),
        (b"\xff\x00", 200, WrongKey),
        (b"x" * 100_000, 200, Unreachable),
        (b"gone", 404, Rejected),
    ],
)
async def test_an_unusable_key_answer_is_a_clear_error(body: bytes, status: int, error: type[Exception]) -> None:
    async def never(_request: UpgradeRequest, _stream: object) -> None:
        raise AssertionError("not dialled without a key")

    async with fake_server(Response(body, status), never) as server:
        with pytest.raises(error):
            await client_of(server.url).connect()


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (refuse(403, "not you"), Rejected),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\n", Unreachable),
        (b"\x00nonsense\r\n\r\n", Unreachable),
        (b"", Unreachable),
        (accept("tailscale-control-protocol") + ErrorMessage("busy").encode(), Rejected),
        (accept("tailscale-control-protocol") + bytes(100), WrongKey),
        (accept("tailscale-control-protocol") + b"\x02\x00\x30" + bytes(range(48)), WrongKey),
        (accept("tailscale-control-protocol"), ChannelClosed),
    ],
)
async def test_whatever_answers_the_upgrade_the_error_is_clear(head: bytes, error: type[Exception]) -> None:
    async def answer(_request: UpgradeRequest, stream: object) -> None:
        stream.write(head)  # type: ignore[attr-defined]

    async with fake_server(GOOD_KEY, answer) as server:
        with pytest.raises(error):
            await client_of(server.url).connect()


@pytest.mark.parametrize(
    ("url", "attempts"),
    [
        ("https://host", [("host", 443, True), ("host", 80, False)]),
        ("https://host:8443/path", [("host", 8443, True), ("host", 80, False)]),
        ("http://host", [("host", 80, False), ("host", 443, True)]),
        ("http://host:8080", [("host", 8080, False), ("host", 443, True)]),
        ("http://127.0.0.1:8080", [("127.0.0.1", 8080, False)]),
        ("http://localhost", [("localhost", 80, False)]),
        ("http://10.1.2.3", [("10.1.2.3", 80, False)]),
        ("http://[fd00::1]:81", [("fd00::1", 81, False)]),
        ("http://100.64.0.1", [("100.64.0.1", 80, False), ("100.64.0.1", 443, True)]),
        ("https://127.0.0.1", [("127.0.0.1", 443, True), ("127.0.0.1", 80, False)]),
    ],
)
def test_what_is_dialled_follows_from_the_url(url: str, attempts: list[tuple[str, int, bool]]) -> None:
    assert attempts_for(LoginUrl.parse(url)) == tuple(Attempt(*attempt) for attempt in attempts)


@pytest.mark.parametrize(
    "url", ["", "host", "ftp://host", "http://", "http://host:99999", "http://u:p@host", "http://h?q"]
)
def test_a_url_that_is_none_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError):
        LoginUrl.parse(url)


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        LoginUrl.parse("http://user:hunter2@host")
    assert "hunter2" not in str(caught.value)

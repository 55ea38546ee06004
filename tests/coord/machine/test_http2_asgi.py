"""HTTP/2 requests as ASGI calls, without a network: scopes, bodies, limits, disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailbox.control_channel.channel import ChannelEvent, ClientChannel, ServerChannel
from tailbox.control_channel.handshake import Initiator, respond
from tailbox.control_channel.http2 import BodyEnded, BodyReceived, ResponseStarted, StreamFailed
from tailbox.coord.machine.http2_asgi import MAX_BODY_BYTES, MAX_UNSENT_BYTES, Http2Requests
from tailbox.crypto.x25519 import machine_public
from tailbox.randomness import SeededRandom
from tailbox.runtime.byte_stream import PeerAddress, Receiver
from tailbox.wire.keys import MachinePrivateKey
from tailbox.wire.noise import Initiation

SERVER = MachinePrivateKey(b"\x11" * 32)
MACHINE = MachinePrivateKey(b"\x22" * 32)
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Recorder:
    """A ByteStream that keeps what is written."""

    peer: PeerAddress | None = ("192.0.2.1", 4)
    buffered = 0

    def __init__(self) -> None:
        self.written = bytearray()

    async def read(self) -> bytes:
        return b""

    def set_receiver(self, receiver: Receiver) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    async def drain(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    async def wait_closed(self) -> None: ...


class Link:
    """A client channel whose requests reach an application."""

    def __init__(self, app: ASGIApp) -> None:
        random = SeededRandom(1)
        initiator = Initiator(MACHINE, machine_public(SERVER), version=145, random=random)
        response, session = respond(SERVER, Initiation.decode(initiator.initiation), random=random)
        self.client = ClientChannel(initiator)
        self.client.receive_bytes(response.encode())
        self.server = ServerChannel(session)
        self.stream = Recorder()
        self.requests = Http2Requests(app, self.server, self.stream, lambda: None)
        self.events: list[ChannelEvent] = []

    def request(self, method: str = "POST", target: str = "/", body: bytes = b"") -> int:
        stream_id = self.client.http2.request(method, target, authority="unused", body=body)
        assert stream_id is not None
        return stream_id

    async def settle(self, *, acknowledges: bool = True) -> None:
        for _ in range(200):
            self.requests.handle(self.server.receive_bytes(self.client.bytes_to_send()))
            await asyncio.sleep(0)
            written, self.stream.written = bytes(self.stream.written), bytearray()
            for event in self.client.receive_bytes(written):
                self.events.append(event)
                if acknowledges and isinstance(event, BodyReceived):
                    self.client.http2.acknowledge(event.stream_id, len(event.data))

    def status_of(self, stream_id: int) -> int:
        return next(e.status for e in self.events if isinstance(e, ResponseStarted) and e.stream_id == stream_id)

    def body_of(self, stream_id: int) -> bytes:
        return b"".join(e.data for e in self.events if isinstance(e, BodyReceived) and e.stream_id == stream_id)


async def answer(send: Send, body: bytes = b"", status: int = 200) -> None:
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"Connection", b"close"), (b"X-A", b"b")]}
    )
    await send({"type": "http.response.body", "body": body})


async def test_the_scope_says_what_was_asked_and_who_asked() -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await answer(send)

    link = Link(app)
    stream_id = link.request("GET", "/machine/a%20b?q=%31")
    await link.settle()
    (scope,) = scopes
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("GET", "/machine/a b", b"/machine/a%20b")
    assert (scope["query_string"], scope["client"], scope["http_version"]) == (b"q=%31", ("192.0.2.1", 4), "2")
    assert (b"host", b"unused") in scope["headers"]
    assert scope["state"] == {"machine_key": machine_public(MACHINE), "noise_version": 145}
    assert link.events[0] == ResponseStarted(stream_id, 200, ((b"x-a", b"b"),))


async def test_an_answer_to_head_has_no_body_whatever_the_application_says() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, b"method not allowed", 405)

    link = Link(app)
    stream_id = link.request("HEAD")
    await link.settle()
    assert (link.status_of(stream_id), link.body_of(stream_id)) == (405, b"")
    assert any(isinstance(event, BodyEnded) for event in link.events)


async def test_a_body_is_delivered_once_and_then_only_a_disconnect() -> None:
    messages: list[Message] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        while not messages or messages[-1]["type"] != "http.disconnect":
            messages.append(await receive())

    link = Link(app)
    stream_id = link.request(body=b"x" * 100_000)
    await link.settle()
    assert b"".join(message["body"] for message in messages) == b"x" * 100_000
    assert [message["more_body"] for message in messages] == [True] * (len(messages) - 1) + [False]
    link.client.http2.reset(stream_id)
    await link.settle()
    assert messages[-1] == {"type": "http.disconnect"}
    assert link.requests.running == 0


async def test_an_application_that_never_reads_holds_one_window_and_no_more() -> None:
    release = asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await release.wait()
        await answer(send, b"done")

    link = Link(app)
    stream_id = link.request(body=bytes(MAX_BODY_BYTES))
    await link.settle()
    assert link.client.http2.unsent_bytes(stream_id) > 0
    release.set()
    await link.settle()
    assert (link.status_of(stream_id), link.body_of(stream_id)) == (200, b"done")


@pytest.mark.parametrize(("size", "status"), [(MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)])
async def test_bodies_have_a_limit(size: int, status: int) -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.request":
            await answer(send)

    link = Link(app)
    stream_id = link.request(body=bytes(size))
    await link.settle()
    assert link.status_of(stream_id) == status


async def test_a_response_waits_for_a_client_that_does_not_read() -> None:
    sent = 0

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while sent < 3_000_000:
            await send({"type": "http.response.body", "body": bytes(20_000), "more_body": True})
            sent += 20_000
        await send({"type": "http.response.body", "body": b""})

    link = Link(app)
    stream_id = link.request()
    await link.settle(acknowledges=False)
    assert sent < 256 * 1024 + MAX_UNSENT_BYTES + 40_000
    link.client.http2.acknowledge(stream_id, len(link.body_of(stream_id)))
    await link.settle()
    assert len(link.body_of(stream_id)) == 3_000_000


async def test_an_application_that_answers_nothing_resets_its_stream() -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        return

    link = Link(app)
    stream_id = link.request()
    await link.settle()
    assert StreamFailed(stream_id, 2) in link.events


async def test_targets_that_are_no_paths_are_refused() -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("not reached")

    link = Link(app)
    stream_id = link.request("GET", "*")
    await link.settle()
    assert link.status_of(stream_id) == 400


async def test_closing_disconnects_and_cancelling_cancels() -> None:
    ends: list[str] = []

    async def app(scope: Scope, receive: Receive, _send: Send) -> None:
        try:
            if scope["path"] == "/polite":
                while (await receive())["type"] != "http.disconnect":
                    pass
                ends.append("polite")
            else:
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    link = Link(app)
    link.request("GET", "/polite")
    link.request("GET", "/deaf")
    await link.settle()
    closing = asyncio.create_task(link.requests.close())
    await asyncio.sleep(0.01)
    assert ends == ["polite"]
    closing.cancel()
    await asyncio.wait([closing])
    assert ends == ["polite", "cancelled"]
    assert link.requests.running == 0

"""`/machine/…`: what nodes ask inside their control channel. `request.state.machine_key` is proven by the channel.

| Path | Answer |
|---|---|
| POST /machine/register | RegisterResponse; refusals are status 200 with `Error`, which `tailscale up` prints |
| POST /machine/map | a stream of framed MapResponses, one of them, or an empty 200 for a lite update |
| what headscale leaves out too | 501 |
| anything else | 404 |

A body that does not decode is 400; a node key that is not this machine's is 404, as headscale has it. Registrations are
counted by machine, and above the limit answered 429 with Retry-After. What cannot be stored is 503.
Source: control.md §4.2, §5, §6; headscale hscontrol/{noise,auth,poll}.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tailbox.clock import Clock
from tailbox.coord.admin.errors import TooManyRequests
from tailbox.coord.admin.operation import read_body
from tailbox.coord.admin.rate_limit import RateLimit
from tailbox.coord.coordinator import Coordinator
from tailbox.coord.core.checkin import check_in
from tailbox.coord.core.presence import close_session, open_session
from tailbox.coord.core.registration import Answer, Registrar
from tailbox.coord.machine.login_waits import LoginWaits
from tailbox.coord.machine.map_streams import MapStream, MapStreams, StreamEnd
from tailbox.coord.machine.netmap_renderer import NetmapRenderer
from tailbox.coord.metrics import CoordMetrics
from tailbox.coord.store.tailnet_store import StoreFailed
from tailbox.errors import Invalid, Malformed, NotFound
from tailbox.wire.control.framing import encode_frame
from tailbox.wire.control.json import decode, encode
from tailbox.wire.control.map import ZSTD, MapRequest
from tailbox.wire.control.registration import RegisterRequest
from tailbox.wire.keys import MachinePublicKey

MAX_BODY_BYTES = 1024 * 1024  # headscale reads as much
REGISTER_BURST, REGISTERS_PER_MINUTE = 30, 30.0  # ours: per machine; a client retries every 30 s at most
LEAVE_RETRY_S = 1.0  # ours: while the end of a stream cannot be stored
NOT_OFFERED = (
    ("POST", "/machine/set-dns"),
    ("POST", "/machine/id-token"),
    ("POST", "/machine/feature/query"),
    ("PATCH", "/machine/set-device-attr"),
    ("POST", "/machine/audit-log"),
    ("POST", "/machine/update-health"),
    ("GET", "/machine/whoami"),
)  # headscale answers 501 to the same


def _register_limit() -> RateLimit:
    return RateLimit(burst=REGISTER_BURST, per_minute=REGISTERS_PER_MINUTE, crowd=100)


@dataclass(frozen=True, slots=True)
class MachineContext:
    """What the requests of nodes need."""

    coordinator: Coordinator
    registrar: Registrar
    renderer: NetmapRenderer
    streams: MapStreams
    waits: LoginWaits
    clock: Clock
    metrics: CoordMetrics
    followup_hold_s: float
    register_limit: RateLimit = field(default_factory=_register_limit)


def machine_application(context: MachineContext) -> ASGIApp:
    """What runs inside every control channel."""
    requests = MachineRequests(context)
    routes = [
        Route("/machine/register", requests.register, methods=["POST"]),
        Route("/machine/map", requests.map, methods=["POST"]),
        *(Route(path, _not_offered, methods=[method]) for method, path in NOT_OFFERED),
    ]
    return Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _http_error,
            Invalid: _bad_request,
            Malformed: _bad_request,
            NotFound: _not_found,
            StoreFailed: _unavailable,
            TooManyRequests: _too_many,
        },
    )


class MachineRequests:
    """The two requests that matter."""

    def __init__(self, context: MachineContext) -> None:
        self._context = context

    async def register(self, request: Request) -> Response:
        """Register, renew, log out; a followup is held until its login is decided, or for some minutes."""
        context = self._context
        machine_key: MachinePublicKey = request.state.machine_key
        context.register_limit.check(machine_key.text, now=context.clock.monotonic())
        wanted = decode(RegisterRequest, await _body(request))
        answer = await self._register(wanted, machine_key)
        if answer.wait_for is not None:
            answer = await self._held(request, wanted, machine_key, answer)
        context.metrics.registrations.labels(result=_result_of(answer)).inc()
        return Response(encode(answer.response), media_type="application/json")

    async def _register(self, wanted: RegisterRequest, machine_key: MachinePublicKey) -> Answer:
        register = self._context.registrar.register
        return await self._context.coordinator.apply(partial(register, request=wanted, machine_key=machine_key))

    async def _held(
        self, request: Request, wanted: RegisterRequest, machine_key: MachinePublicKey, answer: Answer
    ) -> Answer:
        """Ask again whenever the login changes. On time-out the same URL goes out, and the client comes back."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._context.followup_hold_s
        async with _disconnect_of(request.receive) as gone:
            while answer.wait_for is not None and not gone.is_set() and (left := deadline - loop.time()) > 0:
                if not await self._context.waits.wait(answer.wait_for, gone=gone, timeout_s=left) or gone.is_set():
                    break
                answer = await self._register(wanted, machine_key)
        return answer

    async def map(self, request: Request) -> Response:
        """A lite update, a one-shot question, or the long poll."""
        context = self._context
        wanted = decode(MapRequest, await _body(request))
        node_id = await context.coordinator.apply(
            partial(check_in, request=wanted, machine_key=request.state.machine_key)
        )
        if wanted.stream and not wanted.read_only:
            context.metrics.map_requests.labels(kind="stream").inc()
            return MapStreamResponse(context, node_id, wanted)
        if wanted.is_lite_update:
            context.metrics.map_requests.labels(kind="lite").inc()
            return Response(b"")
        context.metrics.map_requests.labels(kind="one_shot").inc()
        return Response(self._one_map(node_id, wanted), media_type="application/octet-stream")

    def _one_map(self, node_id: int, wanted: MapRequest) -> bytes:
        renderer = self._context.renderer.for_node(node_id)
        view = renderer.view()
        if view is None:
            raise NotFound("unknown node key")
        return encode_frame(renderer.first(view), compress=wanted.compress == ZSTD)


class MapStreamResponse(Response):
    """The long poll: head at once, then a frame for each message until either end has had enough."""

    def __init__(self, context: MachineContext, node_id: int, wanted: MapRequest) -> None:
        super().__init__()
        self._context = context
        self._node_id = node_id
        self._wanted = wanted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Presence is counted by streams: one that is replaced closes after its successor has opened."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        stream = self._context.streams.open(self._node_id)
        why, is_counted = StreamEnd.CLIENT_LEFT, True
        try:
            await self._context.coordinator.apply(partial(open_session, node_id=self._node_id))
            why = await self._run(stream, receive, send)
        except (NotFound, StoreFailed):  # deleted a moment ago; or the disk is full, and the client comes back
            is_counted = False
        finally:
            self._context.streams.close(stream)
            if is_counted:  # also when this task is cancelled: a node must not stay online for ever
                await asyncio.shield(self._leave())
        if why is not StreamEnd.SLOW_READER:  # who takes nothing would not take the end either: the stream is reset
            await send({"type": "http.response.body", "body": b""})

    async def _run(self, stream: MapStream, receive: Receive, send: Send) -> StreamEnd:
        async with _disconnect_of(receive, on_disconnect=stream.leave):
            return await self._context.streams.run(
                stream,
                self._context.renderer.for_node(self._node_id),
                partial(self._write, send),
                wants_keep_alive=self._wanted.keep_alive,
            )

    async def _leave(self) -> None:
        """Until it is stored, unless the coordinator closes: it starts with everybody offline."""
        coordinator = self._context.coordinator
        while not coordinator.is_closed:
            try:
                return await coordinator.apply(partial(close_session, node_id=self._node_id))
            except StoreFailed:
                await asyncio.sleep(LEAVE_RETRY_S)

    async def _write(self, send: Send, payload: bytes) -> None:
        frame = encode_frame(payload, compress=self._wanted.compress == ZSTD)
        self._context.metrics.map_bytes.inc(len(frame))
        await send({"type": "http.response.body", "body": frame, "more_body": True})


@asynccontextmanager
async def _disconnect_of(
    receive: Receive, *, on_disconnect: Callable[[], None] | None = None
) -> AsyncIterator[asyncio.Event]:
    """Watch for the client's end while the block runs."""
    gone = asyncio.Event()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()
        if on_disconnect is not None:
            on_disconnect()

    watcher = asyncio.create_task(watch(), name="disconnect of a node")
    try:
        yield gone
    finally:
        watcher.cancel()


async def _body(request: Request) -> bytes:
    return await read_body(request, limit=MAX_BODY_BYTES)


def _result_of(answer: Answer) -> str:
    response = answer.response
    if response.error:
        return "refused"
    if response.auth_url:
        return "waits"
    return "key_expired" if response.node_key_expired else "accepted"


async def _not_offered(_request: Request) -> Response:
    return PlainTextResponse("not implemented\n", 501)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(error.detail.lower() + "\n", error.status_code)


async def _bad_request(_request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}\n", 400)


async def _not_found(_request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}\n", 404)


async def _unavailable(_request: Request, _error: Exception) -> Response:
    """Not an `Error`, which would end `tailscale up`: clients try again on their own."""
    return PlainTextResponse("the change could not be stored\n", 503)


async def _too_many(_request: Request, error: Exception) -> Response:
    assert isinstance(error, TooManyRequests)
    headers = {"Retry-After": str(max(1, round(error.retry_after_s)))}
    return PlainTextResponse(f"{error}\n", 429, headers=headers)

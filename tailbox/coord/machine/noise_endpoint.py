"""`/key` and `/ts2021`: where nodes enter, by `Upgrade:` or by WebSocket.

The initiation comes in the request's head (a query parameter for WebSockets), and response, early payload and HTTP/2
settings go back in one piece behind the 101. A handshake that fails is answered by the protocol's error message, which
clients show. Connections carry no state but their machine key: one node commonly holds two to four of them.

Source: tailscale control/controlhttp/controlhttpserver, control/controlbase/handshake.go; headscale hscontrol/noise.go,
hscontrol/handlers.go (KeyHandler).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from tailbox.clock import Clock
from tailbox.control_channel.channel import ServerChannel
from tailbox.control_channel.handshake import Session, respond
from tailbox.control_channel.http2 import ConnectionFailed
from tailbox.coord.machine.http2_asgi import Http2Requests
from tailbox.crypto import x25519
from tailbox.errors import AuthenticationError, WireError
from tailbox.randomness import RandomSource
from tailbox.runtime.byte_stream import ByteStream, PeerAddress
from tailbox.runtime.upgrade import UpgradeHandler, UpgradeRequest, accept, refuse
from tailbox.runtime.websocket import websocket_route
from tailbox.wire.keys import ChallengePublicKey, MachinePrivateKey, MachinePublicKey
from tailbox.wire.noise import ErrorMessage, Initiation

PROTOCOL = "tailscale-control-protocol"  # clients compare it exactly
HANDSHAKE_HEADER = "x-tailscale-handshake"
HANDSHAKE_PARAMETER = "X-Tailscale-Handshake"
MIN_VERSION = 106  # README decision 11

FIRST_REQUEST_TIMEOUT_S = 10.0  # golang.org/x/net/http2 prefaceTimeout
IDLE_TIMEOUT_S = 600.0  # ours: a connection without any request; clients dial again when they need one
MAX_CONNECTIONS = 20_000  # ours: of the whole endpoint
MAX_CONNECTIONS_PER_MACHINE = 16  # ours: a client holds up to four, and leaves dead ones behind when it roams

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionSnapshot:
    """One control channel, for those who watch."""

    machine: MachinePublicKey
    version: int
    peer: PeerAddress | None
    opened_unix_s: float


class NoiseEndpoint:
    """What a coordinator gives to its Service: `routes` and `upgrades`."""

    def __init__(
        self,
        private_key: MachinePrivateKey,
        app: ASGIApp,
        *,
        random: RandomSource,
        clock: Clock,
        min_version: int = MIN_VERSION,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """`app` is called for every request inside the channels, with the machine key in `scope["state"]`."""
        self._private_key = private_key
        self._app = app
        self._random = random
        self._clock = clock
        self._min_version = min_version
        self._max_connections = max_connections
        self._streams: dict[MachinePublicKey, deque[ByteStream]] = {}
        self._open: dict[ByteStream, ConnectionSnapshot] = {}
        self.public_key = x25519.machine_public(private_key)
        self.routes: Sequence[BaseRoute] = (
            Route("/key", self._key),
            Route("/ts2021", self._not_an_upgrade, methods=["GET", "POST"]),
            websocket_route("/ts2021", self._websocket, subprotocol=PROTOCOL),
        )
        self.upgrades: Mapping[str, UpgradeHandler] = {"/ts2021": self._upgrade}

    def connections(self) -> tuple[ConnectionSnapshot, ...]:
        return tuple(self._open.values())

    async def _key(self, request: Request) -> Response:
        version = request.query_params.get("v", "")
        if not (version.isascii() and version.isdigit()):
            return PlainTextResponse("capability version missing: ask for /key?v=NUMBER\n", 400)
        zero = MachinePublicKey.zero().text  # tailscale-rs needs the member, the Go client ignores it
        return JSONResponse({"legacyPublicKey": zero, "publicKey": self.public_key.text})

    async def _not_an_upgrade(self, _request: Request) -> Response:
        return PlainTextResponse(f"this path speaks HTTP/1.1 Upgrade: {PROTOCOL}, or WebSocket\n", 400)

    async def _upgrade(self, request: UpgradeRequest, stream: ByteStream) -> None:
        if request.protocol != PROTOCOL:
            stream.write(refuse(400, f"unknown protocol; wanted {PROTOCOL}\n"))
            return
        initiation = _initiation_of(request.headers.get(HANDSHAKE_HEADER, ""))
        if initiation is None:
            stream.write(refuse(400, f"no usable {HANDSHAKE_PARAMETER} header\n"))
            return
        if len(self._open) >= self._max_connections:
            stream.write(refuse(503, "too many connections\n", {"Retry-After": "10"}))
            return
        await self._shake_hands(initiation, stream, accept(PROTOCOL), challenge=self._new_challenge())

    async def _websocket(self, request: UpgradeRequest, stream: ByteStream) -> None:
        values = parse_qs(request.query).get(HANDSHAKE_PARAMETER, [""])
        # A "+" that was not escaped in the query has become a blank.
        initiation = _initiation_of(values[0].replace(" ", "+"))
        if initiation is None:
            stream.write(ErrorMessage(f"no usable {HANDSHAKE_PARAMETER} parameter").encode())
        elif len(self._open) >= self._max_connections:
            stream.write(ErrorMessage("too many connections").encode())
        else:
            await self._shake_hands(initiation, stream, b"", challenge=None)

    def _new_challenge(self) -> ChallengePublicKey:
        # Nothing answers challenges today, so nobody needs the private half.
        return ChallengePublicKey(x25519.public_bytes(self._random.bytes(32)))

    async def _shake_hands(
        self, initiation: Initiation, stream: ByteStream, head: bytes, *, challenge: ChallengePublicKey | None
    ) -> None:
        if initiation.version < self._min_version:
            stream.write(head + ErrorMessage(f"client too old: wanted version {self._min_version} or newer").encode())
            return
        try:
            response, session = respond(self._private_key, initiation, random=self._random)
        except AuthenticationError:
            log.info("control handshake failed", extra={"peer": stream.peer})
            stream.write(head + ErrorMessage("handshake failed: was it meant for another server key?").encode())
            return
        channel = ServerChannel(session, challenge=challenge)
        stream.write(head + response.encode() + channel.bytes_to_send())
        self._admit(session, stream)
        try:
            await _Connection(self._app, channel, stream).run()
        finally:
            self._forget(session, stream)

    def _admit(self, session: Session, stream: ByteStream) -> None:
        streams = self._streams.setdefault(session.peer, deque())
        if len(streams) >= MAX_CONNECTIONS_PER_MACHINE:
            streams[0].abort()  # the oldest: more likely dead than the newest
        streams.append(stream)
        self._open[stream] = ConnectionSnapshot(session.peer, session.version, stream.peer, self._clock.unix_time())

    def _forget(self, session: Session, stream: ByteStream) -> None:
        del self._open[stream]
        streams = self._streams[session.peer]
        streams.remove(stream)
        if not streams:
            del self._streams[session.peer]


class _Connection:
    """One channel after its handshake: bytes to requests until either end has had enough."""

    def __init__(self, app: ASGIApp, channel: ServerChannel, stream: ByteStream) -> None:
        self._channel = channel
        self._stream = stream
        self._requests = Http2Requests(app, channel, stream, self._rearm)
        self._idle_timer = asyncio.get_running_loop().call_later(FIRST_REQUEST_TIMEOUT_S, self._give_up)
        self._is_over = False

    async def run(self) -> None:
        try:
            while data := await self._stream.read():
                events = self._channel.receive_bytes(data)
                self._requests.handle(events)
                if events and isinstance(events[-1], ConnectionFailed):
                    log.debug("control channel ends", extra={"why": events[-1].why})
                    break
                await self._stream.drain()  # a client that takes no answers gets to ask no more
        except asyncio.CancelledError:
            await self._requests.cancel()
            raise
        finally:
            self._is_over = True
            self._idle_timer.cancel()
            self._requests.flush()
            self._stream.close()
            await self._requests.close()

    def _rearm(self) -> None:
        self._idle_timer.cancel()
        if not self._requests.running and not self._is_over:
            self._idle_timer = asyncio.get_running_loop().call_later(IDLE_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        self._channel.http2.close()
        self._requests.flush()
        self._stream.close()


def _initiation_of(text: str) -> Initiation | None:
    try:
        return Initiation.decode(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, WireError):
        return None

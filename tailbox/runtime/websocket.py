"""A WebSocket as a byte stream: binary messages whose bounds mean nothing.

Both upgrade protocols of ours have this form too, for browsers and for proxies that pass no other upgrade.
Source: tailscale net/wsconn/wsconn.go, control/controlhttp/controlhttpserver, derp/derpserver/websocket.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tailbox.runtime.byte_stream import CLOSE_TIMEOUT_S, UNSENT_LIMIT_BYTES, PeerAddress, Receiver
from tailbox.runtime.upgrade import UpgradeHandler, UpgradeRequest

MAX_MESSAGE_BYTES = 16 * 1024  # Go's client library refuses messages above 32 KiB; half of that is safe
NORMAL_CLOSURE = 1000  # RFC 6455 §7.4.1
UNSUPPORTED_DATA = 1003  # RFC 6455 §7.4.1: a text message
POLICY_VIOLATION = 1008  # RFC 6455 §7.4.1: upstream's answer to a missing subprotocol

log = logging.getLogger(__name__)


def websocket_route(path: str, handler: UpgradeHandler, *, subprotocol: str) -> WebSocketRoute:
    """A route that accepts the subprotocol and runs `handler`, whose request says `protocol == "websocket"`.

    The handler must not write a response head: the WebSocket has been accepted.
    """

    async def endpoint(websocket: WebSocket) -> None:
        if subprotocol not in websocket.scope["subprotocols"]:
            await websocket.accept()
            await websocket.close(POLICY_VIOLATION, f"client must speak the {subprotocol} subprotocol")
            return
        await websocket.accept(subprotocol)
        stream = WebSocketStream(websocket)
        try:
            await handler(_request_of(websocket), stream)
        except ConnectionError:
            pass  # the peer went away: nothing to tell
        except Exception as error:
            log.error("websocket handler failed", extra={"path": path}, exc_info=error)
        finally:
            stream.close()
            await stream.wait_closed()

    return WebSocketRoute(path, endpoint)


def _request_of(websocket: WebSocket) -> UpgradeRequest:
    headers: dict[str, str] = {}
    for name, value in websocket.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return UpgradeRequest(
        method="GET",
        path=websocket.url.path,
        query=websocket.url.query,
        headers=headers,
        peer=_peer_of(websocket),
        is_tls=websocket.url.scheme == "wss",
    )


def _peer_of(websocket: WebSocket) -> PeerAddress | None:
    return (websocket.client.host, websocket.client.port) if websocket.client else None


class WebSocketStream:
    """A ByteStream over an accepted WebSocket."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._changed = asyncio.Event()  # something for the writer to do
        self._writable = asyncio.Event()
        self._writable.set()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._ended = False  # nothing goes in or out any more
        self._closing = False  # by us: send what is left, then end
        self._writer = asyncio.create_task(self._send_all(), name="websocket writer")
        self._pump: asyncio.Task[None] | None = None

    @property
    def peer(self) -> PeerAddress | None:
        return _peer_of(self._websocket)

    @property
    def buffered(self) -> int:
        """Bytes not yet given to the WebSocket; what the transport below holds is bounded by its own limit."""
        return self._unsent_bytes

    async def read(self) -> bytes:
        while not self._ended:
            try:
                message = await self._websocket.receive()
            except (WebSocketDisconnect, RuntimeError):  # RuntimeError: Starlette's, for reading after the end
                message = {"type": "websocket.disconnect"}
            if message["type"] != "websocket.receive":
                self._end()
            elif message.get("bytes"):
                return bytes(message["bytes"])
            elif message.get("text") is not None:
                self._closing = True
                self._end()
                await self._say_goodbye(UNSUPPORTED_DATA)
        return b""

    def set_receiver(self, receiver: Receiver) -> None:
        self._pump = asyncio.create_task(self._pump_to(receiver), name="websocket reader")

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._ended or self._closing or not data:
            return
        view = memoryview(data)
        for start in range(0, len(view), MAX_MESSAGE_BYTES):
            self._unsent.append(bytes(view[start : start + MAX_MESSAGE_BYTES]))
        self._unsent_bytes += len(view)
        if self._unsent_bytes > UNSENT_LIMIT_BYTES:
            self._writable.clear()
        self._changed.set()

    async def drain(self) -> None:
        await self._writable.wait()
        if self._ended:
            raise ConnectionResetError("the connection has ended")

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._changed.set()
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._writer.cancel)

    def abort(self) -> None:
        self._closing = True
        self._end()

    async def wait_closed(self) -> None:
        await asyncio.wait([self._writer])
        if self._pump is not None and self._pump is not asyncio.current_task():
            self._pump.cancel()
            await asyncio.wait([self._pump])

    async def _pump_to(self, receiver: Receiver) -> None:
        try:
            while True:
                await self._may_read.wait()
                data = await self.read()
                receiver(data)
                if not data:
                    return
        except Exception as error:  # a receiver's bug ends its own connection and no other
            log.error("stream receiver failed", extra={"error": type(error).__name__}, exc_info=error)
            self.abort()

    async def _send_all(self) -> None:
        try:
            while not self._ended and not (self._closing and not self._unsent):
                await self._changed.wait()
                self._changed.clear()
                while self._unsent and not self._ended:
                    message = self._unsent.popleft()
                    await self._websocket.send_bytes(message)
                    self._unsent_bytes -= len(message)
                    if self._unsent_bytes <= UNSENT_LIMIT_BYTES // 2:
                        self._writable.set()
            if not self._ended:
                await self._say_goodbye(NORMAL_CLOSURE)
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass  # the peer is gone: there is nobody to send to
        finally:
            self._end()

    async def _say_goodbye(self, code: int) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):  # gone already
            await self._websocket.close(code)

    def _end(self) -> None:
        self._ended = True
        self._unsent.clear()
        self._unsent_bytes = 0
        self._writable.set()
        self._may_read.set()
        self._changed.set()

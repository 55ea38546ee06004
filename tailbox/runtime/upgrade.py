"""`Upgrade:` requests, taken off in front of ASGI and handed to a byte-stream handler.

ASGI can express WebSocket upgrades only; the control channel and the relay protocol upgrade to protocols of their own,
and their first bytes may arrive in the same segment as the request. So the HTTP protocol class that uvicorn runs is a
subclass of ours, which lets go of the connection when such a request is complete. WebSocket upgrades of the same paths
go on to ASGI.

The base is uvicorn's httptools implementation, for three reasons: it is a core dependency, so there is no second code
path to keep equal; its parser reports where the request ended within the chunk, hence early bytes cost nothing; and it
is several times faster than h11, which the console and the API notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tailbox.runtime.byte_stream import ByteStream, PeerAddress, TransportStream

__all__ = ["ByteStream", "UpgradeHandler", "UpgradeRequest", "accept", "refuse", "upgrade_protocol"]

MAX_HEAD_BYTES = 64 * 1024  # ours: request line and headers; uvicorn's httptools implementation has no limit
MAX_PIPELINED_REQUESTS = 64  # ours: waiting behind an unfinished response; a chunk may hold thousands of tiny ones
HEAD_TIMEOUT_S = 15.0  # ours: from the first byte (or the accepted connection) to the end of the headers
HANG_UP_AFTER_S = 0.4  # ours: what requests under way get to finish when the server stops

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """The head of a request that wants to leave HTTP. Header names are lower case; repeated values joined with ", "."""

    method: str
    path: str  # decoded, without the query
    query: str  # raw
    headers: Mapping[str, str]
    peer: PeerAddress | None
    is_tls: bool

    @property
    def protocol(self) -> str:
        """The `Upgrade:` value in lower case: what handlers compare with."""
        return self.headers.get("upgrade", "").strip().lower()


UpgradeHandler = Callable[[UpgradeRequest, ByteStream], Awaitable[None]]
"""Owns the stream until it returns, then it is closed. Writes the response head itself, with accept() or refuse()."""


def accept(protocol: str, headers: Mapping[str, str] | None = None) -> bytes:
    """A `101` response head. Go's clients compare `Upgrade` exactly, so pass the protocol as they spell it."""
    return _head(101, {"Upgrade": protocol, "Connection": "Upgrade", **(headers or {})})


def refuse(status: int, text: str, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole response that ends the connection."""
    body = text.encode()
    fixed = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body)), "Connection": "close"}
    return _head(status, {**fixed, **(headers or {})}) + body


def upgrade_protocol(handlers: Mapping[str, UpgradeHandler]) -> type[asyncio.Protocol]:
    """The class for uvicorn's `Config(http=…)`: `handlers` by path, everything else to ASGI."""
    return type("UpgradeProtocol", (_UpgradingProtocol,), {"handlers": dict(handlers)})


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _announces_body(request: UpgradeRequest) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0").strip() != "0"


class _UpgradingProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with additions: upgrades, limits on heads and pipelines, an end to requests at shutdown."""

    handlers: ClassVar[Mapping[str, UpgradeHandler]] = {}

    _taken: UpgradeRequest | None = None
    _in_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._in_head:
            self._head_bytes += len(data)
            self._arm_head_timer()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400, "not an HTTP request\n")
        else:
            # One chunk may end a head and bring a body with it: what counts is only a head that does not end.
            if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, "request head too large\n")

    def on_message_begin(self) -> None:
        self._taken = None
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._disarm_head_timer()
        if self.parser.should_upgrade():
            self._taken = self._request_to_take()
        if len(self.pipeline) >= MAX_PIPELINED_REQUESTS:
            self.transport.abort()
            raise ConnectionAbortedError  # stops the parser in the middle of the chunk
        if self._taken is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._taken is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        if self._taken is None:
            super().on_message_complete()

    def shutdown(self) -> None:
        super().shutdown()
        # Long polls end when their client goes away, and otherwise not: after a moment's grace it has gone away.
        self.loop.call_later(HANG_UP_AFTER_S, self.transport.abort)

    def _request_to_take(self) -> UpgradeRequest | None:
        url = httptools.parse_url(self.url)
        path = unquote(url.path.decode("latin-1"))
        if path not in self.handlers:
            return None
        headers: dict[str, str] = {}
        for raw_name, raw_value in self.headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        # Without a key it is no WebSocket, whatever it calls itself: old relay clients speak DERP so.
        if headers["upgrade"].strip().lower() == "websocket" and "sec-websocket-key" in headers:
            return None
        return UpgradeRequest(
            method=self.parser.get_method().decode("ascii"),
            path=path,
            query=(url.query or b"").decode("latin-1"),
            headers=headers,
            peer=self.client,
            is_tls=self.scheme == "https",
        )

    def _upgrade(self, early: bytes) -> None:
        if self._taken is None:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            # Any other offer to upgrade may be ignored (RFC 9110 §7.8): ASGI answers the request as it is.
        elif _announces_body(self._taken):
            self._refuse(400, "an upgrade request has no body\n")
        elif self._response_is_pending():
            self.transport.abort()  # pipelined behind an unfinished response: there is no place for a 101
        else:
            self._hand_over(self._taken, early)

    def _hand_over(self, request: UpgradeRequest, early: bytes) -> None:
        stream = TransportStream()
        self.connections.discard(self)
        self.transport.set_protocol(stream)
        stream.connection_made(self.transport)
        if self.flow.read_paused:
            self.flow.resume_reading()
        if early:
            stream.data_received(early)
        # The server's sets hold streams and handler tasks, so that stopping closes the ones and awaits the others.
        self.connections.add(stream)  # type: ignore[arg-type]  # it has `shutdown`, all that the server calls
        task = self.loop.create_task(self._run(request, stream), name=f"upgrade {request.path}")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _run(self, request: UpgradeRequest, stream: TransportStream) -> None:
        try:
            await self.handlers[request.path](request, stream)
        except ConnectionError:
            pass  # the peer went away: nothing to tell
        except asyncio.CancelledError:
            stream.abort()  # the server stops, and the time for a polite end is over
            raise
        except Exception as error:
            log.error("upgrade handler failed", extra={"path": request.path}, exc_info=error)
        finally:
            stream.close()
            try:
                await stream.wait_closed()
            finally:
                self.connections.discard(stream)

    def _refuse(self, status: int, text: str) -> None:
        self._disarm_head_timer()
        if self.transport.is_closing():
            return
        if not self._response_is_pending():
            self.transport.write(refuse(status, text))
        self.transport.close()

    def _response_is_pending(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever uvicorn's types say
        return cycle is not None and not cycle.response_complete

    def _arm_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _disarm_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

"""HTTP/2 requests of one control channel as ASGI calls.

The proven machine key and the Noise version ride in `scope["state"]`, so a Starlette handler reads
`request.state.machine_key` and `request.state.noise_version`. Bodies stream both ways: the client's window opens as the
application reads, and `send` waits while the client does not take what has been sent. A client that gives a request up,
or goes away, is an `http.disconnect`; the application decides what that means, since half a change must not be undone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from http import HTTPStatus
from urllib.parse import unquote

from h2.errors import ErrorCodes
from starlette.types import ASGIApp, Message, Scope

from tailbox.control_channel.channel import ServerChannel
from tailbox.control_channel.http2 import (
    MAX_CONCURRENT_STREAMS,
    BodyEnded,
    BodyReceived,
    Drained,
    Http2Event,
    RequestStarted,
    StreamFailed,
)
from tailbox.runtime.byte_stream import ByteStream

MAX_BODY_BYTES = 1024 * 1024  # headscale reads as much; hostinfo-bearing bodies reach tens of KiB
MAX_UNSENT_BYTES = 64 * 1024  # ours: of one response, before `send` waits for the client
CANCEL_TIMEOUT_S = 0.3  # ours: within the server's own limit for stopping
CONNECTION_HEADERS = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"})  # RFC 9113 §8.2.2

log = logging.getLogger(__name__)


class Http2Requests:
    """The requests of one connection. The owner feeds events and closes at the end."""

    def __init__(
        self, app: ASGIApp, channel: ServerChannel, stream: ByteStream, on_idle_change: Callable[[], None]
    ) -> None:
        self._app = app
        self._channel = channel
        self._stream = stream
        self._on_idle_change = on_idle_change
        self._by_stream: dict[int, _Request] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._flush_is_due = False

    @property
    def running(self) -> int:
        """Requests that the application still works on."""
        return len(self._tasks)

    def handle(self, events: Sequence[Http2Event]) -> None:
        for event in events:
            match event:
                case RequestStarted():
                    self._start(event)
                case BodyReceived():
                    self._receive_body(event)
                case BodyEnded() | StreamFailed() | Drained():
                    if (request := self._by_stream.get(event.stream_id)) is not None:
                        request.handle(event)
                case _:
                    pass  # the end of the connection is the owner's business
        self.flush_soon()

    def flush_soon(self) -> None:
        """Send what is to be sent, once for all that happens before the loop comes round again."""
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        self._flush_is_due = False
        if data := self._channel.bytes_to_send():
            self._stream.write(data)

    async def close(self) -> None:
        """Tell the application that its clients are gone, and wait for it. Cancelled, it cancels the application."""
        for request in self._by_stream.values():
            request.fail()
        try:
            if self._tasks:
                await asyncio.wait(self._tasks)
        except asyncio.CancelledError:
            await self.cancel()
            raise

    async def cancel(self) -> None:
        """End the application's work: the server stops, and the time for a polite end is over."""
        for request in self._by_stream.values():
            request.fail()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CANCEL_TIMEOUT_S)

    def _start(self, event: RequestStarted) -> None:
        refusal = self._refusal_of(event)
        if refusal is not None:
            self._answer(event.stream_id, refusal)
            return
        request = _Request(
            event.stream_id, self._channel, self._stream, self.flush_soon, is_head=event.method == "HEAD"
        )
        self._by_stream[event.stream_id] = request
        task = asyncio.create_task(self._run(request, self._scope_of(event)), name=f"{event.method} {event.target}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        self._on_idle_change()

    def _refusal_of(self, event: RequestStarted) -> HTTPStatus | None:
        if len(self._tasks) >= MAX_CONCURRENT_STREAMS:
            return HTTPStatus.SERVICE_UNAVAILABLE  # streams that the client reset may have left work behind
        if not event.target.startswith("/") or not event.method.isalpha():
            return HTTPStatus.BAD_REQUEST
        declared = dict(event.headers).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > MAX_BODY_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return None

    def _answer(self, stream_id: int, status: HTTPStatus) -> None:
        http2 = self._channel.http2
        http2.send_head(stream_id, status, [(b"content-type", b"text/plain; charset=utf-8")])
        http2.send_data(stream_id, f"{status.phrase}\n".encode(), end=True)
        http2.reset(stream_id, ErrorCodes.NO_ERROR)  # RFC 9113 §8.1: the rest of the body is not wanted

    def _receive_body(self, event: BodyReceived) -> None:
        request = self._by_stream.get(event.stream_id)
        if request is None or request.is_disconnected:
            self._channel.http2.acknowledge(event.stream_id, len(event.data))
        elif request.received_bytes + len(event.data) > MAX_BODY_BYTES:
            self._channel.http2.acknowledge(event.stream_id, len(event.data))
            if not request.has_started_response:
                self._answer(event.stream_id, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            else:
                self._channel.http2.reset(event.stream_id, ErrorCodes.ENHANCE_YOUR_CALM)
            request.fail()
        else:
            request.add_body(event.data)

    def _scope_of(self, event: RequestStarted) -> Scope:
        raw_path, _, query = event.target.encode("latin-1").partition(b"?")
        headers = list(event.headers)
        if event.authority and not any(name == b"host" for name, _ in headers):
            headers.insert(0, (b"host", event.authority))
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},  # 2.3: streaming responses listen for the disconnect
            "http_version": "2",
            "method": event.method,
            "scheme": "https",
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": self._stream.peer,
            "server": None,
            "state": {
                "machine_key": self._channel.session.peer,
                "noise_version": self._channel.session.version,
            },
            "extensions": {},
        }

    async def _run(self, request: _Request, scope: Scope) -> None:
        try:
            await self._app(scope, request.receive, request.send)
        except Exception as error:  # the application's bug ends its own request and no other
            log.error("control request failed", extra={"path": scope["path"]}, exc_info=error)
            if not request.has_started_response and not request.is_disconnected:
                self._answer(request.stream_id, HTTPStatus.INTERNAL_SERVER_ERROR)
                request.fail()
        finally:
            request.finish()
            del self._by_stream[request.stream_id]
            self.flush_soon()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._on_idle_change()


class _Request:
    """One stream: ASGI's `receive` and `send` on one side, HTTP/2 on the other."""

    def __init__(
        self,
        stream_id: int,
        channel: ServerChannel,
        stream: ByteStream,
        flush_soon: Callable[[], None],
        *,
        is_head: bool,
    ) -> None:
        self.stream_id = stream_id
        self.received_bytes = 0
        self.has_started_response = False
        self.is_disconnected = False
        self._http2 = channel.http2
        self._stream = stream
        self._flush_soon = flush_soon
        self._is_head = is_head
        self._body: deque[bytes] = deque()
        self._body_has_ended = False
        self._body_is_delivered = False
        self._response_is_complete = False
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()

    def handle(self, event: BodyEnded | StreamFailed | Drained) -> None:
        match event:
            case BodyEnded():
                self._body_has_ended = True
                self._changed.set()
            case StreamFailed():
                self.fail()
            case Drained():
                self._drained.set()

    def add_body(self, data: bytes) -> None:
        self.received_bytes += len(data)
        self._body.append(data)
        self._changed.set()

    def fail(self) -> None:
        """The stream is over, or the connection: the application hears of it and has nothing more to say."""
        self.is_disconnected = True
        self._give_back(sum(map(len, self._body)))
        self._body.clear()
        self._changed.set()
        self._drained.set()

    def finish(self) -> None:
        """The application has returned: what is open now stays unanswered, what has not been read is not wanted."""
        if not self.is_disconnected and not self._response_is_complete:
            self._http2.reset(self.stream_id, ErrorCodes.INTERNAL_ERROR)
        elif not self.is_disconnected and not self._body_has_ended:
            self._http2.reset(self.stream_id, ErrorCodes.NO_ERROR)
        self.fail()

    async def receive(self) -> Message:
        while not self._body and not self.is_disconnected:
            if self._body_has_ended and not self._body_is_delivered:
                self._body_is_delivered = True
                return {"type": "http.request", "body": b"", "more_body": False}
            self._changed.clear()
            await self._changed.wait()
        if self.is_disconnected:
            return {"type": "http.disconnect"}
        data = b"".join(self._body)
        self._body.clear()
        self._give_back(len(data))
        self._body_is_delivered = self._body_has_ended
        return {"type": "http.request", "body": data, "more_body": not self._body_has_ended}

    async def send(self, message: Message) -> None:
        if self.is_disconnected:
            return  # ASGI 2.3: sending to a client that is gone is no error
        if message["type"] == "http.response.start":
            self.has_started_response = True
            headers = [
                (bytes(name).lower(), bytes(value))
                for name, value in message.get("headers", ())
                if bytes(name).lower() not in CONNECTION_HEADERS
            ]
            self._http2.send_head(self.stream_id, message["status"], headers)
        elif message["type"] == "http.response.body":
            self._response_is_complete = not message.get("more_body", False)
            body = b"" if self._is_head else message.get("body", b"")  # RFC 9110 §9.3.2: HEAD has no content
            self._http2.send_data(self.stream_id, body, end=self._response_is_complete)
        self._flush_soon()
        await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        while self._http2.unsent_bytes(self.stream_id) > MAX_UNSENT_BYTES and not self.is_disconnected:
            self._drained.clear()
            await self._drained.wait()
        if self._stream.buffered > MAX_UNSENT_BYTES and not self.is_disconnected:
            try:
                await self._stream.drain()
            except ConnectionResetError:
                self.fail()

    def _give_back(self, count: int) -> None:
        self._http2.acknowledge(self.stream_id, count)
        self._flush_soon()

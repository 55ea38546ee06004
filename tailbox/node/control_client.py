"""The node's end of the control channel: one connection, many requests side by side.

Connecting again after a loss is the caller's decision; a client object may be connected any number of times.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from h2.errors import ErrorCodes

from tailbox.control_channel.channel import ChannelEvent, ClientChannel, HandshakeDone, HandshakeFailed
from tailbox.control_channel.handshake import Initiator
from tailbox.control_channel.http2 import (
    BodyEnded,
    BodyReceived,
    ConnectionFailed,
    Drained,
    RequestStarted,
    ResponseStarted,
    StreamFailed,
)
from tailbox.errors import AuthenticationError
from tailbox.node.control_dial import (
    DIAL_TIMEOUT_S,
    ControlDialler,
    ControlError,
    LoginUrl,
    Rejected,
    Unreachable,
    WrongKey,
)
from tailbox.randomness import RandomSource
from tailbox.runtime.byte_stream import ByteStream
from tailbox.runtime.network import Network
from tailbox.wire.keys import MachinePrivateKey, MachinePublicKey

__all__ = [
    "ChannelClosed",
    "ControlClient",
    "ControlError",
    "ControlResponse",
    "ControlStream",
    "Rejected",
    "RequestFailed",
    "RequestTimedOut",
    "Unreachable",
    "WrongKey",
]

REQUEST_TIMEOUT_S = 30.0  # ours: for requests that the server answers at once
CLOSE_TIMEOUT_S = 0.5  # ours: what the server gets to take our last bytes
MAX_RESPONSE_BYTES = 16 * 1024 * 1024  # ours: of `request`; streams have no limit in total

log = logging.getLogger(__name__)


class ChannelClosed(ControlError):
    """The connection has ended; every request on it with it."""


class RequestFailed(ControlError):
    """The server gave this one request up."""


class RequestTimedOut(ControlError):
    """No answer in time; the connection may be dead."""


@dataclass(frozen=True, slots=True)
class ControlResponse:
    """A whole answer, whatever its status."""

    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes


class ControlClient:
    """One control server, seen from one machine."""

    def __init__(
        self,
        login_url: str,
        machine_key: MachinePrivateKey,
        *,
        version: int,
        network: Network,
        random: RandomSource,
        tls: ssl.SSLContext | None = None,
        use_websocket: bool = False,
    ) -> None:
        """`tls`: trust for https, None is the system's; give one for a private CA. Raises ConfigError for the URL."""
        self.url = LoginUrl.parse(login_url)
        self.server_key: MachinePublicKey | None = None  # of the last connection
        self._machine_key = machine_key
        self._version = version
        self._random = random
        self._use_websocket = use_websocket
        self._dialler = ControlDialler(self.url, network, tls)
        self._connection: _Connection | None = None

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and self._connection.failure is None

    async def connect(self) -> None:
        """Fetch the server's key, dial, shake hands. An earlier connection ends.

        Raises Unreachable, WrongKey, Rejected. The key is asked for each time, since a server may have a new one.
        """
        await self.close()
        self.server_key = await self._dialler.fetch_key(self._version)
        try:
            initiator = Initiator(self._machine_key, self.server_key, version=self._version, random=self._random)
        except AuthenticationError:
            raise WrongKey("the server's key is no usable public key") from None
        upgraded = await self._dialler.dial(initiator.initiation, websocket=self._use_websocket)
        connection = _Connection(ClientChannel(initiator), upgraded.stream, self.url.authority)
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                await connection.shake_hands(upgraded.early)
        except TimeoutError:
            await connection.close()
            raise Unreachable("no answer to the Noise handshake") from None
        except BaseException:
            await connection.close()
            raise
        self._connection = connection

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = REQUEST_TIMEOUT_S,
    ) -> ControlResponse:
        """One request and its whole answer. Raises ChannelClosed, RequestFailed, RequestTimedOut.

        `timeout_s` None waits for ever, as the followup of an interactive registration has to.
        """
        stream: ControlStream | None = None
        try:
            async with asyncio.timeout(timeout_s):
                stream = await self.stream(method, path, body, headers=headers, timeout_s=None)
                received = bytearray()
                async for chunk in stream:
                    received += chunk
                    if len(received) > MAX_RESPONSE_BYTES:
                        raise RequestFailed(f"{path}: answer of more than {MAX_RESPONSE_BYTES} bytes")
        except TimeoutError:
            raise RequestTimedOut(f"{path}: no answer within {timeout_s:g} s") from None
        finally:
            if stream is not None:
                stream.close()
        return ControlResponse(stream.status, stream.headers, bytes(received))

    async def stream(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = REQUEST_TIMEOUT_S,
    ) -> ControlStream:
        """One request whose answer is read piece by piece; returns with the answer's head.

        Raises ChannelClosed, RequestFailed, RequestTimedOut (for the head alone).
        """
        if self._connection is None:
            raise ChannelClosed("not connected")
        encoded = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        stream: ControlStream | None = None
        try:
            async with asyncio.timeout(timeout_s):
                stream = await self._connection.open(method, path, encoded, body)
                await stream.wait_for_head()
        except TimeoutError:
            if stream is not None:
                stream.close()
            raise RequestTimedOut(f"{path}: no answer within {timeout_s:g} s") from None
        except BaseException:
            if stream is not None:
                stream.close()
            raise
        return stream

    async def close(self) -> None:
        """End the connection; requests under way raise ChannelClosed."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()


class ControlStream:
    """An answer that arrives in pieces. Iterate it; close it (or leave its `async with`) to give it up."""

    def __init__(self, stream_id: int, connection: _Connection) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._stream_id = stream_id
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._has_ended = False
        self._failure: ControlError | None = None
        self._changed = asyncio.Event()

    async def wait_for_head(self) -> None:
        while not self.status:
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()

    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises ChannelClosed, RequestFailed."""
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self._has_ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._connection.acknowledge(self._stream_id, len(data))
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    def close(self) -> None:
        """Give the answer up; harmless at its end."""
        self._connection.forget(self._stream_id, is_complete=self._has_ended or self._failure is not None)
        self._connection.acknowledge(self._stream_id, sum(map(len, self._chunks)))
        self._chunks.clear()
        if not self._has_ended and self._failure is None:
            self.fail(RequestFailed("closed here"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self.close()

    def handle(self, event: ResponseStarted | BodyReceived | BodyEnded | StreamFailed) -> None:
        """What the connection heard for this stream."""
        match event:
            case ResponseStarted():
                self.status = event.status
                self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            case BodyReceived():
                self._chunks.append(event.data)
            case BodyEnded():
                self._has_ended = True
            case StreamFailed() if not self._has_ended:
                self._failure = RequestFailed(f"the server gave the request up, HTTP/2 code {event.code}")
        self._changed.set()

    def fail(self, error: ControlError) -> None:
        self._failure = error
        self._changed.set()


class _Connection:
    """One upgraded connection: a task that reads, and streams by number."""

    def __init__(self, channel: ClientChannel, stream: ByteStream, authority: str) -> None:
        self.failure: ControlError | None = None
        self._channel = channel
        self._stream = stream
        self._authority = authority
        self._by_stream: dict[int, ControlStream] = {}
        self._room = asyncio.Event()  # a stream has ended: another may start
        self._flush_is_due = False
        self._reader: asyncio.Task[None] | None = None

    async def shake_hands(self, early: bytes) -> None:
        """Until the server has proven its key. Raises WrongKey, Rejected, ChannelClosed."""
        data = early
        while True:
            events = self._channel.receive_bytes(data) if data else []
            if events and isinstance(events[0], HandshakeFailed):
                raise _failure_of(events[0])
            if events and isinstance(events[0], HandshakeDone):
                break
            data = await self._stream.read()
            if not data:
                # headscale closes so, without a word, on versions that it finds too old (hscontrol/noise.go).
                raise ChannelClosed("the server closed the connection instead of answering the handshake")
        self._flush()
        self._dispatch(events[1:])
        self._reader = asyncio.create_task(self._read_all(), name="control channel")

    async def open(self, method: str, path: str, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> ControlStream:
        while True:
            if self.failure is not None:
                raise self.failure
            http2 = self._channel.http2
            stream_id = http2.request(method, path, authority=self._authority, headers=headers, body=body)
            if stream_id is not None:
                break
            self._room.clear()
            await self._room.wait()
        opened = self._by_stream[stream_id] = ControlStream(stream_id, self)
        self._flush()
        return opened

    def forget(self, stream_id: int, *, is_complete: bool) -> None:
        if self._by_stream.pop(stream_id, None) is None:
            return
        if not is_complete:
            self._channel.http2.reset(stream_id, ErrorCodes.CANCEL)
        self._flush_soon()
        self._room.set()

    def acknowledge(self, stream_id: int, count: int) -> None:
        self._channel.http2.acknowledge(stream_id, count)
        self._flush_soon()

    async def close(self) -> None:
        self._fail(ChannelClosed("closed here"))
        self._channel.http2.close()
        self._flush()
        self._stream.close()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._stream.wait_closed()
        except TimeoutError:
            self._stream.abort()

    async def _read_all(self) -> None:
        why = "the server closed the connection"
        try:
            while data := await self._stream.read():
                events = self._channel.receive_bytes(data)
                self._dispatch(events)
                self._flush()
                if events and isinstance(events[-1], ConnectionFailed):
                    why = events[-1].why
                    break
                await self._stream.drain()
        except ConnectionError as error:
            why = str(error)
        finally:
            self._fail(ChannelClosed(why))
            self._stream.close()

    def _dispatch(self, events: Sequence[ChannelEvent]) -> None:
        for event in events:
            match event:
                case HandshakeDone() | HandshakeFailed() | ConnectionFailed() | RequestStarted() | Drained():
                    continue
                case BodyReceived() if event.stream_id not in self._by_stream:
                    self._channel.http2.acknowledge(event.stream_id, len(event.data))
                case _:
                    if (stream := self._by_stream.get(event.stream_id)) is not None:
                        stream.handle(event)
            if isinstance(event, BodyEnded | StreamFailed):
                self._room.set()

    def _fail(self, error: ControlError) -> None:
        if self.failure is None:
            self.failure = error
        self._room.set()
        for stream in self._by_stream.values():
            stream.fail(self.failure)
        self._by_stream.clear()

    def _flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        if data := self._channel.bytes_to_send():
            self._stream.write(data)


def _failure_of(event: HandshakeFailed) -> ControlError:
    if event.is_refusal:
        return Rejected("the server refused the handshake", status=0, text=event.why)
    return WrongKey(event.why)

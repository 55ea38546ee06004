"""HTTP/2 as events, both ends, over `h2`: bytes in, events out; calls in, bytes out.

Facts that upstream's peers rely on (spec of the control channel §4.1): prior knowledge, no TLS, no ALPN; GET requests
may have bodies; response heads and every piece of a body leave at once; uploads are acknowledged with WINDOW_UPDATE,
for the stream and for the connection, as the application consumes them. Trailers, pushes and priorities are not used.

Bodies towards the peer wait here for the peer's windows; owners look at `unsent_bytes` and stop producing.
Source: RFC 9113; golang.org/x/net/http2 for the settings that the other end has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error, NoAvailableStreamIDError, StreamClosedError, TooManyStreamsError
from h2.settings import SettingCodes, Settings
from hpack.exceptions import HPACKError

from tailbox.errors import LocalProtocolError

MAX_CONCURRENT_STREAMS = 250  # golang.org/x/net/http2 defaultMaxStreams; the protocol asks for at least 100
STREAM_WINDOW_BYTES = 256 * 1024  # ours: what one stream may send ahead of its reader
CONNECTION_WINDOW_BYTES = 4 * 1024 * 1024  # ours: what all streams together may
MAX_HEADER_LIST_BYTES = 64 * 1024  # ours: far above any request of the protocol
MAX_RESETS = 1000  # ours: streams that a client may open and reset before it counts as an attack (CVE-2023-44487)

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class RequestStarted:
    """Server: a request's head."""

    stream_id: int
    method: str
    target: str  # path and query, as sent
    headers: Headers  # lower-case names, pseudo headers left out
    authority: bytes = b""


@dataclass(frozen=True, slots=True)
class ResponseStarted:
    """Client: a response's head."""

    stream_id: int
    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class BodyReceived:
    """A piece of a body. Give the window back with `acknowledge` when it has been consumed."""

    stream_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class BodyEnded:
    """Nothing more comes on this stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamFailed:
    """The other end has given the stream up. Nothing more can be sent on it either."""

    stream_id: int
    code: int  # RFC 9113 §7


@dataclass(frozen=True, slots=True)
class Drained:
    """All that was sent on this stream has left this object: time for more."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class ConnectionFailed:
    """The last event: a violation, or the other end's GOAWAY. What is still to be sent tells the peer why."""

    why: str


Http2Event = RequestStarted | ResponseStarted | BodyReceived | BodyEnded | StreamFailed | Drained | ConnectionFailed


@dataclass(slots=True)
class _Outbound:
    """A body on its way out."""

    pieces: deque[memoryview] = field(default_factory=deque)
    unsent_bytes: int = 0
    ends: bool = False


class _Http2End:
    """What both ends share."""

    def __init__(self, *, is_client: bool) -> None:
        # Header bytes stay bytes: peers may send any, and ASGI wants them so.
        configuration = H2Configuration(client_side=is_client, header_encoding=None)
        self._h2 = H2Connection(configuration)
        settings: dict[SettingCodes, int] = {
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST_BYTES,
        }
        if is_client:
            settings[SettingCodes.ENABLE_PUSH] = 0
        else:
            settings[SettingCodes.MAX_CONCURRENT_STREAMS] = MAX_CONCURRENT_STREAMS
        self._h2.local_settings = Settings(client=is_client, initial_values=settings)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW_BYTES - self._h2.inbound_flow_control_window)
        self._outbound: dict[int, _Outbound] = {}
        self._resets = 0
        self.is_failed = False

    def receive_bytes(self, data: bytes) -> list[Http2Event]:
        """Never raises: a violation is the last event, and later bytes are ignored."""
        if self.is_failed:
            return []
        try:
            received = self._h2.receive_data(data)
        except (H2Error, HPACKError, ValueError) as error:  # ValueError: hyperframe and int() on hostile headers
            return [self._fail(f"{type(error).__name__}: {error}")]
        events: list[Http2Event] = []
        for event in received:
            events += self._translate(event)
            if events and isinstance(events[-1], ConnectionFailed):
                break
        return events

    def bytes_to_send(self) -> bytes:
        """What has to go to the peer now. Call after everything else."""
        return self._h2.data_to_send()

    def acknowledge(self, stream_id: int, count: int) -> None:
        """Give back the window of `count` body bytes that have been consumed, whether or not the stream still lives."""
        if count > 0 and not self.is_failed:
            self._h2.acknowledge_received_data(count, stream_id)

    def send_data(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Send, or keep until the peer's windows open. On a stream that is gone the data is dropped."""
        outbound = self._outbound.get(stream_id)
        if outbound is None or outbound.ends or self.is_failed:
            return
        if data:
            outbound.pieces.append(memoryview(data))
            outbound.unsent_bytes += len(data)
        outbound.ends = end
        self._flush(stream_id)

    def unsent_bytes(self, stream_id: int) -> int:
        """How much waits for the peer's windows."""
        outbound = self._outbound.get(stream_id)
        return outbound.unsent_bytes if outbound else 0

    def reset(self, stream_id: int, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """Give a stream up; harmless if it is over."""
        self._outbound.pop(stream_id, None)
        if self.is_failed:
            return
        try:
            self._h2.reset_stream(stream_id, code)
        except H2Error:
            pass  # over already

    def close(self) -> None:
        """Say that this was all."""
        if not self.is_failed:
            self.is_failed = True
            self._h2.close_connection()

    def _translate(self, event: Event) -> list[Http2Event]:
        match event:
            case RequestReceived():
                return self._request(event)
            case ResponseReceived():
                return self._response(event)
            case DataReceived():
                return self._data(event)
            case StreamEnded():
                return [BodyEnded(event.stream_id)]
            case StreamReset():
                return self._reset(event)
            case WindowUpdated():
                return self._flush_all() if event.stream_id == 0 else self._flush_and_tell(event.stream_id)
            case RemoteSettingsChanged():
                return self._flush_all()  # a larger initial window opens all streams
            case ConnectionTerminated():
                return [self._fail(f"the other end has said goodbye, code {event.error_code}")]
            case _:
                return []

    def _request(self, event: RequestReceived) -> list[Http2Event]:
        pseudo, headers = _split_headers(event.headers)
        self._outbound[event.stream_id] = _Outbound()
        method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
        return [
            RequestStarted(
                event.stream_id,
                method.decode("latin-1"),
                target.decode("latin-1"),
                headers,
                pseudo.get(b":authority", b""),
            )
        ]

    def _response(self, event: ResponseReceived) -> list[Http2Event]:
        pseudo, headers = _split_headers(event.headers)
        status = pseudo.get(b":status", b"")
        if not (status.isdigit() and len(status) == 3):
            self.reset(event.stream_id, ErrorCodes.PROTOCOL_ERROR)
            return [StreamFailed(event.stream_id, ErrorCodes.PROTOCOL_ERROR)]
        return [ResponseStarted(event.stream_id, int(status), headers)]

    def _data(self, event: DataReceived) -> list[Http2Event]:
        self.acknowledge(event.stream_id, event.flow_controlled_length - len(event.data))  # padding
        return [BodyReceived(event.stream_id, bytes(event.data))] if event.data else []

    def _reset(self, event: StreamReset) -> list[Http2Event]:
        self._outbound.pop(event.stream_id, None)
        self._resets += 1
        if self._resets > MAX_RESETS and not self._h2.config.client_side:
            failed = self._fail("too many streams reset")
            self._h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            return [failed]
        return [StreamFailed(event.stream_id, int(event.error_code))]

    def _fail(self, why: str) -> ConnectionFailed:
        self.is_failed = True
        self._outbound.clear()
        return ConnectionFailed(why)

    def _flush_all(self) -> list[Http2Event]:
        return [told for stream_id in list(self._outbound) for told in self._flush_and_tell(stream_id)]

    def _flush_and_tell(self, stream_id: int) -> list[Http2Event]:
        had_some = self.unsent_bytes(stream_id) > 0
        self._flush(stream_id)
        return [Drained(stream_id)] if had_some and not self.unsent_bytes(stream_id) else []

    def _flush(self, stream_id: int) -> None:
        outbound = self._outbound.get(stream_id)
        if outbound is None:
            return
        try:
            while outbound.pieces:
                room = min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size)
                if room <= 0:
                    return
                self._send_piece(stream_id, outbound, room)
            if outbound.ends:
                del self._outbound[stream_id]
                self._h2.end_stream(stream_id)
        except StreamClosedError:
            self._outbound.pop(stream_id, None)

    def _send_piece(self, stream_id: int, outbound: _Outbound, room: int) -> None:
        piece = outbound.pieces.popleft()
        if len(piece) > room:
            outbound.pieces.appendleft(piece[room:])
            piece = piece[:room]
        outbound.unsent_bytes -= len(piece)
        self._h2.send_data(stream_id, bytes(piece))


class Http2Server(_Http2End):
    """The coordinator's end: requests come as events, answers go with `send_head` and `send_data`."""

    def __init__(self) -> None:
        super().__init__(is_client=False)

    def send_head(self, stream_id: int, status: int, headers: Headers, *, end: bool = False) -> None:
        """A response's head. On a stream that is gone it is dropped. Raises LocalProtocolError for a second head."""
        if stream_id not in self._outbound or self.is_failed:
            return
        try:
            self._h2.send_headers(stream_id, [(b":status", str(status).encode()), *headers], end_stream=end)
        except StreamClosedError:
            self._outbound.pop(stream_id, None)
        except H2Error as error:
            raise LocalProtocolError(str(error)) from None
        if end:
            self._outbound.pop(stream_id, None)


class Http2Client(_Http2End):
    """The node's end: `request` opens a stream, whose answer comes as events."""

    def __init__(self) -> None:
        super().__init__(is_client=True)

    def request(
        self, method: str, target: str, *, authority: str, headers: Headers = (), body: bytes = b""
    ) -> int | None:
        """The new stream's id; None while the server allows no more streams, or ever after a failure.

        The scheme is always https: that is what upstream's client says inside Noise.
        """
        if self.is_failed:
            return None
        pseudo = [
            (b":method", method.encode()),
            (b":authority", authority.encode()),
            (b":scheme", b"https"),
            (b":path", target.encode()),
        ]
        try:
            stream_id = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream_id, [*pseudo, *headers], end_stream=not body)
        except (TooManyStreamsError, NoAvailableStreamIDError):
            return None
        if body:
            self._outbound[stream_id] = _Outbound()
            self.send_data(stream_id, body, end=True)
        return stream_id


def _split_headers(headers: Sequence[tuple[bytes, bytes]]) -> tuple[dict[bytes, bytes], Headers]:
    pseudo: dict[bytes, bytes] = {}
    others: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name.startswith(b":"):
            pseudo[bytes(name)] = bytes(value)
        else:
            others.append((bytes(name), bytes(value)))
    return pseudo, tuple(others)

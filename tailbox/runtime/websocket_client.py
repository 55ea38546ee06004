"""A WebSocket that we open, as a byte stream: for networks whose proxies pass no other upgrade."""

from __future__ import annotations

from collections.abc import Sequence

from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from tailbox.runtime.byte_stream import ByteStream, PeerAddress, Receiver

MAX_MESSAGE_BYTES = 16 * 1024  # as the server's end: half of what Go's library accepts
MAX_RECEIVED_MESSAGE_BYTES = 1024 * 1024  # ours


class WebSocketRefused(ConnectionError):
    """The server answered, and not with a WebSocket. `status` is its HTTP status, 0 if that was not the trouble."""

    def __init__(self, text: str, *, status: int) -> None:
        super().__init__(text)
        self.status = status


async def open_websocket(stream: ByteStream, url: str, *, subprotocol: str) -> WebSocketClientStream:
    """Upgrade a fresh connection. Raises WebSocketRefused, ConnectionError."""
    # Compression is off: sealed bytes do not compress.
    protocol = ClientProtocol(
        parse_uri(url), subprotocols=[Subprotocol(subprotocol)], extensions=None, max_size=MAX_RECEIVED_MESSAGE_BYTES
    )
    protocol.send_request(protocol.connect())
    upgraded = WebSocketClientStream(protocol, stream)
    await upgraded.shake_hands(subprotocol)
    return upgraded


class WebSocketClientStream:
    """A ByteStream over a WebSocket over a ByteStream."""

    def __init__(self, protocol: ClientProtocol, stream: ByteStream) -> None:
        self._protocol = protocol
        self._stream = stream
        self._receiver: Receiver | None = None
        self._early = b""
        self._is_at_end = False

    async def shake_hands(self, subprotocol: str) -> None:
        """Wait for the server's consent."""
        self._flush()
        while True:
            data = await self._stream.read()
            self._feed(data)
            events = self._protocol.events_received()
            if events and isinstance(events[0], Response):
                self._check(events[0], subprotocol)
                self._early = self._payloads(events[1:])  # frames that came in the same chunk
                return
            if not data:
                raise ConnectionResetError("connection closed during the WebSocket handshake")

    @property
    def peer(self) -> PeerAddress | None:
        return self._stream.peer

    @property
    def buffered(self) -> int:
        return self._stream.buffered

    async def read(self) -> bytes:
        if self._early:
            early, self._early = self._early, b""
            return early
        while not self._is_at_end:
            payload = self._unwrap(await self._stream.read())
            if payload:
                return payload
        return b""

    def set_receiver(self, receiver: Receiver) -> None:
        self._receiver = receiver
        if self._early:
            early, self._early = self._early, b""
            receiver(early)
        self._stream.set_receiver(self._push)

    def pause_reading(self) -> None:
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        self._stream.resume_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        try:
            for start in range(0, len(view), MAX_MESSAGE_BYTES):
                self._protocol.send_binary(bytes(view[start : start + MAX_MESSAGE_BYTES]))
        except WebSocketException:
            return  # closed by the other end: as with any stream, late data is dropped
        self._flush()

    async def drain(self) -> None:
        await self._stream.drain()

    def close(self) -> None:
        try:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
        except WebSocketException:
            pass  # closing already
        self._flush()
        self._stream.close()

    def abort(self) -> None:
        self._stream.abort()

    async def wait_closed(self) -> None:
        await self._stream.wait_closed()

    def _push(self, data: bytes) -> None:
        if self._receiver is None:
            return
        receiver = self._receiver
        if payload := self._unwrap(data):
            receiver(payload)
        if self._is_at_end:
            self._receiver = None
            receiver(b"")

    def _unwrap(self, data: bytes) -> bytes:
        self._feed(data)
        payload = self._payloads(self._protocol.events_received())
        self._flush()  # pongs, and the answer to a close
        if not data:
            self._is_at_end = True
        return payload

    def _feed(self, data: bytes) -> None:
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()

    def _payloads(self, events: Sequence[Event]) -> bytes:
        parts: list[bytes] = []
        for event in events:
            if not isinstance(event, Frame):
                continue
            if event.opcode in (Opcode.BINARY, Opcode.CONT):
                parts.append(bytes(event.data))
            elif event.opcode in (Opcode.CLOSE, Opcode.TEXT):
                self._is_at_end = True
        if self._protocol.parser_exc is not None:
            self._is_at_end = True
        return b"".join(parts)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._stream.write(data)

    def _check(self, response: Response, subprotocol: str) -> None:
        error = self._protocol.handshake_exc
        if error is not None:
            status = response.status_code if response.status_code != 101 else 0
            raise WebSocketRefused(str(error), status=status)
        if self._protocol.subprotocol != subprotocol:
            raise WebSocketRefused(f"the server did not choose the {subprotocol} subprotocol", status=0)

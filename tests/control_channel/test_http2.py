"""HTTP/2 as events, both ends back to back."""

from __future__ import annotations

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from hypothesis import given, settings
from hypothesis import strategies as st

from tailbox.control_channel.http2 import (
    MAX_CONCURRENT_STREAMS,
    MAX_RESETS,
    STREAM_WINDOW_BYTES,
    BodyEnded,
    BodyReceived,
    ConnectionFailed,
    Drained,
    Http2Client,
    Http2Event,
    Http2Server,
    RequestStarted,
    ResponseStarted,
    StreamFailed,
)
from tailbox.errors import LocalProtocolError


class Pair:
    """Two ends; `exchange` moves bytes until both are silent, in chunks of `size`."""

    def __init__(self, *, size: int = 1 << 20, acknowledges: bool = True) -> None:
        self.client, self.server = Http2Client(), Http2Server()
        self.at_client: list[Http2Event] = []
        self.at_server: list[Http2Event] = []
        self._size = size
        self._acknowledges = acknowledges
        self.exchange()

    def exchange(self) -> None:
        while self._move(self.client, self.server, self.at_server) | self._move(
            self.server, self.client, self.at_client
        ):
            pass

    def _move(self, source: Http2Client | Http2Server, to: Http2Client | Http2Server, log: list[Http2Event]) -> bool:
        data = source.bytes_to_send()
        for start in range(0, len(data), self._size):
            for event in to.receive_bytes(data[start : start + self._size]):
                log.append(event)
                if self._acknowledges and isinstance(event, BodyReceived):
                    to.acknowledge(event.stream_id, len(event.data))
        return bool(data)

    def request(self, method: str = "POST", target: str = "/machine/map", body: bytes = b"") -> int:
        stream_id = self.client.request(method, target, authority="unused", body=body)
        assert stream_id is not None
        self.exchange()
        return stream_id


def body_of(events: list[Http2Event], stream_id: int) -> bytes:
    return b"".join(e.data for e in events if isinstance(e, BodyReceived) and e.stream_id == stream_id)


def test_a_request_and_its_answer() -> None:
    pair = Pair()
    stream_id = pair.request("POST", "/machine/register?x=1", b"{}")
    started = pair.at_server[0]
    assert isinstance(started, RequestStarted)
    assert (started.method, started.target, started.authority) == ("POST", "/machine/register?x=1", b"unused")
    assert pair.at_server[1:] == [BodyReceived(stream_id, b"{}"), BodyEnded(stream_id)]
    pair.server.send_head(stream_id, 200, [(b"content-type", b"application/json")])
    pair.server.send_data(stream_id, b"{}", end=True)
    pair.exchange()
    assert pair.at_client == [
        ResponseStarted(stream_id, 200, ((b"content-type", b"application/json"),)),
        BodyReceived(stream_id, b"{}"),
        BodyEnded(stream_id),
    ]


def test_get_requests_may_have_bodies() -> None:
    pair = Pair()
    stream_id = pair.request("GET", "/machine/tka/sync/offer", b'{"Head":"x"}')
    assert body_of(pair.at_server, stream_id) == b'{"Head":"x"}'


def test_a_response_without_body_ends_with_its_head() -> None:
    pair = Pair()
    stream_id = pair.request()
    pair.server.send_head(stream_id, 204, [], end=True)
    pair.exchange()
    assert pair.at_client == [ResponseStarted(stream_id, 204, ()), BodyEnded(stream_id)]


def test_the_head_leaves_before_any_body_exists() -> None:
    pair = Pair()
    stream_id = pair.request()
    pair.server.send_head(stream_id, 200, [])
    pair.exchange()
    assert pair.at_client == [ResponseStarted(stream_id, 200, ())]
    pair.server.send_data(stream_id, b"piece")
    pair.exchange()
    assert pair.at_client[1:] == [BodyReceived(stream_id, b"piece")]


@settings(max_examples=20)
@given(st.integers(1, 20_000), st.integers(0, 600_000))
def test_uploads_of_any_size_pass_in_any_chunks(size: int, length: int) -> None:
    pair = Pair(size=max(size, length // 50 + 1))
    body = bytes(length)
    stream_id = pair.request(body=body)
    assert body_of(pair.at_server, stream_id) == body
    assert pair.at_server[-1] == BodyEnded(stream_id)


def test_many_uploads_do_not_use_up_the_connections_window() -> None:
    pair = Pair()
    for _ in range(20):
        stream_id = pair.request(body=bytes(500_000))
        assert len(body_of(pair.at_server, stream_id)) == 500_000
        pair.server.send_head(stream_id, 200, [], end=True)
        pair.exchange()


def test_a_sender_stops_at_the_window_of_a_reader_that_does_not_consume() -> None:
    pair = Pair(acknowledges=False)
    stream_id = pair.request(body=bytes(STREAM_WINDOW_BYTES + 1000))
    assert len(body_of(pair.at_server, stream_id)) == STREAM_WINDOW_BYTES
    assert pair.client.unsent_bytes(stream_id) == 1000
    pair.server.acknowledge(stream_id, STREAM_WINDOW_BYTES)
    pair.exchange()
    assert pair.at_server[-1] == BodyEnded(stream_id)
    assert pair.client.unsent_bytes(stream_id) == 0


def test_a_writer_hears_when_its_data_has_left() -> None:
    pair = Pair(acknowledges=False)
    stream_id = pair.request()
    pair.server.send_head(stream_id, 200, [])
    pair.server.send_data(stream_id, bytes(STREAM_WINDOW_BYTES + 1))
    pair.exchange()
    assert pair.server.unsent_bytes(stream_id) == 1
    assert Drained(stream_id) not in pair.at_server
    pair.client.acknowledge(stream_id, STREAM_WINDOW_BYTES)
    pair.exchange()
    assert pair.at_server[-1] == Drained(stream_id)


def test_a_hundred_streams_stay_open_side_by_side() -> None:
    pair = Pair()
    streams = [pair.request(target=f"/{number}") for number in range(100)]
    for stream_id in reversed(streams):
        pair.server.send_head(stream_id, 200, [])
        pair.server.send_data(stream_id, str(stream_id).encode(), end=True)
    pair.exchange()
    assert all(body_of(pair.at_client, stream_id) == str(stream_id).encode() for stream_id in streams)


def test_one_stream_too_many_is_not_opened() -> None:
    pair = Pair()
    for _ in range(MAX_CONCURRENT_STREAMS):
        pair.request()
    assert pair.client.request("GET", "/", authority="x") is None
    pair.server.send_head(1, 200, [], end=True)
    pair.exchange()
    assert pair.client.request("GET", "/", authority="x") is not None


@pytest.mark.parametrize("by_client", [True, False])
def test_a_reset_ends_the_stream_and_nothing_else(by_client: bool) -> None:
    pair = Pair()
    first, second = pair.request(), pair.request()
    (pair.client if by_client else pair.server).reset(first)
    pair.exchange()
    assert StreamFailed(first, 8) in (pair.at_server if by_client else pair.at_client)
    pair.server.send_head(first, 200, [])  # too late, and harmless
    pair.server.send_data(first, b"x", end=True)
    pair.client.reset(first)
    pair.server.send_head(second, 200, [], end=True)
    pair.exchange()
    assert ResponseStarted(second, 200, ()) in pair.at_client
    assert not any(isinstance(event, ConnectionFailed) for event in pair.at_client + pair.at_server)


def test_opening_and_resetting_without_end_is_an_attack() -> None:
    pair = Pair()
    for _ in range(MAX_RESETS + 1):
        stream_id = pair.client.request("GET", "/", authority="x")
        assert stream_id is not None
        pair.client.reset(stream_id)
        pair.exchange()
    assert isinstance(pair.at_server[-1], ConnectionFailed)
    assert isinstance(pair.at_client[-1], ConnectionFailed)


def test_a_second_response_head_is_our_own_bug() -> None:
    pair = Pair()
    stream_id = pair.request()
    pair.server.send_head(stream_id, 200, [])
    with pytest.raises(LocalProtocolError):
        pair.server.send_head(stream_id, 200, [(b"x", b"y")])


def test_closing_is_told_to_the_other_end() -> None:
    pair = Pair()
    pair.server.close()
    pair.exchange()
    assert isinstance(pair.at_client[-1], ConnectionFailed)
    assert pair.client.request("GET", "/", authority="x") is None


@given(st.binary(max_size=300))
def test_random_bytes_never_raise(data: bytes) -> None:
    for end in (Http2Client(), Http2Server()):
        end.receive_bytes(data)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
    Http2Server().receive_bytes(preface + data)


@given(st.binary(max_size=60))
def test_random_header_blocks_never_raise(block: bytes) -> None:
    server = Http2Server()
    peer = H2Connection(H2Configuration(client_side=True))
    peer.initiate_connection()
    server.receive_bytes(peer.data_to_send())
    head = len(block).to_bytes(3, "big") + b"\x01\x05" + (1).to_bytes(4, "big")
    for event in server.receive_bytes(head + block):
        assert isinstance(event, RequestStarted | BodyEnded | ConnectionFailed | StreamFailed)


def test_a_content_length_that_lies_ends_the_connection_or_the_stream() -> None:
    server = Http2Server()
    peer = H2Connection(H2Configuration(client_side=True, validate_outbound_headers=False))
    peer.initiate_connection()
    head = [(":method", "POST"), (":path", "/"), (":scheme", "https"), (":authority", "x"), ("content-length", "5")]
    peer.send_headers(1, head)
    peer.send_data(1, b"123456789")
    events = server.receive_bytes(peer.data_to_send())
    assert isinstance(events[-1], ConnectionFailed | StreamFailed)
